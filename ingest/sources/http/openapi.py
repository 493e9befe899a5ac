"""The OpenAPI document of the listener, served at `/openapi.json`."""

from __future__ import annotations

from typing import Any, Final

from ingest.sources.http.messages import JSON, LINES

_ERROR: Final[dict[str, Any]] = {
    "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}},
}  # fmt: skip
_REFUSALS: Final = {
    400: "The body is broken",
    401: "No token of this intake was shown",
    408: "The body took too long",
    413: "The body is too large",
    415: "Another type or encoding is expected",
    429: "This sender is too fast; Retry-After says when to send it again",
    503: "Nothing was kept; Retry-After says when to send it again",
}


def document(*, pushed: bool = False) -> dict[str, Any]:
    """OpenAPI 3.1: where messages are posted to, and every status that is answered.

    `pushed`: they are security event tokens (RFC 8935).
    """
    if pushed:
        return _described({"/events": {"post": _PUSH}})
    post = {
        "summary": "Messages to be sealed",
        "requestBody": {
            "required": True,
            "content": {
                **{kind: {"schema": {"type": ["object", "array"]}} for kind in JSON},
                **{kind: {"schema": {"type": "string"}} for kind in LINES},
            },
        },
        "responses": {
            "202": _answer(
                "They are on the disk", {"type": "object", "properties": {"messages": {"type": "integer"}}}
            ),
            **{str(status): _answer(text, _ERROR) for status, text in _REFUSALS.items()},
        },
        "security": [{"token": []}, {}],
    }
    named = {
        **post,
        "parameters": [
            {"name": "partition", "in": "path", "required": True,
             "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}}
        ],
    }  # fmt: skip
    return _described(
        {"/events": {"post": post}, "/logs": {"post": post}, "/logs/{partition}": {"post": named}}
    )


def _described(paths: dict[str, Any]) -> dict[str, Any]:
    health = {
        "type": "object",
        "properties": {"waiting_bytes": {"type": "integer"}, "next": {"type": "integer"}},
    }
    asked = {"get": {"summary": "How much waits", "responses": {"200": _answer("It answers", health)}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Decision Ledger: HTTP intake", "version": "1"},
        "paths": {**paths, "/health": asked},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_PUSH: Final[dict[str, Any]] = {
    "summary": "A security event token (RFC 8935)",
    "requestBody": {
        "required": True, "content": {"application/secevent+jwt": {"schema": {"type": "string"}}},
    },
    "responses": {
        "202": {"description": "It is on the disk"},
        "400": _answer("It is not taken", {
            "type": "object", "required": ["err"],
            "properties": {"err": {"type": "string"}, "description": {"type": "string"}},
        }),
        **{str(status): _answer(text, _ERROR) for status, text in _REFUSALS.items() if status != 400},
    },
    "security": [{"token": []}, {}],
}  # fmt: skip
