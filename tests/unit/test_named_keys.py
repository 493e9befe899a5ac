"""Names for verifier keys: given, used, shown, and never taken over by a file of that name."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run, shared
from ledger.errors import OutsideError, UsageError
from ledger.format.note import SignerKey
from ledger.log.named_keys import MAX_KEY_FILE_BYTES, NamedKeys, read_vkey
from tests.making import Made, make_ledger, row, stretch

OTHER = SignerKey("other.example/x", bytes(32)).verifier
Say = Callable[..., Any]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    made.writer().commit([stretch([row(0)])])
    return made


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    def said(*arguments: str, code: int = 0) -> Any:
        shared.json = False
        assert run(decision_ledger.app, [*arguments]) == code
        out, err = capfd.readouterr()
        return err if code else json.loads(out) if "--json" in arguments else out

    return said


@pytest.fixture
def serve() -> Iterator[Callable[[int, bytes], str]]:
    """Answers once set: every GET gets this status and body."""
    servers: list[ThreadingHTTPServer] = []

    def answering(status: int, body: bytes) -> str:
        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/key"

    yield answering
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_name_means_its_key_and_answers_show_it(made: Made, say: Say, tmp_path: Path) -> None:
    vkey, url = made.key.signer.vkey, ("--ledger", str(made.folder))
    assert say("pin", "list", "--json") == []
    assert say("pin", "add", "prod", vkey, "--json") == {"name": "prod", "vkey": vkey, "added": True}
    assert not say("pin", "add", "prod", vkey, "--json")["added"]
    assert say("pin", "list", "--json") == [{"name": "prod", "vkey": vkey}]
    assert say("verify", "--vkey", "prod", *url).startswith("pinned: prod\n")
    assert say("verify", "--vkey", vkey, "--json", *url)["key_name"] == "prod"
    assert "(pinned: prod)" in say("status", "--vkey", "prod", *url)
    bundle = str(tmp_path / "b.json")
    say("evidence", "export", "e0", "-o", bundle, *url)
    assert "under the key prod:" in say("evidence", "verify", bundle, "--vkey", "prod")
    assert say("evidence", "verify", bundle, "--vkey", vkey, "--json")["key_name"] == "prod"
    say("pin", "remove", "prod")
    assert say("verify", "--vkey", vkey, "--json", *url)["key_name"] is None
    assert "no name that was given" in say("verify", "--vkey", "prod", *url, code=2)


def test_a_name_is_not_shown_for_a_key_that_only_the_ledger_claims(made: Made, say: Say) -> None:
    NamedKeys().add("prod", made.key.signer.verifier)
    made.key.path.rename(made.key.path.with_name("elsewhere"))
    found = say("status", "--json", "--ledger", str(made.folder))
    assert (found["vkey"], found["key_name"]) == (made.key.signer.vkey, None)


def test_another_ledger_under_a_name_is_refused(made: Made, say: Say) -> None:
    NamedKeys().add("prod", OTHER)
    answer = say("verify", "--vkey", "prod", "--json", "--ledger", str(made.folder), code=1)
    assert "Traceback" not in answer


def test_a_name_goes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = SignerKey.generate("mine.example/x").verifier
    Path("prod").write_text(OTHER.text)
    assert read_vkey("prod") == OTHER
    NamedKeys().add("prod", mine)
    assert read_vkey("prod") == mine
    assert read_vkey("@prod") == read_vkey("./prod") == OTHER


def test_a_name_never_moves_to_another_key() -> None:
    names, key = NamedKeys(), SignerKey.generate("mine.example/x").verifier
    assert names.add("prod", key)
    with pytest.raises(UsageError, match="names mine"):
        names.add("prod", OTHER)
    assert names.get("prod") == key


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "a" * 65, "-x", "a\n", "ä", "a b", "x\0"])
def test_what_can_be_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a key"):
        NamedKeys().add(name, OTHER)
    assert NamedKeys().get(name) is None


def test_a_key_is_fetched_and_its_source_is_told(serve: Callable[[int, bytes], str], say: Say) -> None:
    url = serve(200, OTHER.text.encode() + b"\n")
    assert read_vkey(url) == OTHER
    assert "It came over the network" in say("pin", "add", "other", url)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (200, b"x" * (MAX_KEY_FILE_BYTES + 1), UsageError, "too long"),
        (200, b"<html>", UsageError, "form name"),
        (404, OTHER.text.encode(), OutsideError, "HTTP 404"),
        (302, OTHER.text.encode(), OutsideError, "HTTP 302"),
    ],
)
def test_what_an_address_serves_is_a_key_or_refused(
    serve: Callable[[int, bytes], str], status: int, body: bytes, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_vkey(serve(status, body))
