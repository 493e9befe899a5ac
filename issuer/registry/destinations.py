"""Destinations: where tools may send data, and what may go there (`destinations.yml`)."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from issuer.registry.words import Name, Principal, Record, Scope, Words

MAX_BODY_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 1_048_576

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ValueError("write it as https://host or https://host/path")
    if parts.username is not None or parts.query or parts.fragment or not value.isascii():
        raise ValueError("it holds a user, a query, a fragment or letters beyond ASCII")
    return value.rstrip("/")


def _path(value: str) -> str:
    if not value.startswith("/") or ".." in value or "\\" in value or "%" in value:
        raise ValueError("write it from the root, such as /v1/messages or /v1/*")
    if "*" in value[:-1] or (value.endswith("*") and not value.endswith("/*")):
        raise ValueError("`*` stands only for all below a folder, as in /v1/*")
    return value


class Route(Record):
    """Methods on one path, or on all below it (`/v1/*`)."""

    methods: list[Method] = Field(min_length=1)
    path: Annotated[str, AfterValidator(_path)]

    def covers(self, method: str, path: str) -> bool:
        """Whether this call is one of them."""
        if method not in self.methods:
            return False
        return path.startswith(self.path[:-1]) if self.path.endswith("/*") else path == self.path


class CredentialReference(Record):
    """Where the destination's credential is found: a variable of the environment, or a file."""

    env: Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")] | None = None
    file: Words | None = None
    scheme: Literal["Bearer", "Basic"] = "Bearer"

    @model_validator(mode="after")
    def _one_of_them(self) -> CredentialReference:
        if (self.env is None) == (self.file is None):
            raise ValueError("name either `env` or `file`")
        return self


class Destination(Record):
    """One place outside that tools may send data to."""

    name: Name = Field(description="its name in paths and events")
    base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        description="https://host, with a path or not"
    )
    environment: Name = Field(description="the environment that may use it")
    owner: Principal = Field(description="who answers for it")
    purpose: Words = Field(description="what it is for")
    routes: list[Route] = Field(min_length=1, description="methods and paths that are open")
    required_scopes: list[Scope] = Field(min_length=1, description="what a credential must hold for it")
    impact: Literal["low", "medium", "high"] = Field(default="medium", description="of one call")
    credential: CredentialReference | None = Field(default=None, description="added here, never by the agent")
    drop_fields: list[Words] = Field(
        default_factory=list, description="taken out of JSON bodies, at any depth"
    )
    refuse_fields: list[Words] = Field(default_factory=list, description="a body that holds one is refused")
    max_body_bytes: int = Field(default=MAX_BODY_BYTES, ge=1, le=16 * MAX_ANSWER_BYTES)
    max_answer_bytes: int = Field(default=MAX_ANSWER_BYTES, ge=1, le=64 * MAX_ANSWER_BYTES)
    seconds: float = Field(default=10.0, gt=0, le=60, description="how long one call may take")
    test_address: Annotated[str, StringConstraints(pattern=r"^127\.0\.0\.1:[0-9]{1,5}$")] | None = Field(
        default=None, description="instead of what the name resolves to; only with --allow-test-destinations"
    )

    @property
    def endpoint(self) -> str:
        """The audience of capabilities for it."""
        return f"egress:{self.environment}/{self.name}"

    def opens(self, method: str, path: str) -> bool:
        """Whether a route covers this call."""
        return any(route.covers(method, path) for route in self.routes)
