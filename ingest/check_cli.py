"""Command that tries a sample of messages: ingest check."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ingest.ingestion import FormatOption, IntakeOption
from ledger.console import JsonOption, answer
from ledger.format.plain_text import plain

if TYPE_CHECKING:
    from ingest.decoded import Limits

CHECK_BYTES: Final = 16 * 1024 * 1024


def ingest_check(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A sample, one message a line: plain, .gz, .zst, - for stdin.")],
    format_: FormatOption = "native",
    intake: IntakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try a sample without sealing anything: which field comes from where, which rules will see something.

    Example: decision-ledger ingest check sample.jsonl --format opa
    """
    import pyarrow as pa

    from ingest.adapters import adapter, grade
    from ingest.authority import apply
    from ingest.explaining import explained, sample_of
    from ingest.intakes import read_intake

    settings = read_intake(intake, file)
    lines, numbers, long = _read(file, settings.limits)
    read = adapter(format_, settings.options).decode(
        pa.array(lines, pa.large_binary()), settings.limits, datetime.now(UTC)
    )
    decoded = apply(read, settings.intake, settings.limits)
    sample = sample_of(decoded.events)
    # By event, where its fields came from: the first event has most of them.
    told: dict[int, dict[str, str]] = {}
    origins: dict[str, str] = {}
    for name in sample["fields"]:
        row = decoded.events.column(name).is_valid().to_pylist().index(True)
        if row not in told:
            event = decoded.events.slice(row, 1).to_pylist()[0]
            found = explained(format_, settings.options, event, lines[int(decoded.message[row])])
            told[row] = {one["field"]: one["from"] for one in found}
        if name in told[row]:
            origins[name] = told[row][name]
    spots = context.find_root().obj.blind_spots(sample["kinds"], sample["fields"])
    value = {
        "messages": len(lines),
        "events": len(decoded.events),
        "rejected": [
            {"line": numbers[v.message], "reason": long.get(v.message, v.reason), "field": v.field}
            for v in decoded.rejected
        ],
        "ignored": len(decoded.ignored),
        **sample,
        "grades": {str(one): count for one, count in sample["grades"].items()},
        "grade_can_reach": grade(format_),
        "from": [{"field": name, "pointer": origin} for name, origin in origins.items()],
        **spots,
    }
    answer(value, "\n".join(_lines(value, origins)), as_json)
    if decoded.rejected:
        raise typer.Exit(1)


def _read(file: str, limits: Limits) -> tuple[list[bytes], list[int], dict[int, str]]:
    """The first lines of a sample, their numbers from 1, and of those that are too long, why by position."""
    from ingest.sources.files.source import FileSource
    from ingest.stretches import too_long

    lines: list[bytes] = []
    numbers: list[int] = []
    long: dict[int, str] = {}
    size = 0
    source = FileSource([file], lambda _: None, limits=limits)
    try:
        while not source.finished and size < CHECK_BYTES:
            polled = source.poll(1.0)
            for chunk in polled.chunks:
                long |= {len(lines) + at: too_long(true, limits) for at, true in chunk.truncated.items()}
                lines += chunk.values.to_pylist()
                numbers += (chunk.offsets + 1).tolist()
                size += chunk.values.nbytes
            if polled.flush:
                source.flushed()
    finally:
        source.close()
    return lines, numbers, long


def _lines(value: dict[str, Any], origins: dict[str, str]) -> list[str]:
    from ingest.decoded import in_words

    ignored = f", {value['ignored']} ignored" if value["ignored"] else ""
    text = [
        f"{value['messages']} messages gave {value['events']} events; "
        f"{len(value['rejected'])} rejected{ignored}."
    ]
    text += [
        plain(f"  line {one['line']}: {in_words(one['reason'], one['field'])}") for one in value["rejected"]
    ]
    if value["events"]:
        text += ["", "Fields, filled of all events, and where the first one came from:"]
        text += [
            plain(f"  {name:<24} {count:>6} of {value['events']}  {origins[name]}")
            for name, count in value["fields"].items()
            if name in origins
        ]
        text += ["Empty: " + ", ".join(value["empty"]), ""]
        text += ["Kinds: " + _counts(value["kinds"])]
        if value["decisions"]:
            text += ["Decisions: " + _counts(value["decisions"])]
            text += [f"Results that nobody mapped: {value['unmapped']}"] if value["unmapped"] else []
            text += [
                f"Context grades: {_counts(value['grades'])}; "
                f"the format can reach {value['grade_can_reach']}."
            ]
        for what in ("rules", "metrics"):
            text += ["", f"{what.capitalize()} on these events alone:"]
            text += [
                f"  {one['id']:<36} "
                + ("works" if one["works"] else "blind: no " + ", no ".join(one["missing"]))
                for one in value[what]
            ]
    return text


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
