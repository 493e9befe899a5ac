"""The kinds of text that registry files share: words, principals, scopes, times, names."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, StringConstraints

NAME: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""One label: it may become a part of a path, of a URL and of an identity."""


def _words(value: str) -> str:
    if not value.strip():
        raise ValueError("it is empty")
    return value


def _principal(value: str) -> str:
    kind, colon, name = value.partition(":")
    if not (colon and kind and name) or any(letter.isspace() for letter in value):
        raise ValueError("write it as type:id, such as user:alice or agent:production/triage")
    return value


def _scope(value: str) -> str:
    resource, colon, verb = value.rpartition(":")
    if not (colon and resource and verb) or any(letter.isspace() for letter in value):
        raise ValueError("write it as resource:verb, such as ticket:read")
    return value


def _time(value: object) -> object:
    # A date alone would be midnight somewhere, and a number seconds since 1970: neither is what is meant.
    if isinstance(value, datetime) or (isinstance(value, str) and len(value) > len("2026-01-01T")):
        return value
    raise ValueError("write it as RFC 3339 with an offset, such as 2026-11-25T10:00:00Z")


Words = Annotated[str, AfterValidator(_words)]
Principal = Annotated[str, StringConstraints(max_length=256), AfterValidator(_principal)]
Scope = Annotated[str, StringConstraints(max_length=256), AfterValidator(_scope)]
Time = Annotated[AwareDatetime, BeforeValidator(_time)]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]


class Record(BaseModel):
    """One record of a registry file: its fields are these, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)
