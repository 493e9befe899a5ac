"""The one event schema: what a sealed row holds, from which every other form is derived.

`Event` is the source of truth. From it come `FIELDS`, the Arrow schema of a segment, the SQL
column types and the JSON Schema of the wire form (`python -m ledger.events` prints it).
Null and absent mean the same everywhere.

What `Event` rejects: a missing required field, a wrong type, an unknown field, a word outside a
closed vocabulary (`VOCABULARIES`), NUL or an unpaired surrogate in text, null inside a list, an
integer beyond ±(2^53 − 1), a time without an offset, ids of a trace that are not lower-case hex
or all zero, a retention class that could not name a folder, and `attributes` that are not a
canonical JSON object. Open vocabularies (`pep`, `outcome`, `severity`, ...) take any text. Bounds
on length and the writer's clock are settings of the intake and are judged there.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import pyarrow as pa
import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

INT_MAX: Final = 2**53 - 1
"""The largest integer that JSON readers keep exactly (RFC 7493, section 2.2)."""
RFC3339_TIME: Final = (
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))"
)
"""A time with an offset (RFC 3339, section 5.6): date, time, fraction, then Z or the offset, as groups."""
DEFAULT_CLASS: Final = "standard"
"""The retention class of events that ask for none."""
RETENTION_PATTERN: Final = r"^[a-z0-9-]{1,32}$"
HEX_LENGTHS: Final = {"trace_id": 32, "span_id": 16, "parent_span_id": 16}
"""Digits of the W3C trace context ids; all zeros is no id."""

FieldType = Literal["text", "list", "int", "bool", "time"]
Kind = Literal[
    "decision", "issuance", "action", "session", "delegation", "signal", "revocation", "policy",
    "exception", "review", "task", "heartbeat", "alert", "case", "access",
]  # fmt: skip
ActionType = Literal["read", "write", "execute", "admin"]
Impact = Literal["low", "medium", "high"]
DataClass = Literal["public", "internal", "confidential", "restricted"]
Answer = Literal["allow", "deny", "error"]
CredentialType = Literal["session", "capability", "static", "break_glass"]


def _clean_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("text must not hold NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("text must not hold an unpaired surrogate") from None
    return value


def _not_all_zero(value: str) -> str:
    if not value.strip("0"):
        raise ValueError("an all-zero id is no id")
    return value


def _in_utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        raise ValueError("a time needs an offset")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time lies outside the years 1 to 9999 in UTC") from None


def _canonical_object(value: str) -> str:
    try:
        content = json.loads(value)
        canonical = rfc8785.dumps(content).decode()
    except (ValueError, RecursionError) as error:
        raise ValueError("attributes must be RFC 8785 JSON") from error
    if not isinstance(content, dict) or canonical != value:
        raise ValueError("attributes must be an object in RFC 8785 form")
    return value


Text = Annotated[str, AfterValidator(_clean_text)]
Texts = list[Text]
Whole = Annotated[int, Field(ge=-INT_MAX, le=INT_MAX)]
Risk = Annotated[int, Field(ge=0, le=100)]
Time = Annotated[datetime, AfterValidator(_in_utc)]
Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$"), AfterValidator(_not_all_zero)]
Hex16 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$"), AfterValidator(_not_all_zero)]
Retention = Annotated[str, StringConstraints(pattern=RETENTION_PATTERN)]
Attributes = Annotated[Text, AfterValidator(_canonical_object)]


def _is(description: str) -> Any:
    """An optional field: absent means null."""
    return Field(default=None, description=description)


class Event(BaseModel):
    """One sealed event, flat; the field order is the column order of every segment."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    event_id: Text = Field(description="unique per source; with source, the de-duplication key")
    kind: Kind = Field(description="what happened")
    time: Time = Field(description="when it happened")
    source: Text = Field(description="which system said so, such as opa/todo-pdp")
    instance: Text | None = _is("which emitter of the source")
    sequence: Whole | None = _is("the emitter's gapless counter")
    pep: Text | None = _is("enforcement point: gateway, broker, tool_router, data_adapter, egress, worker")
    tenant: Text | None = _is("tenant of the session that acts")
    environment: Text | None = _is("environment of the session that acts")
    trust_zone: Text | None = _is("trust zone of the session that acts")
    request_id: Text | None = _is("on every issuance, refusal and decision")
    trace_id: Hex32 | None = _is("W3C trace id, one trace from user request to final tool call")
    span_id: Hex16 | None = _is("W3C span id")
    parent_span_id: Hex16 | None = _is("W3C span id of the caller")
    task_id: Text | None = _is("the unit of user intent")
    session_id: Text | None = _is("the session that acts")
    session_risk: Risk | None = _is("risk of the session, 0 to 100")
    session_expires_at: Time | None = _is("when the session ends")
    session_verified: bool | None = _is("whether its signature was checked here; null: unknown")
    session_data_classes: Texts | None = _is("the data classes the session was opened for")
    actor: Text | None = _is("the initiating principal, type:id")
    delegated_actor: Text | None = _is("the agent acting for it, type:id")
    delegation: Texts | None = _is("the whole chain, initiator first, current actor last")
    workload: Text | None = _is("the machine identity that authenticated")
    client_ip: Text | None = _is("from where it authenticated")
    user_agent: Text | None = _is("what it authenticated with")
    roles: Texts | None = _is("roles or bindings that granted it")
    action: Text | None = _is("what was asked for or done")
    action_type: ActionType | None = _is("what class of action it is")
    impact: Impact | None = _is("impact of the action, as the source said")
    resource: Text | None = _is("the target of the action, type:id")
    resource_tenant: Text | None = _is("tenant of the target")
    resource_environment: Text | None = _is("environment of the target")
    resource_trust_zone: Text | None = _is("trust zone of the target")
    data_class: DataClass | None = _is("data class of the target")
    destination: Text | None = _is("where data goes to; present on external actions")
    bytes_out: Whole | None = _is("bytes that left")
    sensitive_fields: Texts | None = _is("sensitive fields that left")
    decision: Answer | None = _is("the answer")
    reason: Text | None = _is("machine-readable reason; on an exception the stated one")
    decision_ref: Text | None = _is("event_id of the PDP decision that authorised an action")
    policy_id: Text | None = _is("the policy that decided")
    policy_version: Text | None = _is("its version")
    policy_digest: Text | None = _is("its bundle hash")
    policy_engine: Text | None = _is("the engine that evaluated it")
    previous_policy_version: Text | None = _is("on a policy event, what it replaced")
    credential_id: Text | None = _is("the credential issued or used")
    parent_credential_id: Text | None = _is("the credential it was derived from")
    credential_type: CredentialType | None = _is("what class of credential it is")
    audience: Text | None = _is("whom the credential is for")
    scopes: Texts | None = _is("what the credential allows, resource:verb")
    required_scopes: Texts | None = _is("the policy baseline of the action")
    issued_at: Time | None = _is("begin of the credential's or exception's life")
    expires_at: Time | None = _is("end of the credential's or exception's life")
    purpose: Text | None = _is("what the credential is for")
    grant_id: Text | None = _is("delegation grant")
    grant_covers: Texts | None = _is("what the grant covers: tenant:b, zone:pci, class:restricted")
    approval_id: Text | None = _is("approval of a step-up, grant, exception or activation")
    approved_by: Text | None = _is("who approved it")
    exception_id: Text | None = _is("exception or break-glass")
    owner: Text | None = _is("who answers for the exception")
    review_due_at: Time | None = _is("when the exception must have been reviewed")
    outcome: Text | None = _is("task or state outcome: started, succeeded, failed, opened, closed, ...")
    target: Text | None = _is("what a signal, revocation, review or alert is about, type:id")
    rule_id: Text | None = _is("the rule that fired")
    rule_version: Text | None = _is("its version")
    alert_id: Text | None = _is("the alert that this event is a step of, or an answer to")
    alert_key: Text | None = _is("what the rule groups by")
    window_start: Time | None = _is("begin of the rule's window")
    severity: Text | None = _is("severity of the alert")
    count: Whole | None = _is("matches in the window")
    first_seen: Time | None = _is("time of the first match")
    last_seen: Time | None = _is("time of the last match")
    checkpoint_size: Whole | None = _is("log size that the alert was computed at")
    evidence: Texts | None = _is("the events it rests on, <source>#<event_id>")
    verdict_id: Whole | None = _is("the triage verdict")
    comment: Text | None = _is("what a person wrote")
    sent: Whole | None = _is("heartbeat total: events sent")
    dropped: Whole | None = _is("heartbeat total: events dropped")
    exercise: Text | None = _is("drill id: left out of metrics and paging unless asked for")
    nonce: Text | None = _is("128 random bits in hex, in erasable retention classes")
    conflict: bool | None = _is("the same id was seen before with other content")
    attributes: Attributes | None = _is("justification attributes, a JSON object")
    masked: Texts | None = _is("JSON pointers that were removed before sealing")
    retention: Retention = Field(default="standard", description="retention class")
    raw: Text | None = _is("the foreign source's own words after masking")
    topic: Text | None = _is("where it was read from")
    topic_id: Text | None = _is("Kafka's 22-character id of that topic")
    partition: Whole | None = _is("partition of that topic")
    record_offset: Whole | None = _is("offset of the message")
    part: Whole | None = _is("position in the message, from 0")


@dataclass(frozen=True, slots=True)
class EventField:
    """One column: its name, type, whether a sealed row must have it, and what it means."""

    name: str
    type: FieldType
    required: bool
    description: str


_TYPES: Final[dict[type, FieldType]] = {
    str: "text", list: "list", int: "int", bool: "bool", datetime: "time",
}  # fmt: skip


def _type_of(annotation: Any) -> FieldType:
    while get_origin(annotation) in (Union, UnionType, Annotated):
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return "text"
    return _TYPES[get_origin(annotation) or annotation]


FIELDS: Final[tuple[EventField, ...]] = tuple(
    EventField(
        name,
        _type_of(info.annotation),
        info.is_required() or name == "retention",
        info.description or "",
    )
    for name, info in Event.model_fields.items()
)
FIELD_NAMES: Final = tuple(field.name for field in FIELDS)
KINDS: Final[tuple[str, ...]] = get_args(Kind)
RESERVED_KINDS: Final = frozenset({"alert", "case", "access"})
"""Kinds that come only from our own writers."""
DASHBOARD_SOURCE: Final = "decision-ledger/dashboard"
"""The source of what people do at the dashboard: triage, cases, reviews, and what they looked at."""
COORDINATES: Final = ("topic", "topic_id", "partition", "record_offset", "part")
"""Set by ingest, never by a sender."""
COLLECTOR: Final = (*COORDINATES, "raw", "nonce", "conflict")
"""What the collector adds: left out when two events are compared for de-duplication."""
LEDGER_SET: Final = frozenset({*COLLECTOR, "masked"})
"""Set by the ledger alone: no part of what a sender may write."""
CONTENT_COLUMNS: Final = tuple(name for name in FIELD_NAMES if name not in COLLECTOR)
ID_FIELDS: Final = tuple(f.name for f in FIELDS if f.type == "text" and f.name.endswith("_id"))
VOCABULARIES: Final[dict[str, tuple[str, ...]]] = {
    "kind": KINDS,
    "action_type": get_args(ActionType),
    "impact": get_args(Impact),
    "data_class": get_args(DataClass),
    "decision": get_args(Answer),
    "credential_type": get_args(CredentialType),
}
"""Closed vocabularies: any other word is rejected."""

TIME_TYPE: Final = pa.timestamp("us", "UTC")
_ARROW: Final[dict[FieldType, pa.DataType]] = {
    "text": pa.string(), "list": pa.list_(pa.string()), "int": pa.int64(), "bool": pa.bool_(),
    "time": TIME_TYPE,
}  # fmt: skip
_SQL: Final[dict[FieldType, str]] = {
    "text": "VARCHAR", "list": "VARCHAR[]", "int": "BIGINT", "bool": "BOOLEAN",
    "time": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
ERASED_LEAF: Final = "erased_leaf"
"""Last column of every segment: the leaf hash in hex of an erased row, whose other fields are null."""
ARROW_SCHEMA: Final = pa.schema([*((f.name, _ARROW[f.type]) for f in FIELDS), (ERASED_LEAF, pa.string())])
SQL_TYPES: Final[dict[str, str]] = {**{f.name: _SQL[f.type] for f in FIELDS}, ERASED_LEAF: "VARCHAR"}

DEAD_LETTER_STATUSES: Final = ("rejected", "duplicate", "ignored")
DEAD_LETTER_SCHEMA: Final = pa.schema(
    [
        ("topic", pa.string()),
        ("topic_id", pa.string()),
        ("partition", pa.int64()),
        ("record_offset", pa.int64()),
        ("part", pa.int64()),
        ("time", TIME_TYPE),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("field", pa.string()),
        ("payload", pa.string()),
        ("digest", pa.string()),
        (ERASED_LEAF, pa.string()),
    ]
)
"""One row per message that was not accepted: where it was, when and why it was set aside."""
DEAD_LETTER_SQL_TYPES: Final[dict[str, str]] = {
    field.name: {pa.int64(): "BIGINT", TIME_TYPE: _SQL["time"]}.get(field.type, "VARCHAR")
    for field in DEAD_LETTER_SCHEMA
}

_RFC3339: Final = f"^{RFC3339_TIME}$"


def _wire_type(field: EventField) -> dict[str, Any]:
    """The JSON Schema of one field as a sender writes it, before null is allowed."""
    if field.name == "attributes":
        return {"type": "object"}
    if field.name == "kind":
        return {"type": "string", "enum": [kind for kind in KINDS if kind not in RESERVED_KINDS]}
    if field.name in VOCABULARIES:
        return {"type": "string", "enum": list(VOCABULARIES[field.name])}
    if field.name in HEX_LENGTHS:
        return {"type": "string", "pattern": f"^(?!0+$)[0-9A-Fa-f]{{{HEX_LENGTHS[field.name]}}}$"}
    if field.name == "retention":
        return {"type": "string", "pattern": RETENTION_PATTERN, "default": "standard"}
    if field.name == "session_risk":
        return {"type": "integer", "minimum": 0, "maximum": 100}
    wire: dict[FieldType, dict[str, Any]] = {
        "text": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string"}},
        "int": {"type": "integer", "minimum": -INT_MAX, "maximum": INT_MAX},
        "bool": {"type": "boolean"},
        "time": {"type": "string", "format": "date-time", "pattern": _RFC3339},
    }
    return wire[field.type]


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one event as a sender may write it."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in FIELDS:
        if field.name in LEDGER_SET:
            continue
        wire = _wire_type(field)
        if field.required and field.name != "retention":
            required.append(field.name)
        else:
            wire["type"] = [wire["type"], "null"]
            if "enum" in wire:
                wire["enum"].append(None)
        properties[field.name] = {"description": field.description, **wire}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Decision event, version 1",
        "description": "Unknown fields are kept in attributes; what only the ledger sets is left out.",
        "type": "object",
        "required": required,
        "properties": properties,
    }


def json_schema_text() -> str:
    """The text of docs/event-schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema_text())
