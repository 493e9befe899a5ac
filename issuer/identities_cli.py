"""Command that judges a file of identities: identities check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import REPORT_FORMATS
from issuer.reports import report_faults
from ledger.console import JsonOption

identities_app = typer.Typer(no_args_is_help=True, help="Who acts, and who answers for it.")


@identities_app.callback()
def identities() -> None:
    """Identities of workloads and tools, and who answers for them."""


@identities_app.command("check")
def check_identities(
    file: Annotated[Path, typer.Argument(help="A file such as agents.yml or tools.yml.")],
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(REPORT_FORMATS)}.")] = "text",
    as_json: JsonOption = False,
) -> None:
    """The gate for CI: exit 1 where a runtime or tool lacks an owner, system, purpose or environment.

    Example: decision-ledger identities check agents.yml
    """
    from issuer.registry.registry import RULES, judge, section_of
    from ledger.settings.yaml_file import read_yaml

    document = read_yaml(file)
    section = section_of(document)
    good, faults = judge(document, section)
    report_faults(
        document, faults, f"{len(good)} {section}", tool="identities", rules=RULES,
        chosen="json" if as_json else format_,
    )  # fmt: skip
