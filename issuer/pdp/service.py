"""The decision point's endpoints (AuthZEN 1.0), for registered workloads."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from issuer.authentication.workloads import workload_of_bearer
from issuer.deployment import Deployment
from issuer.emitting.steps import merged, of_workload
from issuer.pdp.authzen import Evaluation, answer_all, answer_of, read_evaluation, read_evaluations
from issuer.pdp.decisions import decide
from issuer.web.service import Call, Service, answered_json


def pdp_service(deployment: Deployment) -> Service:
    """The decision point, as a service."""
    return _Pdp(deployment).service


class _Pdp:
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.service = Service("pdp", deployment, "decision")
        self.service.route("/.well-known/authzen-configuration", self._metadata, "GET")
        self.service.route("/access/v1/evaluation", self._one, "POST")
        self.service.route("/access/v1/evaluations", self._several, "POST")

    async def _metadata(self, _: Call) -> Response:
        base = self._deployment.urls["pdp"]
        return answered_json(
            {
                "policy_decision_point": base,
                "access_evaluation_endpoint": f"{base}/access/v1/evaluation",
                "access_evaluations_endpoint": f"{base}/access/v1/evaluations",
            }
        )

    async def _one(self, call: Call) -> Response:
        self._authenticate(call)
        return answered_json(self._decide(call, read_evaluation(call.json())))

    async def _several(self, call: Call) -> Response:
        self._authenticate(call)
        body = call.json()
        questions, semantics = read_evaluations(body)
        answers = answer_all(questions, semantics, lambda question: self._decide(call, question))
        if not body.get("evaluations"):
            return answered_json(answers[0])
        return answered_json({"evaluations": answers})

    def _authenticate(self, call: Call) -> None:
        base = self._deployment.urls["pdp"]
        workload = workload_of_bearer(self._deployment, call.header("authorization"), (base, call.url))
        call.facts.update(of_workload(workload.id))

    def _decide(self, call: Call, question: Evaluation) -> dict[str, Any]:
        with self._deployment.db.transaction():
            decided = decide(self._deployment, question.step())
            event_id, _ = self._deployment.recorder.record(
                "decision",
                **merged(
                    {"environment": self._deployment.environment}, call.trace, call.facts, decided.facts
                ),
            )
        call.trace_id = decided.facts.get("trace_id", call.trace_id)
        return answer_of(decided, decision_id=event_id, request_id=call.request_id)
