"""Security event tokens that are pushed: checked when they come, sealed once, never at rest as tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingest.adapters import adapter
from ingest.adapters.ssf import SsfAdapter
from ingest.http_cli import _suffix
from ingest.pushed_tokens import PushedTokens
from tests.adapting import decoded
from tests.making import Made, make_ledger
from tests.unit.test_http_intake import Running, sealed
from tests.unit.test_ssf import CLAIMS, OTHER, TRANSMITTERS, token

TYPE = "application/secevent+jwt"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path / "made")


@pytest.fixture
def running(made: Made, tmp_path: Path) -> Iterator[Running]:
    reader = adapter("ssf", {"transmitters": TRANSMITTERS})
    assert isinstance(reader, SsfAdapter)
    push = PushedTokens(reader)
    found = Running(made, tmp_path / "spool", reader=push.adapter, open_token=push.message)
    yield found
    if not found.client.is_closed:
        found.stop()


def push(running: Running, text: str, kind: str = TYPE) -> httpx.Response:
    return running.post(text.encode(), kind)


def test_a_token_is_answered_with_202_and_nothing_and_sealed_once(running: Running, made: Made) -> None:
    text = token()
    for _ in range(2):
        answer = push(running, text)
        assert (answer.status_code, answer.content) == (202, b"")
    running.sealed_all()
    rows = sealed(made, "SELECT event_id, kind, target, raw, attributes FROM events ORDER BY event_id")
    assert [(row["event_id"], row["kind"], row["target"]) for row in rows] == [
        ("set-1", "signal", "session:s-9"), ("set-1/revocation", "revocation", "session:s-9"),
    ]  # fmt: skip
    assert all(hashlib.sha256(text.encode()).hexdigest() in row["attributes"] for row in rows)
    letters = sealed(made, "SELECT status, digest FROM dead_letters")
    assert letters == [{"status": "duplicate", "digest": hashlib.sha256(text.encode()).hexdigest()}]


def test_no_token_comes_to_rest(running: Running, made: Made, tmp_path: Path) -> None:
    text = token()
    signature = text.rpartition(".")[2].encode()
    push(running, text)
    running.sealed_all()
    files = [path for root in (made.folder, tmp_path / "spool") for path in root.rglob("*") if path.is_file()]
    assert files
    assert not any(signature in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("text", "kind", "status", "err"),
    [
        ("nonsense", TYPE, 400, "invalid_request"),
        ("é", TYPE, 400, "invalid_request"),
        (token(typ="jwt"), TYPE, 400, "invalid_request"),
        (token({**CLAIMS, "iss": "https://elsewhere"}), TYPE, 400, "invalid_issuer"),
        (token({**CLAIMS, "aud": "another"}), TYPE, 400, "invalid_audience"),
        (token(key=OTHER), TYPE, 400, "invalid_key"),
        (token()[:-4] + "AAAA", TYPE, 400, "invalid_key"),
        (token(), "application/json", 415, "invalid_request"),
        ('{"header":{},"claims":{"iss":"x"},"set_sha256":"0"}', "application/json", 415, "invalid_request"),
        ('{"header":{},"claims":{"iss":"x"},"set_sha256":"0"}', TYPE, 400, "invalid_request"),
    ],
)
def test_what_is_not_taken_is_told_in_the_words_of_rfc_8935(
    running: Running, made: Made, text: str, kind: str, status: int, err: str
) -> None:
    answer = push(running, text, kind)
    assert (answer.status_code, answer.json()["err"]) == (status, err)
    assert answer.json()["description"].endswith(".")
    assert text not in answer.text
    running.sealed_all()
    assert sealed(made) == []


def test_what_was_opened_is_read_by_nobody_but_its_own_intake() -> None:
    reader = adapter("ssf", {"transmitters": TRANSMITTERS})
    assert isinstance(reader, SsfAdapter)
    kept = reader.open_token(token().encode())
    made = decoded("ssf", kept, transmitters=TRANSMITTERS)
    assert not len(made.events)
    assert [one.reason for one in made.rejected] == ["no token, and no answer to a poll"]


def test_each_kind_of_intake_has_a_spool_of_its_own() -> None:
    kinds = ("native", False), ("ssf", False), ("native", True)
    assert len({_suffix(name, people=people) for name, people in kinds}) == 3
