"""What the reading commands print: forms, spellings, failures in JSON, and what SQL's users ask first."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import decision_ledger
from ledger.answer_formats import WRITERS
from ledger.console import called_as, run, shared
from ledger.format.manifest import OffsetKey
from ledger.query.engine import VIEWS
from ledger.reader import Ledger
from ledger.sealing.batch import REJECTED, SetAside
from ledger.upkeep.compaction import Compaction
from tests.making import Made, make_ledger, row, stretch

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    made.writer().commit([stretch([row(n, reason='said "no", twice', scopes=["a", "b"]) for n in range(3)])])
    return made


@pytest.fixture
def ask(made: Made, capfd: pytest.CaptureFixture[str]) -> Ask:
    def asked(*arguments: str) -> tuple[int, str, str]:
        shared.json = False
        code = run(decision_ledger.app, [*arguments, "--ledger", str(made.folder)])
        return code, *capfd.readouterr()

    return asked


def test_csv_is_quoted_where_it_has_to_be_and_lists_are_json(ask: Ask) -> None:
    query = "SELECT event_id, time, reason, scopes, NULL AS none, '' AS blank, 1.5 AS n FROM events LIMIT 1"
    _, out, _ = ask("sql", query, "--format", "csv")
    head, line = out.splitlines()
    assert head == "event_id,time,reason,scopes,none,blank,n"
    assert line == 'e0,2026-11-23T11:59:59.000000Z,"said ""no"", twice","[""a"",""b""]",,"",1.5'
    ((read,),) = [list(csv.DictReader(io.StringIO(out)))]
    assert json.loads(read["scopes"]) == ["a", "b"]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_times_are_spelled_as_in_the_log(ask: Ask, form: str) -> None:
    _, out, _ = ask("sql", "SELECT max(time) AS t FROM events", "--format", form)
    assert "2026-11-23T11:59:59.000000Z" in out


def test_columns_of_one_name_are_told_apart() -> None:
    table = pa.table([[1], [2], [3], [4]], names=["a", "a", "a_1", "a"])
    assert json.loads(WRITERS["json"](table)) == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]
    assert WRITERS["csv"](table) == b"a,a_2,a_1,a_3\n1,2,3,4\n"
    assert pq.read_table(pa.BufferReader(WRITERS["parquet"](table))).column_names == [
        "a",
        "a_2",
        "a_1",
        "a_3",
    ]
    assert WRITERS["table"](table).split() == [*b"a a_2 a_1 a_3 1 2 3 4".split(), b"(1", b"rows)"]


def test_an_answer_of_no_columns_and_no_rows_has_every_form() -> None:
    for form in ("table", "csv", "json", "parquet"):
        assert WRITERS[form](pa.table({"a": pa.array([], pa.int64())})) is not None


def test_parquet_goes_into_a_pipe(made: Made) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "decision_ledger", "sql", "SELECT 1 AS a", "--format", "parquet", "-o", "-",
         "--ledger", str(made.folder)],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert pq.read_table(pa.BufferReader(done.stdout)).to_pylist() == [{"a": 1}]


def test_what_people_ask_first_of_a_database_is_answered(ask: Ask) -> None:
    code, out, _ = ask("sql", "show tables", "--format", "csv")
    assert (code, out.split()) == (0, ["name", *VIEWS])
    for asked in ("DESCRIBE decisions", "DESC SELECT * FROM decisions;", "SHOW decisions"):
        code, out, _ = ask("sql", asked, "--format", "json")
        assert [one["column_name"] for one in json.loads(out)][:2] == ["event_id", "kind"]
    code, out, _ = ask("sql", "SUMMARIZE SELECT event_id FROM events", "--format", "json")
    assert [(one["column_name"], one["count"]) for one in json.loads(out)] == [("event_id", 3)]


@pytest.mark.parametrize(
    "asked",
    [
        "DESCRIBE read_csv('/etc/passwd')", "SUMMARIZE '/etc/passwd'", "SHOW DATABASES", "SHOW ALL TABLES x",
        "DESCRIBE SELECT 1; DROP VIEW events", "SUMMARIZE SELECT getenv('HOME')", "DESCRIBE placed_events",
        "SUMMARIZE SELECT * FROM read_text('/etc/passwd')", "DESCRIBE DROP VIEW events", "SUMMARIZE",
        "DESCRIBE DESCRIBE events", "SHOW duckdb_settings()",
    ],
)  # fmt: skip
def test_a_question_about_a_query_opens_no_way_round_the_guard(ask: Ask, asked: str) -> None:
    assert ask("sql", asked)[:2] == (2, "")


def test_schema_counts_the_rows_of_each_view(ask: Ask) -> None:
    _, out, _ = ask("schema", "--json")
    told: dict[str, Any] = {one["view"]: one for one in json.loads(out)}
    assert list(told) == list(VIEWS)
    assert (told["events"]["rows"], told["decisions"]["rows"], told["issuances"]["rows"]) == (3, 3, 0)
    code, out, _ = ask("schema", "delegation_edges")
    assert "delegator" in out
    code, _, err = ask("schema", "secrets")
    assert (code, "Name one of events" in err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("sql", "SELEC 1"),
        ("trace", "0" * 32),
        ("sql", "SELECT 1", "--seconds", "nan"),
        ("verify", "--sample", "x"),
    ],
)
def test_failures_in_json_say_so(ask: Ask, arguments: tuple[str, ...]) -> None:
    code, out, err = ask(*arguments, "--json")
    told = json.loads(out)
    assert code == 2
    assert (told["ok"], bool(told["error"]), bool(told["remedy"])) == (False, True, True)
    assert err


def test_the_version_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(decision_ledger.app, ["--version"]) == 0
    assert capfd.readouterr().out == "decision-ledger 0.1.0\n"


def test_a_query_that_is_interrupted_is_not_called_wrong(made: Made) -> None:
    # Long enough to be interrupted wherever it is then.
    query = "SELECT count(*) FROM range(10000000000) AS a(x), range(100000) AS b(y) WHERE x + y = 3"
    asking = subprocess.Popen(
        [sys.executable, "-c", _TELLS_WHEN_IT_ASKS, "sql", query, "--ledger", str(made.folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "asked\n"
        # Told again while it goes on, as a person does: one that comes as a statement begins is lost.
        while asking.poll() is None:
            os.kill(asking.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                asking.wait(1)
        out, err = asking.communicate(timeout=30)
    # The last signal may come when the program is ending already.
    assert (asking.returncode in (130, -signal.SIGINT), out) == (True, "")
    assert "wrong" not in err
    assert asking.returncode < 0 or err.startswith("decision-ledger: interrupted.\n")


_TELLS_WHEN_IT_ASKS = """
import sys
import decision_ledger
from ledger.query import engine
real = engine.Query._run
def told(self, *arguments):
    print("asked", flush=True)
    return real(self, *arguments)
engine.Query._run = told
decision_ledger.main()
"""


def test_a_path_opens_a_ledger_as_its_text_does(made: Made) -> None:
    with Ledger.open(made.folder, remember=False) as opened:
        assert opened.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 3}]


def test_a_file_url_names_the_folder_that_it_spells(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a folder"
    place.mkdir()
    url = f"file://{tmp_path}/a%20folder/ledger"
    assert run(decision_ledger.app, ["init", "--origin", "test.example/x", "--ledger", url]) == 0
    assert run(decision_ledger.app, ["verify", "--ledger", str(place / "ledger")]) == 0
    assert sorted(one.name for one in place.iterdir() if one.suffix != ".lock")[:2] == [
        "ledger",
        "ledger.key",
    ]


def test_a_run_that_read_all_leaves_no_word_of_its_lag_and_no_lock_of_it(
    ask: Ask, made: Made, tmp_path: Path
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        json.dumps({"event_id": "n", "kind": "task", "time": "2026-11-23T10:00:00Z", "source": "s"})
    )
    for _ in range(2):
        assert ask("ingest", "file", str(file), "--key", str(made.key.path))[0] == 0
    assert not list((made.folder / "cache" / "lag").glob("*"))
    assert [one.name for one in made.folder.glob("*.lock")] == ["checkpoint.lock"]
    code, out, _ = ask("ingest", "file", str(file), "--key", str(made.key.path))
    assert (code, "(head 3)" in out) == (0, True)


def test_many_files_within_their_grace_are_a_count(ask: Ask, made: Made) -> None:
    writer = made.writer()
    for n in range(3, 20):
        writer.commit([stretch([row(n)], start=n)])
    Compaction(writer, grace=600).run(fan_in=2)
    code, out, _ = ask("verify")
    assert code == 0
    assert out.count("It is still there") == 10
    assert "8 more; --json names all." in out
    code, out, _ = ask("verify", "--json")
    assert len(json.loads(out)["findings"]) == 18


def test_a_batch_has_as_many_messages_as_were_asked_for(ask: Ask, made: Made, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    event = {"kind": "task", "time": "2026-11-23T10:00:00Z", "source": "s"}
    file.write_text("".join(json.dumps({"event_id": f"n{n}", **event}) + "\n" for n in range(30)))
    code, out, _ = ask(
        "ingest", "file", str(file), "--batch-rows", "12", "--json", "--key", str(made.key.path)
    )
    told = json.loads(out)
    assert (code, told["events"], told["commits"]) == (0, 30, 3)
    with Ledger.open(made.folder, remember=False) as opened:
        sizes = opened.sql("SELECT record_offset, source FROM events WHERE source = 's' ORDER BY 1")
        assert sizes["record_offset"].to_pylist() == list(range(30))
    assert ask("verify")[0] == 0


def test_a_list_that_was_cut_says_so_beside_its_json(made: Made, ask: Ask) -> None:
    letters = {at: SetAside("broken", payload=b"{") for at in range(3)}
    made.writer().commit(
        [stretch([], 3, OffsetKey("t"), messages=[[], [], []], status=[REJECTED] * 3, aside=letters)]
    )
    _, out, err = ask("deadletters", "list", "--limit", "2", "--json")
    assert len(json.loads(out)) == 2
    assert "truncated: 2 of 3; --limit 3 gives all." in err
    _, out, err = ask("deadletters", "list", "--limit", "3", "--json")
    assert (len(json.loads(out)), err) == (3, "")


def test_a_query_gets_the_memory_that_it_is_given(ask: Ask) -> None:
    query = "SELECT count(DISTINCT x) AS n FROM (SELECT event_id || r AS x FROM events, range(2000000) t(r))"
    code, _, err = ask("sql", query, "--memory", "100")
    assert (code, "104,857,600 bytes" in err, "--memory" in err) == (2, True, True)
    code, out, _ = ask("sql", query, "--memory", "4096", "--json")
    assert (code, json.loads(out)) == (0, [{"n": 6_000_000}])


def test_interrupted_while_it_loads_it_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ended = subprocess.run(
        [sys.executable, "-c", "import decision_ledger"], env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=Path(decision_ledger.__file__).parent, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands_and_options(shell: str) -> None:
    line = "decision-ledger verify --sa"
    words = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": "2"},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    told = subprocess.run(
        [sys.executable, "-m", "decision_ledger"], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **words, "_DECISION_LEDGER_COMPLETE": f"complete_{shell}"},
    )  # fmt: skip
    assert "--sample" in told.stdout
    assert "--save-head" in told.stdout
    assert "--vkey" not in told.stdout


def test_hints_name_a_command_that_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "a folder" / "decision-ledger"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert called_as() == "'a folder/decision-ledger'"
    monkeypatch.chdir("/etc")
    assert called_as() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert called_as() == "decision-ledger"
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["/anywhere/decision_ledger.py"])
    assert called_as().endswith(" -m decision_ledger")
