"""What is wrong in a registry file, line by line, and how a gate reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from ledger.errors import UsageError
from ledger.settings.yaml_file import Document

_RECORD = TypeVar("_RECORD", bound=BaseModel)

SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong: where, the rule that it breaks, and a sentence about it."""

    line: int
    rule: str
    message: str


def records(
    document: Document, section: str, model: type[_RECORD]
) -> tuple[list[tuple[int, _RECORD]], list[Fault]]:
    """The records of the list under `section` with their positions in it, and the faults of the others.

    Raises:
        UsageError: the file holds no such list.
    """
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get(section), list):
        raise UsageError(
            f"{document.name} holds no list under `{section}:`.",
            f"Begin it with `{section}:`, then `- id: …`.",
        )
    good: list[tuple[int, _RECORD]] = []
    faults = [
        Fault(document.line((name,)), "unknown-section", f"there is no section {name!r} in this file")
        for name in value
        if name != section
    ]
    for index, item in enumerate(value[section]):
        try:
            good.append((index, model.model_validate(item)))
        except ValidationError as error:
            faults += _of(error, document, (section, index), item)
    return good, faults


def first_problem(error: ValidationError) -> tuple[tuple[str | int, ...], str]:
    """Where the first thing that is wrong stands, and a sentence about it that holds no input."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the body"
    return problem["loc"], f"{where}: {problem['msg']}."


def _of(error: ValidationError, document: Document, path: tuple[str | int, ...], item: Any) -> list[Fault]:
    name = item.get("id") or item.get("name") if isinstance(item, dict) else None
    called = f"{name}: " if isinstance(name, str) and name else ""
    found = []
    for problem in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"])
        line = document.line((*path, *problem["loc"]))
        if problem["type"] == "missing":
            found.append(Fault(line, "missing", f"{called}{field} is missing"))
        elif problem["type"] == "extra_forbidden":
            found.append(Fault(line, "unknown", f"{called}there is no field {field}"))
        else:
            words = problem["msg"].removeprefix("Value error, ")
            found.append(Fault(line, "invalid", f"{called}{field or 'the record'}: {words}"))
    return found


def sarif(
    document: Document, faults: Iterable[Fault], *, tool: str, rules: Mapping[str, str]
) -> dict[str, Any]:
    """The faults as a SARIF 2.1.0 log, which code hosts show beside the lines.

    `rules` are the names of the rules of the tool, each with its sentence.
    """
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": tool,
                        "rules": [
                            {"id": name, "shortDescription": {"text": text}} for name, text in rules.items()
                        ],
                    }
                },
                "results": [
                    {
                        "ruleId": fault.rule,
                        "level": "error",
                        "message": {"text": fault.message},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": document.name},
                                    "region": {"startLine": fault.line},
                                }
                            }
                        ],
                    }
                    for fault in faults
                ],
            }
        ],
    }


def twice(
    document: Document, section: str, good: Iterable[tuple[int, _RECORD]], key: Callable[[_RECORD], str]
) -> list[Fault]:
    """A fault for each record whose key another one before it has."""
    seen: set[str] = set()
    found = []
    for index, record in good:
        name = key(record)
        if name in seen:
            found.append(Fault(document.line((section, index)), "twice", f"{name} stands here twice"))
        seen.add(name)
    return found
