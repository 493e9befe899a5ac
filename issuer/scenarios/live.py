"""The company against started services: people log in, the desk opens sessions, agents call tools."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import httpx
from joserfc.jwk import OKPKey

from issuer.broker.exchange import ACCESS_TYPE, GRANT_TYPE, JWT_TYPE
from issuer.example.founding import key_path
from issuer.registry.private_keys import read_private_key
from issuer.registry.registry import Registry, read_registry
from issuer.tokens.assertion import client_form, make_assertion
from issuer.tokens.dpop import make_proof
from ledger.errors import OutsideError, UsageError

SECONDS: Final = 12.0
BACK: Final = "http://127.0.0.1:1/callback"


@dataclass(frozen=True, slots=True)
class Opened:
    """One session that was opened."""

    token: str
    sid: str
    trace_id: str
    task_id: str


@dataclass(slots=True)
class Live:
    """A client of one deployment, with the keys and passwords of the folder that `issuer init` wrote."""

    folder: Path
    urls: dict[str, str]
    environment: str
    registry: Registry
    client: httpx.Client
    _keys: dict[str, OKPKey] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    _passwords: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, authority: str, folder: Path) -> Live:
        """The deployment whose authority is at this URL.

        Raises:
            OutsideError: it does not answer.
            UsageError: the folder is not its own.
        """
        client = httpx.Client(timeout=SECONDS, trust_env=False)
        try:
            found = client.get(f"{authority.rstrip('/')}/services").raise_for_status().json()
            passwords = json.loads((folder / "passwords.json").read_text("utf-8"))
        except (httpx.HTTPError, ValueError) as error:
            client.close()
            raise OutsideError(f"There is no authority at {authority}: {type(error).__name__}.") from error
        except OSError:
            client.close()
            raise UsageError(
                f"{folder} holds no passwords.json.", "Name the folder of `issuer init` with --state."
            ) from None
        live = cls(folder, found["services"], found["environment"], read_registry(folder), client)
        live._passwords = passwords
        return live

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def session(self, user: str, agents: list[str], purpose: str, scopes: list[str], **more: Any) -> Opened:
        """A session that the desk opens for a person.

        Raises:
            UsageError: it was refused.
        """
        desk = f"orchestrator:{self.environment}/desk"
        url = f"{self.urls['authority']}/sessions"
        body = {
            **self._client_of(desk, "authority"), "user_token": self._login(user), "agents": agents,
            "purpose": purpose, "requested_actions": scopes, **more,
        }  # fmt: skip
        answer = self.client.post(url, json=body, headers={"DPoP": self._proof(desk, "POST", url)})
        value = _value(answer, 201)
        return Opened(value["session"], value["sid"], value["txn"], value["task_id"])

    def exchange(self, agent: str, token: str, **more: str) -> str:
        """A credential, by exchange.

        Raises:
            UsageError: it was refused.
        """
        url = f"{self.urls['broker']}/token"
        kind = JWT_TYPE if "audience" not in more else ACCESS_TYPE
        form = {
            "grant_type": GRANT_TYPE, "subject_token": token, "subject_token_type": kind,
            **self._client_of(agent, "broker"), **more,
        }  # fmt: skip
        answer = self.client.post(url, data=form, headers={"DPoP": self._proof(agent, "POST", url)})
        return str(_value(answer, 200)["access_token"])

    def call(self, agent: str, token: str, action: str, resource: str, **arguments: Any) -> httpx.Response:
        """A tool's answer to a capability."""
        tool, service = self.where(action)
        url = f"{self.urls[service]}/tools/{tool}/{action}"
        headers = {"Authorization": f"DPoP {token}", "DPoP": self._proof(agent, "POST", url, token)}
        body = {"resource": resource, "arguments": arguments}
        return self.client.post(url, json=body, headers=headers)

    def send(self, agent: str, token: str, destination: str, path: str) -> httpx.Response:
        """What the egress mediator answers to a message for a destination."""
        url = f"{self.urls['egress']}/to/{destination}{path}"
        headers = {"Authorization": f"DPoP {token}", "DPoP": self._proof(agent, "POST", url, token)}
        return self.client.post(url, json={"text": "a drill"}, headers=headers)

    def do(self, agent: str, session: Opened, action: str, resource: str, **arguments: Any) -> httpx.Response:
        """A capability for one action, and the call."""
        tool, _ = self.where(action)
        token = self.exchange(agent, session.token, audience=f"tool:{self.environment}/{tool}", scope=action)
        return self.call(agent, token, action, resource, **arguments)

    def is_done(self, message: str) -> bool:
        """Whether what was queued is done."""
        return bool(self.client.get(f"{self.urls['worker']}/queued/{message}").json().get("done"))

    def as_person(self, user: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A person's request to the authority.

        Raises:
            UsageError: it was refused.
        """
        desk, token = f"orchestrator:{self.environment}/desk", self._login(user)
        url = self.urls["authority"] + path
        headers = {"Authorization": f"DPoP {token}", "DPoP": self._proof(desk, "POST", url, token)}
        return _value(self.client.post(url, json=body or {}, headers=headers), 200)

    def end(self, session: Opened, outcome: str = "succeeded") -> None:
        """The desk says that a task is done."""
        body = {
            **self._client_of(f"orchestrator:{self.environment}/desk", "authority"),
            "cause": "task_end", "outcome": outcome,
        }  # fmt: skip
        _value(self.client.post(f"{self.urls['authority']}/sessions/{session.sid}/end", json=body), 200)

    def where(self, action: str) -> tuple[str, str]:
        """The tool that has an action, and the service in front of it.

        Raises:
            UsageError: no tool of this environment has it.
        """
        services = {
            "gateway": "gateway",
            "tool_router": "router",
            "data_adapter": "adapter",
            "worker": "worker",
        }
        for tool in self.registry.tools.values():
            if tool.environment == self.environment and tool.action(action) is not None:
                return tool.name, services[tool.pep]
        raise UsageError(f"No tool of {self.environment} has the action {action}.")

    def _login(self, user: str) -> str:
        """The access token of a person, bound to the desk's key: by the code flow, as everybody's."""
        if user in self._tokens:
            return self._tokens[user]
        authority, desk = self.urls["authority"], f"orchestrator:{self.environment}/desk"
        verifier = secrets.token_urlsafe(48)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "response_type": "code", "client_id": "desk", "redirect_uri": BACK, "scope": "openid",
            "code_challenge": digest.rstrip(b"=").decode(), "code_challenge_method": "S256",
        }  # fmt: skip
        page = self.client.get(f"{authority}/authorize", params=query)
        found = re.search(r'name="login" value="([^"]+)"', page.text)
        if found is None:
            raise UsageError(f"The authority shows no login page: {page.status_code}.")
        form = {"login": found[1], "username": user, "password": self._passwords[user]}
        answer = self.client.post(f"{authority}/authorize", data=form, follow_redirects=False)
        code = parse_qs(urlsplit(answer.headers.get("location", "")).query).get("code")
        if code is None:
            raise UsageError(f"{user} could not log in: {answer.status_code}.")
        url = f"{authority}/token"
        body = {
            "grant_type": "authorization_code", "code": code[0], "redirect_uri": BACK,
            "code_verifier": verifier, **self._client_of(desk, "authority"), "client_id": "desk",
        }  # fmt: skip
        got = self.client.post(url, data=body, headers={"DPoP": self._proof(desk, "POST", url)})
        self._tokens[user] = str(_value(got, 200)["access_token"])
        return self._tokens[user]

    def _client_of(self, workload: str, service: str) -> dict[str, str]:
        assertion = make_assertion(
            workload, self.urls[service], self._key(workload), jti=secrets.token_hex(16), now=time.time()
        )
        return client_form(assertion)

    def _proof(self, workload: str, method: str, url: str, token: str | None = None) -> str:
        return make_proof(
            self._key(workload), method, url, jti=secrets.token_hex(16), now=time.time(), token=token
        )

    def _key(self, owner: str) -> OKPKey:
        if owner not in self._keys:
            self._keys[owner] = read_private_key(key_path(self.folder, owner))
        return self._keys[owner]


def _value(answer: httpx.Response, status: int) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        value = {}
    if answer.status_code != status:
        said = value.get("error_description") if isinstance(value, dict) else None
        raise UsageError(f"{answer.request.url.path} answered {answer.status_code}: {said or 'no reason'}.")
    return dict(value)
