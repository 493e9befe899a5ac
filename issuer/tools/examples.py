"""Tickets, repository, invoices, customers, payments, deploys: each action takes a resource and arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from issuer.authentication.refusal import INVALID_REQUEST, Refusal

MAX_WRITES: Final = 10_000
Notify = Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Sends a body to a path of a destination: through the egress mediator, and no other way."""


@dataclass(slots=True)
class Tools:
    """The tools of one enforcement point, with what was written to them, in memory."""

    send: Notify
    close_ticket: Callable[[str], None]
    written: list[tuple[str, str]] = field(default_factory=list)

    async def call(self, action: str, resource: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Carry out an action that was admitted.

        Raises:
            Refusal: 400, where its arguments are not what it takes; or what the egress mediator refuses.
        """
        kind, _, verb = action.rpartition(":")
        if verb == "read":
            return self._read(kind, resource)
        if action == "ticket:notify":
            return await self.send("mail", "/v1/messages", {"about": resource, **_message(arguments)})
        if action == "payment:send":
            body = {"payment": resource, "amount": _amount(arguments)}
            return await self.send("bank", "/transfers", body)
        if action == "ticket:update" and arguments.get("state") == "closed":
            self.close_ticket(resource)
        if len(self.written) < MAX_WRITES:
            self.written.append((action, resource))
        return {"resource": resource, "done": action}

    def _read(self, kind: str, resource: str) -> dict[str, Any]:
        number = resource.rpartition(":")[2]
        found: dict[str, dict[str, Any]] = {
            "ticket": {"subject": f"Question {number}", "state": "open"},
            "repository": {"branch": "main", "files": 12},
            "invoice": {"amount": "120.00", "currency": "EUR"},
            "customer": {"name": f"Customer {number}", "iban": "masked"},
            "payment": {"amount": "120.00", "state": "sent"},
            "deploy": {"state": "running"},
        }
        return {"resource": resource, **found.get(kind, {})}


def _message(arguments: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(arguments.get("text"), str) or len(arguments["text"]) > 4_096:
        raise Refusal(400, INVALID_REQUEST, "arguments_malformed", "text is needed, at most 4,096 letters.")
    return arguments


def _amount(arguments: dict[str, Any]) -> str:
    amount = arguments.get("amount")
    if not isinstance(amount, str) or not amount.replace(".", "", 1).isdecimal() or len(amount) > 16:
        raise Refusal(400, INVALID_REQUEST, "arguments_malformed", 'amount is needed, such as "12.50".')
    return amount
