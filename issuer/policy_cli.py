"""Commands over policy bundles: issuer policy test, diff, review, activate, rollback, history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from issuer.defaults import DEFAULT_FOLDER
from ledger.console import JsonOption, answer
from ledger.errors import UsageError
from ledger.format.plain_text import plain

if TYPE_CHECKING:
    from issuer.policy.bundle import Bundle

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


@policy_app.command("activate")
def activate_policy(
    bundle: BundleArgument,
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")] = "a new version",
    approval_id: Annotated[str | None, typer.Option(help="The change or approval that it rests on.")] = None,
    folder: FolderOption = Path(DEFAULT_FOLDER),
    as_json: JsonOption = False,
) -> None:
    """Let a bundle decide from the next request on: its tests pass, and somebody else has reviewed it.

    Example: decision-ledger issuer policy activate policies/agents-2 --reason "tighter risk" --state company
    """
    from issuer.policy.activation import ACTIVATED
    from issuer.policy.bundle import read_bundle

    _activate(folder, read_bundle(bundle), reason, approval_id, outcome=ACTIVATED, as_json=as_json)


@policy_app.command("rollback")
def roll_back_policy(
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    to: Annotated[
        str | None, typer.Option(help="A version, or the beginning of a digest; else the one before.")
    ] = None,
    approval_id: Annotated[str | None, typer.Option(help="The change or approval that it rests on.")] = None,
    folder: FolderOption = Path(DEFAULT_FOLDER),
    as_json: JsonOption = False,
) -> None:
    """Go back to an earlier bundle, through the same tests and the same gate.

    Example: decision-ledger issuer policy rollback --reason "denies refunds" --approval-id CHG-7
    """
    from issuer.policy.activation import ROLLED_BACK, earlier_bundle
    from issuer.state.opening import open_state

    with open_state(folder) as recorder:
        bundle = earlier_bundle(recorder.db, to)
    _activate(folder, bundle, reason, approval_id, outcome=ROLLED_BACK, as_json=as_json)


@policy_app.command("history")
def show_history(folder: FolderOption = Path(DEFAULT_FOLDER), as_json: JsonOption = False) -> None:
    """Which policy was active when, by whose word, and why; the last line is active.

    Example: decision-ledger issuer policy history --state company --json
    """
    from dataclasses import asdict

    from issuer.emitting.steps import time_text
    from issuer.state.opening import open_state
    from issuer.state.policies import history
    from ledger.console import table_text

    with open_state(folder) as recorder:
        lines = history(recorder.db)
    value = [{**asdict(line), "at": time_text(line.at)} for line in lines]
    columns = ["at", "version", "outcome", "approved_by", "approval_id", "reason", "digest"]
    answer(value, table_text(columns, [[row[name] for name in columns] for row in value]), as_json)


def _activate(
    folder: Path, bundle: Bundle, reason: str, approval_id: str | None, *, outcome: str, as_json: bool
) -> None:
    from issuer.policy.activation import activate
    from issuer.policy.review_files import reviews_of
    from issuer.registry.registry import read_registry
    from issuer.registry.trust import read_trust
    from issuer.state.opening import open_state

    trust = read_trust(folder / "trust")
    with open_state(folder) as recorder:
        done = activate(
            recorder.db, recorder, read_registry(folder), bundle, reviews=reviews_of(folder, bundle.digest),
            owner_of=trust.owner_of, reason=reason, outcome=outcome, approval_id=approval_id,
        )  # fmt: skip
    answer(
        {"version": done.version, "digest": done.digest, "approved_by": done.approved_by, "outcome": outcome},
        f"{bundle.about.name} {done.version} decides from now on (digest {done.digest}, "
        f"reviewed by {done.approved_by}).",
        as_json,
    )
