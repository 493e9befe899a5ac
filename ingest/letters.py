"""Dead letters: which there are, found by status, and one of them whole."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from ledger.errors import UsageError
from ledger.events import DEAD_LETTER_STATUSES
from ledger.format.manifest import parse_dead_letter_path
from ledger.query.engine import PLACED
from ledger.query.letter_ids import find_letter, letter_id
from ledger.reader import Ledger
from ledger.sealing.segment import read_dead_letter_rows

STATUSES: Final = (*DEAD_LETTER_STATUSES, "replayed", "all")
"""What `deadletters list` takes; a letter that was replayed is no longer `rejected`."""
# Our own constants; what comes from outside is in the parameters.
_LETTERS: Final = (
    f"FROM (SELECT l.*, r.f IS NOT NULL AS replayed FROM {PLACED}dead_letters AS l LEFT JOIN"  # noqa: S608  # as above
    " (SELECT unnest($files::VARCHAR[]) AS f, unnest($rows::BIGINT[]) AS n) AS r"
    " ON l.filename = r.f AND l.file_row_number = r.n)"
)
_COLUMNS: Final = "time, status, topic, topic_id, partition, record_offset, part, reason, field, digest"


def listed(
    ledger: Ledger, status: str, limit: int, at: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """The newest letters of a status (`STATUSES`), without their messages, and how many there are."""
    if status not in STATUSES:
        raise UsageError(f"There is no status {status!r}.", f"Use {', '.join(STATUSES[:-1])} or all.")
    segment_of = {
        ledger.query_path(file): file for file in ledger.state.files.values() if _holds_letters(file.path)
    }
    wanted = {"all": "true", "replayed": "replayed", "rejected": "status = 'rejected' AND NOT replayed"}
    condition = wanted.get(status, f"status = '{status}'")
    found, places = f"{_LETTERS} WHERE {condition}", _replayed_places(ledger, at)
    query = ledger.query(at)
    of: int = query.trusted(f"SELECT count(*) AS n {found}", places).column("n")[0].as_py()
    newest = query.trusted(
        f"SELECT filename, file_row_number, {_COLUMNS}, replayed {found}"
        " ORDER BY time DESC, topic DESC, partition DESC, record_offset DESC LIMIT $limit",
        {**places, "limit": limit},
    )
    shown = []
    for row in newest.to_pylist():
        segment, number = segment_of[row.pop("filename")].origin(row.pop("file_row_number"))
        shown.append({"id": letter_id(segment, number), **row})
    return shown, of


def rejected_of(ledger: Ledger, topics: Sequence[str]) -> int:
    """How many messages of these topics are set aside as rejected and were not replayed."""
    found = f"SELECT count(*) AS n {_LETTERS} WHERE status = 'rejected' AND NOT replayed AND topic IN $topics"
    values = {**_replayed_places(ledger, None), "topics": list(topics)}
    count: int = ledger.query().trusted(found, values).column("n")[0].as_py()
    return count


def shown(ledger: Ledger, letter: str) -> dict[str, Any]:
    """One letter with its message as text. Raises UsageError for an unknown id."""
    place = find_letter(ledger.state, letter)
    row = None if place is None else letter_row(ledger, *place)
    if place is None or row is None or row.pop("erased_leaf") is not None:
        raise UsageError(
            f"There is no dead letter {letter!r}.", "`decision-ledger deadletters list` prints the ids."
        )
    payload = row.pop("payload")
    row["message"] = None if payload is None else base64.b64decode(payload).decode("utf-8", "replace")
    return {"id": letter, **row, "replayed": place in ledger.state.replayed}


def letter_row(ledger: Ledger, segment: str, row: int) -> dict[str, Any] | None:
    """One letter as its columns, by where it was sealed; None where no file holds that row any more."""
    for file, places in ledger.state.located(segment, [row]):
        at = places[row]
        found: dict[str, Any] = read_dead_letter_rows(ledger.local_path(file), at, at + 1).to_pylist()[0]
        return found
    return None


def _replayed_places(ledger: Ledger, at: int | None) -> dict[str, Any]:
    """Where letters that were replayed lie now: `files` on this machine and `rows`, positions in them."""
    files: list[str] = []
    rows: list[int] = []
    by_segment: dict[str, list[int]] = {}
    for path, row in ledger.as_of(at).replayed:
        by_segment.setdefault(path, []).append(row)
    for segment, numbers in by_segment.items():
        for file, places in ledger.state.located(segment, numbers):
            files += [ledger.query_path(file)] * len(places)
            rows += places.values()
    return {"files": files, "rows": rows}


def _holds_letters(path: str) -> bool:
    return parse_dead_letter_path(path) is not None
