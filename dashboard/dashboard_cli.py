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
    trace_url: Annotated[
        str | None, typer.Option(help="Where a trace opens in your tracing tool; {trace_id} stands in it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the dashboard until Ctrl-C. Nobody signs in, so it serves this machine alone.

    Example: decision-ledger dashboard --ledger decision-ledger
    """
    from dashboard.serving import address, free_port, is_loopback, serve
    from dashboard.settings import DashboardSettings
    from ledger.errors import UsageError

    host, port = address(listen)
    if not is_loopback(host):
        raise UsageError(
            f"Nobody signs in, so the dashboard does not serve {host}.",
            "Listen on 127.0.0.1, or on localhost.",
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
    answer({"url": url}, f"The dashboard is at {url} until Ctrl-C; nobody signs in.", as_json)
    settings = DashboardSettings(
        ledger_url(ledger),
        vkey,
        verify_every,
        intake,
        None if intake_token_file is None else str(intake_token_file),
        trace_url,
    )
    serve(settings, host, port)
