from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa
import pytest
from pydantic import ValidationError

from ingest.adapters.native import NativeAdapter
from ingest.authority import Intake, apply
from ingest.decoded import Decoded, Limits, Verdict
from ingest.intakes import of_people
from ledger.events import DASHBOARD_SOURCE

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLAIN: dict[str, Any] = {"event_id": "e", "kind": "task", "time": "2026-11-23T10:00:00Z", "source": "s"}
KIND = "this intake may not deliver this kind"
SOURCE = "this intake may not deliver this source"


def judged(intake: Intake, *messages: Any, limits: Limits | None = None) -> Decoded:
    texts = pa.array([orjson.dumps(m) for m in messages], pa.large_binary())
    made = apply(NativeAdapter().decode(texts, limits or Limits(), NOW), intake, limits)
    made.events.validate(full=True)
    assert len(made.events) == len(made.message)
    return made


def test_without_configuration() -> None:
    made = judged(
        Intake(name="t", claimed_by_others=("opa/*",)),
        PLAIN,
        {**PLAIN, "kind": "alert"},
        {**PLAIN, "kind": "case"},
        {**PLAIN, "kind": "access"},
        {**PLAIN, "source": "decision-ledger"},
        {**PLAIN, "source": "opa/x"},
        {**PLAIN, "source": "opa"},
        {**PLAIN, "retention": "legal", "attributes": {"a": 1}},
    )
    assert made.message.tolist() == [0, 6, 7]
    assert made.rejected == [
        Verdict(1, KIND, None, "kind"), Verdict(2, KIND, None, "kind"), Verdict(3, KIND, None, "kind"),
        Verdict(4, SOURCE, None, "source"), Verdict(5, SOURCE, None, "source"),
    ]  # fmt: skip
    assert made.events["retention"].to_pylist() == ["standard"] * 3
    assert made.events["attributes"].to_pylist() == [None, None, '{"a":1,"unknown.retention":"legal"}']


def test_reserved_kinds_and_our_own_source_cannot_be_configured_away() -> None:
    intake = Intake(name="t", kinds=frozenset({"alert", "task"}), sources=("*", "decision-ledger"))
    made = judged(intake, {**PLAIN, "kind": "alert"}, {**PLAIN, "source": "decision-ledger"}, PLAIN)
    assert made.message.tolist() == [2]


@pytest.mark.parametrize(
    "source",
    ["Decision-Ledger", "decision-ledger ", "\tDECISION-LEDGER", "ｄecision-ledger", f"{DASHBOARD_SOURCE} "],
)
def test_what_reads_like_our_own_source_is_none_to_deliver(source: str) -> None:
    assert judged(Intake(name="t"), {**PLAIN, "source": source}, PLAIN).message.tolist() == [1]


def test_configured_sources_kinds_and_classes() -> None:
    intake = Intake(
        name="t", kinds=frozenset({"decision"}), sources=("opa/*", "cerbos/eu"),
        retention_classes=frozenset({"short"}), claimed_by_others=("cerbos/*", "opa/billing"),
    )  # fmt: skip
    event = {**PLAIN, "kind": "decision"}
    made = judged(
        intake,
        {**event, "source": "opa/a", "retention": "short"},
        {**event, "source": "opa/billing"},
        {**event, "source": "cerbos/eu"},
        {**event, "source": "cerbos/us"},
        {**event, "source": "opa/a", "kind": "task"},
    )
    assert made.message.tolist() == [0, 2]
    assert made.events["retention"].to_pylist() == ["short", "standard"]
    assert [v.field for v in made.rejected] == ["source", "source", "kind"]


def test_a_batch_is_rejected_whole_and_the_part_named() -> None:
    made = judged(Intake(name="t"), [PLAIN, {**PLAIN, "kind": "alert"}], [PLAIN, PLAIN])
    assert made.message.tolist() == [1, 1]
    assert made.rejected == [Verdict(0, KIND, 1, "kind")]


def test_the_asked_class_never_overwrites_and_respects_the_limit() -> None:
    limits = Limits(attributes_bytes=60)
    made = judged(
        Intake(name="t"),
        {**PLAIN, "retention": "legal", "attributes": {"unknown.retention": "x"}},
        {**PLAIN, "retention": "legal", "attributes": {"a": "x" * 50}},
        limits=Limits(attributes_bytes=70),
    )
    assert json.loads(made.events["attributes"][0].as_py()) == {
        "unknown.retention": "x", "unknown.unknown.retention": "legal",
    }  # fmt: skip
    assert [(v.message, v.field) for v in made.rejected] == [(1, "attributes")]
    assert len(judged(Intake(name="t"), limits=limits).events) == 0


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError):
        Intake(name="t", kind="task")  # type: ignore[call-arg]  # the point of the test


ALERT = "a" * 32
STEP = {"kind": "alert", "alert_id": ALERT, "outcome": "resolved", "event_id": f"{ALERT}/t/{'b' * 32}"}


@pytest.mark.parametrize(
    ("event", "taken"),
    [
        (STEP, True),
        ({**STEP, "outcome": "fired"}, False),
        ({**STEP, "outcome": None}, False),
        ({**STEP, "event_id": f"{ALERT}/e7"}, False),
        ({**STEP, "event_id": f"{'c' * 32}/t/{'b' * 32}"}, False),
        ({**STEP, "alert_id": None}, False),
        ({**STEP, "source": "decision-ledger"}, False),
        ({"kind": "case", "target": "case:1"}, True),
        ({"kind": "access"}, True),
        ({"kind": "review"}, True),
        ({"kind": "decision"}, False),
    ],
)
def test_the_intake_of_people_takes_what_they_do_and_of_alerts_only_triage(
    event: dict[str, Any], taken: bool
) -> None:
    told = {**PLAIN, "source": DASHBOARD_SOURCE, **event}
    value = {name: one for name, one in told.items() if one is not None}
    made = judged(of_people().intake, value)
    assert (len(made.events) == 1) == taken
    assert bool(made.rejected) != taken
    # And nobody else may speak in the dashboard's name.
    assert not len(judged(Intake(name="other"), value).events)
