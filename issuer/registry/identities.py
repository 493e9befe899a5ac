"""Workload identities: who each program is, in which environment, and who answers for it (`agents.yml`).

`agent:<environment>/<name>` and `spiffe://<environment>/agent/<name>` are two spellings of one identity.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from issuer.registry.words import NAME, Name, Principal, Record, Scope, Words

PEP_OF_KIND: Final = {
    "gateway": "gateway", "router": "tool_router", "adapter": "data_adapter", "worker": "worker",
    "broker": "broker", "egress": "egress",
}  # fmt: skip
"""The enforcement point, as events call it, that a kind of workload stands at."""
KINDS: Final = ("agent", "orchestrator", *PEP_OF_KIND)
_ID: Final = re.compile(rf"({'|'.join(KINDS)}):({NAME})/({NAME})")
_SPIFFE: Final = re.compile(rf"spiffe://({NAME})/({'|'.join(KINDS)})/({NAME})")


def workload_id(text: str) -> str | None:
    """The identity that `text` spells, as `kind:environment/name`; None for anything else."""
    if _ID.fullmatch(text):
        return text
    if found := _SPIFFE.fullmatch(text):
        environment, kind, name = found.groups()
        return f"{kind}:{environment}/{name}"
    return None


def spiffe_id(identity: str) -> str:
    """`kind:environment/name` as a SPIFFE id.

    Raises:
        ValueError: it is no workload identity.
    """
    found = _ID.fullmatch(identity)
    if found is None:
        raise ValueError(f"{identity!r} is no workload identity")
    kind, environment, name = found.groups()
    return f"spiffe://{environment}/{kind}/{name}"


def environment_of(identity: str) -> str:
    """The environment that an identity is bound to."""
    return identity.partition(":")[2].partition("/")[0]


def _identity(value: str) -> str:
    if not _ID.fullmatch(value):
        raise ValueError(f"write it as kind:environment/name, the kind one of {', '.join(KINDS)}")
    return value


WorkloadId = Annotated[str, AfterValidator(_identity)]


class Workload(Record):
    """One program with an identity of its own."""

    id: WorkloadId = Field(description="kind:environment/name")
    owner: Principal = Field(description="who answers for it")
    system: Words = Field(description="the system that it is a part of")
    purposes: list[Words] = Field(min_length=1, description="what it may act for")
    environment: Name = Field(description="the only environment that it acts in")
    credential_type: Literal["private_key_jwt"] = Field(
        description="how it authenticates: by signed assertions, never by a static key"
    )
    scopes: list[Scope] = Field(description="the most that it is ever given, resource:verb")

    @property
    def kind(self) -> str:
        """agent, orchestrator, router, ..."""
        return self.id.partition(":")[0]

    @property
    def pep(self) -> str | None:
        """The enforcement point that it stands at, as events call it."""
        return PEP_OF_KIND.get(self.kind)

    @property
    def spiffe(self) -> str:
        """Its identity as a SPIFFE id."""
        return spiffe_id(self.id)
