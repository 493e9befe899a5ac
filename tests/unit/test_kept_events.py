"""What a writer remembers, kept in this user's cache and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ledger.sealing import kept_events
from ledger.sealing.kept_events import KeptEvents, load_events, save_events
from ledger.sealing.seen_events import SeenEvents


def table(start: int, count: int) -> pa.Table:
    return pa.table({"source": ["s"] * count, "event_id": [f"e{n}" for n in range(start, start + count)]})


def remembering(segments: int, each: int) -> KeptEvents:
    seen = SeenEvents()
    for segment in range(segments):
        seen.add(seen.hashes(table(segment * each, each)), segment, np.arange(each))
    seen.forget_before(1)
    return KeptEvents(7, b"\1" * 32, seen, [f"s{n}" for n in range(segments)], list(range(segments)))


@pytest.fixture(autouse=True)
def kept_however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_events, "KEEP_FROM_EVENTS", 1)


@pytest.mark.parametrize("segments", [2, 3, 9])
def test_what_was_kept_is_read_again(tmp_path: Path, segments: int) -> None:
    kept, path = remembering(segments, 50), tmp_path / "cache/seen"
    save_events(path, kept)
    again = load_events(path, 1_000_000)
    assert again is not None
    assert (again.size, again.root, again.segments, again.entries) == (
        kept.size, kept.root, kept.segments, kept.entries,
    )  # fmt: skip
    asked = table(0, segments * 50)
    found = again.seen.find(again.seen.hashes(asked))
    assert sorted(found) == [(n, n // 50, n % 50) for n in range(50, segments * 50)]
    assert [one.name for one in path.parent.iterdir()] == ["seen"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [0, 10, 500, -1])
def test_what_is_not_whole_is_not_believed(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "seen"
    save_events(path, remembering(2, 50))
    path.write_bytes(path.read_bytes()[:cut])
    assert load_events(path, 1_000_000) is None


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    save_events(tmp_path / "cache/seen", remembering(1, 5))
    assert load_events(tmp_path / "cache/seen", 1_000_000) is None
