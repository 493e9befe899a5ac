from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingest import strictjson
from ingest.adapters import adapter
from ingest.adapters.json_values import canonical_text
from ingest.adapters.opa import FIELD_MAP
from ingest.decoded import Decoded, Limits, Verdict
from ledger.errors import UsageError
from ledger.events import FIELD_NAMES, Event

NOW = datetime(2026, 11, 23, 20, tzinfo=UTC)
SAMPLES = Path(os.environ.get("DECISION_LEDGER_SAMPLES", Path(__file__).parents[3] / "shared" / "samples"))
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PLAIN: dict[str, Any] = {
    "labels": {"app": "shop", "id": "pdp-1", "version": "1.22.2", "environment": "prod", "zone": "a"},
    "decision_id": "d-1",
    "bundles": {"authz": {"revision": "r1"}},
    "path": "shop/authz",
    "input": {
        "subject": {"type": "user", "id": "ada", "properties": {"team": "x"}},
        "action": {"name": "order:read"},
        "resource": {"type": "order", "id": "7"},
        "context": {"mfa": True},
    },
    "result": {"decision": True, "context": {"roles": ["clerk"], "reason": "owner", "ttl": 5}},
    "requested_by": "10.0.0.9:4711",
    "timestamp": "2026-11-23T10:00:00.123456789Z",
    "metrics": {"timer_server_handler_ns": 1},
    "req_id": 3,
    "request_context": {
        "http": {
            "headers": {
                "TraceParent": [f"00-{TRACE}-{SPAN}-01"],
                "User-Agent": ["curl"],
                "X-Request-Id": ["q"],
            }
        }
    },
}


def decode(*messages: Any, options: dict[str, Any] | None = None, limits: Limits | None = None) -> Decoded:
    texts = pa.array(
        [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages], pa.large_binary()
    )
    made = adapter("opa", options).decode(texts, limits or Limits(), NOW)
    made.events.validate(full=True)
    for row in made.events.to_pylist():
        Event(**{name: value for name, value in row.items() if value is not None})
    return made


def one(options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    sent = {name: value for name, value in {**PLAIN, **changes}.items() if value is not ...}
    made = decode(sent, options=options)
    assert not made.rejected
    return {name: value for name, value in made.events.to_pylist()[0].items() if value is not None}


def test_every_field_of_an_ordinary_decision() -> None:
    row = one()
    raw = row.pop("raw")
    assert json.loads(raw) == PLAIN
    assert row == {
        "event_id": "d-1", "kind": "decision", "time": datetime(2026, 11, 23, 10, 0, 0, 123456, UTC),
        "source": "opa/shop", "instance": "pdp-1", "environment": "prod", "request_id": "q",
        "trace_id": TRACE,
        "parent_span_id": SPAN, "actor": "user:ada", "client_ip": "10.0.0.9", "user_agent": "curl",
        "roles": ["clerk"], "action": "order:read", "resource": "order:7", "decision": "allow",
        "reason": "owner", "policy_id": "shop/authz", "policy_version": "r1", "policy_engine": "opa/1.22.2",
        "attributes": '{"context":{"mfa":true},"labels":{"zone":"a"},"req_id":3,"result_context":{"ttl":5},'
        '"subject_properties":{"team":"x"}}',
        "retention": "standard", "part": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"result": True}, ("allow", None)),
        ({"result": False}, ("deny", None)),
        ({"result": {"allow": False}}, ("deny", None)),
        ({"result": {"decision": True}}, ("allow", None)),
        ({"result": {"allow": True, "decision": False}}, ("error", "unmapped")),
        ({"result": {"allow": "yes"}}, ("error", "unmapped")),
        ({"result": 1}, ("error", "unmapped")),
        ({"result": None}, ("error", "unmapped")),
        ({"result": [{"x": True}], "path": ..., "query": "x"}, ("error", "unmapped")),
        ({"result": ...}, ("deny", "undefined")),
        (
            {"result": ..., "error": {"code": "eval_conflict_error", "message": "m"}},
            ("error", "eval_conflict_error"),
        ),
        ({"result": True, "error": {}}, ("error", "error")),
    ],
)
def test_answers(changes: dict[str, Any], answer: tuple[str, str | None]) -> None:
    row = one(**changes)
    assert (row["decision"], row.get("reason")) == answer


def test_results_of_any_shape_can_be_mapped_by_path() -> None:
    options = {
        "paths": {"shop/*": {"decision": "verdict.0.ok", "reason": "/why~1"}, "shop/x": {"decision": ""}}
    }
    row = one(options, result={"verdict": [{"ok": "deny"}], "why/": "late"})
    assert (row["decision"], row["reason"]) == ("deny", "late")
    assert one(options, path="shop/x", result=True)["decision"] == "allow"
    assert one(options, path="other", result={"verdict": [{"ok": True}]})["reason"] == "unmapped"
    assert one(options, result={"verdict": []})["reason"] == "unmapped"
    with pytest.raises(UsageError, match="paths"):
        adapter("opa", {"paths": {"a": {}}})


@pytest.mark.parametrize(
    "header",
    [
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-x", f"00-{TRACE.upper()}-{SPAN}-01", "", "x",
    ],
)  # fmt: skip
def test_invalid_trace_headers_give_no_trace(header: str) -> None:
    row = one(request_context={"http": {"headers": {"Traceparent": [header]}}})
    assert not {"trace_id", "parent_span_id"} & row.keys()


def test_own_trace_ids_win_over_the_header() -> None:
    row = one(trace_id="AB" * 16, span_id="cd" * 8)
    assert (row["trace_id"], row["span_id"], row.get("parent_span_id")) == ("ab" * 16, "cd" * 8, None)
    assert one(trace_id=TRACE, span_id="cd" * 8)["parent_span_id"] == SPAN
    assert one(trace_id="0" * 32)["trace_id"] == TRACE
    two = {"http": {"headers": {"Traceparent": [f"00-{TRACE}-{SPAN}-01"] * 2}}}
    assert "trace_id" not in one(request_context=two)


def test_revisions_and_sources() -> None:
    assert one(bundles={"b": {"revision": "2"}, "a": {"revision": "1"}})["policy_version"] == "a=1,b=2"
    assert one(bundles=..., revision="old")["policy_version"] == "old"
    assert "policy_version" not in one(bundles={"a": {}})
    row = one(labels=...)
    assert (row["source"], row["policy_engine"], row.get("instance")) == ("opa", "opa", None)


@pytest.mark.parametrize(
    ("requested_by", "address"),
    [
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("10.1.1.1", "10.1.1.1"),
        ("@", None),
        (5, None),
    ],
)
def test_addresses(requested_by: Any, address: str | None) -> None:
    assert one(requested_by=requested_by).get("client_ip") == address


def test_fields_by_pointer() -> None:
    options = {"fields": {"tenant": "/input/context/tenant", "actor": "input.user", "task_id": "/nothing"}}
    row = one(options, input={"user": "svc:a", "context": {"tenant": "acme"}})
    assert (row["tenant"], row["actor"], row.get("task_id")) == ("acme", "svc:a", None)
    assert one(input="text").get("actor") is None
    assert one(input={"subject": {"id": "nobody"}, "resource": "order:1"})["resource"] == "order:1"


def test_masked_places_and_secrets() -> None:
    secret = "hunter22-very-secret"
    row = one(
        erased=["/input/token"], masked=["/input/ip"],
        input={"subject": {"id": "a"}, "password": secret, "context": {"h": f"Bearer {secret}"}},
    )  # fmt: skip
    assert row["masked"] == ["/input/context/h", "/input/ip", "/input/password", "/input/token"]
    assert secret not in str(row)


def test_copies_sent_again_are_the_same_event() -> None:
    again = dict(reversed(PLAIN.items()))
    made = decode(
        {"_upload": 1, **PLAIN}, {**again, "_upload": {"n": 2}}, json.dumps(PLAIN, indent=1).encode()
    )
    first, *others = made.events.to_pylist()
    assert others == [first, first]
    hop = {"drop": ["_upload", "hop"]}
    assert '"hop"' not in decode({**PLAIN, "hop": 1}, options=hop).events["raw"][0].as_py()


def test_huge_integers_keep_their_digits() -> None:
    row = one(result={"decision": True, "at": 1795458159299392600, "context": {"n": 10**25}})
    assert '"at":1795458159299392600' in row["raw"]
    assert json.loads(row["attributes"])["result_context"] == {"n": str(10**25)}
    assert row["masked"] == ["/attributes/result_context/n#number"]
    assert canonical_text({"\U0001f600": 10**20, "\ufb33": [strictjson.Real(1), -(10**20)]}) == (
        '{"\U0001f600":100000000000000000000,"\ufb33":[1,-100000000000000000000]}'
    )


def test_long_context_gives_way_and_is_named() -> None:
    made = decode({**PLAIN, "input": {"context": {"x": "y" * 70_000}}})
    assert json.loads(made.events["attributes"][0].as_py())["left_out"] == ["context"]
    long = decode({**PLAIN, "input": {"context": {"x": "y" * 270_000}}})
    assert long.rejected == [Verdict(0, "longer than 262144 bytes", None, "raw")]


def test_batches_and_unusable_messages() -> None:
    other = {**PLAIN, "decision_id": "d-2"}
    late = {**PLAIN, "timestamp": "2026-11-23T10:00:00"}
    made = decode([PLAIN, other], [PLAIN, late], b"x", {"a": 1}, [], b'"x"')
    assert made.message.tolist() == [0, 0]
    assert made.events["part"].to_pylist() == [0, 1]
    assert [(v.message, v.part, v.field) for v in made.rejected] == [
        (1, 1, "time"), (2, None, None), (3, None, "event_id"), (5, None, None),
    ]  # fmt: skip
    assert made.ignored == [Verdict(4, "no events")]


def test_the_field_map_names_fields() -> None:
    assert {field for _, field in FIELD_MAP} <= set(FIELD_NAMES)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder of real logs is not present")
def test_real_logs() -> None:
    lines = (SAMPLES / "opa_decision_log_asreceived.jsonl").read_bytes().splitlines()
    made = decode(*lines)
    assert (len(made.events), made.rejected, made.ignored) == (102, [], [])
    assert len({str(row) for row in made.events.to_pylist()}) == 87
    assert len(set(made.events["event_id"].to_pylist())) == 87
    once = decode(*(SAMPLES / "opa_decision_log.jsonl").read_bytes().splitlines()).events
    reasons = list(zip(once["decision"].to_pylist(), once["reason"].to_pylist(), strict=True))
    assert reasons.count(("deny", "undefined")) == 1
    assert reasons.count(("error", "eval_conflict_error")) == 1
    assert reasons.count(("error", "unmapped")) == 1
    assert sum(trace is not None for trace in once["trace_id"].to_pylist()) > 75
    assert any("1795458159299392600" in raw for raw in once["raw"].to_pylist())
