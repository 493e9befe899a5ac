"""Commands that bring events in, those of files and Kafka, and where the others are mounted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ingest.adapters import adapter
from ingest.check_cli import ingest_check
from ingest.defaults import BATCH_ROWS, BATCH_SECONDS, SASL_MECHANISMS, SECURITY_PROTOCOLS
from ingest.http_cli import ingest_http
from ingest.ingestion import (
    DecodersOption,
    FormatOption,
    IntakeOption,
    RowsOption,
    SecondsOption,
    WriterOption,
    check_name,
    ingested,
    open_writer,
    worker_name,
)
from ingest.letters_cli import letters_app
from ingest.objects_cli import ingest_digests, ingest_objects
from ledger.console import (
    AnchorOption,
    JsonOption,
    KeyOption,
    LedgerOption,
    MetersOption,
    RetentionOption,
    note,
    open_ledger,
)
from ledger.errors import UsageError
from ledger.format.plain_text import plain

if TYPE_CHECKING:
    from ingest.formats import Sample
    from ingest.sources.files.source import FileSource


GROUP: Final = "decision-ledger"

ingest_app = typer.Typer(no_args_is_help=True, help="Bring decision events in.")


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    ingest_app.command("http")(ingest_http)
    ingest_app.command("objects")(ingest_objects)
    ingest_app.command("digests")(ingest_digests)
    ingest_app.command("check")(ingest_check)
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of one message which field came from where.")
    ] = False,
    intake: IntakeOption = None,
    writer_name: WriterOption = None,
    batch_rows: RowsOption = BATCH_ROWS,
    batch_seconds: SecondsOption = BATCH_SECONDS,
    decoders: DecodersOption = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal the events of files. Running it again goes on where it stopped.

    Example: decision-ledger ingest file decisions.jsonl.gz --format opa
    """
    from ingest.formats import Sample
    from ingest.intakes import read_intake
    from ingest.pipeline import Pace
    from ingest.sources.files.source import FilePosition, FileSource
    from ledger.format.manifest import OffsetKey

    if as_name is not None:
        check_name(as_name, "stream", "--as")
    settings = read_intake(intake, paths[0] if paths[0] != "-" else "stdin")
    reader = adapter(format_, settings.options)
    writer = open_writer(ledger, key, writer_name)

    def position(of: OffsetKey) -> FilePosition | None:
        found = writer.position(of)
        if found is None:
            return None
        return FilePosition(found.to, found.bytes or 0, found.prefix or "")

    sample = Sample(reader.name)
    source = FileSource(paths, position, follow=follow, name=as_name, limits=settings.limits)
    totals = ingested(
        source,
        reader,
        writer,
        settings,
        Pace(rows=batch_rows, seconds=batch_seconds),
        as_json=as_json,
        sample=sample,
        decoders=decoders,
    )
    if explain:
        note(_explained(sample, settings.options))
    if not totals.commits:
        _tell_of_rejected(ledger, source, format_)


def _tell_of_rejected(ledger: str | None, source: FileSource, format_: str) -> None:
    """Nothing was new: where messages of these inputs were refused before, say what to do about them."""
    from ingest.letters import rejected_of

    topics = sorted({key.topic for key in source.keys})
    with open_ledger(ledger, None) as opened:
        rejected = rejected_of(opened, topics)
    if rejected:
        note(
            f"These inputs were sealed before, and {rejected:,} of their messages were refused then. "
            f"`decision-ledger deadletters replay --format {format_}` tries them again."
        )


@ingest_app.command("kafka")
def ingest_kafka(
    bootstrap: Annotated[
        str | None, typer.Option("--bootstrap", help="HOST:PORT, several with commas.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option("--topic", help="A topic; may be given several times.")
    ] = None,
    topics: Annotated[
        Path | None, typer.Option("--topics", help="A TOML file of topics, each with its format and intake.")
    ] = None,
    format_: FormatOption = "native",
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at the end that is there now.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option("--group", help="The consumer group that workers share; else decision-ledger."),
    ] = None,
    client_config: Annotated[
        Path | None, typer.Option("--client-config", help="A TOML file of kafka-python settings: SASL, TLS.")
    ] = None,
    security_protocol: Annotated[
        str | None, typer.Option("--security-protocol", help=f"One of {', '.join(SECURITY_PROTOCOLS)}.")
    ] = None,
    ssl_ca: Annotated[Path | None, typer.Option("--ssl-ca", help="CA certificates to trust, PEM.")] = None,
    ssl_cert: Annotated[Path | None, typer.Option("--ssl-cert", help="Our certificate, PEM.")] = None,
    ssl_key: Annotated[Path | None, typer.Option("--ssl-key", help="Our certificate's key, PEM.")] = None,
    ssl_key_password_file: Annotated[
        Path | None, typer.Option("--ssl-key-password-file", help="A file with that key's password.")
    ] = None,
    sasl_mechanism: Annotated[
        str | None, typer.Option("--sasl-mechanism", help=f"One of {', '.join(SASL_MECHANISMS)}.")
    ] = None,
    sasl_username: Annotated[
        str | None, typer.Option("--sasl-username", help="The user to log in as.")
    ] = None,
    sasl_password_file: Annotated[
        Path | None, typer.Option("--sasl-password-file", help="A file with the user's password.")
    ] = None,
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
    """Seal the events of Kafka topics, exactly once, with as many workers as there are partitions.

    Example: decision-ledger ingest kafka --bootstrap localhost:9092 --topic decisions
    Example: decision-ledger ingest kafka --topics topics.toml
    """
    from ingest.decoded import headers_of
    from ingest.intakes import read_intake, read_toml
    from ingest.pipeline import Pace
    from ingest.routes import Route, read_topics
    from ingest.sources.kafka.security import KafkaSecurity
    from ingest.sources.kafka.settings import KafkaSettings
    from ingest.sources.kafka.source import KafkaSource
    from ledger.format.manifest import OffsetKey
    from ledger.upkeep.keeping import Keeping

    security = KafkaSecurity(
        security_protocol, ssl_ca, ssl_cert, ssl_key, ssl_key_password_file,
        sasl_mechanism, sasl_username, sasl_password_file,
    ).client()  # fmt: skip
    own = {} if client_config is None else read_toml(client_config, "file", "--client-config")
    listed = read_topics(topics) if topics is not None else None
    if listed is not None:
        if topic or intake is not None or format_ != "native":
            raise UsageError(
                "Topics, formats and intakes stand in the file of topics.",
                "Give --topics, or --topic with --format and --intake.",
            )
        routes = dict(listed.routes)
        told = listed.kafka
        bootstrap, group, named = bootstrap or told.bootstrap, group or told.group, told.client
    else:
        if not topic:
            raise UsageError("No Kafka topic is named.", "Give --topic, or --topics with a file of them.")
        settings = read_intake(intake, topic[0])
        routes, named = {one: Route(adapter(format_, settings.options), settings) for one in topic}, {}
    if bootstrap is None:
        raise UsageError("No Kafka broker is named.", "Give --bootstrap HOST:PORT.")
    first = next(iter(routes.values()))
    name = writer_name or worker_name()
    writer = open_writer(ledger, key, name)

    def position(of: OffsetKey) -> int | None:
        found = writer.position(of)
        return None if found is None else found.to

    source = KafkaSource(
        KafkaSettings(
            bootstrap_servers=bootstrap,
            topics=tuple(routes),
            group_id=group or GROUP,
            until_end=until_end,
            headers=tuple(sorted({name for route in routes.values() for name in headers_of(route.adapter)})),
            client={**named, **own, **security},
        ),
        position,
    )
    pace = Pace(rows=batch_rows, seconds=batch_seconds)
    ingested(
        source, first.adapter, writer, first.settings, pace, as_json=as_json, listen=listen, routes=routes,
        decoders=decoders,
        keeping=Keeping(writer, apply_retention=apply_retention, anchors=anchor or ()),
    )  # fmt: skip


def _explained(sample: Sample, options: Mapping[str, Any]) -> str:
    """Where the fields of the first event came from."""
    from ingest.explaining import explained

    if sample.first is None:
        return "There was no event to explain."
    message, event = sample.first
    rows = [
        plain(f"  {one['field']:<24} {one['from']:<48} {one['value']}")
        for one in explained(sample.name, options, event, message)
    ]
    return "\n".join([f"The first event, read as {sample.name}:", *rows])
