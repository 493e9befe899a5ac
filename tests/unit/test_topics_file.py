"""One file of topics: each with its format, its intake, and what it may deliver."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.authority import Intake
from ingest.chunk import Chunk
from ingest.pipeline import Pace, Pipeline
from ingest.routes import read_topics
from ingest.sources import Ended, Polled
from ledger.errors import UsageError
from ledger.format.manifest import OffsetKey
from ledger.reader import Ledger
from tests.foreign_shapes import CERBOS, OPA
from tests.making import make_ledger

TOPICS = """
[kafka]
bootstrap = "broker:9092"
group = "readers"
client = { security_protocol = "SSL" }

[[kafka.topic]]
name = "cerbos.audit.log"
format = "cerbos"
intake = { kinds = ["decision"], sources = ["cerbos/*"] }
limits = { message_bytes = 100000 }
options = { source = "cerbos/payments" }

[[kafka.topic]]
name = "opa"
format = "opa"
intake = "opa.toml"

[[kafka.topic]]
name = "rest"
"""


def written(folder: Path, text: str = TOPICS) -> Path:
    (folder / "opa.toml").write_text('[intake]\nname = "pdp"\nsources = ["opa/todo"]\n')
    path = folder / "topics.toml"
    path.write_text(text)
    return path


class Messages:
    """A source that gives one message of each topic, and ends."""

    finished = False

    def __init__(self, messages: dict[str, bytes]) -> None:
        self._messages = messages

    def poll(self, timeout: float) -> Polled:
        del timeout
        self.finished = True
        return Polled([
            Chunk(OffsetKey(topic, 0, f"{n:022d}"), 0, 1, np.arange(1), pa.array([value], pa.large_binary()))
            for n, (topic, value) in enumerate(self._messages.items())
        ])  # fmt: skip

    def flushed(self) -> None: ...
    def sealed(self, key: OffsetKey, offset: int) -> None: ...
    def rewind(self, key: OffsetKey, offset: int) -> None: ...
    def close(self) -> None: ...

    def lag(self) -> dict[OffsetKey, int]:
        return {}

    def ended(self) -> dict[OffsetKey, Ended]:
        return {}


def test_each_topic_has_its_own_format_intake_and_limits(tmp_path: Path) -> None:
    read = read_topics(written(tmp_path))
    assert (read.kafka.bootstrap, read.kafka.group, read.kafka.client) == (
        "broker:9092", "readers", {"security_protocol": "SSL"},
    )  # fmt: skip
    cerbos, opa, rest = (read.routes[name] for name in ("cerbos.audit.log", "opa", "rest"))
    assert [one.adapter.name for one in (cerbos, opa, rest)] == ["cerbos", "opa", "native"]
    assert (cerbos.settings.limits.message_bytes, opa.settings.intake.name) == (100_000, "pdp")
    # What one topic's intake names, another may not say by chance.
    assert rest.settings.intake.claimed_by_others == ("cerbos/*", "opa/todo")
    assert not rest.settings.intake.may_deliver_source("cerbos/payments")
    assert rest.settings.intake.may_deliver_source("gateway")
    assert opa.settings.intake.may_deliver_source("opa/todo")


def test_messages_go_the_way_of_their_topic(tmp_path: Path) -> None:
    made = make_ledger(tmp_path / "made")
    forged = {"event_id": "x", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "opa/todo"}
    source = Messages({
        "cerbos.audit.log": json.dumps(CERBOS).encode(), "opa": json.dumps(OPA).encode(),
        "rest": json.dumps(forged).encode(),
    })  # fmt: skip
    Pipeline(
        source, adapter("native"), made.writer(), intake=Intake(name="unused"), pace=Pace(seconds=0.01),
        routes=read_topics(written(tmp_path)).routes,
    ).run()  # fmt: skip
    with Ledger.open(str(made.folder)) as ledger:
        found = ledger.sql(
            "SELECT topic, source, count(*) AS n FROM events GROUP BY ALL ORDER BY 1"
        ).to_pylist()
        (letter,) = ledger.sql("SELECT topic, reason FROM dead_letters").to_pylist()
    assert [tuple(one.values()) for one in found] == [
        ("cerbos.audit.log", "cerbos/payments", 2), ("opa", "opa/todo", 1),
    ]  # fmt: skip
    assert letter == {"topic": "rest", "reason": "this intake may not deliver this source"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\n", "kafka.topic"),
        ("[kafka]\ntopic = []\n", "kafka.topic"),
        ("[other]\n", "unknown section"),
        ('[[kafka.topic]]\nname = "a"\n[[kafka.topic]]\nname = "a"\n', "twice"),
        ('[[kafka.topic]]\nname = "a"\nformat = "csv"\n', "no format"),
        ('[[kafka.topic]]\nname = "a"\nintake = "none.toml"\n', "no intake file"),
        (
            '[[kafka.topic]]\nname = "a"\nintake = "opa.toml"\nlimits = { id_chars = 1 }\n',
            "settings of its own",
        ),
        ('[[kafka.topic]]\nname = "a"\nintake = { kind = ["x"] }\n', "no option kind"),
        ('[[kafka.topic]]\nname = "a"\nlimits = { id_chars = 0 }\n', "the limit id_chars is 0"),
        ('[[kafka.topic]]\nname = "a"\nwhat = 1\n', "kafka.topic.0.what"),
        ("[kafka", "not TOML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_topics(written(tmp_path, text))
    assert said in str(error.value)
