"""What people do at the dashboard, as events: triage, cases, reviews, saved queries, and what they looked at.

The dashboard seals nothing. Each event is handed to an intake that answers when it is durable.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from dashboard.access import Viewer
from detections.defaults import REVIEW_OUTCOMES, VERDICTS
from ledger.errors import UsageError
from ledger.events import DASHBOARD_SOURCE
from ledger.format.manifest import instant

MAX_TEXT: Final = 10_000
MAX_TITLE: Final = 200
TRIAGE: Final = {
    "acknowledge": "acknowledged",
    "resolve": "resolved",
    "dismiss": "dismissed",
    "reopen": "reopened",
}


def new_id() -> str:
    """The random part of an event's id. A form makes it when it is opened, so that a retry is a duplicate."""
    return secrets.token_hex(16)


def triage(
    alert: Mapping[str, Any],
    step: str,
    user: str,
    nonce: str,
    *,
    owner: str | None = None,
    verdict: str | None = None,
    comment: str | None = None,
) -> dict[str, Any]:
    """One step of triage. Raises UsageError for what is no verdict or step, or a text that is too long."""
    if step not in TRIAGE:
        raise UsageError(f"There is no step {step!r}.", f"Use one of {', '.join(TRIAGE)}.")
    if verdict is not None and verdict not in VERDICTS:
        raise UsageError(f"There is no verdict {verdict!r}.", f"Use one of {', '.join(VERDICTS)}.")
    return _event(
        "alert",
        f"{alert['alert_id']}/t/{nonce}",
        user,
        rule_id=alert["rule_id"],
        alert_id=alert["alert_id"],
        alert_key=alert["alert_key"],
        window_start=instant(alert["window_start"]),
        severity=alert["severity"],
        tenant=alert["tenant"],
        outcome=TRIAGE[step],
        owner=_text(owner, MAX_TITLE) or alert["owner"],
        verdict_id=None if verdict is None else VERDICTS[verdict],
        comment=_text(comment, MAX_TEXT),
        target=f"alert:{alert['alert_id']}",
        attributes={"based_on": alert["last_event"]},
    )


def case_step(
    case_id: str,
    outcome: str,
    user: str,
    nonce: str,
    *,
    tenant: str | None = None,
    title: str | None = None,
    comment: str | None = None,
    owner: str | None = None,
    alert_id: str | None = None,
    evidence: Sequence[str] = (),
) -> dict[str, Any]:
    """One step of a case: opened, noted, added (an alert or events), closed."""
    attributes = {} if title is None else {"title": _text(title, MAX_TITLE)}
    return _event(
        "case",
        f"case/{case_id}/{nonce}",
        user,
        target=f"case:{case_id}",
        outcome=outcome,
        tenant=tenant,
        comment=_text(comment, MAX_TEXT),
        owner=_text(owner, MAX_TITLE),
        alert_id=alert_id,
        evidence=list(evidence) or None,
        attributes=attributes,
    )


def saved_query(
    query_id: str, title: str, statement: str, user: str, nonce: str, *, tenants: Sequence[str] | None
) -> dict[str, Any]:
    """A query that is kept: its SQL, and the tenants within which it was asked (None: all)."""
    attributes = {"title": _text(title, MAX_TITLE), "sql": _text(statement, MAX_TEXT), "tenants": tenants}
    return _event(
        "case",
        f"query/{query_id}/{nonce}",
        user,
        target=f"query:{query_id}",
        outcome="saved",
        tenant=tenants[0] if tenants is not None and len(tenants) == 1 else None,
        attributes=attributes,
    )


def review(
    target: str,
    outcome: str,
    user: str,
    nonce: str,
    *,
    campaign: str,
    tenant: str | None,
    comment: str,
    owner: str | None = None,
) -> dict[str, Any]:
    """The outcome of an access review of `exception:…`, `grant:…` or `permission:…`.

    Raises UsageError without a reason.
    """
    if outcome not in REVIEW_OUTCOMES:
        raise UsageError(f"There is no outcome {outcome!r}.", f"Use one of {', '.join(REVIEW_OUTCOMES)}.")
    if not comment.strip():
        raise UsageError("A review needs its reason.", "Write why, in a sentence.")
    return _event(
        "review",
        f"review/{nonce}",
        user,
        target=target,
        outcome=outcome,
        tenant=tenant,
        owner=owner,
        comment=_text(comment, MAX_TEXT),
        attributes={"campaign": campaign},
    )


def access(who: Viewer, action: str, page: str, at: int, told: Mapping[str, Any]) -> dict[str, Any]:
    """That somebody looked at a page, or took something along; `action`: view, query, evidence or export.

    It belongs to the tenant of whoever looks, where that is one; what an address says has no part in that.
    """
    own = who.tenants or frozenset()
    return _event(
        "access",
        f"access/{new_id()}",
        who.user,
        action=action,
        resource=f"page:{page}",
        attributes={"at": at, **{name: str(value)[:MAX_TITLE] for name, value in told.items()}},
        tenant=next(iter(own)) if len(own) == 1 else None,
    )


def again(event: Mapping[str, Any]) -> dict[str, Any]:
    """The same, done once more now: with an id and a time of its own."""
    return {**event, "event_id": f"access/{new_id()}", "time": instant(datetime.now(UTC))}


def _event(
    kind: str, event_id: str, user: str, *, attributes: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    value = {
        "event_id": event_id,
        "kind": kind,
        "time": instant(datetime.now(UTC)),
        "source": DASHBOARD_SOURCE,
        "actor": user,
        "attributes": {name: one for name, one in attributes.items() if one is not None} or None,
        **more,
    }
    return {name: one for name, one in value.items() if one is not None}


def _text(text: str | None, limit: int) -> str | None:
    if text is None or not text.strip():
        return None
    if len(text) > limit:
        raise UsageError(f"The text is longer than {limit:,} letters.", "Shorten it.")
    return text.strip()
