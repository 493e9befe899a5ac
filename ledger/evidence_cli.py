"""Commands on proofs that hold offline: evidence export, verify, tlog-proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.console import (
    AtOption,
    JsonOption,
    LedgerOption,
    VkeyOption,
    answer,
    called_as,
    open_ledger,
    write_output,
)
from ledger.errors import UsageError
from ledger.format.plain_text import plain

evidence_app = typer.Typer(no_args_is_help=True, help="Proofs for people who do not trust us.")


@evidence_app.command("export")
def evidence_export(
    ids: Annotated[list[str], typer.Argument(help="event_id, or <source>#<event_id>.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle's file.")],
    at: AtOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a file that proves these events offline.

    Example: decision-ledger evidence export 7f9c2ba4e88f827d -o bundle.json
    """
    with open_ledger(ledger, vkey) as opened:
        data = opened.evidence(*ids, at=at)
        size, key = opened.size, opened.state.key.text
    write_output(output, data)
    answer(
        {"file": str(output), "bytes": len(data), "checkpoint_size": size, "vkey": key},
        f"Wrote {output} ({len(data):,} bytes), proved at checkpoint {size}.\n"
        f"Check it with: {called_as()} evidence verify {output} --vkey {key}",
        as_json,
    )


@evidence_app.command("verify")
def evidence_verify(
    file: Annotated[Path, typer.Argument(help="An evidence bundle.")],
    vkey: Annotated[
        str,
        typer.Option(
            "--vkey",
            help="The ledger's verifier key: text, file, https:// or `pin` name.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Check an evidence bundle; needs the file and the key, and nothing else. Exit 1 when it does not hold.

    Example: decision-ledger evidence verify bundle.json --vkey example.org/prod+1a2b3c4d+AY…
    """
    from ledger.log.named_keys import NamedKeys, read_vkey
    from ledger.query import evidence

    if not file.is_file():
        raise UsageError(f"There is no file {file}.", "Name an evidence bundle.")
    key = read_vkey(vkey)
    proved, named = evidence.verify_bundle(file.read_bytes(), key.text), NamedKeys().name_of([key])
    sizes = [checkpoint.size for checkpoint in proved.checkpoints]
    lines = [
        f"{len(proved.events)} event(s) of {proved.origin} are proved, at checkpoint size {max(sizes)}"
        f"{f', under the key {named}' if named else ''}:"
    ]
    for event in proved.events:
        name = f"{event.get('source', '')}#{event.get('event_id', '')}"
        what = [str(event[field]) for field in ("kind", "decision", "action", "resource") if field in event]
        lines.append("  " + plain(" ".join([str(event.get("time", "")), name, *what])))
    value = {
        "ok": True,
        "origin": proved.origin,
        "key_name": named,
        "checkpoint_sizes": sizes,
        "events": proved.events,
    }
    answer(value, "\n".join(lines), as_json)


@evidence_app.command("tlog-proof")
def evidence_tlog_proof(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="event_id, or <source>#<event_id>.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The proof's file.")],
    at: AtOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the C2SP tlog-proof of the commit that sealed an event, and that commit's manifest beside it.

    Example: decision-ledger evidence tlog-proof 7f9c2ba4e88f827d -o proof.txt
    """
    from ledger.query import evidence

    with open_ledger(ledger, vkey) as opened:
        place = evidence.locate(opened, [event_id], at)[0]
        index = opened.state.originals[place.segment].entry
        proof, manifest = evidence.entry_proof(opened, index), opened.sealed.entries[index]
    beside = output.with_name(output.name + ".manifest")
    write_output(output, proof)
    write_output(beside, manifest)
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
