from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.authority import Intake
from ingest.chunk import Chunk
from ingest.pipeline import Pace, Pipeline, _Batch
from ingest.sources import Ended, Polled
from ledger.errors import OutsideError
from ledger.format.manifest import Append, Entry, OffsetKey, Tick, parse_entry, parse_instant
from ledger.reader import Ledger
from tests.making import Made, make_ledger, row, stretch

KEY = OffsetKey("decisions", 0, "AAAAAAAAAAAAAAAAAAAAAA", "cluster")


def _message(number: int) -> bytes:
    return orjson.dumps(
        {"event_id": f"e{number}", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "test/pdp"}
    )


class Messages:
    """A source over a list of messages, in chunks of `step`; remembers what it was told."""

    def __init__(self, values: list[bytes], step: int = 10, start: int = 0) -> None:
        self.values, self.step, self.at = values, step, start
        self.sealed_to = 0
        self.rewinds: list[int] = []
        self.closed = False
        self.flushes = 0
        self.ask_flush_at: int | None = None

    @property
    def finished(self) -> bool:
        return self.at >= len(self.values)

    def poll(self, timeout: float) -> Polled:
        del timeout
        values = self.values[self.at : self.at + self.step]
        if not values:
            return Polled()
        start, self.at = self.at, self.at + len(values)
        chunk = Chunk(KEY, start, self.at, np.arange(start, self.at), pa.array(values, pa.large_binary()))
        return Polled([chunk], flush=self.ask_flush_at == start)

    def flushed(self) -> None:
        self.flushes = self.sealed_to

    def sealed(self, key: OffsetKey, offset: int) -> None:
        assert key == KEY
        self.sealed_to = offset

    def rewind(self, key: OffsetKey, offset: int) -> None:
        assert key == KEY
        self.rewinds.append(offset)
        self.at = offset

    def lag(self) -> dict[OffsetKey, int]:
        return {KEY: len(self.values) - self.at}

    def ended(self) -> dict[OffsetKey, Ended]:
        return {KEY: Ended(self.at, 2.0)} if self.at >= len(self.values) else {}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def _pipeline(made: Made, source: Messages, rows: int = 25) -> Pipeline:
    return Pipeline(
        source, adapter("native"), made.writer(), intake=Intake(name="test"),
        pace=Pace(rows=rows, seconds=3600), clock=made.clock,
    )  # fmt: skip


def _ids(made: Made) -> list[str]:
    with Ledger.open(str(made.folder)) as ledger:
        rows = ledger.sql("SELECT event_id FROM events ORDER BY record_offset").to_pylist()
    return [one["event_id"] for one in rows]


def test_everything_is_sealed_in_batches_and_the_source_told(made: Made) -> None:
    source = Messages([_message(n) for n in range(100)])
    totals = _pipeline(made, source).run()
    assert (totals.events, totals.accepted, totals.rejected) == (100, 100, 0)
    assert totals.commits == 4
    assert source.sealed_to == 100
    assert source.closed
    assert _ids(made) == [f"e{n}" for n in range(100)]


def test_bad_messages_are_set_aside_and_their_neighbours_sealed(made: Made) -> None:
    values = [_message(0), b"{", b"", _message(1), b'{"event_id": "x"}', b"\xff\xfe", _message(2)]
    totals = _pipeline(made, Messages(values)).run()
    assert (totals.accepted, totals.ignored, totals.rejected) == (3, 1, 3)
    with Ledger.open(str(made.folder)) as ledger:
        letters = ledger.sql("SELECT record_offset, status, reason FROM dead_letters ORDER BY 1").to_pylist()
    assert [(one["record_offset"], one["status"]) for one in letters] == [
        (1, "rejected"), (2, "ignored"), (4, "rejected"), (5, "rejected"),
    ]  # fmt: skip
    assert all(one["reason"] for one in letters)


def test_a_secret_in_a_bad_message_never_reaches_the_disk(made: Made) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    values = [f'{{"event_id": "a", "password": "hunter2hunter2", "t": "{token}"'.encode(), _message(1)]
    _pipeline(made, Messages(values)).run()
    with Ledger.open(str(made.folder)) as ledger:
        payload = ledger.sql("SELECT from_base64(payload)::VARCHAR AS p FROM dead_letters").to_pylist()[0][
            "p"
        ]
    assert "hunter2" not in payload
    assert "c2lnbmF0dXJl" not in payload


def test_when_another_worker_moved_the_offsets_on_reading_goes_back_to_the_ledger(made: Made) -> None:
    values = [_message(n) for n in range(60)]
    other = stretch([row(n, event_id=f"e{n}", decision=None) for n in range(15)], key=KEY)
    source = Messages(values, step=10)
    pipeline = _pipeline(made, source, rows=20)
    made.writer().commit([other])
    totals = pipeline.run()
    assert source.rewinds[0] == 15
    assert totals.accepted == 45
    assert _ids(made) == [f"e{n}" for n in range(60)]


def test_a_source_read_to_its_end_before_the_fence_was_known_is_read_again(made: Made) -> None:
    source = Messages([_message(n) for n in range(60)], step=60)
    other = stretch([row(n, event_id=f"e{n}", decision=None) for n in range(15)], key=KEY)
    pipeline = _pipeline(made, source, rows=1000)
    made.writer().commit([other])
    totals = pipeline.run()
    assert source.rewinds == [15]
    assert totals.accepted == 45
    assert _ids(made) == [f"e{n}" for n in range(60)]


def test_a_flush_seals_all_before_it_is_answered(made: Made) -> None:
    source = Messages([_message(n) for n in range(40)])
    source.ask_flush_at = 10
    _pipeline(made, source, rows=1000).run()
    assert source.flushes == 20


def test_stop_seals_what_is_in_hand(made: Made) -> None:
    source = Messages([_message(n) for n in range(1000)], step=1)
    pipeline = _pipeline(made, source, rows=100_000)
    seen = deque[int](maxlen=1)

    def stop_at_seven(*_: object) -> None:
        seen.append(source.at)
        if source.at == 7:
            pipeline.stop()

    pipeline.on_decoded = stop_at_seven
    totals = pipeline.run()
    assert totals.accepted == 7
    assert source.sealed_to == 7


def test_a_batch_waits_longer_while_more_comes_than_can_be_decoded(made: Made) -> None:
    pipeline = _pipeline(made, Messages([]))
    batch = _Batch()
    pipeline.pace = Pace(rows=100, seconds=100.0)
    assert not pipeline._is_due(batch, behind=False)
    pipeline._gather(batch, stretch([row(1)], key=KEY))
    for age, due in ((50, (False, False)), (150, (True, False)), (350, (True, True))):
        batch.since = time.monotonic() - age
        assert (pipeline._is_due(batch, behind=False), pipeline._is_due(batch, behind=True)) == due


def test_what_stops_the_writer_stops_the_run_and_closes_the_source(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Messages([_message(n) for n in range(100)])
    pipeline = _pipeline(made, source)

    def fail(*_: object) -> None:
        raise OutsideError("The disk is full.", "Make room.")

    monkeypatch.setattr(pipeline.writer, "commit", fail)
    with pytest.raises(OutsideError, match="disk is full"):
        pipeline.run()
    assert source.closed
    assert _ids(made) == []


def _entries(made: Made) -> list[Entry]:
    with Ledger.open(str(made.folder)) as ledger:
        return [parse_entry(data) for data in ledger.sealed.entries]


def test_a_key_read_to_its_end_is_said_to_be_complete_and_no_other(made: Made) -> None:
    source = Messages([_message(n) for n in range(50)])
    _pipeline(made, source).run()
    rows = [row for entry in _entries(made) if isinstance(entry, Append) for row in entry.offsets]
    assert [row.complete is not None for row in rows] == [False, True]
    assert rows[-1].complete is not None
    assert parse_instant(rows[-1].complete) < made.clock()


class _Idle(Messages):
    """Ends when asked for the third time in vain."""

    looks = 0

    @property
    def finished(self) -> bool:
        return self.looks > 2

    def poll(self, timeout: float) -> Polled:
        polled = super().poll(timeout)
        self.looks += not polled.chunks
        return polled


def test_an_idle_worker_ticks_with_what_it_read_to_the_end(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.pipeline.TICK_SECONDS", 0)
    _pipeline(made, _Idle([_message(1)]), rows=1).run()
    ticks = [entry for entry in _entries(made) if isinstance(entry, Tick)]
    assert ticks
    assert [key.key for key in ticks[-1].complete] == [KEY]


def test_a_second_key_at_its_end_is_named_in_an_empty_row(made: Made) -> None:
    quiet = OffsetKey("quiet")
    made.writer().commit([stretch([row(900)], key=quiet)])

    class Two(Messages):
        def ended(self) -> dict[OffsetKey, Ended]:
            # As a source that has given chunks of a third key which wait to be gathered.
            return super().ended() | {quiet: Ended(1, 0.0), OffsetKey("waiting"): Ended(7, 0.0)}

        def sealed(self, key: OffsetKey, offset: int) -> None:
            if key == KEY:
                super().sealed(key, offset)

    _pipeline(made, Two([_message(n) for n in range(50)])).run()
    rows = [row for entry in _entries(made) if isinstance(entry, Append) for row in entry.offsets]
    others = [row for row in rows if row.key != KEY][1:]
    assert [(row.key, row.from_, row.to, row.accepted) for row in others] == [(quiet, 1, 1, 0)]
    with Ledger.open(str(made.folder)) as ledger:
        assert ledger.verify().ok
