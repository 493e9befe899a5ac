"""Writes the generated parts of the documentation: `python docs/generate.py`.

A page keeps its own words; what stands between the lines `<!-- generated: NAME -->` and
`<!-- end -->` is made here, so that it cannot drift from the code. `tests/unit/test_docs.py`
fails where a page differs from what this makes.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ledger.events import FIELDS, VOCABULARIES
from ledger.settings.option_names import command_of, commands, config_key, is_option, is_setting, variable

DOCS: Final = Path(__file__).resolve().parent
PROGRAM: Final = "decision-ledger"
_PART: Final = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->\n)", re.DOTALL
)
_TYPE_WORDS: Final = {
    "text": "text", "list": "list of text", "int": "integer", "bool": "boolean", "time": "time",
}  # fmt: skip


def program() -> Any:
    """The whole program as one command object."""
    import decision_ledger  # noqa: PLC0415 - the field table needs none of it

    return command_of(decision_ledger.app)


def command_pages() -> str:
    """One section per command: help, usage, arguments, options."""
    whole = program()
    sections = ["## Before the command", "", *_options((), whole), ""]
    for words, command in commands(whole):
        sections += _section(words, command)
    return "\n".join(sections).rstrip("\n") + "\n"


def field_table() -> str:
    """One row per field of an event."""
    lines = ["| field | type | required | meaning |", "| --- | --- | --- | --- |"]
    for field in FIELDS:
        kind = _TYPE_WORDS[field.type]
        if field.name == "attributes":
            kind = "text holding a JSON object"
        words = VOCABULARIES.get(field.name)
        meaning = field.description
        if words is not None and field.name != "kind":
            meaning += f": {', '.join(words)}"
        lines.append(f"| `{field.name}` | {kind} | {'yes' if field.required else ''} | {_cell(meaning)} |")
    return "\n".join(lines) + "\n"


def reliability_tables() -> str:
    """What each campaign of `make faults` did, and how often what must not happen happened."""
    held = json.loads((DOCS / "reliability.json").read_text("utf-8"))
    lines = [
        "| campaign | what it shows | cases | what must not happen | commit |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in held.items():
        wrong = ", ".join(f"{word} **{number:,}**" for word, number in one["wrong"].items())
        lines.append(f"| {name} | {_cell(one['shows'])} | {one['cases']:,} | {wrong} | {one['commit']} |")
    lines += ["", "What was done in them:", ""]
    for name, one in held.items():
        counts = ", ".join(f"{word} {number:,}" for word, number in one["counts"].items())
        lines.append(f"- **{name}**, {one['seconds']:,.0f} s on {one['machine']}: {counts}.")
    return "\n".join(lines) + "\n"


def performance_table() -> str:
    """One row per figure of `make bench`, and the machine that they are of."""
    held = _performance()
    machine = held["machine"]
    compared = {name: one for name, one in held["figures"].items() if "peer" in one}
    lines = [
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}.",
        "",
        "| figure | what | ours | the peer's | ratio | spread | target | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in sorted(compared.items()):
        low, high = one["spread"]
        targets = [] if one["target"] is None else [f"{one['target']:g}"]
        if one.get("value_target") is not None:
            targets.append(f"{one['value_target']:g} {one['unit']}")
        lines.append(
            f"| `{name}` | {one['says']} | {_number(one['value'])} {one['unit']} | {one['peer']}: "
            f"{_number(one['peer_value'])} | {one['ratio']:.2f} | {low:.2f} to {high:.2f} "
            f"| {', '.join(targets)} | {one['commit']} |"
        )
    return "\n".join(lines) + "\n"


def parts_table() -> str:
    """One row per figure of `make bench-parts`."""
    lines = ["| figure | value | spread | target | commit |", "| --- | --- | --- | --- | --- |"]
    for name, figure in sorted(_performance()["figures"].items()):
        if "peer" in figure:
            continue
        low, high = figure["spread"]
        target = "" if figure["target"] is None else f"{figure['target']:g}"
        lines.append(
            f"| `{name}` | {figure['value']:g} {figure['unit']} | {low:g} to {high:g} | {target} "
            f"| {figure['commit']} |"
        )
    return "\n".join(lines) + "\n"


def stage_table() -> str:
    """One row per stage of sealing, and what it could not go below."""
    lines = []
    for one in _performance().get("profiles", {}).values():
        lines += [
            f"{one['unit']}, over {one['events']:,} events, at {one['commit']}:",
            "",
            "| stage | cost | what it could not go below | |",
            "| --- | --- | --- | --- |",
        ]
        for row in one["stages"]:
            least = "" if row["least"] is None else f"{row['least']:.2f}"
            lines.append(f"| {row['stage']} | {row['cost']:.2f} | {row['limit'] or ''} | {least} |")
        lines.append(f"| all of them | {sum(row['cost'] for row in one['stages']):.2f} | | |")
    return "\n".join(lines) + "\n"


def curve_tables() -> str:
    """For each curve its picture, and one row per quantity."""
    lines = []
    for name, curve in sorted(_performance().get("curves", {}).items()):
        sizes = [
            size
            for size in curve["sizes"]
            if any(size == at for one in curve["lines"].values() for at, _ in one["points"])
        ]
        lines += [f"### {curve['says']}", "", f"![{curve['says']}](pictures/curve-{name}.svg)", ""]
        lines.append(f"| at {curve['commit']} | {' | '.join(f'{size:,}' for size in sizes)} | target |")
        lines.append("| --- |" + " --- |" * (len(sizes) + 1))
        for what, line in curve["lines"].items():
            values = dict(line["points"])
            told = [f"{_number(values[size])} {line['unit']}" if size in values else "" for size in sizes]
            bound = "at least" if line["rising"] else "at most"
            targets = {f"{bound} {_number(value)} {line['unit']}" for value in line["targets"].values()}
            lines.append(f"| {what} | {' | '.join(told)} | {', '.join(sorted(targets))} |")
        lines.append("")
    return "\n".join(lines)


def curve_plots() -> dict[str, str]:
    """The picture of each curve, by its path under docs/."""
    plots = importlib.import_module("plots")  # beside this file; it needs what only developers have
    return {
        f"pictures/curve-{name}.svg": plots.plot(one)
        for name, one in _performance().get("curves", {}).items()
    }


def _number(value: float) -> str:
    """Four digits that count, and no powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def _performance() -> Any:
    return json.loads((DOCS / "performance.json").read_text("utf-8"))


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "commands": command_pages,
    "fields": field_table,
    "performance": performance_table,
    "performance-curves": curve_tables,
    "performance-parts": parts_table,
    "performance-stages": stage_table,
    "reliability": reliability_tables,
}
PAGES: Final = ("commands.md", "event-model.md", "performance.md", "reliability.md")


def renewed(text: str) -> str:
    """A page with its generated parts made anew. Raises KeyError for a part that nobody makes."""
    return _PART.sub(lambda match: f"{match['begin']}\n{PARTS[match['name']]()}\n{match['end']}", text)


def registry_schemas() -> dict[str, str]:
    """The JSON Schema of each registry file, by its path under docs/."""
    from issuer.registry.exceptions import ExceptionRecord  # noqa: PLC0415 - only for these files
    from issuer.registry.registry import FILES  # noqa: PLC0415 - only for these files

    models = {name: (section, model) for name, (section, model, _) in FILES.items()}
    models["exceptions.yml"] = ("exceptions", ExceptionRecord)
    found = {}
    for name, (section, model) in models.items():
        record = model.model_json_schema()
        defs = record.pop("$defs", {})
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": name,
            "type": "object",
            "required": [section],
            "additionalProperties": False,
            "properties": {section: {"type": "array", "items": record}},
            **({"$defs": defs} if defs else {}),
        }
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        found[f"schemas/{name.removesuffix('.yml')}.json"] = text
    return found


def rule_schema() -> str:
    """The JSON Schema of a rule's file, for editors."""
    from detections.rulebook.rule import Rule  # noqa: PLC0415 - only for this file

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema", **Rule.model_json_schema(),
        "title": "A rule of Decision Ledger", "description": "docs/rules.md says what each field means.",
    }  # fmt: skip
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Renew the generated parts of every page."""
    for path, text in {**registry_schemas(), "schemas/rule.json": rule_schema(), **curve_plots()}.items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text, "utf-8")
    for name in PAGES:
        page = DOCS / name
        page.write_text(renewed(page.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"wrote {', '.join(PAGES)}\n")


def _section(words: tuple[str, ...], command: Any) -> list[str]:
    said = inspect.cleandoc(command.help or "").partition("\nExample: ")
    usage = [PROGRAM, *words]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage += ["[OPTIONS]", *(_usage_of(argument) for argument in arguments)]
    lines = [
        f"## {' '.join(words)}",
        "",
        " ".join(said[0].split()),
        "",
        "```text",
        " ".join(usage),
        "```",
        "",
    ]
    if said[2]:
        lines += ["```sh", " ".join(said[2].split()), "```", ""]
    if arguments:
        lines += ["| argument | meaning |", "| --- | --- |"]
        lines += [f"| `{_metavar(argument)}` | {_cell(argument.help or '')} |" for argument in arguments]
        lines.append("")
    return [*lines, *_options(words, command), ""]


def _options(words: tuple[str, ...], command: Any) -> list[str]:
    lines = ["| option | default | variable | key | meaning |", "| --- | --- | --- | --- | --- |"]
    for option in filter(is_option, command.params):
        names = ", ".join(f"`{name}`" for name in option.opts)
        set_by = f"`{variable(words, option)}` | `{config_key(words, option)}`" if is_setting(option) else "|"
        lines.append(f"| {names} | {_default(option)} | {set_by} | {_cell(option.help or '')} |")
    return lines


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.default is None or option.default is False or not isinstance(option.default, str | int | float):
        return ""
    return f"`{option.default}`"


def _usage_of(argument: Any) -> str:
    name = _metavar(argument) + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _metavar(argument: Any) -> str:
    return str(argument.metavar or argument.name).strip("[]").removesuffix("...").upper()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    main()
