"""What rules need is learned from their tests, and kept for our own."""

from __future__ import annotations

import json
from pathlib import Path

from detections import rule_needs
from detections.metric_catalogue import METRICS
from detections.rule_needs import PRINCIPAL, Needs, lacking, metric_needs, needs_of, shipped_needs, written
from detections.rulebook.rule_files import shipped_rules
from ledger.events import FIELD_NAMES, KINDS

QUICK = {"repeated-denies", "cross-tenant-attempts", "credential-replay"}


def test_what_is_kept_is_what_the_tests_say(full_scale: bool) -> None:
    rules = {rule.id: rule for rule in shipped_rules()}
    assert set(shipped_needs()) == set(rules)
    for name in rules if full_scale else QUICK:
        assert list(shipped_needs()[name]) == needs_of(rules[name]), name
    file = Path(rule_needs.__file__).with_name("rules") / rule_needs.FILE
    some = [rule for rule in shipped_rules() if rule.id == "repeated-denies"]
    assert json.loads(written(some)).items() <= json.loads(file.read_text()).items()


def test_needs_are_kinds_and_fields_of_ours() -> None:
    for ways in (*shipped_needs().values(), *metric_needs().values()):
        assert ways
        for way in ways:
            assert set(way.kinds) <= set(KINDS)
            assert set(way.fields) - {PRINCIPAL} <= set(FIELD_NAMES)
    assert set(metric_needs()) == {metric.name for metric in METRICS}
    assert all(metric.kinds and metric.fields for metric in METRICS)


def test_a_rule_works_where_one_of_its_ways_does_and_tells_what_the_closest_lacks() -> None:
    ways = [
        Needs(("decision",), ("client_ip", "session_id")),
        Needs(("decision", "signal"), (PRINCIPAL, "workload")),
    ]
    assert lacking(ways, {"decision"}, {"client_ip", "session_id"}) == []
    assert lacking(ways, {"decision", "signal"}, {"delegated_actor", "workload"}) == []
    assert lacking(ways, {"decision"}, {"client_ip"}) == ["session_id"]
    assert lacking(ways[1:], set(), set()) == ["decision events", "signal events", PRINCIPAL, "workload"]


def test_who_acts_may_stand_in_either_field() -> None:
    (needs,) = shipped_needs()["repeated-denies"]
    assert needs.kinds == ("decision",)
    assert set(needs.fields) >= {"decision", PRINCIPAL}
