"""Which texts of a column `masking` would change, by looking at each distinct one once.

Three sieves, each finer and dearer than the one before: the letters of the whole column, its distinct
values by `masking.TRIGGER`, and those that are left by `masking.mask_text` itself. The answer is
the last one's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ingest import masking

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_FIRST, _LETTERS, _ASCII, _AT = ord("g"), 20, 128, ord("@")


def suspects(messages: pa.LargeBinaryArray) -> list[bool]:
    """Of each message whether it may hold a secret; of one that is no UTF-8 nobody knows."""
    try:
        texts = pl.Series(messages.cast(pa.large_string()))
    except pa.ArrowInvalid:
        texts = pl.Series([_read(message) for message in messages.to_pylist()], dtype=pl.String)
    found: list[bool] = texts.str.contains(masking.TRIGGER).fill_null(True).to_list()
    return found


def _read(message: bytes) -> str | None:
    try:
        return message.decode()
    except UnicodeDecodeError:
        return None


def harmless(data: Bytes) -> bool:
    """Whether no text made of these bytes can hold a secret: hex digits, times, numbers.

    What `masking.TRIGGER` matches has a letter from g to z, one beyond ASCII that folds to such a
    letter, or an `@`.
    """
    late = ((data | 32) - np.uint8(_FIRST)) < _LETTERS
    return not (late.any() or (data >= _ASCII).any() or (data == _AT).any())


def with_secrets(column: pa.StringArray, data: Bytes) -> Mask | None:
    """Which values of `column` hold secrets; None where none does.

    `data` is what its values are made of, end to end. Texts are judged as they are: none of them came
    with a backslash.
    """
    if harmless(data):
        return None
    distinct = pl.Series(pc.unique(column).drop_null())
    suspects = distinct.filter(distinct.str.contains(masking.TRIGGER)).to_list()
    secrets = [text for text in suspects if masking.mask_text(text) != text]
    if not secrets:
        return None
    found: Mask = pc.is_in(column, value_set=pa.array(secrets, column.type)).to_numpy(zero_copy_only=False)
    return found
