"""The command `dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.console import JsonOption, LedgerOption, VkeyOption, answer, ledger_url

DEFAULT_LISTEN = "127.0.0.1:8501"


def dashboard(
    listen: Annotated[str, typer.Option(help="Where to serve: HOST:PORT.")] = DEFAULT_LISTEN,
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    verify_every: Annotated[
        int,
        typer.Option(
            help="Verify everything sealed at the start and every so many minutes; 0: never.", min=0
        ),
    ] = 60,
    intake: Annotated[
        str | None,
        typer.Option(help="Where what people do is handed to: the address of `ingest http --people`."),
    ] = None,
    intake_token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that this intake asks for.")
    ] = None,
    sign_in: Annotated[
        Path | None, typer.Option("--sign-in", help="Who signs in, and what they may see: a TOML file.")
    ] = None,
    trace_url: Annotated[
        str | None, typer.Option(help="Where a trace opens in your tracing tool; {trace_id} stands in it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the dashboard until Ctrl-C. Without --sign-in it serves this machine alone.

    Example: decision-ledger dashboard --ledger decision-ledger
    """
    from dashboard.serving import address, free_port, is_loopback, serve
    from dashboard.settings import DashboardSettings
    from dashboard.sign_in import read_sign_in
    from ledger.errors import UsageError

    host, port = address(listen)
    own = None if sign_in is None else read_sign_in(sign_in)
    if own is None and not is_loopback(host):
        raise UsageError(
            f"Nobody signs in, so the dashboard does not serve {host}.",
            "Listen on 127.0.0.1 or localhost, or give --sign-in.",
        )
    if own is not None and intake is None:
        raise UsageError(
            "Where people sign in, what they look at is recorded.", "Give --intake and --intake-token-file."
        )
    if trace_url is not None and (
        not trace_url.startswith(("http://", "https://")) or "{trace_id}" not in trace_url
    ):
        raise UsageError(
            f"{trace_url!r} is no address of traces.", "Write it as https://traces.example/trace/{trace_id}."
        )
    if (intake is None) != (intake_token_file is None):
        raise UsageError("An intake needs its token.", "Give --intake and --intake-token-file together.")
    if intake is not None and intake_token_file is not None:
        from dashboard.handing_over import check_address, read_token

        check_address(intake)
        read_token(intake_token_file)
    port = free_port(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    who = "nobody signs in" if own is None else f"people sign in and come back to {own.redirect_uri}"
    answer({"url": url}, f"The dashboard is at {url} until Ctrl-C; {who}.", as_json)
    settings = DashboardSettings(
        ledger_url(ledger),
        vkey,
        verify_every,
        intake,
        None if intake_token_file is None else str(intake_token_file),
        None if sign_in is None else str(sign_in),
        trace_url,
    )
    serve(settings, host, port, None if own is None else own.host)
