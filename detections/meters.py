"""What an engine counts about itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from detections.delivery.post import PostRoom
    from detections.engine import Engine, Run
    from detections.response.responder import Responder


class EngineMeters:
    """Runs, rules and their errors, alert steps, how far behind the clocks are."""

    def __init__(
        self, engine: Engine, post: PostRoom | None = None, responder: Responder | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self._engine = engine
        self._runs = Histogram(
            "decision_ledger_detect_run_seconds", "One run of all rules over new entries.",
            registry=self.registry,
        )  # fmt: skip
        self._rules = Histogram(
            "decision_ledger_detect_rule_seconds", "One rule in one run.", ["rule"], registry=self.registry
        )
        self._errors = Counter(
            "decision_ledger_detect_rule_errors", "Runs in which a rule could not be judged.", ["rule"],
            registry=self.registry,
        )  # fmt: skip
        self._steps = Counter(
            "decision_ledger_detect_alert_steps", "Alert steps sealed.", ["rule", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        Gauge("decision_ledger_detect_entries", "Entries judged.", registry=self.registry).set_function(
            lambda: float(engine.watch.size)
        )
        lag = Gauge(
            "decision_ledger_detect_settle_lag_seconds", "How far the settle clock is behind the ledger's.",
            registry=self.registry,
        )  # fmt: skip
        lag.set_function(self._settle_lag)
        ahead = Gauge(
            "decision_ledger_detect_ahead", "Rows too far ahead to be judged.", registry=self.registry
        )
        ahead.set_function(lambda: float(engine.watch.memory.ahead))
        waiting = Gauge(
            "decision_ledger_detect_route_waiting", "Alerts that wait for a route.", ["route"],
            registry=self.registry,
        )  # fmt: skip
        if post is not None:
            for name in post.waiting():
                waiting.labels(name).set_function(_waiting_of(post, name))
        if responder is not None:
            asked = Gauge(
                "decision_ledger_detect_responses", "Revocations: asked for, and waiting.", ["state"],
                registry=self.registry,
            )  # fmt: skip
            asked.labels("asked").set_function(lambda: float(len(responder.revoked)))
            asked.labels("waiting").set_function(lambda: float(responder.waiting()))

    def ran(self, run: Run, seconds: float) -> None:
        """Count one run."""
        self._runs.observe(seconds)
        for rule, taken in self._engine.watch.rule_seconds.items():
            self._rules.labels(rule).observe(taken)
        for rule in run.troubles:
            self._errors.labels(rule).inc()
        for step in run.steps:
            self._steps.labels(step["rule_id"], step["outcome"]).inc()

    def _settle_lag(self) -> float:
        clocks = self._engine.watch.clocks
        return (clocks.ledger - clocks.settle).total_seconds()


def _waiting_of(post: PostRoom, name: str) -> Callable[[], float]:
    return lambda: float(post.waiting()[name])
