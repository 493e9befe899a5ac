from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger.errors import DamageError, UsageError
from ledger.format.note import SignerKey
from ledger.query.evidence import entry_proof, export, locate, verify_bundle
from ledger.reader import Ledger
from ledger.sealing.segment import parquet_bytes, read_events
from tests.c2sp_checker import check_tlog_proof
from tests.making import ORIGIN, Made, make_ledger, row, stretch


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    writer = made.writer()
    for commit in range(3):
        writer.commit([stretch([row(commit * 7 + n) for n in range(7)], start=commit * 7)])
    return made


def _bundle(made: Made, *ids: str) -> tuple[dict[str, Any], str]:
    with Ledger.open(str(made.folder)) as ledger:
        return json.loads(export(ledger, ids)), ledger.state.key.text


def test_a_bundle_proves_events_of_several_commits_with_the_key_alone(made: Made) -> None:
    bundle, vkey = _bundle(made, "e0", "test/pdp#e8", "e9")
    proved = verify_bundle(json.dumps(bundle).encode(), vkey)
    assert [event["event_id"] for event in proved.events] == ["e0", "e8", "e9"]
    assert len(bundle["entries"]) == 2


def test_third_party_reading_of_each_tlog_proof_agrees(made: Made) -> None:
    bundle, vkey = _bundle(made, "e0", "e20")
    for entry in bundle["entries"]:
        check_tlog_proof(entry["tlog_proof"], entry["manifest"].encode(), vkey)


Change = Callable[[dict[str, Any]], None]


def _set(*path: Any, to: Any) -> Change:
    def change(bundle: dict[str, Any]) -> None:
        *steps, last = path
        for step in steps:
            bundle = bundle[step]
        bundle[last] = to(bundle[last]) if callable(to) else to

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("events", 0, "event", to=lambda text: text.replace("allow", "deny")),
        _set("events", 0, "event", to=lambda text: text + " "),
        _set("events", 0, "index", to=1),
        _set("events", 0, "index", to=-1),
        _set("events", 0, "index", to="0"),
        _set("events", 0, "entry", to=7),
        _set("events", 0, "segment", to="events/elsewhere.parquet"),
        _set("events", 0, "proof", to=lambda proof: proof[:-1]),
        _set("events", 0, "proof", to=lambda proof: [*proof, "00" * 32]),
        _set("events", 0, "proof", 0, to="zz"),
        _set("entries", 0, "manifest", to=lambda text: text.replace("decision", "decisions")),
        _set("entries", 0, "tlog_proof", to=lambda text: text.replace("index 1", "index 2")),
        _set("entries", 0, "tlog_proof", to="nonsense"),
        _set("entries", to=[]),
        _set("events", to=[]),
        _set("events", to=None),
        _set("origin", to="other.example"),
    ],
)  # fmt: skip
def test_any_change_is_refused(made: Made, change: Change) -> None:
    bundle, vkey = _bundle(made, "e0")
    change(bundle)
    with pytest.raises(DamageError):
        verify_bundle(json.dumps(bundle).encode(), vkey)


def test_another_key_of_the_same_name_is_refused(made: Made) -> None:
    bundle, _ = _bundle(made, "e0")
    with pytest.raises(DamageError, match="not by the key"):
        verify_bundle(json.dumps(bundle).encode(), SignerKey.generate(ORIGIN).vkey)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"format":"other"}'])
def test_what_is_no_bundle_is_unusable(made: Made, data: bytes) -> None:
    with pytest.raises(UsageError):
        verify_bundle(data, made.key.signer.vkey)


@pytest.mark.parametrize("data", [b"[]", b"1", b"{}"])
def test_json_of_another_shape_is_refused(made: Made, data: bytes) -> None:
    with pytest.raises((UsageError, DamageError)):
        verify_bundle(data, made.key.signer.vkey)


def test_an_unknown_id_is_named(made: Made) -> None:
    with Ledger.open(str(made.folder)) as ledger, pytest.raises(UsageError, match="'nobody'"):
        locate(ledger, ["nobody"])


def test_ids_that_hold_a_hash_sign_are_found(made: Made) -> None:
    made.writer().commit([stretch([row(0, event_id="call#0/read", source="cerbos/prod")], start=21)])
    with Ledger.open(str(made.folder)) as ledger:
        assert len(locate(ledger, ["call#0/read", "cerbos/prod#call#0/read"])) == 2


def test_a_segment_that_was_changed_proves_nothing(made: Made) -> None:
    with Ledger.open(str(made.folder)) as ledger:
        place = locate(ledger, ["e0"])[0]
        path = made.folder / place.segment
        table = read_events(path)
        at = table.schema.get_field_index("decision")
        changed = table.set_column(at, table.schema.field(at), pa.array(["deny"] * len(table)))
        path.write_bytes(parquet_bytes(changed))
        with pytest.raises(DamageError, match="not those that were sealed"):
            export(ledger, ["e1"])


def test_the_offline_check_loads_no_engine() -> None:
    code = "import sys, ledger.query.evidence as _; "
    code += "sys.exit(bool({'pyarrow', 'duckdb', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # our own text


def test_every_entry_has_a_proof(made: Made) -> None:
    with Ledger.open(str(made.folder)) as ledger:
        for index, entry in enumerate(ledger.sealed.entries):
            check_tlog_proof(entry_proof(ledger, index).decode(), entry, ledger.state.key.text)
