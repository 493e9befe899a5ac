"""Commands that hand the ledger to other tools: export ocsf, export commits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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
    from detections.delivery.entry_topic import Record
    from ledger.reader import Ledger

BootstrapOption = Annotated[
    str | None, typer.Option("--bootstrap", help="HOST:PORT of a Kafka broker, several with commas.")
]
TopicOption = Annotated[str | None, typer.Option("--topic", help="A topic with one partition, of its own.")]
FollowOption = Annotated[bool, typer.Option("--follow", help="Go on as entries are sealed.")]
ClientOption = Annotated[
    Path | None, typer.Option("--client-config", help="A TOML file of kafka-python settings: SASL, TLS.")
]
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
    bootstrap: BootstrapOption = None,
    topic: TopicOption = None,
    follow: FollowOption = False,
    client_config: ClientOption = None,
    as_json: JsonOption = False,
) -> None:
    """Events and alerts in the classes of OCSF 1.3: one JSON object a line, or the records of a Kafka topic.

    Example: decision-ledger export ocsf --class 2004 -o findings.jsonl
    Example: decision-ledger export ocsf --bootstrap localhost:9092 --topic ocsf --follow
    """
    from detections.delivery.ocsf import CLASS
    from detections.delivery.ocsf_events import CLASS_OF

    known = {CLASS, *CLASS_OF.values()}
    wanted = set(classes or known)
    if unknown := sorted(wanted - known):
        raise UsageError(
            f"Events are exported in no class {unknown[0]}.", f"Use {', '.join(map(str, sorted(known)))}."
        )
    if bootstrap is None and topic is None:
        if follow or client_config is not None:
            raise UsageError("What is followed goes to a topic.", "Give --bootstrap and --topic.")
        _ocsf_lines(ledger, vkey, at, wanted, out, history=history)
        return
    if bootstrap is None or topic is None:
        raise UsageError("A topic needs its broker.", "Give both --bootstrap and --topic.")
    if out is not None or at is not None or history:
        raise UsageError("A topic gets every step as it is sealed.", "Leave out --out, --at and --history.")
    import orjson

    from detections.delivery.ocsf_entries import of_entries

    def records(opened: Ledger, first: int) -> Iterator[Record]:
        for index, one in of_entries(opened, first, wanted):
            yield index, orjson.dumps(one), [("class", str(one["class_uid"]).encode())]

    _to_topic(ledger, vkey, bootstrap, topic, records, follow=follow, client=client_config, as_json=as_json)


def _ocsf_lines(  # what the command was given
    ledger: str | None, vkey: str | None, at: int | None, wanted: set[int], out: Path | None, *, history: bool
) -> None:
    """Everything so far as lines, by time; what has no class is counted."""
    import heapq

    import orjson

    from detections.delivery.ocsf import CLASS, detection_finding
    from detections.delivery.ocsf_events import CLASS_OF
    from ledger.format.plain_text import plain_json

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
    follow: FollowOption = False,
    client_config: ClientOption = None,
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """The log's entries as records of a Kafka topic, in order, from where the topic ends.

    Example: decision-ledger export commits --bootstrap localhost:9092 --topic commits --follow
    """

    def records(opened: Ledger, first: int) -> Iterator[Record]:
        told = [("origin", opened.state.origin.encode()), ("checkpoint-size", str(opened.size).encode())]
        for index in range(first, opened.size):
            yield index, opened.sealed.entries[index], told

    _to_topic(ledger, vkey, bootstrap, topic, records, follow=follow, client=client_config, as_json=as_json)


def _to_topic(  # what the command was given
    ledger: str | None, vkey: str | None, bootstrap: str, topic: str,
    records: Callable[[Ledger, int], Iterator[Record]], *, follow: bool, client: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write what `records` makes of the entries from where the topic ends, and of new ones while followed."""
    import threading

    from detections.delivery.entry_topic import EntryTopic

    stopped = threading.Event()
    count = 0
    with open_ledger(ledger, vkey) as opened, ended_by_signals(stopped.set):
        target = EntryTopic(bootstrap, topic, _client_settings(client))
        begun = target.next
        try:
            target.check_within(opened.size)
            while True:
                count += target.send(records(opened, target.next), opened.size)
                if not follow or stopped.wait(FOLLOW_SECONDS):
                    break
                opened.refresh()
        finally:
            target.close()
    said = {"records": count, "entries": target.next - begun, "next": target.next}
    text = f"{count:,} records of {said['entries']:,} entries sent; next is {target.next:,}."
    answer(said, text, as_json)


def _client_settings(path: Path | None) -> dict[str, Any]:
    import tomllib

    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise UsageError(f"{path} cannot be read as TOML.", "Correct --client-config.") from None
