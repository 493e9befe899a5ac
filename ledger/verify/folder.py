"""Whether every file of the ledger's folder is there for a reason, and the small ones are as they must be."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

from ledger.errors import DamageError
from ledger.format.manifest import CACHE_FOLDER, DEAD_LETTERS_FOLDER, EVENTS_FOLDER, instant, parse_entry
from ledger.format.merkle import leaf_hash
from ledger.format.state import day_of
from ledger.log.protocol import CHECKPOINT
from ledger.log.retention_classes import classes_of_json
from ledger.verify.copies import Read
from ledger.verify.findings import Finding, damage, listed
from ledger.verify.heads import WITNESSED
from ledger.verify.log_check import TILES_FOLDER
from ledger.verify.log_view import LogView

LEDGER_JSON: Final = "ledger.json"
CONFIG_FOLDER: Final = "config"
TEMPORARY_SUFFIX: Final = ".tmp"
LOCK_SUFFIX: Final = ".lock"


def is_ledger(listing: Mapping[str, int]) -> bool:
    """Whether anything of a ledger is left here."""
    folders = (TILES_FOLDER, EVENTS_FOLDER, DEAD_LETTERS_FOLDER, CONFIG_FOLDER)
    return any(
        path in {CHECKPOINT, WITNESSED, LEDGER_JSON} or path.partition("/")[0] in folders for path in listing
    )


def check_folder(listing: Mapping[str, int], view: LogView, read: Read) -> list[Finding]:
    """Files that are extra, left over, removed but alive; `config/` and `ledger.json`."""
    found = [finding for path in listing if (finding := _judge_path(path, view)) is not None]
    found += _check_configs(view, read)
    found += _check_expiries(view, read)
    found += _check_ledger_json(view, read)
    return found


def _judge_path(path: str, view: LogView) -> Finding | None:
    folder, nested, name = path.partition("/")
    state = view.state
    if path.endswith(TEMPORARY_SUFFIX) and folder != CACHE_FOLDER:
        return listed("temporary", path, "A writer that died left it; `gc` removes it.")
    if path in state.files:
        return None
    if folder in {EVENTS_FOLDER, DEAD_LETTERS_FOLDER} and nested:
        gone = state.removed.get(path)
        if gone is None:
            return listed("unsealed", path, "No entry names it; `gc` removes it.")
        until = f"entry {gone.entry} removed it, with grace until {instant(gone.deadline)}"
        if state.pending(path):
            return listed("pending", path, f"It is still there: {until}.", index=gone.entry)
        return damage("past-grace", path, f"It should be gone: {until}.", index=gone.entry)
    if folder == CONFIG_FOLDER and nested:
        return None if name in view.configs else listed("unsealed", path, "No entry names it.")
    if nested:
        known = folder in {TILES_FOLDER, CACHE_FOLDER}
    else:
        known = path in {CHECKPOINT, WITNESSED, LEDGER_JSON} or path.endswith(LOCK_SUFFIX)
    return None if known else damage("extra", path, "Nothing in the format has this name.")


def _check_configs(view: LogView, read: Read) -> list[Finding]:
    found = []
    for digest, index in view.configs.items():
        path = f"{CONFIG_FOLDER}/{digest}"
        data = read(path)
        if data is None:
            found.append(damage("missing", path, f"Entry {index} refers to it.", index=index))
        elif sha256(data).hexdigest() != digest:
            found.append(damage("changed", path, "Its SHA-256 is not its name.", index=index))
    return found


def _check_ledger_json(view: LogView, read: Read) -> list[Finding]:
    data = read(LEDGER_JSON)
    if data is None:
        return [damage("missing", LEDGER_JSON, "The copy of entry 0 is missing; readers do not need it.")]
    value = _json(data)
    if not isinstance(value, dict) or set(value) != {"init", "vkey"} or not isinstance(value["init"], dict):
        return [damage("changed", LEDGER_JSON, "It is not a copy of entry 0 and its key.")]
    if orjson.dumps(value, option=orjson.OPT_SORT_KEYS) != data:
        return [damage("changed", LEDGER_JSON, "It is not in RFC 8785 form.")]
    first = view.leaves[0] if view.leaves else None
    if first is None or not _is_entry(view.entry_bytes(0), first):
        return []
    init = orjson.dumps(value["init"], option=orjson.OPT_SORT_KEYS)
    if leaf_hash(init) != first or value["init"].get("vkey") != value["vkey"]:
        return [damage("changed", LEDGER_JSON, "It is not a copy of entry 0 and its key.")]
    return []


def _is_entry(data: bytes | None, leaf: bytes) -> bool:
    """Whether `leaf` stands for an entry: bytes that are none say nothing about what entry 0 was."""
    if data is None or leaf_hash(data) != leaf:
        return True  # the hash tiles vouch for the leaf; its bundle is damaged
    try:
        parse_entry(data)
    except DamageError:
        return False
    return True


def ledger_json_init(data: bytes | None) -> bytes | None:
    """Entry 0 as `ledger.json` has it."""
    value = _json(data) if data is not None else None
    init = value.get("init") if isinstance(value, dict) else None
    return orjson.dumps(init, option=orjson.OPT_SORT_KEYS) if isinstance(init, dict) else None


def ledger_json_vkey(data: bytes | None) -> str | None:
    """The key's text in `ledger.json`: a hint for where nothing better is known."""
    value = _json(data) if data is not None else None
    text = value.get("vkey") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _check_expiries(view: LogView, read: Read) -> list[Finding]:
    """What expired too early by the classes of a sealed file; a file that is gone is found apart."""
    found = []
    for one in view.expiries:
        data = read(f"config/{one.classes}")
        try:
            classes = classes_of_json(data or b"")
        except ValueError:
            continue
        rule = classes.get(one.entry.class_)
        for path in one.entry.paths:
            if rule is None or rule.days is None or (one.today - day_of(path)).days <= rule.days:
                message = f"It lets {path} expire, which its class {one.entry.class_} keeps longer."
                found.append(damage("entry", view.path_of(one.index), message, index=one.index))
                break
    return found
