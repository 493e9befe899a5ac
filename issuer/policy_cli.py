"""Commands over policy bundles: issuer policy test, diff, review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import DEFAULT_FOLDER
from ledger.console import JsonOption, answer
from ledger.errors import UsageError
from ledger.format.plain_text import plain

policy_app = typer.Typer(no_args_is_help=True, help="Policy bundles: test, review, activate, roll back.")

FolderOption = Annotated[
    Path, typer.Option("--state", envvar="DECISION_LEDGER_ISSUER_STATE", help="The issuer's folder.")
]
BundleArgument = Annotated[Path, typer.Argument(help="A bundle's folder.")]


@policy_app.command("test")
def run_tests(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Run the scenario tests of a bundle; exit 1 where one fails.

    Example: decision-ledger issuer policy test policies/agents-1
    """
    from issuer.policy.bundle import read_bundle
    from issuer.policy.scenario_tests import run_scenarios

    read = read_bundle(bundle)
    outcomes = run_scenarios(read)
    failed = [outcome for outcome in outcomes if not outcome.ok]
    value = {
        "name": read.about.name, "version": read.version, "digest": read.digest, "ok": not failed,
        "tests": len(outcomes),
        "failed": [
            {"file": one.file, "line": one.line, "name": one.name, "expected": one.expected, "got": one.got}
            for one in failed
        ],
    }  # fmt: skip
    lines = [
        f"{bundle / one.file}:{one.line}: {one.name}: expected {one.expected}, got {one.got}"
        for one in failed
    ]
    lines.append(
        f"{read.about.name} {read.version} (digest {read.digest}): {len(outcomes)} scenario tests, "
        f"{len(failed)} failed."
    )
    answer(value, "\n".join(plain(line) for line in lines), as_json)
    if failed:
        raise typer.Exit(1)


@policy_app.command("diff")
def diff_policies(
    before: BundleArgument,
    after: Annotated[Path, typer.Argument(help="The bundle to compare with it.")],
    as_json: JsonOption = False,
) -> None:
    """What changes from one bundle to another, policy by policy.

    Example: decision-ledger issuer policy diff policies/agents-1 policies/agents-2
    """
    from issuer.policy.bundle import policy_texts, read_bundle

    old, new = read_bundle(before), read_bundle(after)
    left, right = policy_texts(old), policy_texts(new)
    changes = [
        {"policy": name, "change": change, "before": left.get(name), "after": right.get(name)}
        for name in sorted({*left, *right})
        if (change := _change(left.get(name), right.get(name))) is not None
    ]
    others = [
        path
        for path in sorted({*old.files, *new.files})
        if not path.endswith(".cedar") and path != "bundle.yml" and old.files.get(path) != new.files.get(path)
    ]
    value = {"before": old.version, "after": new.version, "policies": changes, "files": others}
    lines = [f"{old.about.name} {old.version} -> {new.about.name} {new.version}"]
    for one in changes:
        lines.append(f"{one['change']} {one['policy']}")
        lines += [f"  - {line}" for line in (one["before"] or "").splitlines()]
        lines += [f"  + {line}" for line in (one["after"] or "").splitlines()]
    lines += [f"changed file {path}" for path in others]
    if not changes and not others:
        lines.append("no difference")
    answer(value, "\n".join(plain(line) for line in lines), as_json)


def _change(before: str | None, after: str | None) -> str | None:
    if before == after:
        return None
    if before is None:
        return "added"
    return "removed" if after is None else "changed"


@policy_app.command("review")
def review_policy(
    bundle: BundleArgument,
    reviewer: Annotated[
        str, typer.Option("--reviewer", help="Who agrees, such as user:dan; not its author.")
    ],
    folder: FolderOption = Path(DEFAULT_FOLDER),
    key: Annotated[
        Path | None, typer.Option("--reviewer-key", help="The reviewer's key; else the folder's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Record somebody else's word, under that person's key, that a bundle may be activated.

    Example: decision-ledger issuer policy review policies/agents-2 --reviewer user:dan
    """
    import time

    from issuer.example.founding import key_path
    from issuer.policy.bundle import read_bundle
    from issuer.policy.review import make_review
    from issuer.policy.review_files import add_review
    from issuer.registry.private_keys import read_private_key

    read = read_bundle(bundle)
    if not reviewer.startswith("user:"):
        raise UsageError(f"{reviewer!r} is no person.", "Write it as user:name.")
    signed = make_review(read, reviewer, read_private_key(key or key_path(folder, reviewer)), now=time.time())
    path = add_review(folder, read.digest, signed)
    answer(
        {"digest": read.digest, "reviewer": reviewer, "file": str(path)},
        f"{plain(reviewer)} agrees to {read.about.name} {read.version}, digest {read.digest}: {path}",
        as_json,
    )
