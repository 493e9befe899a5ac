"""Engines that read Parquet themselves see each row once: before, during and after a merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import DamageError
from ledger.reader import Ledger
from ledger.upkeep.compaction import Compaction
from tests.making import Made, make_ledger, row, stretch

COMMITS = 6
ROWS = 5


@pytest.fixture
def made(tmp_path: Path) -> Made:
    place = tmp_path / "it's \\ here"
    place.mkdir()
    made = make_ledger(place)
    writer = made.writer()
    for n in range(COMMITS):
        writer.commit([stretch([row(n * ROWS + i) for i in range(ROWS)], start=n * ROWS)])
    Compaction(writer, grace=3600).run(fan_in=2)
    made.store.create("events/retention=standard/date=2026-11-23/" + "0" * 32 + ".parquet", b"left over")
    return made


def printed(made: Made, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    capsys.readouterr()
    assert run(decision_ledger.app, ["files", "--ledger", str(made.folder), *more]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("at", "events"), [((), COMMITS * ROWS), (("--at", "4"), 3 * ROWS)])
def test_the_snippets_count_each_row_once(
    made: Made, at: tuple[str, ...], events: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(list(made.store.list("events"))) == COMMITS + 2
    with duckdb.connect() as engine:
        engine.execute(printed(made, capsys, "--format", "duckdb", *at))
        (row,) = engine.execute("SELECT count(*), count(DISTINCT event_id) FROM events").fetchall()
    assert row == (events, events)
    names: dict[str, Any] = {}
    exec(printed(made, capsys, "--format", "polars", *at), names)  # noqa: S102 - what is printed is what is tested
    assert names["events"].select(pl.len(), pl.col("event_id").n_unique()).collect().row(0) == (
        events,
        events,
    )


def test_the_list_and_its_json(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"(1 files, {COMMITS * ROWS} events, as of {COMMITS + 2} entries)" in printed(made, capsys)
    value = json.loads(printed(made, capsys, "--json"))
    (file,) = value["files"]
    assert (file["rows"], file["ranges"], value["size"]) == (COMMITS * ROWS, None, COMMITS + 2)
    assert Path(file["file"]).stat().st_size == file["bytes"]
    assert json.loads(printed(made, capsys, "--format", "json", "--at", "2"))["files"][0]["ranges"] == [
        [0, ROWS]
    ]
    assert run(decision_ledger.app, ["files", "--ledger", str(made.folder), "--format", "x"]) == 2


def test_an_empty_ledger_has_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_ledger(tmp_path)
    with duckdb.connect() as engine:
        engine.execute(printed(made, capsys, "--format", "duckdb"))
    exec(printed(made, capsys, "--format", "polars"), {})  # noqa: S102 - as above


def test_a_handle_that_is_older_than_a_merge_reads_on(made: Made, tmp_path: Path) -> None:
    writer = made.writer()
    with Ledger.open(str(made.folder)) as ledger:
        writer.commit([stretch([row(999, trace_id="ab" * 16)], start=COMMITS * ROWS)])
        Compaction(writer, grace=0).run(fan_in=2)
        made.clock.advance(1)
        writer.sweep()
        assert ledger.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": COMMITS * ROWS + 1}]
        made.store.delete(next(iter(writer.state.files)))
        with pytest.raises(DamageError):
            ledger.sql("SELECT count(DISTINCT action) FROM events")
