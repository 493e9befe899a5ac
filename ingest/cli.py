"""Commands that bring events in: ingest file, ingest kafka, ingest check, deadletters."""

from __future__ import annotations

import contextlib
import secrets
import signal
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import orjson
import pyarrow as pa
import typer

from ingest import letters
from ingest.adapters import FIELD_MAPS, NAMES, adapter
from ingest.decoded import Adapter
from ingest.intakes import IntakeSettings, read_intake
from ingest.maintenance import Maintenance
from ingest.pipeline import Pace, Pipeline, Totals
from ingest.sources import Source
from ingest.sources.files import FilePosition, FileSource
from ingest.sources.kafka import KafkaSource
from ingest.sources.kafka_settings import KafkaSettings
from ledger.console import (
    JsonOption,
    KeyOption,
    LedgerOption,
    answer,
    ledger_url,
    say,
    shared,
    signing_key,
    store_at,
    table_text,
)
from ledger.errors import UsageError
from ledger.events import FIELDS
from ledger.manifest import OffsetKey
from ledger.reader import Ledger
from ledger.writer import Writer

CHECK_BYTES: Final = 16 * 1024 * 1024
LETTER_ROWS: Final = 1_000

ingest_app = typer.Typer(no_args_is_help=True, help="Bring decision events in.")
letters_app = typer.Typer(no_args_is_help=True, help="Messages that were set aside.")

PACE: Final = Pace()

FormatOption = Annotated[str, typer.Option("--format", help=f"One of {', '.join(NAMES)}.")]
IntakeOption = Annotated[
    Path | None, typer.Option("--intake", help="A TOML file: what this intake may deliver, and mappings.")
]
WriterOption = Annotated[str | None, typer.Option("--writer", help="This worker's name in the log.")]
RowsOption = Annotated[int, typer.Option(help="Seal a batch at so many messages.", min=1)]
SecondsOption = Annotated[float, typer.Option(help="Seal a batch after so many seconds.", min=0.01)]


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    program.add_typer(ingest_app, name="ingest")
    program.add_typer(letters_app, name="deadletters")


@ingest_app.command("file")
def ingest_file(
    paths: Annotated[
        list[str], typer.Argument(help=".jsonl, .json, .gz, .zst, folders, globs, - for stdin.")
    ],
    format_: FormatOption = "native",
    follow: Annotated[bool, typer.Option("--follow", help="Keep reading what is appended.")] = False,
    as_name: Annotated[
        str | None, typer.Option("--as", help="The stream's name, where first lines repeat.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say which field came from where.")] = False,
    intake: IntakeOption = None,
    writer_name: WriterOption = None,
    batch_rows: RowsOption = PACE.rows,
    batch_seconds: SecondsOption = PACE.seconds,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal the events of files. Running it again goes on where it stopped.

    Example: decision-ledger ingest file decisions.jsonl.gz --format opa
    """
    settings = read_intake(intake, paths[0] if paths[0] != "-" else "stdin")
    reader = adapter(format_, settings.options)
    writer = Writer(store_at(ledger), signing_key(ledger, key), name=writer_name or _worker_name())

    def position(of: OffsetKey) -> FilePosition | None:
        found = writer.position(of)
        if found is None:
            return None
        return FilePosition(found.to, found.bytes or 0, found.prefix or "")

    source = FileSource(paths, position, follow=follow, name=as_name, limits=settings.limits)
    totals = _run(
        source, reader, writer, settings, Pace(rows=batch_rows, seconds=batch_seconds), quiet=as_json
    )
    if explain:
        say(_field_map(format_))
    _report(totals, as_json)


@ingest_app.command("kafka")
def ingest_kafka(
    bootstrap: Annotated[str, typer.Option("--bootstrap", help="HOST:PORT, several with commas.")],
    topic: Annotated[list[str], typer.Option("--topic", help="A topic; may be given several times.")],
    format_: FormatOption = "native",
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at the end that is there now.")
    ] = False,
    group: Annotated[
        str, typer.Option("--group", help="The consumer group that workers share.")
    ] = "decision-ledger",
    client_config: Annotated[
        Path | None, typer.Option("--client-config", help="A TOML file of kafka-python settings: SASL, TLS.")
    ] = None,
    intake: IntakeOption = None,
    writer_name: WriterOption = None,
    batch_rows: RowsOption = PACE.rows,
    batch_seconds: SecondsOption = PACE.seconds,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal the events of Kafka topics, exactly once, with as many workers as there are partitions.

    Example: decision-ledger ingest kafka --bootstrap localhost:9092 --topic decisions
    """
    settings = read_intake(intake, topic[0])
    reader = adapter(format_, settings.options)
    name = writer_name or _worker_name()
    writer = Writer(store_at(ledger), signing_key(ledger, key), name=name)

    def position(of: OffsetKey) -> int | None:
        found = writer.position(of)
        return None if found is None else found.to

    source = KafkaSource(
        KafkaSettings(
            bootstrap_servers=bootstrap,
            topics=tuple(topic),
            group_id=group,
            until_end=until_end,
            client=_client_settings(client_config),
        ),
        position,
    )
    totals = _run(
        source, reader, writer, settings, Pace(rows=batch_rows, seconds=batch_seconds), quiet=as_json
    )
    _report(totals, as_json)


@ingest_app.command("check")
def ingest_check(
    file: Annotated[Path, typer.Argument(help="A sample: one message a line.")],
    format_: FormatOption = "native",
    intake: IntakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a sample without sealing anything: which field came from where, and what stays empty.

    Example: decision-ledger ingest check sample.jsonl --format opa
    """
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", "Name a sample with one message a line.")
    settings = read_intake(intake, str(file))
    with file.open("rb") as stream:
        lines = [line for line in stream.read(CHECK_BYTES).splitlines() if line.strip()]
    decoded = adapter(format_, settings.options).decode(
        pa.array(lines, pa.large_binary()), settings.limits, datetime.now(UTC)
    )
    filled = {
        field.name: len(decoded.events) - decoded.events.column(field.name).null_count for field in FIELDS
    }
    value = {
        "messages": len(lines),
        "events": len(decoded.events),
        "rejected": [{"line": v.message, "reason": v.reason, "field": v.field} for v in decoded.rejected],
        "ignored": len(decoded.ignored),
        "fields": {name: count for name, count in filled.items() if count},
        "empty": [name for name, count in filled.items() if not count],
        "from": [{"pointer": pointer, "field": name} for pointer, name in FIELD_MAPS[format_]],
    }
    text = [f"{len(lines)} messages gave {len(decoded.events)} events; {len(decoded.rejected)} rejected."]
    text += [
        f"  line {v.message}: {v.reason}" + (f" ({v.field})" if v.field else "") for v in decoded.rejected
    ]
    text += ["", _field_map(format_), "", "Filled, of the events above:"]
    text += [f"  {name:<24} {count}" for name, count in filled.items() if count]
    text += ["Empty: " + ", ".join(value["empty"])]  # type: ignore[arg-type]  # a list of names
    answer(value, "\n".join(text), as_json)
    if decoded.rejected:
        raise typer.Exit(1)


@letters_app.command("list")
def letters_list(
    status: Annotated[
        str, typer.Option("--status", help="rejected, duplicate, ignored or all.")
    ] = "rejected",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = LETTER_ROWS,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Messages that were not accepted, newest first, with the id that show and replay take.

    Example: decision-ledger deadletters list --status all
    """
    with Ledger.open(ledger_url(ledger)) as opened:
        rows, of = letters.listed(opened, status, limit)
    columns = ["id", "time", "status", "topic", "partition", "record_offset", "reason", "field", "replayed"]
    text = table_text(columns, [[row[name] for name in columns] for row in rows])
    answer(rows, f"{text}\n({len(rows):,} of {of:,})", as_json)


@letters_app.command("show")
def letters_show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="As `deadletters list` prints it.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """One dead letter whole, with its message after masking.

    Example: decision-ledger deadletters show 5f0c…a1:0
    """
    with Ledger.open(ledger_url(ledger)) as opened:
        row = letters.shown(opened, letter)
    text = "\n".join(f"{name:<14} {_printable(value)}" for name, value in row.items() if value is not None)
    answer(row, text, as_json)


@letters_app.command("replay")
def letters_replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="None: all rejected ones.")] = None,
    format_: FormatOption = "native",
    intake: IntakeOption = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try rejected messages again, after a fix. One that is sealed now is never replayed twice.

    Example: decision-ledger deadletters replay --format opa --intake fixed.toml
    """
    settings = read_intake(intake, "replay")
    writer = Writer(store_at(ledger), signing_key(ledger, key), name=_worker_name())
    with Ledger.open(ledger_url(ledger)) as opened:
        value = letters.replay(opened, writer, adapter(format_, settings.options), settings, ids or [])
    answer(
        value,
        f"{value['sealed']} of {value['tried']} messages were sealed ({value['events']} events); "
        f"{value['still_rejected']} are still unusable.",
        as_json,
    )


def _run(
    source: Source, reader: Adapter, writer: Writer, settings: IntakeSettings, pace: Pace, *, quiet: bool
) -> Totals:
    maintenance = Maintenance(writer, source)
    show = sys.stderr.isatty() and not quiet and not shared.json

    def committed(_: object, totals: Totals) -> None:
        if show:
            sys.stderr.write(f"\r{totals.events:,} events in {totals.commits:,} commits")
            sys.stderr.flush()
        maintenance.after_commit()

    pipeline = Pipeline(
        source, reader, writer, intake=settings.intake, limits=settings.limits, pace=pace, on_commit=committed
    )
    with _graceful(pipeline):
        totals = pipeline.run()
    maintenance.finish()
    if show:
        sys.stderr.write("\n")
    return totals


@contextlib.contextmanager
def _graceful(pipeline: Pipeline) -> Iterator[None]:
    """SIGTERM and Ctrl-C seal what is in hand and end with 0."""

    def stop(_: int, __: FrameType | None) -> None:
        pipeline.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(totals: Totals, as_json: bool) -> None:
    value = {name: getattr(totals, name) for name in Totals.__slots__}
    text = (
        f"{totals.events:,} events sealed in {totals.commits:,} commits, {totals.segments:,} segments "
        f"(head {totals.head:,}).\n"
        f"messages: {totals.accepted:,} accepted, {totals.duplicate:,} duplicate, {totals.ignored:,} "
        f"ignored, {totals.rejected:,} rejected; offsets: {totals.skipped:,} skipped, {totals.lost:,} lost."
    )
    answer(value, text, as_json)
    if totals.rejected:
        say("Rejected messages were set aside: see `decision-ledger deadletters list`.")


def _field_map(format_: str) -> str:
    rows = [f"  {pointer:<52} -> {name}" for pointer, name in FIELD_MAPS[format_]]
    return "\n".join([f"Fields of the format {format_}:", *rows])


def _client_settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", "Correct --client-config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _worker_name() -> str:
    # Random, since a host's name would be handed out with every evidence bundle.
    return f"worker-{secrets.token_hex(4)}"
