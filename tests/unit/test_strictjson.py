from __future__ import annotations

import pytest

from ingest import strictjson
from ingest.strictjson import Unreadable


@pytest.mark.parametrize(
    ("data", "reason", "field"),
    [
        (b"\xff", "invalid UTF-8", None),
        (b'{"a":1,"a":1}', "duplicate key", "a"),
        (b'{"x":{"a":1,"a":2}}', "duplicate key", "a"),
        (b"NaN", "non-finite number", None),
        (b"[-Infinity]", "non-finite number", None),
        (b"[1e999]", "non-finite number", None),
        (b'{"a":"\\u0000"}', "NUL in text", "a"),
        (b'{"a":[{"b":"\\u0000"}]}', "NUL in text", "a"),
        (b'{"a":"\\ud800"}', "unpaired surrogate", "a"),
        (b'{"\\udfff":1}', "unpaired surrogate", None),
        (b"1" * 1_001, "integer of more than 1000 digits", None),
        (b"[" * 65 + b"]" * 65, "nested deeper than 64", None),
        (b"[" * 100_000, "nested deeper than 64", None),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64", None),
    ],
)
def test_what_has_no_single_meaning_is_refused(data: bytes, reason: str, field: str | None) -> None:
    with pytest.raises(Unreadable) as error:
        strictjson.loads(data)
    assert (error.value.reason, error.value.field) == (reason, field)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{} {}", b'{"a":01}', b'"a\nb"', b'"\x00"', b"\xef\xbb\xbf{}", b"{'a':1}"]
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable, match="not JSON"):
        strictjson.loads(data)


def test_depth_is_counted_exactly() -> None:
    assert strictjson.loads(b"[" * 64 + b"]" * 64)
    assert strictjson.loads(b'[[{"a":1}]]', 3) == [[{"a": 1}]]
    with pytest.raises(Unreadable):
        strictjson.loads(b'[[{"a":{}}]]', 3)
    assert strictjson.loads(b'["[[[[[[["]', 1) == ["[[[[[[["]


def test_big_numbers_and_surrogate_pairs_survive() -> None:
    assert strictjson.loads(b'[1795458159299392600,"\\ud83d\\ude00"]') == [1795458159299392600, "\U0001f600"]
