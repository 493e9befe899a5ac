"""The commands about what lies in a bucket or folder: seal it, and check it against CloudTrail's digests."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import typer

from ingest.adapters import adapter
from ingest.defaults import BATCH_ROWS, BATCH_SECONDS
from ingest.ingestion import (
    DecodersOption,
    FormatOption,
    IntakeOption,
    RowsOption,
    SecondsOption,
    WriterOption,
    ingested,
    open_writer,
)
from ledger.console import (
    AnchorOption,
    JsonOption,
    KeyOption,
    LedgerOption,
    MetersOption,
    RetentionOption,
    VkeyOption,
    answer,
    open_ledger,
)
from ledger.errors import UsageError

STREAM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")

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
    apply_retention: RetentionOption = False,
    anchor: AnchorOption = None,
    writer_name: WriterOption = None,
    listen: MetersOption = None,
    batch_rows: RowsOption = BATCH_ROWS,
    batch_seconds: SecondsOption = BATCH_SECONDS,
    decoders: DecodersOption = None,
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
    from ingest.sources.objects.trail_digests import is_digest
    from ledger.format.manifest import OffsetKey
    from ledger.upkeep.keeping import Keeping

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
        wanted=lambda name: not is_digest(name),
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
        decoders=decoders,
        keeping=Keeping(writer, apply_retention=apply_retention, anchors=anchor or ()),
    )


def ingest_digests(
    place: PlaceArgument,
    as_name: StreamOption,
    keys: Annotated[
        Path, typer.Option("--keys", help="What `aws cloudtrail list-public-keys` prints, in a file.")
    ],
    since: Annotated[
        str | None, typer.Option("--since", metavar="DAY", help="Leave out folders of earlier days.")
    ] = None,
    client_config: ClientOption = None,
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check CloudTrail's signed digests: every log they list is there, unchanged and sealed; else exit 1.

    Example: decision-ledger ingest digests s3://trail-logs/AWSLogs --as trail --keys keys.json
    """
    from ingest.sources.objects.places import place_at
    from ingest.sources.objects.sealed_objects import SealedObjects
    from ingest.sources.objects.trail_digests import check_digests, read_keys
    from ledger.format.manifest import OBJECTS_PREFIX, OffsetKey

    try:
        known = read_keys(keys.read_bytes())
        day = None if since is None else date.fromisoformat(since)
    except OSError as error:
        raise UsageError(f"{keys} cannot be read: {error.strerror}.", "Correct --keys.") from None
    except ValueError:
        raise UsageError(f"{since!r} is no day.", "Write --since 2026-11-01.") from None
    found = place_at(place, client_settings(client_config))
    key = OffsetKey(f"{OBJECTS_PREFIX}{checked_name(as_name)}")
    with open_ledger(ledger, vkey) as opened:
        sealed = SealedObjects.of_log(opened.sealed.entries, key)
    report = check_digests(found, found.everything() if day is None else found.since(day), known, sealed)
    lines = [f"{one.kind:<11} {one.key}: {one.message}" for one in report.findings]
    told = sum(report.counts.values()) - len(report.findings)
    if told:
        lines.append(f"and {told:,} more")
    summary = (
        f"{report.digests:,} digests from {report.first or 'never'} to {report.last or 'never'}, "
        f"{report.signed:,} signed by AWS; {report.logs:,} logs are listed, {report.sealed:,} are sealed."
    )
    answer({"ok": report.ok, **asdict(report)}, "\n".join([*lines, summary]), as_json)
    if not report.digests:
        raise UsageError(f"There are no digests in {place}.", "Name the prefix that holds AWSLogs.")
    if not report.ok:
        raise typer.Exit(1)


def checked_name(name: str) -> str:
    """A stream's name. Raises UsageError where it is none."""
    if STREAM_NAME.fullmatch(name) is None:
        raise UsageError(f"{name!r} is no name for a stream.", "Use letters, digits, '.', '_', '-' and '/'.")
    return name


def client_settings(path: Path | None) -> dict[str, object]:
    """What a file says of how to speak to a bucket. Raises UsageError."""
    from ingest.intakes import read_toml

    return {} if path is None else read_toml(path, "file", "--client-config")
