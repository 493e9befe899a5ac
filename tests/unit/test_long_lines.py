"""A line that is too long to hold is set aside under the digest of all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ingest.adapters import adapter
from ingest.authority import Intake
from ingest.decoded import Limits
from ingest.pipeline import Pipeline
from ingest.sources.files.lines import LineSplitter, empty_digest
from ingest.sources.files.source import FileSource
from ledger.format.manifest import OffsetKey
from ledger.reader import Ledger
from tests.making import make_ledger


@pytest.mark.parametrize("step", [1, 3, 7, 1_000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r", b"\r\r\n", b""])
def test_the_digest_covers_the_line_without_its_end(step: int, ending: bytes) -> None:
    text = b"ab\r" * 40 + ending
    splitter = LineSplitter(OffsetKey("file:x", 0), 0, 0, empty_digest(), 20)
    chunks = [one for at in range(0, len(text), step) for one in splitter.feed(text[at : at + step])]
    chunks += splitter.finish()
    (chunk,) = chunks
    line = text.removesuffix(b"\n").removesuffix(b"\r") if ending.endswith(b"\n") else text
    assert chunk.digests[0] == hashlib.sha256(line).hexdigest()
    assert chunk.truncated == {0: len(line)}


def test_two_long_lines_with_one_beginning_have_two_digests(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    lines = [b'{"event_id": "' + b"x" * 5_000 + tail for tail in (b'1"}', b'2"}')]
    path = tmp_path / "long.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    limits = Limits(message_bytes=1_000)
    Pipeline(
        FileSource([str(path)], lambda _: None, limits=limits),
        adapter("native"), made.writer(), intake=Intake(name="test"), limits=limits, clock=made.clock,
    ).run()  # fmt: skip
    with Ledger.open(str(made.folder)) as ledger:
        found = ledger.sql("SELECT digest FROM dead_letters ORDER BY record_offset").to_pylist()
    assert [row["digest"] for row in found] == [hashlib.sha256(line).hexdigest() for line in lines]
