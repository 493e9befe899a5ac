"""The log in topics of a real broker, as entries and as OCSF: in order, whole, going on where they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from detections.delivery.entry_topic import EntryTopic, _numbered
from ledger.errors import UsageError
from ledger.format.manifest import Tick, parse_entry
from ledger.reader import Ledger
from tests.broker.topics import Topics
from tests.making import Made, make_ledger, row, stretch
from tests.services import run


def commit(made: Made, *numbers: int) -> None:
    writer = made.writer()
    for number in numbers:
        writer.commit([stretch([row(number)], number)])


def records(bootstrap: str, topic: str) -> list[tuple[int, bytes, dict[str, str]]]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    end = consumer.end_offsets([place])[place]
    found: list[tuple[int, bytes, dict[str, str]]] = []
    while len(found) < end:
        for one in consumer.poll(timeout_ms=1_000).get(place, []):
            headers = {name: value.decode() for name, value in one.headers}
            found.append((int(one.key), one.value, headers))
    consumer.close()
    return found


def exported(made: Made, bootstrap: str, topic: str) -> dict[str, int]:
    said = run(
        "export", "commits", "--bootstrap", bootstrap, "--topic", topic, "--ledger", made.folder, "--json"
    )
    value: dict[str, int] = json.loads(said)
    return value


def test_entries_arrive_in_order_and_go_on(tmp_path: Path, kafka_bootstrap: str, topics: Topics) -> None:
    made, topic = make_ledger(tmp_path), topics.create()
    commit(made, 0, 1)
    size = exported(made, kafka_bootstrap, topic)["next"]
    commit(made, 2, 3)
    assert exported(made, kafka_bootstrap, topic) == {"records": 2, "entries": 2, "next": size + 2}
    assert exported(made, kafka_bootstrap, topic) == {"records": 0, "entries": 0, "next": size + 2}
    found = records(kafka_bootstrap, topic)
    assert [key for key, _, _ in found] == list(range(size + 2))
    with Ledger.open(str(made.folder)) as ledger:
        assert [value for _, value, _ in found] == list(ledger.sealed.entries)
        assert {told["origin"] for _, _, told in found} == {ledger.state.origin}
    assert parse_entry(found[-1][1]).index == size + 1
    assert found[-1][2]["checkpoint-size"] == str(size + 2)


def test_an_entry_that_is_missing_comes_again_with_all_behind_it(
    tmp_path: Path, kafka_bootstrap: str, topics: Topics
) -> None:
    made, topic = make_ledger(tmp_path), topics.create()
    commit(made, 0, 1, 2)
    topics.fill_keyed(topic, [(b"0", b"x"), (b"2", b"x"), (b"3", b"x")])
    assert exported(made, kafka_bootstrap, topic)["next"] == 4
    assert [key for key, _, _ in records(kafka_bootstrap, topic)] == [0, 2, 3, 1, 2, 3]


def test_topics_that_cannot_be_used_are_named(tmp_path: Path, kafka_bootstrap: str, topics: Topics) -> None:
    made = make_ledger(tmp_path)
    wide, foreign, ahead = topics.create(2), topics.create(), topics.create()
    topics.fill(foreign, [b"x"])
    topics.fill_keyed(ahead, [(b"7", b"x")])
    for topic, said in ((wide, "2 partitions"), (foreign, "something else"), ("none-such", "no topic")):
        with pytest.raises(UsageError, match=said):
            EntryTopic(kafka_bootstrap, topic)
    with pytest.raises(AssertionError, match="do not belong together"):
        exported(made, kafka_bootstrap, ahead)


def ocsf(made: Made, bootstrap: str, topic: str, *more: str) -> dict[str, int]:
    said = run(
        "export", "ocsf", "--bootstrap", bootstrap, "--topic", topic, *more, "--ledger", made.folder, "--json"
    )
    value: dict[str, int] = json.loads(said)
    return value


def test_events_arrive_as_ocsf_and_go_on(tmp_path: Path, kafka_bootstrap: str, topics: Topics) -> None:
    made, topic = make_ledger(tmp_path), topics.create()
    writer = made.writer()
    writer.commit(
        [stretch([row(0), row(1, kind="session", decision=None), row(2, kind="task", decision=None)])]
    )
    writer.commit([stretch([row(3)], 3)])
    assert ocsf(made, kafka_bootstrap, topic) == {"records": 3, "entries": 3, "next": 3}
    writer.put(Tick, {})
    writer.commit([stretch([row(4)], 4)])
    # A log that ends with entries that hold no event is looked at again from there, and nothing comes twice.
    assert ocsf(made, kafka_bootstrap, topic)["records"] == 1
    assert ocsf(made, kafka_bootstrap, topic)["records"] == 0
    found = records(kafka_bootstrap, topic)
    assert [(key, json.loads(value)["metadata"]["uid"]) for key, value, _ in found] == [
        (1, "e0"), (1, "e1"), (2, "e3"), (4, "e4"),
    ]  # fmt: skip
    assert [told["class"] for _, _, told in found] == ["6003", "3002", "6003", "6003"]
    only = topics.create()
    assert ocsf(made, kafka_bootstrap, only, "--class", "3002")["records"] == 1


def test_an_entry_of_which_a_record_is_missing_comes_again_whole(
    tmp_path: Path, kafka_bootstrap: str, topics: Topics
) -> None:
    made, topic = make_ledger(tmp_path), topics.create()
    made.writer().commit([stretch([row(0), row(1), row(2)])])
    target = EntryTopic(kafka_bootstrap, topic)
    # As a broker leaves it that took the last record of an entry, and not one before it.
    numbered = [*_numbered([(1, b"{}", []), (1, b"{}", []), (1, b"{}", [])])]
    for key, value, headers in (numbered[0], numbered[2]):
        target._producer.send(topic, key=str(key).encode(), value=value, headers=headers, partition=0)
    target.close()
    assert EntryTopic(kafka_bootstrap, topic).next == 1
    assert ocsf(made, kafka_bootstrap, topic)["records"] == 3
    assert EntryTopic(kafka_bootstrap, topic).next == 2
