"""Commands of the dashboard: report …."""

from __future__ import annotations

import typer

from dashboard.report_cli import report_app


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    program.add_typer(report_app, name="report")
