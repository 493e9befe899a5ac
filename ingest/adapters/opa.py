"""Decision logs of Open Policy Agent (EventV1 of OPA 1.22; earlier versions have the same fields).

An undefined decision has no `result`, a failed evaluation has `error`; a `result` of a shape that
nobody mapped is an error with reason `unmapped`, never a guess. `req_id` counts health checks too,
so it is no sequence: it stays in the attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ingest import masking, rows
from ingest.adapters.json_values import (
    as_address,
    as_hex,
    as_object,
    as_text,
    as_texts,
    at,
    principal,
    traceparent,
)
from ingest.adapters.objects import ForeignObject, adapter_with
from ingest.adapters.opa_options import OpaOptions

FIELD_MAP: Final = (
    ("/decision_id", "event_id"),
    ("/timestamp", "time"),
    ("/labels/app", "source"),
    ("/labels/id", "instance"),
    ("/labels/environment", "environment"),
    ("/labels/version", "policy_engine"),
    ("/path", "policy_id"),
    ("/bundles", "policy_version"),
    ("/revision", "policy_version"),
    ("/trace_id", "trace_id"),
    ("/span_id", "span_id"),
    ("/request_context/http/headers/Traceparent", "trace_id"),
    ("/request_context/http/headers/Traceparent", "parent_span_id"),
    ("/request_context/http/headers/X-Request-Id", "request_id"),
    ("/request_context/http/headers/User-Agent", "user_agent"),
    ("/requested_by", "client_ip"),
    ("/input/subject", "actor"),
    ("/input/action/name", "action"),
    ("/input/resource", "resource"),
    ("/result", "decision"),
    ("/result/context/reason", "reason"),
    ("/error/code", "reason"),
    ("/result/context/roles", "roles"),
    ("/erased", "masked"),
    ("/masked", "masked"),
    ("/labels", "attributes"),
    ("/input/context", "attributes"),
    ("/input/subject/properties", "attributes"),
    ("/input/action/properties", "attributes"),
    ("/input/resource/properties", "attributes"),
    ("/result/context", "attributes"),
    ("/query", "attributes"),
    ("/req_id", "attributes"),
    ("/batch_decision_id", "attributes"),
    ("/rule_labels", "attributes"),
    ("/custom", "attributes"),
    ("/error", "attributes"),
)
"""Where in a decision each field is read from; all of it also stands in `raw`."""
GRADE: Final = 3
"""The context grade that it can reach: bundles have revisions, and no digest."""
ENGINE: Final = "opa"
_WORDS: Final = {True: "allow", False: "deny", "allow": "allow", "permit": "allow", "deny": "deny"}
_USED_LABELS: Final = frozenset({"app", "id", "version", "environment"})
_USED_HEADERS: Final = frozenset({"traceparent", "tracestate", "user-agent", "x-request-id"})
_KEPT: Final = ("query", "req_id", "batch_decision_id", "rule_labels", "custom")


def _decision(one: ForeignObject, options: OpaOptions) -> Iterator[rows.Row]:
    sent = {name: value for name, value in one.sent.items() if name not in options.drop}
    clean, places = one.masked(sent)
    places += _pointers(sent, "erased") + _pointers(sent, "masked")
    event = _event(clean, options)
    yield one.row(event, _attributes(clean, event), clean, places)


def _event(sent: dict[str, Any], options: OpaOptions) -> dict[str, Any]:
    labels = as_object(sent.get("labels"))
    app, version = as_text(labels.get("app")), as_text(labels.get("version"))
    answer, reason = _answer(sent, options)
    given = as_object(sent.get("input"))
    headers = _headers(sent)
    event: dict[str, Any] = {
        "event_id": sent.get("decision_id"),
        "kind": "decision",
        "time": sent.get("timestamp"),
        "source": f"{ENGINE}/{app}" if app else ENGINE,
        "instance": as_text(labels.get("id")),
        "environment": as_text(labels.get("environment")),
        "request_id": _only(headers.get("x-request-id")),
        **_trace(sent, headers),
        "actor": principal(given.get("subject")),
        "client_ip": as_address(sent.get("requested_by")),
        "user_agent": _only(headers.get("user-agent")),
        "roles": as_texts(at(sent, "/result/context/roles")),
        "action": as_text(at(given, "/action/name")) or as_text(given.get("action")),
        "resource": principal(given.get("resource")),
        "decision": answer,
        "reason": reason,
        "policy_id": as_text(sent.get("path")),
        "policy_version": _revision(sent),
        "policy_engine": f"{ENGINE}/{version}" if version else ENGINE,
    }
    event |= options.filled(sent)
    return event


def _answer(sent: dict[str, Any], options: OpaOptions) -> tuple[str, str | None]:
    error = sent.get("error")
    if error is not None:
        return "error", as_text(as_object(error).get("code")) or "error"
    if "result" not in sent:
        return "deny", "undefined"
    result = sent["result"]
    rule = options.rule_for(as_text(sent.get("path")) or "")
    reason = as_text(at(result, "/context/reason"))
    if rule is not None:
        found = at(result, rule.decision)
        word = _WORDS.get(found) if isinstance(found, bool | str) else None
        if rule.reason is not None:
            reason = as_text(at(result, rule.reason))
    else:
        word = _plain_answer(result)
    return (word, reason) if word is not None else ("error", "unmapped")


def _plain_answer(result: Any) -> str | None:
    answers = (
        [result[k] for k in ("allow", "decision") if k in result] if isinstance(result, dict) else [result]
    )
    words = {_WORDS[answer] if isinstance(answer, bool) else None for answer in answers}
    return words.pop() if len(words) == 1 else None


def _trace(sent: dict[str, Any], headers: dict[str, list[str]]) -> dict[str, str | None]:
    """OPA states `trace_id` only where its own tracing is on; the caller's header is the other source."""
    own, span = as_hex(sent.get("trace_id"), 32), as_hex(sent.get("span_id"), 16)
    trace, parent = traceparent(_only(headers.get("traceparent"))) or (None, None)
    if own is not None:
        return {"trace_id": own, "span_id": span, "parent_span_id": parent if trace == own else None}
    return {"trace_id": trace, "parent_span_id": parent}


def _revision(sent: dict[str, Any]) -> str | None:
    """One bundle: its revision. Several: `name=revision` of each, by name."""
    found = {
        name: revision
        for name, bundle in as_object(sent.get("bundles")).items()
        if (revision := as_text(as_object(bundle).get("revision")))
    }
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        return ",".join(f"{name}={found[name]}" for name in sorted(found))
    return as_text(sent.get("revision"))


def _headers(sent: dict[str, Any]) -> dict[str, list[str]]:
    """Header values by lower-case name."""
    found: dict[str, list[str]] = {}
    for name, values in as_object(at(sent, "/request_context/http/headers")).items():
        texts = [values] if isinstance(values, str) else as_texts(values)
        found.setdefault(name.lower(), []).extend(texts or [])
    return found


def _only(values: list[str] | None) -> str | None:
    """The value of a header that came once: of two, nobody knows which one counted."""
    return values[0] if values is not None and len(values) == 1 else None


def _attributes(sent: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """What explains the decision and has no field; timings and caches do not."""
    found: dict[str, Any] = {name: sent[name] for name in _KEPT if name in sent}
    found["labels"] = {k: v for k, v in as_object(sent.get("labels")).items() if k not in _USED_LABELS}
    given = as_object(sent.get("input"))
    found["context"] = given.get("context")
    for name in ("subject", "action", "resource"):
        found[f"{name}_properties"] = as_object(given.get(name)).get("properties")
    found["headers"] = {k: v for k, v in _headers(sent).items() if k not in _USED_HEADERS}
    error = as_object(sent.get("error"))
    found["error"] = {name: error[name] for name in ("code", "message") if name in error}
    context = as_object(at(sent, "/result/context"))
    found["result_context"] = {k: v for k, v in context.items() if k not in ("roles", "reason")}
    if event["reason"] == "unmapped":
        found["result"] = sent.get("result")
    return found


def _pointers(sent: dict[str, Any], name: str) -> list[str]:
    """What OPA's own mask policy removed or replaced."""
    found = sent.get(name)
    return [masking.mask_text(p) for p in found if isinstance(p, str)] if isinstance(found, list) else []


from_options: Final = adapter_with(ENGINE, OpaOptions, _decision)
