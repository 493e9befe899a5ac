"""Commands over the life of one exception: issuer exception open, extend, review, close."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import DEFAULT_FOLDER
from issuer.policy_cli import FolderOption
from ledger.console import JsonOption, answer
from ledger.errors import UsageError
from ledger.format.plain_text import plain

exception_app = typer.Typer(no_args_is_help=True, help="Exceptions: open, extend, review, close.")

IdArgument = Annotated[str, typer.Argument(help="The exception's id.")]


@exception_app.command("open")
def open_one(
    file: Annotated[Path, typer.Argument(help="A file such as exceptions.yml.")],
    exception_id: Annotated[str, typer.Argument(help="Which of its exceptions.")],
    folder: FolderOption = Path(DEFAULT_FOLDER),
    as_json: JsonOption = False,
) -> None:
    """Let an exception of a reviewed file count.

    Example: decision-ledger issuer exception open exceptions.yml exc-2026-014 --state company
    """
    from issuer.exceptions import open_exception
    from issuer.registry.exceptions import check
    from issuer.state.opening import open_state
    from ledger.settings.yaml_file import read_yaml

    records, _ = check(read_yaml(file))
    record = next((one for one in records if one.id == exception_id), None)
    if record is None:
        raise UsageError(
            f"{file} holds no well-formed exception {exception_id}.",
            f"`decision-ledger exceptions check {file}` says what is wrong.",
        )
    with open_state(folder) as recorder:
        open_exception(recorder, record)
    answer(
        {"exception_id": record.id, "expires_at": record.expires_at.isoformat(), "outcome": "opened"},
        f"{plain(record.id)} counts until {record.expires_at.isoformat()}.",
        as_json,
    )


@exception_app.command("extend")
def extend_one(
    exception_id: IdArgument,
    hours: Annotated[float, typer.Option(help="How much longer.", min=0.1)],
    approved_by: Annotated[str, typer.Option(help="Who agreed: neither owner nor principal.")],
    folder: FolderOption = Path(DEFAULT_FOLDER),
    as_json: JsonOption = False,
) -> None:
    """Let it end later, within the standard's longest life.

    Example: decision-ledger issuer exception extend exc-2026-014 --hours 4 --approved-by user:dan
    """
    from issuer.exceptions import extend_exception
    from issuer.state.opening import open_state

    with open_state(folder) as recorder:
        record = extend_exception(recorder, exception_id, hours, approved_by)
    answer(
        {"exception_id": record.id, "expires_at": record.expires_at.isoformat(), "outcome": "extended"},
        f"{plain(record.id)} counts until {record.expires_at.isoformat()}.",
        as_json,
    )


@exception_app.command("close")
def close_one(
    exception_id: IdArgument, folder: FolderOption = Path(DEFAULT_FOLDER), as_json: JsonOption = False
) -> None:
    """End it now.

    Example: decision-ledger issuer exception close exc-2026-014
    """
    from issuer.exceptions import end_exception
    from issuer.state.opening import open_state

    with open_state(folder) as recorder:
        record = end_exception(recorder, exception_id)
    answer(
        {"exception_id": record.id, "outcome": "closed", "review_due_at": record.review_due_at.isoformat()},
        f"{plain(record.id)} counts no more. Its review is due by {record.review_due_at.isoformat()}.",
        as_json,
    )


@exception_app.command("review")
def review_one(
    exception_id: IdArgument,
    reviewer: Annotated[str, typer.Option("--reviewer", help="Who looked at its use.")],
    comment: Annotated[str, typer.Option(help="What they found.")],
    folder: FolderOption = Path(DEFAULT_FOLDER),
    as_json: JsonOption = False,
) -> None:
    """Record that somebody looked at how it was used, and what they found.

    Example: decision-ledger issuer exception review exc-2026-014 --reviewer user:dan --comment "as agreed"
    """
    from issuer.exceptions import reviewed_exception
    from issuer.state.opening import open_state

    with open_state(folder) as recorder:
        record = reviewed_exception(recorder, exception_id, reviewer, comment)
    answer(
        {"exception_id": record.id, "outcome": "reviewed", "reviewer": reviewer},
        f"{plain(record.id)} was reviewed by {plain(reviewer)}.",
        as_json,
    )
