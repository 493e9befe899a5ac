"""A wrong format ends with 2 and says which one it looks like; the right one afterwards leads to a replay."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

import decision_ledger
from ledger.console import run

NATIVE = [
    {"event_id": f"n{n}", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s"}
    for n in range(20)
]
OPA = [
    {"decision_id": f"00000000-0000-4000-8000-{n:012d}", "path": "authz/allow", "input": {"user": "alice"},
     "result": True, "timestamp": "2026-11-23T11:00:00Z", "labels": {"id": "a", "version": "1.0.0"}}
    for n in range(20)
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(decision_ledger.app, ["init", "--origin", "a.example/b"]) == 0
    for name, values in (
        ("native", NATIVE),
        ("opa", OPA),
        ("nothing", [{"x": 1}]),
        ("mixed", [*NATIVE, {"x": 1}]),
    ):
        Path(f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in values))
    capsys.readouterr()


@pytest.mark.parametrize(("there", "asked"), [("opa", "native"), ("native", "opa")])
def test_a_wrong_format_then_the_right_one_then_a_replay(
    there: str, asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(decision_ledger.app, ["ingest", "file", f"{there}.jsonl", "--format", asked]) == 2
    seen = capsys.readouterr()
    assert "20 rejected" in seen.out
    assert f"could be read as {asked}" in seen.err
    assert f"They look like {there}." in seen.err
    assert seen.err.count("\n") == 1

    assert run(decision_ledger.app, ["ingest", "file", f"{there}.jsonl", "--format", there]) == 0
    seen = capsys.readouterr()
    assert "0 events sealed" in seen.out
    assert (
        f"20 of their messages were refused then. `decision-ledger deadletters replay --format {there}`"
        in seen.err
    )

    assert run(decision_ledger.app, ["deadletters", "replay", "--format", there]) == 0
    assert "20 of 20 messages were sealed" in capsys.readouterr().out
    assert run(decision_ledger.app, ["ingest", "file", f"{there}.jsonl", "--format", there]) == 0
    assert "refused" not in capsys.readouterr().err


def test_as_json_the_formats_are_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(decision_ledger.app, ["ingest", "file", "opa.jsonl", "--json"]) == 2
    value = json.loads(capsys.readouterr().out)
    assert (value["rejected"], value["looks_like"]) == (20, ["opa"])
    assert run(decision_ledger.app, ["ingest", "file", "nothing.jsonl", "--json"]) == 2
    seen = capsys.readouterr()
    assert json.loads(seen.out)["looks_like"] == []
    assert "look like no format that is known" in seen.err


def test_where_anything_could_be_used_the_code_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(decision_ledger.app, ["ingest", "file", "mixed.jsonl"]) == 0
    assert "were set aside" in capsys.readouterr().err
    Path("blank.jsonl").write_bytes(b"\n\n\n")
    assert run(decision_ledger.app, ["ingest", "file", "blank.jsonl"]) == 0
