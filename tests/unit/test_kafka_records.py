"""Record batches decoded in groups: equal to the client library's own reading, bounded, damage found."""

from __future__ import annotations

import collections
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition

from ingest.sources.kafka import records as kafka_records
from ingest.sources.kafka.codecs import decompress
from ingest.sources.kafka.records import HEADER, Group, GroupedRecords

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
Record = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def batch(base: int, records: list[Record], codec: int = 0) -> bytes:
    """A batch as a broker stores it: built by the client library, then given its base offset."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=codec, batch_size=1 << 30)
    for number, key, value, headers in records:
        builder.skip(number - builder.next_offset())
        assert builder.append(1_700_000_000_000 + number, key, value, headers) is not None
    builder.close()
    data = bytearray(builder.buffer())
    struct.pack_into(">q", data, 0, base)
    return bytes(data)


def simple(base: int, values: list[bytes], codec: int = 0) -> bytes:
    return batch(base, [(number, None, value, []) for number, value in enumerate(values)], codec)


def read(
    data: bytes, fetch_offset: int = 0, kind: type[Any] = GroupedRecords, aborted: list[Any] | None = None
) -> tuple[list[Any], int]:
    reader = kind(
        fetch_offset,
        TopicPartition("t", 0),
        MemoryRecords(data),
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=aborted,
    )
    taken = reader.take()
    return taken, reader.next_fetch_offset


def flat(groups: list[Group]) -> list[tuple[int, bytes]]:
    return [
        (int(offset), value.as_py())
        for group in groups
        for offset, value in zip(group.offsets, group.values, strict=True)
    ]


records = st.lists(
    st.tuples(
        st.integers(1, 300),
        st.none() | st.binary(max_size=200),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@given(st.lists(records, max_size=4), st.sampled_from(sorted(CODECS.values())), st.integers(0, 500))
def test_equal_to_the_reading_of_the_client_library(
    batches: list[list[Record]], codec: int, fetch_offset: int
) -> None:
    data, base = b"", 0
    for steps in batches:
        number, made = -1, []
        for step, key, value, headers in steps:
            number += step
            made.append((number, key, value, headers))
        data += batch(base, made, codec)
        base += number + 1
    groups, position = read(data, fetch_offset)
    expected, expected_position = read(data, fetch_offset, Fetcher.PartitionRecords)
    assert flat(groups) == [(one.offset, one.value or b"") for one in expected]
    assert position == max(expected_position, fetch_offset if not batches else 0)


class WithHeaders(GroupedRecords):
    wanted_headers = ("content-type", "ce_*")


named = st.sampled_from(["content-type", "Ce_Id", "ce_", "other", "", "ce"])


@given(
    st.lists(
        st.tuples(
            st.none() | st.binary(max_size=9),
            st.none() | st.binary(max_size=40),
            st.lists(st.tuples(named, st.none() | st.binary(max_size=200)), max_size=4),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 3),
)
def test_headers_are_those_that_the_client_library_reads(
    made: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]], fetch_offset: int
) -> None:
    data = batch(0, [(number, *one) for number, one in enumerate(made)])
    groups, _ = read(data, fetch_offset, WithHeaders)
    found = [one for group in groups for one in group.headers or []]
    expected, _ = read(data, fetch_offset, Fetcher.PartitionRecords)
    assert found == [
        {
            name.lower(): value.decode("utf-8", "replace")
            for name, value in one.headers
            if value is not None and (name == "content-type" or name.lower().startswith("ce_"))
        }
        for one in expected
    ]
    assert flat(groups) == [(one.offset, one.value or b"") for one in expected]


def test_headers_beyond_their_bound_are_left_out_and_lengths_never_lead_outside() -> None:
    long = batch(0, [(0, None, b"v", [("ce_a", b"x" * 70_000), ("ce_b", b"y")])])
    (group,), _ = read(long, 0, WithHeaders)
    assert group.headers == [{"ce_b": "y"}]
    data = bytearray(batch(0, [(0, None, b"v", [("ce_a", b"xyz")])]))
    place = data.index(b"ce_a")
    for at, value in ((place - 1, 126), (place + 4, 126), (place - 2, 126), (place - 1, 0x81)):
        changed = bytearray(data)
        changed[at] = value
        struct.pack_into(">I", changed, 17, calc_crc32c(memoryview(changed)[21:]))
        with pytest.raises(CorruptRecordError, match="header"):
            read(bytes(changed), 0, WithHeaders)


def test_a_cut_response_gives_what_is_whole() -> None:
    first, second = simple(0, [b"a", b"b"]), simple(2, [b"c"])
    groups, position = read(first + second[:-1])
    assert flat(groups) == [(0, b"a"), (1, b"b")]
    assert position == 2


def test_groups_end_at_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_records, "GROUP_BYTES", 100)
    groups, _ = read(b"".join(simple(number, [b"x" * 60]) for number in range(6)))
    assert [len(one.values) for one in groups] == [2, 2, 2]
    assert [one.offset for one in groups] == [1, 3, 5]


def test_a_small_rest_joins_the_last_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_records, "GROUP_BYTES", 400)
    sizes = [250, 250, 250, 250, 1]
    groups, _ = read(b"".join(simple(number, [b"x" * size]) for number, size in enumerate(sizes)))
    assert [len(one.values) for one in groups] == [2, 3]
    assert [one.offset for one in groups] == [1, 4]


@pytest.mark.parametrize("at", [21, 40, 61, 70, -1])
def test_a_changed_byte_is_found(at: int) -> None:
    data = bytearray(simple(0, [b"value"] * 3))
    data[at] ^= 1
    with pytest.raises(CorruptRecordError, match="checksum"):
        read(bytes(data))


@given(st.data())
def test_sizes_that_lie_never_lead_outside_the_batch(drawn: st.DataObject) -> None:
    data = bytearray(batch(0, [(number, b"key", b"value", [("h", b"v")]) for number in range(3)]))
    for _ in range(drawn.draw(st.integers(1, 12))):
        data[drawn.draw(st.integers(HEADER.size, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    struct.pack_into(">I", data, 17, calc_crc32c(memoryview(data)[21:]))
    try:
        groups, _ = read(bytes(data))
    except CorruptRecordError:
        return
    for group in groups:
        group.values.validate(full=True)
    assert sum(len(value) for _, value in flat(groups)) <= len(data)


def test_a_size_of_63_bits_is_damage() -> None:
    # Length 14, no attributes, no timestamp, first offset, no key, then a value of 2**63 - 1 bytes.
    record = bytes([28, 0, 0, 0, 1]) + b"\xfe" + b"\xff" * 8 + b"\x01"
    data = bytearray(simple(0, [b""]))[: HEADER.size] + record
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">I", data, 17, calc_crc32c(memoryview(data)[21:]))
    with pytest.raises(CorruptRecordError):
        read(bytes(data))


def test_an_old_format_is_named() -> None:
    data = bytearray(simple(0, [b"a"]))
    data[16] = 1
    with pytest.raises(CorruptRecordError, match="format 1"):
        read(bytes(data))


def marked(base: int, values: list[bytes], producer: int, attributes: int) -> bytes:
    data = bytearray(simple(base, values))
    header = list(HEADER.unpack_from(data))
    header[5] |= attributes
    header[9] = producer
    HEADER.pack_into(data, 0, *header)
    struct.pack_into(">I", data, 17, calc_crc32c(memoryview(data)[21:]))
    return bytes(data)


def marker(base: int, producer: int, kind: int) -> bytes:
    data = bytearray(batch(base, [(0, struct.pack(">hh", 0, kind), b"\0" * 6, [])]))
    header = list(HEADER.unpack_from(data))
    header[5] |= 0x30
    header[9] = producer
    HEADER.pack_into(data, 0, *header)
    struct.pack_into(">I", data, 17, calc_crc32c(memoryview(data)[21:]))
    return bytes(data)


def test_aborted_batches_and_markers_are_left_out_also_when_interleaved() -> None:
    Aborted = collections.namedtuple("Aborted", "producer_id first_offset")  # noqa: PYI024 - the wire's shape
    data = marked(0, [b"aborted"], 7, 0x10) + marked(1, [b"kept"], 8, 0x10) + marker(2, 7, 0)
    data += marked(3, [b"kept too"], 7, 0x10) + marker(4, 7, 1) + marker(5, 8, 1)
    groups, position = read(data, aborted=[Aborted(7, 0)])
    assert flat(groups) == [(1, b"kept"), (3, b"kept too")]
    assert position == 6


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_expands_too_far_is_kept_small(codec: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_records, "MAX_BATCH_BYTES", 100_000)
    bomb = simple(5, [b"fine", b"x" * 3_000_000, b"behind", b"last"], codec)
    groups, position = read(
        simple(0, [b"a"] * 5, codec) + bomb + simple(9, [b"after"], codec), fetch_offset=0
    )
    first, second = groups
    seen = flat(groups)
    # A block codec that says its size first is not opened at all, so its first message is the cut one.
    cut = 6 if codec != 2 or len(seen) > 7 else seen[5][0]
    assert first.truncated == {cut: -1}
    assert seen[:5] == [(number, b"a") for number in range(5)]
    assert len(seen[cut][1]) <= kafka_records.MAX_PREVIEW_BYTES
    assert first.unread == [(cut + 1, 9)]
    assert flat([second]) == [(9, b"after")]
    assert position == 10


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x82SNAPPY\0\0\0\0\1\0\0\0\1\x7f\0\0\0x"])
def test_what_does_not_decompress_is_damage(codec: int, data: bytes) -> None:
    try:
        out, whole = decompress(codec, memoryview(data), 1_000)
    except CorruptRecordError:
        return
    assert not whole or len(out) <= 1_000
