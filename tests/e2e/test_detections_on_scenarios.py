"""Every planted incident is found by the rule that should find it, and nothing high on a healthy day."""

from __future__ import annotations

from pathlib import Path

import pytest

from issuer.defaults import SCENARIOS
from tests.confusion import DOCUMENT, HIGH, Scenario, played


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_was_planted_is_found(name: str, tmp_path: Path) -> None:
    scene = played(name, tmp_path)
    for incident in scene.incidents:
        assert set(incident["rules"]) <= scene.rules_that_found(incident), incident["id"]
    assert [one for one in scene.strangers() if one["severity"] in HIGH] == []
    assert (name == "healthy-day") == (not scene.incidents)
    drills = [incident for incident in scene.incidents if not incident["rules"]]
    assert all(not {*HIGH} & _severities(scene, incident["event_ids"]) for incident in drills)
    page = DOCUMENT.read_text(encoding="utf-8")
    for incident in scene.incidents:
        found = ", ".join(sorted(scene.rules_that_found(incident))) or "nothing"
        assert (
            f"| {incident['id']} | {', '.join(incident['rules']) or 'nothing (a drill)'} | {found} |" in page
        )


def _severities(scene: Scenario, ids: list[str]) -> set[str]:
    wanted = set(ids)
    return {
        one["severity"] for one in scene.alerts if wanted & {ref.partition("#")[2] for ref in one["evidence"]}
    }
