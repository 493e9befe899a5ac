"""Commands of the identity stack: exceptions check."""

from __future__ import annotations

import typer

from issuer.exceptions_cli import exceptions_app


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    program.add_typer(exceptions_app, name="exceptions")
