"""Commands that need the ledger alone: init, status, sql, trace, verify, evidence, compact, gc."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.anchor_cli import anchor_app
from ledger.config_cli import config_app
from ledger.console import (
    AtOption,
    JsonOption,
    KeyOption,
    LedgerOption,
    VkeyOption,
    answer,
    ledger_url,
    local_folder,
    note,
    open_ledger,
    put_bytes,
    put_data,
    shared,
    store_at,
    table_text,
    told_of_interrupts,
    write_output,
    writer_of,
)
from ledger.defaults import (
    LEFT_OVER_SECONDS,
    MAX_AGE_SECONDS,
    MAX_QUERY_MEMORY_MIB,
    MAX_QUERY_SECONDS,
    MAX_TRACE_EVENTS,
    QUERY_MEMORY_MIB,
    QUERY_SECONDS,
)
from ledger.doctor_cli import doctor
from ledger.erase_cli import erase
from ledger.errors import LedgerError, UsageError
from ledger.evidence_cli import evidence_app
from ledger.format.plain_text import plain
from ledger.key_cli import key_app
from ledger.pin_cli import pin_app
from ledger.retention_cli import hold_app, retention_app
from ledger.schema_cli import schema
from ledger.witness_cli import witness_app

if TYPE_CHECKING:
    from ledger.format.checkpoint import Checkpoint
    from ledger.format.note import VerifierKey
    from ledger.log.pins import Pins
    from ledger.log.signing import SigningKey
    from ledger.reader import Ledger


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    for name, command in (
        ("init", init), ("status", status), ("sql", sql), ("trace", trace),
        ("files", files), ("verify", verify_command), ("compact", compact), ("gc", gc), ("erase", erase),
        ("doctor", doctor), ("schema", schema),
    ):  # fmt: skip
        program.command(name)(command)
    program.add_typer(pin_app, name="pin")
    program.add_typer(evidence_app, name="evidence")
    program.add_typer(config_app, name="config")
    program.add_typer(retention_app, name="retention")
    program.add_typer(hold_app, name="hold")
    program.add_typer(key_app, name="key")
    program.add_typer(witness_app, name="witness")
    program.add_typer(anchor_app, name="anchor")


def init(
    origin: Annotated[str, typer.Option("--origin", help="The ledger's name, such as example.org/prod.")],
    key: KeyOption = None,
    retention: Annotated[
        Path | None,
        typer.Option("--retention", help="Retention classes, TOML or JSON; standard is 400 days."),
    ] = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new ledger and its signing key; finish one whose making was cut short.

    Example: decision-ledger init --origin example.org/prod
    """
    from ledger.format.note import is_key_name
    from ledger.founding import found_ledger
    from ledger.log.pins import Pins
    from ledger.log.retention_classes import read_classes
    from ledger.log.signing import default_key_path, find_key

    if not is_key_name(origin):
        raise UsageError(
            f"{origin!r} cannot be a ledger's name.",
            "Use a name without spaces and '+', such as example.org/prod.",
        )
    store = store_at(ledger)
    folder = local_folder(ledger_url(ledger))
    path = key or find_key(None, None) or (default_key_path(folder) if folder is not None else None)
    if path is None:
        raise UsageError(
            "A ledger that is not a local folder needs a place for its key.", "Name it with --key."
        )
    if folder is not None and folder.resolve() in path.resolve().parents:
        raise UsageError("The key must not lie inside the ledger folder.", "Name another place with --key.")
    classes = read_classes(retention) if retention is not None else None
    signing, finished = found_ledger(store, folder, path, origin, classes)
    Pins(ledger_url(ledger)).renew(signing.verifier)
    value = {"ledger": store.url, "origin": origin, "vkey": signing.signer.vkey, "key": str(path)}
    answer(
        value,
        f"{'Finished' if finished else 'Made'} the ledger {origin} at {store.url}.\n"
        f"Signing key (keep it secret): {path}\n"
        f"Verifier key (give it to auditors): {signing.signer.vkey}",
        as_json,
    )


def status(
    context: typer.Context,
    at: AtOption = None,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Also what is missing of each source, provably or by estimate.")
    ] = False,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Head, events, segments, lag, last commit, dead letters.

    Example: decision-ledger status --gaps
    """
    from ledger.log.named_keys import NamedKeys

    with open_ledger(ledger, vkey) as opened:
        value = opened.status(at)
        value["lag"] = opened.lag()
        value["witnessed"] = _witnessed(opened)
        value["key_name"] = NamedKeys().name_of([opened.pinned] if opened.pinned is not None else [])
        if gaps:
            value["gaps"] = context.find_root().obj.gaps(opened, at)
            value["lost"] = opened.lost(at)
    lines = [
        f"ledger        {value['ledger']}",
        f"origin        {value['origin']}" + (f" (pinned: {value['key_name']})" if value["key_name"] else ""),
        f"head          {value['head']['size']} entries, root {value['head']['root']}",
        f"last commit   {value['last_commit']}",
        f"events        {value['events']:,} in {value['segments']:,} segments, "
        f"{value['files']:,} files, {value['bytes']:,} bytes",
        "dead letters  "
        + (", ".join(f"{n:,} {name}" for name, n in sorted(value["dead_letters"].items())) or "none"),
    ]
    lines += [
        f"sealed        {plain(row['topic'])}/{row['partition']} up to {row['next']:,}"
        for row in value["positions"]
    ]
    lines += [
        f"lag           {plain(row['topic'])}/{row['partition']} {row['lag']:,} (seen {row['seen']})"
        for row in value["lag"]
    ]
    if value["witnessed"] is not None:
        seen = value["witnessed"]
        told = f"{seen['size']:,} entries by {seen['witnesses']} witnesses, {seen['behind']:,} behind"
        lines.append(f"witnessed     {told}")
    lines += [f"missing       {plain(row['source'])} {_gap(row)}" for row in value.get("gaps", ())]
    lines += [
        f"lost          {plain(row['topic'])}/{row['partition']} {row['lost']:,} removed unread by the broker"
        for row in value.get("lost", ())
    ]
    answer(value, "\n".join(lines), as_json)


def _witnessed(opened: Ledger) -> dict[str, Any] | None:
    """How far witnesses are, where there are any."""
    from ledger.log.witness_policy import WITNESSES, policy_in_force

    if WITNESSES not in opened.state.configs:
        return None
    from ledger.witnessing.asking import witnessed

    policy = policy_in_force(opened.state, opened.store)
    seen = witnessed(opened.store, policy)
    told = {"size": seen["size"], "witnesses": len(seen["names"]), "quorum": policy.quorum}
    return {**told, "behind": opened.size - seen["size"], "time": seen["time"]}


def _gap(row: Mapping[str, Any]) -> str:
    """What is missing of a source, in words."""
    if row["provable"] is None and row["estimated"] is None:
        return "cannot be told: no numbers and no heartbeats"
    told = []
    if row["provable"] is not None:
        told.append(f"{row['provable']:,} provably")
    if row["estimated"] is not None:
        told.append(f"about {row['estimated']:,} by estimate")
    how = f" ({'; '.join(row['by'])})" if row["by"] else ""
    return f"{', '.join(told)}{how}"


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over events, decisions, dead_letters, …")],
    at: AtOption = None,
    format_: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the answer to this file; - is stdout.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Give up after so many seconds.", min=0.001, max=MAX_QUERY_SECONDS)
    ] = QUERY_SECONDS,
    memory: Annotated[
        int,
        typer.Option(
            metavar="MIB", help="Memory of the query, and of its answer.", min=1, max=MAX_QUERY_MEMORY_MIB
        ),
    ] = QUERY_MEMORY_MIB,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Query the sealed events.

    Example: decision-ledger sql "SELECT decision, count(*) FROM decisions GROUP BY 1"
    """
    from ledger.answer_formats import WRITERS
    from ledger.query.engine import QueryLimits, Stop, stopped_by

    chosen = "json" if (as_json or shared.json) and format_ == "table" else format_
    if chosen not in WRITERS:
        raise UsageError(f"There is no format {chosen!r}.", "Use table, csv, json or parquet.")
    if chosen == "parquet" and output is None:
        raise UsageError("Parquet cannot be shown on a terminal.", "Name a file with -o FILE.")
    with open_ledger(ledger, vkey, QueryLimits(seconds, memory << 20, memory << 20)) as opened:
        stop = Stop()
        with told_of_interrupts(stop.now), stopped_by(stop):
            rows = opened.sql(query, at=at)
    data = WRITERS[chosen](rows)
    if output is None:
        put_bytes(data)
    elif str(output) == "-":
        put_data(data)
    else:
        write_output(output, data)
        note(f"Wrote {rows.num_rows:,} rows to {output}.")


def trace(
    trace_id: Annotated[str, typer.Argument(help="32 hex digits.")],
    limit: Annotated[int, typer.Option("--limit", help="At most so many events.", min=1)] = MAX_TRACE_EVENTS,
    skip: Annotated[int, typer.Option("--skip", help="Leave out so many of the first events.", min=0)] = 0,
    at: AtOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The delegation and decision chain of one trace, as a tree.

    Example: decision-ledger trace 4bf92f3577b34da6a3ce929d0e0e4736
    """
    from ledger.query.trace import render

    with open_ledger(ledger, vkey) as opened:
        tree = opened.trace(trace_id, at=at, skip=skip, limit=limit)
    answer(tree.as_json(), render(tree), as_json)


def files(
    format_: Annotated[
        str, typer.Option("--format", help="list, json, duckdb (SQL to run there) or polars (Python).")
    ] = "list",
    at: AtOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The files that count, for engines that read Parquet themselves; a glob would count rows twice.

    Example: decision-ledger files --format duckdb
    """
    from ledger.query.committed_files import duckdb_snippet, polars_snippet

    snippets = {"duckdb": duckdb_snippet, "polars": polars_snippet}
    if format_ not in ("list", "json", *snippets):
        raise UsageError(f"There is no format {format_!r}.", f"Use list, json, {' or '.join(snippets)}.")
    with open_ledger(ledger, vkey) as opened:
        found, root, size = opened.committed(at), opened.store.url, at or opened.size
    value = {"ledger": root, "size": size, "files": [one.to_json(root) for one in found]}
    if format_ in snippets:
        text = snippets[format_](found, root)
    else:
        columns = ["file", "kind", "retention", "date", "rows", "bytes"]
        text = table_text(columns, [[one.to_json(root)[name] for name in columns] for one in found])
        rows = sum(one.rows for one in found if one.kind == "events")
        text += f"\n({len(found):,} files, {rows:,} events, as of {size:,} entries)"
    answer(value, text, as_json or format_ == "json")


def verify_command(
    full: Annotated[bool, typer.Option("--full", help="Every row of every file (the default).")] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", help="The whole log, and the rows of N files.", min=1)
    ] = None,
    since: Annotated[
        Path | None, typer.Option("--since", help="Only what came after this kept head.")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", help="Another copy of the ledger.")] = None,
    vkey: VkeyOption = None,
    save_head: Annotated[
        Path | None, typer.Option("--save-head", help="Keep the verified head here.")
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep --vkey as this user's pin for the ledger.")
    ] = False,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that everything sealed is still exactly what was sealed. Exit 1 for any damage.

    Example: decision-ledger verify --vkey example.org/prod+1a2b3c4d+AY… --save-head last.head
    """
    from ledger.log.named_keys import NamedKeys, read_vkey
    from ledger.log.pins import Pins
    from ledger.storage.stores import open_store
    from ledger.verify.verification import verify

    if sum((full, sample is not None, since is not None)) > 1:
        raise UsageError("--full, --sample and --since exclude each other.", "Choose one.")
    url = ledger_url(ledger)
    store = store_at(ledger)
    pins = Pins(url)
    pinned, kept, warning = _trusted(url, pins, vkey, key)
    if since is not None and not since.is_file():
        raise UsageError(f"There is no kept head at {since}.", "Make one with --save-head FILE.")
    report = verify(
        store,
        vkey=pinned,
        sample=sample,
        since=since.read_bytes() if since is not None else None,
        against=open_store(against) if against else None,
        kept=kept,
        progress=_progress(),
    )
    if warning:
        note(warning)
    if report.ok and save_head is not None and report.head_note is not None:
        _save_head(save_head, report.head_note)
    if report.ok and pin and vkey:
        pins.keep_key(read_vkey(vkey))
    if report.ok and report.head is not None and report.head_note is not None:
        pins.keep_head(report.head_note, report.head)
    value = report.to_json()
    named = NamedKeys().name_of([pinned] if pinned is not None else [])
    value["pinned"] = pinned is not None and not warning
    value["key_name"] = named
    answer(value, f"{f'pinned: {named}' if named else ''}\n{report.text()}".lstrip("\n"), as_json)
    if not report.ok:
        raise typer.Exit(1)


def compact(ledger: LedgerOption = None, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Merge small segments, so that look-ups stay fast. No root changes.

    Example: decision-ledger compact
    """
    from ledger.upkeep.compaction import Compaction

    writer = writer_of(ledger, key, "compact")
    before = len(writer.state.files)
    compaction = Compaction(writer)
    entries = compaction.run(fan_in=2)
    after = len(writer.state.files)
    damaged = [str(error) for error in compaction.damaged.values()]
    text = f"{len(entries)} merges: {before:,} files became {after:,}."
    answer(
        {"ok": not damaged, "entries": len(entries), "files_before": before, "files_after": after,
         "damaged": damaged},
        "\n".join([text, *(f"Left out: {line}" for line in damaged)]),
        as_json,
    )  # fmt: skip
    if damaged:
        raise typer.Exit(1)


def gc(
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than", help="Spare left-overs younger than so many seconds.", min=0, max=MAX_AGE_SECONDS
        ),
    ] = LEFT_OVER_SECONDS,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove files that no entry names, and merged files whose grace is over.

    Example: decision-ledger gc
    """
    from ledger.upkeep.left_overs import gc as collect

    writer = writer_of(ledger, key, "gc")
    left, swept = collect(writer, age=timedelta(seconds=older_than))
    answer(
        {"left_overs": left, "removed": swept},
        f"Deleted {len(left):,} left-overs and {len(swept):,} files whose grace is over.",
        as_json,
    )


def _save_head(path: Path, note: bytes) -> None:
    """Keep a head; only another head is written over."""
    from ledger.verify.heads import parse_kept

    if path.exists() and path.stat().st_size:
        try:
            parse_kept(path.read_bytes())
        except UsageError:
            raise UsageError(
                f"{path} holds something else than a head.", "Name another file with --save-head."
            ) from None
    write_output(path, note)


def _trusted(
    url: str, pins: Pins, vkey: str | None, key: Path | None
) -> tuple[VerifierKey | None, list[Checkpoint], str | None]:
    """The key to verify under, the heads that this user and the signing key remember, and a warning."""
    from ledger.log.named_keys import read_vkey
    from ledger.log.signing import SigningKey, find_key

    folder = local_folder(url)
    path = find_key(folder, key)
    signing: SigningKey | None = None
    if path is not None and path.is_file():
        try:
            signing = SigningKey(path)
        except LedgerError:
            signing = None
    if vkey is not None:
        pinned: VerifierKey | None = read_vkey(vkey)
    else:
        pinned = pins.key() or (signing.verifier if signing is not None else None)
    seen = pins.head()
    heads = [seen] if seen is not None else []
    if pinned is None:
        return None, heads, "Warning: not pinned. The key was taken from the ledger itself; give --vkey."
    if signing is not None and signing.verifier.text == pinned.text and (signed := signing.kept_head()):
        heads.append(signed)
    return pinned, heads, None


def _progress() -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        sys.stderr.write(f"\rverified {done:,} of {of:,} files")
        if done == of:
            sys.stderr.write("\n")
        sys.stderr.flush()

    return show
