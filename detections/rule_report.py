"""Rules as an operator sees them: what they are, when they fired, how often they were wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detections.alerting.standing import alerts_of, false_positive_ratios
from detections.rulebook.rule import Rule
from detections.rulebook.rule_files import read_rules, shipped_rules
from detections.sealed_log import SealedLog
from ledger.format.manifest import instant
from ledger.reader import Ledger


def rules_in_force(ledger: Ledger, path: Path | None) -> list[Rule]:
    """The rules of `path`, else those sealed last, else those that come with the product."""
    if path is not None:
        return read_rules(path)
    sealed: list[Rule] | None = SealedLog.of(ledger).timeline(ledger.size).last("rules")
    return shipped_rules() if sealed is None else sealed


def rule_report(ledger: Ledger, path: Path | None) -> list[dict[str, Any]]:
    """One record for each rule."""
    alerts = alerts_of(ledger)
    ratios = false_positive_ratios(alerts)
    sealed = bool(ledger.state.configs.get("rules")) and path is None
    found = []
    for rule in rules_in_force(ledger, path):
        own = [one for one in alerts if one["rule_id"] == rule.id and one["engine_state"] != "withdrawn"]
        wrong, judged = ratios.get(rule.id, (0, 0))
        found.append(
            {"id": rule.id, "title": rule.title, "state": rule.state, "status": rule.status,
             "level": rule.level, "version": rule.rule_version, "tags": list(rule.tags),
             "runbook": f"docs/runbooks/{rule.runbook}", "sealed": sealed, "alerts": len(own),
             "last_fired": instant(max(one["last_seen"] for one in own)) if own else None,
             "false_positives": wrong, "judged": judged,
             "false_positive_ratio": wrong / judged if judged else None}
        )  # fmt: skip
    return found
