"""Commands on rules: detect run, test, rules, backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detections.defaults import MEMORY_MIB
from ledger.console import (
    AnchorOption,
    AtOption,
    JsonOption,
    KeyOption,
    LedgerOption,
    MetersOption,
    RetentionOption,
    VkeyOption,
    answer,
    configure_logs,
    ended_by_signals,
    note,
    open_ledger,
    shared,
    signing_key,
    store_at,
    table_text,
)

if TYPE_CHECKING:
    from detections.engine import Run

detect_app = typer.Typer(no_args_is_help=True, help="Rules, and what they find.")
RulesOption = Annotated[
    Path | None, typer.Option("--rules", help="A rule's file or a folder of them, instead of those sealed.")
]


@detect_app.command("run")
def detect_run(
    ledger: LedgerOption = None,
    key: KeyOption = None,
    once: Annotated[bool, typer.Option("--once", help="Judge what is there, and end.")] = False,
    routes: Annotated[
        Path | None, typer.Option("--routes", help="A YAML file: where alerts are sent.")
    ] = None,
    cursors: Annotated[
        Path | None, typer.Option("--cursors", help="Where it is kept how far each route has got.")
    ] = None,
    respond: Annotated[
        Path | None, typer.Option("--respond", help="A YAML file: revoke what alerts name, and where.")
    ] = None,
    memory: Annotated[
        int, typer.Option("--memory-mib", help="What rows and rules may take, in MiB.", min=256)
    ] = MEMORY_MIB,
    apply_retention: RetentionOption = False,
    anchor: AnchorOption = None,
    listen: MetersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every entry as it comes, and seal the alerts that result; Ctrl-C ends it.

    A ledger without sealed rules gets those that come with the product.

    Example: decision-ledger detect run --once
    """
    import threading

    from detections.config_files import seal_shipped_rules
    from detections.delivery.routes import read_routes
    from detections.following import Following
    from detections.response.settings import read_response
    from ledger.upkeep.keeping import Keeping
    from ledger.writer import Writer

    configure_logs(shared.verbose)
    ways = read_routes(routes) if routes is not None else []
    answers = read_response(respond) if respond is not None else None
    signing = signing_key(ledger, key)
    writer = Writer(store_at(ledger), signing, name="detections", remember=False)
    if number := seal_shipped_rules(writer):
        note(f"{number} rules sealed: those that come with the product.")
    folder = cursors or signing.path.with_name(f"{signing.path.name}.routes")
    keeping = Keeping(writer, apply_retention=apply_retention, anchors=anchor or ())
    following = Following(writer, folder, ways, answers, memory_mib=memory, keeping=keeping)
    try:
        if listen is not None:
            following.listen(listen)
        stopped = threading.Event()
        with ended_by_signals(stopped.set):
            value = following.until(
                stopped, lambda run: _tell(run, as_json=as_json or shared.json, once=once), once=once
            )
    finally:
        following.close()
    text = f"{value['steps']:,} alert steps sealed; judged to entry {value['judged']:,}."
    troubles = (f"  {name}: {said}" for name, said in value["troubles"].items())
    answer(value, "\n".join([text, *troubles]), as_json)


@detect_app.command("response")
def detect_response(
    path: Annotated[Path, typer.Argument(help="The file that `detect run --respond` is given.")],
    as_json: JsonOption = False,
) -> None:
    """What a response file says, and the public key that its receiver must list; makes the key if missing.

    Example: decision-ledger detect response response.yml
    """
    from detections.response.settings import read_response
    from detections.response.transmitter import make_key, public_part, read_key

    found = read_response(path)
    key = read_key(found.key_file) if found.key_file.exists() else make_key(found.key_file)
    stopped = found.stop_file.exists()
    value = {
        "signals": found.signals, "audience": found.audience, "per_hour": found.per_hour, "stopped": stopped,
        "transmitters": {found.issuer: {"keys": [public_part(key)]}},
    }  # fmt: skip
    text = "\n".join(
        [
            f"Alerts of rules with `respond: revoke` are answered at {found.signals},",
            f"at most {found.per_hour:,} times an hour.",
            f"Stopped: {found.stop_file} is there." if stopped else f"To stop it, make {found.stop_file}.",
            "The receiver lists this issuer and its key (`issuer serve`: transmitters.json in its folder):",
            json.dumps(value["transmitters"]),
        ]
    )
    answer(value, text, as_json)


@detect_app.command("test")
def detect_test(
    path: Annotated[
        Path | None, typer.Argument(help="A rule's file or a folder; else those shipped.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the tests inside rules; exit 1 where one fails, with what differs.

    Example: decision-ledger detect test my-rules/
    """
    from detections.rulebook.rule_files import read_rules, shipped_rules
    from detections.trial import try_rule

    verdicts = [one for rule in (read_rules(path) if path else shipped_rules()) for one in try_rule(rule)]
    failed = [one for one in verdicts if not one.passed]
    lines = []
    for one in failed:
        lines += [f"{one.rule_id}: {one.name}", *(f"  {problem}" for problem in one.problems)]
    lines.append(f"{len(verdicts) - len(failed)} of {len(verdicts)} tests pass.")
    value = [{"rule": one.rule_id, "test": one.name, "problems": list(one.problems)} for one in verdicts]
    answer(value, "\n".join(lines), as_json)
    if failed:
        raise typer.Exit(1)


@detect_app.command("rules")
def detect_rules(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    rules: RulesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rules with their state, level and tags, when each fired last, and how often it was wrong.

    Example: decision-ledger detect rules
    """
    from detections.rule_report import rule_report

    with open_ledger(ledger, vkey) as opened:
        found = rule_report(opened, rules)
    rows = (
        [one["id"], one["state"], one["level"], one["version"], " ".join(one["tags"]) or "-",
         one["last_fired"] or "never", one["alerts"],
         "no verdicts" if one["judged"] == 0 else f"{one['false_positives']} of {one['judged']}"]
        for one in found
    )  # fmt: skip
    columns = ["rule", "state", "level", "version", "tags", "last fired", "alerts", "false positives"]
    answer(found, table_text(columns, rows), as_json)


@detect_app.command("backtest")
def detect_backtest(
    context: typer.Context,
    files: Annotated[
        list[str] | None, typer.Argument(help="Files of events instead of a ledger; folders and globs too.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="The files' format, as of `ingest file`.")
    ] = "native",
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    at: AtOption = None,
    rules: RulesOption = None,
    expect: Annotated[
        Path | None, typer.Option("--expect", help="A YAML file of what must be found, and how often.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", help="So many alerts may come that no expectation names.", min=0)
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="Count alerts from this time on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Count alerts before this time.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the outcome as JUnit XML.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What rules would have found, without sealing anything; exit 1 where an expectation fails.

    Example: decision-ledger detect backtest --rules my-rules/ --expect expected.yml
    Example: decision-ledger detect backtest last-month.jsonl.gz --format opa
    """
    from detections.backtest import backtest, judge_backtest, read_expectations
    from ledger.errors import UsageError
    from ledger.reader import Ledger

    if files:
        if ledger is not None or at is not None or vkey is not None:
            raise UsageError("Files are judged instead of a ledger.", "Leave out --ledger, --at and --vkey.")
        with context.find_root().obj.sealed_in_passing(files, format_) as (folder, refused):
            if refused:
                note(f"{refused:,} messages are no events of this format: `ingest check` says why.")
            with Ledger.open(folder, remember=False) as opened:
                alerts = backtest(opened, rules, since=since, until=until)
    else:
        with open_ledger(ledger, vkey) as opened:
            alerts = backtest(opened, rules, at=at, since=since, until=until)
    wanted = read_expectations(expect) if expect is not None else []
    outcome = judge_backtest(alerts, wanted, budget)
    if junit is not None:
        junit.write_text(outcome.junit(), encoding="utf-8")
    columns = ["severity", "rule", "key", "count", "first seen", "outcome"]
    names = ["severity", "rule_id", "alert_key", "count", "first_seen", "outcome"]
    rows = ([one[name] for name in names] for one in outcome.alerts)
    text = "\n".join([table_text(columns, rows), f"{len(alerts):,} alerts.", *outcome.lines()])
    answer(outcome.as_json(), text, as_json)
    if not outcome.passed:
        raise typer.Exit(1)


def _tell(run: Run, *, as_json: bool, once: bool) -> None:
    if once or not run.steps:
        return
    from ledger.format.manifest import with_instants

    for step in run.steps:
        value: dict[str, Any] = with_instants(step)
        line = (
            f"{step['outcome']}  {step['severity']}  {step['rule_id']}  {step['alert_key']}  {step['count']}"
        )
        answer(value, line, as_json)
