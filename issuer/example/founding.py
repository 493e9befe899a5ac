"""Writes the example into a folder: registry, policies, keys, trust bundles, passwords."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from joserfc.jwk import OKPKey

from issuer.authority.passwords import hashed
from issuer.policy.bundle import read_bundle
from issuer.policy.review import make_review
from issuer.registry.identities import environment_of, spiffe_id
from issuer.registry.registry import FILES, judge
from issuer.registry.trust import PEOPLE, trust_document
from issuer.tokens.keys import make_key, private_members
from ledger.errors import UsageError
from ledger.settings import private_files
from ledger.settings.yaml_file import read_yaml

MODELS: Final = (*FILES, "exceptions.yml")
BUNDLE: Final = "agents-1"
REVIEWER: Final = "user:dan"
CLIENT: Final = "dashboard"


def write_example(folder: Path, *, now: float, make: Callable[[], OKPKey] = make_key) -> dict[str, str]:
    """A working example in `folder`, which must be empty or new; the passwords of its people.

    Raises:
        UsageError: something stands there already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", "Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with resources.as_file(resources.files("issuer.example")) as source:
        for name in MODELS:
            shutil.copyfile(source / name, folder / name)
        shutil.copytree(source / "policies", folder / "policies")
    passwords = _set_passwords(folder)
    people = _write_keys(folder, make)
    bundle = read_bundle(folder / "policies" / BUNDLE)
    (folder / "reviews").mkdir()
    review = make_review(bundle, REVIEWER, people[REVIEWER], now=now)
    (folder / "reviews" / f"{bundle.digest}.jws").write_text(review + "\n")
    return passwords


def key_path(folder: Path, owner: str) -> Path:
    """Where the private key of a workload or person lies."""
    kind, _, name = owner.partition(":")
    if kind == "user":
        return folder / "keys" / PEOPLE / f"{name}.jwk"
    return folder / "keys" / environment_of(owner) / f"{kind}-{name.partition('/')[2]}.jwk"


def write_private(path: Path, text: str) -> None:
    """A new file that only its owner may read, in a folder of the same kind."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    private_files.write_private(path, text)


def _set_passwords(folder: Path) -> dict[str, str]:
    path = folder / "users.yml"
    users, _ = judge(read_yaml(path), "users")
    passwords = {name: secrets.token_urlsafe(12) for name in users}
    _fill(path, {f'id: "{name}"': ("password", word) for name, word in passwords.items()})
    passwords[CLIENT] = secrets.token_urlsafe(24)
    _fill(folder / "clients.yml", {f"id: {CLIENT}": ("secret", passwords[CLIENT])})
    write_private(folder / "passwords.json", json.dumps(passwords, indent=2) + "\n")
    return passwords


def _fill(path: Path, secret_of: Mapping[str, tuple[str, str]]) -> None:
    """Add the hash of a secret to each line that holds one of these texts."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        found = next((secret for text, secret in secret_of.items() if text in line), None)
        if found is None:
            lines.append(line)
            continue
        kept = hashed(found[1], secrets.token_bytes(16))
        lines.append(f'{line.rstrip().removesuffix("}")}, {found[0]}: "{kept}"}}')
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)


def _write_keys(folder: Path, make: Callable[[], OKPKey]) -> Mapping[str, OKPKey]:
    agents, _ = judge(read_yaml(folder / "agents.yml"), "agents")
    users, _ = judge(read_yaml(folder / "users.yml"), "users")
    bundles: dict[str, dict[str, OKPKey]] = {PEOPLE: {}}
    for owner in (*agents, *users):
        key = make()
        write_private(key_path(folder, owner), json.dumps(private_members(key)) + "\n")
        if owner in users:
            bundles[PEOPLE][owner] = key
        else:
            bundles.setdefault(environment_of(owner), {})[spiffe_id(owner)] = key
    (folder / "trust").mkdir()
    for environment, keys in bundles.items():
        text = json.dumps(trust_document(keys), indent=2) + "\n"
        (folder / "trust" / f"{environment}.json").write_text(text)
    return bundles[PEOPLE]
