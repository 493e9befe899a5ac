"""All that is registered in one folder, read once and judged as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from issuer.registry.destinations import Destination
from issuer.registry.faults import Fault, records, twice
from issuer.registry.identities import Workload, environment_of
from issuer.registry.people import Client, Grant, Resource, User
from issuer.registry.tools import Tool
from issuer.registry.words import Record
from ledger.errors import UsageError
from ledger.settings.yaml_file import Document, read_yaml

FILES: Final[dict[str, tuple[str, type[Record], str]]] = {
    "agents.yml": ("agents", Workload, "id"),
    "tools.yml": ("tools", Tool, "endpoint"),
    "destinations.yml": ("destinations", Destination, "name"),
    "users.yml": ("users", User, "id"),
    "clients.yml": ("clients", Client, "id"),
    "resources.yml": ("resources", Resource, "id"),
    "grants.yml": ("grants", Grant, "id"),
}
"""Each file of a registry: its section, its records, and what no two of them share."""
OPTIONAL: Final = ("clients.yml", "grants.yml")
RULES: Final = {
    "missing": "metadata that every identity needs is missing",
    "unknown": "a field that there is not",
    "unknown-section": "a section that this file does not have",
    "invalid": "a field whose value cannot be read",
    "twice": "a name that another record has",
    "environment": "an identity or endpoint whose name and environment differ",
    "approval": "a grant that one of its own two principals approved",
}


@dataclass(frozen=True, slots=True)
class Registry:
    """What the services know of who and what there is, by name."""

    workloads: Mapping[str, Workload]
    tools: Mapping[str, Tool]
    destinations: Mapping[str, Destination]
    users: Mapping[str, User]
    clients: Mapping[str, Client]
    resources: Mapping[str, Resource]
    grants: Mapping[str, Grant]

    @property
    def endpoints(self) -> dict[str, str]:
        """Every endpoint that a credential can be for, with its environment."""
        return {
            **{name: one.environment for name, one in self.tools.items()},
            **{one.endpoint: one.environment for one in self.destinations.values()},
            **{name: one.environment for name, one in self.workloads.items()},
        }

    def destination_of(self, endpoint: str) -> Destination | None:
        """The destination whose capabilities have the audience `endpoint`."""
        return next((one for one in self.destinations.values() if one.endpoint == endpoint), None)


def judge(document: Document, section: str) -> tuple[dict[str, Any], list[Fault]]:
    """The records of one file by name, and all that is wrong with it.

    Raises:
        UsageError: it holds no list under `section`.
    """
    model, key = next((model, key) for name, model, key in FILES.values() if name == section)
    good, faults = records(document, section, model)
    faults += twice(document, section, good, lambda record: str(getattr(record, key)))
    for index, record in good:
        for field, rule, message in _broken(record):
            faults.append(Fault(document.line((section, index, field)), rule, message))
    return {str(getattr(record, key)): record for _, record in good}, sorted(faults)


def section_of(document: Document) -> str:
    """The section that a registry file is about.

    Raises:
        UsageError: none that is known.
    """
    known = [section for section, _, _ in FILES.values()]
    if isinstance(document.value, dict):
        for section in known:
            if section in document.value:
                return section
    raise UsageError(
        f"{document.name} holds none of the lists that are registered.", f"Begin it with one of {known}."
    )


def read_registry(folder: Path) -> Registry:
    """The registry in `folder`; `clients.yml` and `grants.yml` may be missing.

    Raises:
        UsageError: a file is missing or has a fault: the first one is named.
    """
    found: dict[str, dict[str, Any]] = {}
    for file, (section, _, _) in FILES.items():
        path = folder / file
        if file in OPTIONAL and not path.exists():
            found[section] = {}
            continue
        document = read_yaml(path)
        found[section], faults = judge(document, section)
        if faults:
            more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
            raise UsageError(
                f"{path}:{faults[0].line}: {faults[0].message}{more}.",
                f"Correct it; `decision-ledger identities check {path}` lists them all.",
            )
    return Registry(
        workloads=found["agents"], tools=found["tools"], destinations=found["destinations"],
        users=found["users"], clients=found["clients"], resources=found["resources"], grants=found["grants"],
    )  # fmt: skip


def _broken(record: Record) -> Iterator[tuple[str, str, str]]:
    if isinstance(record, Workload) and environment_of(record.id) != record.environment:
        yield "environment", "environment", f"{record.id}: its name says another environment"
    if isinstance(record, Tool) and environment_of(record.endpoint) != record.environment:
        yield "environment", "environment", f"{record.endpoint}: its name says another environment"
    if isinstance(record, Tool):
        names = [action.name for action in record.actions]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "actions", "twice", f"{record.endpoint}: the action {name} stands here twice"
    if isinstance(record, Grant) and record.approver in (record.delegator, record.delegate):
        yield "approver", "approval", f"{record.id}: one of its own two principals approved it"
