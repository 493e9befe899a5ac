"""Columns of text that repeat, joined once per distinct value instead of once per row.

A column that Parquet kept as a dictionary comes as (codes, values). Neighbouring columns of that
kind are joined over the few combinations that occur; rows then only gather a ready text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

MAX_COMBINATIONS: Final = 16_384
"""Codes of two columns together: a table of this many numbers is made for every join."""
ROWS_PER_TEXT: Final = 4
"""With fewer rows than this for each text, gathering texts saves nothing over joining rows."""

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RepeatedText:
    """One text per row, as `texts[codes[row]]`; a null's text is empty."""

    codes: Codes
    texts: pa.StringArray

    def rows(self) -> pa.StringArray:
        """The text of every row."""
        return self.texts.take(pa.array(self.codes))

    def between(self, before: str, after: str) -> RepeatedText:
        """The same with constants around every row's text, the nulls' included."""
        return RepeatedText(self.codes, pc.binary_join_element_wise(before, self.texts, after, ""))

    def followed_by(self, other: RepeatedText) -> RepeatedText | None:
        """Both texts of each row, one after the other; None where too many combinations occur."""
        width = len(other.texts)
        if len(self.texts) * width > MAX_COMBINATIONS:
            return None
        codes = self.codes * width + other.codes
        used = np.flatnonzero(np.bincount(codes, minlength=len(self.texts) * width))
        if len(used) * ROWS_PER_TEXT > max(len(codes), ROWS_PER_TEXT):
            return None
        place = np.empty(len(self.texts) * width, np.int64)
        place[used] = np.arange(len(used))
        left, right = self.texts.take(pa.array(used // width)), other.texts.take(pa.array(used % width))
        return RepeatedText(place[codes], pc.binary_join_element_wise(left, right, ""))


def repeated_codes(column: pa.DictionaryArray) -> tuple[Codes, pa.StringArray] | None:
    """The codes of a column and its values in use, the null's code being one past the last value.

    None where values are too many for its rows, or one of them is null.
    """
    values = column.dictionary
    codes = column.indices
    if values.null_count:
        return None
    numbers: Codes = pc.fill_null(codes, len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(numbers, minlength=len(values) + 1)
    used = np.flatnonzero(counts[: len(values)])
    if len(used) * ROWS_PER_TEXT > max(len(numbers), ROWS_PER_TEXT):
        return None
    if len(used) < len(values):
        place = np.full(len(values) + 1, len(used), np.int64)
        place[used] = np.arange(len(used))
        numbers, values = place[numbers], values.take(pa.array(used))
    return numbers, values
