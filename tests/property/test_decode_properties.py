"""Both paths of the native adapter give the same rows, and no secret gets past either."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import masking, strictjson
from ingest.adapters.attribute_texts import canonical_text
from ingest.adapters.native import NativeAdapter
from ingest.decoded import Decoded, Limits
from ledger.events import FIELDS, VOCABULARIES, Event

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIMITS = Limits(id_chars=40, attributes_bytes=200, message_bytes=4_000, nesting_depth=8)
QUIET = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "user:alice",
            'a"b\\c',
            "line\nbreak",
            "a/b",
            "\u00e9\U0001f600",
            "Bearer abcdef123456",
            "x" * 41,
            "eyJhbGciOiJIUzI1NiJ9.e30.abc",
            "pw: password=hunter22",
            "task-1",
            "{}",
            "}",
            "[",
            '"attributes":{',
            "\x7f",
            "\u2028",
            "https://bob:hunter22@example.org/",
        ]
    ),
)
times = st.sampled_from(
    [
        "2026-11-23T10:00:00Z",
        "2026-11-23T10:00:00.123456Z",
        "2026-11-23T10:00:00.1239999Z",
        "2026-11-23t10:00:00z",
        "2026-11-23 10:00:00+02:00",
        "2026-11-23T10:00:00.5-23:59",
        "2026-11-23T10:00:00",
        "2026-02-30T10:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:00:60Z",
        "2026-11-25T10:00:00Z",
        "2026-11-24T12:00:00Z",
        "2026-11-24T12:00:00.000001Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-01:00",
        "now",
        "",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23T10:00Z",
        "2026-11-23",
        "1-1-1",
        "2026-11-23T10:00:00.Z",
        "1969-12-31T23:59:59.999999Z",
        "2026-11-23T10:00:00+0200",
        "2026-11-23T10:00:00Z\n",
        "２026-11-23T10:00:00Z",
    ]
)
integers = st.one_of(
    st.integers(-5, 105), st.sampled_from([2**53 - 1, 2**53, -(2**53), 2**63, 10**30, -(2**63) - 1])
)
scalars = st.one_of(
    st.none(), st.booleans(), integers, st.floats(allow_nan=False, allow_infinity=False), texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
attributes = st.one_of(
    values,
    st.dictionaries(texts, values, max_size=4),
    st.dictionaries(st.sampled_from("abc"), texts, max_size=3),
)


def _fit(name: str, kind: str) -> st.SearchStrategy[Any]:
    if name == "attributes":
        return attributes
    if name in VOCABULARIES:
        return st.sampled_from(VOCABULARIES[name])
    if name in ("trace_id", "span_id", "parent_span_id"):
        digits = 32 if name == "trace_id" else 16
        return st.sampled_from(["0" * digits, "aF" * (digits // 2), "ab" * (digits // 2), "ab", "g" * digits])
    if name == "retention":
        return st.sampled_from(["standard", "short", "UPPER", "", "a\n", "x" * 33])
    return {
        "text": texts,
        "list": st.lists(st.one_of(texts, texts, texts, st.none()), max_size=3),
        "int": integers,
        "bool": st.booleans(),
        "time": times,
    }[kind]


by_field = {f.name: _fit(f.name, f.type) for f in FIELDS}


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event_id": draw(st.sampled_from(["e-1", "e-2"])),
        "kind": "decision",
        "time": "2026-11-23T10:00:00.000000Z",
        "source": "pdp",
    }
    names = draw(st.lists(st.sampled_from(sorted(by_field)), max_size=5))
    for name in names:
        event[name] = draw(by_field[name])
    odd = draw(st.integers(0, 9))
    if odd == 0:
        event[draw(st.sampled_from(["extra", "raw", "pass_word", "a_p_i_key", "unknown.extra"]))] = draw(
            values
        )
    elif odd == 1:
        event[draw(st.sampled_from(sorted(by_field)))] = draw(values)
    elif odd == 2:
        del event[draw(st.sampled_from(["event_id", "kind", "time", "source"]))]
    return event


def _written(event: Any, style: int) -> bytes:
    if style == 0:
        return json.dumps(event).encode()
    if style == 1:
        return json.dumps(event, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


HEAD = b'{"event_id":"a","kind":"task","time":"2026-11-23T10:00:00Z","source":"s"'
broken = st.sampled_from(
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b"{} {}",
        b"{}\n{}",
        b"\xff",
        b'{"event_id":"\xff"}',
        b"{}x",
        b"[{}]",
        b'{"event_id":"a","event_id":"b","kind":"task","time":"2026-11-23T10:00:00Z","source":"s"}',
        HEAD + b',"owner":null,"owner":null}',
        HEAD + b',"count":-0}',
        HEAD + b',"count":1.0}',
        HEAD + b',"count":NaN}',
        HEAD + b',"attributes":{"a":1,"a":1}}',
        HEAD + b',"attributes":{"a":1.5e3,"b":-0}}',
        HEAD + b',"attributes" : { "b" : [ ] , "a":{} } }',
        b'{"attributes":{},"event_id":"a","kind":"task","time":"2026-11-23T10:00:00Z","source":"s"}',
        b'{"attributes":{},"event_id":"a","kind":"task","time":"2026-11-23T10:00:00Z","source":"s","attributes":{}}',
        b'{"attributes":"","event_id":"a","kind":"task","time":"2026-11-23T10:00:00Z","source":"s"}',
        b'{"event_id":"\\u0041","kind":"task","time":"2026-11-23T10:00:00Z","source":"s"}',
        b'{"event_id":"a","kind":"task","time":"2026-11-23T10:00:00Z","source":"s\\u0000"}',
        b'{"event_id":"a","kind":"task","time":"2026-11-23T10:00:00Z","source":"\\ud800"}',
        HEAD + b',"reason":"attributes":{}}',
        HEAD + b',"roles":["attributes"]}',
        b'\xef\xbb\xbf{"event_id":"a"}',
        b'{"event_id":"a\x00b"}',
        b"{}\x00{}",
        b"[" * 50 + b"]" * 50,
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    shape = draw(st.integers(0, 11))
    if shape == 0:
        return draw(broken)
    if shape == 1:
        return _written(draw(st.lists(events(), max_size=3)), draw(st.integers(0, 2)))
    whole = _written(draw(events()), draw(st.integers(0, 3)))
    return whole[: draw(st.integers(0, len(whole)))] if shape == 2 else whole


def _told(decoded: Decoded) -> Any:
    decoded.events.validate(full=True)
    return (
        decoded.events.to_pylist(),
        decoded.message.tolist(),
        sorted(decoded.rejected, key=lambda v: v.message),
        sorted(decoded.ignored, key=lambda v: v.message),
    )


@QUIET
@given(st.lists(messages(), max_size=40))
def test_fast_path_equals_row_path(run: list[bytes]) -> None:
    arr = pa.array(run, pa.large_binary())
    fast = NativeAdapter().decode(arr, LIMITS, NOW)
    slow = NativeAdapter(fast=False).decode(arr, LIMITS, NOW)
    assert _told(fast) == _told(slow)


@QUIET
@given(st.lists(messages(), max_size=15))
def test_every_message_is_accounted_for_once_and_every_row_is_a_valid_event(run: list[bytes]) -> None:
    decoded = NativeAdapter().decode(pa.array(run, pa.large_binary()), LIMITS, NOW)
    told = sorted({*decoded.message.tolist()}) + [v.message for v in (*decoded.rejected, *decoded.ignored)]
    assert sorted(told) == list(range(len(run)))
    for row in decoded.events.to_pylist():
        Event(**{name: value for name, value in row.items() if value is not None and name != "erased_leaf"})


@QUIET
@given(values)
def test_what_masking_would_change_is_suspect_to_the_trigger(value: Any) -> None:
    event = {"comment": value if isinstance(value, str) else None, "attributes": value}
    text = json.dumps(event, ensure_ascii=False)
    clean, places = masking.mask_value(event)
    assert (clean != event) == bool(places)
    own_words = isinstance(value, str) and places
    if own_words:
        assert pl.Series([text]).str.contains(masking.TRIGGER)[0]
        assert re.search(masking.TRIGGER, text)


@QUIET
@given(st.dictionaries(texts, values, max_size=4), st.booleans())
def test_quick_attributes_are_canonical(value: dict[str, Any], spaced: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": ") if spaced else (",", ":")).encode()
    quick = canonical_text(text, LIMITS.nesting_depth)
    if quick is not None:
        assert quick == rfc8785.dumps(json.loads(text))


@QUIET
@given(values)
def test_strict_reading_equals_orjson_where_both_read(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    try:
        strict = strictjson.loads(text.encode())
    except strictjson.Unreadable:
        return
    assert strict == json.loads(text)
    if "\\" not in text and not re.search(r"\d{16}", text):
        assert strict == orjson.loads(text)


PLAIN = {"event_id": "e-1", "kind": "decision", "time": "2026-11-23T10:00:00.000000Z", "source": "pdp"}
POOL: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    100,
    101,
    2**53 - 1,
    2**53,
    -(2**53 - 1),
    -(2**53),
    2**63,
    10**30,
    1.0,
    0.5,
    1e20,
    "",
    "a",
    "\u00e9" * 30,
    "\u00e9" * 41,
    "x" * 40,
    "x" * 41,
    "standard",
    "short",
    "UPPER",
    "a\n",
    "1" * 33,
    "0" * 32,
    "0" * 16,
    "ab" * 16,
    "ab" * 8,
    "AB" * 16,
    "Ab" * 8,
    "g" * 32,
    "\uff11" * 16,
    "a" * 31,
    "allow",
    "read",
    "low",
    "public",
    "decision",
    "alert",
    "capability",
    "Allow",
    "2026-11-23T10:00:00Z",
    "2026-11-23T10:00:00.1Z",
    "2026-11-23T10:00:00.123456789Z",
    "2026-11-23t10:00:00z",
    "2026-11-23 10:00:00+02:00",
    "2026-11-23T10:00:00.5-23:59",
    "2026-11-23T10:00:00",
    "2026-02-30T10:00:00Z",
    "2026-11-23T24:00:00Z",
    "2026-11-23T10:00:60Z",
    "2026-11-23T10:60:00Z",
    "2026-13-23T10:00:00Z",
    "2026-11-24T12:00:00.000000Z",
    "2026-11-24T12:00:00.000001Z",
    "2026-11-24T12:00:00.0000009Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+01:00",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-01:00",
    "2026-11-23T10:00:00+24:00",
    "2026-11-23T10:00:00+02:60",
    "2026-11-23T10:00Z",
    "2026-11-23",
    "2026-11-23T10:00:00.Z",
    "2026-11-23T10:00:00+0200",
    "2026-11-23T10:00:00Z\n",
    " 2026-11-23T10:00:00Z",
    "\uff12026-11-23T10:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "2026-11-23T10-00-00Z",
    "2026/11/23T10:00:00Z",
    "2024-02-29T00:00:00Z",
    "2026-02-29T00:00:00Z",
    "1500-01-01T00:00:00Z",
    "2026-11-23T10:00:00.123456+00:00",
    "Bearer abcdef123456",
    "eyJhbGciOiJIUzI1NiJ9.e30.abc",
    "password=hunter22",
    "{}",
    "}",
    "[]",
    'say "hi"\n',
    "a/b",
    [],
    ["a"],
    ["a", None],
    [None],
    [1],
    [["a"]],
    ["x" * 41],
    ["\u00e9" * 30],
    ["a", ""],
    ["password", "b"],
    {},
    {"a": 1},
    {"a": {"b": [1, {"c": "}"}]}},
    {"b": 1, "a": 2},
    {"a": 2**53},
    {"a": -(2**53)},
    {"a": 1.5},
    {"a": 1e20},
    {"a": -0.0},
    {"token": "x"},
    {"pass-word": "x"},
    {"x": {"a_p_i_key": "y"}},
    {"\u00e9": 1},
    {"\ufb33": 1, "\U0001f600": 2},
    {"name": "p_wd", "value": "x"},
    {"key": "p_wd", "values": ["x"]},
    {"headers": ["p-w-d", "x"]},
    {"a": "x" * 189},
    {"a": "x" * 192},
    {"a": "x" * 193},
    {"a": "Bearer abcdef123456"},
    {"a": [["p_wd", "x"]]},
    {"a": None, "b": True},
    {"a": 10**15},
    {"a": "1e5"},
    {"a": 5e-324},
]


def test_every_field_with_every_odd_value_comes_out_alike_on_both_paths() -> None:
    names = [*by_field, "extra"]
    run = [
        # Compact and spaced writing by turns.
        json.dumps({**PLAIN, name: value}, ensure_ascii=False, separators=(", ", ": ") if n % 2 else None)
        if n % 3
        else json.dumps({**PLAIN, name: value}, ensure_ascii=n % 2 == 0, separators=(",", ":"))
        for name in names
        for n, value in enumerate(POOL)
    ]
    # The same oddities, each alone among good neighbours: columns of one form take other branches.
    arr = pa.array([text.encode() for text in run], pa.large_binary())
    slow = NativeAdapter(fast=False).decode(arr, LIMITS, NOW)
    fast = NativeAdapter().decode(arr, LIMITS, NOW)
    assert _told(fast) == _told(slow)
    good = json.dumps({**PLAIN, "issued_at": PLAIN["time"], "attributes": {"a": "b"}}).encode()
    for name in (
        "time",
        "issued_at",
        "trace_id",
        "session_risk",
        "count",
        "retention",
        "delegation",
        "attributes",
    ):
        for value in POOL:
            odd = json.dumps({**PLAIN, name: value}, ensure_ascii=False, separators=(",", ":")).encode()
            few = pa.array([good, odd, good], pa.large_binary())
            assert _told(NativeAdapter().decode(few, LIMITS, NOW)) == _told(
                NativeAdapter(fast=False).decode(few, LIMITS, NOW)
            )
