"""Past decisions asked again: the same policy says the same, a tighter one says where it differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from issuer.policy.bundle import Bundle
from issuer.scenarios.catalogue import play, write
from issuer.scenarios.drills import tighter
from issuer.scenarios.world import example_bundle
from ledger.console import run, shared


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("what-if")
    write(play("healthy-day", 7, rate=8), place / "day.jsonl")
    ledger = str(place / "ledger")
    run(decision_ledger.app, ["init", "--origin", "what-if.example/day", "--ledger", ledger])
    run(decision_ledger.app, ["ingest", "file", str(place / "day.jsonl"), "--ledger", ledger])
    run(decision_ledger.app, ["issuer", "init", str(place / "company")])
    return place


def _ask(day: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    folder = day / f"bundle-{bundle.version}"
    for name, data in bundle.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    capsys.readouterr()
    line = [
        "policy",
        "what-if",
        str(folder),
        "--ledger",
        str(day / "ledger"),
        "--state",
        str(day / "company"),
    ]
    shared.json = False
    assert run(decision_ledger.app, [*line, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert run(decision_ledger.app, line) == 0
    assert f"{found['different']:,} would differ" in capsys.readouterr().out
    return found


def test_the_policy_that_decided_says_the_same_again(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _ask(day, example_bundle(), capsys)
    assert found["asked"] > 300
    assert found["differences"] == []
    # An enforcement point that denied before it asked has told no policy anything.
    assert {*found["not_asked"]} == {"what the policy was told is not in it"}


def test_a_tighter_policy_differs_where_it_is_tighter(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _ask(day, tighter(), capsys)
    now_denied = [one for one in found["differences"] if (one["was"], one["now"]) == ("allow", "deny")]
    assert {one["action"] for one in now_denied} >= {"ticket:update", "invoice:update"}
    assert {(one["was"], one["now"]) for one in found["differences"]} == {("allow", "deny")}
    assert all(one["examples"] for one in now_denied)
    assert found["asked"] == found["same"] + found["different"]
