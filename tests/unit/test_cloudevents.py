"""CloudEvents: what an event lacks its envelope says; structured, in batches, in headers."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.decoded import Decoded, HeaderAdapter, Headers, Limits
from ledger.errors import UsageError
from tests.adapting import NOW, attributes, decoded, events
from tests.foreign_shapes import CERBOS, CLOUDEVENTS

TRACE = "45d06438e93c4a26bfc645eeddb2ffbf"


def binary(value: bytes, headers: Headers, **options: Any) -> Decoded:
    found = adapter("cloudevents", options)
    assert isinstance(found, HeaderAdapter)
    told: Sequence[Headers] = [headers]
    return found.decode_with(pa.array([value], pa.large_binary()), told, Limits(), NOW)


def test_what_a_native_event_lacks_comes_from_its_envelope() -> None:
    (one,) = events("cloudevents", CLOUDEVENTS)
    assert (one["event_id"], one["source"], one["kind"]) == ("ce-1", "gateway/eu", "decision")
    assert (one["trace_id"], one["parent_span_id"]) == (TRACE, "6ac4d6acdded49d8")
    assert (one["decision"], one["time"].isoformat()) == ("deny", "2026-11-23T10:00:00+00:00")
    assert attributes(one)["cloudevent"] == {
        "type": "example.gateway.decision", "subject": "invoice 7", "region": "eu",
    }  # fmt: skip


def test_what_the_event_says_itself_counts() -> None:
    own = {
        **CLOUDEVENTS["data"],
        "event_id": "e-9",
        "source": "gateway",
        "kind": "action",
        "trace_id": "ab" * 16,
    }
    (one,) = events("cloudevents", {**CLOUDEVENTS, "data": own})
    assert (one["event_id"], one["source"], one["kind"], one["trace_id"]) == (
        "e-9",
        "gateway",
        "action",
        "ab" * 16,
    )
    assert "parent_span_id" not in one


def test_a_batch_is_accepted_whole_or_refused_whole() -> None:
    second = {**CLOUDEVENTS, "id": "ce-2"}
    assert [(one["event_id"], one["part"]) for one in events("cloudevents", [CLOUDEVENTS, second])] == [
        ("ce-1", 0), ("ce-2", 1),
    ]  # fmt: skip
    bad = {**second, "data": {"decision": "perhaps"}}
    found = decoded("cloudevents", [CLOUDEVENTS, bad], CLOUDEVENTS, [])
    assert [(one.message, one.part, one.field) for one in found.rejected] == [(0, 1, "decision")]
    assert found.message.tolist() == [1]
    assert [one.message for one in found.ignored] == [2]


def test_over_kafka_and_over_http_attributes_stand_in_headers() -> None:
    value = json.dumps(CLOUDEVENTS["data"]).encode()
    given = {
        name: CLOUDEVENTS[name] for name in ("specversion", "id", "source", "type", "time", "traceparent")
    }
    for prefix in ("ce_", "Ce-"):
        headers = {f"{prefix}{name}": text for name, text in given.items()}
        found = binary(value, {**headers, "content-type": "application/json"})
        (one,) = found.events.to_pylist()
        assert (one["event_id"], one["kind"], one["trace_id"]) == ("ce-1", "decision", TRACE)
    (encoded,) = binary(value, {**headers, "ce-source": "gateway%2Feu%20west"}).events.to_pylist()
    assert encoded["source"] == "gateway/eu west"


def test_messages_of_another_format_name_themselves() -> None:
    inside = {**CLOUDEVENTS, "data": CERBOS}
    first, second = events("cloudevents", inside, format="cerbos", options={"source": "cerbos/x"})
    assert (first["event_id"], second["event_id"], second["part"]) == ("01ABC/0/approve", "01ABC/0/pay", 1)
    assert {first["source"], second["source"]} == {"cerbos/x"}
    coded = {name: value for name, value in inside.items() if name != "data"}
    coded["data_base64"] = base64.b64encode(json.dumps(CERBOS).encode()).decode()
    assert [one["event_id"] for one in events("cloudevents", coded, format="cerbos")] == [
        "01ABC/0/approve", "01ABC/0/pay",
    ]  # fmt: skip
    text = {**inside, "datacontenttype": "text/plain", "data": json.dumps(CERBOS)}
    assert len(events("cloudevents", text, format="cerbos")) == 2
    access = {**inside, "data": {"log.kind": "access", "callId": "x"}}
    found = decoded("cloudevents", access, format="cerbos")
    assert [(one.message, one.reason) for one in found.ignored] == [(0, "an access entry")]


@pytest.mark.parametrize(
    ("changed", "reason", "field"),
    [
        ({"specversion": "0.3"}, "a version other than 1", "specversion"),
        ({"specversion": None}, "missing", "specversion"),
        ({"id": ""}, "missing", "id"),
        ({"type": None}, "missing", "type"),
        ({"data_base64": "?"}, "no base64", "data_base64"),
        ({"data": {"decision": 7}}, "wrong type: text expected", "decision"),
        ({"data": None, "type": "example.other"}, "missing", "kind"),
    ],
)
def test_what_is_no_envelope_or_no_event(changed: dict[str, Any], reason: str, field: str) -> None:
    (one,) = decoded("cloudevents", {**CLOUDEVENTS, **changed}).rejected
    assert (one.reason, one.field) == (reason, field)


def test_options_that_cannot_be_used() -> None:
    for options in ({"format": "cloudevents"}, {"format": "csv"}, {"options": {"no": 1}}, {"other": 1}):
        with pytest.raises(UsageError):
            adapter("cloudevents", options)
