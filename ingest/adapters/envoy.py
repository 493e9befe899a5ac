"""Access logs of Envoy in JSON, in front of which an external authorizer stands (ext_authz).

The keys are those of Istio's default JSON log, and a few that the guide adds. A 403 alone is no deny of
the authorizer: the upstream may have said so. What Envoy itself did not mark is an action, unless the log's
`ext_authz` metadata shows that the authorizer was asked, or the intake says that it always is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ingest import rows
from ingest.adapters.json_values import as_address, as_object, as_text, moment_of, traceparent
from ingest.adapters.mapping import Sourced
from ingest.adapters.objects import ForeignObject, adapter_with

FIELD_MAP: Final = (
    ("/request_id", "event_id"),
    ("/node", "event_id"),
    ("/start_time", "event_id"),
    ("/start_time", "time"),
    ("/node", "instance"),
    ("/request_id", "request_id"),
    ("/traceparent", "trace_id"),
    ("/traceparent", "parent_span_id"),
    ("/downstream_peer_uri_san", "workload"),
    ("/downstream_peer_subject", "workload"),
    ("/x_forwarded_for", "client_ip"),
    ("/downstream_remote_address", "client_ip"),
    ("/user_agent", "user_agent"),
    ("/method", "action"),
    ("/authority", "resource"),
    ("/path", "resource"),
    ("/response_code_details", "decision"),
    ("/response_flags", "decision"),
    ("/ext_authz", "decision"),
    ("/response_code_details", "reason"),
    ("/response_code", "outcome"),
    ("/ext_authz", "attributes"),
    ("/response_code", "attributes"),
    ("/upstream_cluster", "attributes"),
    ("/route_name", "attributes"),
)
"""Where in an entry each field is read from; all of it also stands in `raw`."""
GRADE: Final = 1
"""The context grade that it can reach: the authorizer's policy is not in Envoy's log."""
_ENGINE: Final = "envoy"
_DENIED: Final = "ext_authz_denied"
_ERROR: Final = "ext_authz_error"
_FLAG: Final = "UAEX"
_ABSENT: Final = "-"
FAILURE: Final = 400


class EnvoyOptions(Sourced):
    """Options of format `envoy`."""

    always_asked: bool = False
    """Whether the authorizer is asked about every request of this log: what went through was allowed."""


def _entries(one: ForeignObject, options: EnvoyOptions) -> Iterator[rows.Row]:
    # Envoy writes a dash for what it does not know.
    told = {name: value for name, value in one.sent.items() if value not in (_ABSENT, None, "")}
    if "start_time" not in told or "response_code" not in told:
        raise rows.Refused("missing", "start_time" if "start_time" not in told else "response_code")
    clean, places = one.masked(told)
    event = _event(clean, options)
    request = as_text(told.get("request_id"))
    parts = (request, as_text(told.get("node")), as_text(told.get("start_time")))
    event["event_id"] = (
        f"sha256:{one.digest()}" if request is None else "/".join(part for part in parts if part)
    )
    event |= options.filled(clean)
    yield one.row(event, _attributes(clean), clean, places)


def _event(told: dict[str, Any], options: EnvoyOptions) -> dict[str, Any]:
    decision, reason = _answer(told, options)
    trace, span = traceparent(told.get("traceparent")) or (None, None)
    method = as_text(told.get("method"))
    return {
        "kind": "action" if decision is None else "decision",
        "time": moment_of(told.get("start_time")),
        "source": options.source or _ENGINE,
        "instance": as_text(told.get("node")),
        "request_id": as_text(told.get("request_id")),
        "trace_id": trace,
        "parent_span_id": span,
        "workload": as_text(told.get("downstream_peer_uri_san"))
        or as_text(told.get("downstream_peer_subject")),
        "client_ip": _client(told),
        "user_agent": as_text(told.get("user_agent")),
        "action": None if method is None else f"http:{method.lower()}",
        "resource": _resource(told),
        "decision": decision,
        "reason": reason,
        "outcome": _outcome(told),
        "policy_engine": None if decision is None else "ext_authz",
    }


def _answer(told: dict[str, Any], options: EnvoyOptions) -> tuple[str | None, str | None]:
    details = (as_text(told.get("response_code_details")) or "").partition("{")[0]
    flags = (as_text(told.get("response_flags")) or "").split(",")
    if details == _ERROR:
        return "error", _ERROR
    if details == _DENIED or _FLAG in flags:
        return "deny", _DENIED
    if options.always_asked or as_object(told.get("ext_authz")):
        return "allow", None
    return None, None


def _outcome(told: dict[str, Any]) -> str | None:
    code = told.get("response_code")
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:4])
    if not isinstance(code, int) or isinstance(code, bool):
        return None
    # 0: the client left before there was an answer.
    return "succeeded" if 0 < code < FAILURE else "failed"


def _client(told: dict[str, Any]) -> str | None:
    """Who is nearest to the edge: the last address that a trusted hop added, else the connection's."""
    forwarded = (as_text(told.get("x_forwarded_for")) or "").rpartition(",")[2].strip()
    return as_address(forwarded) or as_address(told.get("downstream_remote_address"))


def _resource(told: dict[str, Any]) -> str | None:
    """Host and path; the query may hold anything."""
    host, path = as_text(told.get("authority")) or "", as_text(told.get("path")) or ""
    whole = host + path.partition("?")[0].partition("#")[0]
    return f"url:{whole}" if whole else None


def _attributes(told: dict[str, Any]) -> dict[str, Any]:
    kept = ("ext_authz", "response_code", "response_code_details", "response_flags", "route_name",
            "upstream_cluster", "upstream_host", "requested_server_name", "protocol", "duration",
            "bytes_received", "bytes_sent", "x_forwarded_for")  # fmt: skip
    return {name: told.get(name) for name in kept}


from_options: Final = adapter_with(_ENGINE, EnvoyOptions, _entries)
