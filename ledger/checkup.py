"""What a deployment needs to run for years, looked at one by one, each finding with its remedy."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from ledger.defaults import DEMO_ORIGIN
from ledger.errors import LedgerError
from ledger.log.retention_classes import classes_in_force
from ledger.log.signing import SigningKey, next_key_path
from ledger.log.witness_policy import policy_in_force
from ledger.reader import Ledger
from ledger.upkeep.retention import plan, totals
from ledger.witnessing.asking import witnessed

Verdict = Literal["fine", "look", "wrong"]
CLOCK_SLACK: Final = timedelta(minutes=5)
WORKER_SILENT: Final = timedelta(minutes=5)
LEAST_FREE_BYTES: Final = 2 * 1024**3
LEAST_FREE_SHARE: Final = 0.05
WITNESS_BEHIND: Final = 1_000
"""Entries: at one commit a second a quarter of an hour."""
CONNECT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `look`: it may be meant so; `wrong`: it is not as it has to be."""

    name: str
    verdict: Verdict
    said: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def checks(
    opened: Ledger,
    folder: Path | None,
    key: Path | None,
    brokers: tuple[str, ...] = (),
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Check]:
    """Every check of a ledger: `folder` where it is local, `key` the signing key's file, if one is known."""
    yield _clock(opened, now())
    yield _worker(opened, now())
    yield _letters(opened)
    yield _lost(opened)
    yield _retention(opened, now())
    yield _witnesses(opened)
    if folder is not None:
        yield _disk(folder)
        yield _folder(folder)
    yield from _key(opened, key, folder)
    for broker in brokers:
        yield _broker(broker)


def _clock(opened: Ledger, now: datetime) -> Check:
    ahead = opened.state.clock - now
    if ahead > CLOCK_SLACK:
        return Check(
            "clock", "wrong", f"The ledger's clock is {ahead} ahead of this machine's.",
            "Set the clocks of all writers by NTP; retention goes by the earlier of the two.",
        )  # fmt: skip
    return Check("clock", "fine", "The ledger's clock is not ahead of this machine's.")


def _worker(opened: Ledger, now: datetime) -> Check:
    lag = opened.lag()
    behind = sum(row["lag"] for row in lag)
    silent = now - opened.state.clock
    if behind and silent > WORKER_SILENT:
        return Check(
            "worker", "wrong", f"Nothing was sealed for {silent}; {behind:,} messages waited then.",
            "Start the intake again, and read its log.",
        )  # fmt: skip
    if silent > WORKER_SILENT:
        return Check(
            "worker", "look", f"The newest entry is {silent} old: no worker runs.",
            "Start an intake, unless this ledger is finished.",
        )  # fmt: skip
    return Check("worker", "fine", f"A worker runs; {behind:,} messages wait.")


def _letters(opened: Ledger) -> Check:
    rejected = opened.status()["dead_letters"].get("rejected", 0)
    if rejected:
        return Check(
            "dead letters", "look", f"{rejected:,} messages were refused.",
            "`decision-ledger deadletters list` says why, and `replay` tries them again.",
        )  # fmt: skip
    return Check("dead letters", "fine", "No message is set aside as refused.")


def _lost(opened: Ledger) -> Check:
    lost = sum(row["lost"] for row in opened.lost())
    if lost:
        return Check(
            "lost", "wrong", f"The broker removed {lost:,} messages before they were read.",
            "Let the topic keep messages longer than your longest outage.",
        )  # fmt: skip
    return Check("lost", "fine", "No message was removed before it was read.")


def _retention(opened: Ledger, now: datetime) -> Check:
    found = totals(plan(opened.state, classes_in_force(opened.state, opened.store), now))
    if due := found.get("due_segments", 0):
        return Check(
            "retention", "look", f"{due:,} segments ({found['due_bytes']:,} bytes) outlived their class.",
            "`decision-ledger retention plan`, then `retention apply`.",
        )  # fmt: skip
    held = found.get("held_segments", 0)
    return Check("retention", "fine", f"Nothing is due; holds keep {held:,} segments that would be.")


def _witnesses(opened: Ledger) -> Check:
    policy = policy_in_force(opened.state, opened.store)
    if not policy.witnesses:
        return Check(
            "witnesses", "look", "No second party sees the heads.",
            "Have somebody else run `witness serve`, and seal it with `witness add`.",
        )  # fmt: skip
    behind = opened.size - witnessed(opened.store, policy)["size"]
    if behind > WITNESS_BEHIND:
        return Check(
            "witnesses", "wrong", f"{behind:,} entries are not cosigned by a quorum of {policy.quorum}.",
            "`decision-ledger witness ask` says which of them does not answer, and why.",
        )  # fmt: skip
    return Check("witnesses", "fine", f"{behind:,} entries wait for {policy.quorum} cosignatures.")


def _disk(folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    if usage.free < max(LEAST_FREE_BYTES, usage.total * LEAST_FREE_SHARE):
        return Check(
            "disk", "wrong", f"{usage.free:,} of {usage.total:,} bytes are free.",
            "Enlarge the disk, apply retention, or move the ledger; writers stop when it is full.",
        )  # fmt: skip
    return Check("disk", "fine", f"{usage.free:,} of {usage.total:,} bytes are free.")


def _folder(folder: Path) -> Check:
    if folder.stat().st_mode & 0o022:
        return Check(
            "folder", "wrong", f"Others may write in {folder}.", f"chmod go-w {folder}, and look who did."
        )
    return Check("folder", "fine", "Nobody else may write in the ledger's folder.")


def _key(opened: Ledger, path: Path | None, folder: Path | None) -> Iterator[Check]:
    if path is None or not path.is_file():
        yield Check("key", "look", "No signing key is here.", "Writers need it (--key); readers never do.")
        return
    if path.stat().st_mode & 0o077:
        yield Check(
            "key", "wrong", f"Others may read {path}.", "`chmod 600` it, and `key rotate` where somebody did."
        )
        return
    if folder is not None and folder.resolve() in path.resolve().parents:
        yield Check("key", "wrong", f"{path} lies inside the ledger's folder.", "Move it out, and rotate it.")
        return
    try:
        vkey = SigningKey(path).signer.vkey
    except LedgerError as error:
        yield Check("key", "wrong", error.message, error.remedy or "")
        return
    if vkey != opened.state.key.text:
        yield Check(
            "key", "wrong", f"{path} is not the key that signs this ledger.", "Name the right one with --key."
        )
    elif opened.state.key.name == DEMO_ORIGIN:
        yield Check(
            "key", "look", "This is the demo's key, made without a care.", "`init` makes one for real use."
        )
    elif next_key_path(path).exists():
        yield Check("key", "wrong", "A rotation was cut short.", "`decision-ledger key rotate` finishes it.")
    else:
        yield Check("key", "fine", "The key at hand signs this ledger, and only its owner may read it.")
    retired = sorted(path.parent.glob(f"{path.name}.retired-*"))
    if retired:
        yield Check(
            "retired keys", "look", f"{len(retired)} retired keys lie beside it.",
            f"Destroy them, and their copies: {', '.join(map(os.fspath, retired[:3]))}",
        )  # fmt: skip


def _broker(broker: str) -> Check:
    host, _, port = broker.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            return Check("broker", "fine", f"{broker} answers.")
    except (OSError, ValueError, OverflowError) as error:
        return Check(
            "broker",
            "wrong",
            f"{broker} does not answer: {error}.",
            "Check the address and the broker's log.",
        )
