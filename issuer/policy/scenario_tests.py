"""The scenario tests of a bundle: questions as data, with the answers that its author means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from issuer.policy.bundle import Bundle
from issuer.policy.engine import Engine
from issuer.policy.question import Question, SessionFacts, Verdict
from issuer.registry.faults import first_problem
from issuer.registry.identities import Workload
from issuer.registry.people import Resource, User
from issuer.registry.tools import Action
from issuer.registry.words import Name, Principal, Record, Words
from ledger.errors import UsageError
from ledger.settings.yaml_file import Document, parse_yaml


class Session(Record):
    """The session that questions are asked in."""

    user: Principal
    tenant: Name
    environment: Name
    zone: Name = "internal"
    purpose: Words
    risk: int = Field(ge=0, le=100)
    data_classes: list[Words]


class Fixtures(Record):
    """Who and what there is in the tests of one file."""

    users: list[User]
    agents: list[Workload] = Field(default_factory=list)
    resources: list[Resource]
    actions: list[Action]
    session: Session


class Expectation(Record):
    """One question and what must be answered."""

    name: Words
    agent: Principal | None = None
    action: Words
    resource: Principal
    session: dict[str, Any] = Field(default_factory=dict)
    covers: list[Words] = Field(default_factory=list)
    approved: bool = False
    break_glass: bool = False
    expect: Literal["allow", "deny", "error"]
    reason: Words | None = None
    policy_id: Words | None = None


class ScenarioFile(Record):
    """One file of scenario tests."""

    fixtures: Fixtures
    tests: list[Expectation] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: where it stands, what was expected, and what the policy said."""

    file: str
    line: int
    name: str
    expected: str
    got: str

    @property
    def ok(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.got


def run_scenarios(bundle: Bundle) -> list[Outcome]:
    """Every scenario test of the bundle, in order of file and place.

    Raises:
        UsageError: it has none, or one cannot be read.
    """
    files = bundle.scenario_files
    if not files:
        raise UsageError(
            f"Bundle {bundle.about.name} {bundle.version} has no scenario tests.",
            "Write some into scenarios/*.yml: no untested policy is activated.",
        )
    return [outcome for path in sorted(files) for outcome in _run_file(bundle, path, files[path])]


def _run_file(bundle: Bundle, path: str, data: bytes) -> Iterator[Outcome]:
    document = parse_yaml(data, path)
    try:
        file = ScenarioFile.model_validate(document.value)
    except ValidationError as error:
        place, told = first_problem(error)
        raise UsageError(f"{path}:{document.line(place)}: {told}", "Correct that line.") from None
    known = file.fixtures
    engine = Engine(
        bundle, users=known.users, workloads=known.agents, resources=known.resources, endpoints={}
    )
    for index, test in enumerate(file.tests):
        line = document.line(("tests", index))
        question = _question(document, line, known, test)
        verdict = engine.decide(question, break_glass=test.break_glass)
        yield Outcome(path, line, test.name, _expected(test), _got(test, verdict))


def _question(document: Document, line: int, known: Fixtures, test: Expectation) -> Question:
    where = f"{document.name}:{line}"
    try:
        session = Session.model_validate({**known.session.model_dump(), **test.session})
    except ValidationError as error:
        raise UsageError(f"{where}: session: {first_problem(error)[1]}", "Correct that line.") from None
    facts = SessionFacts(
        "s", session.user, session.tenant, session.environment, session.zone, session.purpose, session.risk,
        tuple(session.data_classes),
    )  # fmt: skip
    return Question(
        session=facts,
        action=_known(where, known.actions, "name", test.action),
        resource=_known(where, known.resources, "id", test.resource),
        user=_known(where, known.users, "id", session.user),
        agent=None if test.agent is None else _known(where, known.agents, "id", test.agent).id,
        covers=frozenset(test.covers),
        approved=test.approved,
    )


def _known(where: str, records: list[Any], key: str, name: str) -> Any:
    found = next((record for record in records if getattr(record, key) == name), None)
    if found is None:
        raise UsageError(f"{where}: {name} is not among the fixtures.", "Add it there.")
    return found


def _expected(test: Expectation) -> str:
    return " ".join(filter(None, (test.expect, test.reason, test.policy_id)))


def _got(test: Expectation, verdict: Verdict) -> str:
    return " ".join(
        filter(
            None,
            (
                verdict.decision,
                verdict.reason if test.reason else None,
                verdict.policy_id if test.policy_id else None,
            ),
        )
    )
