"""Random numbers in events that may be erased: the hash that stays of one must not be guessed back."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ledger.events import ARROW_SCHEMA
from ledger.sealing.batch import Stretch

NONCE_BYTES: Final = 16
_FIELD: Final = ARROW_SCHEMA.field("nonce")
_AT: Final = ARROW_SCHEMA.get_field_index("nonce")


def with_nonces(stretches: Sequence[Stretch], erasable: Collection[str]) -> list[Stretch]:
    """The stretches, with a nonce of 128 random bits in every event of a class in `erasable`."""
    if not erasable:
        return list(stretches)
    classes = pa.array(sorted(erasable), pa.string())
    return [_with_nonces(stretch, classes) for stretch in stretches]


def _with_nonces(stretch: Stretch, classes: pa.Array) -> Stretch:
    wanted = pc.is_in(stretch.events["retention"], value_set=classes)
    if not pc.any(wanted).as_py():
        return stretch
    text = secrets.token_bytes(NONCE_BYTES * len(stretch.events)).hex()
    width = 2 * NONCE_BYTES
    made = pa.array([text[at : at + width] for at in range(0, len(text), width)], pa.string())
    nonces = pc.if_else(wanted, made, pa.scalar(None, pa.string()))
    return replace(stretch, events=stretch.events.set_column(_AT, _FIELD, nonces), leaves=None)
