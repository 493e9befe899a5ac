"""Command that takes events over HTTP: ingest http."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    ledger_url,
    local_folder,
    note,
)
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ingest.sources.http.listener import Tls


def ingest_http(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT; port 0 takes any.")],
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Tokens that senders show, one a line.")
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option("--spool", help="Where messages wait, on a local disk; else beside the ledger."),
    ] = None,
    max_rate: Annotated[
        int | None, typer.Option("--max-rate", help="Messages a second that one sender may send.", min=1)
    ] = None,
    ssl_cert: Annotated[Path | None, typer.Option("--ssl-cert", help="Our certificate, PEM.")] = None,
    ssl_key: Annotated[Path | None, typer.Option("--ssl-key", help="Our certificate's key, PEM.")] = None,
    ssl_client_ca: Annotated[
        Path | None, typer.Option("--ssl-client-ca", help="Who may sign senders' certificates, PEM.")
    ] = None,
    people: Annotated[
        bool,
        typer.Option(
            "--people", help="Take what people at the dashboard do, and nothing else; needs a token."
        ),
    ] = False,
    format_: FormatOption = "native",
    intake: IntakeOption = None,
    apply_retention: RetentionOption = False,
    anchor: AnchorOption = None,
    writer_name: WriterOption = None,
    meters: MetersOption = None,
    batch_rows: RowsOption = BATCH_ROWS,
    batch_seconds: SecondsOption = BATCH_SECONDS,
    decoders: DecodersOption = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal the events posted to /events, /logs and /logs/NAME. 2xx means: on the disk here, come what may.

    Example: decision-ledger ingest http --listen 127.0.0.1:8088 --token-file tokens.txt
    """
    from ingest.adapters import adapter
    from ingest.adapters.ssf import SsfAdapter
    from ingest.decoded import headers_of
    from ingest.intakes import of_people, read_intake
    from ingest.pipeline import Pace
    from ingest.pushed_tokens import PushedTokens
    from ingest.sources.http.listener import Listener
    from ingest.sources.http.source import SpoolSource, key_of
    from ingest.sources.http.spool import Spool
    from ledger.settings.listening import LOOPBACK, address, read_tokens
    from ledger.upkeep.keeping import Keeping

    host, port = address(listen)
    tokens = read_tokens(token_file)
    if not tokens and ssl_client_ca is None and host not in LOOPBACK:
        raise UsageError(
            f"{host} can be reached by others, and anybody could send.",
            "Give tokens with --token-file, or senders' certificates with --ssl-client-ca.",
        )
    tls = _tls(ssl_cert, ssl_key, ssl_client_ca)
    if people and (not tokens or intake is not None or format_ != "native"):
        raise UsageError(
            "An intake of what people do takes native events, has no settings and asks for a token.",
            "Give --token-file, and neither --format nor --intake.",
        )
    settings = of_people() if people else read_intake(intake, "http")
    reader = adapter(format_, settings.options)
    writer = open_writer(ledger, key, writer_name)
    kept = Spool(spool or _default_spool(ledger, _suffix(format_, people=people)))
    try:
        push = PushedTokens(reader) if isinstance(reader, SsfAdapter) else None
        binary = any(name.startswith("ce-") for name in headers_of(reader))
        listener = Listener(
            kept, host, port, tokens, tls=tls, max_rate=max_rate, binary_events=binary,
            open_token=None if push is None else push.message,
        )  # fmt: skip
        found = writer.position(key_of(kept))
        source = SpoolSource(kept, 0 if found is None else found.to)
        listener.start()
        note(f"Listening on {'http' if tls is None else 'https'}://{host}:{listener.port}/events")
        try:
            pace = Pace(rows=batch_rows, seconds=batch_seconds)
            ingested(
                source,
                reader if push is None else push.adapter,
                writer,
                settings,
                pace,
                keeping=Keeping(writer, apply_retention=apply_retention, anchors=anchor or ()),
                as_json=as_json,
                listen=meters,
                decoders=decoders,
            )
        finally:
            listener.stop()
    finally:
        kept.close()


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    from ingest.sources.http.listener import Tls

    if cert is None:
        if key is not None or client_ca is not None:
            raise UsageError(
                "A key, and who signs senders' certificates, need a certificate.", "Give --ssl-cert."
            )
        return None
    for path in (cert, key, client_ca):
        if path is not None and not path.is_file():
            raise UsageError(
                f"There is no file {path}.", "Correct --ssl-cert, --ssl-key and --ssl-client-ca."
            )
    return Tls(cert, key, client_ca)


def _suffix(format_: str, *, people: bool) -> str:
    """What each kind of intake keeps lies apart: what one checked, another did not."""
    return ".people.spool" if people else ".tokens.spool" if format_ == "ssf" else ".spool"


def _default_spool(ledger: str | None, suffix: str) -> Path:
    folder = local_folder(ledger_url(ledger))
    if folder is None:
        raise UsageError("A remote ledger needs a local place for the spool.", "Name it with --spool.")
    resolved = folder.resolve()
    return resolved.with_name(resolved.name + suffix)
