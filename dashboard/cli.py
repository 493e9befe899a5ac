"""Commands of the dashboard: dashboard, report …, review …."""

from __future__ import annotations

import typer

from dashboard.dashboard_cli import dashboard
from dashboard.report_cli import report_app
from dashboard.review_cli import review_app


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    program.command("dashboard")(dashboard)
    program.add_typer(report_app, name="report")
    program.add_typer(review_app, name="review")
