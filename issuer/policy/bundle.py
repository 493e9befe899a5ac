"""A policy bundle: one folder, one digest.

bundle.yml          name, version, author, created
*.cedarschema       exactly one: what a policy may speak of
*.cedar             the policies, each with an `@id` of its own
scenarios/*.yml     what must hold before anybody may activate it
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Final

import cedarpy
from pydantic import StringConstraints, ValidationError

from issuer.registry.faults import first_problem
from issuer.registry.words import Name, Principal, Record, Time
from ledger.errors import UsageError
from ledger.settings.yaml_file import parse_yaml

MAX_FILES: Final = 200
MAX_BYTES: Final = 4 * 1024 * 1024

Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")]


class About(Record):
    """What `bundle.yml` says."""

    name: Name
    version: Version
    author: Principal
    created: Time


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that Cedar has read and found to fit its schema."""

    about: About
    digest: str
    files: Mapping[str, bytes]
    """Every file by its path in the folder, with `/`."""
    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    reasons: Mapping[str, str]
    """`@reason` of each policy by its `@id`, where it has one."""

    @property
    def version(self) -> str:
        """The version that decisions carry."""
        return self.about.version

    @property
    def scenario_files(self) -> dict[str, bytes]:
        """The scenario tests by path."""
        return {path: data for path, data in self.files.items() if path.startswith("scenarios/")}


def read_bundle(folder: Path) -> Bundle:
    """The bundle in a folder.

    Raises:
        UsageError: there is none, or it is not what `bundle_of` takes.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no policy bundle {folder}.", "Name a folder with a bundle.yml.")
    files: dict[str, bytes] = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or path.is_dir():
            continue
        if path.is_symlink():
            raise UsageError(f"{path} is a link.", "A bundle holds its files itself.")
        size += path.stat().st_size
        if len(files) >= MAX_FILES or size > MAX_BYTES:
            raise UsageError(
                f"{folder} has more than {MAX_FILES} files or {MAX_BYTES:,} bytes.",
                "Name the bundle's folder.",
            )
        files[inside.as_posix()] = path.read_bytes()
    return bundle_of(files, str(folder))


def bundle_of(files: Mapping[str, bytes], name: str) -> Bundle:
    """The bundle that these files are; `name` is what errors call it.

    Raises:
        UsageError: a file is missing or superfluous, a policy has no `@id` or another's, or does not fit
            the schema.
    """
    about = _about(files, name)
    for path in files:
        parts = PurePosixPath(path)
        known = path == "bundle.yml" or parts.suffix in (".cedar", ".cedarschema", ".md")
        if not known and not (parts.parts[0] == "scenarios" and parts.suffix == ".yml"):
            raise UsageError(f"{name}/{path} is no part of a bundle.", "Take it out of the folder.")
    schemas = [path for path in files if path.endswith(".cedarschema")]
    if len(schemas) != 1:
        raise UsageError(f"{name} has {len(schemas)} schemas.", "Give it one file *.cedarschema.")
    text = _policy_text(files, name)
    try:
        schema = cedarpy.Schema.from_str(_text(files[schemas[0]], f"{name}/{schemas[0]}"))
    except ValueError as error:
        raise UsageError(f"{name}/{schemas[0]} is no schema: {_line(error)}.", "Correct it.") from None
    try:
        policies = cedarpy.PolicySet.from_str(text)
        found = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    except ValueError as error:
        raise UsageError(f"The policies of {name} cannot be read: {_line(error)}.", "Correct them.") from None
    reasons = _annotations(found, name)
    judged = cedarpy.validate_policies(text, _text(files[schemas[0]], schemas[0]))
    if not judged:
        first = str(judged.errors[0]) if judged.errors else "no reason given"
        raise UsageError(f"The policies of {name} do not fit its schema: {_line(first)}.", "Correct them.")
    return Bundle(about, digest_of(files), dict(files), policies, schema, reasons)


def digest_of(files: Mapping[str, bytes]) -> str:
    """Hex SHA-256 over the sorted list of (path, hex SHA-256 of the file), as compact JSON."""
    listed = [[path, hashlib.sha256(files[path]).hexdigest()] for path in sorted(files)]
    return hashlib.sha256(json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def policy_texts(bundle: Bundle) -> dict[str, str]:
    """Each policy in Cedar's own formatting by its `@id`: two bundles are compared by these."""
    found: dict[str, str] = {}
    for name, policy in json.loads(cedarpy.policies_to_json_str(_policy_text(bundle.files, "")))[
        "staticPolicies"
    ].items():
        one = json.dumps({"staticPolicies": {name: policy}, "templates": {}, "templateLinks": []})
        found[policy["annotations"]["id"]] = cedarpy.policies_from_json_str(one).strip()
    return found


def _about(files: Mapping[str, bytes], name: str) -> About:
    if "bundle.yml" not in files:
        raise UsageError(f"{name} has no bundle.yml.", "Write name, version, author and created into it.")
    document = parse_yaml(files["bundle.yml"], f"{name}/bundle.yml")
    try:
        return About.model_validate(document.value)
    except ValidationError as error:
        raise UsageError(f"{name}/bundle.yml: {first_problem(error)[1]}", "Correct it.") from None


def _policy_text(files: Mapping[str, bytes], name: str) -> str:
    paths = sorted(path for path in files if path.endswith(".cedar"))
    if not paths:
        raise UsageError(f"{name} has no policies.", "Write them into files *.cedar.")
    return "\n".join(_text(files[path], f"{name}/{path}") for path in paths)


def _annotations(policies: Mapping[str, Mapping[str, object]], name: str) -> dict[str, str]:
    """`@reason` by `@id`.

    Raises:
        UsageError: a policy has no `@id`, or one that another has.
    """
    ids: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for policy in policies.values():
        notes = policy.get("annotations") or {}
        assert isinstance(notes, dict)
        own = notes.get("id")
        if not own:
            raise UsageError(f"{name} has a policy without an @id.", 'Write @id("a-name") before it.')
        ids[own] += 1
        if notes.get("reason"):
            reasons[own] = notes["reason"]
    if doubled := sorted(own for own, count in ids.items() if count > 1):
        raise UsageError(f"{name} has two policies with @id {doubled[0]!r}.", "Give each a name of its own.")
    return reasons


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text.", "Save it as UTF-8.") from None


def _line(error: object) -> str:
    return " ".join(str(error).split())[:400].rstrip(".")
