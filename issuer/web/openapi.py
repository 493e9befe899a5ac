"""The OpenAPI document of each service: its operations, what they take, with which statuses they answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.routing import Route

Schema = Mapping[str, Any]

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
EVENT: Final = "application/secevent+jwt"
PAGE: Final = "text/html"
REFUSALS: Final = (400, 401, 403, 404, 413, 429, 503)
_TEXT: Final[Schema] = {"type": "string"}
_ASSERTION: Final[Schema] = {"client_assertion_type": _TEXT, "client_assertion": _TEXT}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path."""

    summary: str
    body: Schema | None = None
    kind: str = JSON
    required: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    status: int = 200
    answer: str = JSON
    refusals: tuple[int, ...] = REFUSALS
    extra: Mapping[int, str] = field(default_factory=dict)
    """Further statuses, with the type of their body."""


_ENTITY: Final[Schema] = {
    "type": "object", "required": ["type", "id"],
    "properties": {"type": {"type": "string", "minLength": 1, "maxLength": 256},
                   "id": {"type": "string", "minLength": 1, "maxLength": 256}},
}  # fmt: skip
_NAMED: Final[Schema] = {
    "type": "object", "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 256}},
}  # fmt: skip
_EVALUATION: Final[Schema] = {
    "subject": _ENTITY, "action": _NAMED, "resource": _ENTITY,
    "context": {"type": "object", "properties": {"sid": _TEXT, "agent": _TEXT, "credential_id": _TEXT}},
}  # fmt: skip
_METADATA: Final = Operation("Metadata", refusals=())
_KEYS: Final = Operation("The public keys (JWK Set)", refusals=())

OPERATIONS: Final[Mapping[str, Mapping[tuple[str, str], Operation]]] = {
    "authority": {
        ("GET", "/.well-known/openid-configuration"): _METADATA,
        ("GET", "/services"): Operation("Where the other services are", refusals=()),
        ("GET", "/jwks"): _KEYS,
        ("GET", "/authorize"): Operation(
            "The login page", answer=PAGE,
            query=("response_type", "client_id", "redirect_uri", "scope", "state", "nonce",
                   "code_challenge", "code_challenge_method"),
        ),
        ("POST", "/authorize"): Operation(
            "Name and password", kind=FORM, body={"login": _TEXT, "username": _TEXT, "password": _TEXT},
            status=303, answer="", extra={401: PAGE},
        ),
        ("POST", "/token"): Operation(
            "Redeem a code", kind=FORM,
            body={"grant_type": _TEXT, "code": _TEXT, "redirect_uri": _TEXT, "code_verifier": _TEXT,
                  "client_id": _TEXT, "client_secret": _TEXT, **_ASSERTION},
        ),
        ("GET", "/userinfo"): Operation("Who is logged in"),
        ("POST", "/userinfo"): Operation("Who is logged in"),
        ("POST", "/sessions"): Operation(
            "Open a session", status=201,
            body={**_ASSERTION, "user_token": _TEXT, "purpose": _TEXT,
                  "agents": {"type": "array", "items": _TEXT},
                  "requested_actions": {"type": "array", "items": _TEXT}},
            required=("client_assertion", "user_token", "purpose", "agents", "requested_actions"),
        ),
        ("POST", "/sessions/{sid}/end"): Operation(
            "End a session early", body={"cause": _TEXT, "outcome": _TEXT, **_ASSERTION}
        ),
        ("POST", "/sessions/{sid}/risk"): Operation(
            "Set a session's risk", required=("risk",),
            body={"risk": {"type": "integer", "minimum": 0, "maximum": 100}},
        ),
        ("POST", "/approvals/{id}/approve"): Operation("Approve a step", body={}),
        ("POST", "/approvals/{id}/withdraw"): Operation("Take an approval back", body={}),
    },
    "broker": {
        ("GET", "/.well-known/oauth-authorization-server"): _METADATA,
        ("GET", "/jwks"): _KEYS,
        ("POST", "/token"): Operation(
            "Token exchange (RFC 8693)", kind=FORM,
            required=("grant_type", "subject_token", "subject_token_type"),
            body={"grant_type": _TEXT, "subject_token": _TEXT, "subject_token_type": _TEXT, "audience": _TEXT,
                  "scope": _TEXT, "grant_id": _TEXT, **_ASSERTION},
        ),
        ("POST", "/introspect"): Operation(
            "Introspection (RFC 7662)", kind=FORM, body={"token": _TEXT, **_ASSERTION}, required=("token",)
        ),
        ("POST", "/revoke"): Operation(
            "Revocation (RFC 7009)", kind=FORM, body={"token": _TEXT, **_ASSERTION}, required=("token",)
        ),
        ("POST", "/grants"): Operation(
            "Open a grant of delegation", status=201,
            required=("delegator", "delegate", "covers", "reason", "expires_at"),
            body={"delegator": _TEXT, "delegate": _TEXT, "covers": {"type": "array", "items": _TEXT},
                  "reason": _TEXT, "expires_at": {"type": "string", "format": "date-time"}},
        ),
        ("POST", "/grants/{id}/close"): Operation("Close a grant", body={}),
    },
    "pdp": {
        ("GET", "/.well-known/authzen-configuration"): _METADATA,
        ("POST", "/access/v1/evaluation"): Operation(
            "One evaluation (AuthZEN 1.0)", body=_EVALUATION, required=("subject", "action", "resource")
        ),
        ("POST", "/access/v1/evaluations"): Operation(
            "Several evaluations (AuthZEN 1.0)",
            body={**_EVALUATION, "evaluations": {"type": "array", "items": {"type": "object"}},
                  "options": {"type": "object"}},
        ),
    },
    "signals": {
        ("POST", "/events"): Operation(
            "Push one security event (RFC 8935)", kind=EVENT, body=_TEXT, status=202, answer=""
        ),
        ("POST", "/poll"): Operation(
            "Poll for security events (RFC 8936)",
            body={"maxEvents": {"type": "integer", "minimum": 0, "maximum": 100},
                  "returnImmediately": {"type": "boolean"}, "cursor": {"type": "integer", "minimum": 0}},
        ),
    },
    "egress": {},
}  # fmt: skip
"""By service; the enforcement points in front of tools share theirs."""
TOOLS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/tools/{tool}/{action}"): Operation(
        "Call a tool", body={"resource": _TEXT, "arguments": {"type": "object"}}, required=("resource",),
        extra={502: JSON},
    ),
    ("GET", "/queued/{message}"): Operation("Whether what was queued is done"),
}  # fmt: skip
UNDESCRIBED: Final = ("/to/{destination}/{path:path}", "/{path:path}", "/openapi.json")
"""What passes anything on has no document of its own."""


def openapi_document(name: str, base: str, routes: Iterable[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 of one service, for the routes that it has."""
    known = OPERATIONS.get(name, TOOLS)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = known.get((method, route.path))
            if operation is not None:
                paths.setdefault(route.path, {})[method.lower()] = _operation(route.path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Decision Ledger, reference identity stack: {name}", "version": "1"},
        "servers": [{"url": base}],
        "paths": paths,
    }


def _operation(path: str, one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": one.summary, "responses": _responses(one)}
    parameters = [
        {
            "name": part.strip("{}"),
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        }
        for part in path.split("/")
        if part.startswith("{")
    ]
    parameters += [{"name": name, "in": "query", "required": False, "schema": _TEXT} for name in one.query]
    if parameters:
        found["parameters"] = parameters
    if one.body is not None:
        schema: Schema = (
            one.body
            if one.kind == EVENT
            else {"type": "object", "properties": one.body, "required": list(one.required)}
        )
        found["requestBody"] = {"required": True, "content": {one.kind: {"schema": schema}}}
    return found


def _responses(one: Operation) -> dict[str, Any]:
    error = {
        "type": "object", "required": ["error"],
        "properties": {"error": _TEXT, "error_description": _TEXT},
    }  # fmt: skip
    found: dict[str, Any] = {str(one.status): _response("done", one.answer, {"type": "object"})}
    for status in one.refusals:
        found[str(status)] = _response("refused", JSON, error)
    for status, kind in one.extra.items():
        content = found.get(str(status), {}).get("content", {})
        found[str(status)] = {"description": "refused", "content": {**content, kind: {"schema": {}}}}
    return found


def _response(description: str, kind: str, schema: Schema) -> dict[str, Any]:
    if not kind:
        return {"description": description}
    return {"description": description, "content": {kind: {"schema": {} if kind == PAGE else schema}}}
