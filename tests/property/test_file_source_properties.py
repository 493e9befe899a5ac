"""Any text, packed and cut in any way and read in blocks of any size, gives the lines a plain split gives."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from itertools import pairwise
from pathlib import Path
from unittest import mock

import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunk import Chunk
from ingest.decoded import Limits
from ingest.sources.files import decompress, lines
from ingest.sources.files.source import FilePosition, FileSource
from ledger.errors import UsageError
from ledger.format.manifest import OffsetKey

ENDINGS = st.sampled_from([b"\n", b"\r\n"])
WORDS = st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"\r")) | st.sampled_from(
    [b"", b"\r", b"P", b"P*M", b"\x1f", b"(\xb5/", b"x" * 40]
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    parts = [word + end for word, end in draw(st.lists(st.tuples(WORDS, ENDINGS), max_size=12))]
    text = b"".join(parts) + draw(st.just(b"") | WORDS)
    # A plain text that begins like a compressed file is one.
    return b"_" + text if decompress.kind_of(text[:4]) != "plain" else text


def reference(text: bytes) -> list[tuple[bytes, int]]:
    """(line, where its line end ends) of each line."""
    found = []
    at = 0
    while at < len(text):
        end = text.find(b"\n", at)
        if end < 0:
            found.append((text[at:], len(text)))
            break
        line = text[at:end]
        found.append((line[:-1] if line.endswith(b"\r") else line, end + 1))
        at = end + 1
    return found


def pack(text: bytes, how: str, cuts: list[int]) -> bytes:
    if how == "plain":
        return text
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    compress = gzip.compress if how == "gzip" else zstandard.compress
    return b"".join(compress(text[a:b]) for a, b in pairwise(edges))


def read(path: Path, position: FilePosition | None, message_bytes: int) -> list[Chunk]:
    source = FileSource([str(path)], lambda _: position, limits=Limits(message_bytes=message_bytes))
    chunks: list[Chunk] = []
    try:
        while not source.finished:
            polled = source.poll(0.0)
            chunks += polled.chunks
            if polled.flush:
                source.flushed()
    finally:
        source.close()
    return chunks


@given(
    text=texts(),
    how=st.sampled_from(["plain", "gzip", "zstd"]),
    cuts=st.lists(st.integers(0, 200), max_size=3),
    block=st.integers(8, 40) | st.just(1 << 20),
    rows=st.integers(1, 5),
    message_bytes=st.integers(1, 50),
    done=st.integers(0, 12),
    repack=st.sampled_from(["plain", "gzip", "zstd"]),
)
@settings(deadline=None)
def test_lines_prefixes_and_resumption(
    *,
    text: bytes,
    how: str,
    cuts: list[int],
    block: int,
    rows: int,
    message_bytes: int,
    done: int,
    repack: str,
) -> None:
    expected = reference(text)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(decompress, "BLOCK_BYTES", block),
        mock.patch.object(lines, "CHUNK_ROWS", rows),
    ):
        path = Path(folder) / "a"
        path.write_bytes(pack(text, how, cuts))
        chunks = read(path, None, message_bytes)
        values = [value for chunk in chunks for value in chunk.values.to_pylist()]
        given_lines = [n for n, (line, _) in enumerate(expected) if line.strip() or len(line) > message_bytes]
        assert values == [expected[n][0][: message_bytes + 1] for n in given_lines]
        assert [offset for chunk in chunks for offset in chunk.offsets.tolist()] == given_lines
        skipped = [n for chunk in chunks for begin, end in chunk.skipped for n in range(begin, end)]
        assert sorted([*given_lines, *skipped]) == list(range(len(expected)))
        true_sizes = {
            int(chunk.offsets[at]): size for chunk in chunks for at, size in chunk.truncated.items()
        }
        assert true_sizes == {
            n: len(line) for n, (line, _) in enumerate(expected) if len(line) > message_bytes
        }
        name = hashlib.sha256(expected[0][0]).hexdigest()[:32] if expected else ""
        offset = 0
        for chunk in chunks:
            assert chunk.key == OffsetKey(f"file:{name}")
            assert chunk.start == offset
            assert len(chunk.values) <= rows
            assert chunk.prefix_at is not None
            bounds = [offset, *chunk.offsets.tolist()[1:], chunk.end] if len(chunk.values) else [chunk.end]
            for k, bound in enumerate(bounds):
                edge = expected[bound - 1][1] if bound else 0
                assert chunk.prefix_at(k) == (edge, hashlib.sha256(text[:edge]).hexdigest())
            assert chunk.prefix_at(len(chunk.values)) == (chunk.read_bytes, chunk.prefix)
            offset = chunk.end

        done = min(done, len(expected))
        edge = expected[done - 1][1] if done else 0
        position = FilePosition(done, edge, hashlib.sha256(text[:edge]).hexdigest()) if done else None
        path.write_bytes(pack(text, repack, cuts))
        again = read(path, position, message_bytes)
        assert [v for chunk in again for v in chunk.values.to_pylist()] == [
            value for n, value in zip(given_lines, values, strict=True) if n >= done
        ]
        assert not again or (again[0].start, again[-1].prefix) == (done, chunks[-1].prefix)


@given(text=texts(), at=st.integers(0, 200), byte=st.integers(0, 255), shorter=st.booleans())
@settings(deadline=None)
def test_any_change_of_the_prefix_is_refused(text: bytes, at: int, byte: int, shorter: bool) -> None:
    expected = reference(text)
    first_end = expected[0][1] if expected else 0
    if at < first_end or at >= len(text) or (not shorter and text[at] == byte):
        return
    changed = text[:at] if shorter else text[:at] + bytes([byte]) + text[at + 1 :]
    position = FilePosition(len(expected), len(text), hashlib.sha256(text).hexdigest())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(changed)
        try:
            read(path, position, 1_000)
        except UsageError as error:
            assert "--as NAME" in error.remedy  # noqa: PT017 - the absence of an error fails below
        else:
            raise AssertionError(changed)


@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"]),
)
@settings(deadline=None)
def test_any_bytes_give_lines_or_one_of_our_errors(data: bytes, head: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for content in (data, head + data, gzip.compress(data) + data, zstandard.compress(data) + data):
            path = Path(folder) / "a"
            path.write_bytes(content)
            try:
                read(path, None, 100)
            except UsageError as error:
                assert error.remedy  # noqa: PT017 - either outcome is right
