"""Commands that need the ledger alone: init, status, sql, trace, verify, evidence, compact, gc."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import typer

from ledger import compaction, evidence
from ledger.checkpoint import Checkpoint
from ledger.console import (
    JsonOption,
    KeyOption,
    LedgerOption,
    answer,
    ledger_url,
    local_folder,
    say,
    shared,
    signing_key,
    store_at,
    table_text,
)
from ledger.errors import LedgerError, UsageError
from ledger.note import VerifierKey, is_key_name
from ledger.pins import keep_pin, kept_pin
from ledger.query import QueryLimits
from ledger.reader import Ledger
from ledger.signing import SigningKey, create_key, default_key_path, find_key
from ledger.stores import open_store
from ledger.trace import render
from ledger.verify import verify
from ledger.writer import Writer, create_ledger

DEFAULT_ROWS: Final = 1_000
"""Rows that `sql` prints as a table before it says how many more there are."""

app = typer.Typer(no_args_is_help=True)
evidence_app = typer.Typer(no_args_is_help=True, help="Proofs for people who do not trust us.")

AtOption = Annotated[int | None, typer.Option("--at", help="Read the ledger as of this many entries.")]


def register(program: typer.Typer) -> None:
    """Mount these commands on the program."""
    for name, command in (
        ("init", init), ("status", status), ("sql", sql), ("trace", trace),
        ("verify", verify_command), ("compact", compact), ("gc", gc),
    ):  # fmt: skip
        program.command(name)(command)
    program.add_typer(evidence_app, name="evidence")


def init(
    origin: Annotated[str, typer.Option("--origin", help="The ledger's name, such as example.org/prod.")],
    key: KeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new ledger and its signing key.

    Example: decision-ledger init --origin example.org/prod
    """
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
    if store.read("checkpoint") is not None or store.read("tile/entries/000.p/1") is not None:
        raise UsageError(f"There is a ledger at {store.url} already.", "Use it, or choose another place.")
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds other files, and no ledger.", "Choose an empty or a new folder.")
    if path.exists():
        signing = SigningKey(path)
        if signing.signer.name != origin:
            raise UsageError(
                f"The key at {path} belongs to {signing.signer.name}, not to {origin}.",
                "Name another with --key.",
            )
    else:
        create_key(path, origin)
        signing = SigningKey(path)
    create_ledger(store, signing)
    value = {"ledger": store.url, "origin": origin, "vkey": signing.signer.vkey, "key": str(path)}
    answer(
        value,
        f"Made the ledger {origin} at {store.url}.\nSigning key (keep it secret): {path}\n"
        f"Verifier key (give it to auditors): {signing.signer.vkey}",
        as_json,
    )


def status(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """Head, events, segments, lag, last commit, dead letters.

    Example: decision-ledger status
    """
    with Ledger.open(ledger_url(ledger)) as opened:
        value = opened.status()
        value["lag"] = opened.lag()
    lines = [
        f"ledger        {value['ledger']}",
        f"origin        {value['origin']}",
        f"head          {value['head']['size']} entries, root {value['head']['root']}",
        f"last commit   {value['last_commit']}",
        f"events        {value['events']:,} in {value['segments']:,} segments, "
        f"{value['files']:,} files, {value['bytes']:,} bytes",
        "dead letters  "
        + (", ".join(f"{n:,} {name}" for name, n in sorted(value["dead_letters"].items())) or "none"),
    ]
    lines += [
        f"sealed        {row['topic']}/{row['partition']} up to {row['next']:,}" for row in value["positions"]
    ]
    lines += [
        f"lag           {row['topic']}/{row['partition']} {row['lag']:,} (seen {row['seen']})"
        for row in value["lag"]
    ]
    answer(value, "\n".join(lines), as_json)


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over events, decisions, dead_letters, …")],
    at: AtOption = None,
    format_: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the answer to this file.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 60.0,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Query the sealed events.

    Example: decision-ledger sql "SELECT decision, count(*) FROM decisions GROUP BY 1"
    """
    chosen = "json" if (as_json or shared.json) and format_ == "table" else format_
    if chosen not in _WRITERS:
        raise UsageError(f"There is no format {chosen!r}.", "Use table, csv, json or parquet.")
    if chosen == "parquet" and output is None:
        raise UsageError("Parquet cannot be shown on a terminal.", "Name a file with -o FILE.")
    with Ledger.open(ledger_url(ledger), limits=QueryLimits(seconds=seconds)) as opened:
        rows = opened.sql(query, at=at)
    data = _WRITERS[chosen](rows)
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        output.write_bytes(data)
        say(f"Wrote {rows.num_rows:,} rows to {output}.")


def trace(
    trace_id: Annotated[str, typer.Argument(help="32 hex digits.")],
    at: AtOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The delegation and decision chain of one trace, as a tree.

    Example: decision-ledger trace 4bf92f3577b34da6a3ce929d0e0e4736
    """
    with Ledger.open(ledger_url(ledger)) as opened:
        tree = opened.trace(trace_id, at=at)
    answer(tree.as_json(), render(tree), as_json)


def verify_command(
    full: Annotated[bool, typer.Option("--full", help="Every row of every file (the default).")] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", help="The whole log, and the rows of N files.")
    ] = None,
    since: Annotated[
        Path | None, typer.Option("--since", help="Only what came after this kept head.")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", help="Another copy of the ledger.")] = None,
    vkey: Annotated[
        str | None, typer.Option("--vkey", help="The ledger's verifier key, from elsewhere.")
    ] = None,
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
    if sum((full, sample is not None, since is not None)) > 1:
        raise UsageError("--full, --sample and --since exclude each other.", "Choose one.")
    url = ledger_url(ledger)
    store = store_at(ledger)
    pinned, kept, warning = _trusted(url, vkey, key)
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
        say(warning)
    if report.ok and save_head is not None and report.head_note is not None:
        save_head.write_bytes(report.head_note)
    if report.ok and pin and vkey:
        keep_pin(url, vkey)
    value = report.to_json()
    value["pinned"] = pinned is not None and not warning
    answer(value, report.text(), as_json)
    if not report.ok:
        raise typer.Exit(1)


@evidence_app.command("export")
def evidence_export(
    ids: Annotated[list[str], typer.Argument(help="event_id, or <source>#<event_id>.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle's file.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a file that proves these events offline.

    Example: decision-ledger evidence export 7f9c2ba4e88f827d -o bundle.json
    """
    with Ledger.open(ledger_url(ledger)) as opened:
        data = opened.evidence(*ids)
        size, vkey = opened.size, opened.state.key.text
    output.write_bytes(data)
    answer(
        {"file": str(output), "bytes": len(data), "checkpoint_size": size, "vkey": vkey},
        f"Wrote {output} ({len(data):,} bytes), proved at checkpoint {size}.\n"
        f"Check it with: decision-ledger evidence verify {output} --vkey {vkey}",
        as_json,
    )


@evidence_app.command("verify")
def evidence_verify(
    file: Annotated[Path, typer.Argument(help="An evidence bundle.")],
    vkey: Annotated[str, typer.Option("--vkey", help="The ledger's verifier key, from elsewhere.")],
    as_json: JsonOption = False,
) -> None:
    """Check an evidence bundle; needs the file and the key, and nothing else. Exit 1 when it does not hold.

    Example: decision-ledger evidence verify bundle.json --vkey example.org/prod+1a2b3c4d+AY…
    """
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", "Name an evidence bundle.")
    proved = evidence.verify_bundle(file.read_bytes(), vkey)
    sizes = [checkpoint.size for checkpoint in proved.checkpoints]
    lines = [f"{len(proved.events)} event(s) of {proved.origin} are proved, at checkpoint size {max(sizes)}:"]
    for event in proved.events:
        what = " ".join(
            str(event[name]) for name in ("kind", "decision", "action", "resource") if name in event
        )
        lines.append(
            f"  {event.get('time', '')} {event.get('source', '')}#{event.get('event_id', '')} {_plain(what)}"
        )
    value = {"ok": True, "origin": proved.origin, "checkpoint_sizes": sizes, "events": proved.events}
    answer(value, "\n".join(lines), as_json)


@evidence_app.command("tlog-proof")
def evidence_tlog_proof(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="event_id, or <source>#<event_id>.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The proof's file.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the C2SP tlog-proof of the commit that sealed an event, and that commit's manifest beside it.

    Example: decision-ledger evidence tlog-proof 7f9c2ba4e88f827d -o proof.txt
    """
    with Ledger.open(ledger_url(ledger)) as opened:
        place = evidence.locate(opened, [event_id])[0]
        index = opened.state.originals[place.segment].entry
        proof, manifest = evidence.entry_proof(opened, index), opened.sealed.entries[index]
    beside = output.with_name(output.name + ".manifest")
    output.write_bytes(proof)
    beside.write_bytes(manifest)
    answer(
        {
            "file": str(output),
            "manifest": str(beside),
            "entry": index,
            "segment": place.segment,
            "row": place.index,
        },
        f"Wrote {output}: entry {index} is in the log. Its text, the proof's leaf, is {beside}.",
        as_json,
    )


def compact(ledger: LedgerOption = None, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Merge small segments, so that look-ups stay fast. No root changes.

    Example: decision-ledger compact
    """
    writer = Writer(store_at(ledger), signing_key(ledger, key), name="compact", remember=False)
    before = len(writer.state.files)
    entries = compaction.compact(writer)
    after = len(writer.state.files)
    answer(
        {"entries": len(entries), "files_before": before, "files_after": after},
        f"{len(entries)} merges: {before:,} files became {after:,}.",
        as_json,
    )


def gc(
    older_than: Annotated[
        float, typer.Option("--older-than", help="Spare left-overs younger than so many seconds.")
    ] = compaction.LEFT_OVER_AGE.total_seconds(),
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove files that no entry names, and merged files whose grace is over.

    Example: decision-ledger gc
    """
    writer = Writer(store_at(ledger), signing_key(ledger, key), name="gc", remember=False)
    left, swept = compaction.gc(writer, age=timedelta(seconds=older_than))
    answer(
        {"left_overs": left, "removed": swept},
        f"Deleted {len(left):,} left-overs and {len(swept):,} files whose grace is over.",
        as_json,
    )


def _trusted(
    url: str, vkey: str | None, key: Path | None
) -> tuple[VerifierKey | None, Checkpoint | None, str | None]:
    """The key to verify under, the head that the signing key remembers, and a warning."""
    folder = local_folder(url)
    path = find_key(folder, key)
    signing: SigningKey | None = None
    if path is not None and path.is_file():
        try:
            signing = SigningKey(path)
        except LedgerError:
            signing = None
    if vkey is not None:
        pinned = VerifierKey.from_text(vkey)
    elif (kept := kept_pin(url)) is not None:
        pinned = VerifierKey.from_text(kept)
    elif signing is not None:
        pinned = signing.verifier
    else:
        return None, None, "Warning: not pinned. The key was taken from the ledger itself; give --vkey."
    same = signing is not None and signing.verifier.text == pinned.text
    return pinned, signing.kept_head() if signing is not None and same else None, None


def _progress() -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        sys.stderr.write(f"\rverified {done:,} of {of:,} files")
        if done == of:
            sys.stderr.write("\n")
        sys.stderr.flush()

    return show


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _as_table(rows: pa.Table) -> bytes:
    shown = rows.slice(0, DEFAULT_ROWS).to_pylist()
    cells = [[_plain(_cell(row[name])) for name in rows.column_names] for row in shown]
    text = table_text(rows.column_names, cells)
    if rows.num_rows > DEFAULT_ROWS:
        text += f"\n({DEFAULT_ROWS:,} of {rows.num_rows:,} rows; --format csv or json gives all)"
    else:
        text += f"\n({rows.num_rows:,} rows)"
    return text.encode() + b"\n"


def _cell(value: Any) -> str:
    return "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)


def _as_csv(rows: pa.Table) -> bytes:
    flat = {
        name: [_cell(value) for value in column.to_pylist()] if pa.types.is_nested(column.type) else column
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    }
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(flat), sink)
    return bytes(sink.getvalue())


def _as_json(rows: pa.Table) -> bytes:
    return orjson.dumps(rows.to_pylist(), default=str) + b"\n"


def _as_parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return bytes(sink.getvalue())


_WRITERS: Final[dict[str, Callable[[pa.Table], bytes]]] = {
    "table": _as_table, "csv": _as_csv, "json": _as_json, "parquet": _as_parquet,
}  # fmt: skip
