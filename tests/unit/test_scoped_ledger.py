"""A ledger opened for some tenants: SQL, traces, evidence and dead letters of theirs alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from detections.configs.timeline import Timeline
from detections.metrics.figures import Choice, figures
from detections.metrics.periods import period_of
from ingest.letters import rejected_of
from ledger.errors import UsageError
from ledger.query.evidence import verify_bundle
from ledger.reader import Ledger
from tests.making import NOON, Made, make_ledger, row, stretch

OURS, THEIRS, MIXED = "1" * 32, "2" * 32, "3" * 32
AGENT = {"kind": "action", "delegated_actor": "agent:a"}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    rows = [
        row(0, tenant="acme", trace_id=OURS, **AGENT), row(1, tenant="beta", trace_id=THEIRS, **AGENT),
        row(2, tenant="acme", trace_id=MIXED), row(3, tenant="beta", trace_id=MIXED, reason="s3cret"),
        row(4, trace_id=OURS, reason="s3cret"),
    ]  # fmt: skip
    made.writer().commit([stretch(rows)])
    return made


@pytest.fixture
def acme(made: Made) -> Ledger:
    return Ledger.open(str(made.folder), tenants=frozenset({"acme"}))


def test_sql_and_traces(acme: Ledger) -> None:
    with acme:
        assert acme.sql("SELECT event_id FROM events ORDER BY 1").column(0).to_pylist() == ["e0", "e2"]
        assert [node.event["event_id"] for node in acme.trace(OURS).nodes()] == ["e0"]
        assert [node.event["event_id"] for node in acme.trace(MIXED).nodes()] == ["e2"]
        with pytest.raises(UsageError, match="No event has the trace id"):
            acme.trace(THEIRS)
        assert acme.sql("SELECT count(*) AS n FROM events", at=acme.size).to_pylist() == [{"n": 2}]


def test_evidence(acme: Ledger, made: Made) -> None:
    with acme:
        bundle = acme.evidence("e0")
        assert b"s3cret" not in bundle
        assert verify_bundle(bundle, made.key.signer.vkey).events
        for other in ("e1", "e3", "e4", "test/pdp#e1"):
            with pytest.raises(UsageError, match="No sealed event has the id"):
                acme.evidence(other)


def test_dead_letters_and_figures(acme: Ledger, made: Made) -> None:
    day = [period_of(NOON, "day", NOON.tzinfo)] if NOON.tzinfo else []

    def actions(ledger: Ledger) -> float | None:
        return figures(ledger, day, Choice(by="day"), timeline=Timeline())[0].denominator

    with Ledger.open(str(made.folder)) as whole, acme:
        assert rejected_of(acme, ["decisions"]) == 0
        # What was kept of the whole is no answer to a tenant, nor the other way round.
        assert [actions(whole), actions(acme), actions(whole)] == [2, 1, 2]
