"""`make sbom`: every package that a user gets is named, with its version and what it says of its licence."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def bom() -> Any:
    spec = importlib.util.spec_from_file_location("bom", ROOT / ".ci" / "bom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False  # for another platform or Python
    return True


def test_the_bill_names_what_is_installed_and_nothing_of_the_tests(tmp_path: Path) -> None:
    module = bom()
    assert module.main(tmp_path / "build") == 0
    made = json.loads((tmp_path / "build" / "sbom.cdx.json").read_text())
    assert (made["bomFormat"], made["metadata"]["component"]["name"]) == ("CycloneDX", "decision-ledger")
    named = {module._plain(one["name"]): one["version"] for one in made["components"]}
    locked = module.locked()
    assert named.keys() == {name for name in locked if installed(name)}
    assert all(told in locked[name] for name, told in named.items())
    assert not {"pytest", "moto", "hypothesis"} & named.keys()
    assert {one["ref"] for one in made["dependencies"]} >= {one["bom-ref"] for one in made["components"]}
    lines = (tmp_path / "build" / "licences.md").read_text().splitlines()
    assert len(lines) == len(named) + 4
    told = dict(line.strip("| ").split(" | ")[::2] for line in lines[4:])
    assert told["pyarrow"].startswith("Apache")
    assert sum("not declared" in licence for licence in told.values()) <= 4
