"""One HTTP service: thin handlers over pure functions.

Every answer has `X-Request-Id` and `traceparent`; every refusal is answered in the standards' words and
leaves one event; nothing of a token reaches an answer, a log or an event.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from issuer.authentication.refusal import INVALID_PROOF, INVALID_REQUEST, INVALID_TOKEN, UNAVAILABLE, Refusal
from issuer.authentication.workloads import only_once
from issuer.deployment import Deployment
from issuer.emitting.steps import merged
from issuer.state.outbox import OutboxFull
from issuer.tokens import strict_json
from issuer.web.limits import MAX_BODY_BYTES, REQUEST_SECONDS
from issuer.web.openapi import openapi_document
from ledger.errors import LedgerError

_TRACEPARENT: Final = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}")
MAX_FIELDS: Final = 64

log = structlog.get_logger()


@dataclass(slots=True)
class Call:
    """One request while it is answered."""

    request: Request
    service: str
    base: str
    """Where the service is reached: what proofs are made for."""
    request_id: str
    trace_id: str
    parent_span_id: str | None
    body: bytes = b""
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))
    facts: dict[str, Any] = field(default_factory=dict)
    """What is established so far: a refusal's event says it."""

    @property
    def url(self) -> str:
        """The URL that a proof must be made for."""
        return self.base + self.request.url.path

    @property
    def trace(self) -> dict[str, Any]:
        """The event fields of this request."""
        return {
            "request_id": self.request_id, "trace_id": self.trace_id, "span_id": self.span_id,
            "parent_span_id": self.parent_span_id,
        }  # fmt: skip

    def header(self, name: str) -> str | None:
        """A header that is given once; None where it is missing or given twice."""
        values = self.request.headers.getlist(name)
        return values[0] if len(values) == 1 else None

    @property
    def media_type(self) -> str:
        """The type of the body, in small letters and without parameters."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    def form(self) -> dict[str, str]:
        """The parameters of a form body.

        Raises:
            Refusal: 400 invalid_request, where it is none or one is given twice.
        """
        if self.media_type != "application/x-www-form-urlencoded":
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "The body must be a form.")
        try:
            pairs = parse_qsl(
                self.body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(self.body),
                max_num_fields=MAX_FIELDS, errors="strict",
            )  # fmt: skip
        except ValueError:
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "The form cannot be read.") from None
        return only_once(pairs)

    def json(self) -> Any:
        """The JSON value of the body, without members given twice.

        Raises:
            Refusal: 400 invalid_request.
        """
        if self.media_type != "application/json":
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "The body must be application/json.")
        try:
            return strict_json.loads(self.body)
        except ValueError:
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "The body is not JSON.") from None

    def json_object(self) -> dict[str, Any]:
        """The JSON object of the body.

        Raises:
            Refusal: 400 invalid_request.
        """
        value = self.json()
        if not isinstance(value, dict):
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "The body is no JSON object.")
        return value


Handler = Callable[[Call], Awaitable[Response]]


class Service:
    """The routes of one service, and the events of what it refuses."""

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        kind: str,
        *,
        own: Mapping[str, Any] | None = None,
        max_body: int = MAX_BODY_BYTES,
        seconds: float = REQUEST_SECONDS,
    ) -> None:
        """`kind` is that of the event of a refusal; `own` are the fields that this service has in it."""
        self.name = name
        self.deployment = deployment
        self._kind = kind
        self._own = own or {}
        self._max_body = max_body
        self._seconds = seconds
        self._routes: list[Route] = []

    def route(self, path: str, handler: Handler, *methods: str) -> None:
        """Answer these methods on this path."""
        self._routes.append(Route(path, self._answering(handler), methods=list(methods)))

    def app(self) -> Starlette:
        """The ASGI application."""
        document = openapi_document(self.name, self.deployment.urls[self.name], self._routes)

        async def described(_: Request) -> Response:
            return JSONResponse(document)

        # First, since a service may take every other path.
        routes = [Route("/openapi.json", described, methods=["GET"]), *self._routes]
        return Starlette(routes=routes, exception_handlers={HTTPException: self._not_here})

    def _answering(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            call = self._call(request)
            try:
                async with asyncio.timeout(self._seconds):
                    call.body = await _body(request, self._max_body)
                    response = await handler(call)
            except Refusal as refusal:
                response = self._refuse(call, refusal)
            except TimeoutError:
                response = self._refuse(call, _too_slow())
            except OutboxFull:
                response = _answered(_unavailable())
            except LedgerError as error:
                log.warning("request failed", service=self.name, error=str(error))
                response = self._refuse(call, _unavailable())
            except ClientDisconnect:
                response = Response(status_code=499)
            except Exception as error:  # noqa: BLE001 - told as a failure of ours, without a word of the request
                log.error("request failed", service=self.name, error=type(error).__name__)
                response = self._refuse(call, _broken())
            response.headers["X-Request-Id"] = call.request_id
            response.headers["traceparent"] = f"00-{call.trace_id}-{call.span_id}-01"
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return answer

    def _call(self, request: Request) -> Call:
        found = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        told = found is not None and found["trace"].strip("0") and found["span"].strip("0")
        return Call(
            request, self.name, self.deployment.urls[self.name], self.deployment.new_id(),
            found["trace"] if found is not None and told else secrets.token_hex(16),
            found["span"] if found is not None and told else None,
        )  # fmt: skip

    def _refuse(self, call: Call, refusal: Refusal) -> Response:
        try:
            if not refusal.is_told:
                self.record_refusal(call, refusal)
        except OutboxFull:
            return _answered(_unavailable())
        return _answered(refusal)

    def record_refusal(self, call: Call, refusal: Refusal) -> None:
        """The event of a refusal: what this service is, what was established, and why.

        Raises:
            OutboxFull: there is no room for it.
        """
        self.deployment.recorder.record(
            self._kind,
            **merged(
                {"environment": self.deployment.environment}, self._own, call.trace,
                self.deployment.policy_facts(), call.facts, refusal.facts,
                {"request_id": call.request_id, "reason": refusal.reason,
                 "decision": "error" if refusal.status >= 500 else "deny"},
            ),
        )  # fmt: skip

    async def _not_here(self, request: Request, error: Exception) -> Response:
        call = self._call(request)
        status = error.status_code if isinstance(error, HTTPException) else 500
        reason = {404: "path_unknown", 405: "method_not_allowed"}.get(status, "request_malformed")
        response = JSONResponse({"error": INVALID_REQUEST, "error_description": reason}, status)
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        response.headers["X-Request-Id"] = call.request_id
        response.headers["traceparent"] = f"00-{call.trace_id}-{call.span_id}-01"
        return response


def answered_json(value: Mapping[str, Any], status: int = 200) -> JSONResponse:
    """A JSON answer that nobody keeps."""
    return JSONResponse(dict(value), status, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


def _answered(refusal: Refusal) -> JSONResponse:
    body = {"error": refusal.error, "error_description": refusal.description, **refusal.extra}
    response = answered_json(body, refusal.status)
    if refusal.status == 401:
        scheme = "DPoP" if refusal.error in (INVALID_TOKEN, INVALID_PROOF) else "Bearer"
        response.headers["WWW-Authenticate"] = f'{scheme} error="{refusal.error}", algs="Ed25519"'
    if refusal.status in (429, 503):
        response.headers["Retry-After"] = "1"
    return response


async def _body(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        raise _too_large(limit)
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > limit:
            raise _too_large(limit)
    return bytes(held)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, INVALID_REQUEST, "body_too_large", f"The body is larger than {limit:,} bytes.")


def _too_slow() -> Refusal:
    return Refusal(503, UNAVAILABLE, "too_slow", "It took too long.")


def _broken() -> Refusal:
    return Refusal(500, "server_error", "internal_error", "This is a fault of the service; please report it.")


def _unavailable() -> Refusal:
    return Refusal(503, UNAVAILABLE, "ledger_unavailable", "The ledger takes no events; nothing was done.")
