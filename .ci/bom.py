"""What the product is made of: a CycloneDX bill of materials and the list of its licences.

`python .ci/bom.py FOLDER` looks at this environment and keeps what `requirements.lock` names, which is what a
user installs: the tools of the tests are left out. Writes sbom.cdx.json and licences.md.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def locked() -> dict[str, set[str]]:
    """The versions of each package that the lock names, by its plain name: another for another Python."""
    found: dict[str, set[str]] = {}
    for name, version in _PINNED.findall(LOCK.read_text("utf-8")):
        found.setdefault(_plain(name), set()).add(version)
    return found


def bill() -> dict[str, Any]:
    """The bill of materials of the locked packages that are installed here."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable, "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application", "--of", "JSON"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    whole: dict[str, Any] = json.loads(made.stdout)
    wanted = locked()
    kept = [one for one in whole["components"] if one["version"] in wanted.get(_plain(one["name"]), ())]
    refs = {one["bom-ref"] for one in kept} | {whole["metadata"]["component"]["bom-ref"]}
    whole["components"] = kept
    whole["dependencies"] = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", []) if ref in refs]}
        for one in whole["dependencies"]
        if one["ref"] in refs
    ]
    return whole


def licence_of(component: dict[str, Any]) -> str:
    """The licence that a package declares, in a word or two; else what its own metadata says."""
    told = []
    for one in component.get("licenses", []):
        licence = one.get("license", {})
        told.append(one.get("expression") or licence.get("id") or licence.get("name", ""))
    short = [
        re.sub(r"^License :: (OSI Approved :: )?", "", text) for text in told if text and "\n" not in text
    ]
    if short:
        return " and ".join(dict.fromkeys(short))
    try:
        text = str(metadata(component["name"]).json.get("license") or "")
    except PackageNotFoundError:
        text = ""
    first = text.strip().partition("\n")[0]
    return first if 0 < len(first) < 80 else "not declared in its metadata: read the files that it brings"


def licences(whole: dict[str, Any]) -> str:
    """The list, as Markdown."""
    rows = [
        f"| {one['name']} | {one['version']} | {licence_of(one)} |"
        for one in sorted(whole["components"], key=lambda one: str(one["name"]).lower())
    ]
    head = ["# Licences of what Decision Ledger is made of", "", "| package | version | licence |"]
    return "\n".join([*head, "| --- | --- | --- |", *rows]) + "\n"


def main(folder: Path) -> int:
    """Write both, and say how many packages they name."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = bill()
    (folder / "sbom.cdx.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", "utf-8")
    (folder / "licences.md").write_text(licences(whole), "utf-8")
    print(f"sbom: {len(whole['components'])} packages in {folder}/sbom.cdx.json and {folder}/licences.md")
    return 0


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build")))
