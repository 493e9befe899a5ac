"""Whether a report's folder holds: by the key alone, and against the ledger it was counted from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import orjson
from jinja2 import TemplateError
from typst import TypstError

from dashboard.report.numbers import FORMAT, weekly
from dashboard.report.report_folder import BY_VERSION, CHECKPOINT, CONSISTENCY, REPORT, RUN, forms, versions
from dashboard.report.tables import check_types
from dashboard.report.week import basis_of, week_of
from ledger.errors import DamageError, LedgerError, UsageError
from ledger.format.checkpoint import Checkpoint, open_checkpoint
from ledger.format.merkle import verify_consistency
from ledger.format.note import VerifierKey
from ledger.query.evidence_bundle import verify_bundle
from ledger.reader import Ledger

Result = Literal["proved", "confirmed", "refuted", "not computable"]
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_LISTED: Final = 5_000
_SAID_OF_EVENTS: Final = {
    "incidents": (
        "event", {"alert_id": "alert_id", "rule": "rule_id", "severity": "severity", "count": "count"},
    ),
    "cases": ("event", {"case_id": "target"}),
    "exceptions": ("opening", {"exception_id": "exception_id"}),
    "top_denied": ("event", {"action": "action", "resource": "resource", "reason": "reason"}),
}  # fmt: skip
"""By table: the column that names an event, and which of its columns say what which field of it says."""


@dataclass(slots=True)
class Outcome:
    """What a check found. `faults` names what does not hold, the gravest thing first."""

    result: Result = "proved"
    week: str | None = None
    size: int | None = None
    checkpoint_size: int | None = None
    events: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the answer is yes."""
        return self.result in ("proved", "confirmed")


def check_by_key(folder: Path, key: VerifierKey) -> tuple[Outcome, dict[str, Any] | None]:
    """Check the checkpoint, the listed events and that all forms say the same; and the report where it holds.

    Raises:
        UsageError: the folder holds no report.
    """
    if not folder.is_dir() or not (folder / REPORT).is_file():
        raise UsageError(f"There is no report in {folder}.", "Name a folder that `report weekly` wrote.")
    outcome = Outcome()
    try:
        report = _parsed(_read(folder, REPORT))
        outcome.week, outcome.size = report["week"]["name"], report["counted_at"]["size"]
        check_types(report)
        head = _check_head(folder, report, key)
        outcome.checkpoint_size = head.size
        outcome.events = _check_events(folder, report, key, head)
        _check_forms(folder, report, outcome)
    except LedgerError as error:
        outcome.faults.append(error.message)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, TemplateError, TypstError) as error:
        outcome.faults.append(f"{REPORT} is malformed: {type(error).__name__} at {error}.")
    else:
        outcome.notes.append("The numbers were not counted again: that takes the ledger.")
        return outcome, report
    outcome.result = "refuted"
    return outcome, None


def check_by_ledger(outcome: Outcome, folder: Path, report: Mapping[str, Any], ledger: Ledger) -> None:
    """Count a report again, whose folder holds by its key, and note in `outcome` whether it is the same."""
    outcome.notes.clear()
    try:
        faults = list(_differences(folder, report, ledger))
    except UsageError as error:
        outcome.result = "not computable"
        outcome.faults.append(error.message)
        return
    except DamageError as error:
        faults = [error.message]
    outcome.faults += faults
    outcome.result = "refuted" if faults else "confirmed"


def _differences(folder: Path, report: Mapping[str, Any], ledger: Ledger) -> Iterator[str]:
    at = report["counted_at"]
    head = open_checkpoint(_read(folder, CHECKPOINT), ledger.state.key)
    if ledger.size < head.size:
        yield f"The ledger has {ledger.size} entries, fewer than the {head.size} of the report's checkpoint."
        return
    if ledger.sealed.tree.root(head.size) != head.root:
        yield f"The report's checkpoint of {head.size} entries is none of this ledger's."
        return
    verified = ledger.verify()
    if not verified.ok:
        first = verified.damaged[0]
        yield f"The ledger is damaged: {first.where}: {first.message}"
        return
    basis = basis_of(ledger, week_of(report["week"]["name"]), head.size)
    if basis.size != at["size"]:
        yield f"counted_at.size: the report says {at['size']}, the week settles at {basis.size}"
        return
    again = orjson.loads(orjson.dumps(weekly(ledger, basis)))
    yield from differing(report, again)


def differing(said: Any, counted: Any, where: str = "") -> Iterator[str]:
    """Every cell in which two reports differ, by its path."""
    if isinstance(said, dict) and isinstance(counted, dict):
        for name in sorted(said.keys() | counted.keys()):
            yield from differing(said.get(name), counted.get(name), f"{where}.{name}" if where else name)
    elif isinstance(said, list) and isinstance(counted, list):
        if len(said) != len(counted):
            yield f"{where}: the report has {len(said)} rows, the ledger {len(counted)}"
        for number, (one, other) in enumerate(zip(said, counted, strict=False)):
            yield from differing(one, other, f"{where}[{number}]")
    elif said != counted or type(said) is not type(counted):
        yield f"{where}: the report says {_short(said)}, the ledger {_short(counted)}"


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 200 else text[:199] + "…"


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DamageError(f"{name} has more than {MAX_FILE_BYTES:,} bytes, too many for a report.")
        return path.read_bytes()
    except OSError:
        raise DamageError(f"{name} is missing or cannot be read.") from None


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        report = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise DamageError(f"{REPORT} is no JSON.") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise DamageError(f"{REPORT} is not of the format {FORMAT}.")
    return report


def _check_head(folder: Path, report: Mapping[str, Any], key: VerifierKey) -> Checkpoint:
    """The checkpoint, once the counted size is shown to be a prefix of it."""
    head = open_checkpoint(_read(folder, CHECKPOINT), key)
    at = report["counted_at"]
    if at["origin"] != key.name or at["vkey"] != key.text:
        raise DamageError(f"The report is by {at['vkey']!r}, not by the key {key.text!r}.")
    told = orjson.loads(_read(folder, CONSISTENCY))
    if told["size"] != at["size"] or told["to"] != head.size or type(at["size"]) is not int:
        raise DamageError(f"{CONSISTENCY} is of other sizes than the report and its checkpoint.")
    path = [bytes.fromhex(digest) for digest in told["proof"]]
    if not verify_consistency(at["size"], head.size, bytes.fromhex(at["root"]), head.root, path):
        raise DamageError(
            f"counted_at.root is not the root of the first {at['size']} entries of the checkpoint."
        )
    return head


def _check_events(folder: Path, report: Mapping[str, Any], key: VerifierKey, head: Checkpoint) -> int:
    """How many listed events are proved."""
    listed = report["listed"]
    if len(listed) > MAX_LISTED:
        raise DamageError(f"The report lists {len(listed):,} events; a report lists at most {MAX_LISTED:,}.")
    proved: dict[str, dict[str, Any]] = {}
    for number, one in enumerate(listed, 1):
        name = f"evidence/{number:04d}.json"
        if one["file"] != name:
            raise DamageError(f"listed[{number - 1}].file is {one['file']!r} instead of {name!r}.")
        bundle = verify_bundle(_read(folder, name), key.text)
        if any(checkpoint != head for checkpoint in bundle.checkpoints):
            raise DamageError(f"{name} is proved at another checkpoint than the report's.")
        own = [event for event in bundle.events if f"{event['source']}#{event['event_id']}" == one["event"]]
        if not own:
            raise DamageError(f"{name} does not prove {one['event']}.")
        proved[one["event"]] = own[0]
    extra = sorted(path.name for path in (folder / "evidence").iterdir())[: MAX_LISTED + 1]
    known = {CONSISTENCY.partition("/")[2], *(one["file"].partition("/")[2] for one in listed)}
    if set(extra) - known:
        raise DamageError(f"evidence/{min(set(extra) - known)} is named by no event that the report lists.")
    _check_said(report, proved)
    return len(proved)


def _check_said(report: Mapping[str, Any], proved: Mapping[str, Mapping[str, Any]]) -> None:
    """What rows say of an event must be what the event says."""
    for table, (named_by, fields) in _SAID_OF_EVENTS.items():
        for number, row in enumerate(report[table]):
            event = proved.get(row[named_by])
            if event is None:
                raise DamageError(f"{table}[{number}] names {row[named_by]}, for which there is no proof.")
            for column, name in fields.items():
                if row[column] != event.get(name):
                    raise DamageError(
                        f"{table}[{number}].{column}: the report says {_short(row[column])}, the event "
                        f"{_short(event.get(name))}"
                    )


def _check_forms(folder: Path, report: Mapping[str, Any], outcome: Outcome) -> None:
    """Every form must say what report.json says; those that a library makes, where its version is at hand."""
    made_with = orjson.loads(_read(folder, RUN))["versions"]
    here = versions()
    others = {name for name in here if made_with.get(name) != here[name]}
    same: Callable[[str], bool] = lambda name: (  # noqa: E731  # one rule, said once
        BY_VERSION.get(name) not in others
        and not (name.startswith("parquet/") and "pyarrow" in others)
        and "decision-ledger" not in others
    )
    for name, data in forms(report).items():
        if not same(name) and name != REPORT:
            outcome.notes.append(f"{name} was not compared: it was made with other versions.")
        elif _read(folder, name) != data:
            raise DamageError(f"{name} does not say what {REPORT} says.")
