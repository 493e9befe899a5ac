"""The company that scenarios play in: the example's registry, five tenants, and simulated time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

from issuer.emitting.steps import SOURCE, Fields, time_text
from issuer.policy.active import engine_for
from issuer.policy.bundle import Bundle, bundle_of
from issuer.policy.engine import Engine
from issuer.policy.question import Question, Verdict
from issuer.registry.people import Resource, User
from issuer.registry.registry import FILES, Registry, judge
from issuer.registry.tools import Action, Tool
from issuer.scenarios.truth import Incident
from ledger.settings.yaml_file import parse_yaml

TENANTS: Final = ("acme", "borealis", "cedarline", "dunmore", "elmwood")
PER_TENANT: Final = 30
"""Things of each type that a tenant has."""
_CLASSES: Final[Mapping[str, str]] = {
    "ticket": "internal", "customer": "confidential", "invoice": "confidential", "payment": "restricted",
    "repository": "internal", "deploy": "internal", "report": "internal",
}  # fmt: skip
_NETWORKS: Final[Mapping[str, str]] = {
    "acme": "10.1.0", "borealis": "10.2.0", "cedarline": "10.3.0", "dunmore": "10.4.0", "elmwood": "10.5.0",
}  # fmt: skip


@dataclass(slots=True)
class World:
    """Who and what there is, the chance that moves it, and all that was said so far."""

    seed: int
    start: float
    """Seconds since 1970: midnight of a Monday, in UTC."""
    registry: Registry
    engine: Engine
    chance: random.Random
    events: list[Fields] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    exercise: str | None = None
    _verdicts: dict[Any, Verdict] = field(default_factory=dict)
    _engines: dict[str, Engine] = field(default_factory=dict)

    @classmethod
    def of(cls, seed: int, start: float) -> World:
        """A new world; the same seed and start give the same one."""
        registry = _registry()
        engine = engine_for(example_bundle(), registry)
        chance = random.Random(f"decision-ledger/{seed}")  # noqa: S311 - a repeatable story, not a secret
        return cls(seed, start, registry, engine, chance)

    def new_id(self) -> str:
        """128 bits in hex, repeatable."""
        return f"{self.chance.getrandbits(128) | 1:032x}"

    def say(
        self, kind: str, at: float, *, source: str = SOURCE, instance: str = "issuer-1", **fields: Any
    ) -> Fields:
        """One event, at a time; it is written when all are in order."""
        event = {name: value for name, value in fields.items() if value is not None}
        event |= {"event_id": self.new_id(), "kind": kind, "at": at, "source": source, "instance": instance}
        if self.exercise is not None:
            event["exercise"] = self.exercise
        self.events.append(event)
        return event

    def decide(self, question: Question, *, break_glass: bool = False) -> Verdict:
        """The real policy's verdict; asked once for each kind of question."""
        resource = question.resource
        what = (
            resource
            if isinstance(resource, str)
            else (resource.tenant, resource.environment, resource.zone, resource.data_class)
        )
        session = question.session
        key = (
            id(self.engine), question.agent, question.user and question.user.id, question.action.name, what,
            session.tenant, session.environment, session.zone, session.purpose, session.risk,
            tuple(session.data_classes), question.covers, question.approved, break_glass,
        )  # fmt: skip
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = self.engine.decide(question, break_glass=break_glass)
        return found

    def use_policy(self, bundle: Bundle) -> None:
        """From now on, another bundle decides."""
        if bundle.digest not in self._engines:
            self._engines[bundle.digest] = engine_for(bundle, self.registry)
        self.engine = self._engines[bundle.digest]

    def plant(
        self, kind: str, rules: Sequence[str], principals: Sequence[str], failure_mode: int | None = None
    ) -> Incident:
        """An incident to be; its events are told to it."""
        number = sum(one.kind == kind for one in self.incidents) + 1
        incident = Incident(f"{kind}-{number}", kind, failure_mode, [*rules], [*principals])
        self.incidents.append(incident)
        return incident

    def action(self, name: str, environment: str = "production") -> tuple[Tool, Action]:
        """An action by its name, and its tool."""
        for tool in self.registry.tools.values():
            found = tool.action(name) if tool.environment == environment else None
            if found is not None:
                return tool, found
        raise KeyError(name)

    def user(self, tenant: str) -> User:
        """Somebody of a tenant who works."""
        found = [
            one for one in self.registry.users.values() if one.tenant == tenant and "member" in one.roles
        ]
        return self.chance.choice(found)

    def resource(self, kind: str, tenant: str) -> Resource:
        """One of a tenant's things of a type."""
        number = TENANTS.index(tenant) * 1_000 + self.chance.randrange(PER_TENANT)
        return self.registry.resources[f"{kind}:{1_000 + number}"]

    def address(self, tenant: str) -> str:
        """Where somebody of a tenant sits."""
        return f"{_NETWORKS[tenant]}.{self.chance.randrange(2, 250)}"

    def in_order(self) -> list[Fields]:
        """All events in order of time, with the gapless counters of their emitters."""
        counters: dict[tuple[str, str], int] = {}
        done = []
        for event in sorted(self.events, key=lambda one: one["at"]):
            emitter = (event["source"], event["instance"])
            counters[emitter] = counters.get(emitter, 0) + 1
            whole = {name: value for name, value in event.items() if name != "at"}
            if event["kind"] == "heartbeat":
                whole |= {"sent": counters[emitter] - 1, "dropped": 0}
            done.append({**whole, "time": time_text(event["at"]), "sequence": counters[emitter]})
        return done


def example_bundle(changes: Mapping[str, bytes] | None = None) -> Bundle:
    """The example's policy, or one that differs from it in some files."""
    with resources.as_file(resources.files("issuer.example")) as source:
        folder = source / "policies" / "agents-1"
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    return bundle_of({**files, **(changes or {})}, "agents")


def _registry() -> Registry:
    found: dict[str, dict[str, Any]] = {}
    with resources.as_file(resources.files("issuer.example")) as source:
        for name, (section, _, _) in FILES.items():
            path = Path(source) / name
            found[section], _ = judge(parse_yaml(path.read_bytes(), name), section)
    for tenant, number in ((tenant, number) for tenant in TENANTS for number in range(PER_TENANT)):
        for kind, data_class in _CLASSES.items():
            name = f"{kind}:{1_000 + TENANTS.index(tenant) * 1_000 + number}"
            found["resources"][name] = Resource(
                id=name, tenant=tenant, environment="production", data_class=data_class,  # type: ignore[arg-type]  # each is a data class
            )  # fmt: skip
    return Registry(
        workloads=found["agents"], tools=found["tools"], destinations=found["destinations"],
        users=found["users"], clients=found["clients"], resources=found["resources"], grants=found["grants"],
    )  # fmt: skip
