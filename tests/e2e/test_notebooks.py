"""The responders' notebooks: as scripts, under pytest, and exported to HTML, over the demo's ledger."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger.reader import Ledger
from tests.dashboards import made_demo

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("demo")
    ledger = made_demo(place)
    with Ledger.open(str(ledger), remember=False) as one:
        (alert,) = one.sql(
            "SELECT alert_id, trace_id FROM alerts"
            " WHERE rule_id = 'undelegated-crossing' AND outcome = 'confirmed'"
        ).to_pylist()
        (signal,) = one.sql("SELECT target FROM signals").to_pylist()
        bundle = place / "evidence.json"
        (denied,) = one.sql("SELECT event_id FROM decisions WHERE decision = 'deny' LIMIT 1").to_pylist()
        bundle.write_bytes(one.evidence(denied["event_id"]))
        return {
            "ledger": str(ledger), "alert": alert["alert_id"], "trace": alert["trace_id"],
            "bundle": str(bundle), "credential": signal["target"].removeprefix("credential:"),
            "vkey": one.state.key.text,
        }  # fmt: skip


ARGUMENTS = {
    "trace_an_incident": ("ledger", "trace"), "scope_a_compromise": ("ledger", "credential"),
    "verify_evidence": ("bundle", "vkey"), "weekly_review": ("ledger",),
}  # fmt: skip
SAID = {
    "trace_an_incident": "was denied customer:read", "scope_a_compromise": "were revoked after a signal",
    "verify_evidence": "are proved, at checkpoint", "weekly_review": "Most denied",
}  # fmt: skip


def arguments(name: str, demo: dict[str, str]) -> list[str]:
    return [word for key in ARGUMENTS[name] for word in (f"--{key}", demo[key])]


def run(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)


def test_there_is_a_case_for_every_notebook() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == set(ARGUMENTS) == set(SAID)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_runs_under_pytest_and_every_cell_answers(
    name: str, demo: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments(name, demo)])
    told = importlib.util.spec_from_file_location(f"notebook_{name}", NOTEBOOKS / f"{name}.py")
    assert told is not None
    assert told.loader is not None
    module: Any = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    outputs, _ = module.app.run()
    assert SAID[name] in "".join(getattr(one, "text", "") for one in outputs if one is not None)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_runs_as_a_script_and_is_exported(name: str, demo: dict[str, str], tmp_path: Path) -> None:
    path = NOTEBOOKS / f"{name}.py"
    done = run([sys.executable, str(path), *arguments(name, demo)], tmp_path)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "marimo", "export", "html", str(path), "-o", str(page), "--"]
    done = run([*command, *arguments(name, demo)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert SAID[name] in page.read_text()


def test_without_arguments_it_says_which_to_give(tmp_path: Path) -> None:
    done = run([sys.executable, str(NOTEBOOKS / "verify_evidence.py")], tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_changed_bundle_is_refused(demo: dict[str, str], tmp_path: Path) -> None:
    changed = tmp_path / "changed.json"
    changed.write_text(Path(demo["bundle"]).read_text().replace("deny", "allow"))
    page = tmp_path / "page.html"
    notebook = str(NOTEBOOKS / "verify_evidence.py")
    run(
        [sys.executable, "-m", "marimo", "export", "html", notebook, "-o", str(page), "--",
         "--bundle", str(changed), "--vkey", demo["vkey"]], tmp_path,
    )  # fmt: skip
    assert "REFUSED" in page.read_text()
