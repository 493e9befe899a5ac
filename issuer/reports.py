"""How a gate answers: a line for each fault, JSON or SARIF, and exit 1 where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from issuer.defaults import REPORT_FORMATS
from ledger.console import answer, shared
from ledger.errors import UsageError

if TYPE_CHECKING:
    from issuer.registry.faults import Fault
    from ledger.settings.yaml_file import Document


def report_faults(
    document: Document,
    faults: Sequence[Fault],
    good: str,
    *,
    tool: str,
    rules: Mapping[str, str],
    chosen: str,
) -> None:
    """Print the faults of a file in the `chosen` format; `good` says what else was read.

    Raises:
        UsageError: there is no such format.
        typer.Exit: with 1, where there is a fault.
    """
    from issuer.registry.faults import sarif  # noqa: PLC0415 - `--help` reads no files

    if shared.json and chosen == "text":
        chosen = "json"
    if chosen not in REPORT_FORMATS:
        raise UsageError(f"There is no format {chosen!r}.", f"Use {', '.join(REPORT_FORMATS)}.")
    if chosen == "sarif":
        answer(sarif(document, faults, tool=f"decision-ledger {tool}", rules=rules), "", as_json=True)
    else:
        value = {
            "file": document.name, "ok": not faults,
            "faults": [{"line": one.line, "rule": one.rule, "message": one.message} for one in faults],
        }  # fmt: skip
        lines = [f"{document.name}:{one.line}: {one.message}" for one in faults]
        lines = lines or [f"{document.name}: {good}, nothing to object to."]
        answer(value, "\n".join(lines), chosen == "json")
    if faults:
        raise typer.Exit(1)
