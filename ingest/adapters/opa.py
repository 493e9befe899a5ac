"""Decision logs of Open Policy Agent (EventV1 of OPA 1.22; earlier versions have the same fields).

An undefined decision has no `result`, a failed evaluation has `error`; a `result` of a shape that
nobody mapped is an error with reason `unmapped`, never a guess. `req_id` counts health checks too,
so it is no sequence: it stays in the attributes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import rfc8785

from ingest import masking, rows
from ingest.adapters.native import Collected, merged, read_message
from ingest.adapters.opa_options import MISSING, OpaOptions, at, parse_options
from ingest.decoded import Decoded, Limits, Verdict

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
ENGINE: Final = "opa"
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.ASCII)
_WORDS: Final = {True: "allow", False: "deny", "allow": "allow", "permit": "allow", "deny": "deny"}
_USED_LABELS: Final = frozenset({"app", "id", "version", "environment"})
_USED_HEADERS: Final = frozenset({"traceparent", "tracestate", "user-agent", "x-request-id"})
_KEPT: Final = ("query", "req_id", "batch_decision_id", "rule_labels", "custom")


def from_options(options: Mapping[str, Any]) -> OpaAdapter:
    """The adapter with the options of an intake.

    Raises:
        UsageError: an option is unknown or unusable.
    """
    return OpaAdapter(parse_options(options))


class OpaAdapter:
    """Keeps `ingest.decoded.Adapter`."""

    name = "opa"

    def __init__(self, options: OpaOptions | None = None) -> None:
        self._options = options or OpaOptions()

    def decode(self, values: pa.LargeBinaryArray, limits: Limits, now: datetime) -> Decoded:
        """Events of `values`; see `Adapter.decode`."""
        made = Collected()
        for position, message in enumerate(values.to_pylist()):
            self._read_one(made, position, message, limits, now)
        return merged(None, np.zeros(0, np.int64), made)

    def _read_one(
        self, made: Collected, position: int, message: bytes, limits: Limits, now: datetime
    ) -> None:
        try:
            decisions, batch = read_message(message, limits)
        except rows.Refused as error:
            made.reject(position, error.reason, field=error.field)
            return
        if not decisions:
            made.ignored.append(Verdict(position, "no events"))
            return
        events = []
        for part, decision in enumerate(decisions):
            try:
                events.append(opa_row(decision, part, self._options, limits, now))
            except rows.Refused as error:
                made.reject(position, error.reason, part if batch else None, error.field)
                return
        made.take(position, events)


def opa_row(decision: Any, part: int, options: OpaOptions, limits: Limits, now: datetime) -> rows.Row:
    """The row of one parsed decision.

    Raises:
        rows.Refused: with the reason and the field of ours.
    """
    if not isinstance(decision, dict):
        raise rows.Refused("wrong type: object expected")
    sent = {name: value for name, value in decision.items() if name not in options.drop}
    clean, places = masking.mask_value(sent)
    places += _pointers(sent, "erased") + _pointers(sent, "masked")
    event = _event(clean, options)
    event["attributes"] = _fitting(_attributes(clean, event), limits)
    return rows.normalise(event, limits, now, places=places, raw=canonical_text(clean), part=part)


def canonical_text(value: Any) -> str:
    """RFC 8785 text, but integers of any size keep their digits: nobody computes with this text."""
    try:
        return rfc8785.dumps(value).decode()
    except rfc8785.IntegerDomainError:
        pass
    except (rfc8785.CanonicalizationError, ValueError):
        raise rows.Refused("not JSON", "raw") from None
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        texts = (f"{canonical_text(key)}:{canonical_text(child)}" for key, child in members)
        return "{" + ",".join(texts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical_text(child) for child in value) + "]"
    return str(value)


def _event(sent: dict[str, Any], options: OpaOptions) -> dict[str, Any]:
    labels = _object(sent.get("labels"))
    app, version = _text(labels.get("app")), _text(labels.get("version"))
    answer, reason = _answer(sent, options)
    given = _object(sent.get("input"))
    headers = _headers(sent)
    event: dict[str, Any] = {
        "event_id": sent.get("decision_id"),
        "kind": "decision",
        "time": sent.get("timestamp"),
        "source": f"{ENGINE}/{app}" if app else ENGINE,
        "instance": _text(labels.get("id")),
        "environment": _text(labels.get("environment")),
        "request_id": _only(headers.get("x-request-id")),
        **_trace(sent, headers),
        "actor": _principal(given.get("subject")),
        "client_ip": _address(sent.get("requested_by")),
        "user_agent": _only(headers.get("user-agent")),
        "roles": _texts(at(sent, "/result/context/roles")),
        "action": _text(at(given, "/action/name")) or _text(given.get("action")),
        "resource": _principal(given.get("resource")),
        "decision": answer,
        "reason": reason,
        "policy_id": _text(sent.get("path")),
        "policy_version": _revision(sent),
        "policy_engine": f"{ENGINE}/{version}" if version else ENGINE,
    }
    for name, pointer in options.fields.items():
        value = at(sent, pointer)
        if value is not MISSING and value is not None:
            event[name] = value if isinstance(value, str | list) else str(value)
    return event


def _answer(sent: dict[str, Any], options: OpaOptions) -> tuple[str, str | None]:
    error = sent.get("error")
    if error is not None:
        return "error", _text(_object(error).get("code")) or "error"
    if "result" not in sent:
        return "deny", "undefined"
    result = sent["result"]
    rule = options.rule_for(_text(sent.get("path")) or "")
    reason = _text(at(result, "/context/reason"))
    if rule is not None:
        found = at(result, rule.decision)
        word = _WORDS.get(found) if isinstance(found, bool | str) else None
        if rule.reason is not None:
            reason = _text(at(result, rule.reason))
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
    own, span = _hex(sent.get("trace_id"), 32), _hex(sent.get("span_id"), 16)
    trace = parent = None
    match = _TRACEPARENT.fullmatch((_only(headers.get("traceparent")) or "").strip())
    if match is not None and match[1] != "ff" and not (match[1] == "00" and match[4]):
        trace, parent = _hex(match[2], 32), _hex(match[3], 16)
        if trace is None or parent is None:
            trace = parent = None
    if own is not None:
        return {"trace_id": own, "span_id": span, "parent_span_id": parent if trace == own else None}
    return {"trace_id": trace, "parent_span_id": parent}


def _hex(value: Any, digits: int) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value) and value.strip("0")
    return value.lower() if fits else None


def _revision(sent: dict[str, Any]) -> str | None:
    """One bundle: its revision. Several: `name=revision` of each, by name."""
    found = {
        name: revision
        for name, bundle in _object(sent.get("bundles")).items()
        if (revision := _text(_object(bundle).get("revision")))
    }
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        return ",".join(f"{name}={found[name]}" for name in sorted(found))
    return _text(sent.get("revision"))


def _headers(sent: dict[str, Any]) -> dict[str, list[str]]:
    """Header values by lower-case name."""
    found: dict[str, list[str]] = {}
    for name, values in _object(at(sent, "/request_context/http/headers")).items():
        texts = [values] if isinstance(values, str) else _texts(values)
        found.setdefault(name.lower(), []).extend(texts or [])
    return found


def _only(values: list[str] | None) -> str | None:
    """The value of a header that came once: of two, nobody knows which one counted."""
    return values[0] if values is not None and len(values) == 1 else None


def _address(requested_by: Any) -> str | None:
    text = _text(requested_by) or ""
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    for candidate in (host, host.rpartition(":")[0]):
        try:
            return str(ipaddress.ip_address(candidate))
        except ValueError:
            continue
    return None


def _principal(value: Any) -> str | None:
    """`type:id` of an AuthZEN subject or resource; a plain text stands for itself."""
    if isinstance(value, str):
        return value or None
    kind, name = _text(_object(value).get("type")), _text(_object(value).get("id"))
    return f"{kind}:{name}" if kind and name else name


def _attributes(sent: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """What explains the decision and has no field; timings and caches do not."""
    found: dict[str, Any] = {name: sent[name] for name in _KEPT if name in sent}
    found["labels"] = {k: v for k, v in _object(sent.get("labels")).items() if k not in _USED_LABELS}
    given = _object(sent.get("input"))
    found["context"] = given.get("context")
    for name in ("subject", "action", "resource"):
        found[f"{name}_properties"] = _object(given.get(name)).get("properties")
    found["headers"] = {k: v for k, v in _headers(sent).items() if k not in _USED_HEADERS}
    error = _object(sent.get("error"))
    found["error"] = {name: error[name] for name in ("code", "message") if name in error}
    context = _object(at(sent, "/result/context"))
    found["result_context"] = {k: v for k, v in context.items() if k not in ("roles", "reason")}
    if event["reason"] == "unmapped":
        found["result"] = sent.get("result")
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _fitting(attributes: dict[str, Any], limits: Limits) -> dict[str, Any] | None:
    """The choice of attributes is ours, so the longest give way; `left_out` names them, `raw` has them."""
    left_out: list[str] = []
    sizes = {name: len(canonical_text(value).encode()) + len(name) + 8 for name, value in attributes.items()}
    while attributes and sum(sizes.values()) + 8 * len(left_out) > limits.attributes_bytes:
        longest = max(sizes, key=lambda name: (sizes[name], name))
        left_out.append(longest)
        del sizes[longest]
        attributes = {name: attributes[name] for name in sizes}
    if left_out:
        attributes["left_out"] = sorted(left_out)
    return attributes or None


def _pointers(sent: dict[str, Any], name: str) -> list[str]:
    """What OPA's own mask policy removed or replaced."""
    found = sent.get(name)
    return [masking.mask_text(p) for p in found if isinstance(p, str)] if isinstance(found, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None
