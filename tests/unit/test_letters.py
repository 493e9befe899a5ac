"""Dead letters listed, shown and replayed: in few entries, once, with bounded memory."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.authority import Intake
from ingest.chunk import Chunk
from ingest.decoded import Limits
from ingest.intakes import IntakeSettings
from ingest.letters import listed, shown
from ingest.replay import BATCH_LETTERS, replay
from ingest.stretches import decoded_chunk, fate_of, split_headers, stretch_of, with_headers
from ledger.errors import UsageError
from ledger.format.manifest import OffsetKey
from ledger.reader import Ledger
from ledger.sealing.batch import REJECTED, SetAside
from tests.making import NOON, Made, make_ledger, row, stretch

SETTINGS = IntakeSettings(intake=Intake(name="replay"), limits=Limits())


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def message(number: int, **more: object) -> bytes:
    event = {"event_id": f"e{number}", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s"}
    return orjson.dumps({**event, **more})


def set_aside(made: Made, payloads: list[bytes], start: int = 0, key: OffsetKey | None = None) -> None:
    """Seals messages as rejected, whatever they hold."""
    made.writer().commit(
        [
            stretch(
                [], start, key, messages=[[]] * len(payloads), status=[REJECTED] * len(payloads),
                aside={n: SetAside("not understood", payload=data) for n, data in enumerate(payloads)},
            )
        ]
    )  # fmt: skip


def opened(made: Made) -> Ledger:
    return Ledger.open(str(made.folder))


def test_a_letter_keeps_the_headers_that_are_a_part_of_its_message(made: Made) -> None:
    event = {"actor": "user:a", "decision": "allow", "note": "password=hunter2"}
    told = {"ce_specversion": "1.0", "ce_id": "c1", "ce_source": "gate", "ce_time": "2026-11-23T11:00:00Z"}
    values = pa.array([orjson.dumps(event), b"\xff"], pa.large_binary())
    headers = [{**told, "ce_token": "hunter2"}, told]
    broken = Chunk(OffsetKey("t", 0, "I" * 22), 0, 2, np.arange(2), values, headers=headers)
    reader, limits = adapter("cloudevents"), Limits()
    decoded = decoded_chunk(reader, broken, limits, NOON)
    assert [(one.reason, one.field) for one in decoded.rejected] == [("missing", "type"), ("missing", "type")]
    made.writer().commit([stretch_of(broken, fate_of(broken, decoded, limits))])
    with opened(made) as ledger:
        rows, _ = listed(ledger, "rejected", 10)
        kept = [orjson.loads(shown(ledger, one["id"])["message"]) for one in reversed(rows)]
        assert kept[0]["headers"] == {**told, "ce_token": "[masked]"}
        assert "hunter2" not in repr(kept)
        assert kept[1] == {"headers": told, "value_base64": "/w=="}
        done = replay(ledger, made.writer(), reader, SETTINGS, [])
    assert done.to_json() == {"tried": 2, "sealed": 0, "events": 0, "still_rejected": 2}
    told["ce_type"] = "example.decision"
    letters = [with_headers(orjson.dumps(event), told), orjson.dumps({"headers": {}, "value": 3})]
    assert [split_headers(one) for one in letters] == [(orjson.dumps(event), told), (letters[1], {})]
    set_aside(made, letters[:1], key=OffsetKey("u", 0, "U" * 22))
    with opened(made) as ledger:
        done = replay(ledger, made.writer(), reader, SETTINGS, [])
    assert done.to_json() == {"tried": 3, "sealed": 1, "events": 1, "still_rejected": 2}


def test_replayed_letters_leave_the_list_and_the_status(made: Made) -> None:
    set_aside(made, [message(n) for n in range(3)] + [b"{"])
    with opened(made) as ledger:
        assert ledger.status()["dead_letters"] == {"rejected": 4}
        done = replay(ledger, made.writer(), adapter("native"), SETTINGS, [])
    assert done.to_json() == {"tried": 4, "sealed": 3, "events": 3, "still_rejected": 1}
    with opened(made) as ledger:
        assert ledger.status()["dead_letters"] == {"rejected": 1}
        rows, of = listed(ledger, "rejected", 10)
        assert (of, [one["record_offset"] for one in rows]) == (1, [3])
        rows, of = listed(ledger, "replayed", 2)
        assert (of, [one["record_offset"] for one in rows]) == (3, [2, 1])
        assert listed(ledger, "all", 10)[1] == 4
        assert shown(ledger, rows[0]["id"])["replayed"]
        assert replay(ledger, made.writer(), adapter("native"), SETTINGS, []).sealed == 0
        assert ledger.verify().ok


def test_a_replay_makes_one_commit_of_many_messages_and_seals_none_twice(made: Made) -> None:
    count = 2 * BATCH_LETTERS + 7
    set_aside(made, [message(n) for n in range(count)])
    with opened(made) as ledger:
        size = ledger.size
        assert replay(ledger, made.writer(), adapter("native"), SETTINGS, []).events == count
        # A second reader that has not seen the first replay.
        assert replay(ledger, made.writer(), adapter("native"), SETTINGS, []).to_json()["tried"] == 0
        ledger.refresh()
        assert ledger.size == size + 3
        assert ledger.sql("SELECT count(*) AS n, min(record_offset) AS a FROM events").to_pylist() == [
            {"n": count, "a": 0}
        ]
        assert ledger.verify().ok


def test_letters_of_several_keys_and_of_messages_sealed_before(made: Made) -> None:
    made.writer().commit([stretch([row(1)], key=OffsetKey("file:x"))])
    kafka = OffsetKey("t", 3, "A" * 22, None)
    set_aside(made, [message(1), message(2)], key=kafka)
    set_aside(made, [message(2), message(3)], key=OffsetKey("file:y"))
    with opened(made) as ledger:
        assert replay(ledger, made.writer(), adapter("native"), SETTINGS, []).events == 3
        ledger.refresh()
        topics = ledger.sql("SELECT topic, topic_id FROM events WHERE source = 's' ORDER BY 1").to_pylist()
        assert {one["topic"] for one in topics} == {"t", "file:y"}
        assert listed(ledger, "duplicate", 10)[1] == 1
        assert ledger.verify().ok


def test_only_what_is_named_is_replayed_and_nothing_where_one_is_unknown(made: Made) -> None:
    set_aside(made, [message(n) for n in range(4)])
    with opened(made) as ledger:
        ids = [one["id"] for one in listed(ledger, "rejected", 10)[0]]
        for wrong in ("nothing:0", ids[0].replace(":", ":9"), "x", f"{ids[0]}x", ids[0].partition(":")[0]):
            with pytest.raises(UsageError, match="no rejected dead letter"):
                replay(ledger, made.writer(), adapter("native"), SETTINGS, [ids[0], wrong])
            with pytest.raises(UsageError, match="no dead letter"):
                shown(ledger, wrong)
        assert replay(ledger, made.writer(), adapter("native"), SETTINGS, ids[:2]).sealed == 2
        ledger.refresh()
        assert listed(ledger, "rejected", 10)[1] == 2


def test_listing_many_letters_takes_little_memory_and_no_messages(made: Made) -> None:
    payload = b"x" * 1_000
    for start in range(0, 200_000, 50_000):
        set_aside(made, [payload] * 50_000, start)
    with opened(made) as ledger:
        ledger.query()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows, of = listed(ledger, "rejected", 3)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (len(rows), of) == (3, 200_000)
    assert "payload" not in rows[0]
    assert after - before < 200_000  # KiB; as Python rows they would be 400 MB and more


def test_the_message_of_a_letter_is_shown(made: Made) -> None:
    set_aside(made, [b'{"a":"\xc3\xa9"}'])
    with opened(made) as ledger:
        letter = listed(ledger, "rejected", 1)[0][0]["id"]
        assert shown(ledger, letter)["message"] == '{"a":"é"}'


def test_a_status_that_there_is_not(made: Made) -> None:
    with opened(made) as ledger:
        with pytest.raises(UsageError, match="no status 'lost'"):
            listed(ledger, "lost", 1)
        assert listed(ledger, "all", 1) == ([], 0)
