"""Rule files: read strictly, each fault with its line."""

from __future__ import annotations

from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from detections.durations import duration_text
from detections.rulebook.rule import Rule
from ledger.errors import UsageError
from ledger.settings.yaml_file import Document, parse_yaml, read_yaml

MAX_RULES: Final = 500


def shipped_rules() -> list[Rule]:
    """The rules that come with the product, by id."""
    folder = resources.files("detections") / "rules"
    files = sorted((one for one in folder.iterdir() if one.name.endswith(".yml")), key=lambda one: one.name)
    return [_rule(parse_yaml(one.read_bytes(), one.name)) for one in files]


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file, or of every .yml file of a folder, by id.

    Raises:
        UsageError: there are none, or one of them is wrong.
    """
    files = sorted([*path.glob("*.yml"), *path.glob("*.yaml")]) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path} holds no .yml file.", "Name a rule's file, or a folder of them.")
    if len(files) > MAX_RULES:
        raise UsageError(f"{path} holds more than {MAX_RULES} rules.", "Keep fewer in one folder.")
    rules = [_rule(read_yaml(file)) for file in files]
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise UsageError(f"{path} holds two rules of the id {rule.id}.", "Give each an id of its own.")
        seen.add(rule.id)
    return sorted(rules, key=lambda rule: rule.id)


def rule_document(rule: Rule) -> dict[str, Any]:
    """A rule as plain data, which reads back as the same rule: how it is sealed."""
    value = rule.model_dump(mode="python", exclude_unset=True, exclude={"tests"})
    value["tests"] = [one.model_dump(mode="python", exclude_unset=True) for one in rule.tests]
    plain: dict[str, Any] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _rule(document: Document) -> Rule:
    try:
        return Rule.model_validate(document.value)
    except ValidationError as error:
        remedy = "docs/rules.md says what a rule's file holds."
        raise document.refusal(error, remedy, whole="the rule") from None
