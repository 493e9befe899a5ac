"""Workers over a real Kafka are killed again and again under load, and the broker too: all is sealed once.

A case is a topic of four partitions and two workers that share it. Both are real processes of the command.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ledger.errors import LedgerError
from ledger.reader import Ledger
from ledger.storage.stores import open_store
from ledger.verify.verification import verify
from tests.broker.broker import Restartable
from tests.broker.jars import BrokerUnavailable, fetch, java_command
from tests.broker.topics import Topics
from tests.making import wire_message
from tests.reliability.campaign import Campaign, Tally
from tests.services import command

PARTITIONS = 4
WORKERS = 2
DEADLINE_SECONDS = 600.0
SMALL = (12_000, 2)
LARGE = (150_000, 10)
"""Events and moments of kills of the first case, which the tests run, and of each other one."""


Case = Callable[[int, Path, Restartable, Topics, Tally], None]


class Flock:
    """The workers of one case, of which one is killed now and then."""

    def __init__(self, folder: Path, bootstrap: str, topic: str) -> None:
        self._place, self._ledger = folder, folder / "ledger"
        self._bootstrap, self._topic = bootstrap, topic
        self._run("init", "--origin", "test.example/kills")
        self.workers = [self._worker() for _ in range(WORKERS)]

    def kill(self, which: int) -> None:
        """One dies without a word, and another takes its place."""
        self.workers[which].kill()
        self.workers[which].wait()
        self.workers[which] = self._worker()

    def watch(self, tally: Tally) -> None:
        """Start anew what ended by itself, as a supervisor does; only a lost broker may be the reason."""
        for which, worker in enumerate(self.workers):
            code = worker.poll()
            if code is not None:
                tally.counts[f"a worker ended with {code}"] += 1
                if code != 3:
                    tally.fail("ended otherwise", f"{self._topic}: a worker ended with {code}")
                self.workers[which] = self._worker()

    def end(self) -> None:
        """Ask all to end, and wait."""
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(120)

    def sealed(self) -> int:
        """Messages that are sealed so far."""
        try:
            with Ledger.open(str(self._ledger), remember=False) as ledger:
                return sum(position.to for position in ledger.state.positions.values())
        except LedgerError:
            return 0

    def _worker(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command("ingest", "kafka", "--bootstrap", self._bootstrap, "--topic", self._topic, "--group",
                     self._topic, "--ledger", str(self._ledger), "--batch-rows", "2000"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(self._place),
        )  # fmt: skip

    def _run(self, *arguments: str) -> None:
        subprocess.run(
            command(*arguments, "--ledger", str(self._ledger)), check=True, stdout=subprocess.DEVNULL,
            env=environment(self._place), timeout=120,
        )  # fmt: skip


def with_broker(cases: range, folder: Path, case: Case) -> Iterator[Tally]:
    """Run cases one after another, each in a folder of its own, over one broker that they may kill."""
    if not cases:
        return
    with tempfile.TemporaryDirectory(dir=folder) as place:
        broker = Restartable(Path(place))
        try:
            for number in cases:
                begun = time.monotonic()
                tally = Tally(cases=1)
                with tempfile.TemporaryDirectory(dir=folder) as made, Topics(broker.bootstrap) as topics:
                    case(number, Path(made), broker, topics, tally)
                tally.seconds = time.monotonic() - begun
                yield tally
        finally:
            broker.stop()


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    return with_broker(cases, folder, _case)


def _case(number: int, folder: Path, broker: Restartable, topics: Topics, tally: Tally) -> None:
    chance = random.Random(f"kills {number}")
    count, kills = LARGE if number else SMALL
    topic = topics.create(PARTITIONS)
    share = count // PARTITIONS
    for partition in range(PARTITIONS):
        messages = (wire_message(n) for n in range(partition * share, (partition + 1) * share))
        topics.fill(topic, messages, partition=partition, codec="lz4")
    flock = Flock(folder, broker.bootstrap, topic)
    due = sorted(chance.randrange(count // 50, count * 9 // 10) for _ in range(kills))
    restart: int | None = chance.randrange(count // 10, count * 8 // 10)
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while (sealed := flock.sealed()) < count:
            if time.monotonic() > deadline:
                tally.fail("lost", f"case {number}: {sealed} of {count} sealed in {DEADLINE_SECONDS:.0f} s")
                return
            flock.watch(tally)
            if restart is not None and sealed >= restart:
                restart = None
                broker.kill()
                tally.counts["the broker was killed"] += 1
                broker.start()
            if due and sealed >= due[0]:
                due.pop(0)
                for which in chance.sample(range(WORKERS), chance.choice((1, WORKERS))):
                    flock.kill(which)
                    tally.counts["kills"] += 1
            time.sleep(0.05)
        flock.end()
    finally:
        for worker in flock.workers:
            worker.kill()
            worker.wait()
    tally.counts["events sealed"] += count
    _check(number, folder / "ledger", count, share, tally)


def _check(number: int, folder: Path, count: int, share: int, tally: Tally) -> None:
    with Ledger.open(str(folder), remember=False) as ledger:
        (row,) = ledger.sql("SELECT count(*) AS n, count(DISTINCT event_id) AS d FROM events").to_pylist()
        stands = {position.to for position in ledger.state.positions.values()}
        key = ledger.state.key
    if row["d"] != count or stands != {share}:
        tally.fail("lost", f"case {number}: {row['d']} of {count} events, offsets {stands}")
    if row["n"] != row["d"]:
        tally.fail("doubled", f"case {number}: {row['n'] - row['d']} events are there twice")
    report = verify(open_store(str(folder)), vkey=key)
    if not report.ok:
        tally.fail("damaged", f"case {number}: {[one.where for one in report.damaged[:3]]}")


def environment(folder: Path) -> dict[str, str]:
    """A home of the case's own."""
    home = {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return {**os.environ, **home}


def may_start() -> str | None:
    try:
        java_command()
        fetch()
    except BrokerUnavailable as reason:
        return f"no broker of our own can be started: {reason}"
    return None


CAMPAIGN = Campaign(
    "kills", "Workers over a real Kafka are killed under load, one or both, and its broker once a case.",
    40, 1, ("lost", "doubled", "damaged", "ended otherwise"), run, may_start,
)  # fmt: skip
