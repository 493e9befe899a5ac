"""The egress mediator: `ANY /to/{destination}/…`, for capabilities of that destination."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from starlette.responses import Response

from issuer.authentication.refusal import INVALID_REQUEST, UNAVAILABLE, Refusal
from issuer.egress.addresses import NotOutside, Resolve, outside_address, resolve
from issuer.egress.shaping import Shaped, echoes, headers_back, headers_out, safe_path, shaped
from issuer.emitting.steps import merged
from issuer.enforcement.point import Admitted, Point
from issuer.policy.question import SEND
from issuer.registry.destinations import Destination
from issuer.registry.tools import Action
from issuer.web.service import Call, Service

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
SECONDS: Final = 65.0
"""Longer than any destination may take."""
MAX_SECRET_BYTES: Final = 8_192


def egress_service(
    point: Point,
    folder: Path,
    *,
    allow_test: bool = False,
    resolver: Resolve = resolve,
    environment: Mapping[str, str] = os.environ,
) -> Service:
    """The egress mediator, as a service. `folder` is where credentials in files lie."""
    return _Egress(point, folder, allow_test=allow_test, resolver=resolver, environment=environment).service


def send_action(destination: Destination) -> Action:
    """What sending to a destination is, to the policy."""
    return Action(
        name=SEND, impact=destination.impact, action_type="execute",
        required_scopes=destination.required_scopes, data_class="internal",
    )  # fmt: skip


_SENDING: Final = {"action": SEND, "action_type": "execute"}


class _Egress:
    def __init__(
        self,
        point: Point,
        folder: Path,
        *,
        allow_test: bool,
        resolver: Resolve,
        environment: Mapping[str, str],
    ) -> None:
        self._point = point
        self._folder = folder
        self._allow_test = allow_test
        self._resolver = resolver
        self._environment = environment
        largest = max(
            (one.max_body_bytes for one in point.deployment.registry.destinations.values()), default=1
        )
        self.service = Service(
            "egress", point.deployment, "decision", own=point.own_facts(), max_body=largest, seconds=SECONDS
        )
        self.service.route("/to/{destination}/{path:path}", self._send, *METHODS)
        self.service.route("/{path:path}", self._nowhere, *METHODS)

    async def _nowhere(self, call: Call) -> Response:
        call.facts = {**_SENDING}
        raise Refusal(404, INVALID_REQUEST, "path_unknown", "Write /to/DESTINATION/PATH.")

    async def _send(self, call: Call) -> Response:
        call.facts = {**_SENDING}
        destination = self._destination(call)
        call.facts["destination"] = destination.name
        path = safe_path(call.request.scope["raw_path"], f"/to/{destination.name}")
        self._check_request(call, destination, path)
        body = shaped(destination, call.body, call.header("content-type"), call.request.url.query)
        admitted = await self._admit(call, destination, body)
        try:
            response = await self._forward(call, destination, path, body, admitted)
        except Refusal as refusal:
            refusal.is_told = True
            self._point.done(admitted, outcome="failed", reason=refusal.reason)
            raise
        except BaseException:
            self._point.done(admitted, outcome="failed", reason="cancelled")
            raise
        return response

    def _destination(self, call: Call) -> Destination:
        deployment = self._point.deployment
        found = deployment.registry.destinations.get(call.request.path_params["destination"])
        if found is None:
            raise Refusal(404, INVALID_REQUEST, "destination_unknown", "There is no such destination.")
        if found.environment != deployment.environment:
            raise Refusal(403, "insufficient_scope", "environment_mismatch", "It is of another environment.")
        return found

    def _check_request(self, call: Call, destination: Destination, path: str) -> None:
        if call.header("upgrade") is not None or call.request.method in ("CONNECT", "TRACE"):
            raise Refusal(400, INVALID_REQUEST, "upgrade_refused", "Only plain requests go out.")
        if not destination.opens(call.request.method, path):
            raise Refusal(403, "insufficient_scope", "route_closed", "This method and path are not open.")

    async def _admit(self, call: Call, destination: Destination, body: Shaped) -> Admitted:
        tested = {"test_destination": destination.test_address} if self._tests(destination) else None
        extra = merged(
            call.facts,
            {"bytes_out": len(body.body), "sensitive_fields": body.dropped or None, "attributes": tested},
        )
        return await self._point.admit(
            call, endpoint=destination.endpoint, action=send_action(destination),
            resource=destination.endpoint, extra=extra,
        )  # fmt: skip

    def _tests(self, destination: Destination) -> bool:
        return self._allow_test and destination.test_address is not None

    async def _forward(
        self, call: Call, destination: Destination, path: str, body: Shaped, admitted: Admitted
    ) -> Response:
        secret = self._secret(destination)
        base = urlsplit(destination.base_url)
        url, host = await self._address(destination)
        query = f"?{call.request.url.query}" if call.request.url.query else ""
        headers = {
            **headers_out(call.request.headers.items()), "host": host, "accept-encoding": "identity",
            "user-agent": "decision-ledger-egress", **self._identity(call, admitted),
        }  # fmt: skip
        if body.content_type is not None:
            headers["content-type"] = body.content_type
        if secret is not None and destination.credential is not None:
            headers["authorization"] = f"{destination.credential.scheme} {secret}"
        status, answer, answered = await _exchange(
            destination, call.request.method, f"{url}{base.path}{path}{query}", headers, body.body
        )
        if echoes(answer, secret):
            raise Refusal(502, UNAVAILABLE, "credential_echoed", "The answer held what must not come back.")
        self._point.done(
            admitted, outcome="succeeded" if status < 400 else "failed", bytes_out=len(body.body),
            attributes={"status": status, **({"test_destination": True} if self._tests(destination) else {})},
        )  # fmt: skip
        return Response(answer, status, headers=headers_back(answered, secret))

    async def _address(self, destination: Destination) -> tuple[str, str]:
        """Where to connect to, as a URL without a path, and what the Host header says."""
        base = urlsplit(destination.base_url)
        host = base.netloc
        if self._tests(destination):
            return f"http://{destination.test_address}", host
        port = base.port or {"http": 80, "https": 443}[base.scheme]
        try:
            address = await outside_address(base.hostname or "", port, self._resolver)
        except NotOutside as error:
            raise Refusal(403, "insufficient_scope", "address_not_public", str(error)) from error
        shown = f"[{address}]" if ":" in address else address
        return f"{base.scheme}://{shown}:{port}", host

    def _secret(self, destination: Destination) -> str | None:
        reference = destination.credential
        if reference is None:
            return None
        if reference.env is not None:
            found = self._environment.get(reference.env)
        else:
            path = self._folder / str(reference.file)
            found = path.read_text("utf-8").strip() if path.is_file() else None
        if not found or len(found) > MAX_SECRET_BYTES or not found.isprintable():
            raise Refusal(503, UNAVAILABLE, "credential_missing", "Its credential is not there.")
        return found

    def _identity(self, call: Call, admitted: Admitted) -> dict[str, str]:
        """Who acts, in which session, by which policy: the destination may keep its own record."""
        claims = admitted.claims
        return {
            "x-request-id": call.request_id,
            "traceparent": f"00-{claims.txn}-{call.span_id}-01",
            "x-acting-for": claims.sub,
            "x-acting-agent": claims.chain[-1],
            "x-session-id": claims.sid,
            "x-policy-version": str(admitted.facts.get("policy_version", "")),
        }


async def _exchange(
    destination: Destination, method: str, url: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes, Mapping[str, str]]:
    sni = urlsplit(destination.base_url).hostname
    try:
        # A client for each call: no cookie, no connection and no proxy of anybody else's.
        async with (
            httpx.AsyncClient(trust_env=False, timeout=destination.seconds) as client,
            client.stream(
                method, url, headers=headers, content=body, extensions={"sni_hostname": sni},
                follow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            held = bytearray()
            async for piece in answer.aiter_bytes():
                held += piece
                if len(held) > destination.max_answer_bytes:
                    raise Refusal(502, UNAVAILABLE, "answer_too_large", "The answer is larger than allowed.")
            return answer.status_code, bytes(held), answer.headers
    except httpx.HTTPError as error:
        raise Refusal(502, UNAVAILABLE, "destination_unreachable", "It did not answer.") from error
