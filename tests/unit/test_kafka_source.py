"""Parts of the Kafka source that need no broker: ranges, frames, settings, words, what it leans on."""

from __future__ import annotations

import inspect
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, errors
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.base import BaseCoordinator
from kafka.net.manager import KafkaConnectionManager

from ingest.sources.kafka.faults import explain
from ingest.sources.kafka.ranges import gaps, subtract
from ingest.sources.kafka.settings import KafkaSettings
from ingest.sources.kafka.source import KafkaSource
from ingest.sources.kafka.topics import short_id
from ingest.sources.kafka.wire import Kind, Wire, pack, unpack
from ledger.errors import UsageError
from ledger.format.manifest import OffsetKey


@given(st.integers(0, 40), st.sets(st.integers(0, 60)))
def test_gaps_and_offsets_fill_the_range(start: int, present: set[int]) -> None:
    offsets = sorted(one for one in present if one >= start)
    missing = gaps(start, 61, np.array(offsets, np.int64))
    covered = offsets + [one for low, high in missing for one in range(low, high)]
    assert sorted(covered) == list(range(start, 61))


@pytest.mark.parametrize("offsets", [[3, 3], [4, 3], [1], [9]])
def test_offsets_outside_or_out_of_order_are_an_error(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        gaps(2, 9, np.array(offsets, np.int64))


def test_subtract_leaves_what_is_outside() -> None:
    assert subtract([(0, 10), (20, 30)], [(5, 22), (25, 26)]) == [(0, 5), (22, 25), (26, 30)]


@given(st.lists(st.binary(max_size=50)), st.integers(0, 3))
def test_frames_carry_values_unchanged(values: list[bytes], cut: int) -> None:
    array = pa.array(values, pa.large_binary())[cut:]
    offsets = np.arange(len(array), dtype=np.int64) * 3
    ours, theirs = socket.socketpair()
    left, right = Wire(ours), Wire(theirs)
    try:
        left.send(Kind.CHUNK, {"count": len(array)}, pack(offsets, array))
        kind, said, payload = right.receive()
        got_offsets, got = unpack(said["count"], payload)
        assert kind is Kind.CHUNK
        assert got.to_pylist() == values[cut:]
        assert got_offsets.tolist() == offsets.tolist()
        got.validate(full=True)
        left.close()
        with pytest.raises(EOFError):
            right.receive()
    finally:
        left.close()
        right.close()


def test_settings_keep_secrets_out_of_their_text() -> None:
    settings = KafkaSettings("b:9092", ("t",), client={"sasl_plain_password": "hunter2"})
    assert "hunter2" not in repr(settings)
    assert KafkaSettings.from_wire(settings.to_wire()) == settings
    said = explain(errors.SaslAuthenticationFailedError("hunter2"), settings)
    assert "hunter2" not in str(said)
    assert said["remedy"]


@pytest.mark.parametrize("client", [{"group_id": "x"}, {"ssl_context": "x"}, {"sasl_mechanism": ["x"]}])
def test_settings_that_cannot_be_passed_on_are_refused(client: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(client))):
        KafkaSettings("b:9092", ("t",), client=client)
    with pytest.raises(UsageError, match="topic"):
        KafkaSettings("b:9092", ())


def test_topic_ids_are_in_kafkas_short_form() -> None:
    assert short_id(uuid.UUID("e78f052d-d3df-4239-a909-2d67e47ce130")) == "548FLdPfQjmpCS1n5HzhMA"
    assert short_id(uuid.UUID(int=0)) is None
    assert short_id(None) is None


def test_the_client_library_still_has_what_is_reached_below_its_public_names() -> None:
    names = list(inspect.signature(Fetcher.PartitionRecords.__init__).parameters)
    assert {"aborted_transactions", "check_crcs", "on_drain", "isolation_level"} <= set(names)
    assert list(inspect.signature(Fetcher.PartitionRecords._unpack_records).parameters) == [
        "self",
        "tp",
        "records",
        "key_deserializer",
        "value_deserializer",
    ]
    assert "self.PartitionRecords(" in inspect.getsource(Fetcher._parse_fetched_data)
    for name in ("send", "wait_for", "run", "least_loaded_node"):
        assert hasattr(KafkaConnectionManager, name)
    assert hasattr(BaseCoordinator, "request_rejoin")
    assert "self._fetcher" in inspect.getsource(KafkaConsumer.__init__)


class OtherEnd:
    """In the place of the reading process: what it would say is said by the test."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.wire, self.child = Wire(ours), Wire(theirs)

    def lease(self, *key: Any) -> int:
        self.child.send(Kind.ASK, {"keys": [key]})
        while True:
            kind, said, _ = self.child.receive()
            if kind is Kind.POSITIONS:
                ((_, lease),) = said["positions"]
                return int(lease)

    def end(self) -> None:
        self.child.close()
        self.wire.close()

    def forget(self) -> None:
        pass

    def epitaph(self) -> str:
        return "it was ended"


@pytest.fixture
def other_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherEnd]:
    end = OtherEnd()
    monkeypatch.setattr("ingest.sources.kafka.source.ReadingProcess", lambda _: end)
    yield end
    end.end()


def test_a_bounded_read_ends_where_the_topic_was_made_again_under_it(other_end: OtherEnd) -> None:
    source = KafkaSource(KafkaSettings("b:9092", ("t",), until_end=True), lambda _: None)
    key, message = ("t", 0, "old", "c"), pa.array([b"x"], pa.large_binary())
    try:
        old = other_end.lease(*key)
        other_end.child.send(Kind.ASSIGNED, {"leases": [old]})
        other_end.child.send(
            Kind.CHUNK,
            {"size": 1, "count": 1, "lease": old, "high": 5, "start": 0, "end": 1, "skipped": [], "lost": [],
             "truncated": [], "headers": None},
            pack(np.zeros(1, np.int64), message),
        )  # fmt: skip
        (chunk,) = source.poll(10.0).chunks
        assert chunk.key.topic_id == "old"
        # Its other four messages went with it; the new topic is empty.
        new = other_end.lease("t", 0, "new", "c")
        other_end.child.send(Kind.AT_END, {"leases": [new]})
        assert source.poll(10.0).chunks == []
        assert source.finished
        assert source.lag() == {}
        source.sealed(OffsetKey(*key), 1)
    finally:
        source.close()
