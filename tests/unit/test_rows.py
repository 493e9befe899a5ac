from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.decoded import Limits
from ingest.rows import Refused, as_table, normalise, parse_time
from ledger.events import ARROW_SCHEMA

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLAIN: dict[str, Any] = {"event_id": "e", "kind": "task", "time": "2026-11-23T10:00:00Z", "source": "s"}


def row(limits: Limits | None = None, **fields: Any) -> dict[str, Any]:
    return normalise({**PLAIN, **fields}, limits or Limits(), NOW)


def test_unknown_fields_and_those_of_ingest_go_into_attributes() -> None:
    made = row(
        extra=1, topic="t", topic_id="i", partition=3, record_offset=9, part=7, raw="r", conflict=True,
        masked=["/x"], nonce="n", erased_leaf="00", attributes={"extra": 2, "unknown.topic": 0, "topic": 1},
    )  # fmt: skip
    assert json.loads(made["attributes"]) == {
        "extra": 2, "unknown.extra": 1, "topic": 1, "unknown.topic": 0, "unknown.unknown.topic": "t",
        "topic_id": "i", "partition": 3, "record_offset": 9, "part": 7, "raw": "r", "conflict": True,
        "masked": ["/x"], "nonce": "n", "erased_leaf": "00",
    }  # fmt: skip
    assert made["part"] == 0
    assert not {"topic", "raw", "conflict", "masked", "nonce", "record_offset"} & made.keys()


def test_null_is_absent_and_empty_is_kept() -> None:
    made = row(owner=None, extra=None, comment="", roles=[], attributes={})
    assert (made["comment"], made["roles"], made["attributes"]) == ("", [], "{}")
    assert "owner" not in made
    assert "extra" not in made["attributes"]
    assert made["retention"] == "standard"


def test_integers_beyond_json_become_digits_and_are_noted() -> None:
    made = row(attributes={"a/b": [2**53, 2**53 - 1], "f": 1e20, "g": 1e21}, extra=-(2**60))
    assert json.loads(made["attributes"]) == {
        "a/b": [str(2**53), 2**53 - 1], "f": "1" + "0" * 20, "g": 1e21, "extra": str(-(2**60)),
    }  # fmt: skip
    assert made["masked"] == [
        "/attributes/a~1b/0#number", "/attributes/extra#number", "/attributes/f#number",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("event_id", None, "missing"),
        ("time", None, "missing"),
        ("kind", "party", "not one of the known words"),
        ("event_id", 5, "wrong type: text expected"),
        ("event_id", "", "empty"),
        ("source", "", "empty"),
        ("event_id", "x" * 1_025, "longer than 1024 characters"),
        ("actor", "x" * 1_025, "longer than 1024 characters"),
        ("delegation", ["x" * 1_025], "longer than 1024 characters"),
        ("roles", ["a", None], "null in a list"),
        ("roles", "a", "wrong type: list of text expected"),
        ("count", 2**53, "integer beyond 2^53 - 1"),
        ("count", True, "wrong type: integer expected"),
        ("count", 1.0, "wrong type: integer expected"),
        ("session_risk", 101, "not within 0 and 100"),
        ("session_verified", 1, "wrong type: true or false expected"),
        ("comment", "a\0b", "NUL in text"),
        ("comment", "\ud800", "unpaired surrogate"),
        ("attributes", {"a": "\ud800"}, "unpaired surrogate"),
        ("attributes", [], "wrong type: object expected"),
        ("attributes", {"a": "x" * 65_536}, "longer than 65536 bytes"),
        ("attributes", {"a": float("inf")}, "not JSON"),
        ("trace_id", "0" * 32, "not 32 hex digits, or all zero"),
        ("retention", "../x", "not a retention class name"),
        ("retention", "x" * 33, "not a retention class name"),
        ("time", "2026-11-23T10:00:00", "time without an offset"),
        ("time", "2026-02-30T10:00:00Z", "impossible time"),
        ("time", "2026-11-23T23:59:60Z", "impossible time"),
        ("time", "yesterday", "not an RFC 3339 time"),
        ("time", 1_700_000_000, "wrong type: RFC 3339 text expected"),
        ("time", "2026-11-24T12:00:00.000001Z", "more than 24 h ahead of the clock"),
    ],
)
def test_refusals_name_the_field_and_the_reason(field: str, value: Any, reason: str) -> None:
    with pytest.raises(Refused) as error:
        row(**{field: value})
    assert (error.value.field, error.value.reason) == (field, reason)


def test_limits_are_inclusive() -> None:
    assert row(time="2026-11-24T12:00:00Z")["time"] == NOW + timedelta(hours=24)
    assert row(event_id="é" * 1_024)
    assert len(row(attributes={"a": "x" * (65_536 - 8)})["attributes"]) == 65_536
    with pytest.raises(Refused, match="longer than 3 bytes"):
        normalise(PLAIN, Limits(raw_bytes=3), NOW, raw="éé")


def test_times_are_cut_and_brought_to_utc() -> None:
    assert parse_time("2026-11-23t10:00:00.1239999+02:00") == datetime(2026, 11, 23, 8, 0, 0, 123999, UTC)
    with pytest.raises(Refused, match="impossible"):
        parse_time("0001-01-01T00:00:00+01:00")


def test_trace_ids_are_lower_case() -> None:
    assert row(trace_id="AB" * 16)["trace_id"] == "ab" * 16


def test_places_move_with_their_field() -> None:
    made = normalise({**PLAIN, "tok/en": {"b": "[masked]"}}, Limits(), NOW, places=["/tok~1en/b", "/comment"])
    assert made["masked"] == ["/attributes/tok~1en/b", "/comment"]


def test_tables_have_the_schema() -> None:
    table = as_table([row(), row(roles=["a"], issued_at="2026-11-23T10:00:00Z")])
    assert table.schema == ARROW_SCHEMA
    assert table["roles"].to_pylist() == [None, ["a"]]
    assert as_table([]).schema == ARROW_SCHEMA
