"""The command that seals what lies in a bucket or folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from ingest.adapters import adapter
from ingest.defaults import BATCH_ROWS, BATCH_SECONDS
from ingest.ingestion import (
    FormatOption,
    IntakeOption,
    RowsOption,
    SecondsOption,
    WriterOption,
    ingested,
    open_writer,
)
from ledger.console import JsonOption, KeyOption, LedgerOption, MetersOption
from ledger.errors import UsageError

STREAM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
DIGESTS_FOLDER: Final = "CloudTrail-Digest"

PlaceArgument = Annotated[str, typer.Argument(metavar="PLACE", help="s3://bucket/prefix, or a folder.")]
StreamOption = Annotated[str, typer.Option("--as", help="The stream's name in the ledger: keep it.")]
ClientOption = Annotated[
    Path | None,
    typer.Option("--client-config", help="A TOML file of the bucket's settings: endpoint, region, keys."),
]


def ingest_objects(
    place: PlaceArgument,
    as_name: StreamOption,
    format_: FormatOption = "cloudtrail",
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again every minute for what is new.")
    ] = False,
    client_config: ClientOption = None,
    intake: IntakeOption = None,
    writer_name: WriterOption = None,
    listen: MetersOption = None,
    batch_rows: RowsOption = BATCH_ROWS,
    batch_seconds: SecondsOption = BATCH_SECONDS,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal the records of objects in a bucket or folder, each once. Running it again takes what is new.

    Example: decision-ledger ingest objects s3://trail-logs/AWSLogs --as trail --follow
    """
    from ingest.intakes import read_intake
    from ingest.pipeline import Pace
    from ingest.sources.objects.places import place_at
    from ingest.sources.objects.sealed_objects import SealedObjects
    from ingest.sources.objects.source import ObjectSource
    from ledger.format.manifest import OffsetKey

    settings = read_intake(intake, checked_name(as_name))
    reader = adapter(format_, settings.options)
    found = place_at(place, client_settings(client_config))
    writer = open_writer(ledger, key, writer_name)

    def position(of: OffsetKey) -> int:
        sealed = writer.position(of)
        return 0 if sealed is None else sealed.to

    source = ObjectSource(
        found,
        as_name,
        position,
        lambda of: SealedObjects.of_log(writer.entries(), of),
        follow=follow,
        wanted=lambda name: DIGESTS_FOLDER not in name.split("/"),
        limits=settings.limits,
    )
    ingested(
        source,
        reader,
        writer,
        settings,
        Pace(rows=batch_rows, seconds=batch_seconds),
        as_json=as_json,
        listen=listen,
    )


def checked_name(name: str) -> str:
    """A stream's name. Raises UsageError where it is none."""
    if STREAM_NAME.fullmatch(name) is None:
        raise UsageError(f"{name!r} is no name for a stream.", "Use letters, digits, '.', '_', '-' and '/'.")
    return name


def client_settings(path: Path | None) -> dict[str, object]:
    """What a file says of how to speak to a bucket. Raises UsageError."""
    from ingest.intakes import read_toml

    return {} if path is None else read_toml(path, "file", "--client-config")
