"""Command that judges a file of exceptions: exceptions check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import EXCEPTION_HOURS, REPORT_FORMATS
from ledger.console import JsonOption, answer, shared
from ledger.errors import UsageError

exceptions_app = typer.Typer(no_args_is_help=True, help="Exceptions to the policy.")


@exceptions_app.callback()
def exceptions() -> None:
    """Exceptions to the policy: short, owned, reviewed."""


@exceptions_app.command("check")
def check_exceptions(
    file: Annotated[Path, typer.Argument(help="A file such as exceptions.yml.")],
    max_hours: Annotated[
        int, typer.Option("--max-hours", help="The longest life that is allowed.", min=1)
    ] = EXCEPTION_HOURS,
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(REPORT_FORMATS)}.")] = "text",
    as_json: JsonOption = False,
) -> None:
    """The gate for CI: exit 1 where an exception lacks an owner, a reason, an end or a review.

    Example: decision-ledger exceptions check exceptions.yml
    """
    from issuer.registry.exceptions import RULES, check
    from issuer.registry.faults import sarif
    from issuer.registry.yaml_file import read_yaml

    chosen = "json" if as_json or shared.json else format_
    if chosen not in REPORT_FORMATS:
        raise UsageError(f"There is no format {chosen!r}.", f"Use {', '.join(REPORT_FORMATS)}.")
    document = read_yaml(file)
    good, faults = check(document, hours=max_hours)
    if chosen == "sarif":
        answer(sarif(document, faults, tool="decision-ledger exceptions", rules=RULES), "", as_json=True)
    else:
        value = {
            "file": str(file), "ok": not faults, "exceptions": len(good),
            "faults": [{"line": one.line, "rule": one.rule, "message": one.message} for one in faults],
        }  # fmt: skip
        lines = [f"{file}:{one.line}: {one.message}" for one in faults]
        lines = lines or [f"{file}: {len(good)} exceptions, nothing to object to."]
        answer(value, "\n".join(lines), chosen == "json")
    if faults:
        raise typer.Exit(1)
