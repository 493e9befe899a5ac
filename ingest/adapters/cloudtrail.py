"""Events of AWS CloudTrail (records 1.08 to 1.11): calls, refusals in all their spellings, STS chains.

On a refused call most parameters are absent, and the role or resource stands in the message alone. A key that
was issued is found again in the `accessKeyId` of its later uses. What callers say of themselves
(`roleSessionName`, session tags) is theirs to choose: an attribute, and never who they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from ingest import masking, rows
from ingest.adapters.json_values import (
    as_address,
    as_list,
    as_object,
    as_text,
    as_time,
    at,
    named,
)
from ingest.adapters.mapping import Mapped
from ingest.adapters.objects import ForeignObject, Unneeded, adapter_with
from ingest.strictjson import pointer_token

FIELD_MAP: Final = (
    ("/eventID", "event_id"),
    ("/eventTime", "time"),
    ("/recipientAccountId", "source"),
    ("/requestID", "request_id"),
    ("/userIdentity/sessionContext/sourceIdentity", "actor"),
    ("/userIdentity/arn", "actor"),
    ("/userIdentity/sessionContext/sessionIssuer/arn", "delegated_actor"),
    ("/userIdentity/principalId", "session_id"),
    ("/userIdentity/accessKeyId", "credential_id"),
    ("/userIdentity/accessKeyId", "parent_credential_id"),
    ("/responseElements/credentials/accessKeyId", "credential_id"),
    ("/responseElements/accessKey/accessKeyId", "credential_id"),
    ("/responseElements/credentials/expiration", "expires_at"),
    ("/sourceIPAddress", "client_ip"),
    ("/userAgent", "user_agent"),
    ("/eventSource", "action"),
    ("/eventName", "action"),
    ("/resources/0/ARN", "resource"),
    ("/requestParameters/roleArn", "resource"),
    ("/errorMessage", "resource"),
    ("/errorCode", "decision"),
    ("/additionalEventData/decision", "decision"),
    ("/errorCode", "outcome"),
    ("/errorCode", "reason"),
    ("/requestParameters", "attributes"),
    ("/responseElements", "attributes"),
    ("/errorMessage", "attributes"),
    ("/sharedEventID", "attributes"),
    ("/awsRegion", "attributes"),
)
"""Where in a record each field is read from; all of it also stands in `raw`."""
GRADE: Final = 1
"""The context grade that it can reach: policies are not named."""
_ENGINE: Final = "cloudtrail"
_ISSUING: Final = frozenset({"GetFederationToken", "GetSessionToken", "CreateAccessKey"})
_DENIED: Final = re.compile(
    r"(?:Client\.)?UnauthorizedOperation|AccessDenied.*|AuthorizationError|VpceAccessDenied"
)
_DRY_RUN: Final = "Client.DryRunOperation"
_AVP: Final = "verifiedpermissions.amazonaws.com"
_AVP_WORDS: Final = {"ALLOW": "allow", "DENY": "deny"}
_RESOURCE: Final = re.compile(r"\bon resource: (arn:\S+)")
_SECRET_NAMES: Final = frozenset({"passwordData", "userData", "secretString", "secretBinary"})
_SIGNATURE: Final = re.compile(r"(?i)(?<=X-Amz-Signature=)[0-9a-f]+")
_TIMES: Final = ("%b %d, %Y, %I:%M:%S %p", "%b %d, %Y %I:%M:%S %p")


def _records(one: ForeignObject, options: Mapped) -> Iterator[rows.Row]:
    records = as_list(one.sent["Records"]) if "Records" in one.sent else [one.sent]
    before = one.next_part
    for record in records:
        if not isinstance(record, dict):
            raise rows.Refused("wrong type: object expected")
        if record.get("eventCategory") == "Insight" or record.get("eventType") == "AwsCloudTrailInsight":
            continue
        clean, places = one.masked(record)
        clean = _without_secrets(clean, "", places)
        for event in _events(clean):
            event.update(options.filled(clean))
            attributes = {**event.pop("attributes", {}), **_attributes(clean)}
            yield one.row(event, attributes, clean, places)
    if one.next_part == before:
        raise Unneeded("an insight, which is no event" if records else "no records")


def _without_secrets(value: Any, place: str, places: list[str]) -> Any:
    """Without what is secret in this format alone."""
    if isinstance(value, dict):
        clean = {}
        for key, child in value.items():
            here = f"{place}/{pointer_token(key)}"
            if key in _SECRET_NAMES and isinstance(child, str) and child not in ("", masking.MASK):
                clean[key] = masking.MASK
                places.append(here)
            else:
                clean[key] = _without_secrets(child, here, places)
        return clean
    if isinstance(value, list):
        return [_without_secrets(one, f"{place}/{n}", places) for n, one in enumerate(value)]
    if isinstance(value, str) and "signature=" in value.lower():
        masked = _SIGNATURE.sub(masking.MASK, value)
        if masked != value:
            places.append(place)
        return masked
    return value


def _events(sent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    event = _common(sent)
    name, code = as_text(sent.get("eventName")) or "", as_text(sent.get("errorCode"))
    if sent.get("eventSource") == _AVP and "IsAuthorized" in name:
        yield from _judgements(sent, event)
        return
    refused = code is not None and _DENIED.fullmatch(code) is not None
    outcome = "succeeded" if code is None else "failed"
    reason = code
    if code == _DRY_RUN:
        event |= {"kind": "decision", "decision": "allow", "reason": None}
    elif name.startswith("AssumeRole") or name in _ISSUING:
        event |= _issued(sent, event)
        event |= {"kind": "issuance", "outcome": outcome, "reason": reason,
                  "decision": "allow" if code is None else "deny" if refused else "error"}  # fmt: skip
    elif name == "ConsoleLogin":
        failed = at(sent, "/responseElements/ConsoleLogin") != "Success"
        event |= {"kind": "session", "outcome": "failed" if failed else "started",
                  "reason": as_text(sent.get("errorMessage")) if failed else None}  # fmt: skip
    else:
        event |= {"kind": "action", "outcome": outcome, "reason": reason,
                  "decision": "deny" if refused else None}  # fmt: skip
    yield event


def _common(sent: dict[str, Any]) -> dict[str, Any]:
    account = as_text(sent.get("recipientAccountId"))
    service = (as_text(sent.get("eventSource")) or "").partition(".")[0]
    name = as_text(sent.get("eventName"))
    return {
        "event_id": sent.get("eventID"),
        "time": sent.get("eventTime"),
        "source": f"{_ENGINE}/{account}" if account else _ENGINE,
        "request_id": as_text(sent.get("requestID")),
        **_who(as_object(sent.get("userIdentity"))),
        "client_ip": as_address(sent.get("sourceIPAddress")),
        "user_agent": as_text(sent.get("userAgent")),
        "action": f"{service}:{name}" if service and name else name,
        "resource": _resource(sent),
    }


def _who(identity: dict[str, Any]) -> dict[str, Any]:
    kind, key = as_text(identity.get("type")), as_text(identity.get("accessKeyId"))
    arn = as_text(identity.get("arn"))
    who: dict[str, Any] = {"credential_id": key, "credential_type": _credential_type(key)}
    if kind == "AssumedRole":
        role = as_text(at(identity, "/sessionContext/sessionIssuer/arn")) or arn
        return who | {
            "actor": named("user", at(identity, "/sessionContext/sourceIdentity")),
            "delegated_actor": named("role", role),
            "session_id": as_text(identity.get("principalId")),
        }
    if kind == "AWSService":
        return who | {"actor": named("service", identity.get("invokedBy"))}
    if kind == "Root":
        return who | {"actor": named("root", identity.get("accountId"))}
    if kind == "AWSAccount":
        return who | {"actor": named("account", identity.get("accountId"))}
    name = arn or as_text(identity.get("userName")) or as_text(identity.get("principalId"))
    return who | {"actor": named("federated" if kind == "FederatedUser" else "user", name)}


def _credential_type(key: str | None) -> str | None:
    """By the prefix of the key's id: AKIA is of a user and stands, ASIA is temporary."""
    return {"AKIA": "static", "ASIA": "session"}.get((key or "")[:4])


def _resource(sent: dict[str, Any]) -> str | None:
    """The first resource that is named; on a refusal the one in the message."""
    for pointer in ("/resources/0/ARN", "/requestParameters/roleArn"):
        found = as_text(at(sent, pointer))
        if found is not None:
            return found
    said = _RESOURCE.search(as_text(sent.get("errorMessage")) or "")
    return said[1].rstrip(".,") if said is not None else None


def _issued(sent: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """The key that was made, below the caller's; of a refusal there is none."""
    answer = as_object(sent.get("responseElements"))
    made = as_object(answer.get("credentials")) or as_object(answer.get("accessKey"))
    key = as_text(made.get("accessKeyId"))
    return {
        "parent_credential_id": event["credential_id"],
        "credential_id": key,
        "credential_type": _credential_type(key),
        "expires_at": _time(made.get("expiration")),
        "session_id": as_text(at(answer, "/assumedRoleUser/assumedRoleId")),
    }


def _time(value: Any) -> str | None:
    """An expiry in RFC 3339: it comes in that form, or as `Jul 30, 2024, 9:46:15 PM` in UTC."""
    text = " ".join((as_text(value) or "").split())
    for form in _TIMES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).isoformat()
        except ValueError:
            continue
    return as_time(text)


def _judgements(sent: dict[str, Any], event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Decisions of Verified Permissions: one, or one for each of a batch."""
    parameters, told = as_object(sent.get("requestParameters")), as_object(sent.get("additionalEventData"))
    results = [as_object(one) for one in as_list(told.get("results"))]
    batch = bool(results)
    for number, one in enumerate(results or [told]):
        asked = as_object(one.get("request")) or parameters
        word = _AVP_WORDS.get((as_text(one.get("decision")) or "").upper())
        refused = as_text(sent.get("errorCode"))
        yield {
            **event,
            "event_id": f"{sent.get('eventID')}/{number}" if batch else sent.get("eventID"),
            "kind": "decision",
            "actor": _entity(asked.get("principal")) or event["actor"],
            "delegated_actor": None if _entity(asked.get("principal")) else event.get("delegated_actor"),
            "action": _entity(asked.get("action"), "action") or event["action"],
            "resource": _entity(asked.get("resource")),
            "decision": word or "error",
            "reason": None if word else refused or "unmapped",
            "policy_id": as_text(parameters.get("policyStoreId")),
            "policy_engine": "verified-permissions",
            "attributes": {"asked_by": event["actor"] or event.get("delegated_actor")},
        }


def _entity(value: Any, kind: str = "entity") -> str | None:
    entity = as_object(value)
    type_, name = as_text(entity.get(f"{kind}Type")), as_text(entity.get(f"{kind}Id"))
    return f"{type_}:{name}" if type_ and name else name


def _attributes(sent: dict[str, Any]) -> dict[str, Any]:
    identity = as_object(sent.get("userIdentity"))
    return {
        "request": sent.get("requestParameters"),
        "response": sent.get("responseElements"),
        "error": {name: sent[name] for name in ("errorCode", "errorMessage") if name in sent},
        "region": sent.get("awsRegion"),
        "shared_event_id": sent.get("sharedEventID"),
        "identity": {
            name: identity[name] for name in ("type", "arn", "accountId", "invokedBy") if name in identity
        },
        "more_resources": as_list(sent.get("resources"))[1:],
        "called_from": sent.get("sourceIPAddress")
        if as_address(sent.get("sourceIPAddress")) is None
        else None,
        "read_only": sent.get("readOnly"),
    }


from_options: Final = adapter_with(_ENGINE, Mapped, _records)
