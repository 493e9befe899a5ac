"""Which format reads the messages of a topic, and what its intake may deliver: one file for several topics.

[kafka]
bootstrap = "broker:9092"

[[kafka.topic]]
name = "cerbos.audit.log"
format = "cerbos"
intake = { kinds = ["decision"], sources = ["cerbos/*"] }
options = { source = "cerbos/payments" }

[[kafka.topic]]
name = "decisions"
intake = "native.toml"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.adapters import adapter
from ingest.decoded import Adapter
from ingest.intakes import IntakeSettings, intake_of, read_intake, read_toml
from ledger.errors import UsageError


@dataclass(frozen=True, slots=True)
class Route:
    """How messages are read, and what they may deliver."""

    adapter: Adapter
    settings: IntakeSettings


class TopicLine(BaseModel):
    """One topic of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=249)
    format: str = "native"
    intake: str | dict[str, Any] = Field(default_factory=dict)
    """An intake file, beside this one; or what stands under `[intake]` in one."""
    limits: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


class KafkaPart(BaseModel):
    """What stands under `[kafka]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap: str | None = None
    group: str | None = None
    client: dict[str, Any] = Field(default_factory=dict)
    """Settings of the client, as in a `--client-config` file."""
    topic: list[TopicLine] = Field(min_length=1, max_length=1_000)


@dataclass(frozen=True, slots=True)
class TopicsFile:
    """A file of topics, read and understood."""

    kafka: KafkaPart
    routes: Mapping[str, Route] = field(default_factory=dict)


def read_topics(path: Path) -> TopicsFile:
    """The topics of a file, each with its format and its intake.

    A source that one topic's intake names belongs to it: the others do not deliver it, unless they name it
    as well.

    Raises:
        UsageError: it cannot be read, or something in it is unknown or unusable.
    """
    value = read_toml(path, "file", "--topics")
    for name in sorted(set(value) - {"kafka"}):
        raise UsageError(f"{path} has an unknown section [{name}].", "Use [kafka] and [[kafka.topic]].")
    try:
        kafka = KafkaPart.model_validate(value.get("kafka", {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("kafka", *first["loc"])))
        raise UsageError(f"{path} is not valid at {where}: {first['msg']}.", "Correct it.") from None
    settings: dict[str, IntakeSettings] = {}
    for line in kafka.topic:
        if line.name in settings:
            raise UsageError(f"{path} names the topic {line.name} twice.", "Keep one of them.")
        settings[line.name] = _settings(path, line)
    routes = {
        line.name: Route(adapter(line.format, settings[line.name].options), _apart(line.name, settings))
        for line in kafka.topic
    }
    return TopicsFile(kafka, routes)


def _settings(path: Path, line: TopicLine) -> IntakeSettings:
    if isinstance(line.intake, dict):
        sections = {"intake": line.intake, "limits": line.limits, "options": line.options}
        return intake_of(sections, line.name, f"{path}: topic {line.name}")
    if line.limits or line.options:
        raise UsageError(
            f"{path}: the topic {line.name} has an intake file and settings of its own.",
            "Keep limits and options in the intake file.",
        )
    return read_intake(path.parent / line.intake, line.name)


def _apart(name: str, settings: Mapping[str, IntakeSettings]) -> IntakeSettings:
    """The settings of a topic without the sources that others name."""
    own = settings[name]
    others = {
        source
        for other, told in settings.items()
        if other != name
        for source in told.intake.sources
        if source != "*" and source not in own.intake.sources
    }
    claimed = tuple(sorted({*own.intake.claimed_by_others, *others}))
    return replace(own, intake=own.intake.model_copy(update={"claimed_by_others": claimed}))
