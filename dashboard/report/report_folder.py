"""A report's folder: its forms, the checkpoint it is proved at, and a bundle for every event it names.

    report.json report.html report.pdf report.xlsx      csv/<table>.csv parquet/<table>.parquet
    checkpoint                                          the signed note that all proofs lead to
    evidence/consistency.json evidence/<number>.json    the counted size is a prefix of it; the bundles
    run.json                                            when this run was, and the versions it was made with

All but run.json is byte-identical for the same week, checkpoint and versions.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from dashboard.report.machine_forms import as_csv, as_json, as_parquet, as_workbook
from dashboard.report.numbers import FORMAT
from dashboard.report.paper_forms import as_html, as_pdf
from dashboard.report.tables import TABLES
from ledger.errors import OutsideError, UsageError
from ledger.format.checkpoint import open_checkpoint
from ledger.format.manifest import instant
from ledger.reader import Ledger

REPORT: Final = "report.json"
CHECKPOINT: Final = "checkpoint"
CONSISTENCY: Final = "evidence/consistency.json"
RUN: Final = "run.json"
BY_VERSION: Final = {"report.pdf": "typst", "report.xlsx": "xlsxwriter", "report.html": "jinja2"}
"""Forms whose bytes a library makes."""
_VERSIONS: Final = ("decision-ledger", "duckdb", "jinja2", "pyarrow", "typst", "xlsxwriter")


def forms(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Every form of a report's numbers, by its path in the folder."""
    found = {
        REPORT: as_json(report), "report.html": as_html(report), "report.pdf": as_pdf(report),
        "report.xlsx": as_workbook(report),
    }  # fmt: skip
    for table in TABLES:
        found[f"csv/{table.name}.csv"] = as_csv(table, report[table.name])
        found[f"parquet/{table.name}.parquet"] = as_parquet(table, report[table.name])
    return found


def proofs(ledger: Ledger, report: Mapping[str, Any], note: bytes) -> dict[str, bytes]:
    """The checkpoint of `note`, what leads from the counted size to it, and the bundles."""
    size = report["counted_at"]["size"]
    head = open_checkpoint(note, ledger.state.key)
    path = ledger.sealed.tree.consistency_proof(size, head.size)
    consistency = {"size": size, "to": head.size, "proof": [digest.hex() for digest in path]}
    listed = {one["event"]: one["file"] for one in report["listed"]}
    bundles = ledger.evidence_each(list(listed), at=size, checkpoint=note) if listed else {}
    return {
        CHECKPOINT: note,
        CONSISTENCY: orjson.dumps(consistency, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        **{listed[event]: bundle for event, bundle in bundles.items()},
    }


def versions() -> dict[str, str]:
    """The versions that a report's bytes depend on."""
    return {name: version(name) for name in _VERSIONS}


def write_folder(folder: Path, files: Mapping[str, bytes], now: datetime) -> None:
    """Write a report; an older one in the same folder is replaced as a whole.

    Raises:
        UsageError: the folder holds something else.
        OutsideError: it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is no folder.", "Name a folder with --out.")
    if folder.is_dir() and any(folder.iterdir()) and not _is_report(folder):
        raise UsageError(f"{folder} holds something that is no report.", "Name another folder with --out.")
    run = {"made_at": instant(now), "versions": versions()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made beside it and moved in one step: a report that is there is whole.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
            made = Path(beside) / "report"
            for name, data in {**files, RUN: as_json(run)}.items():
                path = made / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if folder.exists():
                folder.rename(Path(beside) / "replaced")
            made.rename(folder)
    except OSError as error:
        raise OutsideError(
            f"The report cannot be written to {folder}: {error.strerror or error}.",
            "Name a folder with --out that can be written to.",
        ) from None


def archive(files: Mapping[str, bytes]) -> bytes:
    """The folder as one zip file, its dates fixed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(files):
            packed.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _is_report(folder: Path) -> bool:
    try:
        said = orjson.loads((folder / REPORT).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(said, dict) and said.get("format") == FORMAT
