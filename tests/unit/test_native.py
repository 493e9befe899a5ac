from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa
import pytest

from ingest.adapters import adapter, native
from ingest.adapters.native import NativeAdapter
from ingest.decoded import Decoded, Limits, Verdict
from ledger.errors import UsageError
from ledger.events import ARROW_SCHEMA

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PLAIN: dict[str, Any] = {"event_id": "e", "kind": "task", "time": "2026-11-23T10:00:00Z", "source": "s"}


def decode(*messages: Any, limits: Limits | None = None, fast: bool = True) -> Decoded:
    texts = [m if isinstance(m, bytes) else orjson.dumps(m) for m in messages]
    made = NativeAdapter(fast=fast).decode(pa.array(texts, pa.large_binary()), limits or Limits(), NOW)
    made.events.validate(full=True)
    return made


def only_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("a message took the row path")

    monkeypatch.setattr(native, "_read_one", refuse)


def test_ordinary_events_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    only_fast(monkeypatch)
    run = [
        {
            **PLAIN,
            "event_id": str(n),
            "attributes": {"z": n, "a": ["x", {"b": "y"}]},
            "roles": ["r"],
            "count": n,
        }
        for n in range(40)
    ]
    run += [{**PLAIN, "attributes": {}}, {**PLAIN, "comment": 'say "hi"\n'}, {**PLAIN, "task_id": "task-1"}]
    made = decode(*run, *(json.dumps(event).encode() for event in run))
    assert made.message.tolist() == list(range(86))
    assert made.events.schema == ARROW_SCHEMA
    assert made.events["attributes"][3].as_py() == '{"a":["x",{"b":"y"}],"z":3}'
    assert made.events["attributes"][40].as_py() == "{}"
    assert made.events["retention"].to_pylist() == ["standard"] * 86


def test_a_bad_message_leaves_its_neighbours_on_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    read_one = native._read_one

    def count(slow: Any, position: int, *rest: Any) -> None:
        taken.append(position)
        read_one(slow, position, *rest)

    monkeypatch.setattr(native, "_read_one", count)
    run: list[Any] = [{**PLAIN, "event_id": str(n)} for n in range(3_000)]
    run[7] = {**PLAIN, "count": 1.5}
    run[1_200] = b'{"event_id":"a",'
    run[2_999] = {**PLAIN, "extra": {"a": [1]}}
    made = decode(*run)
    assert taken == [7, 1_200, 2_999]
    assert [(v.message, v.field) for v in made.rejected] == [(7, "count"), (1_200, None)]
    assert made.message.tolist() == [n for n in range(3_000) if n not in (7, 1_200)]
    assert made.events["event_id"].to_pylist()[1_199] == "1201"
    assert made.events["attributes"].to_pylist()[-1] == '{"extra":{"a":[1]}}'


def test_duplicate_keys_cost_their_run_only_the_fast_path() -> None:
    run: list[Any] = [{**PLAIN, "event_id": str(n)} for n in range(500)]
    run[77] = b'{"event_id":"a","event_id":"b","kind":"task","time":"2026-11-23T10:00:00Z","source":"s"}'
    made = decode(*run)
    assert made.rejected == [Verdict(77, "duplicate key", None, "event_id")]
    assert len(made.events) == 499


@pytest.mark.parametrize(
    ("text", "reason", "field"),
    [
        (b'"attributes":{"a":1,"a":1}', "duplicate key", "a"),
        (b'"attributes":{"a":1},"attributes":{}', "duplicate key", "attributes"),
        (b'"attributes":{"a":1},"attributes":null', "duplicate key", "attributes"),
        (b'"attributes":""', "wrong type: object expected", "attributes"),
        (b'"attributes":{"a":NaN}', "non-finite number", None),
        (b'"attributes":{"a":1,}', "not JSON", None),
        (b'"owner":"attributes":{}', "not JSON", None),
        (b'"owner":null,"owner":null', "duplicate key", "owner"),
        (b'"issued_at":"2026-11-23T10:00:00+0200"', "not an RFC 3339 time", "issued_at"),
        (b'"issued_at":"2026-11-23T10:00"', "time without an offset", "issued_at"),
        (b'"comment":"a\\u0000"', "NUL in text", "comment"),
        (b'"comment":"\\ud800"', "unpaired surrogate", "comment"),
    ],
)
def test_what_lenient_readers_let_pass_is_rejected(text: bytes, reason: str, field: str | None) -> None:
    good = b'{"event_id":"e","kind":"task","time":"2026-11-23T10:00:00Z","source":"s"'
    made = decode(good + b"," + text + b"}", good + b"}")
    assert made.message.tolist() == [1]
    assert made.rejected[0].reason.startswith(reason)
    assert made.rejected[0].field == field


def test_two_objects_in_one_message_do_not_shift_the_rows() -> None:
    one = orjson.dumps(PLAIN)
    made = decode(one, one + b" " + one, b" ", one, b"", b"{}")
    assert made.message.tolist() == [0, 3]
    assert [v.message for v in made.rejected] == [1, 2, 4, 5]


def test_batches_are_whole() -> None:
    made = decode([PLAIN, {**PLAIN, "event_id": "f"}], [PLAIN, {**PLAIN, "count": "x"}, {}], [], [1], [[]], 5)
    assert made.message.tolist() == [0, 0]
    assert made.events["part"].to_pylist() == [0, 1]
    assert made.rejected == [
        Verdict(1, "wrong type: integer expected", 1, "count"),
        Verdict(3, "wrong type: object expected", 0, None),
        Verdict(4, "wrong type: object expected", 0, None),
        Verdict(5, "wrong type: object or array of objects expected", None, None),
    ]
    assert made.ignored == [Verdict(2, "no events")]
    assert decode([PLAIN] * 3, limits=Limits(events_per_message=2)).rejected[0].reason == (
        "more than 2 events in one message"
    )


def test_secrets_are_masked_on_either_side() -> None:
    made = decode(
        {**PLAIN, "reason": "Bearer abcdef0123456789"},
        {**PLAIN, "attributes": {"a_p_i_key": "abcdef0123456789"}, "pass_word": "abcdef0123456789"},
        {**PLAIN, "password": 1},
    )
    assert b"abcdef0123456789" not in str(made.events.to_pylist()).encode()
    assert made.events["masked"].to_pylist() == [
        ["/reason"], ["/attributes/a_p_i_key", "/attributes/pass_word"], ["/attributes/password"],
    ]  # fmt: skip


def test_verdicts_hold_no_secret() -> None:
    key = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    made = decode(f'{{"{key}":1,"{key}":2}}'.encode())
    assert key not in str(made.rejected)


def test_slices_of_a_chunk_are_read_from_their_place() -> None:
    run = pa.array(
        [b"x", *(orjson.dumps({**PLAIN, "event_id": str(n)}) for n in range(9))], pa.large_binary()
    )
    made = NativeAdapter().decode(run[3:6], Limits(), NOW)
    assert made.events["event_id"].to_pylist() == ["2", "3", "4"]
    assert len(NativeAdapter().decode(run[:0], Limits(), NOW).events) == 0


def test_messages_longer_than_the_limit_are_rejected() -> None:
    made = decode({**PLAIN, "comment": "x" * 700_000}, {**PLAIN, "comment": "x" * 1_048_576}, PLAIN)
    assert made.message.tolist() == [0, 2]
    assert made.rejected == [Verdict(1, "longer than 1048576 bytes")]


def test_formats_are_known_by_name() -> None:
    assert adapter("native").name == "native"
    assert adapter("opa", {"drop": ["x"]}).name == "opa"
    with pytest.raises(UsageError, match="Known formats: native, opa"):
        adapter("syslog")
    with pytest.raises(UsageError, match="no option 'x'"):
        adapter("native", {"x": 1})
    with pytest.raises(UsageError, match="tenant_x"):
        adapter("opa", {"fields": {"tenant_x": "/a"}})
