"""A backtest of files: they are sealed in passing, judged in full, and nothing of it is left."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run


def deny(number: int, **more: Any) -> bytes:
    event = {
        "event_id": f"e{number}", "kind": "decision", "source": "pdp", "decision": "deny", "actor": "user:a",
        "time": f"2024-03-01T10:00:{number:02d}Z", "action": "ticket:read", "resource": "ticket:1", **more,
    }  # fmt: skip
    return json.dumps(event).encode() + b"\n"


def judged(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert run(decision_ledger.app, ["detect", "backtest", *words]) == code
    said = capsys.readouterr()
    return said.out, said.err


def test_old_files_of_any_kind_are_judged_in_full_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(map(deny, range(5)))))
    (tmp_path / "b.jsonl").write_bytes(b"".join(map(deny, range(5, 9))) + b"no event\n")
    expect = tmp_path / "expected.yml"
    expect.write_text("expectations:\n  - {rule: repeated-denies, exactly: 1}\n")
    files = [str(tmp_path / "a.jsonl.gz"), str(tmp_path / "b.jsonl")]
    out, err = judged(capsys, *files, "--expect", str(expect), "--json")
    (alert,) = json.loads(out)["alerts"]
    assert (alert["rule_id"], alert["count"], alert["outcome"]) == ("repeated-denies", 9, "confirmed")
    assert "1 messages are no events" in err
    assert not list(place.iterdir())
    expect.write_text("expectations:\n  - {rule: repeated-denies, exactly: 0}\n")
    judged(capsys, *files, "--expect", str(expect), code=1)


def test_files_and_a_ledger_are_two_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_bytes(deny(1))
    _, err = judged(capsys, str(tmp_path / "a.jsonl"), "--ledger", str(tmp_path), code=2)
    assert "instead of a ledger" in err
    _, err = judged(capsys, str(tmp_path / "a.jsonl"), "--format", "none", code=2)
    assert "no format 'none'" in err
