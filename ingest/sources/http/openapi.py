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


def document() -> dict[str, Any]:
    """OpenAPI 3.1: where messages are posted to, and every status that is answered."""
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
    health = {
        "type": "object",
        "properties": {"waiting_bytes": {"type": "integer"}, "next": {"type": "integer"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Decision Ledger: HTTP intake", "version": "1"},
        "paths": {
            "/events": {"post": post},
            "/logs": {"post": post},
            "/logs/{partition}": {"post": named},
            "/health": {
                "get": {"summary": "How much waits", "responses": {"200": _answer("It answers", health)}}
            },
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
