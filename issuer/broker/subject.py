"""The subject of an exchange: a session, or a credential, that the client may stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from issuer.authentication.refusal import INVALID_REQUEST, Refusal
from issuer.authority.sessions import of_session_record
from issuer.deployment import Deployment
from issuer.registry.identities import Workload
from issuer.state.credentials import find_credential
from issuer.state.sessions import Session, find_session
from issuer.state.signals import revoked_since
from issuer.state.signing_keys import AUTHORITY, BROKER
from issuer.tokens.claims import CredentialClaims, SessionClaims, read_claims
from issuer.tokens.jws import ACCESS, SESSION, Parts, TokenRefused, check_times, split, verify_parts


@dataclass(frozen=True, slots=True)
class Subject:
    """What an exchange starts from."""

    session: Session
    jti: str
    issued_at: int
    expires_at: int
    chain: Sequence[str]
    scopes: Sequence[str]
    grants: Sequence[str]
    is_session: bool

    def facts(self) -> dict[str, Any]:
        """What the event of the exchange says of it."""
        return {**of_session_record(self.session), "parent_credential_id": self.jti}

    def check_lives(self, deployment: Deployment, client: Workload) -> None:
        """Nothing where neither it, nor anything above it, nor the client was revoked, or has ended.

        Raises:
            Refusal: 400 invalid_request.
        """
        now = deployment.now()
        session = find_session(deployment.db, self.session.facts.sid)
        if session is None or not session.lives(now):
            cause = None if session is None else session.cause
            raise self._dead(cause if cause in ("task_end", "session_end") else "session_revoked")
        if not self.is_session:
            found = find_credential(deployment.db, self.jti)
            if found is None or found[1] is not None:
                raise self._dead("credential_revoked")
        if any(revoked_since(deployment.db, name, self.issued_at) for name in (*self.chain, client.id)):
            raise self._dead("principal_revoked")

    def _dead(self, reason: str) -> Refusal:
        said = "The subject token no longer counts."
        return Refusal(400, INVALID_REQUEST, reason, said, facts=self.facts())


def read_subject(deployment: Deployment, client: Workload, token: str, jkt: str) -> Subject:
    """The subject that a token proves; `jkt` is the key that the client proved to hold.

    Raises:
        Refusal: 400 invalid_request.
    """
    try:
        kind, parts = _split(token)
        subject = (_of_session if kind == SESSION else _of_credential)(deployment, client, parts, jkt)
    except TokenRefused as refused:
        raise Refusal.of_token(refused, 400, INVALID_REQUEST) from refused
    subject.check_lives(deployment, client)
    return subject


def _split(token: str) -> tuple[str, Parts]:
    """Which of the two kinds a token claims to be, and its parts: it is judged as that kind, and no other."""
    try:
        return SESSION, split(token, SESSION)
    except TokenRefused as refused:
        if refused.reason != "token_type":
            raise
    return ACCESS, split(token, ACCESS)


def _of_session(deployment: Deployment, client: Workload, parts: Parts, _: str) -> Subject:
    claims = verify_parts(parts, deployment.keys[AUTHORITY].key_for)
    check_times(claims, deployment.now())
    read = read_claims(
        SessionClaims, claims, issuer=deployment.urls["authority"], audience=deployment.urls["broker"]
    )
    session = _known(deployment, read.sid)
    if client.id not in read.agents:
        raise TokenRefused("agent_not_named", "The session does not name this client.")
    return Subject(
        session, read.jti, read.iat, min(read.exp, session.expires_at), (read.sub,),
        read.requested_actions, (), is_session=True,
    )  # fmt: skip


def _of_credential(deployment: Deployment, client: Workload, parts: Parts, jkt: str) -> Subject:
    claims = verify_parts(parts, deployment.keys[BROKER].key_for)
    check_times(claims, deployment.now())
    read = read_claims(CredentialClaims, claims, issuer=deployment.urls["broker"], audience=None)
    session = _known(deployment, read.sid)
    chain = read.chain
    owned = _owns(deployment, client, read.aud)
    if not (chain[-1] == client.id or read.aud == client.id or owned):
        raise TokenRefused("credential_of_another", "The subject token is another client's.")
    # An endpoint saw the holder's proof when the capability was presented to it; it cannot repeat that.
    if read.cnf.jkt != jkt and not owned:
        raise TokenRefused("proof_of_another_key", "The subject token is bound to another key.")
    if read.env != deployment.environment:
        raise TokenRefused("environment_mismatch", "The subject token is of another environment.")
    if session.txn != read.txn or session.facts.user != read.sub:
        raise TokenRefused("chain_spliced", "The subject token does not fit its session.")
    grants = (read.grant_id,) if read.grant_id is not None else ()
    return Subject(
        session, read.jti, read.iat, min(read.exp, session.expires_at), chain, read.scopes, grants,
        is_session=False,
    )  # fmt: skip


def _owns(deployment: Deployment, client: Workload, endpoint: str) -> bool:
    """Whether the client is the enforcement point in front of this endpoint."""
    if client.id not in {
        deployment.identity(kind) for kind in ("gateway", "router", "adapter", "worker", "egress")
    }:
        return False
    tool = deployment.registry.tools.get(endpoint)
    if tool is not None:
        return tool.pep == client.pep and tool.environment == client.environment
    return client.kind == "egress" and deployment.registry.destination_of(endpoint) is not None


def _known(deployment: Deployment, sid: str) -> Session:
    session = find_session(deployment.db, sid)
    if session is None:
        raise TokenRefused("session_unknown", "The subject token is of no known session.")
    return session
