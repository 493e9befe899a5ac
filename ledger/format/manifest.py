"""What one commit says: the entries of the log, as typed values and as bytes.

An entry is the RFC 8785 JSON of one of the classes below, at most 65,535 bytes (the length
prefix of C2SP tlog-tiles entry bundles). Everything here is pure: bytes in, values out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from ledger.errors import DamageError, UsageError
from ledger.format.note import ED25519, Signer, VerifierKey, decode_base64

MAX_ENTRY_BYTES = 65_535
ENTRY_ROOM_BYTES = 60_000
"""Bytes of one entry that may be planned with, before its exact size is known."""
MAX_SEGMENTS_PER_ENTRY = 64
MAX_GRACE_SECONDS = 366 * 86_400
MAX_RETENTION_DAYS = 366_000
EVENTS_FOLDER = "events"
DEAD_LETTERS_FOLDER = "deadletters"
CACHE_FOLDER = "cache"
FILE_PREFIX = "file:"
"""Before the name of a file's stream."""
OBJECTS_PREFIX = "objects:"
"""Before the name of a stream of objects in a bucket or folder."""
MAX_OBJECT_KEY_CHARS = 1_024

_NAME = r"[A-Za-z0-9_-]{1,64}"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_EVENT_PATH = re.compile(
    rf"{EVENTS_FOLDER}/retention=(?P<retention>[a-z0-9-]{{1,32}})/date=(?P<date>{_DAY})/{_NAME}\.parquet"
)
_LETTER_PATH = re.compile(rf"{DEAD_LETTERS_FOLDER}/date=(?P<date>{_DAY})/{_NAME}\.parquet")

Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]


def _existing_instant(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _existing_day(text: str) -> str:
    date.fromisoformat(text)
    return text


Instant = Annotated[
    str,
    StringConstraints(pattern=rf"^{_DAY}T([01][0-9]|2[0-3]):[0-9]{{2}}:[0-9]{{2}}\.[0-9]{{6}}Z$"),
    AfterValidator(_existing_instant),
]
Day = Annotated[str, StringConstraints(pattern=f"^{_DAY}$"), AfterValidator(_existing_day)]
Rows = Annotated[int, Field(ge=1, le=2**53 - 1)]
Grace = Annotated[int, Field(ge=0, le=MAX_GRACE_SECONDS)]
Class = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]
Range = tuple[Count, Count]


class InvalidEntry(DamageError):
    """An entry that the rules of the ledger format refuse, wherever it came from."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy or "`decision-ledger verify` names all that is damaged.")


@dataclass(frozen=True, slots=True, order=True)
class OffsetKey:
    """Whose offsets these are: (cluster, topic_id or, where there is none, topic, partition).

    `topic_id` is in Kafka's 22-character form; files and spools have neither cluster nor topic id.
    """

    topic: str
    partition: int = 0
    topic_id: str | None = None
    cluster: str | None = None

    @property
    def identity(self) -> tuple[str, str, int]:
        """What is compared: a topic renamed under the same id is the same key."""
        return (self.cluster or "", self.topic_id or self.topic, self.partition)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class SegmentRef(_Part):
    """One sealed Parquet file of events: one retention class, one UTC date."""

    path: str
    retention: Class
    date: Day
    rows: Rows
    bytes: Count
    sha256: Hex32
    root: Hex32
    min_time: Instant
    max_time: Instant
    kinds: dict[Kind, Count]


class DeadLetterRef(_Part):
    """One sealed Parquet file of dead letters."""

    path: str
    rows: Rows
    bytes: Count
    sha256: Hex32
    root: Hex32


class ObjectRange(_Part):
    """Records [from, to) of a stream of objects: they are the next ones of this version of one object.

    `end` says that it ended with them. A version that is read in several goes has its first records in
    the earliest range.
    """

    key: Annotated[str, StringConstraints(min_length=1, max_length=MAX_OBJECT_KEY_CHARS)]
    etag: Annotated[str, StringConstraints(min_length=1, max_length=MAX_OBJECT_KEY_CHARS)]
    from_: Count = Field(alias="from")
    to: Count
    end: bool


class OffsetsRow(_Part):
    """Messages [from, to) of one key, all accounted for."""

    topic: str
    topic_id: str | None = None
    cluster: str | None = None
    partition: Count
    from_: Count = Field(alias="from")
    to: Count
    accepted: Count | None = None
    duplicate: Count | None = None
    ignored: Count | None = None
    rejected: Count | None = None
    skipped: list[Range] = []
    lost: list[Range] = []
    bytes: Count | None = None
    prefix: Hex32 | None = None
    objects: list[ObjectRange] | None = None
    complete: Instant | None = None

    @property
    def key(self) -> OffsetKey:
        """The key that these offsets belong to."""
        return OffsetKey(self.topic, self.partition, self.topic_id, self.cluster)

    @property
    def lost_messages(self) -> int:
        """How many of them a broker removed before they were read."""
        return sum(end - start for start, end in self.lost)


class CompleteKey(_Part):
    """A key whose source was seen to end, at `complete`, where the ledger's position is or below it."""

    topic: str
    topic_id: str | None = None
    cluster: str | None = None
    partition: Count
    complete: Instant

    @property
    def key(self) -> OffsetKey:
        """The key that was seen to its end."""
        return OffsetKey(self.topic, self.partition, self.topic_id, self.cluster)


class Replay(_Part):
    """A dead letter, by its file and row, that this entry's events came from."""

    path: str
    row: Count


class HeldRows(_Part):
    """Rows [from, to) of a compacted file are rows of an original segment, in its order."""

    segment: str
    from_: Count = Field(alias="from")
    to: Count


class CompactedFile(_Part):
    """A file that took over the rows of others; `holds` fill it in order, without gap."""

    path: str
    sha256: Hex32
    bytes: Count
    rows: Count
    holds: list[HeldRows]


class ErasedRows(_Part):
    """Rows of one original segment, counted from 0 in it."""

    segment: str
    indexes: list[Count]


class RetentionClass(_Part):
    """How long a class is kept (`days` None: until released), and whether its events may be erased."""

    days: Annotated[int, Field(ge=1, le=MAX_RETENTION_DAYS)] | None
    erasable: bool


class HoldMatch(_Part):
    """What a hold covers: all the conditions that are given."""

    class_: Class | None = Field(default=None, alias="class")
    trace_id: str | None = None
    actor: str | None = None
    from_: Instant | None = Field(default=None, alias="from")
    to: Instant | None = None


class _Entry(_Part):
    v: Literal[1] = 1
    index: Count
    prev: Hex32
    time: Instant
    writer: str
    software: str
    sig: str = ""


class Init(_Entry):
    """Entry 0, always: who this ledger is."""

    kind: Literal["init"] = "init"
    origin: str
    vkey: str
    retention: dict[Class, RetentionClass]


class Append(_Entry):
    """New segments and dead letters, and the offsets that they account for."""

    kind: Literal["append"] = "append"
    segments: Annotated[list[SegmentRef], Field(max_length=MAX_SEGMENTS_PER_ENTRY)] = []
    offsets: list[OffsetsRow] = []
    deadletters: list[DeadLetterRef] = []
    replays: list[Replay] = []


class Compact(_Entry):
    """Files merged into others that hold the same rows."""

    kind: Literal["compact"] = "compact"
    files: list[CompactedFile]
    removed: list[str]
    grace: Grace


class Erase(_Entry):
    """Rows whose content is gone; their leaf hashes stay."""

    kind: Literal["erase"] = "erase"
    files: list[CompactedFile]
    removed: list[str]
    rows: list[ErasedRows]
    by: str
    reason: str
    grace: Grace


class Expire(_Entry):
    """Original segments past their class's days."""

    kind: Literal["expire"] = "expire"
    paths: list[str]
    class_: Class = Field(alias="class")
    cutoff: Day
    by: str
    reason: str
    grace: Grace


class Gc(_Entry):
    """Left-over files about to be removed; their names are never used again."""

    kind: Literal["gc"] = "gc"
    paths: list[str]


class Config(_Entry):
    """A computation's settings in force from here on, by content hash."""

    kind: Literal["config"] = "config"
    name: str
    sha256: Hex32


class Key(_Entry):
    """Rotation: entries after this one are signed by `vkey`."""

    kind: Literal["key"] = "key"
    vkey: str
    newsig: str = ""


class Tick(_Entry):
    """The ledger's clock goes on while nothing else is said."""

    kind: Literal["tick"] = "tick"
    complete: list[CompleteKey] = []


class HoldPlaced(_Entry):
    """A legal hold: what it covers is neither expired nor erased."""

    kind: Literal["hold"] = "hold"
    id: str
    match: HoldMatch
    by: str
    reason: str


class Release(_Entry):
    """A hold is lifted."""

    kind: Literal["release"] = "release"
    id: str
    by: str
    reason: str


class Note(_Entry):
    """A remark by an operator."""

    kind: Literal["note"] = "note"
    text: str


Entry = Init | Append | Compact | Erase | Expire | Gc | Config | Key | Tick | HoldPlaced | Release | Note
AnyEntry = TypeVar("AnyEntry", bound=_Entry)
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def instant(when: datetime) -> str:
    """UTC time in the ledger's one spelling, six digits of microseconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def with_instants(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times in that spelling, for JSON."""
    return {name: instant(one) if isinstance(one, datetime) else one for name, one in row.items()}


def parse_instant(text: str) -> datetime:
    """The time that `instant` spelled. Raises ValueError for a time that does not exist."""
    return datetime.fromisoformat(text)


def entry_bytes(entry: Entry) -> bytes:
    """RFC 8785 JSON of the entry; absent and null are left out alike, but a class's null `days` stays."""
    return _canonical(_plain(entry))


def parse_entry(data: bytes) -> Entry:
    """Read one entry strictly: RFC 8785 form, known fields only. Raises InvalidEntry."""
    if len(data) > MAX_ENTRY_BYTES:
        raise InvalidEntry(f"An entry has {len(data)} bytes; the format allows {MAX_ENTRY_BYTES}.")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidEntry(f"An entry is not JSON: {error}.") from None
    try:
        canonical = _canonical(value)
    except orjson.JSONEncodeError as error:  # nested deeper than it writes, though it reads it
        raise InvalidEntry(f"An entry is not in RFC 8785 form: {error}.") from None
    if canonical != data:
        raise InvalidEntry("An entry is not in RFC 8785 form.")
    if not isinstance(value, dict) or "v" not in value:
        raise InvalidEntry("An entry does not say which version of the format it has.")
    try:
        entry = _ENTRY.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise InvalidEntry(f"An entry is not valid at {where}: {first['msg']}.") from None
    return entry


def sign_entry(entry: AnyEntry, origin: str, key: Signer) -> AnyEntry:
    """The entry with `sig` set. The signed text is origin, a line feed, and the entry without `sig`."""
    signature = key.sign(_signed_text(_plain(entry), origin, without=("sig",)))
    return entry.model_copy(update={"sig": base64.b64encode(signature).decode()})


def endorse_key(entry: Key, origin: str, new_key: Signer) -> Key:
    """A rotation with `newsig` set: the new key's word that it takes over."""
    signature = new_key.sign(_signed_text(_plain(entry), origin, without=("sig", "newsig")))
    return entry.model_copy(update={"newsig": base64.b64encode(signature).decode()})


def check_signature(entry: Entry, data: bytes, origin: str, key: VerifierKey) -> None:
    """Raises InvalidEntry unless the ledger's key (and a rotation's new key) signed this entry.

    `data` is the entry as it stands in the log: the signature covers that text, not our reading of it.
    """
    value = orjson.loads(data)
    if not _signed_by(entry.sig, _signed_text(value, origin, without=("sig",)), key):
        raise InvalidEntry(f"Entry {entry.index} is not signed by the ledger's key {key.name}.")
    if isinstance(entry, Key):
        new = ledger_key(entry.vkey)
        if not _signed_by(entry.newsig, _signed_text(value, origin, without=("sig", "newsig")), new):
            raise InvalidEntry(f"Entry {entry.index} names a new key that did not sign it.")


def ledger_key(vkey: str) -> VerifierKey:
    """The key that an entry names as the ledger's. Raises InvalidEntry where it can be no such key."""
    try:
        key = VerifierKey.from_text(vkey)
    except UsageError as error:
        raise InvalidEntry(f"An entry names a key that is none: {error.message}") from None
    if key.signature_type != ED25519:
        raise InvalidEntry(f"An entry names {key.text}, which signs something else than logs.")
    return key


def event_path(retention: str, day: str, name: str) -> str:
    """Where a segment of this class and UTC date lies."""
    return f"{EVENTS_FOLDER}/retention={retention}/date={day}/{name}.parquet"


def dead_letter_path(day: str, name: str) -> str:
    """Where dead letters set aside on this UTC date lie."""
    return f"{DEAD_LETTERS_FOLDER}/date={day}/{name}.parquet"


def parse_event_path(path: str) -> tuple[str, str] | None:
    """(retention class, date) of a segment's path, or None where it is no such path."""
    match = _EVENT_PATH.fullmatch(path)
    return (match["retention"], match["date"]) if match and _is_day(match["date"]) else None


def parse_dead_letter_path(path: str) -> str | None:
    """The date of a dead-letter file's path, or None where it is no such path."""
    match = _LETTER_PATH.fullmatch(path)
    return match["date"] if match and _is_day(match["date"]) else None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _plain(entry: _Entry) -> dict[str, Any]:
    value = entry.model_dump(by_alias=True, exclude_none=True)
    if isinstance(entry, Init):
        value["retention"] = {name: c.model_dump() for name, c in entry.retention.items()}
    if isinstance(entry, Append):
        for name in ("segments", "offsets", "deadletters", "replays"):
            if not value[name] and not (name == "segments" or (name == "offsets" and not entry.replays)):
                del value[name]
    if isinstance(entry, Tick) and not entry.complete:
        del value["complete"]
    return value


def _canonical(value: Any) -> bytes:
    # Entries hold no floats (the classes refuse them) and their keys are ASCII, and there orjson
    # with sorted keys writes what RFC 8785 asks for; a property test holds the two against each other.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _signed_text(value: dict[str, Any], origin: str, without: tuple[str, ...]) -> bytes:
    rest = {name: part for name, part in value.items() if name not in without}
    return origin.encode() + b"\n" + _canonical(rest)


def _signed_by(signature: str, text: bytes, key: VerifierKey) -> bool:
    # One spelling only: else anyone could make a second entry of one that is signed.
    decoded = decode_base64(signature)
    return decoded is not None and key.verify(text, decoded)
