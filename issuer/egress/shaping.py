"""What of a body and of headers may leave, and what of an answer may come back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from issuer.authentication.refusal import INVALID_REQUEST, Refusal
from issuer.registry.destinations import Destination
from issuer.tokens import strict_json

PASSED_OUT: Final = ("accept", "accept-language", "idempotency-key", "if-match", "if-none-match")
"""Headers of the caller that go on; all others stay here, credentials and X-Forwarded-* among them."""
PASSED_BACK: Final = ("content-type", "content-language", "etag", "last-modified", "retry-after")
"""Headers of the answer that come back; cookies and places to go to do not."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """A body that may leave, and the names of what was taken out."""

    body: bytes
    content_type: str | None
    dropped: list[str]


def shaped(destination: Destination, body: bytes, content_type: str | None, query: str) -> Shaped:
    """The body as it may leave.

    Raises:
        Refusal: 403, where it holds a field that refuses, or cannot be looked into.
    """
    if len(body) > destination.max_body_bytes:
        raise Refusal(413, INVALID_REQUEST, "body_too_large", "The body is larger than allowed.")
    watched = bool(destination.drop_fields or destination.refuse_fields)
    asked = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    both = {name.lower() for name in (*destination.drop_fields, *destination.refuse_fields)}
    if found := sorted(asked & both):
        raise _sensitive(found)
    if not body:
        return Shaped(b"", None, [])
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        if watched:
            raise Refusal(
                415, INVALID_REQUEST, "body_unreadable", "Only JSON can be looked into, and it must be."
            )
        return Shaped(body, kind or None, [])
    try:
        value = strict_json.loads(body)
    except ValueError:
        raise Refusal(400, INVALID_REQUEST, "body_malformed", "The body is not JSON.") from None
    refused: set[str] = set()
    dropped: set[str] = set()
    clean = _clean(
        value, {name.lower() for name in destination.drop_fields},
        {name.lower() for name in destination.refuse_fields}, dropped, refused,
    )  # fmt: skip
    if refused:
        raise _sensitive(sorted(refused))
    data = json.dumps(clean, separators=(",", ":"), ensure_ascii=False).encode()
    return Shaped(data, "application/json", sorted(dropped))


def headers_out(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Those of the caller's headers that go on."""
    return {name.lower(): value for name, value in headers if name.lower() in PASSED_OUT}


def headers_back(headers: Mapping[str, str], secret: str | None) -> dict[str, str]:
    """Those of the answer's headers that come back, without the credential in them."""
    kept = {name: value for name, value in headers.items() if name.lower() in PASSED_BACK}
    return {name: value for name, value in kept.items() if secret is None or secret not in value}


def echoes(answer: bytes, secret: str | None) -> bool:
    """Whether an answer holds the credential that was added here, as it is or in Base64."""
    if not secret:
        return False
    raw = secret.encode()
    forms = (raw, base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"="))
    return any(form in answer for form in forms)


def safe_path(raw_path: bytes, prefix: str) -> str:
    """The part of a path behind `prefix`, where nothing in it can be read in two ways.

    Raises:
        Refusal: 400, for dot segments, encoded slashes, backslashes, control letters, doubled slashes.
    """
    try:
        text = raw_path.decode("ascii")
    except UnicodeDecodeError:
        raise _bad_path() from None
    lower = text.lower()
    rest = text.removeprefix(prefix)
    signs = ("\\", "%2f", "%5c", "%2e", "%00", "%25", "//", ";")
    if any(sign in lower for sign in signs) or any(letter <= " " or letter == "\x7f" for letter in text):
        raise _bad_path()
    if any(part in (".", "..") for part in rest.split("/")):
        raise _bad_path()
    return rest or "/"


def _clean(value: Any, drop: set[str], refuse: set[str], dropped: set[str], refused: set[str]) -> Any:
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            low = name.lower()
            if low in refuse:
                refused.add(low)
            elif low in drop:
                dropped.add(low)
                # What is taken out is looked into too: a body that holds a field that refuses does not leave.
                _clean(inner, drop, refuse, dropped, refused)
            else:
                kept[name] = _clean(inner, drop, refuse, dropped, refused)
        return kept
    if isinstance(value, list):
        return [_clean(inner, drop, refuse, dropped, refused) for inner in value]
    return value


def _sensitive(names: list[str]) -> Refusal:
    return Refusal(
        403, "insufficient_scope", "sensitive_field", "The request holds a field that may not leave.",
        facts={"sensitive_fields": names},
    )  # fmt: skip


def _bad_path() -> Refusal:
    return Refusal(400, INVALID_REQUEST, "path_malformed", "The path holds something that is not passed on.")
