"""Metrics from what was kept by day are those of a ledger asked in full, whatever came in between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detections.configs.timeline import Timeline
from detections.metrics.figures import Choice, figures
from detections.metrics.kept_days import user_days
from detections.metrics.periods import period_of
from ledger.reader import Ledger
from tests.making import make_ledger, stretch

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
IDS = st.sampled_from(["a", "b", "c"])
WORDS: dict[str, Any] = {
    "kind": st.sampled_from(["decision", "action", "task", "signal", "exception"]),
    "tenant": st.sampled_from([None, "acme", "beta"]), "resource_tenant": st.sampled_from([None, "acme"]),
    "decision": st.sampled_from([None, "allow", "deny"]),
    "outcome": st.sampled_from([None, "started", "succeeded", "failed", "opened", "closed", "reviewed"]),
    "actor": st.sampled_from([None, "user:u"]), "delegated_actor": st.sampled_from([None, "agent:a"]),
    "trace_id": st.sampled_from([None, "1" * 32, "2" * 32]), "task_id": IDS | st.none(),
    "request_id": IDS | st.none(), "credential_id": IDS | st.none(), "exception_id": IDS | st.none(),
    "decision_ref": st.sampled_from([None, "e0", "e1", "pdp#e2"]),
    "action": st.sampled_from([None, "x:read"]), "resource": st.sampled_from([None, "x:1"]),
    "impact": st.sampled_from([None, "high"]),
    "policy_engine": st.sampled_from([None, "cedar"]), "policy_version": st.sampled_from([None, "1"]),
    "target": st.sampled_from([None, "credential:a", "user:u"]),
    "reason": st.sampled_from([None, "credential-compromised"]),
    "destination": st.sampled_from([None, "mail"]), "pep": st.sampled_from([None, "egress"]),
    "scopes": st.sampled_from([None, ["x:read"], ["x:*"]]),
    "required_scopes": st.sampled_from([None, ["x:read"]]),
}  # fmt: skip
ROWS = st.fixed_dictionaries({"hours": st.integers(0, 24 * 9), **WORDS})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _figures(folder: Path, *, remember: bool, group: str | None) -> list[dict[str, Any]]:
    periods = [period_of(MONDAY + timedelta(days=7 * week), "week", UTC) for week in (0, 1)]
    with Ledger.open(str(folder), remember=remember) as ledger:
        found = figures(ledger, periods, Choice(group=group), timeline=Timeline(), kept=user_days(ledger))
    return [one.as_json() for one in found]


@given(
    batches=st.lists(st.lists(ROWS, min_size=4, max_size=16), min_size=2, max_size=3),
    group=st.sampled_from([None, "tenant"]),
)
@settings(max_examples=5, deadline=None)
def test_what_is_kept_changes_no_figure(
    batches: Sequence[Sequence[dict[str, Any]]], group: str | None
) -> None:
    with TemporaryDirectory() as place:
        made = make_ledger(Path(place))
        writer = made.writer()
        sent = 0
        for batch in batches:
            rows = []
            for number, given in enumerate(batch, start=sent):
                one = {name: value for name, value in given.items() if value is not None and name != "hours"}
                when = MONDAY + timedelta(hours=given["hours"], seconds=number)
                rows.append(
                    {**one, "event_id": f"e{number}", "time": when, "source": "pdp", "retention": "standard"}
                )
            writer.commit([stretch(rows, sent)])
            sent += len(batch)
            kept = _figures(made.folder, remember=True, group=group)
        assert kept == _figures(made.folder, remember=False, group=group)
