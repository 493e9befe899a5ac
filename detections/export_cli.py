"""Commands that hand the ledger to other tools: export ocsf, export commits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ledger.console import (
    AtOption,
    JsonOption,
    LedgerOption,
    VkeyOption,
    answer,
    ended_by_signals,
    note,
    open_ledger,
)
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ledger.reader import Ledger

FOLLOW_SECONDS: Final = 1.0
"""How often a log is looked at that is followed."""
LEFT_OUT: Final = (
    "SELECT kind, count(*) AS n FROM events WHERE NOT list_contains($kinds, kind) GROUP BY 1 ORDER BY 1"
)

export_app = typer.Typer(no_args_is_help=True, help="What the ledger holds, for other tools.")


@export_app.callback()
def export() -> None:
    """What the ledger holds, in the forms of other tools."""


@export_app.command("ocsf")
def export_ocsf(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    at: AtOption = None,
    classes: Annotated[
        list[int] | None,
        typer.Option("--class", help="2004, 3002, 3003 or 6003; may be given several times. All of them."),
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A file; else standard output.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Every step of each alert, and not only the last.")
    ] = False,
) -> None:
    """Events and alerts in the classes of OCSF 1.3, one JSON object a line, oldest first.

    Example: decision-ledger export ocsf --class 2004 -o findings.jsonl
    """
    import heapq

    import orjson

    from detections.delivery.ocsf import CLASS, detection_finding
    from detections.delivery.ocsf_events import CLASS_OF
    from ledger.format.plain_text import plain_json

    known = {CLASS, *CLASS_OF.values()}
    wanted = set(classes or known)
    if unknown := sorted(wanted - known):
        raise UsageError(
            f"Events are exported in no class {unknown[0]}.", f"Use {', '.join(map(str, sorted(known)))}."
        )
    with open_ledger(ledger, vkey) as opened:
        size = at or opened.size
        if at is not None:
            opened.committed(at)  # says so where something of it is gone
        findings: Iterator[dict[str, Any]] = iter(())
        if CLASS in wanted:
            findings = (detection_finding(step) for step in _steps(opened, size, history=history))
        kinds = sorted(kind for kind, class_ in CLASS_OF.items() if class_ in wanted)
        both = heapq.merge(_activities(opened, size, kinds), findings, key=lambda one: one["time"])
        target = sys.stdout if out is None else out.open("w", encoding="utf-8")
        try:
            for one in both:
                target.write(f"{plain_json(orjson.dumps(one).decode())}\n")
        finally:
            if out is not None:
                target.close()
        left = opened.query(at).trusted(LEFT_OUT, {"kinds": [*CLASS_OF, "alert"]}).to_pylist()
    if left:
        note("No class says what these say: " + ", ".join(f"{one['n']:,} {one['kind']}" for one in left))


def _steps(opened: Ledger, size: int, *, history: bool) -> list[dict[str, Any]]:
    """Steps of alerts by time: all of them, or the last of each."""
    from detections.sealed_log import SealedLog

    log = SealedLog.of(opened)
    steps = [step for _, found in log.alert_steps(log.parsed(0, size)) for step in found if step["alert_id"]]
    last = {step["alert_id"]: step for step in steps}
    kept = steps if history else [step for step in steps if last[step["alert_id"]] is step]
    return sorted(kept, key=lambda step: (step["time"], step["event_id"]))


def _activities(opened: Ledger, size: int, kinds: list[str]) -> Iterator[dict[str, Any]]:
    """Events of these kinds as activities, by time; a batch of them is in memory at once."""
    from detections.delivery.ocsf_events import COLUMNS, activity

    if not kinds:
        return
    query = f"SELECT {', '.join(COLUMNS)} FROM events WHERE kind IN $kinds ORDER BY time, source, event_id"  # noqa: S608  # our own names
    for batch in opened.query(size).trusted_stream(query, {"kinds": kinds}):
        for event in batch.to_pylist():
            found = activity(event)
            if found is not None:
                yield found


@export_app.command("commits")
def export_commits(
    bootstrap: Annotated[str, typer.Option("--bootstrap", help="HOST:PORT, several with commas.")],
    topic: Annotated[str, typer.Option("--topic", help="A topic with one partition, of its own.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on as entries are sealed.")] = False,
    client_config: Annotated[
        Path | None, typer.Option("--client-config", help="A TOML file of kafka-python settings: SASL, TLS.")
    ] = None,
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """The log's entries as records of a Kafka topic, in order, from where the topic ends.

    Example: decision-ledger export commits --bootstrap localhost:9092 --topic commits --follow
    """
    import threading
    import tomllib

    from detections.delivery.commits import CommitsTopic

    client: dict[str, Any] = {}
    if client_config is not None:
        try:
            client = tomllib.loads(client_config.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            raise UsageError(f"{client_config} cannot be read as TOML.", "Correct --client-config.") from None
    stopped = threading.Event()
    count = 0
    with open_ledger(ledger, vkey) as opened, ended_by_signals(stopped.set):
        target = CommitsTopic(bootstrap, topic, client)
        try:
            if target.next > opened.size:
                raise UsageError(
                    f"The topic {topic} is at entry {target.next - 1:,}, and this ledger ends at "
                    f"{opened.size:,}: they do not belong together.",
                    "Name the topic of this ledger, or look at which of them was rolled back.",
                )
            while True:
                count += target.send(opened.state.origin, opened.sealed.entries.__getitem__, opened.size)
                if not follow or stopped.wait(FOLLOW_SECONDS):
                    break
                opened.refresh()
        finally:
            target.close()
    answer(
        {"entries": count, "next": target.next}, f"{count:,} entries sent; next is {target.next:,}.", as_json
    )
