"""What stands between the texts of a flat JSON object: one code for each gap, by the grammar.

A gap is what lies between one text (key, value or list item) and the next of the same message, or
its end: `:`, `,`, `:[`, `],`, `:12,`, `:null}`. Texts and gaps alternate, so a message is an object
of ours exactly when each gap begins in the state that the one before it ended in. A code holds both
states and the kind of value that a key has by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

KEY, VALUE, ITEM, OBJECT, DONE = range(1, 6)
"""States: what the text before a gap is. `OBJECT`: it lies in an object that is parsed apart."""
_STATE_BITS: Final = 3
_STATE_MASK: Final = np.uint16((1 << _STATE_BITS) - 1)
_KIND_SHIFT: Final = np.uint16(2 * _STATE_BITS)

(TEXT, LIST, NULL, TRUE, FALSE, NUMBER, EMPTY_LIST, EMPTY_OBJECT, CUT_OBJECT, OTHER) = range(1, 11)
"""Kinds: what a key has for its value; `OTHER` where the gap does not follow a key."""
KINDS: Final = 11


def _code(kind: int, begins: int, ends: int) -> int:
    return kind << 2 * _STATE_BITS | ends << _STATE_BITS | begins


BAD: Final = 0
"""Begins in no state, so it never fits."""
COLON: Final = _code(TEXT, KEY, VALUE)
COMMA: Final = _code(OTHER, VALUE, KEY)
LAST: Final = _code(OTHER, VALUE, DONE)
OPEN_LIST: Final = _code(LIST, KEY, ITEM)
ITEM_COMMA: Final = _code(OTHER, ITEM, ITEM)
CLOSE_LIST: Final = _code(OTHER, ITEM, KEY)
CLOSE_LIST_LAST: Final = _code(OTHER, ITEM, DONE)
OPEN_OBJECT: Final = _code(CUT_OBJECT, KEY, OBJECT)
INSIDE: Final = _code(OTHER, OBJECT, OBJECT)
CLOSE_OBJECT: Final = _code(OTHER, OBJECT, KEY)
CLOSE_OBJECT_LAST: Final = _code(OTHER, OBJECT, DONE)

Codes = npt.NDArray[np.uint16]


def begins(code: Codes) -> Codes:
    """The state that each gap begins in."""
    return code & _STATE_MASK


def ends(code: Codes) -> Codes:
    """The state that each gap ends in."""
    return (code >> np.uint16(_STATE_BITS)) & _STATE_MASK


def kinds(code: Codes) -> Codes:
    """The kind of each gap."""
    return code >> _KIND_SHIFT


_FORMS: Final = {
    r":": COLON, r",": COMMA, r"\}": LAST,
    r": *\[": OPEN_LIST, r"\] *,": CLOSE_LIST, r"\] *\}": CLOSE_LIST_LAST, r": *\{": OPEN_OBJECT,
    **{
        rf": *{value} *{end}": _code(kind, KEY, state)
        for value, kind in (
            ("null", NULL), ("true", TRUE), ("false", FALSE),
            (r"\[ *\]", EMPTY_LIST), (r"\{ *\}", EMPTY_OBJECT),
        )
        for end, state in ((",", KEY), (r"\}", DONE))
    },
}  # fmt: skip
_BEHIND_TEXT: Final = [(re.compile(f" *(?:{form}) *".encode()), code) for form, code in _FORMS.items()]
_BEHIND_NUMBER: Final = {b",": _code(NUMBER, KEY, KEY), b"}": _code(NUMBER, KEY, DONE)}
DEEPEST_CLOSE: Final = 4
"""Braces of one gap that are looked at for the one that closes an object; more are left to the row path."""
_REMEMBERED: Final = 4_096
LONGEST_FORM: Final = 64
"""Bytes; longer gaps have no code: they hold numbers, or many spaces."""


@dataclass(frozen=True, slots=True)
class Form:
    """What one gap text means. `behind_number`: where it is the rest of a gap, after an integer.

    `net` is how many braces it opens more than it closes, `lowest` the least of that on the way.
    `rest[k]` and `rest_code[k]`: bytes behind the brace that first closes k + 1 levels, and what they
    mean there; -1 and BAD where there is none.
    """

    behind_text: int
    behind_number: int
    net: int
    lowest: int
    rest: tuple[int, ...]
    rest_code: tuple[int, ...]


@lru_cache(maxsize=_REMEMBERED)
def form(text: bytes) -> Form:
    """The meaning of a gap of at most `LONGEST_FORM` bytes, or of its part behind an integer."""
    return _form(text)


def _form(text: bytes) -> Form:
    behind_text = BAD
    if len(text) <= LONGEST_FORM:
        behind_text = next((code for shape, code in _BEHIND_TEXT if shape.fullmatch(text)), BAD)
    behind_number = _BEHIND_NUMBER.get(text.strip(b" "), BAD)
    level = lowest = 0
    rest, rest_code = [-1] * DEEPEST_CLOSE, [BAD] * DEEPEST_CLOSE
    for at, sign in enumerate(text):
        if sign == ord("{"):
            level += 1
        elif sign == ord("}"):
            level -= 1
            if level < lowest:
                lowest = level
                if -level <= DEEPEST_CLOSE:
                    behind = text[at + 1 :]
                    rest[-level - 1] = len(behind)
                    rest_code[-level - 1] = {b",": CLOSE_OBJECT, b"}": CLOSE_OBJECT_LAST}.get(
                        behind.strip(b" "), BAD
                    )
    return Form(behind_text, behind_number, level, lowest, tuple(rest), tuple(rest_code))


@dataclass(slots=True)
class Forms:
    """The `Form` of many gaps, by column. `which` is each gap's row of `rest` and `rest_code`."""

    code: Codes
    net: npt.NDArray[np.int64]
    lowest: npt.NDArray[np.int64]
    which: npt.NDArray[np.int32]
    rest: npt.NDArray[np.int64]
    rest_code: Codes


def forms(texts: pa.BinaryArray, behind_number: npt.NDArray[np.bool_]) -> Forms:
    """The forms of `texts`, each distinct one read once; `behind_number` as in `Form`."""
    coded = texts.dictionary_encode()
    known = [form(t) if len(t) <= LONGEST_FORM else _form(t) for t in coded.dictionary.to_pylist()]
    which = coded.indices.to_numpy()
    table = np.array(
        [(f.behind_text, f.behind_number, f.net, f.lowest, *f.rest, *f.rest_code) for f in known], np.int64
    ).reshape(-1, 4 + 2 * DEEPEST_CLOSE)
    both = table[:, :2].astype(np.uint16).ravel()
    return Forms(
        both[2 * which + behind_number],
        table[:, 2][which],
        table[:, 3][which],
        which,
        table[:, 4 : 4 + DEEPEST_CLOSE],
        table[:, 4 + DEEPEST_CLOSE :].astype(np.uint16),
    )
