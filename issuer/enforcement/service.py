"""The enforcement points in front of tools, as services: `POST /tools/{tool}/{action}`."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

import httpx
from starlette.responses import Response

from issuer.authentication.holders import presented
from issuer.authentication.refusal import INVALID_REQUEST, UNAVAILABLE, Refusal
from issuer.enforcement.broker_client import BrokerClient
from issuer.enforcement.point import Admitted, Point
from issuer.hops.queue import QueueFull, is_done
from issuer.hops.worker import REPORTS, enqueue
from issuer.registry.tools import Action, Tool
from issuer.revocation import TICKET_CLOSED, tell
from issuer.tools.examples import Tools
from issuer.web.service import Call, Service, answered_json
from ledger.errors import OutsideError, UsageError

MAX_RESOURCE: Final = 256


def enforcement_service(name: str, point: Point, broker: BrokerClient, client: httpx.AsyncClient) -> Service:
    """One enforcement point, as a service."""
    return _Enforcement(name, point, broker, client).service


class _Enforcement:
    def __init__(self, name: str, point: Point, broker: BrokerClient, client: httpx.AsyncClient) -> None:
        self._point = point
        self._broker = broker
        self._client = client
        self.service = Service(name, point.deployment, "decision", own=point.own_facts())
        self.service.route("/tools/{tool}/{action}", self._call, "POST")
        self.service.route("/queued/{message}", self._queued, "GET")

    async def _call(self, call: Call) -> Response:
        tool, action = self._find(call)
        body = call.json_object()
        resource, arguments = body.get("resource"), body.get("arguments", {})
        if not isinstance(resource, str) or not 0 < len(resource) <= MAX_RESOURCE:
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "resource is needed, as type:id.")
        if not isinstance(arguments, dict):
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "arguments is an object.")
        admitted = await self._point.admit(call, endpoint=tool.endpoint, action=action, resource=resource)
        token = presented(call.header("authorization"))
        tools = Tools(self._sender(call, token, admitted), lambda name: self._close(call, name))
        try:
            if tool.pep == "worker":
                result = self._queue(admitted, arguments)
            else:
                result = await tools.call(action.name, resource, arguments)
        except Refusal as refusal:
            self._point.done(admitted, outcome="failed", reason=refusal.reason)
            # The step was allowed, and its event says so; that the action failed is told as well.
            refusal.is_told = True
            raise
        except BaseException:  # a caller that went away, too: what was begun is told
            self._point.done(admitted, outcome="failed", reason="cancelled")
            raise
        # What waits in a queue has begun, and is judged and told again when its turn comes.
        outcome = "started" if "queued" in result else "succeeded"
        self._point.done(admitted, outcome=outcome, destination=result.get("sent_to"))
        return answered_json({"request_id": call.request_id, "result": result})

    async def _queued(self, call: Call) -> Response:
        """Whether what was queued is done; its id, which nobody guesses, is the right to ask."""
        found = is_done(self._point.deployment.db, call.request.path_params["message"])
        if found is None:
            raise Refusal(404, INVALID_REQUEST, "message_unknown", "There is no such message.")
        return answered_json({"done": found})

    def _find(self, call: Call) -> tuple[Tool, Action]:
        deployment = self._point.deployment
        name = f"tool:{deployment.environment}/{call.request.path_params['tool']}"
        tool = deployment.registry.tools.get(name)
        action = None if tool is None else tool.action(call.request.path_params["action"])
        if tool is None or action is None or tool.pep != self._point.pep:
            raise Refusal(404, INVALID_REQUEST, "tool_unknown", "There is no such tool or action here.")
        return tool, action

    def _queue(self, admitted: Admitted, arguments: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(arguments, separators=(",", ":")).encode()
        try:
            return {"queued": enqueue(self._point.deployment, admitted, REPORTS, body)}
        except QueueFull:
            raise Refusal(503, UNAVAILABLE, "queue_full", "Too much waits already; try again.") from None

    def _close(self, call: Call, ticket: str) -> None:
        tell(
            self._point.deployment.db, self._point.deployment.recorder, ticket, TICKET_CLOSED,
            reason="ticket-closed", cause="closed_ticket", details={"trace_id": call.trace_id},
        )  # fmt: skip

    def _sender(self, call: Call, token: str, admitted: Admitted) -> Any:
        async def send(destination: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
            deployment = self._point.deployment
            known = deployment.registry.destinations.get(destination)
            if known is None:
                raise Refusal(502, UNAVAILABLE, "destination_unknown", "There is no such destination.")
            base = deployment.urls["egress"]
            url = f"{base}/to/{quote(destination)}{path}"
            try:
                child = await self._broker.exchange(
                    token, audience=known.endpoint, scope=" ".join(admitted.action.required_scopes)
                )
                answer = await self._client.post(
                    url,
                    json=body,
                    headers={
                        "Authorization": f"DPoP {child}",
                        "DPoP": self._broker.proof("POST", url, child),
                        "traceparent": f"00-{call.trace_id}-{call.span_id}-01",
                        "X-Resource": admitted.resource,
                    },
                )
            except (OutsideError, httpx.HTTPError) as error:
                raise Refusal(502, UNAVAILABLE, "egress_unavailable", "The way out is not there.") from error
            except UsageError as error:
                raise Refusal(403, "insufficient_scope", "egress_refused", "The broker refuses.") from error
            if answer.is_success:
                return {"sent_to": destination, "status": answer.status_code}
            raise Refusal(
                403 if answer.status_code < 500 else 502, "insufficient_scope", "egress_refused",
                "The destination was not reached.",
            )  # fmt: skip

        return send
