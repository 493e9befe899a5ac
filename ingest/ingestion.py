"""One run of a source into a ledger as a command: its options, its progress, its end."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ingest.defaults import FORMATS
from ledger.console import answer, configure_logs, ended_by_signals, note, shared, signing_key, store_at
from ledger.errors import UsageError
from ledger.format.plain_text import plain

if TYPE_CHECKING:
    from ingest.chunk import Chunk
    from ingest.decoded import Adapter
    from ingest.formats import Sample
    from ingest.intakes import IntakeSettings
    from ingest.meters import IngestMeters
    from ingest.pipeline import Pace, Totals
    from ingest.routes import Route
    from ingest.sources import Source
    from ingest.stretches import Fate
    from ledger.format.manifest import Append
    from ledger.upkeep.keeping import Keeping
    from ledger.writer import Writer


MAX_NAME_CHARS: Final = 200
MAX_DECODERS: Final = 256
_NAME: Final = re.compile(rf"\w(?:[\w .:@+/-]{{0,{MAX_NAME_CHARS - 2}}}[\w.:@+/-])?")

FormatOption = Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")]
IntakeOption = Annotated[
    Path | None, typer.Option("--intake", help="A TOML file: what this intake may deliver, and mappings.")
]
WriterOption = Annotated[str | None, typer.Option("--writer", help="This worker's name in the log.")]
RowsOption = Annotated[int, typer.Option(help="Seal a batch at so many messages.", min=1)]
SecondsOption = Annotated[float, typer.Option(help="Seal a batch after so many seconds.", min=0.01)]
DecodersOption = Annotated[
    int | None,
    typer.Option(
        "--decoders",
        help="Processes that decode, 0 for none; without it one less than cores.",
        min=0,
        max=MAX_DECODERS,
    ),
]


def ingested(
    source: Source, reader: Adapter, writer: Writer, settings: IntakeSettings, pace: Pace, *, as_json: bool,
    listen: str | None = None, routes: Mapping[str, Route] | None = None, keeping: Keeping | None = None,
    sample: Sample | None = None, decoders: int | None = None,
) -> Totals:  # fmt: skip
    """Everything that the source gives, sealed and reported; SIGTERM and Ctrl-C end it early and in order.

    `sample` takes note of what `reader` could read and could not.

    Raises:
        UsageError: nothing at all of a bounded source could be used. It was set aside all the same.
    """
    from ingest.formats import Sample
    from ingest.intakes import check_classes
    from ingest.maintenance import Maintenance
    from ingest.pipeline import Pipeline

    configure_logs(shared.verbose)
    for one in (settings, *(route.settings for route in (routes or {}).values())):
        check_classes(one, writer.classes())
    maintenance = Maintenance(writer, source, keeping)
    show = sys.stderr.isatty() and not as_json and not shared.json
    ways = routes or {}
    samples = {topic: Sample(route.adapter.name) for topic, route in ways.items()}
    sampled = sample or Sample(reader.name)
    meters, stop_meters = _meters(source, listen)

    def committed(entry: Append, totals: Totals) -> None:
        if meters is not None:
            meters.committed(entry, pipeline.commit_seconds)
        if show:
            sys.stderr.write(f"\r{totals.events:,} events in {totals.commits:,} commits")
            sys.stderr.flush()
        maintenance.after_commit()

    def decoded(chunk: Chunk, fate: Fate) -> None:
        samples.get(chunk.key.topic, sampled).take(chunk.values, fate.refused, fate.message, fate.events)

    pipeline = Pipeline(
        source,
        reader,
        writer,
        intake=settings.intake,
        limits=settings.limits,
        routes=ways,
        pace=pace,
        on_commit=committed,
        on_decoded=decoded,
        decoders=decoders,
    )
    with ended_by_signals(pipeline.stop):
        try:
            totals = pipeline.run()
        finally:
            stop_meters()
    maintenance.finish()
    totals.head = totals.head or writer.state.size
    if show:
        sys.stderr.write("\n")
    unusable = (
        source.finished
        and bool(totals.rejected)
        and not (totals.accepted or totals.duplicate or totals.ignored)
    )
    if unusable:
        sampled = next((one for one in samples.values() if one.refused), sampled)
    formats = sampled.looks_like(settings.limits, writer.clock()) if unusable else []
    _report(totals, formats if unusable else None, as_json)
    if unusable:
        raise UsageError(
            f"None of the {totals.rejected:,} messages could be read as {sampled.name}: the first was "
            f"refused as {sampled.first_reason or pipeline.first_refused or 'unreadable'}.",
            f"They look like {' or '.join(formats)}. They were set aside: "
            f"`decision-ledger deadletters replay --format {formats[0]}` seals them."
            if formats
            else "They were set aside"
            f"{', and look like no format that is known here' if sampled.first_reason else ''}: see "
            "`decision-ledger deadletters list`.",
        )
    return totals


def _meters(source: Source, listen: str | None) -> tuple[IngestMeters | None, Callable[[], None]]:
    """What is counted, served at `listen`; nothing where that is None."""
    if listen is None:
        return None, lambda: None
    from ingest.meters import IngestMeters
    from ledger.meters import serve_meters

    meters = IngestMeters(source)
    return meters, serve_meters(listen, meters.registry)[1]


def _report(totals: Totals, formats: list[str] | None, as_json: bool) -> None:
    """Print what a run sealed; `formats` are what unusable messages look like."""
    from ingest.pipeline import Totals

    value: dict[str, object] = {name: getattr(totals, name) for name in Totals.__slots__}
    if formats is not None:
        value["looks_like"] = formats
    text = (
        f"{totals.events:,} events sealed in {totals.commits:,} commits, {totals.segments:,} segments "
        f"(head {totals.head:,}).\n"
        f"messages: {totals.accepted:,} accepted, {totals.duplicate:,} duplicate, {totals.ignored:,} "
        f"ignored, {totals.rejected:,} rejected; offsets: {totals.skipped:,} skipped, {totals.lost:,} lost."
    )
    answer(value, text, as_json)
    if totals.rejected and formats is None:
        note("Rejected messages were set aside: see `decision-ledger deadletters list`.")


def open_writer(ledger: str | None, key: Path | None, name: str | None = None) -> Writer:
    """The writer of this run, by the options that every intake has."""
    from ledger.writer import Writer

    if name is not None:
        check_name(name, "worker", "--writer")
    return Writer(store_at(ledger), signing_key(ledger, key), name=name or worker_name())


def check_name(name: str, what: str, option: str) -> None:
    """Raises UsageError for a name that no log, table or path should bear."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{plain(repr(name[:80]))} cannot be the name of a {what}.",
            f"Give {option} at most {MAX_NAME_CHARS} letters, digits and any of . _ : @ + - /, "
            "a letter or digit first.",
        )


def worker_name() -> str:
    """A name for this run in the log."""
    # Random, since a host's name would be handed out with every evidence bundle.
    return f"worker-{secrets.token_hex(4)}"
