"""No text that a sender wrote reaches a terminal as anything but itself, in any command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import decision_ledger
from ledger.console import run, shared
from ledger.format.manifest import OffsetKey
from ledger.format.plain_text import plain, plain_json, plain_lines
from ledger.reader import Ledger
from ledger.sealing.batch import REJECTED, SetAside
from ledger.settings.option_names import command_of, commands
from tests.making import Made, make_ledger, row, stretch

EVIL = "\x1b[2K\rallow\n\x9b31m\u202eyned\u2066\x7f\u200b\x07"
TRACE = "ab" * 16
NOT_RUN = {
    "issuer drill revocation",
    "issuer drill rollback",
    "demo",
    "ingest kafka",
    "export commits",
    "ingest http",
    "issuer serve",
    "witness serve",
    "dashboard",
}
"""They serve or need a broker; what they print is composed of the functions that are tested here."""


@given(st.text())
def test_plain_text_is_printable_and_leaves_printable_text_alone(text: str) -> None:
    assert plain(text).isprintable()
    assert plain_lines(text).replace("\n", "").isprintable()
    assert plain_lines(text).count("\n") == text.count("\n")
    if text.isprintable():
        assert plain(text) == text


@given(
    st.recursive(st.text() | st.none() | st.integers(), lambda s: st.lists(s) | st.dictionaries(st.text(), s))
)
def test_json_says_the_same_in_printable_letters(value: Any) -> None:
    written = json.dumps(value, ensure_ascii=False)
    shown = plain_json(written)
    assert shown.isprintable()
    assert json.loads(shown) == value
    assert plain_json(orjson.dumps(["\x1b\x9b\u202e"]).decode()) == '["\\u001b\\u009b\\u202e"]'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_ledger(tmp_path_factory.mktemp("evil"))
    texts = ("source", "instance", "actor", "delegated_actor", "action", "resource", "destination", "reason",
             "policy_id", "policy_version", "policy_engine", "credential_id", "audience", "purpose", "tenant",
             "exception_id", "grant_id", "approved_by", "target", "outcome")  # fmt: skip
    evil = {name: f"{name}{EVIL}" for name in texts}
    events = [
        row(n, **evil, trace_id=TRACE, decision="deny", scopes=[EVIL], delegation=[EVIL, "agent:x"])
        for n in range(3)
    ]
    events[2]["event_id"] = f"id{EVIL}"
    writer = made.writer()
    writer.commit([stretch(events, key=OffsetKey(f"t{EVIL}"))])
    writer.commit(
        [
            stretch(
                [], 3, OffsetKey(f"t{EVIL}"), messages=[[]], status=[REJECTED],
                aside={0: SetAside(EVIL, field=EVIL, payload=EVIL.encode())},
            )
        ]
    )  # fmt: skip
    return made


def lines_for(made: Made, folder: Path) -> dict[str, list[str]]:
    """Every command, with arguments that make it print what senders wrote."""
    url = ["--ledger", str(made.folder)]
    vkey = made.key.signer.vkey
    with Ledger.open(str(made.folder)) as ledger:
        letter = ledger.sql("SELECT 1 AS n").num_rows and next(
            f"{Path(path).stem}:0" for path in ledger.state.files if path.startswith("deadletters/")
        )
    sample = folder / f"s{EVIL.replace(chr(10), '')}.jsonl"
    sample.write_bytes(orjson.dumps({"event_id": EVIL, EVIL: 1}) + b"\n{\n")
    registered = folder / "exceptions.yml"
    registered.write_text(json.dumps({"exceptions": [{"id": EVIL, EVIL: EVIL}]}))
    agents = folder / "agents.yml"
    agents.write_text(json.dumps({"agents": [{"id": EVIL, EVIL: EVIL}]}))
    response = folder / "response.yml"
    response.write_text(json.dumps({"response": {"signals": EVIL, EVIL: EVIL}}))
    (folder / "other").mkdir()
    anchors = folder / EVIL
    anchors.mkdir()
    (anchors / EVIL.replace("\n", "")).write_text(EVIL)
    trail = folder / "trail"
    evil_digest = trail / "CloudTrail-Digest" / EVIL.replace("\n", "").replace("/", "")
    evil_digest.mkdir(parents=True)
    (evil_digest / "x.json").write_text(json.dumps({"digestEndTime": EVIL}))
    (trail / EVIL.replace("\n", "").replace("/", "")).write_text(json.dumps({"Records": [{EVIL: EVIL}, 1]}))
    trail_keys = folder / "keys.json"
    trail_keys.write_text('{"PublicKeyList": []}')
    return {
        "init": ["init", "--origin", "other.example/x", "--ledger", str(folder / "other" / "l")],
        "status": ["status", *url],
        "sql": ["sql", "SELECT * FROM events", *url],
        "schema": ["schema", *url],
        "trace": ["trace", TRACE, *url],
        "files": ["files", *url],
        "verify": ["verify", *url],
        "evidence export": ["evidence", "export", f"id{EVIL}", "-o", str(folder / "b.json"), *url],
        "evidence verify": ["evidence", "verify", str(folder / "b.json"), "--vkey", vkey],
        "evidence tlog-proof": ["evidence", "tlog-proof", "e0", "-o", str(folder / "p"), *url],
        "pin add": ["pin", "add", EVIL, vkey],
        "pin list": ["pin", "list"],
        "pin remove": ["pin", "remove", EVIL],
        "compact": ["compact", *url],
        "gc": ["gc", *url],
        "detect run": ["detect", "run", "--once", *url],
        "detect response": ["detect", "response", str(response)],
        "detect rules": ["detect", "rules", *url],
        "detect test": ["detect", "test", str(registered)],
        "detect backtest": ["detect", "backtest", *url],
        "policy what-if": ["policy", "what-if", str(folder / EVIL), "--state", str(folder), *url],
        "export ocsf": ["export", "ocsf", *url],
        "erase": ["erase", "--event", f"id{EVIL}", "--by", "user:x", "--reason", "x", *url],
        "key protect": ["key", "protect", "--passphrase-file", EVIL, *url],
        "key rotate": ["key", "rotate", *url],
        "witness add": ["witness", "add", EVIL, f"https://{EVIL}", *url],
        "witness remove": ["witness", "remove", EVIL, *url],
        "witness list": ["witness", "list", *url],
        "witness ask": ["witness", "ask", *url],
        "doctor": ["doctor", "--bootstrap", EVIL, *url],
        "anchor publish": ["anchor", "publish", str(anchors), *url],
        "anchor check": ["anchor", "check", str(anchors), *url],
        "retention plan": ["retention", "plan", *url],
        "retention apply": ["retention", "apply", "--reason", EVIL, *url],
        "hold add": ["hold", "add", "--trace", EVIL, "--by", "user:x", "--reason", "x", *url],
        "hold list": ["hold", "list", *url],
        "hold release": ["hold", "release", EVIL, "--by", "user:x", "--reason", "x", *url],
        "review list": ["review", "list", *url],
        "review close": [
            "review",
            "close",
            f"grant:{EVIL}",
            "--outcome",
            "kept",
            "--reason",
            EVIL,
            *url,
        ],
        "report weekly": ["report", "weekly", "--out", str(folder / "report"), *url],
        "report verify": ["report", "verify", str(folder / "report"), *url],
        "metrics": ["metrics", "--group", "tenant", *url],
        "alerts list": ["alerts", "list", "--status", "all", *url],
        "alerts risk": ["alerts", "risk", *url],
        "alerts show": ["alerts", "show", EVIL, *url],
        "alerts ack": ["alerts", "ack", "", *url, "--comment", EVIL],
        "alerts resolve": ["alerts", "resolve", EVIL, *url],
        "alerts dismiss": ["alerts", "dismiss", EVIL, *url, "--comment", EVIL],
        "config load": ["config", "load", f"x{EVIL}", str(sample), *url],
        "identities list": ["identities", "list", *url],
        "identities check": ["identities", "check", str(agents)],
        "issuer init": ["issuer", "init", str(folder / EVIL)],
        "issuer policy test": ["issuer", "policy", "test", str(folder / EVIL / "policies" / "agents-1")],
        "issuer policy diff": ["issuer", "policy", "diff", str(folder / EVIL), str(folder / EVIL)],
        "issuer policy review": [
            "issuer",
            "policy",
            "review",
            str(folder / EVIL / "policies/agents-1"),
            "--reviewer",
            f"user:{EVIL}",
        ],
        "issuer revoke": ["issuer", "revoke", f"session:{EVIL}", "--reason", EVIL, "--state", str(folder)],
        "issuer policy activate": [
            "issuer",
            "policy",
            "activate",
            str(folder / EVIL),
            "--state",
            str(folder),
        ],
        "issuer policy rollback": ["issuer", "policy", "rollback", "--reason", EVIL, "--state", str(folder)],
        "issuer policy history": ["issuer", "policy", "history", "--state", str(folder / EVIL)],
        "issuer exception open": ["issuer", "exception", "open", str(registered), EVIL],
        "issuer exception extend": [
            "issuer",
            "exception",
            "extend",
            EVIL,
            "--hours",
            "1",
            "--approved-by",
            EVIL,
        ],
        "issuer exception close": ["issuer", "exception", "close", EVIL],
        "issuer exception review": [
            "issuer",
            "exception",
            "review",
            EVIL,
            "--reviewer",
            EVIL,
            "--comment",
            EVIL,
        ],
        "issuer scenario list": ["issuer", "scenario", "list"],
        "issuer scenario run": ["issuer", "scenario", "run", EVIL, "--out", str(folder / EVIL)],
        "issuer rotate": ["issuer", "rotate", "--purpose", EVIL, "--state", str(folder)],
        "exceptions check": ["exceptions", "check", str(registered)],
        "ingest objects": ["ingest", "objects", str(trail), "--as", "trail", *url],
        "ingest digests": [
            "ingest",
            "digests",
            str(trail),
            "--as",
            "trail",
            "--keys",
            str(trail_keys),
            *url,
        ],
        "ingest check": ["ingest", "check", str(sample)],
        "ingest file": ["ingest", "file", str(sample), *url],
        "deadletters list": ["deadletters", "list", *url],
        "deadletters show": ["deadletters", "show", str(letter), *url],
        "deadletters replay": ["deadletters", "replay", *url],
    }


def test_every_command_prints_plain_text(
    made: Made, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    lines = lines_for(made, tmp_path)
    there = {" ".join(words) for words, command in commands(command_of(decision_ledger.app))}
    groups = {word.rpartition(" ")[0] for word in there if " " in word}
    assert there - groups - NOT_RUN <= set(lines) | NOT_RUN
    for name, arguments in lines.items():
        for flag in ([], ["--json"]):
            shared.json = False
            if flag and name == "init":
                continue
            run(decision_ledger.app, [*flag, *arguments])
            shared.json = False
            seen = capfdbinary.readouterr()
            for stream in (seen.out, seen.err):
                shown = stream.decode()
                assert all(letter.isprintable() for letter in shown if letter != "\n"), (name, flag, shown)
            if not flag and name in {"trace", "deadletters list", "deadletters show", "status", "sql"}:
                assert "\\u{1b}" in seen.out.decode(), name
            if flag and seen.out:
                # What is exported is one JSON object a line, with and without the flag.
                for text in seen.out.splitlines() if name == "export ocsf" else [seen.out]:
                    json.loads(text)


def test_errors_are_one_plain_line(made: Made, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for arguments in (
        ["trace", EVIL, "--ledger", str(made.folder)],
        ["deadletters", "show", EVIL, "--ledger", str(made.folder)],
        ["sql", f"SELECT '{EVIL}' FROM nowhere", "--ledger", str(made.folder)],
        ["status", "--ledger", f"nowhere/{EVIL}"],
        ["ingest", "file", EVIL, "--ledger", str(made.folder)],
    ):
        assert run(decision_ledger.app, arguments) != 0
        err = capfdbinary.readouterr().err.decode()
        assert err.count("\n") == 1, err
        assert err[:-1].isprintable(), err
