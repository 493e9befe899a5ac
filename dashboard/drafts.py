"""A rule drafted from a query that a person kept: what is to be filled in is marked, and nothing runs."""

from __future__ import annotations

import yaml


class _Text(str):
    """Text that is written as a block."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


def _block(dumper: yaml.SafeDumper, data: _Text) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|")


_Dumper.add_representer(_Text, _block)


def rule_draft(name: str, statement: str) -> str:
    """The YAML of a rule in staging: its query from `statement`, and stubs of two tests.

    It does not load as it is: a rule's query names its key, time and evidence (docs/rules.md), and its tests
    say what must come of which events.
    """
    head = "-- TODO one row per completing row: the key's columns, time, evidence (docs/rules.md)"
    draft = {
        "title": "TODO in a sentence",
        "id": name,
        "status": "experimental",
        "state": "staging",
        "description": "TODO what it finds, and why that matters.",
        "level": "medium",
        "falsepositives": ["TODO what looks like it and is none."],
        "window": "1h",
        "suppress": "1h",
        "key": ["principal"],
        "runbook": "repeated-denies.md",
        "query": _Text(f"{head}\n{statement.strip()}\n"),
        "tests": [
            {"name": "TODO fires", "events": [{"at": "0s"}], "alerts": [{"key": ["TODO"]}]},
            {"name": "TODO does not fire", "events": [{"at": "0s"}]},
        ],
    }
    return yaml.dump(draft, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
