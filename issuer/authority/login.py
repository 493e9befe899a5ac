"""OpenID Connect, as much as a login needs: the code flow with PKCE (RFC 6749, RFC 7636, OpenID Core)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from issuer.authentication.refusal import INVALID_CLIENT, INVALID_REQUEST, Refusal
from issuer.authority.passwords import fits
from issuer.deployment import Deployment
from issuer.registry.people import Client, User
from issuer.state.signing_keys import AUTHORITY, ID_TOKEN
from issuer.tokens.jws import ACCESS, sign
from issuer.tokens.keys import ID_TOKEN_ALGORITHM

LOGIN_SECONDS: Final = 600
CODE_SECONDS: Final = 60
TOKEN_SECONDS: Final = 3_600
MAX_OPEN: Final = 10_000
SCOPES: Final = ("openid", "profile")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True)
class Login:
    """One login that was asked for: by which client, and where its code goes."""

    client_id: str
    redirect_uri: str
    scope: str
    state: str | None
    nonce: str | None
    challenge: str


def asked_login(deployment: Deployment, query: Mapping[str, str]) -> Login:
    """The login that an authorization request asks for.

    Raises:
        Refusal: 400. Never a redirect: what is wrong may be where it would go.
    """
    client = deployment.registry.clients.get(query.get("client_id", ""))
    if client is None:
        raise _bad("client_unknown", "No such client is registered.")
    redirect = query.get("redirect_uri", "")
    if not any(_same_place(redirect, known) for known in client.redirect_uris):
        raise _bad("redirect_unknown", "redirect_uri is not one of the client's.")
    if query.get("response_type") != "code":
        raise _bad("response_type", "Only response_type=code is offered.")
    if query.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(
        query.get("code_challenge", "")
    ):
        raise _bad("pkce_missing", "A code_challenge with method S256 is needed.")
    asked = query.get("scope", "openid").split()
    if "openid" not in asked:
        raise _bad("scope_missing", "scope must hold openid.")
    if any(len(query.get(name, "")) > 512 for name in ("state", "nonce")):
        raise _bad("request_malformed", "state or nonce is too long.")
    scope = " ".join(name for name in SCOPES if name in asked)
    return Login(client.id, redirect, scope, query.get("state"), query.get("nonce"), query["code_challenge"])


def keep_login(deployment: Deployment, login: Login) -> str:
    """Keep it until the person has answered; the id that the page carries."""
    return _keep(deployment, "login", _values(login), LOGIN_SECONDS)


def finish_login(deployment: Deployment, login_id: str, user: User) -> str:
    """The person has proved who they are: the URL to go to with a code.

    Raises:
        Refusal: 400, where the login is not known or too old.
    """
    kept = _look(deployment, "login", login_id)
    if kept is None:
        raise _bad("login_unknown", "This login is too old; begin again.")
    login = Login(**kept)
    _forget(deployment, "login", login_id)
    code = _keep(deployment, "code", {**kept, "user": user.id, "at": int(deployment.now())}, CODE_SECONDS)
    back = {"code": code, "iss": deployment.urls["authority"]}
    if login.state is not None:
        back["state"] = login.state
    joint = "&" if urlsplit(login.redirect_uri).query else "?"
    return f"{login.redirect_uri}{joint}{urlencode(back)}"


def check_secret(client: Client | None, secret: str | None) -> Client:
    """A client that keeps a secret, or none and is public.

    Raises:
        Refusal: 401 invalid_client.
    """
    if client is None or client.workload is not None:
        raise Refusal(401, INVALID_CLIENT, "client_unknown", "The client is not known, or not by a secret.")
    if (client.secret is None) != (secret is None) or (
        secret is not None and not fits(secret, client.secret)
    ):
        raise Refusal(401, INVALID_CLIENT, "client_secret", "The client's secret does not fit.")
    return client


def redeem(
    deployment: Deployment, client: Client, form: Mapping[str, str], *, jkt: str | None
) -> dict[str, Any]:
    """The tokens that a code is worth, once; bound to the key `jkt` where the client proved one.

    Raises:
        Refusal: 400 invalid_grant.
    """
    kept = _forget(deployment, "code", form.get("code", ""))
    verifier = form.get("code_verifier", "")
    if kept is None or kept["client_id"] != client.id or kept["redirect_uri"] != form.get("redirect_uri"):
        raise Refusal(400, "invalid_grant", "code_unknown", "The code is used, or another client's.")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii", "replace")).digest())
    if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(
        digest.rstrip(b"=").decode(), kept["challenge"]
    ):
        raise Refusal(400, "invalid_grant", "pkce_failed", "The code_verifier does not fit.")
    now = int(deployment.now())
    common = {
        "iss": deployment.urls["authority"],
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "sub": kept["user"],
    }
    access = sign(
        {**common, "aud": deployment.urls["authority"], "client_id": client.id, "scope": kept["scope"],
         "jti": deployment.new_id(), **({} if jkt is None else {"cnf": {"jkt": jkt}})},
        ACCESS, deployment.keys[AUTHORITY].current(),
    )  # fmt: skip
    user = deployment.registry.users[kept["user"]]
    half = hashlib.sha256(access.encode()).digest()[:16]
    identity = sign(
        {**common, "aud": client.id, "auth_time": kept["at"], **profile(user, kept["scope"]),
         "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
         **({} if kept["nonce"] is None else {"nonce": kept["nonce"]})},
        "JWT", deployment.keys[ID_TOKEN].current(), alg=ID_TOKEN_ALGORITHM,
    )  # fmt: skip
    return {
        "access_token": access, "token_type": "Bearer" if jkt is None else "DPoP",
        "expires_in": TOKEN_SECONDS, "scope": kept["scope"], "id_token": identity,
    }  # fmt: skip


def profile(user: User, scope: str) -> dict[str, Any]:
    """What a relying party learns of a person."""
    if "profile" not in scope.split():
        return {"sub": user.id}
    name = user.id.partition(":")[2]
    return {
        "sub": user.id, "name": name, "preferred_username": name, "tenant": user.tenant,
        "roles": list(user.roles),
    }  # fmt: skip


def _same_place(asked: str, known: str) -> bool:
    """Exact, but on loopback any port (RFC 8252, section 7.3)."""
    try:
        one, other = urlsplit(asked), urlsplit(known)
        ports = (one.port, other.port)
    except ValueError:
        return False
    if asked == known:
        return True
    if other.hostname not in ("127.0.0.1", "localhost", "::1") or one.username is not None:
        return False
    del ports
    return (one.scheme, one.hostname, one.path, one.query, one.fragment) == (
        other.scheme, other.hostname, other.path, other.query, other.fragment,
    )  # fmt: skip


def _values(login: Login) -> dict[str, Any]:
    return {name: getattr(login, name) for name in Login.__slots__}


def _keep(deployment: Deployment, kind: str, body: dict[str, Any], seconds: int) -> str:
    name = secrets.token_urlsafe(32)
    now = int(deployment.now())
    with deployment.db.transaction():
        deployment.db.write("DELETE FROM codes WHERE expires_at <= ?", (now,))
        row = deployment.db.row("SELECT count(*) FROM codes")
        if row is not None and row[0] >= MAX_OPEN:
            raise Refusal(503, "temporarily_unavailable", "logins_full", "Too many logins are under way.")
        deployment.db.write(
            "INSERT INTO codes VALUES (?, ?, ?)", (f"{kind}:{_name(name)}", json.dumps(body), now + seconds)
        )
    return name


def _look(deployment: Deployment, kind: str, name: str) -> dict[str, Any] | None:
    row = deployment.db.row(
        "SELECT body FROM codes WHERE code = ? AND expires_at > ?",
        (f"{kind}:{_name(name)}", int(deployment.now())),
    )
    return None if row is None else dict(json.loads(row[0]))


def _forget(deployment: Deployment, kind: str, name: str) -> dict[str, Any] | None:
    with deployment.db.transaction():
        kept = _look(deployment, kind, name)
        deployment.db.write("DELETE FROM codes WHERE code = ?", (f"{kind}:{_name(name)}",))
    return kept


def _name(secret: str) -> str:
    # Who reads the state learns no code.
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _bad(reason: str, description: str) -> Refusal:
    return Refusal(400, INVALID_REQUEST, reason, description)
