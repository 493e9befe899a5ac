"""The file source: offsets, prefixes, resumption, compression, damage, folders and following."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard
from structlog.testing import capture_logs

from ingest.chunk import Chunk
from ingest.decoded import Limits
from ingest.sources.files.decompress import Bounds
from ingest.sources.files.lines import LineSplitter, empty_digest
from ingest.sources.files.source import FilePosition, FileSource
from ledger.errors import UsageError
from ledger.format.manifest import OffsetKey

LINES = [b'{"a":1}', b"", b'{"b":"\xc3\xa9"}', b"   ", b'{"c":3}']
TEXT = b"\n".join(LINES) + b"\n"
GIVEN = [line if line.strip() else None for line in LINES]
"""What `Sealed` holds of them: None for a line that is skipped."""


def topic(first: bytes) -> str:
    return "file:" + hashlib.sha256(first).hexdigest()[:32]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Sealed:
    """A stand-in for the ledger: what is handed over is sealed at once."""

    def __init__(self) -> None:
        self.positions: dict[OffsetKey, FilePosition] = {}
        self.values: dict[OffsetKey, list[bytes | None]] = {}
        self.chunks: list[Chunk] = []

    def position(self, key: OffsetKey) -> FilePosition | None:
        return self.positions.get(key)

    def take(self, chunk: Chunk) -> None:
        before = self.positions.get(chunk.key)
        assert chunk.start == (before.offset if before else 0)
        by_offset = dict(zip(chunk.offsets.tolist(), chunk.values.to_pylist(), strict=True))
        skipped = {offset for begin, end in chunk.skipped for offset in range(begin, end)}
        assert sorted([*by_offset, *skipped]) == list(range(chunk.start, chunk.end))
        assert all(end < begin for (_, end), (begin, _) in pairwise(chunk.skipped))
        assert chunk.values.null_count == 0
        assert chunk.read_bytes is not None
        assert chunk.prefix is not None
        self.positions[chunk.key] = FilePosition(chunk.end, chunk.read_bytes, chunk.prefix)
        self.values.setdefault(chunk.key, []).extend(
            by_offset.get(offset) for offset in range(chunk.start, chunk.end)
        )
        self.chunks.append(chunk)

    def run(self, paths: Sequence[str | Path], **options: Any) -> None:
        source = FileSource([str(path) for path in paths], self.position, wait=lambda _: None, **options)
        try:
            while not source.finished:
                self.poll(source)
        finally:
            source.close()

    def poll(self, source: FileSource) -> int:
        polled = source.poll(0.0)
        for chunk in polled.chunks:
            self.take(chunk)
            source.sealed(chunk.key, chunk.end)
        if polled.flush:
            source.flushed()
        return len(polled.chunks)

    def all(self) -> list[bytes | None]:
        return [value for values in self.values.values() for value in values]


def write(path: Path, data: bytes = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip of several members": lambda data: (
        gzip.compress(data[:9]) + gzip.compress(b"") + gzip.compress(data[9:])
    ),
    "gzip with padding": lambda data: gzip.compress(data) + bytes(512),
    "zstd": zstandard.compress,
    "zstd of several frames": lambda data: (
        zstandard.compress(data[:9]) + b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc" + zstandard.compress(data[9:])
    ),
    "zstd that begins with a skippable frame": lambda data: (
        b"\x50\x2a\x4d\x18\x00\x00\x00\x00" + zstandard.compress(data)
    ),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", [".jsonl", ".gz", ".zst", ""])
def test_lines_offsets_and_prefix(packed: str, suffix: str, tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run([write(tmp_path / f"a{suffix}", PACKED[packed](TEXT))])
    key = OffsetKey(topic(LINES[0]))
    assert sealed.values == {key: GIVEN}
    assert sealed.positions == {key: FilePosition(5, len(TEXT), sha(TEXT))}


def test_line_ends_of_both_kinds(tmp_path: Path) -> None:
    text = b"one\r\ntwo\n\r\nthr\ree\r\r\n\nlast\r\n"
    sealed = Sealed()
    sealed.run([write(tmp_path / "a.jsonl", text)])
    key = OffsetKey(topic(b"one"))
    assert sealed.values == {key: [b"one", b"two", None, b"thr\ree\r", None, b"last"]}
    assert sealed.positions[key] == FilePosition(6, len(text), sha(text))


@pytest.mark.parametrize("ending", [b"\n", b""])
@pytest.mark.parametrize(
    ("text", "given"),
    [
        (b'{"a":1}\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}', [b'{"a":1}']),
        (b'\n{"a":1}', [None, b'{"a":1}']),
        # Of a line that is too long, what is kept is kept as it came.
        (b"x" * 41 + b'\n{"a":1}', [b"\xef\xbb\xbf" + b"x" * 38, b'{"a":1}']),
        (b'{"a":1}\n\xef\xbb\xbf{"b":2}', [b'{"a":1}', b'\xef\xbb\xbf{"b":2}']),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_line(
    text: bytes, given: list[bytes | None], ending: bytes, tmp_path: Path
) -> None:
    marked = b"\xef\xbb\xbf" + text + ending
    path = write(tmp_path / "a.jsonl", marked)
    sealed = Sealed()
    sealed.run([path], limits=Limits(message_bytes=40))
    ((key, values),) = sealed.values.items()
    assert values == given
    position = sealed.positions[key]
    assert (position.bytes, position.prefix_hex) == (len(marked), sha(marked))
    sealed.run([path])
    assert sealed.values[key] == given


def test_a_blank_first_line_names_the_stream_all_the_same(tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run([write(tmp_path / "a.jsonl", b"\nx\n")])
    assert sealed.values == {OffsetKey(topic(b"")): [None, b"x"]}


def test_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run([write(tmp_path / "a.jsonl", b""), write(tmp_path / "b.gz", gzip.compress(b""))])
    assert not sealed.chunks


@pytest.mark.parametrize(
    "text",
    [
        b"one\ntwo\nthree\nfour",
        b"one\r\ntwo\r\nthree\r\n",
        b"one\n\n \ntwo\nthree\n",
        b"\xef\xbb\xbfone\ntwo\nthree\n",
    ],
)
@pytest.mark.parametrize("block", [5, 9, 100])
def test_a_prefix_is_told_when_other_blocks_were_read_since(text: bytes, block: int) -> None:
    splitter = LineSplitter(OffsetKey("file:x"), 0, 0, empty_digest(), 1_000)
    chunks = [one for at in range(0, len(text), block) for one in splitter.feed(text[at : at + block])]
    chunks += splitter.finish()
    told = [chunk.prefix_at(k) for chunk in chunks if chunk.prefix_at for k in range(len(chunk.offsets) + 1)]
    assert told
    assert told == [(size, sha(text[:size])) for size, _ in told]
    assert {size for size, _ in told} >= {0, len(text)}


def test_a_prefix_after_each_message(tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run([write(tmp_path / "a.jsonl", b"one\r\n\nthree\nfour")])
    chunk = sealed.chunks[0]
    assert chunk.prefix_at is not None
    edges = [b"", b"one\r\n\n", b"one\r\n\nthree\n"]
    assert [chunk.prefix_at(k) for k in range(3)] == [(len(edge), sha(edge)) for edge in edges]
    last = sealed.chunks[1]
    assert last.prefix_at is not None
    assert last.prefix_at(0) == chunk.prefix_at(2)


def test_chunks_are_bounded_in_rows(tmp_path: Path) -> None:
    sealed = Sealed()
    text = b"x\n" * 120_001
    sealed.run([write(tmp_path / "a.jsonl", text)])
    assert [len(chunk.values) for chunk in sealed.chunks] == [50_000, 50_000, 20_001]
    assert sealed.chunks[1].prefix == sha(text[:200_000])


def test_any_number_of_blank_lines_is_one_range_of_each_block(tmp_path: Path) -> None:
    sealed = Sealed()
    text = b"x\n" + b"\n \t\n\r\n" * 500_000 + b"y\n" + b"\n" * 9
    sealed.run([write(tmp_path / "a.gz", gzip.compress(text))])
    assert [value for value in sealed.all() if value is not None] == [b"x", b"y"]
    assert sum(len(chunk.skipped) for chunk in sealed.chunks) < 20
    assert next(iter(sealed.positions.values())) == FilePosition(1_500_011, len(text), sha(text))


def test_more_than_a_block(tmp_path: Path) -> None:
    lines = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * (n % 3_000)) for n in range(9_000)]
    text = b"\n".join(lines) + b"\n"
    assert len(text) > 12_000_000
    for packed in ("plain", "gzip", "zstd"):
        sealed = Sealed()
        sealed.run([write(tmp_path / packed, PACKED[packed](text))])
        assert sealed.all() == lines
        assert next(iter(sealed.positions.values())) == FilePosition(9_000, len(text), sha(text))


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_long_lines_are_cut_and_reading_goes_on(packed: str, tmp_path: Path) -> None:
    lines = [b"x" * 10, b"y" * 11, b"z" * 5, b"w" * 20_000_000, b"", b"v" * 11, b"u" * 12]
    text = b"\r\n".join(lines[:4]) + b"\n" + b"\r\n".join(lines[4:])
    sealed = Sealed()
    sealed.run([write(tmp_path / "a", PACKED[packed](text))], limits=Limits(message_bytes=10))
    assert sealed.all() == [line[:11] or None for line in lines]
    sizes = {chunk.start: chunk.truncated[0] for chunk in sealed.chunks if chunk.truncated}
    assert sizes == {1: 11, 3: 20_000_000, 5: 11, 6: 12}
    assert next(iter(sealed.positions.values())) == FilePosition(7, len(text), sha(text))
    for chunk in sealed.chunks:
        assert chunk.prefix_at is not None
        read = chunk.prefix_at(0)[0]
        assert chunk.prefix_at(0) == (read, sha(text[:read]))


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_going_on_after_growth(packed: str, tmp_path: Path) -> None:
    sealed, path = Sealed(), tmp_path / "a"
    sealed.run([write(path, PACKED[packed](TEXT))])
    more = TEXT + b'{"d":4}\n'
    sealed.run([write(path, PACKED[packed](more))])
    sealed.run([path])
    key = OffsetKey(topic(LINES[0]))
    assert sealed.values == {key: [*GIVEN, b'{"d":4}']}
    assert sealed.positions[key] == FilePosition(6, len(more), sha(more))


@pytest.mark.parametrize(
    "changed",
    [TEXT.replace(b"3", b"4"), TEXT[:-1], TEXT[:-8], LINES[0] + b"\n", LINES[0]],
    ids=["a byte", "its last line end", "its last line", "all but the first line", "even its line end"],
)
def test_a_changed_or_shorter_file_is_refused(changed: bytes, tmp_path: Path) -> None:
    sealed, path = Sealed(), tmp_path / "a.jsonl"
    sealed.run([write(path)])
    write(path, changed)
    with pytest.raises(UsageError, match="has changed") as caught:
        sealed.run([path])
    assert "--as NAME" in caught.value.remedy
    sealed.run([path], name="again")
    assert OffsetKey("file:again") in sealed.values


def test_a_last_line_without_newline(tmp_path: Path) -> None:
    sealed, path = Sealed(), tmp_path / "a.jsonl"
    sealed.run([write(path, b"one\ntwo")])
    key = OffsetKey(topic(b"one"))
    assert sealed.positions[key] == FilePosition(2, 7, sha(b"one\ntwo"))
    sealed.run([path])
    other = Sealed()
    for ended in (b"one\ntwo\n", b"one\ntwo\r\nthree\n"):
        other = Sealed()
        other.positions |= sealed.positions
        other.run([write(path, ended)])
        assert other.all() == ([b"three"] if b"three" in ended else [])
    assert other.positions[key] == FilePosition(3, 15, sha(ended))
    with pytest.raises(UsageError, match="has grown since"):
        sealed.run([write(path, b"one\ntwo2\n")])


def test_a_single_line_without_newline_keeps_its_stream(tmp_path: Path) -> None:
    sealed, path = Sealed(), tmp_path / "a.jsonl"
    sealed.run([write(path, b"one")])
    sealed.run([write(path, b"one\ntwo\n")])
    assert sealed.values == {OffsetKey(topic(b"one")): [b"one", b"two"]}


def test_two_inputs_with_the_same_first_line(tmp_path: Path) -> None:
    sealed = Sealed()
    first, second = write(tmp_path / "a.jsonl", b"h\n1\n2\n"), write(tmp_path / "b.jsonl", b"h\n3\n4\n5\n")
    with pytest.raises(UsageError, match=r"b\.jsonl has changed.*a\.jsonl was read under it") as caught:
        sealed.run([first, second])
    assert "--as NAME" in caught.value.remedy
    assert sealed.all() == [b"h", b"1", b"2"]


def test_a_copy_in_the_same_run_adds_only_what_is_new(tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run([write(tmp_path / "a", b"h\n1\n"), write(tmp_path / "b", b"h\n1\n2\n"), tmp_path / "a"])
    assert sealed.all() == [b"h", b"1", b"2"]


CUT_GZIP = gzip.compress(TEXT * 1_000)[:-40]
DAMAGED: dict[str, tuple[bytes, str]] = {
    "gzip cut": (gzip.compress(TEXT)[:-12], "middle of its gzip data"),
    "gzip cut in its trailer": (gzip.compress(TEXT)[:-3], "middle of its gzip data"),
    "gzip with garbage": (gzip.compress(TEXT) + b"garbage", "no gzip"),
    "gzip with a wrong sum": (gzip.compress(TEXT)[:-8] + bytes(8), "damaged"),
    "zstd cut": (zstandard.compress(TEXT)[:-3], "middle of its zstd data"),
    "zstd with garbage": (zstandard.compress(TEXT) + b"garbage", "no zstd"),
    "zstd with little garbage": (zstandard.compress(TEXT) + b"x", "no zstd"),
    "gzip header only": (gzip.compress(TEXT)[:5], "middle of its gzip data"),
    "zstd with a giant window": (b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(20), "damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_after_the_good_lines(name: str, tmp_path: Path) -> None:
    data, what = DAMAGED[name]
    sealed = Sealed()
    other = write(tmp_path / "z.jsonl", b"other\n")
    with pytest.raises(UsageError, match=what) as caught:
        sealed.run([write(tmp_path / "a.gz", data), other])
    assert caught.value.remedy
    assert sealed.all()[-1] == b"other"
    if "garbage" in name or "sum" in name or "trailer" in name:
        assert sealed.all()[:-1] == GIVEN


def test_the_lines_before_a_cut_are_given_and_no_half_line(tmp_path: Path) -> None:
    text = b"".join(b'{"n":%d}\n' % n for n in range(50_000))
    for data in (gzip.compress(text), zstandard.compress(text)):
        sealed = Sealed()
        with pytest.raises(UsageError, match="middle"):
            sealed.run([write(tmp_path / "a", data[: len(data) // 2])])
        given = sealed.all()
        assert given == text.split(b"\n")[: len(given)]
        if data[:2] == b"\x1f\x8b":
            assert len(given) > 10_000
        key = OffsetKey(topic(b'{"n":0}'))
        if given:
            sealed.run([write(tmp_path / "a", data)])
            assert sealed.values[key] == text.split(b"\n")[:-1]


def test_a_broken_middle_gives_what_stood_before(tmp_path: Path) -> None:
    text = b"".join(b'{"n":%d,"r":"%s"}\n' % (n, sha(b"%d" % n).encode()) for n in range(50_000))
    for pack in (gzip.compress, zstandard.compress):
        data = bytearray(pack(text))
        middle = len(data) // 2
        data[middle : middle + 64] = os.urandom(64)
        sealed = Sealed()
        with pytest.raises(UsageError):
            sealed.run([write(tmp_path / "a", bytes(data))])
        # A little may decode wrongly before the damage shows; what stood before it is right.
        assert sealed.all()[:15_000] == text.split(b"\n")[:15_000]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_bomb_of_one_line_keeps_memory_bounded(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "a", pack(b"first\n" + bytes(300_000_000) + b"\nlast\n"))
    sealed = Sealed()
    sealed.run([path], bounds=Bounds(ratio=1_000_000))
    assert [len(value or b"") for value in sealed.all()] == [5, 1_048_577, 4]
    assert sealed.chunks[1].truncated == {0: 300_000_000}
    held = max(chunk.values.nbytes for chunk in sealed.chunks)
    assert held < 2_000_000


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize(
    "bounds", [Bounds(output_bytes=20_000_000), Bounds(ratio=50, ratio_from_bytes=20_000_000)]
)
def test_a_bomb_is_stopped_after_its_good_lines(
    pack: Callable[[bytes], bytes], bounds: Bounds, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", pack(b"first\n" + b"second\n" * 10_000_000))
    sealed = Sealed()
    with pytest.raises(UsageError, match="unfolds to more than"):
        sealed.run([path], bounds=bounds)
    assert 1_000_000 < len(sealed.all()) < 10_000_000


def test_a_first_line_without_end_is_no_stream(tmp_path: Path) -> None:
    path = write(tmp_path / "a", zstandard.compress(bytes(100_000_000)))
    with pytest.raises(UsageError, match="first line"):
        Sealed().run([path], bounds=Bounds(ratio=1_000_000))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b'{\n  "a": 1\n}\n'),
        ("a.json", b'[\n{"a": 1}\n]\n'),
        ("a.json", b'\n\n[{"a": 1},\n{"b": 2}]\n'),
        ("a.json.gz", gzip.compress(b'{"a": 1,\n"b": 2}\n', mtime=0)),
    ],
)
def test_pretty_printed_json_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    sealed = Sealed()
    with pytest.raises(UsageError, match="pretty-printed") as caught:
        sealed.run([write(tmp_path / name, data)])
    assert "one event a line" in caught.value.remedy
    assert not sealed.chunks


@pytest.mark.parametrize(
    "data",
    [b'{"a": 1}\n{\n', b'[{"a": 1}, {"b": 2}]\n', b"nonsense\n{}\n", b'{"a": 1', b"[" * 50_000 + b"\n{}\n"],
)
def test_json_lines_in_a_json_file(data: bytes, tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run([write(tmp_path / "a.json", data)])
    assert sealed.all() == data.splitlines()


def test_folders_globs_and_their_order(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a.log",
        "sub/c.ndjson",
        "sub/deep/d.json",
        "e.gz",
        "f.zst",
        "no.txt",
        "sub.x/g.log",
    ):
        write(tmp_path / "in" / name, name.encode() + b"\n")
    write(tmp_path / "out.jsonl", b"outside\n")
    (tmp_path / "in" / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    sealed = Sealed()
    sealed.run([tmp_path / "in"])
    assert sealed.all() == [
        b"a.log", b"b.jsonl", b"e.gz", b"f.zst", b"sub/c.ndjson", b"sub/deep/d.json", b"sub.x/g.log",
    ]  # fmt: skip
    sealed = Sealed()
    sealed.run([tmp_path / "in" / "no.txt", tmp_path / "in" / "*.log", f"{tmp_path}/in/**/*.json"])
    assert sealed.all() == [b"no.txt", b"a.log", b"sub/deep/d.json"]
    sealed = Sealed()
    sealed.run([tmp_path / "in" / "link.jsonl"])
    assert sealed.all() == [b"outside"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run([write(tmp_path / "a[1].jsonl", b"x\n")])
    assert sealed.all() == [b"x"]


def test_what_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for paths in ([], ["nothing.jsonl"], ["empty"], ["*.jsonl"], ["empty/x/y"], ["a\0b"], ["x" * 5_000]):
        with pytest.raises(UsageError) as caught:
            FileSource([f"{tmp_path}/{path}" for path in paths], lambda _: None)
        assert caught.value.remedy


def test_standard_input(tmp_path: Path) -> None:
    sealed = Sealed()
    sealed.run(["-"], stdin=io.BytesIO(gzip.compress(TEXT)))
    assert sealed.all() == GIVEN
    with pytest.raises(UsageError, match="Standard input has changed"):
        sealed.run(["-"], stdin=io.BytesIO(TEXT[:-3]))
    sealed.run(["-"], stdin=io.BytesIO(TEXT + b"more\n"))
    assert sealed.all() == [*GIVEN, b"more"]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_a_pipe_is_never_waited_for(packed: str, follow: bool) -> None:
    reading, writing = os.pipe()
    data = PACKED[packed](b"one\ntwo\nthree")
    sealed = Sealed()
    with os.fdopen(reading, "rb", buffering=0) as stdin:
        source = FileSource(["-"], sealed.position, follow=follow, stdin=stdin, wait=lambda _: None)
        assert source.poll(0.0).chunks == []
        for at in range(len(data)):
            os.write(writing, data[at : at + 1])
            sealed.poll(source)
            assert not source.finished
        if packed == "plain":
            assert sealed.all() == [b"one", b"two"]
        os.close(writing)
        while not source.finished:
            sealed.poll(source)
        source.close()
    assert sealed.all() == [b"one", b"two", b"three"]


def test_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    sealed = Sealed()
    source = FileSource([str(path)], sealed.position)
    assert source.poll(0.0).chunks == []
    assert not source.finished
    writer = threading.Thread(target=path.write_bytes, args=(TEXT * 20_000,))
    writer.start()
    while not source.finished:
        polled = source.poll(1.0)
        for chunk in polled.chunks:
            sealed.take(chunk)
    writer.join()
    assert sealed.all() == GIVEN * 20_000


def settle(sealed: Sealed, source: FileSource) -> None:
    while sealed.poll(source):
        pass


def follow(sealed: Sealed, *paths: Path, **options: Any) -> FileSource:
    return FileSource([str(p) for p in paths], sealed.position, follow=True, wait=lambda _: None, **options)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_following_growth(packed: str, tmp_path: Path) -> None:
    pack = PACKED[packed]
    sealed, path = Sealed(), write(tmp_path / "a.log", b"")
    source = follow(sealed, path)
    settle(sealed, source)
    append(path, pack(b"on"))
    settle(sealed, source)
    assert not sealed.all()
    append(path, pack(b"e\ntwo\nthr"))
    settle(sealed, source)
    assert sealed.all() == [b"one", b"two"]
    rest = pack(b"ee\n")
    append(path, rest[:2])
    settle(sealed, source)
    append(path, rest[2:])
    settle(sealed, source)
    assert sealed.all() == [b"one", b"two", b"three"]
    assert not source.finished
    source.close()


def test_following_a_folder_and_rotation(tmp_path: Path) -> None:
    sealed = Sealed()
    path = write(tmp_path / "a.log", b"a1\na2\n")
    source = follow(sealed, tmp_path)
    settle(sealed, source)
    write(tmp_path / "b.log", b"b1\n")
    settle(sealed, source)
    assert sealed.all() == [b"a1", b"a2", b"b1"]
    # renamed within the folder, with one more line in the old file and a new file in its place
    append(path, b"a3\n")
    path.rename(tmp_path / "a-1.log")
    settle(sealed, source)
    write(path, b"c1\n")
    for _ in range(5):
        settle(sealed, source)
    append(tmp_path / "a-1.log", b"a4\n")
    append(path, b"c2\n")
    for _ in range(5):
        settle(sealed, source)
    assert sealed.values == {
        OffsetKey(topic(b"a1")): [b"a1", b"a2", b"a3", b"a4"],
        OffsetKey(topic(b"b1")): [b"b1"],
        OffsetKey(topic(b"c1")): [b"c1", b"c2"],
    }
    source.close()


def test_following_a_file_that_is_cut_and_written_anew(tmp_path: Path) -> None:
    sealed, path = Sealed(), write(tmp_path / "a.log", b"a1\na2\n")
    source = follow(sealed, path)
    settle(sealed, source)
    write(path, b"b1\n")
    with capture_logs() as logs:
        for _ in range(5):
            settle(sealed, source)
    assert [one["file"] for one in logs if "was cut" in one["event"]] == [str(path)]
    assert sealed.values == {OffsetKey(topic(b"a1")): [b"a1", b"a2"], OffsetKey(topic(b"b1")): [b"b1"]}
    source.close()


def test_following_two_files_with_one_first_line(tmp_path: Path) -> None:
    sealed = Sealed()
    write(tmp_path / "a.log", b"h\n1\n")
    write(tmp_path / "b.log", b"h\n2\n")
    source = follow(sealed, tmp_path)
    sealed.poll(source)
    sealed.poll(source)
    with pytest.raises(UsageError, match="begin with the same line") as caught:
        sealed.poll(source)
    assert "--as NAME" in caught.value.remedy
    source.close()


def test_rewind_reads_again_from_what_is_sealed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"1\n2\n3\n4\n")
    key = OffsetKey(topic(b"1"))
    sealed = Sealed()
    source = FileSource([str(path)], sealed.position)
    while not source.finished:
        source.poll(0.0)
    sealed.positions[key] = FilePosition(2, 4, sha(b"1\n2\n"))
    source.rewind(key, 2)
    assert not source.finished
    while not source.finished:
        sealed.poll(source)
    assert sealed.values == {key: [b"3", b"4"]}


def test_standard_input_cannot_be_rewound() -> None:
    sealed = Sealed()
    source = FileSource(["-"], sealed.position, stdin=io.BytesIO(TEXT))
    settle(sealed, source)
    source.rewind(OffsetKey(topic(LINES[0])), 0)
    sealed.poll(source)
    with pytest.raises(UsageError, match="cannot be read again"):
        sealed.poll(source)


def test_lag_is_estimated_and_ends_at_nothing(tmp_path: Path) -> None:
    text = b"".join(b'{"n":%07d}\n' % n for n in range(2_000_000))
    source = FileSource([str(write(tmp_path / "a.jsonl", text))], lambda _: None)
    given = sum(len(chunk.values) for chunk in source.poll(0.0).chunks)
    left = source.lag()[OffsetKey(topic(b'{"n":0000000}'))]
    assert abs(given + left - 2_000_000) < 1_000
    while not source.finished:
        source.poll(0.0)
    assert not any(source.lag().values())


def test_several_bad_inputs_are_counted(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.gz", gzip.compress(b"%d\n" % n)[:-3]) for n in range(3)]
    sealed = Sealed()
    with pytest.raises(UsageError, match="2 more"):
        sealed.run([*paths, write(tmp_path / "z.log", b"good\n")])
    assert b"good" in sealed.all()
