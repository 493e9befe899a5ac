"""The event schema: its order, what it rejects, and the forms that are derived from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import jsonschema
import pyarrow as pa
import pytest
from pydantic import ValidationError

from ingest.rows import SENDER_FIELDS
from ledger.events import (
    ARROW_SCHEMA,
    COLLECTOR,
    CONTENT_COLUMNS,
    COORDINATES,
    DEAD_LETTER_SCHEMA,
    DEAD_LETTER_SQL_TYPES,
    ERASED_LEAF,
    FIELD_NAMES,
    FIELDS,
    ID_FIELDS,
    KINDS,
    RESERVED_KINDS,
    SQL_TYPES,
    VOCABULARIES,
    Event,
    json_schema,
    json_schema_text,
)
from tests.benchmarks import workload

DOCS = Path(__file__).parents[2] / "docs"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BASE: dict[str, Any] = {"event_id": "e-1", "kind": "decision", "time": NOON, "source": "opa/todo-pdp"}

_NAMES = (
    "event_id kind time source instance sequence pep tenant environment trust_zone request_id trace_id "
    "span_id parent_span_id task_id session_id session_risk session_expires_at session_verified "
    "session_data_classes actor delegated_actor delegation workload client_ip user_agent roles action "
    "action_type impact resource resource_tenant resource_environment resource_trust_zone data_class "
    "destination bytes_out sensitive_fields decision reason decision_ref policy_id policy_version "
    "policy_digest policy_engine previous_policy_version credential_id parent_credential_id "
    "credential_type audience scopes required_scopes issued_at expires_at purpose grant_id grant_covers "
    "approval_id approved_by exception_id owner review_due_at outcome target rule_id rule_version "
    "alert_id alert_key window_start severity count first_seen last_seen checkpoint_size evidence "
    "verdict_id comment sent dropped exercise nonce conflict attributes masked retention raw topic "
    "topic_id partition record_offset part"
)
ORDER = _NAMES.split()
OF_TYPE = {
    "time": "time session_expires_at issued_at expires_at review_due_at window_start first_seen last_seen",
    "int": "sequence session_risk bytes_out count checkpoint_size verdict_id sent dropped partition "
    "record_offset part",
    "bool": "session_verified conflict",
    "list": "session_data_classes delegation roles sensitive_fields scopes required_scopes grant_covers "
    "evidence masked",
}


def test_fields_stand_in_the_order_of_the_model() -> None:
    assert list(FIELD_NAMES) == ORDER
    assert ARROW_SCHEMA.names == [*ORDER, ERASED_LEAF]
    assert list(SQL_TYPES) == ARROW_SCHEMA.names


def test_each_field_has_the_type_of_the_model() -> None:
    types = {name: kind for kind, names in OF_TYPE.items() for name in names.split()}
    assert {field.name: field.type for field in FIELDS} == {name: types.get(name, "text") for name in ORDER}
    assert {field.name for field in FIELDS if field.required} == {
        "event_id", "kind", "time", "source", "retention",
    }  # fmt: skip
    assert ARROW_SCHEMA.field("time").type == pa.timestamp("us", "UTC")
    assert all(field.description for field in FIELDS)


def test_coordinates_and_content_part_the_columns() -> None:
    assert (*COORDINATES, "raw", "nonce", "conflict") == COLLECTOR
    assert set(CONTENT_COLUMNS) | set(COLLECTOR) == set(FIELD_NAMES)
    assert not set(CONTENT_COLUMNS) & set(COLLECTOR)
    assert set(KINDS) > {"alert", "case", "access"} == RESERVED_KINDS
    assert {"event_id", "trace_id", "credential_id"} <= set(ID_FIELDS)
    assert "verdict_id" not in ID_FIELDS


@pytest.mark.parametrize("types", [SQL_TYPES, DEAD_LETTER_SQL_TYPES], ids=["events", "dead letters"])
def test_no_column_needs_quoting_in_sql(types: dict[str, str]) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({columns})")
        names = [row[0] for row in connection.execute("DESCRIBE t").fetchall()]
    assert names == (ARROW_SCHEMA if types is SQL_TYPES else DEAD_LETTER_SCHEMA).names


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"kind": "rumour"}, "kind"),
        ({"time": NOON.replace(tzinfo=None)}, "time"),
        ({"time": "2026-11-23T12:00:00Z"}, "time"),
        ({"time": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))}, "time"),
        ({"decision": "maybe"}, "decision"),
        ({"action_type": "poke"}, "action_type"),
        ({"impact": "none"}, "impact"),
        ({"data_class": "secret"}, "data_class"),
        ({"credential_type": "cookie"}, "credential_type"),
        ({"session_risk": 101}, "session_risk"),
        ({"session_risk": -1}, "session_risk"),
        ({"sequence": 2**53}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"sequence": 1.0}, "sequence"),
        ({"session_verified": 1}, "session_verified"),
        ({"actor": 7}, "actor"),
        ({"actor": "a\0b"}, "actor"),
        ({"actor": "\ud800"}, "actor"),
        ({"roles": "admin"}, "roles"),
        ({"roles": ["a", None]}, "roles"),
        ({"trace_id": "4BF92F3577B34DA6A3CE929D0E0E4736"}, "trace_id"),
        ({"trace_id": "4bf92f35"}, "trace_id"),
        ({"trace_id": "0" * 32}, "trace_id"),
        ({"span_id": "0" * 16}, "span_id"),
        ({"parent_span_id": "00f067aa0ba902b7\n"}, "parent_span_id"),
        ({"retention": "../up"}, "retention"),
        ({"retention": "Standard"}, "retention"),
        ({"retention": "a" * 33}, "retention"),
        ({"retention": None}, "retention"),
        ({"attributes": {"a": 1}}, "attributes"),
        ({"attributes": "[1]"}, "attributes"),
        ({"attributes": '{"b":1,"a":2}'}, "attributes"),
        ({"attributes": '{"a":1.0}'}, "attributes"),
        ({"attributes": '{"a":1,"a":1}'}, "attributes"),
        ({"attributes": '{"a":9007199254740993}'}, "attributes"),
        ({"attributes": '{"a":NaN}'}, "attributes"),
        ({"attributes": "{"}, "attributes"),
        ({"attributes": '{"a":"\\ud800"}'}, "attributes"),
        ({"attributes": '{"a":' * 5_000 + "1" + "}" * 5_000}, "attributes"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_event_is_rejected_by_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Event(**{**BASE, **change})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


def test_a_missing_required_field_is_named() -> None:
    for name in BASE:
        with pytest.raises(ValidationError, match=name):
            Event(**{key: value for key, value in BASE.items() if key != name})


def test_empty_text_and_empty_lists_are_kept() -> None:
    event = Event(**BASE, reason="", roles=[], scopes=[""])
    assert (event.reason, event.roles, event.scopes) == ("", [], [""])


def test_open_vocabularies_take_any_text() -> None:
    event = Event(**BASE, pep="sidecar", outcome="half-done", severity="odd", session_data_classes=["pci"])
    assert event.pep == "sidecar"


def test_times_come_to_utc_and_retention_has_a_default() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    event = Event(**{**BASE, "time": east})
    assert event.time == NOON
    assert event.time.tzinfo is UTC
    assert event.retention == "standard"


def test_rows_of_a_table_are_events() -> None:
    table = workload.table(50, seed=5)
    for row in table.drop_columns(ERASED_LEAF).to_pylist():
        assert Event(**row).event_id == row["event_id"]


def test_the_schema_in_the_docs_is_the_generated_one() -> None:
    assert (DOCS / "event-schema.json").read_text(encoding="utf-8") == json_schema_text(), (
        "run: python -m ledger.events > docs/event-schema.json"
    )


def test_the_wire_schema_takes_real_events_and_refuses_bad_ones() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    validator = jsonschema.Draft202012Validator(json_schema())
    good = workload.events(20, seed=6)
    assert all(validator.is_valid(event) for event in good)
    assert validator.is_valid({**good[0], "actor": None, "impact": None, "attributes": {}, "colour": "red"})
    for change in (
        {"kind": None},
        {"time": "2026-11-23T12:00:00"},
        {"time": 1},
        {"decision": "maybe"},
        {"trace_id": "0" * 32},
        {"attributes": "{}"},
        {"roles": [None]},
        {"sequence": 2**53},
    ):
        assert not validator.is_valid({**good[0], **change}), change


def test_the_wire_schema_offers_just_what_a_sender_may_write() -> None:
    assert set(json_schema()["properties"]) == {field.name for field in SENDER_FIELDS}
    assert not {*COORDINATES, "raw", "conflict", "nonce", "masked"} & set(json_schema()["properties"])
    assert set(json_schema()["properties"]["kind"]["enum"]) == set(KINDS) - RESERVED_KINDS
    assert set(json_schema()["required"]) == {"event_id", "kind", "time", "source"}
    for name, words in VOCABULARIES.items():
        if name == "kind":
            continue
        assert set(json_schema()["properties"][name]["enum"]) - {None} == set(words)
