"""Settings of one intake, from a TOML file: its authority, limits, and its format's options.

[intake]
name = "opa-prod"
kinds = ["decision"]
sources = ["opa/*"]
[limits]
message_bytes = 1048576
[options.paths."authz/allow"]
decision = "/allowed"
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ingest.authority import Intake
from ingest.decoded import Limits
from ledger.errors import UsageError
from ledger.events import KINDS


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """What one intake may deliver, how large its messages may be, and how its format is read."""

    intake: Intake
    limits: Limits = field(default_factory=Limits)
    options: Mapping[str, Any] = field(default_factory=dict)


def read_intake(path: Path | None, name: str) -> IntakeSettings:
    """The settings in `path`, or the defaults for the intake `name`. Raises UsageError."""
    if path is None:
        return IntakeSettings(Intake(name=name))
    return intake_of(read_toml(path, "intake file", "--intake"), name, str(path))


def read_toml(path: Path, what: str, option: str) -> dict[str, Any]:
    """The content of a settings file. Raises UsageError."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no {what} {path}.", f"Correct {option}.") from None
    except OSError as error:
        raise UsageError(
            f"The {what} {path} cannot be read: {error.strerror}.", f"Correct {option}, or its permissions."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The {what} {path} is not TOML: {error}.", "Correct that place.") from None


def intake_of(value: Mapping[str, Any], name: str, place: str) -> IntakeSettings:
    """The settings that sections `intake`, `limits` and `options` state; `place` is told in errors.

    Raises:
        UsageError: one of them is unknown or unusable.
    """
    unknown = sorted(set(value) - {"intake", "limits", "options"})
    if unknown:
        raise UsageError(f"{place} has an unknown section [{unknown[0]}].", "Use intake, limits, options.")
    limits = _section(value, "limits", place)
    known = {item.name for item in fields(Limits)}
    for item, bound in limits.items():
        if item not in known:
            raise UsageError(f"{place}: there is no limit {item}.", f"Use {', '.join(sorted(known))}.")
        if type(bound) is not int or bound < 1:
            raise UsageError(f"{place}: the limit {item} is {bound!r}.", "Write a whole number above zero.")
    told = _section(value, "intake", place)
    for item in sorted(set(told) - set(Intake.model_fields)):
        raise UsageError(
            f"{place}: [intake] has no option {item}.", f"Use {', '.join(sorted(Intake.model_fields))}."
        )
    try:
        intake = Intake.model_validate({"name": name, **told})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        wanted = first["msg"].replace("valid tuple", "list").replace("valid frozenset", "list")
        raise UsageError(
            f"The intake file {place} is not valid at {where}: {wanted}.", "docs/guide shows each setting."
        ) from None
    if unheard := sorted(intake.kinds - {*KINDS}):
        raise UsageError(f"{place}: there is no kind {unheard[0]}.", f"Use {', '.join(sorted(KINDS))}.")
    options = _options(place, intake, _section(value, "options", place))
    return IntakeSettings(intake, Limits(**limits), options)


def _section(value: Mapping[str, Any], name: str, place: str) -> dict[str, Any]:
    section = value.get(name, {})
    if not isinstance(section, dict):
        raise UsageError(
            f"{place}: [{name}] is no section.", f"Write it as [{name}] with a line for each setting."
        )
    return section


def of_people() -> IntakeSettings:
    """The intake of what people at the dashboard do."""
    return IntakeSettings(Intake(name="people", people=True))


def check_classes(settings: IntakeSettings, known: Collection[str]) -> None:
    """Raises UsageError where the intake permits a retention class that the ledger does not have.

    An event of such a class could never be sealed, however often its batch was tried.
    """
    if lacking := sorted(settings.intake.retention_classes - {*known}):
        raise UsageError(
            f"The intake {settings.intake.name} permits the retention class {', '.join(lacking)}, which this "
            f"ledger does not have: it has {', '.join(sorted(known))}.",
            "Seal it with `decision-ledger config load classes FILE`, or take it out of the intake.",
        )


def _options(place: str, intake: Intake, section: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options of the format, which may stand in `[options]` or under `[intake]`; each in one of them."""
    for name in sorted(set(section) & set(intake.options)):
        raise UsageError(
            f"{place} gives the option {name} twice.", "Keep it in [options] or in [intake] options."
        )
    return {**intake.options, **section}
