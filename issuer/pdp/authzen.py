"""AuthZEN 1.0: the shapes of an evaluation, read strictly, and the semantics of several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from issuer.authentication.refusal import INVALID_REQUEST, Refusal
from issuer.pdp.decisions import Decided, Step

MAX_EVALUATIONS: Final = 100

Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, strict=True)


class Entity(_Part):
    """Who or what: type and id; properties are the caller's opinion and are not read."""

    type: Text
    id: Text

    @property
    def name(self) -> str:
        """`type:id`, as everywhere here."""
        return f"{self.type}:{self.id}"


class ActionName(_Part):
    """The action: `resource type:verb`."""

    name: Text


class Context(_Part):
    """What the caller names: the session, the acting agent, the credential. Nothing else is read."""

    sid: Text | None = None
    session_id: Text | None = None
    agent: Text | None = None
    credential_id: Text | None = None


class Evaluation(_Part):
    """One question."""

    subject: Entity
    action: ActionName
    resource: Entity
    context: Context = Field(default_factory=Context)

    def step(self) -> Step:
        """The step that it is about."""
        return Step(
            action=self.action.name, resource=self.resource.name,
            sid=self.context.sid or self.context.session_id or "", subject=self.subject.name,
            agent=self.context.agent, credential_id=self.context.credential_id,
        )  # fmt: skip


Semantics = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]


class Options(_Part):
    """How several questions are answered."""

    evaluations_semantic: Semantics = "execute_all"


def read_evaluation(body: Any) -> Evaluation:
    """One question from the body of a request.

    Raises:
        Refusal: 400, with what is wrong with it.
    """
    try:
        return Evaluation.model_validate(body)
    except ValidationError as error:
        raise Refusal.of_validation(error, "request_malformed") from None


def read_evaluations(body: Any) -> tuple[list[Evaluation], Semantics]:
    """Several questions: each has what the top level says, unless it says otherwise itself.

    Without `evaluations` the top level is the one question (AuthZEN 1.0, section 7).

    Raises:
        Refusal: 400, with what is wrong with them.
    """
    if not isinstance(body, Mapping):
        raise Refusal(400, INVALID_REQUEST, "request_malformed", "The body is no object.")
    listed = body.get("evaluations")
    try:
        options = Options.model_validate(body.get("options") or {})
    except ValidationError as error:
        raise Refusal.of_validation(error, "request_malformed") from None
    if listed is None or listed == []:
        return [read_evaluation(body)], options.evaluations_semantic
    if not isinstance(listed, list) or len(listed) > MAX_EVALUATIONS:
        raise Refusal(
            400, INVALID_REQUEST, "request_malformed", f"evaluations is a list of at most {MAX_EVALUATIONS}."
        )
    common = {name: body[name] for name in ("subject", "action", "resource", "context") if name in body}
    found = []
    for one in listed:
        if not isinstance(one, Mapping):
            raise Refusal(400, INVALID_REQUEST, "request_malformed", "An evaluation is no object.")
        found.append(read_evaluation({**common, **one}))
    return found, options.evaluations_semantic


def answer_all(
    questions: list[Evaluation], semantics: Semantics, decide: Callable[[Evaluation], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The answers, as far as the semantics want them."""
    answers = []
    for question in questions:
        answer = decide(question)
        answers.append(answer)
        if semantics == "deny_on_first_deny" and not answer["decision"]:
            break
        if semantics == "permit_on_first_permit" and answer["decision"]:
            break
    return answers


def answer_of(decided: Decided, *, decision_id: str, request_id: str) -> dict[str, Any]:
    """One answer: the decision, and in its context what it rests on."""
    verdict = decided.verdict
    context = {
        "reason": verdict.reason, "policy_id": verdict.policy_id, "policy_version": verdict.version,
        "policy_digest": verdict.digest, "decision_id": decision_id, "request_id": request_id,
        "approval_id": decided.approval_id, "exception_id": verdict.exception_id,
    }  # fmt: skip
    return {
        "decision": verdict.allowed,
        "context": {name: value for name, value in context.items() if value is not None},
    }
