"""Attempts to reach what one may not: by SQL, by names, by text, by credentials, by bodies. Each is refused.

A case is one kind of attempt, all of it. What would be reached is there: a secret beside the ledger that SQL
and paths would read, a folder around it that nothing may write to, a service that goes on answering.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import orjson

import decision_ledger
from dashboard.access import Forbidden
from dashboard.sign_in import SignedOut, viewer_of
from ledger.console import run as run_command
from ledger.errors import LedgerError
from ledger.events import FIELDS
from ledger.format.manifest import parse_entry
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from tests.making import make_ledger, row, stretch
from tests.reliability.campaign import Campaign, Tally
from tests.services import run as run_process
from tests.services import started_intake
from tests.unit.test_dashboard_sign_in import CLAIMS, NOW, SIGN_IN
from tests.unit.test_sql_guard import FILES_AND_CATALOGS, FUNCTIONS, NOT_SELECT

SECRET = "zaphod-beeblebrox-7"
NAMES = (
    "../outside", "../../outside", "a/../../outside", "/outside", "..", ".", "...", "a//b", "a/./b", "a/",
    "..\\outside", "%2e%2e/outside", "..%2foutside", "~/outside", "file:///outside", "a\0b", "a\nb", "a\tb",
    "$(touch outside)", "`touch outside`", "; touch outside", "| touch outside", "&& touch outside", "-rf",
    "--help", "con", "nul", "a" * 300, "x/" * 200, "\u202egnp.exe", "\ufeffa", "\u2028a", "ﬁle", "é",
    "/", "'", '"', "';--", "{}", "[]", "*", "?", "", " ",
    "tile/0/000", "checkpoint", "ledger.json", "tile/entries/000.p/1", ".lock", "x.tmp",
)  # fmt: skip
TEXTS = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x9b31m",
    "\u202eevil", "\u2066x\u2069", "a\bb", "\x7f", "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))", "![x](http://127.0.0.1/x)", "=cmd|'/c calc'!A1", "${7*7}",
    "{{7*7}}", "</td></tr>", "\r\nforged line",
)  # fmt: skip
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal would act on; tabs and line ends are the program's own."""
ANSWERED = ("show tables", "describe events")
"""What the guard refuses in a query, and a person may ask: the views are named, and nothing else."""
SLOW = 60
TOKEN = "right-token-0123456789abcdef"


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    kinds: tuple[Callable[[Path, Tally], None], ...] = (
        _by_sql,
        _by_text,
        _by_credentials,
        _by_bodies,
        _by_names,
    )
    for number in cases:
        begun = time.monotonic()
        tally = Tally(cases=1)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            kinds[number](Path(place), tally)
        tally.seconds = time.monotonic() - begun
        yield tally


def _by_sql(folder: Path, tally: Tally) -> None:
    """Every statement that must be refused, alone and inside others."""
    made = make_ledger(folder)
    made.writer().commit([stretch([row(0)])])
    secret, out = folder / "secret.csv", folder / "out.csv"
    secret.write_text(f"a\n{SECRET}\n")
    around = (
        "{}", "{};", "/* x */ {}", "-- x\n{}", "WITH x AS ({}) SELECT * FROM x", "SELECT * FROM ({})",
        "SELECT 1 UNION ALL {}", "SELECT 1; {}", "{}; SELECT 1", "SELECT (SELECT 1 FROM ({}) LIMIT 1)",
        "EXPLAIN {}", "EXPLAIN ANALYZE {}", "PREPARE p AS {}", "CREATE TABLE t AS {}", "({})",
        "SELECT * FROM events WHERE event_id IN ({})",
    )  # fmt: skip
    with Ledger.open(str(made.folder), remember=False) as ledger:
        for text in (*NOT_SELECT, *FILES_AND_CATALOGS, *FUNCTIONS):
            asked = text.format(secret=secret, out=out) if "{secret}" in text or "{out}" in text else text
            if text in ANSWERED:
                continue
            for form in around:
                tally.counts["SQL"] += 1
                try:
                    table = ledger.sql(form.replace("{}", asked))
                except LedgerError:
                    continue
                tally.fail("let through", f"SQL: {form.replace('{}', asked)[:200]} gave {str(table)[:80]}")
    if out.exists():
        tally.fail("let through", "SQL wrote a file")


def _by_names(folder: Path, tally: Tally) -> None:
    """Names that reach a path, an option, an entry or a bundle: nothing outside is read, made or changed."""
    made = make_ledger(folder)
    made.writer().commit([stretch([row(0, trace_id="a" * 32)])])
    (folder / "outside").write_text(SECRET)
    events = folder / "events.jsonl"
    event = {"kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s", "decision": "deny"}
    names = [name for name in NAMES if "\0" not in name]
    lines = [
        orjson.dumps({"event_id": f"{field}{number}", **event, field: name})
        for number, name in enumerate(names)
        for field in ("source", "event_id", "retention", "tenant", "trace_id", "session_id", "policy_version")
    ]
    events.write_bytes(b"\n".join(lines) + b"\n")
    before = _around(folder, made.folder)
    ledger = ["--ledger", str(made.folder), "--key", str(made.key.path)]
    reads = ledger[:2]
    commands = [
        *(["ingest", "file", str(events), f"--as={name}", *ledger] for name in names),
        *(["config", "load", "--", name, str(events)] for name in names[:3]),
        *(["trace", *reads, "--", name] for name in names),
        *(["evidence", "export", "-o", str(folder / "bundle.json"), *reads, "--", name] for name in names),
        *(["deadletters", "show", *reads, "--", name] for name in names),
        *(["hold", "release", "--by", "u", "--reason", "r", *ledger, "--", name] for name in names),
        *(["hold", "add", f"--class={name}", "--by", "u", "--reason", "r", *ledger] for name in names),
        *(["witness", "remove", *ledger, "--", name] for name in names),
        *(["alerts", "show", *reads, "--", name] for name in names),
    ]
    for command in commands:
        tally.counts["names in commands"] += 1
        code, said = _said(command)
        if code not in (0, 1, 2, 3) or "Traceback" in said:
            tally.fail("crashed", f"{command}: {code} {said[-300:]}")
        if SECRET in said:
            tally.fail("let through", f"{command} told what is outside")
    tally.counts["names in events"] += len(lines)
    store = LocalStore(made.folder)
    for name in NAMES:
        for call in (
            lambda name=name: store.create(f"events/{name}", b"x"),
            lambda name=name: store.create(name, b"x"),
            lambda name=name: store.replace(name, lambda _: None), lambda name=name: store.read(name),
            lambda name=name: store.local_path(name), lambda name=name: list(store.list(name)),
            lambda name=name: store.sync(name),
        ):  # fmt: skip
            tally.counts["names in storage"] += 1
            with contextlib.suppress(LedgerError):
                if call() == SECRET.encode():
                    tally.fail("let through", f"storage read {name!r}")
        tally.counts["names in entries"] += 1
        entry = {
            "kind": "gc", "index": 1, "prev": "0" * 64, "time": "2026-11-23T11:00:00.000000Z",
            "writer": "w", "software": "s", "paths": [name], "sig": "x",
        }  # fmt: skip
        try:
            parse_entry(json.dumps(entry).encode())
            tally.fail("let through", f"an entry may name {name!r}")
        except LedgerError:
            pass
    if _around(folder, made.folder) != before:
        tally.fail("let through", f"changed outside: {_around(folder, made.folder) ^ before}")


def _by_text(folder: Path, tally: Tally) -> None:
    """Text of events in what people look at: nothing that a terminal or a browser would act on."""
    made = make_ledger(folder)
    fields = [field.name for field in FIELDS if field.type == "text" and field.name not in _WITH_FORMS]
    rows = [
        row(number, trace_id="a" * 32, **{name: text})
        for number, (name, text) in enumerate((name, text) for name in fields for text in TEXTS)
    ]
    made.writer().commit([stretch(rows)])
    reads = ["--ledger", str(made.folder)]
    letters = folder / "letters.jsonl"
    letters.write_bytes(b"".join(text.encode() + b"\n" for text in TEXTS if "\n" not in text))
    _said(["ingest", "file", str(letters), *reads, "--key", str(made.key.path)])
    out = folder / "report"
    for command in (
        ["trace", "a" * 32, *reads], ["sql", "SELECT * FROM events", *reads], ["status", *reads],
        ["sql", "SELECT * FROM events", "--format", "csv", *reads], ["status", "--gaps", *reads],
        ["sql", "SELECT * FROM events", "--json", *reads], ["trace", "a" * 32, "--json", *reads],
        ["deadletters", "list", *reads], ["metrics", "--from", "2026-11-20", "--to", "2026-11-25", *reads],
        ["report", "weekly", "--week", "2026-W48", "--out", str(out), *reads],
    ):  # fmt: skip
        tally.counts["text in outputs"] += len(rows)
        code, said = _said(command)
        if code not in (0, 1):
            tally.fail("crashed", f"{command}: {code} {said[-300:]}")
        # CSV and what is redirected are for machines; a terminal is shown the rest.
        if "csv" not in command and (found := CONTROL.search(said)):
            tally.fail(
                "let through", f"{command[:2]}: {said[max(0, found.start() - 40) : found.start() + 10]!r}"
            )
    for page in out.rglob("*.html"):
        tally.counts["text in pages"] += len(rows)
        text = page.read_text("utf-8")
        if re.search(r"<script>alert|<img src=x|(href|src)=.?javascript:", text):
            tally.fail("let through", f"{page.name} holds markup of an event")


def _by_credentials(folder: Path, tally: Tally) -> None:
    """Sessions, tokens and headers that are nobody's."""
    claims: tuple[object, ...] = (
        None, "", 0, -1, True, [], {}, "admin", ["admin"], 1e400, NOW + 10**12, "*\0",
    )  # fmt: skip
    names = ("iss", "sub", "iat", "exp", "roles", "tenants")
    forged = [{name: claim} for name in names for claim in claims]
    for more in forged:
        tally.counts["forged sessions"] += 1
        try:
            who = viewer_of({**CLAIMS, **more}, SIGN_IN, NOW)
        except (SignedOut, Forbidden):
            continue
        # Another issuer or subject is another person, with no more rights than the roles give; eight hours
        # after `iat` it ends, whatever `exp` says.
        if (
            who.roles != {"analyst"}
            or who.tenants is None
            or not more.keys() & {"iss", "sub", "tenants", "exp"}
        ):
            tally.fail("let through", f"claims {more} are {who}")
    ledger, log, tokens = folder / "ledger", folder / "log", folder / "tokens"
    tokens.write_text(TOKEN + "\n")
    tokens.chmod(0o600)
    run_process("init", "--origin", "test.example/access", "--ledger", ledger)
    started, url = started_intake(ledger, log, "--token-file", str(tokens))
    body = json.dumps([{"event_id": "a", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s"}])
    kind = {"content-type": "application/json"}
    wrong: list[str] = [
        "", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer {TOKEN} {TOKEN}",
        f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN.upper()}", "Bearer null",
        f"Bearer\t{TOKEN}", f"bearer{TOKEN}", f'Bearer "{TOKEN}"', "Negotiate x", f"Token {TOKEN}",
        f"Bearer {TOKEN},x", "Bearer " + "a" * 8_000, "Bearer undefined",
        *(f"Bearer {TOKEN[:at]}{chr(ord(TOKEN[at]) ^ 1)}{TOKEN[at + 1:]}" for at in range(len(TOKEN))),
    ]  # fmt: skip
    try:
        with httpx.Client(trust_env=False, timeout=20) as client:
            for header in wrong:
                tally.counts["wrong tokens"] += 1
                answer = client.post(url, content=body, headers={"authorization": header, **kind})
                if answer.status_code not in (400, 401, 431):
                    tally.fail("let through", f"{header[:60]!r} was answered {answer.status_code}")
                if TOKEN in answer.text:
                    tally.fail("let through", "an answer holds the token")
            good = client.post(url, content=body, headers={"authorization": f"Bearer {TOKEN}", **kind})
            if good.status_code >= 300:
                tally.fail("crashed", f"the right token was answered {good.status_code}")
    finally:
        started.terminate()
        started.wait(60)
    if TOKEN in log.read_text():
        tally.fail("let through", "the log holds the token")


def _by_bodies(folder: Path, tally: Tally) -> None:
    """Bodies that are too large, too deep, too slow, or none: refused, and the service goes on."""
    ledger, log = folder / "ledger", folder / "log"
    run_process("init", "--origin", "test.example/access", "--ledger", ledger)
    started, url = started_intake(ledger, log)
    where = urlsplit(url)
    address = (where.hostname or "", where.port or 0)
    slow = [socket.create_connection(address, 10) for _ in range(SLOW)]
    head = f"POST {where.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    try:
        for number, one in enumerate(slow):
            tally.counts["slow senders"] += 1
            one.sendall((head + "Content-Length: 1000000\r\n\r\n[" if number % 2 else head[:20]).encode())
        kind = {"content-type": "application/json"}
        zipped = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = b"".join(zipped.compress(b" " * (1 << 20)) for _ in range(1_024)) + zipped.flush()
        large = b"[" + b" " * (17 << 20) + b"]"
        bodies: list[tuple[bytes, dict[str, str]]] = [
            (large, {}), (b"[" * 100_000, {}), (b'{"a":' * 50_000, {}), (b"\xff\xfe", {}),
            (bomb, {"content-encoding": "gzip"}), (b"not gzip", {"content-encoding": "gzip"}),
            (b"[]", {"content-encoding": "br"}), (b"[" + b"0," * 5_000_000 + b"0]", {}),
            (b'"' + b"\\" * 99_999, {}),
            (b"{", {}), (b"[\x00]", {}), (b"\xef\xbb\xbf[", {}), (b"[" + b"9" * 100_000 + b"]", {}),
        ]  # fmt: skip
        raw = [
            head + "Content-Length: 99999999999\r\n\r\n", head + "Content-Length: -1\r\n\r\n[]",
            head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]", head + "Content-Length: x\r\n\r\n",
            head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            head + "Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n",
            head + "X: " + "a" * 200_000 + "\r\n\r\n",
            "POST " + "/" * 200_000 + " HTTP/1.1\r\n\r\n", "\0\0\0\0", "GET / HTTP/9.9\r\n\r\n",
            head + "Expect: x\r\nContent-Length: 2\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
        ]  # fmt: skip
        with httpx.Client(trust_env=False, timeout=60) as client:
            for body, headers in bodies:
                tally.counts["bodies"] += 1
                answer = client.post(url, content=body, headers={**kind, **headers})
                if answer.status_code < 400:
                    tally.fail("let through", f"{body[:20]!r} was answered {answer.status_code}")
        for text in raw:
            tally.counts["requests"] += 1
            answered = _raw(address, text.encode())
            if answered[:10] == b"HTTP/1.1 2":
                tally.fail("let through", f"{text[-70:]!r} was answered {answered[:12]!r}")
        event = {"event_id": "a", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s"}
        good = httpx.post(url, json=[event], timeout=30, trust_env=False)
        if good.status_code >= 300 or started.poll() is not None:
            tally.fail("crashed", f"afterwards an event is answered {good.status_code}")
    finally:
        for one in slow:
            one.close()
        started.terminate()
        started.wait(60)


def _raw(address: tuple[str, int], text: bytes) -> bytes:
    """The first bytes of the answer to what no client would send; nothing where it hangs up."""
    with socket.create_connection(address, 10) as one:
        one.settimeout(0.5)
        with contextlib.suppress(OSError):
            one.sendall(text)
            return one.recv(200)
    return b""


def _said(command: list[str]) -> tuple[int, str]:
    """A command in this process: its exit code, and all that it printed."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with _ONE_AT_A_TIME, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = run_command(decision_ledger.app, command)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 2
    return code, out.buffer.getvalue().decode("utf-8", "replace")


def _around(folder: Path, ledger: Path) -> set[tuple[str, bytes]]:
    """The files beside a ledger and its key, and what they hold."""
    left = {"bundle.json"}
    return {
        (str(path.relative_to(folder)), path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and ledger not in path.parents and ".key" not in path.name and path.name not in left
    }


_ONE_AT_A_TIME = threading.Lock()
_WITH_FORMS = frozenset({"event_id", "kind", "decision", "retention", "trace_id", "attributes"})
"""Fields whose text must have a form of its own."""

CAMPAIGN = Campaign(
    "access", "SQL that must not run, names that leave their folder, text that acts on terminals and pages, "
    "forged sessions and tokens, bodies that are too large or too slow.",
    5, 4, ("let through", "crashed"), run,
)  # fmt: skip
