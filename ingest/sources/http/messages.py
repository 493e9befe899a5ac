"""From the body of a request to the messages in it, masked.

`application/json` is one message (an event, or an array of events that is taken whole or not at all);
`application/x-ndjson` is one message a line. gzip is opened, and no further than the limits.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final

from ingest import masking, strictjson
from ingest.sources.http.spool import Message

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""As it comes, and as it is after gzip."""
MAX_MESSAGES: Final = 100_000
LINES: Final = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
ONE: Final = ("application/json",)
_TRIGGER: Final = re.compile(masking.TRIGGER.removeprefix("(?i)"), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unusable(Exception):
    """A body that is not taken: the status, and what to do."""

    status: int
    message: str


def messages_of(body: bytes, content_type: str, encoding: str) -> list[Message]:
    """The messages of a request's body.

    Raises:
        Unusable: it is of another type, too large, or broken.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (*LINES, *ONE):
        raise Unusable(415, f"Send {ONE[0]} (an event, or an array of events) or {LINES[0]} (one a line).")
    data = _opened(body, encoding.strip().lower())
    texts = [data] if kind in ONE else data.split(b"\n")
    texts = [text for text in texts if text.strip()]
    if len(texts) > MAX_MESSAGES:
        raise Unusable(413, f"Send at most {MAX_MESSAGES:,} messages in one request.")
    return [masked(text) for text in texts]


def masked(text: bytes) -> Message:
    """One message without its secrets, and where they stood.

    Raises:
        Unusable: masking failed, and nothing of the message may be kept.
    """
    try:
        readable = text.decode("utf-8")
    except UnicodeDecodeError:
        readable = None
    if readable is not None and _TRIGGER.search(readable) is None:
        return Message(text)
    payload = masking.mask_payload(text)
    if payload is None:
        raise Unusable(400, "A message could not be searched for secrets, so it was not taken.")
    if payload == text:
        return Message(text)
    try:
        _, places = masking.mask_value(strictjson.loads(text))
    except strictjson.Unreadable:
        places = []
    return Message(payload, tuple(places))


def _opened(body: bytes, encoding: str) -> bytes:
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Unusable(415, "Send it as it is, or as gzip.")
    opener = zlib.decompressobj(wbits=31)
    try:
        data = opener.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise Unusable(400, "The body is no gzip.") from None
    if len(data) > MAX_BODY_BYTES:
        raise Unusable(413, f"Opened, the body is larger than {MAX_BODY_BYTES:,} bytes: send less at once.")
    if not opener.eof or opener.unused_data:
        raise Unusable(400, "The gzip ends early, or something follows it.")
    return data
