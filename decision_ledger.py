"""The command `decision-ledger`: mounts the sub-commands of each package, and composes `demo`."""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

# Until all is loaded, Ctrl-C ends the program at once and without a traceback, as it ends any other.
_QUIET = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _QUIET:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import typer

import dashboard.cli
import detections.cli
import ingest.cli
import issuer.cli
import ledger.cli
from detections.identities_cli import identities_list
from ingest.adapters import adapter
from issuer.identities_cli import identities_app
from ledger.console import (
    ConfigOption,
    JsonOption,
    LedgerOption,
    VerboseOption,
    answer,
    called_as,
    configure_logs,
    put,
    run,
    shared,
)
from ledger.errors import UsageError
from ledger.format.plain_text import plain_lines

if _QUIET:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if TYPE_CHECKING:
    from ingest.pipeline import Totals
    from ledger.reader import Ledger

PLANTED = ("shared-identity", "credential-theft", "delegated-abuse")
"""What goes wrong in the demo's day."""
DENIES = "SELECT reason, count(*) AS denies FROM decisions GROUP BY 1 ORDER BY 2 DESC"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: what draws boxes takes longer to load than all else together.
    rich_markup_mode=None,
    help="A flight recorder for the authority of AI agents.",
)


def _tell_version(asked: bool) -> None:
    if asked:
        put(f"decision-ledger {metadata.version('decision-ledger')}\n")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Say which version this is.", is_eager=True, callback=_tell_version)
]


@app.callback()
def program(  # noqa: PLR0917 - each parameter is an option
    context: typer.Context,
    ledger_: LedgerOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    config: ConfigOption = None,
    version: VersionOption = False,
) -> None:
    """A flight recorder for the authority of AI agents: sealed, queried, proved."""
    del config, version  # their callbacks took them in
    shared.ledger, shared.json, shared.verbose = ledger_, as_json, verbose
    context.obj = Between


@app.command()
def demo(
    folder: Annotated[Path | None, typer.Option("--dir", help="Where to make the demo's ledger.")] = None,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="End without the dashboard.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The whole product on an embedded default: no broker, no Docker, nothing to configure.

    Example: decision-ledger demo --dir demo-ledger
    """
    configure_logs(shared.verbose)
    place = folder or Path(tempfile.mkdtemp(prefix="decision-ledger-demo-"))
    if (place / "ledger").exists():
        raise UsageError(
            f"There is a demo in {place} already.", "Remove that folder, or name another with --dir."
        )
    place.mkdir(parents=True, exist_ok=True)
    out = io.StringIO()
    result = Demo(place, out if as_json or shared.json else sys.stdout).run()
    if as_json or shared.json:
        answer(result, "", as_json=True)
    elif sys.stdout.isatty() and not no_dashboard:
        _open_dashboard(place)


def _open_dashboard(place: Path) -> None:
    """The dashboard on the demo's ledger until Ctrl-C, with an intake for what is decided there."""
    import secrets
    import subprocess

    from dashboard.serving import DEFAULT_PORT, LOOPBACK, a_free_port, serve
    from dashboard.settings import DashboardSettings
    from ledger.settings.private_files import write_private

    token = place / "people.token"
    write_private(token, secrets.token_hex(32) + "\n")
    port, intake = a_free_port(DEFAULT_PORT), a_free_port(0)
    command = [sys.executable, "-m", "decision_ledger", "--ledger", str(place / "ledger"), "ingest", "http",
               "--people", "--listen", f"{LOOPBACK}:{intake}", "--token-file", str(token)]  # fmt: skip
    # Its own group: Ctrl-C ends the dashboard, which ends it in order.
    with (
        (place / "people.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as taking,
    ):
        put(f"\nThe dashboard is at http://{LOOPBACK}:{port} until Ctrl-C.\n")
        try:
            serve(
                DashboardSettings(
                    str(place / "ledger"), intake=f"http://{LOOPBACK}:{intake}", intake_token_file=str(token)
                ),
                LOOPBACK,
                port,
            )
        finally:
            taking.terminate()


def seal_files(folder: Path, paths: list[str], format_: str, name: str, *, remember: bool) -> Totals:
    """A new ledger in `folder` of all that files hold; its writer and origin are named after `name`.

    `remember` says whether this user's settings and cache take note of it.
    """
    from ingest.intakes import read_intake
    from ingest.pipeline import Pipeline
    from ingest.sources.files.source import FileSource
    from ledger.log.pins import Pins
    from ledger.log.signing import SigningKey, create_key, default_key_path
    from ledger.storage.local_store import LocalStore
    from ledger.writer import Writer, create_ledger

    key_path = default_key_path(folder)
    create_key(key_path, f"{name}.example/agents")
    key, store = SigningKey(key_path), LocalStore(folder)
    create_ledger(store, key)
    if remember:
        Pins(str(folder)).renew(key.verifier)
    settings = read_intake(None, name)
    reader = adapter(format_, settings.options)
    source = FileSource(paths, lambda _: None, limits=settings.limits)
    return Pipeline(
        source, reader, Writer(store, key, name=name, remember=remember), intake=settings.intake
    ).run()


@contextlib.contextmanager
def sealed_in_passing(paths: list[str], format_: str) -> Iterator[tuple[str, int]]:
    """A ledger of files for as long as it is asked: its folder, and how many messages were refused."""
    with tempfile.TemporaryDirectory(prefix="decision-ledger-") as place:
        folder = Path(place) / "ledger"
        totals = seal_files(folder, paths, format_, "passing", remember=False)
        yield str(folder), totals.rejected


def blind_spots(kinds: Collection[str], fields: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Which rules and metrics find nothing in events with these kinds and fields, and for want of what."""
    from detections.rule_needs import lacking, metric_needs, shipped_needs

    return {
        what: [
            {"id": name, "works": not missing, "missing": missing}
            for name, ways in needs.items()
            for missing in [lacking(ways, kinds, fields)]
        ]
        for what, needs in (("rules", shipped_needs()), ("metrics", metric_needs()))
    }


def gaps(opened: Ledger, at: int | None) -> list[dict[str, Any]]:
    """Of each source what is missing, provably and by estimate."""
    from detections.day_answers import answers_of
    from detections.metrics.gaps import Gaps
    from detections.metrics.kept_days import user_days

    kept = user_days(opened) if at in (None, opened.size) else None
    answers = answers_of(opened, at, kept)
    found = Gaps(answers).between()
    answers.flush()
    return [found[source].as_json() for source in sorted(found)]


class Between:
    """What one package's commands need of another: they never import each other."""

    sealed_in_passing = staticmethod(sealed_in_passing)
    blind_spots = staticmethod(blind_spots)
    gaps = staticmethod(gaps)


class Demo:
    """The story that `demo` tells, step by step, on a generated day of a small company's agents."""

    def __init__(self, place: Path, out: Any) -> None:
        self.place = place
        self.out = out
        self.folder = place / "ledger"
        from issuer.scenarios.catalogue import play

        yesterday = datetime.now(UTC) - timedelta(days=1)
        self.day = play("healthy-day", 7, start=yesterday, planted=PLANTED)
        self.planted = {one["kind"]: one for one in self.day.truth["incidents"]}
        (self.denied_trace,) = self.planted["delegated-abuse"]["trace_ids"]

    def run(self) -> dict[str, Any]:
        """Every step; what it found, for machines."""
        events = self._seal()
        vkey, size = self._look()
        alerts = self._judge()
        bundle = self._prove(vkey)
        found = self._tamper(vkey)
        called = f"{called_as()} --ledger {shlex.quote(str(self.folder))}"
        self._say(
            "What to run next",
            f"  {called} status",
            f"  {called} alerts list",
            f"  {called} metrics --by day",
            f"  {called} sql '{DENIES}'",
            f"  {called_as()} evidence verify {shlex.quote(str(bundle))} --vkey {vkey}",
            f"  {called_as()} init --help          (a ledger of your own)",
            f"  {called_as()} ingest file --help   (your own decisions; ingest kafka for a topic)",
        )
        return {
            "ledger": str(self.folder), "events": events, "entries": size, "vkey": vkey,
            "planted": list(PLANTED), "alerts": alerts, "denied_trace": self.denied_trace,
            "bundle": str(bundle), "tampering_found": found,
        }  # fmt: skip

    def _seal(self) -> int:
        import orjson

        self._say("1. A day of decisions is generated, and a new ledger made")
        wire = self.place / "decisions.jsonl"
        wire.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in self.day.events))
        totals = seal_files(self.folder, [str(wire)], "native", "demo", remember=True)
        self._say(
            "",
            f"  {wire} holds a day of a company's identity stack: sessions, credentials,",
            "  decisions and calls of its agents, by the real policy, with three incidents planted in it:",
            f"  {', '.join(PLANTED)}.",
            f"  {totals.events:,} events were sealed in {totals.commits} commit(s):",
            "  Parquet files that any SQL engine reads (`decision-ledger files` names those that count);",
            "  their rows are the leaves of Merkle trees whose roots stand in a signed log.",
        )
        return totals.events

    def _look(self) -> tuple[str, int]:
        from ledger.query.trace import render
        from ledger.reader import Ledger
        from ledger.verify.verification import verify

        with Ledger.open(str(self.folder)) as opened:
            vkey, size = opened.state.key.text, opened.size
            report = verify(opened.store, vkey=opened.state.key)
            if not report.ok:
                raise UsageError("The demo's own ledger does not verify.", report.text())
            self._say(
                "2. Everything is verified: every row, file, log entry and signature",
                "",
                *(f"  {line}" for line in report.text().splitlines()),
            )
            self._say(
                "3. One of the three, as a tree: who asked, through whom, with what authority",
                "",
                *(f"  {line}" for line in render(opened.trace(self.denied_trace)).splitlines()),
                "",
                "  The triage agent handed over to one that it never works with, which asked for customers",
                "  of other tenants. The policy said no, until an old gateway said yes. Chain, scopes,",
                "  reasons and the missing grant are in the sealed rows.",
            )
        return vkey, size

    def _judge(self) -> list[str]:
        """Let the rules look at the day; which of them fired."""
        from detections.alerting.standing import alerts_of
        from detections.config_files import seal_shipped_rules
        from detections.engine import Engine
        from ledger.log.signing import SigningKey, default_key_path
        from ledger.reader import Ledger
        from ledger.storage.local_store import LocalStore
        from ledger.writer import Writer

        key = SigningKey(default_key_path(self.folder))
        writer = Writer(LocalStore(self.folder), key, name="detections", remember=False)
        number = seal_shipped_rules(writer)
        engine = Engine(writer)
        while engine.run() is not None:
            pass
        engine.close()
        with Ledger.open(str(self.folder)) as opened:
            found = alerts_of(opened)
        self._say(
            f"4. The {number} rules that come with the product look at that day",
            "",
            *(f"  {one['severity']:<8}  {one['rule_id']:<22}  {one['alert_key']}" for one in found),
            "",
            f"  {len(found)} alerts, sealed with their evidence; `alerts show` says why, and what to do.",
        )
        return sorted({one["rule_id"] for one in found})

    def _prove(self, vkey: str) -> Path:
        from ledger.query.evidence import verify_bundle
        from ledger.reader import Ledger

        bundle = self.place / "evidence.json"
        with Ledger.open(str(self.folder)) as opened:
            denied = opened.sql(
                "SELECT source, event_id FROM decisions WHERE trace_id = ? AND decision = 'deny' "
                "ORDER BY time LIMIT 1",
                [self.denied_trace],
            ).to_pylist()[0]
            bundle.write_bytes(opened.evidence(f"{denied['source']}#{denied['event_id']}"))
        proved = verify_bundle(bundle.read_bytes(), vkey)
        self._say(
            "5. The denial of step 3 is proved offline",
            "",
            f"  {bundle} is one file. With it and the key {vkey}",
            f"  anyone can check, years later and without us, that this event was sealed at checkpoint size "
            f"{proved.checkpoints[0].size}.",
        )
        return bundle

    def _tamper(self, vkey: str) -> list[str]:
        from ledger.format.manifest import SegmentRef
        from ledger.reader import Ledger
        from ledger.storage.local_store import LocalStore
        from ledger.verify.verification import verify

        copy = self.place / "tampered-copy"
        shutil.copytree(self.folder, copy)
        with Ledger.open(str(copy), remember=False) as opened:
            ref = next(o.ref for o in opened.state.originals.values() if isinstance(o.ref, SegmentRef))
            key = opened.state.key
        victim = copy / ref.path
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
        report = verify(LocalStore(copy), vkey=key)
        found = [line for line in report.text().splitlines() if line.strip()]
        if report.ok:
            raise UsageError(
                "One byte was changed in a copy and verify did not find it.", "Please report this."
            )
        self._say(
            "6. One bit is changed in a copy of the ledger, and that is found",
            "",
            *(f"  {line}" for line in found),
        )
        return found

    def _say(self, *lines: str) -> None:
        self.out.write(plain_lines("\n" + "\n".join(line.rstrip() for line in lines) + "\n"))
        self.out.flush()


ledger.cli.register(app)
ingest.cli.register(app)
issuer.cli.register(app)
detections.cli.register(app)
dashboard.cli.register(app)
# Two packages speak of identities: what is registered, and what the ledger has seen.
identities_app.command("list")(identities_list)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(app))


if __name__ == "__main__":
    main()
