"""Exceptions: authority beyond the policy for a short time, with somebody who answers for it.

`docs/exception-standard.md` says what each field is for; `check` is its gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from pydantic import Field

from issuer.defaults import EXCEPTION_HOURS, REVIEW_DAYS
from issuer.registry.faults import Fault, records, twice
from issuer.registry.words import Principal, Record, Time, Words
from ledger.events import Impact
from ledger.settings.yaml_file import Document

RULES: Final = {
    "missing": "a field that every exception needs is missing",
    "unknown": "a field that no exception has",
    "unknown-section": "a section that this file does not have",
    "invalid": "a field whose value cannot be read",
    "twice": "an id that another exception has",
    "order": "it ends before it begins",
    "too-long": "it lives longer than the standard allows",
    "review-late": "its review is due too long after its end",
    "own-owner": "the one whom it empowers also answers for it",
    "own-approval": "it was approved by one whom it concerns",
    "wildcard": "a wildcard that is not marked as high impact",
}


class ExceptionRecord(Record):
    """One exception, as it stands in `exceptions.yml`."""

    id: Words = Field(description="its name in events: exception_id")
    reason: Words = Field(description="why the policy is not enough, in a sentence")
    owner: Principal = Field(description="who answers for it; never the one whom it empowers")
    approved_by: Principal = Field(description="who agreed: neither the owner nor the one whom it empowers")
    principal: Principal = Field(description="the agent, user or service whom it empowers")
    scopes: list[Words] = Field(min_length=1, description="what it allows, resource:verb")
    resource: Words = Field(description="on what: type:id, or type:* for all of a type")
    environment: Words = Field(description="in which environment")
    impact: Impact = Field(description="of what it allows; a wildcard is high")
    opened_at: Time = Field(description="when it begins")
    expires_at: Time = Field(description="when it ends: at most 72 hours later")
    review_due_at: Time = Field(description="when somebody looks at its use: at most 7 days after its end")
    ticket: Words | None = Field(default=None, description="the ticket that asked for it")

    @property
    def is_wide(self) -> bool:
        """Whether a scope or the resource holds a wildcard."""
        return any("*" in text for text in (*self.scopes, self.resource))


def check(document: Document, *, hours: int = EXCEPTION_HOURS) -> tuple[list[ExceptionRecord], list[Fault]]:
    """The exceptions of a file and all that is wrong with it, by line.

    Raises:
        UsageError: the file is no list of exceptions at all.
    """
    good, faults = records(document, "exceptions", ExceptionRecord)
    faults += twice(document, "exceptions", good, lambda record: record.id)
    for index, record in good:
        for field, rule, message in broken_rules(record, hours=hours):
            faults.append(Fault(document.line(("exceptions", index, field)), rule, f"{record.id}: {message}"))
    return [record for _, record in good], sorted(faults)


def broken_rules(record: ExceptionRecord, *, hours: int = EXCEPTION_HOURS) -> Iterator[tuple[str, str, str]]:
    """What a well-formed exception does against the standard: field, rule, sentence."""
    if record.expires_at <= record.opened_at:
        yield "expires_at", "order", "it expires before it is opened"
    elif record.expires_at - record.opened_at > timedelta(hours=hours):
        yield "expires_at", "too-long", f"it lives longer than {hours} hours"
    if record.review_due_at < record.opened_at:
        yield "review_due_at", "order", "its review is due before it is opened"
    elif record.review_due_at - record.expires_at > timedelta(days=REVIEW_DAYS):
        yield "review_due_at", "review-late", f"its review is due more than {REVIEW_DAYS} days after its end"
    if record.owner == record.principal:
        yield "owner", "own-owner", "its owner is the principal that it empowers"
    if record.approved_by in (record.owner, record.principal):
        yield "approved_by", "own-approval", "its approver is its owner or the principal that it empowers"
    if record.is_wide and record.impact != "high":
        yield "impact", "wildcard", "a wildcard needs `impact: high`"
