"""Audit logs of Cerbos (audit.v1 of Cerbos 0.50, as its file and Kafka backends write them, as JSON).

One check of N resources and M actions is N × M decisions. `NO_MATCH` is no policy: Cerbos denies by default.
Plans and access entries decide nothing. With `ignoreAllowAll` Cerbos leaves allows out without a trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ingest import rows
from ingest.adapters.json_values import (
    as_address,
    as_list,
    as_object,
    as_text,
    as_texts,
    at,
    traceparent,
)
from ingest.adapters.mapping import Sourced, of_user
from ingest.adapters.objects import ForeignObject, TellingHeader, Unneeded, adapter_with

FIELD_MAP: Final = (
    ("/callId", "event_id"),
    ("/timestamp", "time"),
    ("/checkResources/inputs/*/requestId", "request_id"),
    ("/metadata/traceparent/values/0", "trace_id"),
    ("/metadata/traceparent/values/0", "parent_span_id"),
    ("/checkResources/inputs/*/principal/id", "actor"),
    ("/checkResources/inputs/*/principal/roles", "roles"),
    ("/peer/address", "client_ip"),
    ("/peer/userAgent", "user_agent"),
    ("/checkResources/inputs/*/actions", "action"),
    ("/checkResources/inputs/*/resource", "resource"),
    ("/checkResources/outputs/*/actions/*/effect", "decision"),
    ("/checkResources/outputs/*/actions/*/policy", "policy_id"),
    ("/policySource/git/hash", "policy_version"),
    ("/checkResources/outputs/*/actions/*/policy", "policy_version"),
    ("/checkResources/outputs/*/effectiveDerivedRoles", "attributes"),
    ("/checkResources/inputs/*/principal/attr", "attributes"),
    ("/checkResources/inputs/*/resource/attr", "attributes"),
    ("/checkResources/inputs/*/auxData", "attributes"),
    ("/checkResources/outputs/*/validationErrors", "attributes"),
    ("/checkResources/outputs/*/outputs", "attributes"),
    ("/policySource", "attributes"),
    ("/peer/forwardedFor", "attributes"),
)
"""Where in an entry each field is read from; all of it also stands in `raw`."""
GRADE: Final = 3
"""The context grade that it can reach: what the policy said is not in the log."""
_ENGINE: Final = "cerbos"
_EFFECTS: Final = {"EFFECT_ALLOW": "allow", "EFFECT_DENY": "deny"}
_NO_MATCH: Final = "NO_MATCH"
_VERSION: Final = re.compile(r"\.v([^./]+)(?:/.*)?")


def _decisions(one: ForeignObject, options: Sourced) -> Iterator[rows.Row]:
    sent = one.sent
    check = as_object(sent.get("checkResources"))
    if not check:
        raise Unneeded(
            "a plan of resources decides nothing" if "planResources" in sent else "an access entry"
        )
    inputs, outputs = as_list(check.get("inputs")), as_list(check.get("outputs"))
    if not inputs:
        raise Unneeded("a check of nothing")
    for number, asked in enumerate(inputs):
        answered = as_object(outputs[number]) if number < len(outputs) else {}
        for action in sorted(set(as_texts(as_object(asked).get("actions")) or [])):
            own, places = one.masked(_own(sent, check, as_object(asked), answered, action))
            event = _event(own, f"{number}/{action}", action, options)
            yield one.row(event, _attributes(own), own, places)


def _own(
    sent: dict[str, Any], check: dict[str, Any], asked: dict[str, Any], answered: dict[str, Any], action: str
) -> dict[str, Any]:
    """The entry as if it held one resource and one action."""
    answers = as_object(answered.get("actions"))
    output = {**answered, "actions": {action: answers[action]}} if action in answers else answered
    own = {**check, "inputs": [{**asked, "actions": [action]}], "outputs": [output]}
    trail = as_object(sent.get("auditTrail"))
    policy = as_text(as_object(answers.get(action)).get("policy"))
    effective = {
        name: one for name, one in as_object(trail.get("effectivePolicies")).items() if name == policy
    }
    return {
        **sent,
        "checkResources": own,
        **({"auditTrail": {"effectivePolicies": effective}} if trail else {}),
    }


def _event(own: dict[str, Any], place: str, action: str, options: Sourced) -> dict[str, Any]:
    asked = as_object(at(own, "/checkResources/inputs/0"))
    answer = as_object(as_object(at(own, "/checkResources/outputs/0/actions")).get(action))
    principal, resource = as_object(asked.get("principal")), as_object(asked.get("resource"))
    decision, reason = _answer(own, answer)
    policy = as_text(answer.get("policy"))
    call = as_text(own.get("callId"))
    trace, span = traceparent(at(own, "/metadata/traceparent/values/0")) or (None, None)
    kind, name = as_text(resource.get("kind")), as_text(resource.get("id"))
    event: dict[str, Any] = {
        "event_id": None if call is None else f"{call}/{place}",
        "kind": "decision",
        "time": own.get("timestamp"),
        "source": options.source or _ENGINE,
        "request_id": as_text(asked.get("requestId")),
        "trace_id": trace,
        "parent_span_id": span,
        "actor": of_user(as_text(principal.get("id"))),
        "roles": as_texts(principal.get("roles")),
        "client_ip": as_address(at(own, "/peer/address")),
        "user_agent": as_text(at(own, "/peer/userAgent")),
        "action": action,
        "resource": f"{kind}:{name}" if kind and name else kind or name,
        "decision": decision,
        "reason": reason,
        "policy_id": None if policy == _NO_MATCH else policy,
        "policy_version": _version(own, policy),
        "policy_engine": _ENGINE,
    }
    event |= options.filled(own)
    return event


def _answer(own: dict[str, Any], answer: dict[str, Any]) -> tuple[str, str | None]:
    if "error" in as_object(own.get("checkResources")):
        return "error", "error"
    word = _EFFECTS.get(as_text(answer.get("effect")) or "")
    if word is None:
        return "error", "unmapped" if answer else "unanswered"
    if word == "deny" and answer.get("policy") == _NO_MATCH:
        return word, "default-deny"
    return word, None


def _version(own: dict[str, Any], policy: str | None) -> str | None:
    """The commit of the policies where they come from Git, else the version in the policy's name."""
    commit = as_text(at(own, "/policySource/git/hash"))
    if commit is not None or policy is None:
        return commit
    found = _VERSION.search(policy)
    return found[1] if found is not None else None


def _attributes(own: dict[str, Any]) -> dict[str, Any]:
    asked = as_object(at(own, "/checkResources/inputs/0"))
    answered = as_object(at(own, "/checkResources/outputs/0"))
    scopes = {
        name: at(asked, f"/{name}/scope")
        for name in ("principal", "resource")
        if as_text(at(asked, f"/{name}/scope"))
    }
    return {
        "derived_roles": answered.get("effectiveDerivedRoles"),
        "principal": as_object(asked.get("principal")).get("attr"),
        "resource": as_object(asked.get("resource")).get("attr"),
        "scopes": scopes,
        "aux_data": asked.get("auxData"),
        "validation_errors": answered.get("validationErrors"),
        "outputs": answered.get("outputs"),
        "error": as_object(own.get("checkResources")).get("error"),
        "policy_source": own.get("policySource"),
        "policy_attributes": as_object(own.get("auditTrail")).get("effectivePolicies"),
        "forwarded_for": as_object(own.get("peer")).get("forwardedFor"),
    }


from_options: Final = adapter_with(
    _ENGINE, Sourced, _decisions, TellingHeader("cerbos.audit.kind", {"access": "an access entry"})
)
