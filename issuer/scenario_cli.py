"""Commands that play scenarios: issuer scenario list, run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import DEFAULT_FOLDER, SCENARIO_RATE, SCENARIOS
from issuer.policy_cli import FolderOption
from ledger.console import JsonOption, answer
from ledger.errors import UsageError

scenario_app = typer.Typer(no_args_is_help=True, help="Scenarios: traffic with incidents, and the truth.")


@scenario_app.callback()
def scenario() -> None:
    """Scenarios: a company's traffic, what goes wrong in it, and the truth about what was planted."""


@scenario_app.command("list")
def list_scenarios(as_json: JsonOption = False) -> None:
    """The scenarios, and what each plants.

    Example: decision-ledger issuer scenario list
    """
    from issuer.scenarios.catalogue import DESCRIPTIONS

    width = max(map(len, SCENARIOS))
    value = [{"name": name, "description": DESCRIPTIONS[name]} for name in SCENARIOS]
    answer(value, "\n".join(f"{one['name'].ljust(width)}  {one['description']}" for one in value), as_json)


@scenario_app.command("run")
def run_scenario(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(SCENARIOS)}.")],
    out: Annotated[Path, typer.Option("--out", help="The events, as JSON Lines; the truth goes beside it.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same events, byte for byte.")] = 7,
    rate: Annotated[
        float, typer.Option(help="Tasks in a working hour.", min=0.0, max=100_000)
    ] = SCENARIO_RATE,
    hours: Annotated[
        float | None, typer.Option(help="How long; else a day, or a week.", min=0.1, max=24 * 62)
    ] = None,
    live: Annotated[
        str | None, typer.Option("--live", help="Play against started services: their authority's URL.")
    ] = None,
    folder: FolderOption = Path(DEFAULT_FOLDER),
    start: Annotated[
        str | None, typer.Option(help="The UTC day that it begins on, such as 2026-11-16 (a Monday).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Play a scenario in simulated time: its events into a file, the truth into FILE.truth.json.

    With --live, healthy tasks (as many as --rate says) go through started services, which send the events
    themselves; the file has a line for each call. What other scenarios plant, the services refuse.

    Example: decision-ledger issuer scenario run company-week --seed 7 --out week.jsonl
    """
    from issuer.scenarios.catalogue import START, play, write

    if live is not None:
        _run_live(name, live, folder, out, seed=seed, count=int(rate), as_json=as_json)
        return
    begin = START
    if start is not None:
        try:
            begin = datetime.fromisoformat(f"{start}T00:00:00+00:00")
        except ValueError:
            raise UsageError(f"{start!r} is no day.", "Write it as 2026-11-16.") from None
    played = play(name, seed, rate=rate, hours=hours, start=begin)
    truth = write(played, out)
    planted = played.truth["incidents"]
    answer(
        {"scenario": name, "seed": seed, "events": len(played.events), "out": str(out), "truth": str(truth),
         "incidents": [one["id"] for one in planted]},
        f"{len(played.events):,} events in {out}; {len(planted)} planted incidents in {truth}.",
        as_json,
    )  # fmt: skip


def _run_live(name: str, live: str, folder: Path, out: Path, *, seed: int, count: int, as_json: bool) -> None:
    import json

    from issuer.scenarios.live import Live
    from issuer.scenarios.live_runs import healthy_tasks

    if name != "healthy-day":
        raise UsageError(
            f"{name} is not played against services: they refuse what it plants.",
            "Use healthy-day, or `decision-ledger issuer drill`; without --live it is simulated.",
        )
    with Live.at(live, folder) as client:
        done = healthy_tasks(client, seed, count)
    out.write_text("".join(json.dumps(call) + "\n" for call in done.calls), encoding="utf-8")
    truth = out.with_name(out.name + ".truth.json")
    planted = {"scenario": name, "seed": seed, "trace_ids": done.trace_ids, "incidents": []}
    truth.write_text(json.dumps(planted, indent=1) + "\n", encoding="utf-8")
    answer(
        {"scenario": name, "calls": len(done.calls), "tasks": len(done.trace_ids), "truth": str(truth)},
        f"{len(done.trace_ids)} tasks with {len(done.calls)} calls; their traces are in {truth}.",
        as_json,
    )
