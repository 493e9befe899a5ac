"""Decoding in processes: the same fates in the same order, and nothing lost where a process dies."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.adapters import adapter
from ingest.authority import Intake
from ingest.chunk import Chunk
from ingest.decoded import Limits
from ingest.decoding import decoder as decoding
from ingest.decoding.decoder import MAX_DEATHS, Decoder
from ingest.decoding.fates import PackedChunk, PackedFate, Routes, decide
from ingest.decoding.shared import SharedEnd
from ingest.defaults import FORMATS
from ingest.intakes import IntakeSettings
from ingest.pipeline import Pace, Pipeline
from ingest.routes import Route
from ingest.stretches import Fate
from ledger.errors import OutsideError
from ledger.format.canonical import leaf_hashes
from ledger.format.manifest import OffsetKey
from ledger.reader import Ledger
from ledger.verify.verification import verify
from tests.making import NOON, Made, make_ledger
from tests.unit.test_pipeline import Messages

KEY = OffsetKey("t", 3, "AAAAAAAAAAAAAAAAAAAAAA", "cluster")


def route(name: str = "native") -> Route:
    return Route(adapter(name), IntakeSettings(Intake(name="test"), Limits()))


def event(number: int, **more: object) -> bytes:
    return orjson.dumps(
        {
            "event_id": f"e{number}",
            "kind": "decision",
            "time": "2026-11-23T11:00:00Z",
            "source": "pdp",
            **more,
        }
    )


def chunk(values: list[bytes], start: int = 0) -> Chunk:
    offsets = np.arange(start, start + len(values))
    return Chunk(KEY, start, start + len(values), offsets, pa.array(values, pa.large_binary()))


def same(one: Fate, other: Fate) -> bool:
    return (
        one.events.equals(other.events)
        and one.status.tolist() == other.status.tolist()
        and one.message.tolist() == other.message.tolist()
        and (one.aside, one.refused) == (other.aside, other.refused)
    )


@pytest.fixture(scope="module")
def team() -> Iterator[Decoder]:
    made = Decoder({None: route()}, workers=2, small=1, start_after=0)
    yield made
    made.close()


def settle(made: Decoder, chunks: list[Chunk]) -> list[tuple[Chunk, int, Fate]]:
    taken = []
    for number, one in enumerate(chunks):
        while made.full:
            taken.append(made.take())
        made.put(one, number, NOON)
    while made.waiting:
        taken.append(made.take())
    return taken


def until_ready(made: Decoder) -> None:
    """All its processes are there and have said so."""
    while len(made._team) < made.workers:
        made._grow()
        if not made._team[-1].ready:
            made._receive(made._team[-1])


messages = st.one_of(
    st.integers(0, 50).map(event),
    st.integers(0, 50).map(lambda n: event(n, reason="Bearer abcdefghijklmnop", attributes={"a": [n, None]})),
    st.lists(st.integers(0, 50).map(lambda n: orjson.loads(event(n))), max_size=3).map(orjson.dumps),
    st.sampled_from([b"", b" ", b"{", b"\xff", b'{"kind":"decision"}', event(1, kind="alert")]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.lists(messages, min_size=1, max_size=8), max_size=6))
def test_processes_decide_as_this_one_does_and_in_order(team: Decoder, runs: list[list[bytes]]) -> None:
    until_ready(team)
    chunks = [chunk(run, 100 * number) for number, run in enumerate(runs)]
    taken = settle(team, chunks)
    assert [one.start for one, _, _ in taken] == [one.start for one in chunks]
    assert [epoch for _, epoch, _ in taken] == list(range(len(chunks)))
    for (_, _, fate), one in zip(taken, chunks, strict=True):
        assert same(fate, decide(team.routes, one, NOON))
        if fate.leaves is not None:
            assert fate.leaves.to_pylist() == leaf_hashes(fate.events)


def test_what_a_chunk_says_beside_its_messages_goes_with_it() -> None:
    whole = chunk([event(n) for n in range(4)])
    part = replace(
        whole, values=whole.values.slice(1, 2), offsets=whole.offsets[1:3], start=1, end=3,
        truncated={1: 9_999}, masked={0: ["/attributes/x"]}, faults={}, prefix_at=lambda k: (k, "x"),
    )  # fmt: skip
    packed = PackedChunk.of(part)
    assert packed.data.size < whole.values.nbytes
    got = packed.unpacked()
    assert got.values.equals(part.values)
    assert (got.truncated, got.masked, got.prefix_at) == (part.truncated, part.masked, None)
    fate = decide({None: route()}, part, NOON, hashed=True)
    again = PackedFate.of(fate).unpacked()
    assert same(fate, again)
    assert again.leaves is not None
    assert again.leaves.to_pylist() == leaf_hashes(fate.events)


def test_shared_objects_are_read_where_they_lie() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left, right = SharedEnd(ours), SharedEnd(theirs)
    try:
        sent = {"a": np.arange(1000), "b": pa.py_buffer(b"x" * 100), "c": [None, "text"]}
        left.send(7, sent)
        number, got = right.receive()
        assert number == 7
        assert got["a"].tolist() == sent["a"].tolist()
        assert (got["b"].to_pybytes(), got["c"]) == (b"x" * 100, [None, "text"])
        assert not got["a"].flags.writeable
        left.close()
        with pytest.raises(EOFError):
            right.receive()
    finally:
        left.close()
        right.close()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_handed_to_a_process(name: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left, right = SharedEnd(ours), SharedEnd(theirs)
    try:
        routes: Routes = {None: route(name), "other": route()}
        left.send(0, routes)
        _, got = right.receive()
        one = chunk([b"{}", event(1), b"["])
        assert same(decide(got, one, NOON), decide(routes, one, NOON))
    finally:
        left.close()
        right.close()


def test_a_process_that_dies_loses_nothing() -> None:
    made = Decoder({None: route()}, workers=2, small=1, start_after=0)
    try:
        until_ready(made)
        before = [worker.process.pid for worker in made._team]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        chunks = [chunk([event(n)] * 50, 100 * n) for n in range(12)]
        taken = settle(made, chunks)
        assert [one.start for one, _, _ in taken] == [100 * n for n in range(12)]
        assert all(same(fate, decide(made.routes, one, NOON)) for one, _, fate in taken)
        assert not {worker.process.pid for worker in made._team} & set(before)
    finally:
        made.close()


def test_a_process_that_is_stopped_in_its_work_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    made = Decoder({None: route()}, workers=1, small=1, start_after=0)
    try:
        until_ready(made)
        (worker,) = made._team
        os.kill(worker.process.pid, signal.SIGSTOP)
        made.put(chunk([event(1)]), 0, NOON)
        made.put(chunk([event(2)], 1), 0, NOON)
        assert not made.ready
        os.kill(worker.process.pid, signal.SIGKILL)
        assert [made.take()[2].events["event_id"].to_pylist() for _ in range(2)] == [["e1"], ["e2"]]
    finally:
        made.close()


class Deadly:
    """Kills whatever process decodes."""

    name = "deadly"

    def decode(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_messages_over_which_processes_die_again_and_again_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "decide", lambda *_: pytest.fail("it would have died as well"))
    deadly = Route(Deadly(), route().settings)  # type: ignore[arg-type]  # it has what is called
    made = Decoder({None: deadly}, workers=1, small=1, start_after=0)
    try:
        made._grow()
        made._receive(made._team[0])
        made.put(chunk([event(1)]), 0, NOON)
        with pytest.raises(OutsideError, match=r"again and again \(exit code -9\)") as caught:
            made.take()
        assert "--decoders 0" in str(caught.value)
        assert made._jobs[0].deaths == MAX_DEATHS + 1
    finally:
        made.close()


def test_a_process_knows_nothing_of_our_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECISION_LEDGER_KEY_TEXT", "PRIVATE+KEY+x")
    made = Decoder({None: route()}, workers=1)
    try:
        until_ready(made)
        seen = Path(f"/proc/{made._team[0].process.pid}/environ").read_bytes()
        assert b"PRIVATE+KEY" not in seen
        assert b"PYTHONPATH" in seen
    finally:
        made.close()


def test_without_shared_memory_all_is_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "memfd_create", refused)
    assert decoding.usual_workers() == 0


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_where_no_process_can_be_started_all_is_decoded_here(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    made = Decoder({None: route()}, workers=2, small=1, start_after=0)
    monkeypatch.setattr(sys, "executable", program)
    try:
        chunks = [chunk([event(n)], n) for n in range(4)]
        for one in chunks:
            made.put(one, 0, NOON)
            for worker in made._team:
                worker.process.wait(10)
            made.take()
        assert (made.workers, made._team) == (0, [])
    finally:
        made.close()


class Broken:
    """Raises what an adapter never should."""

    name = "broken"

    def decode(self, *_: object) -> None:
        raise ZeroDivisionError("a bug")


def test_a_fault_of_ours_in_a_process_is_told_with_its_trace() -> None:
    broken = Route(Broken(), route().settings)  # type: ignore[arg-type]  # it has what is called
    made = Decoder({None: broken}, workers=1, small=1, start_after=0)
    try:
        made._grow()
        made._receive(made._team[0])
        made.put(chunk([event(1)]), 0, NOON)
        with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
            made.take()
    finally:
        made.close()


def test_small_chunks_and_single_cores_start_no_process() -> None:
    made = Decoder({None: route()}, workers=2)
    settle(made, [chunk([event(n)] * 100) for n in range(300)])
    assert not made._team
    alone = Decoder({None: route()}, workers=0, small=1, start_after=0)
    settle(alone, [chunk([event(n)] * 1000) for n in range(20)])
    assert not alone._team


def test_a_ledger_by_processes_verifies_and_knows_its_duplicates_and_conflicts(tmp_path: Path) -> None:
    made: Made = make_ledger(tmp_path)
    values = [event(n % 70, reason=f"r{n % 7}" if n > 150 else "r") for n in range(200)] + [b"{"]
    source = Messages(values, step=20)
    decoder = Decoder({None: route()}, workers=2, small=1, start_after=0)
    until_ready(decoder)
    totals = Pipeline(
        source, adapter("native"), made.writer(), intake=Intake(name="test"), decoder=decoder,
        pace=Pace(rows=50, seconds=3600), clock=made.clock,
    ).run()  # fmt: skip
    assert (totals.accepted + totals.duplicate, totals.rejected) == (200, 1)
    assert totals.duplicate
    assert source.sealed_to == len(values)
    assert not decoder._team
    report = verify(made.store, vkey=made.key.signer.verifier)
    assert report.ok, report.text()
    with Ledger.open(str(made.folder)) as ledger:
        (row,) = ledger.sql(
            "SELECT count(*) AS n, count(DISTINCT event_id) AS d, count(conflict) AS c FROM events"
        ).to_pylist()
    assert (row["d"], row["n"]) == (70, 70 + row["c"])
    assert row["c"]
