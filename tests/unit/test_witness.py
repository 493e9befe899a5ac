"""A witness cosigns a head only where it extends the last one that it cosigned, whoever asks."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import OutsideError
from ledger.format.checkpoint import Checkpoint
from ledger.format.merkle import EMPTY_ROOT, Tree, leaf_hash
from ledger.format.note import SignedNote, SignerKey, VerifierKey
from ledger.witnessing.cosigning import (
    MAX_BODY_BYTES,
    Head,
    Refused,
    cosigned_at,
    cosigner_key,
    judge,
    parse_request,
)
from ledger.witnessing.memory import WitnessMemory
from ledger.witnessing.server import Witness
from tests.served import served

LOG = SignerKey.generate("log.example/a")
OTHER = SignerKey.generate("log.example/a")
SIGNER = SignerKey.generate("witness.example")
LOGS = {LOG.name: [LOG.verifier]}
NOW = 1_795_600_000


def tree(size: int, seed: bytes = b"") -> Tree:
    return Tree([leaf_hash(seed + number.to_bytes(4, "big")) for number in range(size)])


def note(size: int, seed: bytes = b"", key: SignerKey = LOG, root: bytes | None = None) -> bytes:
    return Checkpoint(key.name, size, root or tree(size, seed).root()).sign(key)


def body(old: int, signed: bytes, proof: Sequence[bytes] | None = None, size: int | None = None) -> bytes:
    if proof is None:
        size = size if size is not None else Checkpoint.parse(SignedNote.parse(signed).text).size
        proof = tree(size).consistency_proof(old) if 0 < old < size else []
    lines = [f"old {old}", *(base64.b64encode(digest).decode() for digest in proof)]
    return "\n".join(lines).encode() + b"\n\n" + signed


@pytest.fixture
def memory(tmp_path: Path) -> WitnessMemory:
    return WitnessMemory(tmp_path / "state" / "heads.sqlite")


@contextmanager
def asked(witness: Witness) -> Iterator[httpx.Client]:
    with served(witness.app()) as url, httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def client(memory: WitnessMemory) -> Iterator[httpx.Client]:
    with asked(Witness(SIGNER, LOGS, memory, clock=lambda: NOW)) as found:
        yield found


def ask(client: httpx.Client, data: bytes) -> tuple[int, str, str]:
    answer = client.post("/add-checkpoint", content=data)
    return answer.status_code, answer.headers["content-type"].partition(";")[0], answer.text


def test_a_head_is_cosigned_and_the_line_verifies_as_part_of_the_note(
    client: httpx.Client, memory: WitnessMemory
) -> None:
    signed = note(5)
    status, _, line = ask(client, body(0, signed))
    assert status == 200
    whole = SignedNote.parse(signed + line.encode())
    assert whole.verified_by([cosigner_key(SIGNER), LOG.verifier]) == (LOG.verifier, cosigner_key(SIGNER))
    assert cosigned_at(whole.signatures[-1]) == NOW
    assert memory.head(LOG.name) == Head(5, tree(5).root())
    for size in (6, 64, 65, 300):
        old = memory.head(LOG.name).size
        assert ask(client, body(old, note(size)))[0] == 200
    # The same head again is cosigned again, at a later time if it must.
    assert ask(client, body(300, note(300)))[0] == 200


def test_answers_are_those_of_the_specification(client: httpx.Client) -> None:
    assert ask(client, body(0, note(5)))[0] == 200
    unknown = SignerKey.generate("log.example/unknown")
    for data, status in (
        (b"", 400),
        (b"old 5\n", 400),
        (b"old x\n\n" + note(6), 400),
        (b"old 05\n\n" + note(6), 400),
        (body(5, note(6), [b"x" * 31]), 400),
        (body(5, note(6), [b"x" * 32] * 64), 400),
        (b"old 5\n\xff\n\n" + note(6), 400),
        (b"old 5\n\nnot a note\n", 400),
        (body(7, note(6)), 400),
        (body(0, note(3, key=unknown)), 404),
        (body(5, note(6, key=OTHER)), 403),
        (body(5, note(6)[:-8] + b"AAAAAA=\n"), 403),
        (body(5, note(6), [b"x" * 32]), 422),
        (body(5, note(6), []), 422),
        (body(5, note(6, b"other"), size=6), 422),
        (body(5, note(5), [b"x" * 32]), 422),
    ):
        assert ask(client, data)[0] == status, data[:40]
    for old in (0, 3, 4):
        assert ask(client, body(old, note(6))) == (409, "text/x.tlog.size", "5\n")
    # The same size with another root is another history.
    assert ask(client, body(5, note(5, b"other"))) == (409, "text/x.tlog.size", "5\n")
    assert ask(client, body(5, note(6)))[0] == 200
    assert ask(client, b"x" * (MAX_BODY_BYTES + 1))[0] == 413
    assert client.get("/add-checkpoint").status_code == 405


def test_growth_from_the_empty_log_has_an_empty_proof(client: httpx.Client) -> None:
    assert ask(client, body(0, note(0, root=EMPTY_ROOT)))[0] == 200
    assert ask(client, body(0, note(4), [b"x" * 32]))[0] == 422
    assert ask(client, body(0, note(4)))[0] == 200


def test_any_of_a_logs_keys_may_sign_after_a_rotation(memory: WitnessMemory) -> None:
    logs = {LOG.name: [LOG.verifier, OTHER.verifier]}
    with asked(Witness(SIGNER, logs, memory)) as client:
        assert ask(client, body(0, note(5)))[0] == 200
        assert ask(client, body(5, note(6, key=OTHER)))[0] == 200


def test_what_it_remembers_outlives_it_and_is_closed_to_others(tmp_path: Path, memory: WitnessMemory) -> None:
    Witness(SIGNER, LOGS, memory).add_checkpoint(body(0, note(5)))
    again = WitnessMemory(tmp_path / "state" / "heads.sqlite")
    with pytest.raises(Refused, match="5"):
        Witness(SIGNER, LOGS, again).add_checkpoint(body(0, note(5, b"other")))
    assert (tmp_path / "state" / "heads.sqlite").stat().st_mode & 0o777 == 0o600
    (tmp_path / "file").write_text("")
    with pytest.raises(OutsideError):
        WitnessMemory(tmp_path / "file" / "heads.sqlite")


def forked(start: int, number: int) -> bytes:
    """A request for a history of its own behind `start` entries, which all share."""
    size, seed = start + 4 + number, bytes([number])
    shared = [leaf_hash(n.to_bytes(4, "big")) for n in range(start)]
    other = Tree([*shared, *(leaf_hash(seed + n.to_bytes(4, "big")) for n in range(start, size))])
    return body(start, note(size, root=other.root()), other.consistency_proof(start) if start else [])


@pytest.mark.parametrize("start", [0, 7, 20])
def test_of_many_histories_asked_for_at_once_one_is_cosigned(memory: WitnessMemory, start: int) -> None:
    if start:
        memory.advance(LOG.name, lambda known: Head(start, tree(start).root()))
    outcomes: list[object] = []
    begin = threading.Barrier(8)

    def one(number: int) -> None:
        begin.wait()
        try:
            outcomes.append(Witness(SIGNER, LOGS, memory).add_checkpoint(forked(start, number)))
        except Refused as refused:
            outcomes.append(refused.status)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [409] * 7


def test_tokens_are_asked_for_where_there_are_some(memory: WitnessMemory) -> None:
    shown = {"authorization": f"Bearer {'t' * 20}"}
    with asked(Witness(SIGNER, LOGS, memory, tokens=["t" * 20])) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {'t' * 20}"}):
            for answer in (
                client.post("/add-checkpoint", content=body(0, note(5)), headers=headers),
                client.get("/heads", headers=headers),
            ):
                assert answer.status_code == 401
        assert client.post("/add-checkpoint", content=body(0, note(5)), headers=shown).status_code == 200
        assert client.get("/heads", headers=shown).json()["heads"] == {
            LOG.name: {"size": 5, "root": tree(5).root().hex()}
        }


@given(data=st.binary(max_size=400))
def test_whatever_comes_is_refused_with_a_status(data: bytes) -> None:
    for begin in (b"", b"old 0\n\n", b"old 5\n"):
        with pytest.raises(Refused) as refused:
            judge(parse_request(begin + data), LOGS, Head())
        assert 400 <= refused.value.status < 500


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=8), lie=st.integers(0, 7), flip=st.booleans())
def test_a_witness_never_has_two_histories(sizes: list[int], lie: int, flip: bool) -> None:
    known = Head()
    for at, size in enumerate(sorted({*sizes})):
        seed = b"forked" if flip and at == lie else b""
        other = Tree([leaf_hash(seed + n.to_bytes(4, "big")) for n in range(size)])
        proof = other.consistency_proof(known.size) if 0 < known.size < size else []
        request = parse_request(body(known.size, note(size, root=other.root()), proof))
        if seed and known.size:
            with pytest.raises(Refused):
                judge(request, LOGS, known)
            continue
        if seed:
            return  # the first head that it sees is the one it knows
        known = judge(request, LOGS, known)
        assert known == Head(size, tree(size).root())


def test_the_key_of_a_cosigner_is_another_than_that_of_a_signer() -> None:
    key = cosigner_key(SIGNER)
    assert VerifierKey.from_text(key.text) == key
    assert key.key_id != SIGNER.verifier.key_id
