"""Audit events of the Kubernetes API server (audit.k8s.io/v1), each stage one event.

The end of a request is the decision; what comes before it is an action that has started. A request that
impersonates somebody is that person's, through whoever sent it. Backends that post an EventList are read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field

from ingest import masking, rows
from ingest.adapters.json_values import (
    as_address,
    as_list,
    as_object,
    as_text,
    as_texts,
    at,
)
from ingest.adapters.mapping import Mapped, of_user
from ingest.adapters.objects import ForeignObject, Unneeded, adapter_with

FIELD_MAP: Final = (
    ("/auditID", "event_id"),
    ("/stage", "event_id"),
    ("/stageTimestamp", "time"),
    ("/timestamp", "time"),
    ("/auditID", "request_id"),
    ("/impersonatedUser/username", "actor"),
    ("/user/username", "actor"),
    ("/user/username", "delegated_actor"),
    ("/user/groups", "roles"),
    ("/impersonatedUser/groups", "roles"),
    ("/user/extra/authentication.kubernetes.io~1credential-id/0", "credential_id"),
    ("/sourceIPs/0", "client_ip"),
    ("/userAgent", "user_agent"),
    ("/verb", "action"),
    ("/objectRef", "action"),
    ("/objectRef", "resource"),
    ("/requestURI", "resource"),
    ("/annotations/authorization.k8s.io~1decision", "decision"),
    ("/responseStatus/code", "decision"),
    ("/responseStatus/code", "outcome"),
    ("/annotations/authorization.k8s.io~1reason", "policy_id"),
    ("/annotations/authorization.k8s.io~1reason", "reason"),
    ("/responseStatus/reason", "reason"),
    ("/annotations", "attributes"),
    ("/responseStatus", "attributes"),
    ("/level", "attributes"),
    ("/requestReceivedTimestamp", "attributes"),
    ("/user/extra", "attributes"),
)
"""Where in an event each field is read from; all of it also stands in `raw`."""
GRADE: Final = 1
"""The context grade that it can reach: no policy of the cluster has a version."""
_ENGINE: Final = "kubernetes"
_DECISION: Final = "authorization.k8s.io/decision"
_REASON: Final = "authorization.k8s.io/reason"
_CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"
_BINDING: Final = re.compile(r'allowed by ((?:Cluster)?RoleBinding) "([^"]+)"')
_ENDS: Final = ("ResponseComplete", "Panic")
_COMMANDS: Final = frozenset({"exec", "attach"})
_MASKED_QUERY: Final = re.compile(r"(?<=[?&])command=[^&]*")
FORBIDDEN: Final = 403
FAILURE: Final = 400


class KubernetesOptions(Mapped):
    """Options of format `kubernetes`."""

    cluster: str | None = Field(default=None, min_length=1, max_length=200)
    """The cluster's name: its events are sealed as those of `kubernetes/<cluster>`."""
    impersonator_first: bool = False
    """Whether who sent an impersonating request is its initiator, and who was impersonated acts for them."""


def _events(one: ForeignObject, options: KubernetesOptions) -> Iterator[rows.Row]:
    listed = one.sent.get("items") if one.sent.get("kind") == "EventList" else None
    found = [one.sent] if listed is None else as_list(listed)
    if not found:
        raise Unneeded("an empty list of events")
    for sent in found:
        if not isinstance(sent, dict):
            raise rows.Refused("wrong type: object expected")
        clean, places = one.masked(sent)
        clean = _without_secrets(clean, places)
        yield one.row(_event(clean, options), _attributes(clean), clean, places)


def _without_secrets(sent: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """Without what is secret in this format alone: a Secret's contents, and commands that were run."""
    changed = dict(sent)
    for name in ("requestObject", "responseObject"):
        body = as_object(sent.get(name))
        kept = {
            field: dict.fromkeys(as_object(body[field]), masking.MASK)
            for field in ("data", "stringData")
            if body.get("kind") == "Secret" and as_object(body.get(field))
        }
        if kept:
            changed[name] = {**body, **kept}
            places += [f"/{name}/{field}" for field in kept]
    if as_text(at(sent, "/objectRef/subresource")) in _COMMANDS and isinstance(sent.get("requestURI"), str):
        changed["requestURI"] = _MASKED_QUERY.sub(f"command={masking.MASK}", sent["requestURI"])
        if changed["requestURI"] != sent["requestURI"]:
            places.append("/requestURI")
    return changed


def _event(sent: dict[str, Any], options: KubernetesOptions) -> dict[str, Any]:
    stage, audit_id = as_text(sent.get("stage")), as_text(sent.get("auditID"))
    if audit_id is None or stage is None:
        raise rows.Refused("missing", "event_id")
    user, other = as_object(sent.get("user")), as_object(sent.get("impersonatedUser"))
    sender, impersonated = of_user(as_text(user.get("username"))), of_user(as_text(other.get("username")))
    actor, through = (impersonated, sender) if impersonated is not None else (sender, None)
    if through is not None and options.impersonator_first:
        actor, through = through, actor
    code = at(sent, "/responseStatus/code")
    ended = stage in _ENDS
    decision, reason = _answer(sent, stage, code) if ended else (None, None)
    event: dict[str, Any] = {
        "event_id": f"{audit_id}/{stage}",
        "kind": "decision" if ended else "action",
        "time": sent.get("stageTimestamp") or sent.get("timestamp"),
        "source": f"{_ENGINE}/{options.cluster}" if options.cluster else _ENGINE,
        "request_id": audit_id,
        "actor": actor,
        "delegated_actor": through,
        "roles": as_texts((other if impersonated is not None else user).get("groups")),
        "credential_id": _credential(user),
        "client_ip": as_address(at(sent, "/sourceIPs/0")),
        "user_agent": as_text(sent.get("userAgent")),
        **_what(sent),
        "decision": decision,
        "reason": reason,
        "outcome": _outcome(code) if ended else "started",
        "policy_id": _binding(sent),
        "policy_engine": _ENGINE if ended else None,
    }
    event |= options.filled(sent)
    return event


def _answer(sent: dict[str, Any], stage: str, code: Any) -> tuple[str, str | None]:
    """What was decided: by the annotation where there is one, else by the status alone."""
    annotations = as_object(sent.get("annotations"))
    said = annotations.get(_DECISION)
    if stage == "Panic":
        return "error", "panic"
    if said == "allow":
        return "allow", None
    if said == "forbid":
        return "deny", as_text(annotations.get(_REASON)) or "forbidden"
    if said is not None:
        return "error", "unmapped"
    if code == FORBIDDEN and at(sent, "/responseStatus/reason") == "Forbidden":
        return "deny", "forbidden-unattributed"
    if isinstance(code, int) and code < FAILURE:
        return "allow", None
    return "error", "unattributed"


def _outcome(code: Any) -> str | None:
    if not isinstance(code, int):
        return None
    return "succeeded" if code < FAILURE else "failed"


def _what(sent: dict[str, Any]) -> dict[str, str | None]:
    """`pods:list` on `pods:default/web`; without an object the path itself."""
    verb, ref = as_text(sent.get("verb")), as_object(sent.get("objectRef"))
    kind = as_text(ref.get("resource"))
    if kind is None:
        # The query may hold anything.
        path = _path(as_text(sent.get("requestURI")) or "")
        return {"action": f"url:{verb}" if verb else None, "resource": f"url:{path}" if path else None}
    group, sub = as_text(ref.get("apiGroup")), as_text(ref.get("subresource"))
    whole = ".".join(one for one in (kind, group) if one)
    place = "/".join(one for one in (as_text(ref.get("namespace")), as_text(ref.get("name"))) if one)
    action = f"{kind}/{sub}" if sub else kind
    return {
        "action": f"{action}:{verb}" if verb else None,
        "resource": f"{whole}:{place}" if place else whole,
    }


def _path(uri: str) -> str:
    try:
        return urlsplit(uri).path
    except ValueError:
        return ""


def _binding(sent: dict[str, Any]) -> str | None:
    """The binding that allowed it, as the authorizer names it: the grant that was used."""
    found = _BINDING.search(as_text(as_object(sent.get("annotations")).get(_REASON)) or "")
    return f"{found[1]}:{found[2]}" if found is not None else None


def _credential(user: dict[str, Any]) -> str | None:
    """The id of the service account's token (`JTI=…`)."""
    listed = as_texts(as_object(user.get("extra")).get(_CREDENTIAL))
    return listed[0].removeprefix("JTI=") or None if listed and len(listed) == 1 else None


def _attributes(sent: dict[str, Any]) -> dict[str, Any]:
    status = as_object(sent.get("responseStatus"))
    return {
        "annotations": sent.get("annotations"),
        "status": {name: status[name] for name in ("code", "reason", "message") if name in status},
        "level": sent.get("level"),
        "received": sent.get("requestReceivedTimestamp"),
        "sender_groups": as_object(sent.get("user")).get("groups") if "impersonatedUser" in sent else None,
        "extra": as_object(sent.get("user")).get("extra"),
        "more_addresses": as_list(sent.get("sourceIPs"))[1:],
    }


from_options: Final = adapter_with(_ENGINE, KubernetesOptions, _events)
