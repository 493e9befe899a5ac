"""What a command may load before it does anything: `--help` must not wait for the query engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.making import make_ledger, row, stretch

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
before = set(sys.modules)
import decision_ledger
from ledger.console import run
run(decision_ledger.app, sys.argv[1:])
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""
FOR_HELP = {
    "decision_ledger", "ledger", "ingest", "issuer", "detections", "dashboard", "typer",
    "annotated_doc", "shellingham",
    "typing_extensions", "pydantic", "pydantic_core", "annotated_types", "typing_inspection",
}  # fmt: skip
"""Beside the standard library. The command's own parser brings pydantic."""
HEAVY = {
    "pyarrow", "polars", "duckdb", "numpy", "kafka", "structlog", "obstore", "fsspec", "rich", "streamlit",
    "yaml",
}  # fmt: skip


def loaded(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return {name for name in names if not name.startswith("_sysconfigdata")} - sys.stdlib_module_names


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("ingest", "kafka", "--help"),
        ("verify", "--help"),
        ("config", "load", "--help"),
        ("exceptions", "check", "--help"),
        ("no-such",),
    ],
)
def test_help_loads_little(arguments: tuple[str, ...]) -> None:
    assert loaded(*arguments) <= FOR_HELP


def test_status_and_evidence_verify_load_no_engine(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    made.writer().commit([stretch([row(1)])])
    assert not loaded("status", "--ledger", str(made.folder)) & HEAVY
    bundle = str(tmp_path / "b.json")
    loaded("evidence", "export", "e1", "-o", bundle, "--ledger", str(made.folder))
    vkey = made.key.signer.vkey
    assert not loaded("evidence", "verify", bundle, "--vkey", vkey) & HEAVY
