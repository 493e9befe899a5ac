"""Decision logs of AuthZEN gateways: an evaluation's request and response in one record.

AuthZEN (Authorization API 1.0) says what is asked and answered, not how it is logged. The record is that of
the Authorization Decision Log (Logius and VNG, draft of 2025-11): `id`, `timestamp`, `type`, `request`,
`response`, and the versions of what decided in `policies`, `information` and `configuration`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ingest import rows
from ingest.adapters.json_values import (
    as_hex,
    as_list,
    as_object,
    as_text,
    as_texts,
    at,
    moment_of,
    named,
    principal,
    traceparent,
)
from ingest.adapters.mapping import Sourced, of_user
from ingest.adapters.objects import ForeignObject, Unneeded, adapter_with

FIELD_MAP: Final = (
    ("/id", "event_id"),
    ("/timestamp", "time"),
    ("/transaction_id", "request_id"),
    ("/request_id", "request_id"),
    ("/trace_id", "trace_id"),
    ("/span_id", "span_id"),
    ("/traceparent", "trace_id"),
    ("/traceparent", "parent_span_id"),
    ("/request/subject", "actor"),
    ("/request/context/agent", "delegated_actor"),
    ("/request/subject/properties/roles", "roles"),
    ("/request/action/name", "action"),
    ("/request/resource", "resource"),
    ("/response/decision", "decision"),
    ("/response/context/reason", "reason"),
    ("/response/error", "reason"),
    ("/policies", "policy_id"),
    ("/policies", "policy_version"),
    ("/response/context/approval/id", "approval_id"),
    ("/request/subject/properties", "attributes"),
    ("/request/action/properties", "attributes"),
    ("/request/resource/properties", "attributes"),
    ("/request/context", "attributes"),
    ("/response/context", "attributes"),
    ("/information", "attributes"),
    ("/configuration", "attributes"),
)
"""Where in a record each field is read from; of several evaluations each stands in the place of one."""
GRADE: Final = 3
"""The context grade that it can reach: policies have versions, and no digest."""
_ENGINE: Final = "authzen"
_ASKED: Final = ("subject", "action", "resource", "context")
_ALL: Final = "execute_all"


def _evaluations(one: ForeignObject, options: Sourced) -> Iterator[rows.Row]:
    sent = one.sent
    request = as_object(sent.get("request"))
    if (as_text(sent.get("type")) or "").startswith("search"):
        raise Unneeded("a search, which decides nothing")
    if not request:
        raise rows.Refused("missing", "request")
    record = as_text(sent.get("id")) or f"sha256:{one.digest()}"
    for suffix, own in _alone(sent, request):
        clean, places = one.masked(own)
        event = _event(clean)
        event["event_id"] = f"{record}{suffix}"
        event["source"] = options.source or _ENGINE
        event |= options.filled(clean)
        yield one.row(event, _attributes(clean), clean, places)


def _alone(sent: dict[str, Any], request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each evaluation of a record as if it stood alone in it, and what its id adds."""
    asked = request.get("evaluations")
    if not isinstance(asked, list):
        yield "", sent
        return
    if not asked:
        raise Unneeded("evaluations of nothing")
    answers = as_list(at(sent, "/response/evaluations"))
    semantic = as_text(at(request, "/options/evaluations_semantic")) or _ALL
    shared = {name: request[name] for name in _ASKED if name in request}
    whole = as_object(sent.get("response"))
    for number, one in enumerate(asked):
        if number >= len(answers) and semantic != _ALL and answers:
            return  # the answer to an earlier one made it needless to ask
        answer = as_object(answers[number]) if number < len(answers) else {"error": whole.get("error")}
        yield f"/{number}", {**sent, "request": {**shared, **as_object(one)}, "response": answer}


def _event(sent: dict[str, Any]) -> dict[str, Any]:
    request, response = as_object(sent.get("request")), as_object(sent.get("response"))
    subject, context = request.get("subject"), as_object(request.get("context"))
    trace, parent = traceparent(sent.get("traceparent")) or (None, None)
    decision, reason = _answer(response)
    policies = {k: v for k, v in as_object(sent.get("policies")).items() if as_text(v)}
    return {
        "kind": "decision",
        "time": moment_of(sent.get("timestamp")),
        "request_id": as_text(sent.get("transaction_id")) or as_text(sent.get("request_id")),
        "trace_id": as_hex(sent.get("trace_id"), 32) or trace,
        "span_id": as_hex(sent.get("span_id"), 16),
        "parent_span_id": parent,
        "actor": of_user(principal(subject)),
        "delegated_actor": _agent(context.get("agent")),
        "roles": as_texts(at(subject, "/properties/roles")),
        "action": as_text(at(request, "/action/name")),
        "resource": principal(request.get("resource")),
        "decision": decision,
        "reason": reason,
        "policy_id": ",".join(sorted(policies)) or None,
        "policy_version": _versions(policies),
        "policy_engine": _ENGINE,
        "approval_id": as_text(at(response, "/context/approval/id")),
    }


def _agent(value: Any) -> str | None:
    """The client that acts for the subject (profile COAZ-MCP: the token's `client_id`)."""
    text = principal(value)
    return text if text is None or ":" in text else named("agent", text)


def _answer(response: dict[str, Any]) -> tuple[str, str | None]:
    decision = response.get("decision")
    reason = at(response, "/context/reason")
    if isinstance(reason, dict):
        reason = next(iter(reason.values()), None)
    if isinstance(decision, bool):
        return "allow" if decision else "deny", as_text(reason)
    error = response.get("error")
    if error:
        return "error", as_text(error) or as_text(as_object(error).get("code")) or "error"
    return "error", "unmapped" if "decision" in response else "unanswered"


def _versions(policies: dict[str, str]) -> str | None:
    """One policy: its version. Several: `name=version` of each, by name."""
    if len(policies) == 1:
        return next(iter(policies.values()))
    return ",".join(f"{name}={policies[name]}" for name in sorted(policies)) or None


def _attributes(sent: dict[str, Any]) -> dict[str, Any]:
    request = as_object(sent.get("request"))
    kept = {name: sent.get(name) for name in ("information", "configuration", "transaction_id", "type")}
    kept["context"] = request.get("context")
    kept |= {f"{name}_properties": at(request, f"/{name}/properties") for name in _ASKED[:3]}
    kept["response_context"] = as_object(sent.get("response")).get("context")
    return {name: value for name, value in kept.items() if isinstance(value, dict | str)}


from_options: Final = adapter_with(_ENGINE, Sourced, _evaluations)
