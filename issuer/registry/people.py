"""People, what they log in to, what is acted on, and grants of delegation."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from issuer.registry.words import Name, Principal, Record, Time, Words
from ledger.events import DataClass

ROLES: Final = ("member", "oncall", "operator", "approver")
"""What a user may be: operators end sessions, revoke and grant; approvers agree to a step-up."""


def _covered(value: str) -> str:
    kind, colon, name = value.partition(":")
    if kind not in ("tenant", "zone", "class") or not colon or not name or "*" in name:
        raise ValueError("write it as tenant:name, zone:name or class:name")
    return value


def _redirect(value: str) -> str:
    parts = urlsplit(value)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not (loopback or (parts.scheme == "https" and parts.hostname)) or parts.fragment or parts.username:
        raise ValueError("write it as https://…, or http:// on loopback, without a fragment")
    return value


class User(Record):
    """One person."""

    id: Annotated[str, StringConstraints(pattern=r"^user:[a-z0-9][a-z0-9._-]{0,62}$")]
    tenant: Name = Field(description="whose data this user works with")
    zone: Name = Field(default="internal", description="the trust zone that sessions begin in")
    roles: list[Annotated[str, StringConstraints(pattern=f"^({'|'.join(ROLES)})$")]] = Field(min_length=1)
    data_classes: list[DataClass] = Field(description="the classes that a session may be opened for")
    risk: int = Field(default=0, ge=0, le=100, description="what the authority knows of this user's risk")
    password: Words | None = Field(default=None, description="scrypt$salt$hash: for the login page")


class Client(Record):
    """A program that people log in to (OpenID Connect): the dashboard, or an orchestrator."""

    id: Name
    redirect_uris: list[Annotated[str, AfterValidator(_redirect)]] = Field(
        min_length=1, description="where codes go: exact, but any port on loopback (RFC 8252)"
    )
    secret: Words | None = Field(default=None, description="scrypt$salt$hash, of one that keeps it")
    workload: Principal | None = Field(default=None, description="the identity that authenticates it instead")


class Resource(Record):
    """One thing that tools act on."""

    id: Principal = Field(description="type:id")
    tenant: Name
    environment: Name
    zone: Name = "internal"
    data_class: DataClass


class Grant(Record):
    """Leave to delegate beyond the session's own bounds, given by somebody and for a time."""

    id: Words
    delegator: Principal = Field(description="who hands over")
    delegate: Principal = Field(description="to whom")
    covers: list[Annotated[str, AfterValidator(_covered)]] = Field(
        description="what it crosses: tenant:b, zone:pci, class:restricted"
    )
    approver: Principal = Field(description="who agreed: neither of the two")
    reason: Words
    expires_at: Time
