"""What engines leave word of, and what is read of it: derived, never trusted."""

from __future__ import annotations

from pathlib import Path

from detections.engine_notes import FOLDER, note_engine, noted_engines
from detections.following import Following
from ledger.format.manifest import OffsetKey
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from tests.making import NOON, make_ledger, row, stretch


def test_the_newest_word_of_each_engine_is_read_and_nonsense_left_out(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    stalled = [OffsetKey("decisions", 3)]
    note_engine(store, "one", NOON, judged=4, troubles={"r": ("it loops", 2)}, stalled=stalled)
    note_engine(store, "one", NOON, judged=5, troubles={"r": ("it loops", 3)}, stalled=[])
    for name, data in (
        ("no-json", b"{"),
        ("other", b"[]"),
        ("half", b'{"engine": "x"}'),
        ("big", b" " * (1 << 21)),
    ):
        store.replace(f"{FOLDER}/{name}.json", lambda _, data=data: data)  # type: ignore[misc]  # bound at once
    (told,) = noted_engines(store)
    assert (told["engine"], told["judged"], told["seen"]) == ("one", 5, NOON)
    assert told["troubles"] == [{"rule": "r", "message": "it loops", "times": 3}]


def test_an_engine_that_follows_leaves_word_and_the_ledger_stays_whole(tmp_path: Path) -> None:
    import threading

    made = make_ledger(tmp_path)
    made.writer().commit([stretch([row(0)])])
    following = Following(made.writer(name="detections"), tmp_path / "ways")
    following.until(threading.Event(), lambda _: None, once=True)
    following.close()
    with Ledger.open(str(made.folder), remember=False) as one:
        (told,) = noted_engines(one.store)
        assert told["judged"] == one.size
        assert one.verify().ok
