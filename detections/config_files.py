"""Configuration files: read with the line of every fault, and turned into what is sealed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import rfc8785
from pydantic import ValidationError

from detections.configs.models import parse_config
from detections.configs.sealed import with_times
from detections.durations import duration_text
from detections.rulebook.bound_rule import bind
from detections.rulebook.rule_files import read_rules, rule_document, shipped_rules
from detections.trial import try_rule
from ledger.config_cli import seal_config
from ledger.errors import UsageError
from ledger.events import DEFAULT_CLASS
from ledger.log.retention_classes import classes_in_force
from ledger.settings.yaml_file import read_yaml
from ledger.writer import Writer


def read_config(name: str, path: Path) -> bytes:
    """The configuration `name` of a file (or a folder of rules) as it is sealed: RFC 8785 JSON.

    Raises:
        UsageError: it is not of this kind, or a rule in it does not pass its own tests.
    """
    if name == "rules":
        return _rules(path)
    document = read_yaml(path)
    value = document.value
    if not isinstance(value, dict) or set(value) != {name}:
        raise UsageError(
            f"{path} does not consist of `{name}:` alone.",
            f"Begin it with `{name}:`; docs/detections.md shows one.",
        )
    try:
        parse_config(name, with_times(value[name]))
    except ValidationError as error:
        raise document.refusal(error, "Correct that line.", at=(name,), whole=name) from None
    return rfc8785.dumps(value[name])


def _rules(path: Path) -> bytes:
    rules = read_rules(path)
    for rule in rules:
        bind(rule)
        failed = [verdict for verdict in try_rule(rule) if not verdict.passed]
        if failed:
            raise UsageError(
                f"{rule.id} does not pass its test {failed[0].name!r}.",
                f"`decision-ledger detect test {path}` shows how they differ.",
            )
    return rfc8785.dumps([rule_document(rule) for rule in rules])


def seal_shipped_rules(writer: Writer) -> int:
    """Give a ledger without sealed rules those that come with the product; how many they are, or 0."""
    if "rules" in writer.state.configs:
        return 0
    rules = shipped_rules()
    seal_config(writer, "rules", rfc8785.dumps([rule_document(rule) for rule in rules]))
    return len(rules)


def check_history(data: bytes, writer: Writer) -> None:
    """Hold sealed rules against how long a ledger keeps what they look back at.

    Raises:
        UsageError: a rule looks back further than the class `standard` is kept.
    """
    days = classes_in_force(writer.state, writer.store)[DEFAULT_CLASS].days
    for rule in parse_config("rules", json.loads(data)):
        if rule.history is not None and days is not None and rule.history.look_back > timedelta(days=days):
            raise UsageError(
                f"{rule.id} looks back {duration_text(rule.history.look_back)}, and this ledger keeps events"
                f" of the class {DEFAULT_CLASS} for {days:,} days.",
                "Shorten look_back, or keep them longer: `config load classes`.",
            )
