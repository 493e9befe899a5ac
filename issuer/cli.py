"""Commands of the identity stack: issuer …, exceptions check, identities check, policy what-if."""

from __future__ import annotations

import typer

from issuer.exceptions_cli import exceptions_app
from issuer.identities_cli import identities_app
from issuer.issuer_cli import issuer_app
from issuer.what_if_cli import what_if_app


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    program.add_typer(exceptions_app, name="exceptions")
    program.add_typer(identities_app, name="identities")
    program.add_typer(issuer_app, name="issuer")
    program.add_typer(what_if_app, name="policy")
