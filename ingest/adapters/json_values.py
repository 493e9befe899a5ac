"""Parts of a foreign JSON object, as our fields take them; what has another shape counts as absent."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import rfc8785

from ingest import strictjson
from ingest.decoded import Limits
from ingest.rows import Refused, parse_time

MISSING: Final = object()
"""What `at` gives where there is nothing: null is something."""
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.ASCII)

_SHORT_OFFSET: Final = re.compile(r"[0-9][+-][0-9]{4}\Z", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def at(value: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), or at dotted names; `MISSING` where there is none."""
    if not pointer:
        return value
    if pointer.startswith("/"):
        names = [name.replace("~1", "/").replace("~0", "~") for name in pointer[1:].split("/")]
    else:
        names = pointer.split(".")
    for name in names:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


def as_object(value: Any) -> dict[str, Any]:
    """An object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A list, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def as_texts(value: Any) -> list[str] | None:
    """A list of texts."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None


def as_hex(value: Any, digits: int) -> str | None:
    """So many hex digits that are not all zero, in lower case."""
    fits = isinstance(value, str) and re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value) and value.strip("0")
    return value.lower() if fits else None


def as_address(value: Any) -> str | None:
    """The IP address of `host`, `host:port` or `[host]:port`."""
    text = as_text(value) or ""
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    for candidate in (host, host.rpartition(":")[0]):
        try:
            return str(ipaddress.ip_address(candidate))
        except ValueError:
            continue
    return None


def traceparent(value: Any) -> tuple[str, str] | None:
    """The trace and span id of a `traceparent` header (W3C Trace Context, section 3.2)."""
    match = _TRACEPARENT.fullmatch((as_text(value) or "").strip())
    if match is None or match[1] == "ff" or (match[1] == "00" and match[4]):
        return None
    trace, span = as_hex(match[2], 32), as_hex(match[3], 16)
    return None if trace is None or span is None else (trace, span)


def principal(value: Any) -> str | None:
    """`type:id` of an object that has both; a plain text stands for itself."""
    if isinstance(value, str):
        return value or None
    kind, name = as_text(as_object(value).get("type")), as_text(as_object(value).get("id"))
    return f"{kind}:{name}" if kind and name else name


def named(kind: str, name: Any) -> str | None:
    """`kind:name`, where there is a name."""
    text = as_text(name)
    return None if text is None else f"{kind}:{text}"


def moment_of(value: Any) -> Any:
    """RFC 3339 of seconds since 1970, and of a time whose offset has no colon; anything else as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return (_EPOCH + timedelta(microseconds=round(value * 1_000_000))).isoformat()
        except (OverflowError, ValueError):
            return None
    if isinstance(value, str) and _SHORT_OFFSET.search(value) is not None:
        return f"{value[:-2]}:{value[-2:]}"
    return value


def as_time(value: Any) -> str | None:
    """A time of RFC 3339 in UTC, as events have it; anything else counts as absent."""
    try:
        return parse_time(value).isoformat()
    except Refused:
        return None


def canonical_text(value: Any) -> str:
    """RFC 8785 text, but integers of any size keep their digits: nobody computes with this text."""
    try:
        return strictjson.canonical(value).decode()
    except rfc8785.IntegerDomainError:
        pass
    except (rfc8785.CanonicalizationError, ValueError):
        raise Refused("not JSON", "raw") from None
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        texts = (f"{canonical_text(key)}:{canonical_text(child)}" for key, child in members)
        return "{" + ",".join(texts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical_text(child) for child in value) + "]"
    return str(value)


_WIDEST: Final = 4
"""Bytes of a character, and more than what integers gain that are sealed as texts."""


def fitting(attributes: dict[str, Any], limits: Limits) -> dict[str, Any] | None:
    """The attributes that hold something, as many as may be sealed.

    The choice of them is ours, so the longest give way; `left_out` names them, `raw` has them.
    """
    attributes = {name: value for name, value in attributes.items() if value not in (None, {}, [])}
    if len(canonical_text(attributes)) * _WIDEST <= limits.attributes_bytes:
        return attributes or None
    left_out: list[str] = []
    sizes = {name: len(canonical_text(value).encode()) + len(name) + 8 for name, value in attributes.items()}
    while attributes and sum(sizes.values()) + 8 * len(left_out) > limits.attributes_bytes:
        longest = max(sizes, key=lambda name: (sizes[name], name))
        left_out.append(longest)
        del sizes[longest]
        attributes = {name: attributes[name] for name in sizes}
    if left_out:
        attributes["left_out"] = sorted(left_out)
    return attributes or None
