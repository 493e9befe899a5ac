"""Commands on published heads: anchor publish, anchor check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.console import JsonOption, LedgerOption, VkeyOption, answer, open_ledger

if TYPE_CHECKING:
    from ledger.anchoring.places import Place

anchor_app = typer.Typer(no_args_is_help=True, help="Heads, published where they cannot be taken back.")
PlacesArgument = Annotated[
    list[str], typer.Argument(help="Folders, s3://bucket/prefix, kafka://HOST:PORT/TOPIC.")
]
ClientOption = Annotated[
    Path | None, typer.Option("--client-config", help="A TOML file of kafka-python settings: SASL, TLS.")
]


@anchor_app.callback()
def anchor() -> None:
    """Heads, published where they cannot be taken back."""


@anchor_app.command("publish")
def anchor_publish(
    places: PlacesArgument,
    authority: Annotated[
        str | None, typer.Option("--authority", help="Where an RFC 3161 authority stamps the time, https.")
    ] = None,
    client: ClientOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the newest head; 3 where a place cannot be reached. Intakes do it by themselves: --anchor.

    Example: decision-ledger anchor publish s3://heads-locked/prod kafka://localhost:9092/heads
    """
    from ledger.anchoring.anchors import publish

    opened_places = _places(places, client)
    with open_ledger(ledger, vkey) as opened:
        failures = publish(opened.sealed.note, opened_places, authority)
        size = opened.size
    value = {"size": size, "places": places, "failures": failures}
    lines = [f"{place}: {why}" for place, why in failures.items()]
    lines.append(
        f"The head of {size:,} entries is in {len(places) - len(failures.keys() & {*places})} places."
    )
    answer(value, "\n".join(lines), as_json)
    if failures:
        raise typer.Exit(3)


@anchor_app.command("check")
def anchor_check(
    places: PlacesArgument,
    authorities: Annotated[
        Path | None, typer.Option("--authorities", help="Root certificates of time-stamp authorities, PEM.")
    ] = None,
    client: ClientOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold every head that was published against the ledger; exit 1 where one is of another history.

    Example: decision-ledger anchor check s3://heads-locked/prod --authorities tsa-root.pem
    """
    from ledger.anchoring.anchors import check
    from ledger.anchoring.time_stamps import read_certificates

    roots = read_certificates(authorities)
    with open_ledger(ledger, vkey) as opened:
        found = [check(place, opened.sealed, roots) for place in _places(places, client)]
    lines = []
    for one in found:
        lines += [f"{one.place}: {why}" for why in one.wrong]
        stamps = f", {one.stamped:,} with a time stamp" if one.stamped else ""
        lines.append(f"{one.place}: {one.heads:,} heads up to {one.newest:,} entries{stamps}.")
    ok = not any(one.wrong for one in found)
    answer({"ok": ok, "places": [one.as_json() for one in found]}, "\n".join(lines), as_json)
    if not ok:
        raise typer.Exit(1)


def _places(urls: list[str], client: Path | None) -> list[Place]:
    from ledger.anchoring.places import open_place, read_client

    settings: dict[str, Any] = read_client(client)
    return [open_place(url, settings) for url in urls]
