"""Reading JSON without guessing: what two readers could understand differently is refused.

RFC 8259 leaves duplicate keys, lone surrogates and huge numbers to the reader; RFC 7493 (I-JSON)
names them as what breaks interoperability. A sealed event must mean one thing, so duplicate keys,
non-finite numbers, unpaired surrogates, NUL and deep nesting are errors here, each with its place.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import orjson
import rfc8785

from ledger.errors import UsageError

MAX_INTEGER_DIGITS: Final = 1_000
"""Digits of one integer; longer ones cost quadratic time to read."""
MAX_POINTER_CHARS: Final = 256
"""How much of a place is told: keys are foreign text."""
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_OTHER_ORDER: Final = re.compile(rb"[\xee-\xff]")
"""Begins characters that UTF-8 and UTF-16 put in different order (RFC 8785, section 3.2.3)."""
_NUL_ESCAPE: Final = "\\u0000"


class Unreadable(UsageError):
    """The text is not JSON that has one meaning. `field` is the top-level key where it is known."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class _Duplicate(ValueError):
    pass


class _TooLong(ValueError):
    pass


class _NotFinite(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Duplicate(key)
            seen.add(key)
    return made


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise _TooLong
    return int(digits)


class Real(float):
    """A number that was written with a fraction or an exponent.

    Told apart from `float` so that orjson, whose spelling of such numbers is not that of RFC 8785, refuses
    it instead of writing it.
    """

    __slots__ = ()


def _number(text: str) -> Real:
    value = Real(text)
    if not math.isfinite(value):
        raise _NotFinite
    return value


def _constant(name: str) -> Any:
    raise _NotFinite


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)


def pointer_token(key: str) -> str:
    """One reference token of a JSON pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def loads(data: bytes, depth: int = 64) -> Any:
    """The value that `data` (UTF-8) states, nested at most `depth` arrays and objects deep.

    Raises:
        Unreadable: it states none, or more than one.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Unreadable("invalid UTF-8") from None
    return loads_text(text, depth)


def loads_text(text: str, depth: int = 64) -> Any:
    """As `loads`, of text."""
    try:
        value = _DECODER.decode(text)
    except _Duplicate as error:
        raise Unreadable("duplicate key", str(error)) from None
    except _NotFinite:
        raise Unreadable("non-finite number") from None
    except _TooLong:
        raise Unreadable(f"integer of more than {MAX_INTEGER_DIGITS} digits") from None
    except RecursionError:
        raise Unreadable(f"nested deeper than {depth}") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error.msg} at character {error.pos}") from None
    brackets = text.count("[") + text.count("{")
    if brackets > depth and isinstance(value, dict | list) and _too_deep(value, depth):
        raise Unreadable(f"nested deeper than {depth}")
    if _NUL_ESCAPE in text or _SURROGATE_ESCAPE.search(text):
        refuse_text(value)
    return value


def canonical(value: Any) -> bytes:
    """The RFC 8785 text of a value that `loads` gave; of integers up to 64 bits the digits.

    Raises:
        rfc8785.CanonicalizationError, ValueError: it cannot be stated so.
    """
    try:
        written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return rfc8785.dumps(value)
    if written.isascii() or _OTHER_ORDER.search(written) is None:
        return written
    return rfc8785.dumps(value)


def _too_deep(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def text_fault(text: str) -> str | None:
    """Why `text` cannot be sealed: it holds NUL or half of a surrogate pair. None where it can."""
    if "\0" in text:
        return "NUL in text"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "unpaired surrogate"
    return None


def refuse_text(value: Any) -> None:
    """Raise `Unreadable` where any key or text in `value` holds NUL or an unpaired surrogate."""
    top: list[tuple[str | None, Any]] = [(None, value)]
    first = True
    while top:
        field, item = top.pop()
        if isinstance(item, str):
            fault = text_fault(item)
            if fault is not None:
                raise Unreadable(fault, field)
        elif isinstance(item, dict):
            for key, child in item.items():
                fault = text_fault(key)
                if fault is not None:
                    raise Unreadable(fault, field)
                top.append((key if first else field, child))
        elif isinstance(item, list):
            top.extend((field, child) for child in item)
        first = False
