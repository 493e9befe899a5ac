"""What every command shares: where the ledger is, how answers are printed, how errors end.

Answers go to stdout, logs and progress to stderr. Exit codes: 0 fine, 1 the answer is "no",
2 wrong usage or unusable input, 3 something outside failed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.exceptions import TyperException

from ledger.errors import LedgerError, OutsideError, UsageError
from ledger.format.plain_text import plain, plain_json, plain_lines
from ledger.settings.files import CONFIG_VARIABLE, settings
from ledger.settings.option_names import command_of

if TYPE_CHECKING:
    from ledger.log.signing import SigningKey
    from ledger.query.engine import QueryLimits
    from ledger.reader import Ledger
    from ledger.storage.store import Store
    from ledger.writer import Writer

PROGRAM: Final = "decision-ledger"
DEFAULT_LEDGER: Final = "./decision-ledger"
TABLE_WIDTH: Final = 10_000
"""Columns of a printed table before its cells wrap."""

_INTERRUPTED: Final = 130
"""128 and SIGINT, as shells count; typer ends with it where Ctrl-C came."""
_DISK_REMEDY: Final = "Check the disk, the path and its permissions."

LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger", envvar="DECISION_LEDGER_URL", help="The ledger: a folder or s3://bucket/prefix."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
AtOption = Annotated[int | None, typer.Option("--at", help="Read the ledger as of this many entries.", min=1)]
VkeyOption = Annotated[
    str | None,
    typer.Option(
        "--vkey",
        help="The ledger's verifier key: text, file, https:// or `pin` name.",
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", envvar="DECISION_LEDGER_KEY", help="The signing key's file."),
]


def _read_settings(context: typer.Context, file: Path | None) -> Path | None:
    """Before any other option is looked at: what files say becomes the options' defaults."""
    context.default_map = settings(context.command, file)
    return file


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        help="A file of settings, TOML.",
        is_eager=True,
        callback=_read_settings,
    ),
]
MetersOption = Annotated[
    str | None, typer.Option("--metrics-listen", help="Serve figures for Prometheus at HOST:PORT.")
]
AnchorOption = Annotated[
    list[str] | None,
    typer.Option("--anchor", help="Publish heads here every minute: a folder, s3://…, kafka://…/TOPIC."),
]
RetentionOption = Annotated[
    bool, typer.Option("--apply-retention", help="Let expire what has outlived its class, once an hour.")
]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks and debug logs.")]


@dataclass(slots=True)
class Shared:
    """What was said before the command's name."""

    ledger: str | None = None
    json: bool = False
    verbose: bool = False
    answered: bool = False
    """Whether an answer in JSON was printed."""


shared = Shared()


def ledger_url(given: str | None) -> str:
    """The ledger's URL: the command's own option, else the program's, else the default."""
    return next(one for one in (given, shared.ledger, DEFAULT_LEDGER) if one is not None)


def store_at(given: str | None) -> Store:
    """The store of the ledger's URL."""
    from ledger.storage.stores import open_store

    return open_store(ledger_url(given))


def open_ledger(given: str | None, vkey: str | None, limits: QueryLimits | None = None) -> Ledger:
    """The ledger for a command that reads: pinned by `vkey`, or by what this user keeps."""
    from ledger.reader import Ledger

    return Ledger.open(ledger_url(given), vkey=vkey, limits=limits)


def signing_key(given_ledger: str | None, given_key: Path | None, key_id: str | None = None) -> SigningKey:
    """The signing key, found as docs/commands.md says. Raises UsageError where there is none."""
    from ledger.log.signing import SigningKey, find_key

    local = local_folder(ledger_url(given_ledger))
    path = find_key(local, given_key, key_id or _key_id(given_ledger))
    if path is None:
        from ledger.log.commit_log import check_there

        check_there(store_at(given_ledger))
        raise UsageError(
            "There is no signing key for this ledger here.",
            "Name it with --key or DECISION_LEDGER_KEY; only `init` makes a new one.",
        )
    return SigningKey(path)


def writer_of(given_ledger: str | None, given_key: Path | None, name: str) -> Writer:
    """The writer of a command that seals remarks of its own: it need not remember events."""
    from ledger.writer import Writer

    return Writer(store_at(given_ledger), signing_key(given_ledger, given_key), name=name, remember=False)


def _key_id(given_ledger: str | None) -> str | None:
    """Eight hex digits by which the user's configuration folder names this ledger's key."""
    import orjson

    from ledger.format.note import VerifierKey

    note = store_at(given_ledger).read("ledger.json")
    try:
        vkey = orjson.loads(note or b"{}")["vkey"]
        return VerifierKey.from_text(vkey).key_id.hex()
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, LedgerError):
        return None


def called_as() -> str:
    """How this program is called from here, for hints that are to be copied: it may not be on the path."""
    import shlex
    import shutil

    started = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    if started.name != PROGRAM:
        return PROGRAM if found else f"{shlex.quote(sys.executable)} -m decision_ledger"
    if found is not None and Path(found).resolve() == started.resolve():
        return PROGRAM
    here, script = Path.cwd(), started.absolute()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def local_folder(url: str) -> Path | None:
    """The folder of a local ledger, or None for a remote one."""
    from ledger.storage import stores

    return stores.local_folder(url)


def person(by: str | None) -> str:
    """Who decides: as was said, else the user at this machine."""
    import getpass

    return by or f"user:{getpass.getuser()}"


def answer(value: Mapping[str, Any] | list[Any], text: str, as_json: bool, *, of: int | None = None) -> None:
    """Print one answer, as JSON or as text. `of` is how many a list would have without its --limit."""
    if as_json or shared.json:
        put_json(json.dumps(value, ensure_ascii=False, default=str) + "\n")
        if of is not None and of > len(value):
            note(f"truncated: {len(value):,} of {of:,}; --limit {of} gives all.")
    else:
        put(text.rstrip("\n") + "\n")


def table_text(columns: list[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows as an aligned table; cells are plain text on one line, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(Text(plain(column)), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else plain(str(cell))) for cell in row))
    # Wide enough that no id is broken over two lines: an id is there to be copied.
    console = Console(width=TABLE_WIDTH, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def put(text: str) -> None:
    """An answer, on stdout."""
    sys.stdout.write(plain_lines(text))
    sys.stdout.flush()


def put_json(text: str) -> None:
    """An answer in JSON, on stdout."""
    shared.answered = True
    sys.stdout.write(plain_json(text))
    sys.stdout.flush()


def put_bytes(data: bytes) -> None:
    """An answer for a machine, on stdout: as it is, unless a person would look at it."""
    if sys.stdout.isatty():
        sys.stdout.write(plain_lines(data.decode("utf-8", "replace")))
    else:
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


def put_data(data: bytes) -> None:
    """An answer that was asked for on stdout as it is, such as Parquet into a pipe."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def write_output(path: Path, data: bytes) -> None:
    """An answer into a file. Raises OutsideError that names it."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutsideError(
            f"{path} cannot be written: {error.strerror}.",
            "Check that its folder is there, and its permissions.",
        ) from None


def note(text: str) -> None:
    """A remark for the person at the terminal, on stderr."""
    sys.stderr.write(plain_lines(text) + "\n")
    sys.stderr.flush()


def run(app: typer.Typer, arguments: list[str] | None = None) -> int:
    """Run the program; every error becomes one plain sentence and its exit code.

    With --json the answer on stdout then is {"ok": false, "error": …, "remedy": …}, unless there was one.
    """
    shared.answered = False
    command = command_of(app)
    try:
        result = command.main(
            args=arguments,
            prog_name=PROGRAM,
            standalone_mode=False,
        )
        if result == _INTERRUPTED:
            note("decision-ledger: interrupted.")
        return result if isinstance(result, int) else 0
    except LedgerError as error:
        note(plain(f"decision-ledger: {error}"))
        return _failed(error.exit_code, error.message, error.remedy, arguments)
    except (typer.Abort, KeyboardInterrupt):
        note("decision-ledger: interrupted.")
        return _INTERRUPTED
    except TyperException as error:
        # Typer brings its own command parser; what it raises for wrong usage can show itself.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show(sys.stderr)
        return _failed(2, str(error), "See --help.", arguments)
    except BrokenPipeError:
        # The reader of our output went away: that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        named = f"{error.filename}: " if isinstance(error.filename, str) else ""
        message = f"{named}{error.strerror or error}."
        note(plain(f"decision-ledger: {message} {_DISK_REMEDY}"))
        return _failed(3, message, _DISK_REMEDY, arguments)


def _failed(code: int, message: str, remedy: str | None, arguments: list[str] | None) -> int:
    if shared.verbose:
        note(traceback.format_exc())
    if not shared.answered and (
        shared.json or "--json" in (sys.argv[1:] if arguments is None else arguments)
    ):
        put_json(json.dumps({"ok": False, "error": message, "remedy": remedy}, ensure_ascii=False) + "\n")
    return code


def configure_logs(verbose: bool) -> None:
    """Logs as key=value lines on stderr; secrets are never passed to them."""
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(),
            lambda _logger, _method, line: plain(str(line)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        # Looked up for every line: a host of the command may exchange its streams.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


@contextlib.contextmanager
def ended_by_signals(stop: Callable[[], object]) -> Iterator[None]:
    """SIGTERM and Ctrl-C call `stop`, which ends a service in order: what is in hand is finished first."""

    def told(_: int, __: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def told_of_interrupts(stop: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C calls `stop` from another thread at once: this one may be in the query engine, and hear nothing.

    What runs then ends, and KeyboardInterrupt is raised.
    """
    import socket

    if threading.current_thread() is not threading.main_thread():
        yield  # no signal comes here
        return
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    told = threading.Event()

    def listen() -> None:
        while numbers := theirs.recv(64):
            if signal.SIGINT in numbers:
                told.set()
                stop()

    listener = threading.Thread(target=listen, name="interrupts", daemon=True)
    before = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    listener.start()
    try:
        yield
    except LedgerError:
        if told.is_set():
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        listener.join()
        theirs.close()
