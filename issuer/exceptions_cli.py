"""Command that judges a file of exceptions: exceptions check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import EXCEPTION_HOURS, REPORT_FORMATS
from issuer.reports import report_faults
from ledger.console import JsonOption

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
    from ledger.settings.yaml_file import read_yaml

    document = read_yaml(file)
    good, faults = check(document, hours=max_hours)
    report_faults(
        document, faults, f"{len(good)} exceptions", tool="exceptions", rules=RULES,
        chosen="json" if as_json else format_,
    )  # fmt: skip
