"""From the body of a request to the messages in it, masked.

JSON is one message, an array of it as many as it has elements; of JSON Lines every line is one. A CloudEvent
whose attributes stand in headers becomes a structured one. gzip is opened, and no further than the limits: a
body is split to its end before anything of it is kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa

from ingest import masking, strictjson
from ingest.secret_scan import suspects
from ingest.sources.http.spool import Message

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""As it comes."""
MAX_OPENED_BYTES: Final = 64 * 1024 * 1024
"""As it is after gzip."""
MAX_MESSAGES: Final = 100_000
LINES: Final = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
JSON: Final = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json")
_WHITE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()
_CE: Final = "ce-"


@dataclass(frozen=True, slots=True)
class Unusable(Exception):
    """A body that is not taken: the status, and what to do; of a pushed token RFC 8935's word for it."""

    status: int
    message: str
    code: str | None = None


def messages_of(data: bytes, content_type: str) -> list[Message]:
    """The messages of a request's opened body.

    Raises:
        Unusable: it is of another type, holds too many, or is broken.
    """
    kind = media_type(content_type)
    if kind in LINES:
        texts = [text for text in data.split(b"\n") if text.strip()]
    elif kind in JSON:
        texts = _elements(data)
    else:
        raise Unusable(415, f"Send {JSON[0]} (an event, or an array of events) or {LINES[0]} (one a line).")
    if len(texts) > MAX_MESSAGES:
        raise Unusable(413, f"Send at most {MAX_MESSAGES:,} messages in one request.")
    if not texts:
        return []
    found = suspects(pa.array(texts, pa.large_binary()))
    return [masked(text) if suspect else Message(text) for text, suspect in zip(texts, found, strict=True)]


def media_type(content_type: str) -> str:
    """A media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def _elements(data: bytes) -> list[bytes]:
    """The elements of a JSON array as they stand in it; anything else is one."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise Unusable(400, "The body is not UTF-8.") from None
    begin = _past_white(text, 0)
    if begin == len(text):
        return []
    if text[begin] != "[":
        end = _value_end(text, begin)
        _check_end(text, end)
        return [text[begin:end].encode()]
    found: list[bytes] = []
    at = _past_white(text, begin + 1)
    if text[at : at + 1] == "]":
        _check_end(text, at + 1)
        return found
    while True:
        end = _value_end(text, at)
        found.append(text[at:end].encode())
        if len(found) > MAX_MESSAGES:
            return found
        at = _past_white(text, end)
        sign = text[at : at + 1]
        if sign == "]":
            _check_end(text, at + 1)
            return found
        if sign != ",":
            raise Unusable(400, "The body is not JSON.")
        at = _past_white(text, at + 1)


def _past_white(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    return at if match is None else match.end()


def _value_end(text: str, at: int) -> int:
    try:
        return _DECODER.raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        raise Unusable(400, "The body is not JSON.") from None


def _check_end(text: str, at: int) -> None:
    if _past_white(text, at) != len(text):
        raise Unusable(400, "The body is not JSON: something follows it.")


def is_binary_event(headers: Mapping[str, str]) -> bool:
    """Whether a request is one CloudEvent whose attributes stand in its headers (HTTP binding, 3.1)."""
    kind = media_type(headers.get("content-type", ""))
    return f"{_CE}specversion" in headers and not kind.startswith("application/cloudevents")


def binary_message(data: bytes, headers: Mapping[str, str]) -> Message:
    """The message of a request that is one CloudEvent in binary mode.

    Raises:
        Unusable: its body is no JSON although it says so.
    """
    made = masked(structured_event(data, headers))
    return Message(made.payload, made.places, hashlib.sha256(data).hexdigest())


def structured_event(data: bytes, headers: Mapping[str, str]) -> bytes:
    """A CloudEvent in binary mode as one in structured mode; `headers` by names in lower case."""
    told: dict[str, Any] = {
        name.removeprefix(_CE): unquote(value) for name, value in headers.items() if name.startswith(_CE)
    }
    kind = headers.get("content-type", "")
    told["datacontenttype"] = kind or "application/json"
    if media_type(told["datacontenttype"]).endswith(("/json", "+json")):
        try:
            # As text, so that nothing of it is read twice, or differently.
            text = data.decode("utf-8")
            if text.strip():
                _check_end(text, _value_end(text, _past_white(text, 0)))
                envelope = json.dumps(told, ensure_ascii=True)
                return f'{envelope[:-1]},"data":{text}}}'.encode()
            return json.dumps(told, ensure_ascii=True).encode()
        except UnicodeDecodeError:
            raise Unusable(400, "The body is not UTF-8.") from None
    told["data_base64"] = base64.b64encode(data).decode()
    return json.dumps(told, ensure_ascii=True).encode()


def masked(text: bytes, digest: str | None = None) -> Message:
    """One message without its secrets, where they stood, and the digest of what was received.

    `digest` is that one's hex SHA-256, where `text` is not what was received.

    Raises:
        Unusable: masking failed, and nothing of the message may be kept.
    """
    payload = masking.mask_payload(text)
    if payload is None:
        raise Unusable(400, "A message could not be searched for secrets, so it was not taken.")
    if payload == text:
        return Message(text, (), digest) if digest else Message(text)
    try:
        _, places = masking.mask_value(strictjson.loads(text))
    except strictjson.Unreadable:
        places = []
    return Message(payload, tuple(places), digest or hashlib.sha256(text).hexdigest())


def opened(body: bytes, encoding: str) -> bytes:
    """A body as it is after its content encoding.

    Raises:
        Unusable: it has another encoding or several, opens to too much, or is broken.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise Unusable(415, "Send it as it is, or as gzip, once.")
    opener = zlib.decompressobj(wbits=31)
    try:
        data = opener.decompress(body, MAX_OPENED_BYTES + 1)
    except zlib.error:
        raise Unusable(400, "The body is no gzip.") from None
    if len(data) > MAX_OPENED_BYTES:
        raise Unusable(413, f"Opened, the body is larger than {MAX_OPENED_BYTES:,} bytes: send less at once.")
    if not opener.eof or opener.unused_data:
        raise Unusable(400, "The gzip ends early, or something follows it.")
    return data
