"""Commands on messages that were set aside: deadletters list, show, replay."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ingest.adapters import adapter
from ingest.ingestion import FormatOption, IntakeOption, open_writer
from ledger.console import (
    AtOption,
    JsonOption,
    KeyOption,
    LedgerOption,
    VkeyOption,
    answer,
    open_ledger,
    table_text,
)
from ledger.format.plain_text import plain

LETTER_ROWS: Final = 1_000

letters_app = typer.Typer(no_args_is_help=True, help="Messages that were set aside.")


@letters_app.command("list")
def letters_list(
    status: Annotated[
        str, typer.Option("--status", help="rejected, duplicate, ignored, replayed or all.")
    ] = "rejected",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = LETTER_ROWS,
    at: AtOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Messages that were not accepted, newest first, with the id that show and replay take.

    Example: decision-ledger deadletters list --status all
    """
    from ingest import letters

    with open_ledger(ledger, vkey) as opened:
        rows, of = letters.listed(opened, status, limit, at)
    columns = ["id", "time", "status", "topic", "partition", "record_offset", "reason", "field", "replayed"]
    text = table_text(columns, [[row[name] for name in columns] for row in rows])
    answer(rows, f"{text}\n({len(rows):,} of {of:,})", as_json, of=of)


@letters_app.command("show")
def letters_show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="As `deadletters list` prints it.")],
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """One dead letter whole, with its message after masking.

    Example: decision-ledger deadletters show 5f0c…a1:0
    """
    from ingest import letters

    with open_ledger(ledger, vkey) as opened:
        row = letters.shown(opened, letter)
    text = "\n".join(f"{name:<14} {_printable(value)}" for name, value in row.items() if value is not None)
    answer(row, text, as_json)


@letters_app.command("replay")
def letters_replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="None: all rejected ones.")] = None,
    format_: FormatOption = "native",
    intake: IntakeOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try rejected messages again, after a fix. One that is sealed now is never replayed twice.

    Example: decision-ledger deadletters replay --format opa --intake fixed.toml
    """
    from ingest.intakes import check_classes, read_intake
    from ingest.replay import replay

    settings = read_intake(intake, "replay")
    writer = open_writer(ledger, key)
    check_classes(settings, writer.classes())
    with open_ledger(ledger, vkey) as opened:
        done = replay(opened, writer, adapter(format_, settings.options), settings, ids or []).to_json()
    answer(
        done,
        f"{done['sealed']:,} of {done['tried']:,} messages were sealed ({done['events']:,} events); "
        f"{done['still_rejected']:,} are still unusable.",
        as_json,
    )


def _printable(value: object) -> str:
    import orjson

    return plain(value if isinstance(value, str) else orjson.dumps(value, default=str).decode())
