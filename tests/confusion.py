"""Which rules find what is planted in the scenarios: the table of docs/detections-on-scenarios.md.

python -m tests.confusion          writes it
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import decision_ledger
from detections.backtest import backtest
from detections.rulebook.rule_files import shipped_rules
from issuer.defaults import SCENARIOS
from issuer.scenarios.catalogue import play, write
from ledger.console import run
from ledger.reader import Ledger

SEED: Final = 7
DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "detections-on-scenarios.md"
HIGH: Final = ("high", "critical")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What was planted in a scenario, and the alerts that came."""

    name: str
    events: int
    incidents: list[dict[str, Any]]
    alerts: list[dict[str, Any]]

    def rules_that_found(self, incident: dict[str, Any]) -> set[str]:
        """The rules one of whose alerts rests on an event of the incident."""
        ids = set(incident["event_ids"])
        return {one["rule_id"] for one in self.alerts if ids & _event_ids(one)}

    def strangers(self) -> list[dict[str, Any]]:
        """The alerts that rest on no event of any incident."""
        planted = {name for incident in self.incidents for name in incident["event_ids"]}
        return [one for one in self.alerts if not planted & _event_ids(one)]


def played(name: str, place: Path) -> Scenario:
    """A scenario through the commands a user has: written, ingested, judged by the shipped rules."""
    scene = play(name, SEED)
    lines = place / f"{name}.jsonl"
    write(scene, lines)
    ledger = str(place / name)
    run(decision_ledger.app, ["init", "--origin", f"scenario.example/{name}", "--ledger", ledger])
    run(decision_ledger.app, ["ingest", "file", str(lines), "--format", "native", "--ledger", ledger])
    with Ledger.open(ledger, remember=False) as opened:
        alerts = backtest(opened, None)
    return Scenario(name, len(scene.events), scene.truth["incidents"], alerts)


def document(scenarios: Iterable[Scenario]) -> str:
    """The page."""
    lines = [
        "# What the rules find in the scenarios",
        "",
        f"Written by `python -m tests.confusion`, seed {SEED}. Each scenario is played, ingested and judged",
        "by the rules that come with the product. An alert belongs to an incident when its evidence holds",
        "an event of it.",
        "",
        "| scenario | events | incident | should be found by | was found by | other alerts (high) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rules = {rule.id: [0, 0, 0] for rule in shipped_rules()}
    for one in scenarios:
        strangers = one.strangers()
        high = sum(alert["severity"] in HIGH for alert in strangers)
        other = f"{len(strangers)} ({high})"
        for alert in strangers:
            rules[alert["rule_id"]][2] += 1
        if not one.incidents:
            lines.append(f"| {one.name} | {one.events:,} | none | nothing | nothing | {other} |")
        for incident in one.incidents:
            found = one.rules_that_found(incident)
            for rule in incident["rules"]:
                rules[rule][0 if rule in found else 1] += 1
            wanted = ", ".join(incident["rules"]) or "nothing (a drill)"
            lines.append(
                f"| {one.name} | {one.events:,} | {incident['id']} | {wanted} |"
                f" {', '.join(sorted(found)) or 'nothing'} | {other} |"
            )
            other = ""
    lines += ["", "| rule | planted and found | planted and missed | alerts on nothing planted |",
              "| --- | --- | --- | --- |"]  # fmt: skip
    lines += [
        f"| {name} | {hit} | {missed} | {extra} |" for name, (hit, missed, extra) in sorted(rules.items())
    ]
    return "\n".join([*lines, ""])


def _event_ids(alert: dict[str, Any]) -> set[str]:
    return {ref.partition("#")[2] for ref in alert["evidence"]}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        page = document([played(name, Path(folder)) for name in SCENARIOS])
    DOCUMENT.write_text(page, encoding="utf-8")
    sys.stdout.write(json.dumps({"written": DOCUMENT.name}) + "\n")
