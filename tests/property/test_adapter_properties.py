"""Every foreign format: whatever a message holds, it gives events or a reason, and no secret gets through."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import masking, strictjson
from ingest.adapters import adapter
from ingest.adapters.json_values import canonical_text
from ingest.decoded import Decoded, Limits
from ingest.defaults import FORMATS
from ingest.secret_scan import suspects
from tests.foreign_shapes import SHAPES, SIGNED

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SECRET = "hunter2-of-the-tests"
BEARER = f"Bearer {SECRET}"
FOREIGN = [name for name in FORMATS if name not in {"native", *SIGNED}]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=30),
    st.sampled_from(["", "EFFECT_ALLOW", "2026-11-23T18:20:20Z", "\x00", "\ud800", "user:x"]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def decode(format_: str, messages: list[bytes]) -> Decoded:
    return adapter(format_).decode(pa.array(messages, pa.large_binary()), Limits(), NOW)


def accounted(found: Decoded, count: int) -> None:
    """Each message has events, or one verdict."""
    places = [
        {*found.message.tolist()}, {one.message for one in found.rejected},
        {one.message for one in found.ignored},
    ]  # fmt: skip
    assert sorted(place for own in places for place in own) == list(range(count))
    assert all(one.reason for one in (*found.rejected, *found.ignored))


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [at, *(path for key, child in children for path in paths_of(child, (*at, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


def test_every_foreign_format_has_a_shape() -> None:
    assert {*SHAPES} == {*FOREIGN}
    for name, shape in SHAPES.items():
        found = decode(name, [json.dumps(shape).encode()])
        assert not found.rejected, name
        assert len(found.events), name


@pytest.mark.parametrize("format_", FOREIGN)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_message_that_is_changed_anywhere_is_accounted_for(format_: str, data: st.DataObject) -> None:
    shape = SHAPES[format_]
    messages = []
    for _ in range(3):
        changed = shape
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(paths_of(changed)))
            changed = put(changed, path, data.draw(VALUES))
        messages.append(json.dumps(changed, ensure_ascii=True).encode("utf-8", "surrogatepass"))
    messages.append(data.draw(st.binary(max_size=60)))
    found = decode(format_, messages)
    accounted(found, len(messages))
    assert found.events.equals(decode(format_, messages).events)


@pytest.mark.parametrize("format_", FOREIGN)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_secret_in_any_place_gets_nowhere(format_: str, data: st.DataObject) -> None:
    shape = SHAPES[format_]
    objects = [path for path in paths_of(shape) if isinstance(_at(shape, path), dict)]
    path = data.draw(st.sampled_from(objects))
    name, value = data.draw(st.sampled_from([
        ("password", SECRET), ("Authorization", BEARER), ("client_secret", SECRET), ("note", BEARER),
        ("session_token", {"value": SECRET}), ("apiKey", [SECRET]),
    ]))  # fmt: skip
    changed = put(shape, path, {**_at(shape, path), name: value})
    found = decode(format_, [json.dumps(changed).encode()])
    accounted(found, 1)
    assert SECRET not in repr(found.events.to_pylist())
    assert SECRET not in repr(found.rejected)
    # What a decision does not need is not kept at all.
    kept = [one for one in found.events.to_pylist() if f'"{name}"' in (one["raw"] or "")]
    assert all(one["masked"] for one in kept)


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_the_quick_canonical_text_is_that_of_rfc_8785(data: st.DataObject) -> None:
    """Of whatever was read; integers that RFC 8785 cannot state keep their digits."""
    value = data.draw(VALUES)
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    try:
        read = strictjson.loads(text.encode("utf-8", "surrogatepass"))
    except strictjson.Unreadable:
        return
    try:
        expected = rfc8785.dumps(read)
    except rfc8785.IntegerDomainError:
        # As floats: of 4.067994225334834e16 the shortest digits are those of another integer.
        again, before = canonical_text(read), json.dumps(read)
        assert json.loads(again, parse_int=float) == json.loads(before, parse_int=float)
        return
    assert strictjson.canonical(read) == expected
    assert canonical_text(read).encode() == expected


@pytest.mark.parametrize("value", [
    {"\ue000": 1, "\U00010000": 2}, {"b": 1.0, "a": 1e21}, {"x": -0.0}, {"z": 1e16, "a": [0.1, 5e-324]},
    "\x7f\x1f/",
])  # fmt: skip
def test_numbers_and_orders_that_others_write_otherwise(value: Any) -> None:
    read = strictjson.loads(json.dumps(value).encode())
    assert strictjson.canonical(read) == rfc8785.dumps(value)


@given(st.lists(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_what_is_no_suspect_holds_no_secret(messages: list[bytes]) -> None:
    found = suspects(pa.array([*messages, b'{"token": "x"}', b"\xff"], pa.large_binary()))
    assert found[-2:] == [True, True]
    for message, suspect in zip(messages, found, strict=False):
        assert suspect or masking.mask_payload(message) == message
