"""`attributes` as they were written to `attributes` as they are sealed, each distinct text once."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa

from ingest import masking
from ingest.decoded import Limits

Mask = npt.NDArray[np.bool_]

_INEXACT: Final = re.compile(
    rb"[\x00-\x1f\x7f\xee-\xff]|\\|[0-9]{16}|[:\[,]\s*-(?:0|[0-9]*[.eE])|[:\[,]\s*[0-9]+[.eE]"
)
"""What orjson might write otherwise than RFC 8785, or `rows` otherwise than it stands.

Bytes from 0xEE on begin the characters that UTF-8 and UTF-16 put in different order (section 3.2.3).
"""
_SPACES: Final = b" "


def canonical_texts(column: pa.StringArray, limits: Limits) -> tuple[pa.StringArray, Mask]:
    """The RFC 8785 texts of a column of written objects, and which of its rows are vouched for.

    Null stays null. Not vouched for is what needs masking, is too long or too deep, or takes care.
    """
    coded = column.dictionary_encode()
    suspect = pl.Series(coded.dictionary).str.contains(masking.TRIGGER).to_list()
    texts = [
        canonical_text(text.encode(), limits.nesting_depth, suspect=bool(hit))
        for text, hit in zip(coded.dictionary.to_pylist(), suspect, strict=True)
    ]
    made = pa.array(
        [None if t is None or len(t) > limits.attributes_bytes else t for t in texts], pa.binary()
    ).cast(pa.string())
    taken = made.take(coded.indices)
    if made.null_count:
        return taken, (taken.is_valid().to_numpy(zero_copy_only=False)) | _nulls(column)
    return taken, np.ones(len(column), np.bool_)


def _nulls(column: pa.Array) -> Mask:
    absent: Mask = column.is_null().to_numpy(zero_copy_only=False)
    return absent


def canonical_text(cut: bytes, depth: int, *, suspect: bool = True) -> bytes | None:
    """The RFC 8785 text of an object that needs neither masking nor care; None where it does.

    The object lies within one that may be nested `depth` deep. `suspect`: `masking.TRIGGER` matched it.
    """
    if _INEXACT.search(cut) is not None or cut.count(b"{") + cut.count(b"[") >= depth:
        return None
    try:
        value = orjson.loads(cut)
    except orjson.JSONDecodeError:
        return None
    # A duplicate key or another spelling of a value would come back shorter or otherwise.
    if not isinstance(value, dict) or not _same(orjson.dumps(value), cut) or not _innocent(value, suspect):
        return None
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _same(written: bytes, cut: bytes) -> bool:
    return written == cut or written.translate(None, _SPACES) == cut.translate(None, _SPACES)


def _innocent(value: dict[str, Any], suspect: bool) -> bool:
    """The trigger tells of texts; secrets by the name of their key take a look of their own."""
    nested = suspect
    for key, child in value.items():
        if masking.secret_key(key):
            return False
        nested = nested or isinstance(child, dict | list)
    return not (nested or "name" in value or "key" in value) or not masking.mask_value(value)[1]
