"""Small chunks of a topic are decoded together, and nothing of them is lost or moved."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.chunk import Chunk
from ingest.sources.kafka import joined_chunks
from ingest.sources.kafka.joined_chunks import joined
from ledger.format.manifest import OffsetKey

KEYS = [OffsetKey("topic", number, "A" * 22, "cluster") for number in range(3)]


def chunk(key: OffsetKey, start: int, fates: list[str], *, headers: bool = False) -> Chunk:
    """From `start` on one offset for each fate: there, long, skipped or lost."""
    there = [start + at for at, fate in enumerate(fates) if fate in ("there", "long")]
    long = [place for place, offset in enumerate(there) if fates[offset - start] == "long"]
    ranges = {
        name: [(start + at, start + at + 1) for at, fate in enumerate(fates) if fate == name]
        for name in ("skipped", "lost")
    }
    values = pa.array([b"%d of %d" % (offset, key.partition) for offset in there], pa.large_binary())
    return Chunk(
        key, start, start + len(fates), np.array(there, np.int64), values,
        skipped=ranges["skipped"], lost=ranges["lost"],
        truncated={place: 1_000 + there[place] for place in long},
        headers=[{"at": str(offset)} for offset in there] if headers else None,
    )  # fmt: skip


def said(chunks: list[Chunk]) -> dict[OffsetKey, list[object]]:
    """All that chunks say of each key, offset by offset."""
    found: dict[OffsetKey, list[object]] = {}
    for one in chunks:
        assert len(one.offsets) == len(one.values) == len(one.headers or one.values)
        messages = zip(one.offsets.tolist(), one.values.to_pylist(), strict=True)
        found.setdefault(one.key, []).extend(
            [
                (offset, value, one.truncated.get(at), dict(one.headers[at]) if one.headers else {})
                for at, (offset, value) in enumerate(messages)
            ]
        )
        found[one.key].extend(("skipped", *edge) for edge in one.skipped)
        found[one.key].extend(("lost", *edge) for edge in one.lost)
    return {key: sorted(parts, key=str) for key, parts in found.items()}


PIECES = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.lists(st.sampled_from(["there", "there", "long", "skipped", "lost"]), max_size=6),
        st.booleans(),
        st.sampled_from([0, 0, 0, 5]),
    ),
    max_size=20,
)


@given(pieces=PIECES, limit=st.sampled_from([1, 40, 1 << 20]))
def test_joined_chunks_say_what_the_small_ones_said(
    pieces: list[tuple[OffsetKey, list[str], bool, int]], limit: int
) -> None:
    ends: dict[OffsetKey, int] = {}
    chunks = []
    for key, fates, headers, gap in pieces:
        start = ends.get(key, 0) + gap
        chunks.append(chunk(key, start, fates, headers=headers))
        ends[key] = start + len(fates)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joined_chunks, "GROUP_BYTES", limit)
        fewer = joined(chunks)
    assert said(fewer) == said(chunks)
    for key in KEYS:
        before, after = ([one for one in some if one.key == key] for some in (chunks, fewer))
        # In order, from where the first began, cut nowhere but where the small ones were cut.
        assert [one.start for one in after] == sorted(one.start for one in after)
        assert {one.start for one in after} <= {one.start for one in before}
        assert {one.end for one in after} <= {one.end for one in before}
        for one, following in pairwise(after):
            size = one.values.nbytes + following.values.nbytes
            assert one.end != following.start or size > limit


def test_a_chunk_that_is_large_already_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_chunks, "GROUP_BYTES", 1)
    large = [chunk(KEYS[0], 10 * n, ["there"] * 10) for n in range(3)]
    assert all(one is other for one, other in zip(joined(large), large, strict=True))
