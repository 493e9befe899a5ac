"""YAML as people write it in a file, read strictly and with the line of every value.

The core schema of YAML 1.2 and nothing beyond it: `no` is a word, a time is text. Anchors, tags and keys
given twice are refused, since a reviewer would not see what they do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ledger.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 32

Path_ = tuple[str | int, ...]

_INT: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Any]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its value, and the line (from 1) at which the value of each path begins."""

    name: str
    value: Any
    lines: dict[Path_, int] = field(repr=False)

    def line(self, path: Sequence[str | int]) -> int:
        """The line of `path`, or of the nearest value around it."""
        at = tuple(path)
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)

    def refusal(
        self, error: ValidationError, remedy: str, *, at: Path_ = (), whole: str = "the file"
    ) -> UsageError:
        """The first thing that a model says is wrong in the value at `at`, with its line.

        `whole` is what that value is called where the fault is none of its parts.
        """
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or whole
        message = problem["msg"].removeprefix("Value error, ")
        line = self.line((*at, *problem["loc"]))
        return UsageError(f"{self.name}:{line}: {where}: {message}.", remedy)


def read_yaml(path: Path) -> Document:
    """The document in the file `path`.

    Raises:
        UsageError: there is no such file, or it is no YAML of this kind.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", "Correct its name.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Name a file of yours.") from None
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, name: str) -> Document:
    """The document in `data`; `name` is what errors call it.

    Raises:
        UsageError: it is larger than 4 MiB, no UTF-8, or no YAML of this kind.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES:,} bytes.", "Divide it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text.", "Save it as UTF-8.") from None
    lines: dict[Path_, int] = {}
    try:
        _refuse_anchors(text, name)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
        value = None if node is None else _value(node, (), lines, name)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = getattr(error, "problem", None) or "unreadable"
        raise UsageError(f"{where}: this is not YAML: {problem}.", "Correct that line.") from None
    except RecursionError:
        raise UsageError(f"{name} is nested too deeply.", f"Use at most {MAX_DEPTH} levels.") from None
    return Document(name, value, lines)


def _refuse_anchors(text: str, name: str) -> None:
    """Before anything is composed: an alias would be the same node many times over."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            mark = event.start_mark
            line = mark.line + 1 if mark is not None else 1
            raise UsageError(f"{name}:{line}: anchors and aliases are not read here.", "Write the value out.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise UsageError(f"{name} is nested too deeply.", f"Use at most {MAX_DEPTH} levels.")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _value(node: yaml.Node, path: Path_, lines: dict[Path_, int], name: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, name)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), lines, name) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    found: dict[str, Any] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{name}:{line}: a key must be a word.", "Correct that line.")
        word = str(key.value)
        if word in found:
            raise UsageError(f"{name}:{line}: {word!r} stands here twice.", "Keep one of them.")
        found[word] = _value(item, (*path, word), lines, name)
        lines[(*path, word)] = line
    return found


def _scalar(node: yaml.ScalarNode, name: str) -> Any:
    text = str(node.value)
    if not node.tag.startswith("tag:yaml.org,2002:"):
        line = node.start_mark.line + 1
        raise UsageError(f"{name}:{line}: the tag {node.tag} is not read here.", "Write a plain value.")
    if node.style:  # quoted, or a block
        return text
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 300:  # digits beyond any number that is meant
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
