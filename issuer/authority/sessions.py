"""Opening and ending sessions, and what becomes of them in between.

User, tenant, zone and risk come from what is registered; the environment is the orchestrator's. The caller
says what the session is for, which agents may stand for the user, and what they may be asked to do.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from issuer.authentication.refusal import INVALID_REQUEST, INVALID_SCOPE, Refusal
from issuer.deployment import Deployment
from issuer.emitting.steps import merged, of_session, of_workload, time_text
from issuer.registry.identities import Workload, environment_of
from issuer.registry.people import User
from issuer.registry.words import Scope
from issuer.revocation import OWN, RISK_CHANGE, SESSION_REVOKED, risk_word, tell
from issuer.state.sessions import Session, add_session, end_session, find_session, set_risk
from issuer.state.signing_keys import AUTHORITY
from issuer.tokens.jws import SESSION, sign
from ledger.events import DataClass
from ledger.format.scopes import beyond

LIFE_SECONDS: Final = 3_600
SESSION_ENDED: Final = SESSION_REVOKED
TASK_ENDED: Final = OWN + "task-ended"

Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Asked(BaseModel):
    """What the body of `POST /sessions` says beside who asks."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    purpose: Text
    agents: Annotated[list[Text], Field(min_length=1, max_length=32)]
    requested_actions: Annotated[list[Scope], Field(min_length=1, max_length=64)]
    data_classes: Annotated[list[DataClass], Field(max_length=4)] | None = None
    task_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,128}$")] | None = None
    exercise: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] | None = None
    seconds: Annotated[int, Field(ge=1, le=LIFE_SECONDS)] = LIFE_SECONDS


def read_asked(body: dict[str, Any]) -> Asked:
    """The request for a session.

    Raises:
        Refusal: 400 invalid_request.
    """
    try:
        return Asked.model_validate(body)
    except ValidationError as error:
        raise Refusal.of_validation(error, "session_malformed") from None


def open_session(
    deployment: Deployment, user: User, orchestrator: Workload, asked: Asked
) -> tuple[str, dict[str, Any]]:
    """A new session: its signed token, and its claims.

    Raises:
        Refusal: 400, for agents of another environment, classes beyond the user's, purposes beyond an
            agent's or the orchestrator's.
    """
    facts = merged(of_workload(orchestrator.id), {"actor": user.id, "tenant": user.tenant})
    agents = [_agent(deployment, name, asked, facts) for name in asked.agents]
    classes = [*(asked.data_classes if asked.data_classes is not None else user.data_classes)]
    if set(classes) - set(user.data_classes):
        raise Refusal(
            400,
            INVALID_REQUEST,
            "data_class_boundary",
            "The user may not open these data classes.",
            facts=facts,
        )
    if asked.purpose not in orchestrator.purposes:
        raise Refusal(
            400,
            INVALID_REQUEST,
            "purpose_not_allowed",
            "The orchestrator may not act for this purpose.",
            facts=facts,
        )
    if beyond(asked.requested_actions, orchestrator.scopes):
        raise Refusal(
            400,
            INVALID_SCOPE,
            "scope_missing",
            "The orchestrator may not ask for these actions.",
            facts=facts,
        )
    now = int(deployment.now())
    claims: dict[str, Any] = {
        "iss": deployment.urls["authority"], "iat": now, "exp": now + asked.seconds,
        "jti": deployment.new_id(), "sub": user.id, "aud": deployment.urls["broker"],
        "sid": deployment.new_id(),
        "txn": deployment.new_id(), "task_id": asked.task_id or f"task-{deployment.new_id()[:16]}",
        "tenant": user.tenant, "env": deployment.environment, "zone": user.zone, "risk": user.risk,
        "data_classes": classes, "requested_actions": asked.requested_actions, "agents": agents,
        "purpose": asked.purpose, "client_id": orchestrator.id,
        **({} if asked.exercise is None else {"exercise": asked.exercise}),
    }  # fmt: skip
    token = sign(claims, SESSION, deployment.keys[AUTHORITY].current())
    with deployment.db.transaction():
        add_session(deployment.db, claims)
        session = find_session(deployment.db, claims["sid"])
        assert session is not None
        same = merged(
            of_session_record(session), of_workload(orchestrator.id), {"request_id": deployment.new_id()}
        )
        deployment.recorder.record("session", **same, outcome="started", issued_at=time_text(now))
        deployment.recorder.record("task", **same, outcome="started")
    return token, claims


def close_session(deployment: Deployment, sid: str, *, cause: str, by: str, outcome: str) -> None:
    """End a session early: caches drop, and nothing that was issued in it counts any more.

    Raises:
        Refusal: 404, where there is no such open session.
    """
    with deployment.db.transaction():
        session = known_session(deployment, sid)
        if not end_session(deployment.db, sid, cause=cause, now=deployment.now()):
            raise Refusal(404, INVALID_REQUEST, "session_ended", "The session has ended already.")
        event = TASK_ENDED if cause == "task_end" else SESSION_ENDED
        tell(
            deployment.db, deployment.recorder, f"session:{sid}", event,
            reason=cause.replace("_", "-"), cause=cause,
        )  # fmt: skip
        same = merged(of_session_record(session), {"request_id": deployment.new_id(), "reason": cause})
        if by != session.facts.user:
            same["attributes"] = {"ended_by": by}
        deployment.recorder.record("session", **same, outcome="ended")
        if cause == "task_end":
            deployment.recorder.record("task", **same, outcome=outcome)


def change_risk(deployment: Deployment, sid: str, risk: int, *, by: str) -> None:
    """The session's risk is another one from now on; what was decided at the old one no longer counts.

    Raises:
        Refusal: 404, where there is no such open session.
    """
    with deployment.db.transaction():
        session = known_session(deployment, sid)
        if not session.lives(deployment.now()):
            raise Refusal(404, INVALID_REQUEST, "session_ended", "The session has ended already.")
        set_risk(deployment.db, sid, risk)
        reason = f"risk-level-change:{risk_word(risk)}"
        tell(
            deployment.db, deployment.recorder, f"session:{sid}", RISK_CHANGE,
            reason=reason, cause="risk_change", details={"risk": risk},
        )  # fmt: skip
        deployment.recorder.record(
            "signal",
            **merged(
                of_session_record(session),
                {"target": f"session:{sid}", "reason": reason, "session_risk": risk,
                 "request_id": deployment.new_id(), "attributes": {"set_by": by}},
            ),
        )  # fmt: skip


def known_session(deployment: Deployment, sid: str) -> Session:
    """A session of this deployment.

    Raises:
        Refusal: 404, where there is none.
    """
    session = find_session(deployment.db, sid)
    if session is None:
        raise Refusal(404, INVALID_REQUEST, "session_unknown", "There is no such session.")
    return session


def of_session_record(session: Session) -> dict[str, Any]:
    """The event fields of a session as it is kept."""
    return of_session(
        session.facts, trace_id=session.txn, task_id=session.task_id, expires_at=session.expires_at
    )


def _agent(deployment: Deployment, name: str, asked: Asked, facts: dict[str, Any]) -> str:
    agent = deployment.registry.workloads.get(name)
    if agent is None or agent.kind not in ("agent", "orchestrator"):
        raise Refusal(400, INVALID_REQUEST, "agent_unknown", "No such agent is registered.", facts=facts)
    if environment_of(name) != deployment.environment:
        raise Refusal(
            400, INVALID_REQUEST, "environment_mismatch", "An agent is of another environment.", facts=facts
        )
    if asked.purpose not in agent.purposes:
        raise Refusal(
            400, INVALID_REQUEST, "purpose_not_allowed", "An agent may not act for this purpose.", facts=facts
        )
    return name
