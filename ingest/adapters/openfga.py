"""Request logs of OpenFGA (`grpc_req_complete`, 1.8 to 1.22, JSON): one line is question and answer.

It is no audit log by contract and does not name who asked. Checks are decisions, written tuples and models
are actions; listings and reads decide nothing. The id of a request may equal that of its trace, which
covers several requests, so the line itself is a part of an event's id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ingest import rows
from ingest.adapters.json_values import as_hex, as_list, as_object, as_text, at, moment_of, named
from ingest.adapters.mapping import Sourced
from ingest.adapters.objects import ForeignObject, Unneeded, adapter_with

FIELD_MAP: Final = (
    ("/request_id", "event_id"),
    ("/raw_request/checks/*/correlation_id", "event_id"),
    ("/timestamp", "time"),
    ("/ts", "time"),
    ("/request_id", "request_id"),
    ("/trace_id", "trace_id"),
    ("/user_agent", "user_agent"),
    ("/raw_request/tuple_key/user", "actor"),
    ("/raw_request/tuple_key/relation", "action"),
    ("/raw_request/tuple_key/object", "resource"),
    ("/raw_request/checks/*/tuple_key", "actor"),
    ("/raw_request/checks/*/tuple_key", "action"),
    ("/raw_request/checks/*/tuple_key", "resource"),
    ("/grpc_method", "action"),
    ("/raw_response/allowed", "decision"),
    ("/raw_response/result", "decision"),
    ("/grpc_code", "decision"),
    ("/raw_response/code", "reason"),
    ("/raw_request/store_id", "policy_id"),
    ("/authorization_model_id", "policy_version"),
    ("/raw_request/authorization_model_id", "policy_version"),
    ("/build.version", "policy_engine"),
    ("/raw_request/context", "attributes"),
    ("/raw_request/contextual_tuples", "attributes"),
    ("/raw_request/writes", "attributes"),
    ("/raw_request/deletes", "attributes"),
    ("/error", "attributes"),
)
"""Where in a line each field is read from; all of it also stands in `raw`."""
GRADE: Final = 3
"""The context grade that it can reach: a model has an id, and no digest."""
_ENGINE: Final = "openfga"
_SERVICE: Final = "openfga.v1.OpenFGAService"
_CHANGES: Final = {"Write": "tuples:write", "WriteAuthorizationModel": "model:write",
                   "CreateStore": "store:create", "DeleteStore": "store:delete",
                   "UpdateStore": "store:update", "WriteAssertions": "assertions:write"}  # fmt: skip
"""What changes who may do what."""


def _lines(one: ForeignObject, options: Sourced) -> Iterator[rows.Row]:
    sent = one.sent
    method = as_text(sent.get("grpc_method")) or ""
    if "grpc_service" not in sent:
        if "msg" in sent and "level" in sent:
            raise Unneeded("a line about no request")
        raise rows.Refused("missing", "grpc_service")
    if sent["grpc_service"] != _SERVICE:
        raise Unneeded("a request to another service")
    if method == "Check":
        yield _row(one, sent, options, "", _check(sent, as_object(sent.get("raw_request"))))
    elif method == "BatchCheck":
        checks = as_list(at(sent, "/raw_request/checks"))
        if not checks:
            raise Unneeded("a check of nothing")
        for number, check in enumerate(map(as_object, checks)):
            # Without an id there is no answer that could be told from another's.
            place = as_text(check.get("correlation_id")) or str(number)
            own = _own(sent, check, place)
            yield _row(one, own, options, f"/{place}", _check(own, check))
    elif method in _CHANGES:
        yield _row(one, sent, options, "", _change(sent, method))
    else:
        raise Unneeded("a request that neither decides nor changes anything")


def _own(sent: dict[str, Any], check: dict[str, Any], place: str) -> dict[str, Any]:
    """The line of a batch as if it held one check."""
    answers = as_object(at(sent, "/raw_response/result"))
    answer = {place: answers[place]} if place in answers else {}
    whole = as_object(sent.get("raw_response"))
    response = {"raw_response": {**whole, "result": answer}} if "result" in whole else {}
    return {**sent, "raw_request": {**as_object(sent.get("raw_request")), "checks": [check]}, **response}


def _row(
    one: ForeignObject, own: dict[str, Any], options: Sourced, suffix: str, read: dict[str, Any]
) -> rows.Row:
    request = as_text(one.sent.get("request_id"))
    digest = one.digest()
    clean, places = one.masked(own)
    event = {
        "event_id": f"sha256:{digest}{suffix}" if request is None else f"{request}/{digest[:16]}{suffix}",
        "time": moment_of(own.get("timestamp", own.get("ts"))),
        "source": options.source or _ENGINE,
        "request_id": request,
        "trace_id": as_hex(own.get("trace_id"), 32),
        "user_agent": as_text(own.get("user_agent")),
        **one.masked(read)[0],
    }
    event |= options.filled(clean)
    return one.row(event, _attributes(clean), clean, places)


def _check(own: dict[str, Any], check: dict[str, Any]) -> dict[str, Any]:
    asked = as_object(check.get("tuple_key"))
    decision, reason = _answer(own)
    version = as_text(own.get("build.version"))
    return {
        "kind": "decision",
        "actor": as_text(asked.get("user")),
        "action": as_text(asked.get("relation")),
        "resource": as_text(asked.get("object")),
        "decision": decision,
        "reason": reason,
        "policy_id": as_text(at(own, "/raw_request/store_id")) or as_text(own.get("store_id")),
        "policy_version": as_text(own.get("authorization_model_id"))
        or as_text(at(own, "/raw_request/authorization_model_id")),
        "policy_engine": f"{_ENGINE}/{version}" if version else _ENGINE,
    }


def _answer(own: dict[str, Any]) -> tuple[str, str | None]:
    answer = as_object(own.get("raw_response"))
    if _failed(own):
        return "error", as_text(answer.get("code")) or "error"
    results = answer.get("result")
    if isinstance(results, dict):
        answer = as_object(next(iter(results.values()), None))
        error = as_object(answer.get("error"))
        if error:
            codes = (as_text(error.get(name)) for name in ("input_error", "internal_error"))
            return "error", next((code for code in codes if code is not None), "error")
    allowed = answer.get("allowed")
    if not isinstance(allowed, bool):
        return "error", "unanswered"
    return "allow" if allowed else "deny", None


def _failed(own: dict[str, Any]) -> bool:
    return own.get("grpc_code", 0) != 0 or "internal_error" in own or "error" in own


def _change(sent: dict[str, Any], method: str) -> dict[str, Any]:
    failed = _failed(sent)
    made = at(sent, "/raw_response/id")
    store = made if isinstance(made, str) else at(sent, "/raw_request/store_id")
    return {
        "kind": "action",
        "action": _CHANGES[method],
        "action_type": "admin",
        "resource": named("store", store if isinstance(store, str) else sent.get("store_id")),
        "outcome": "failed" if failed else "succeeded",
        "reason": as_text(at(sent, "/raw_response/code")) if failed else None,
    }


def _attributes(own: dict[str, Any]) -> dict[str, Any]:
    request = as_object(own.get("raw_request"))
    asked = [as_object(one) for one in as_list(request.get("checks"))] or [request]
    return {
        "method": own.get("grpc_method"),
        "context": asked[0].get("context"),
        "contextual_tuples": as_object(asked[0].get("contextual_tuples")).get("tuple_keys"),
        "consistency": request.get("consistency"),
        "resolution": as_object(own.get("raw_response")).get("resolution"),
        "writes": as_object(request.get("writes")).get("tuple_keys"),
        "deletes": as_object(request.get("deletes")).get("tuple_keys"),
        "error": own.get("error"),
        "query_duration_ms": own.get("query_duration_ms"),
    }


from_options: Final = adapter_with(_ENGINE, Sourced, _lines)
