"""A company's identity services in one process, on a clock of the test's own: no socket, no disk."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from joserfc.jwk import OKPKey

from issuer.broker.exchange import ACCESS_TYPE, GRANT_TYPE, JWT_TYPE
from issuer.deployment import SERVICES, Deployment
from issuer.egress.addresses import Resolve, resolve
from issuer.emitting.emitter import Emitter
from issuer.emitting.recorder import Recorder
from issuer.example.founding import key_path
from issuer.policy.activation import activate
from issuer.policy.bundle import read_bundle
from issuer.policy.review_files import reviews_of
from issuer.registry.private_keys import read_private_key
from issuer.registry.registry import read_registry
from issuer.registry.trust import read_trust
from issuer.serving import Settings, Stack, make_stack
from issuer.state.database import Database
from issuer.state.grants import add_exception, add_grant
from issuer.state.outbox import next_events
from issuer.state.policies import active
from issuer.state.signing_keys import AUTHORITY
from issuer.tokens.assertion import ASSERTION_TYPE
from issuer.tokens.dpop import make_proof
from issuer.tokens.jws import ACCESS, ASSERTION, sign
from issuer.tokens.keys import thumbprint
from ledger.errors import OutsideError
from ledger.settings.yaml_file import read_yaml

NOW = 1_795_600_800
URLS = {name: f"http://127.0.0.1:{9_400 + number}" for number, name in enumerate(SERVICES)}
TRIAGE = "agent:production/support-triage"
REPLY = "agent:production/support-reply"
PAYER = "agent:production/payment-runner"
DESK = "orchestrator:production/desk"
TICKETS = "tool:production/tickets"
TOOL_OF = {
    "ticket": "tickets", "repository": "repository", "invoice": "invoices", "customer": "customers",
    "payment": "payments", "deploy": "deploy", "report": "reports",
}  # fmt: skip
PAYMENTS = "tool:production/payments"


@dataclass
class Answer:
    """What a service answered."""

    status: int
    body: Any
    headers: httpx.Headers

    @property
    def error(self) -> str | None:
        """The standard's word for what is wrong."""
        return self.body.get("error") if isinstance(self.body, dict) else None


@dataclass
class MemorySink:
    """An intake in memory; `broken` makes it refuse."""

    texts: list[str] = field(default_factory=list)
    broken: bool = False

    async def send(self, events: Sequence[str]) -> None:
        """See `Sink.send`."""
        if self.broken:
            raise OutsideError("The intake is down.")
        self.texts += events

    async def close(self) -> None:
        """See `Sink.close`."""


class _Hub(httpx.AsyncBaseTransport):
    """The network between the services: each at its own address."""

    def __init__(self, services: dict[str, httpx.AsyncBaseTransport]) -> None:
        self._services = services

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        base = f"{request.url.scheme}://{request.url.netloc.decode()}"
        return await self._services[base].handle_async_request(request)


@dataclass
class Company:
    """The example company, its keys, and a hand on its clock."""

    folder: Path
    deployment: Deployment
    stack: Stack
    time: list[float]
    sink: MemorySink
    http: httpx.AsyncClient
    loop: asyncio.AbstractEventLoop
    ids: Any = field(default_factory=itertools.count)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        folder: Path,
        db: Database | None = None,
        *,
        allow_test: bool = False,
        resolver: Resolve = resolve,
        time: list[float] | None = None,
    ) -> Company:
        """The services of the folder's production, with the example's policy active."""
        time = [float(NOW)] if time is None else time
        numbers = itertools.count(1)
        db = db or Database(None)
        recorder = Recorder(db, clock=lambda: time[0], new_id=lambda: f"{next(numbers):032x}")
        registry, trust = read_registry(folder), read_trust(folder / "trust")
        deployment = Deployment(
            "production", registry, trust, db, recorder, URLS, clock=lambda: time[0],
            new_id=recorder.new_id,
        )  # fmt: skip
        for grant in registry.grants.values():
            add_grant(db, grant)
        if active(db) is None:
            cls._activate(folder, deployment)
        sink = MemorySink()
        loop = asyncio.new_event_loop()
        emitter = Emitter(recorder, sink, heartbeat_seconds=1e9)
        mounts: dict[str, httpx.AsyncBaseTransport] = {}
        hub = _Hub(mounts)
        client = httpx.AsyncClient(transport=hub, trust_env=False)
        settings = Settings(folder, "production", allow_test_destinations=allow_test)
        stack = make_stack(deployment, settings, client, emitter, resolver=resolver)
        for name, app in stack.apps.items():
            mounts[URLS[name]] = httpx.ASGITransport(app)
        found = cls(folder, deployment, stack, time, sink, client, loop)
        found._tasks.append(loop.create_task(emitter.run()))
        return found

    @staticmethod
    def _activate(folder: Path, deployment: Deployment) -> None:
        bundle = read_bundle(folder / "policies/agents-1")
        activate(
            deployment.db, deployment.recorder, deployment.registry, bundle,
            reviews=reviews_of(folder, bundle.digest), owner_of=deployment.trust.owner_of, reason="first",
        )  # fmt: skip

    def close(self) -> None:
        """Give everything back."""
        for task in self._tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self.loop.close()
        self.deployment.db.close()

    def hear(self) -> None:
        """Every enforcement point reads the signals that are there."""

        async def read() -> None:
            for reader in self.stack.readers:
                reader._has_read = False
                while await reader.step():
                    pass

        self.loop.run_until_complete(read())

    def key(self, owner: str) -> OKPKey:
        """The private key of a workload or person."""
        return read_private_key(key_path(self.folder, owner))

    def new(self) -> str:
        """An id that was not used before."""
        return f"id-{next(self.ids)}"

    def call(self, service: str, method: str, path: str, **more: Any) -> Answer:
        """One request, as a client over HTTP would make it."""

        asked = self.http.request(method, URLS[service] + path, **more)
        return answer_of(self.loop.run_until_complete(asked))

    def together(self, *requests: tuple[str, str, str, dict[str, Any]]) -> list[Answer]:
        """Several requests at once."""

        async def all_of_them() -> list[httpx.Response]:
            asked: list[Awaitable[httpx.Response]] = [
                self.http.request(method, URLS[service] + path, **more)
                for service, method, path, more in requests
            ]
            return await asyncio.gather(*asked)

        return [answer_of(one) for one in self.loop.run_until_complete(all_of_them())]

    def assertion(self, workload: str, service: str = "broker", **claims: Any) -> str:
        """A client assertion; `claims` change it."""
        now = int(self.time[0])
        whole = {
            "iss": workload, "sub": workload, "aud": URLS[service], "iat": now, "exp": now + 30,
            "jti": self.new(), **claims,
        }  # fmt: skip
        return sign(whole, ASSERTION, self.key(workload))

    def client(self, workload: str, service: str = "broker", **claims: Any) -> dict[str, str]:
        """The form parameters by which a workload authenticates."""
        return {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(workload, service, **claims),
        }

    def proof(self, owner: str, method: str, url: str, token: str | None = None) -> dict[str, str]:
        """The header with a proof of possession."""
        made = make_proof(self.key(owner), method, url, jti=self.new(), now=self.time[0], token=token)
        return {"DPoP": made}

    def user_token(self, user: str, holder: str = DESK, **claims: Any) -> str:
        """A person's access token, as after a login through `holder`."""
        now = int(self.time[0])
        whole = {
            "iss": URLS["authority"], "aud": URLS["authority"], "iat": now, "exp": now + 3_600,
            "sub": user, "client_id": "desk", "scope": "openid", "jti": self.new(),
            "cnf": {"jkt": thumbprint(self.key(holder))}, **claims,
        }  # fmt: skip
        return sign(whole, ACCESS, self.deployment.keys[AUTHORITY].current())

    def as_user(self, user: str, service: str, path: str, body: Any = None, **more: Any) -> Answer:
        """A person's request, by token and proof."""
        token = self.user_token(user)
        headers = {"Authorization": f"DPoP {token}", **self.proof(DESK, "POST", URLS[service] + path, token)}
        return self.call(service, "POST", path, json=body or {}, headers=headers, **more)

    def open(self, user: str = "user:alice", agents: list[str] | None = None, **more: Any) -> Answer:
        """A session that the desk opens for a user."""
        body = {
            **self.client(DESK, "authority"), "user_token": self.user_token(user), "purpose": "support",
            "agents": [TRIAGE] if agents is None else agents,
            "requested_actions": ["ticket:read", "ticket:update"], **more,
        }  # fmt: skip
        headers = self.proof(DESK, "POST", f"{URLS['authority']}/sessions")
        return self.call("authority", "POST", "/sessions", json=body, headers=headers)

    def session(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        """As `open`, and it must succeed: the answer's body."""
        answer = self.open(*arguments, **more)
        assert answer.status == 201, answer
        body: dict[str, Any] = answer.body
        return body

    def exchange(
        self, workload: str, token: str, headers: dict[str, str] | None = None, **more: Any
    ) -> Answer:
        """A token exchange; `more` are parameters of the form, None takes one out."""
        form = {
            "grant_type": GRANT_TYPE, "subject_token": token,
            "subject_token_type": JWT_TYPE if token.count(".") == 2 else ACCESS_TYPE,
            **self.client(workload), **more,
        }  # fmt: skip
        form = {name: value for name, value in form.items() if value is not None}
        headers = self.proof(workload, "POST", f"{URLS['broker']}/token") if headers is None else headers
        return self.call("broker", "POST", "/token", data=form, headers=headers)

    def credential(self, workload: str, token: str, **more: Any) -> str:
        """As `exchange`, and it must succeed: the token."""
        answer = self.exchange(workload, token, **more)
        assert answer.status == 200, answer
        issued: str = answer.body["access_token"]
        return issued

    def tool(
        self, service: str, workload: str, token: str, action: str, resource: str, **arguments: Any
    ) -> Answer:
        """A call of a tool with a capability, by whom it is bound to."""
        path = f"/tools/{TOOL_OF[action.partition(':')[0]]}/{action}"
        headers = {
            "Authorization": f"DPoP {token}", **self.proof(workload, "POST", URLS[service] + path, token),
        }  # fmt: skip
        body = {"resource": resource, "arguments": arguments}
        return self.call(service, "POST", path, json=body, headers=headers)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What is in the outbox."""
        texts = [*self.sink.texts, *(text for _, text in next_events(self.deployment.db, 10_000))]
        found = [json.loads(text) for text in texts]
        return [event for event in found if kind in (None, event["kind"])]

    def since(self, do: Callable[[], Answer]) -> tuple[Answer, list[dict[str, Any]]]:
        """An answer, and the events that it left."""
        before = len(self.events())
        answer = do()
        return answer, self.events()[before:]


def answer_of(response: httpx.Response) -> Answer:
    """A response, read."""
    kind = response.headers.get("content-type", "")
    body = response.json() if kind.startswith("application/json") else response.text
    return Answer(response.status_code, body, response.headers)


def exceptions_of(folder: Path, db: Database) -> None:
    """Open the exceptions of the folder's file."""
    from issuer.registry.exceptions import check

    for record in check(read_yaml(folder / "exceptions.yml"))[0]:
        add_exception(db, record)
