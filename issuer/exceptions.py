"""Exceptions over their life: opened, extended, closed, reviewed; each step by the standard, and an event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from issuer.emitting.recorder import Recorder
from issuer.emitting.steps import merged, time_text
from issuer.registry.exceptions import ExceptionRecord, broken_rules
from issuer.state.grants import (
    add_exception,
    change_exception,
    close_exception,
    find_exception,
    review_exception,
)
from issuer.state.policies import active
from ledger.errors import UsageError


def open_exception(recorder: Recorder, record: ExceptionRecord) -> None:
    """Let an exception count.

    Raises:
        UsageError: it breaks the standard, or one of its id is known.
    """
    _check(record)
    with recorder.db.transaction():
        if not add_exception(recorder.db, record):
            raise UsageError(f"There is an exception {record.id}.", "Give it another id.")
        recorder.record("exception", **fields_of(recorder, record, "opened"))


def extend_exception(
    recorder: Recorder, exception_id: str, hours: float, approved_by: str
) -> ExceptionRecord:
    """Let it end later, by somebody's word; the whole life stays within the standard.

    Raises:
        UsageError: there is none that is open, or it would live too long.
    """
    record = _open(recorder, exception_id)
    later = record.expires_at + timedelta(hours=hours)
    changed = record.model_copy(
        update={
            "expires_at": later,
            "approved_by": approved_by,
            "review_due_at": max(record.review_due_at, later),
        }
    )
    _check(changed)
    with recorder.db.transaction():
        change_exception(recorder.db, changed)
        recorder.record("exception", **fields_of(recorder, changed, "extended"))
    return changed


def end_exception(recorder: Recorder, exception_id: str) -> ExceptionRecord:
    """It no longer counts.

    Raises:
        UsageError: there is none that is open.
    """
    record = _open(recorder, exception_id)
    with recorder.db.transaction():
        close_exception(recorder.db, exception_id, now=recorder.clock())
        recorder.record("exception", **fields_of(recorder, record, "closed"))
    return record


def reviewed_exception(recorder: Recorder, exception_id: str, reviewer: str, comment: str) -> ExceptionRecord:
    """Somebody has looked at how it was used, and says what they found.

    Raises:
        UsageError: there is none, or the reviewer is the one whom it empowers.
    """
    record, _, _ = _known(recorder, exception_id)
    if reviewer == record.principal:
        raise UsageError(f"{reviewer} is the principal of {exception_id}.", "Somebody else must review it.")
    with recorder.db.transaction():
        review_exception(recorder.db, exception_id, reviewer, now=recorder.clock())
        recorder.record("exception", **merged(fields_of(recorder, record, "reviewed"), {"comment": comment}))
        recorder.record(
            "review",
            target=f"exception:{exception_id}",
            approved_by=reviewer,
            owner=record.owner,
            outcome="reviewed",
            comment=comment,
            environment=record.environment,
            request_id=recorder.new_id(),
        )
    return record


def fields_of(recorder: Recorder, record: ExceptionRecord, outcome: str) -> dict[str, Any]:
    """The event of one step of an exception."""
    policy = active(recorder.db)
    return merged(
        {"exception_id": record.id, "owner": record.owner, "reason": record.reason, "impact": record.impact,
         "approved_by": record.approved_by, "outcome": outcome, "environment": record.environment,
         "delegated_actor": record.principal, "scopes": list(record.scopes), "resource": record.resource,
         "target": f"exception:{record.id}", "request_id": recorder.new_id(),
         "issued_at": _text(record.opened_at), "expires_at": _text(record.expires_at),
         "review_due_at": _text(record.review_due_at),
         "attributes": None if record.ticket is None else {"ticket": record.ticket}},
        {} if policy is None else {"policy_version": policy.version, "policy_digest": policy.digest},
    )  # fmt: skip


def _text(at: datetime) -> str:
    return time_text(at.astimezone(UTC).timestamp())


def _check(record: ExceptionRecord) -> None:
    for _, _, message in broken_rules(record):
        raise UsageError(f"{record.id} breaks the standard: {message}.", "Change it, and try again.")


def _known(recorder: Recorder, exception_id: str) -> tuple[ExceptionRecord, int | None, int | None]:
    found = find_exception(recorder.db, exception_id)
    if found is None:
        raise UsageError(f"There is no exception {exception_id}.", "`issuer exception open` opens one.")
    return found


def _open(recorder: Recorder, exception_id: str) -> ExceptionRecord:
    record, closed, _ = _known(recorder, exception_id)
    if closed is not None or record.expires_at.timestamp() <= recorder.clock():
        raise UsageError(f"The exception {exception_id} is not open any more.", "Open a new one.")
    return record
