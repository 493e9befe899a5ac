"""Commands on how long things are kept: retention plan and apply, hold add, list and release."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ledger.console import (
    AtOption,
    JsonOption,
    KeyOption,
    LedgerOption,
    VkeyOption,
    answer,
    note,
    open_ledger,
    table_text,
    writer_of,
)
from ledger.defaults import GRACE_SECONDS
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ledger.format.state import LogState
    from ledger.upkeep.retention import ClassPlan
    from ledger.writer import Writer

HOLD_ID_BYTES: Final = 4
MAX_TEXT: Final = 2_000
ByOption = Annotated[str, typer.Option("--by", help="Who asked for it, such as user:counsel. It is sealed.")]
GraceOption = Annotated[
    int,
    typer.Option("--grace", help="Seconds until the old files are deleted, for those who read now.", min=0),
]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="End before the grace is over; the next commit deletes them.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why. It is sealed, and never goes.")]

retention_app = typer.Typer(no_args_is_help=True, help="How long events are kept, and what goes when.")
hold_app = typer.Typer(no_args_is_help=True, help="What must not go, whatever its class says.")


@retention_app.command("plan")
def retention_plan(
    at: AtOption = None, vkey: VkeyOption = None, ledger: LedgerOption = None, as_json: JsonOption = False
) -> None:
    """What is due by the ledger's clock, how many bytes that frees, and which holds keep something.

    Example: decision-ledger retention plan
    """
    from ledger.log.retention_classes import classes_in_force
    from ledger.upkeep.retention import plan, totals

    with open_ledger(ledger, vkey) as opened:
        state = opened.as_of(at)
        plans = plan(state, classes_in_force(state, opened.store))
        clock = state.times[-1] if state.times else None
    value = {"clock": clock, "classes": [one.as_json() for one in plans], **totals(plans)}
    answer(value, _plan_text(plans), as_json)


@retention_app.command("apply")
def retention_apply(
    by: ByOption = "operator",
    reason: Annotated[str | None, typer.Option("--reason", help="Why. It is sealed, and never goes.")] = None,
    grace: GraceOption = GRACE_SECONDS,
    no_wait: NoWaitOption = False,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal that what is due expires, and delete its files after their grace. Roots and old proofs stay.

    Example: decision-ledger retention apply --by user:dpo
    """
    from ledger.upkeep.retention import REASON, apply

    writer = writer_of(ledger, key, "retention")
    entries = list(
        apply(writer, by=one_line(by, "--by"), reason=one_line(reason or REASON, "--reason"), grace=grace)
    )
    deleted: list[str] = []
    if entries and not no_wait:
        deleted = sweep_after(grace, writer)
    segments = sum(len(entry.paths) for entry in entries)
    value = {"entries": len(entries), "segments": segments, "deleted": deleted, "head": writer.state.size}
    text = f"{segments:,} segments expired in {len(entries)} entries; {len(deleted):,} files deleted."
    answer(value, text if entries else "Nothing is due.", as_json)


@hold_app.command("add")
def hold_add(
    by: ByOption,
    reason: ReasonOption,
    hold_id: Annotated[str | None, typer.Option("--id", help="Its name; else one is made.")] = None,
    class_: Annotated[str | None, typer.Option("--class", help="Only this retention class.")] = None,
    trace: Annotated[str | None, typer.Option("--trace", help="Only what may belong to this trace.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Only what may be of this actor.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="Only events from this time on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Only events before this time.")] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Keep all that the ledger holds, now and later.")
    ] = False,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep what matches all that is given, until the hold is released. Whole segments are kept.

    Example: decision-ledger hold add --actor user:alice --by user:counsel --reason "case 17"
    """
    from ledger.format.manifest import HoldMatch, HoldPlaced, InvalidEntry, instant

    narrowed = any(one is not None for one in (class_, trace, actor, since, until))
    if narrowed == everything:
        raise UsageError(
            "A hold says what it keeps." if not narrowed else "A hold on everything has no conditions.",
            "Give --class, --trace, --actor, --from or --to, or --everything alone.",
        )
    writer = writer_of(ledger, key, "hold")
    start, end = _time(since, "--from"), _time(until, "--to")
    if class_ is not None and class_ not in writer.classes():
        raise UsageError(
            f"This ledger has no retention class {class_}.", f"It has {', '.join(sorted(writer.classes()))}."
        )
    if start is not None and end is not None and start >= end:
        raise UsageError("The hold ends before it begins.", "Correct --from and --to.")
    if start is None and (trace is not None or actor is not None):
        # A segment is not read when it expires: without a beginning such a hold would keep everything.
        start = _first_match(ledger, trace, actor)
        if start is not None:
            note(f"It begins with the first event that matches, {instant(start)}.")
    match = HoldMatch(
        class_=class_, trace_id=trace, actor=actor,
        from_=None if start is None else instant(start), to=None if end is None else instant(end),
    )  # fmt: skip
    name = hold_id or f"hold-{secrets.token_hex(HOLD_ID_BYTES)}"
    values = {
        "id": one_line(name, "--id"),
        "match": match,
        "by": one_line(by, "--by"),
        "reason": one_line(reason, "--reason"),
    }
    try:
        writer.put(HoldPlaced, values)
    except InvalidEntry as error:
        raise UsageError(error.message, "Choose another --id.") from None
    value = {
        "id": name,
        "match": _match(match),
        "segments": _covered(writer.state)[name],
        "head": writer.state.size,
    }
    answer(value, f"{name} is in force and keeps {value['segments']:,} segments.", as_json)


@hold_app.command("list")
def hold_list(
    at: AtOption = None, vkey: VkeyOption = None, ledger: LedgerOption = None, as_json: JsonOption = False
) -> None:
    """The holds that are in force, and how much each keeps.

    Example: decision-ledger hold list
    """
    with open_ledger(ledger, vkey) as opened:
        state = opened.as_of(at)
        kept = _covered(state)
        found: list[dict[str, Any]] = [
            {"id": one.id, "match": _match(one.match), "by": one.by, "reason": one.reason, "since": one.time,
             "segments": kept[one.id]}
            for one in state.legal_holds.values()
        ]  # fmt: skip
    columns = ["id", "covers", "segments", "by", "since", "reason"]
    rows = (
        [one["id"], ", ".join(f"{name} {value}" for name, value in one["match"].items()) or "everything",
         f"{one['segments']:,}", one["by"], one["since"], one["reason"]]
        for one in found
    )  # fmt: skip
    answer(found, table_text(columns, rows) if found else "No hold is in force.", as_json)


@hold_app.command("release")
def hold_release(
    hold_id: Annotated[str, typer.Argument(metavar="ID", help="The hold, as `hold list` names it.")],
    by: ByOption,
    reason: ReasonOption,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift a hold: what it kept goes when its class says so.

    Example: decision-ledger hold release hold-1a2b3c4d --by user:counsel --reason "case 17 is closed"
    """
    from ledger.format.manifest import InvalidEntry, Release

    writer = writer_of(ledger, key, "hold")
    try:
        writer.put(
            Release, {"id": hold_id, "by": one_line(by, "--by"), "reason": one_line(reason, "--reason")}
        )
    except InvalidEntry as error:
        raise UsageError(error.message, "`decision-ledger hold list` names those in force.") from None
    answer({"id": hold_id, "head": writer.state.size}, f"{hold_id} is released.", as_json)


def sweep_after(grace: int, writer: Writer, *, early: bool = False) -> list[str]:
    """Wait `grace` seconds, for those who read now, and delete the files whose grace is over; their paths."""
    note(f"Sealed; waiting {grace} s until nobody reads the old files any more.")
    time.sleep(grace)
    return writer.sweep(early=early)


def one_line(value: str, option: str) -> str:
    """What is to be sealed as text. Raises UsageError for several lines, or none."""
    if not value.strip() or len(value) > MAX_TEXT or not value.isprintable():
        raise UsageError(f"{option} is empty, too long, or holds control characters.", "Write one line.")
    return value


def _time(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time.", f"Write {option} 2026-11-16 or 2026-11-16T09:00:00Z."
        ) from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _first_match(ledger: str | None, trace: str | None, actor: str | None) -> datetime | None:
    """The time of the first event that a hold by trace or actor covers; None where there is none yet."""
    given = {name: value for name, value in (("trace_id", trace), ("actor", actor)) if value is not None}
    where = " AND ".join(f"{name} = ${name}" for name in given)
    query = f"SELECT min(time) AS first FROM events WHERE {where}"  # noqa: S608  # our own names
    with open_ledger(ledger, None) as opened:
        (row,) = opened.query().trusted(query, given).to_pylist()
    first: datetime | None = row["first"]
    if first is None:
        note("No event matches yet: everything from now on is kept that may match.")
        return datetime.now(UTC)
    return first


def _match(match: Any) -> dict[str, str]:
    found: dict[str, str] = match.model_dump(by_alias=True, exclude_none=True)
    return found


def _covered(state: LogState) -> Counter[str]:
    """Segments that each hold keeps."""
    live = (path for path, original in state.originals.items() if not original.expired)
    return Counter(hold.id for path in live for hold in state.holds_on(path))


def _plan_text(plans: Sequence[ClassPlan]) -> str:
    columns = ["class", "kept for", "not due", "due", "bytes", "oldest", "held", "by", "next"]
    rows = [
        [
            one.name,
            "until released" if one.rule.days is None else f"{one.rule.days:,} d",
            f"{one.kept:,}", f"{len(one.due):,}", f"{sum(segment.bytes for segment in one.due):,}",
            one.due[0].date.isoformat() if one.due else "-", f"{len(one.held):,}",
            ", ".join(sorted({hold for segment in one.held for hold in segment.holds})) or "-",
            "-" if one.next is None else one.next.isoformat(),
        ]
        for one in plans
    ]  # fmt: skip
    return table_text(columns, rows)
