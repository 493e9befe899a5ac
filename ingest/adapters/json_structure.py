"""What each gap of many flat JSON messages means, and which messages are objects of our shape.

A message is fit when its gaps, read in order, lead from its first key to its end: keys with a text, a
list of texts, an integer, true, false, null or an object as value, and nothing else. What an object
holds is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.adapters import json_gaps as gaps
from ingest.adapters.json_tokens import Bytes, Mask, Positions, Tokens, slices

MAX_DIGITS: Final = 17
"""Integers of more digits are left to the row path; 2^53 has 16."""
MAX_OBJECT_GAPS: Final = 256
"""Gaps with more than a sign in one object; with more, the message is left to the row path."""
_COLON, _COMMA, _SPACE, _MINUS, _ZERO, _TEN, _BRACE = 58, 44, 32, 45, 48, 10, 123


@dataclass(slots=True)
class Structure:
    """`code` is the meaning of each text's gap, `begins` what it makes of the text: key, value or item.

    `integer[k]` is the value of the key `integer_key[k]`. The object of key `object_key[k]` is
    `data[object_begin[k]:object_end[k]]`, braces and all. `list_last[k]` is the last item of the list
    of key `list_key[k]`; the first is the text behind the key. All keys are texts, ascending.
    """

    code: gaps.Codes
    begins: gaps.Codes
    integer_key: Positions
    integer: Positions
    object_key: Positions
    object_begin: Positions
    object_end: Positions
    list_key: Positions
    list_last: Positions


def structure(tokens: Tokens, fit: Mask) -> Structure:
    """Reads the gaps; messages that are no objects of our shape are struck from `fit`."""
    gap = tokens.end + 1
    length = tokens.stop - gap
    head = tokens.data[gap]
    single = length == 1
    double = np.flatnonzero(length == 2)
    single[double] = tokens.data[gap[double] + 1] == _SPACE
    code = ((head == _COLON) & single).astype(np.uint16) * np.uint16(gaps.COLON)
    code |= ((head == _COMMA) & single).astype(np.uint16) * np.uint16(gaps.COMMA)
    odd = np.flatnonzero(code == gaps.BAD)
    integer, behind, is_integer = _integers(tokens.data, gap[odd], head[odd])
    texts = slices(tokens.data, behind, tokens.stop[odd], pa.binary())
    forms = gaps.forms(texts.take(pa.array(np.arange(0, 2 * len(odd), 2))), is_integer)
    code[odd] = forms.code
    objects = _objects(tokens, odd, forms, code)
    lists = _lists(odd, code)
    begins, bad = _judged(tokens, code)
    if len(bad):
        fit[tokens.message_of(bad)] = False
    wanted = gaps.kinds(code[odd]) == gaps.NUMBER
    return Structure(code, begins, odd[wanted], integer[wanted], *objects, *lists)


def _judged(tokens: Tokens, code: gaps.Codes) -> tuple[gaps.Codes, Positions]:
    """The state that each gap begins in, and the gaps that no message of our shape has there."""
    begins, ends = gaps.begins(code), gaps.ends(code)
    before = np.empty_like(ends)
    before[1:] = ends[:-1]
    some = np.flatnonzero(np.diff(tokens.first))
    before[tokens.first[some]] = gaps.KEY
    last = tokens.first[some + 1] - 1
    return begins, np.concatenate([np.flatnonzero(before != begins), last[ends[last] != gaps.DONE]])


def _integers(data: Bytes, gap: Positions, head: Bytes) -> tuple[Positions, Positions, Mask]:
    """The integers that follow a colon, where each gap goes on behind its integer, and which have one.

    Only as JSON and Python both write them: no leading zero, no minus zero.
    """
    at = gap + 1
    at += data[at] == _SPACE
    at += data[at] == _MINUS
    which = np.flatnonzero((data[at] - np.uint8(_ZERO) < _TEN) & (head == _COLON))
    first = at[which]
    end, digits = first.copy(), np.zeros(len(first), np.int64)
    for _ in range(MAX_DIGITS):
        digit = data[end] - np.uint8(_ZERO)
        more = digit < _TEN
        if not more.any():
            break
        digits = np.where(more, digits * 10 + digit, digits)
        end += more
    negative = data[first - 1] == _MINUS
    short = (data[first] != _ZERO) | ((end - first == 1) & ~negative)
    short &= data[end] - np.uint8(_ZERO) >= _TEN
    value, behind = np.zeros(len(gap), np.int64), gap.copy()
    fits = np.zeros(len(gap), np.bool_)
    which = which[short]
    value[which] = np.where(negative, -digits, digits)[short]
    behind[which] = end[short]
    fits[which] = True
    return value, behind, fits


def _objects(
    tokens: Tokens, odd: Positions, forms: gaps.Forms, code: Bytes
) -> tuple[Positions, Positions, Positions]:
    """Objects that are a key's value: their keys, begins and ends. What they hold is set `INSIDE`.

    Depth is counted over the gaps that hold more than a sign: only they have braces.
    """
    depth = np.cumsum(forms.net)
    opening = np.flatnonzero(forms.code == gaps.OPEN_OBJECT)
    ends_at = tokens.first[tokens.message_of(odd[opening]) + 1]
    closing = opening.copy()
    level = np.zeros(len(opening), np.int64)
    live = np.arange(len(opening))
    for step in range(1, MAX_OBJECT_GAPS + 1):
        at = opening[live] + step
        live = live[(at < len(odd)) & (odd[np.minimum(at, len(odd) - 1)] < ends_at[live])]
        if not len(live):
            break
        at = opening[live] + step
        closes = depth[at - 1] + forms.lowest[at] < depth[opening[live]]
        found = live[closes]
        closing[found] = at[closes]
        level[found] = depth[at[closes] - 1] - depth[opening[found]]
        live = live[~closes]
    closed = np.flatnonzero((closing > opening) & (level < gaps.DEEPEST_CLOSE))
    # An object within an object is the outer one's matter.
    before = np.concatenate([[-1], np.maximum.accumulate(closing[closed])[:-1]]) if len(closed) else closed
    kept = closed[opening[closed] > before]
    key, last = odd[opening[kept]], odd[closing[kept]]
    inside = last - key - 1
    code[ranges(key + 1, inside)] = gaps.INSIDE
    form = forms.which[closing[kept]]
    code[last] = forms.rest_code[form, level[kept]]
    begin = tokens.end[key] + 1
    while (short := tokens.data[begin] != _BRACE).any():
        begin += short
    return key, begin, tokens.stop[last] - forms.rest[form, level[kept]]


def _lists(odd: Positions, code: gaps.Codes) -> tuple[Positions, Positions]:
    """Keys of lists, and the last item of each. Commas between their items are set `ITEM_COMMA`."""
    here = code[odd]
    closes = (here == gaps.CLOSE_LIST) | (here == gaps.CLOSE_LIST_LAST)
    opening = np.flatnonzero((here[:-1] == gaps.OPEN_LIST) & closes[1:])
    key, last = odd[opening], odd[opening + 1]
    longer = np.flatnonzero(last - key > 1)
    between = ranges(key[longer] + 1, last[longer] - key[longer] - 1)
    code[between[code[between] == gaps.COMMA]] = gaps.ITEM_COMMA
    return key, last


def ranges(begin: npt.NDArray[np.signedinteger[Any]], count: Positions) -> Positions:
    """All numbers of the ranges [begin, begin + count), one after the other."""
    total = int(count.sum())
    before = np.cumsum(count) - count
    return np.repeat(begin - before, count) + np.arange(total)
