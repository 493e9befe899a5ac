"""What a decision, an exchange and a revocation cost; how fast scenarios are played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from issuer.emitting.sinks import FileSink
from issuer.example.founding import write_example
from issuer.scenarios.catalogue import play, write
from issuer.serving import Settings, served
from issuer.state.database import Database
from tests.benchmarks.conftest import Record
from tests.issuing import NOW, TICKETS, TRIAGE, URLS, Answer, Company

RUNS = 5
REQUESTS = 400
ROUTER = "router:production/main"


@pytest.fixture
def firm(tmp_path: Path) -> Company:
    folder = tmp_path / "company"
    write_example(folder, now=NOW)
    return Company.of(folder, Database(folder / "state.db"))


def _p99(prepare: Callable[[], Callable[[], Answer]]) -> float:
    """Milliseconds of the slowest request in a hundred, in-process: service, policy, state on the disk."""
    taken = []
    for number in range(REQUESTS + 20):
        ask = prepare()
        begun = time.perf_counter()
        answer = ask()
        if number >= 20:  # the first ones warm up
            taken.append(time.perf_counter() - begun)
        assert answer.status == 200, answer
    return sorted(taken)[int(len(taken) * 0.99)] * 1_000


def test_evaluation_and_exchange(firm: Company, record: Record) -> None:
    session = firm.session()
    question = {
        "subject": {"type": "user", "id": "alice"}, "action": {"name": "ticket:read"},
        "resource": {"type": "ticket", "id": "4711"}, "context": {"sid": session["sid"], "agent": TRIAGE},
    }  # fmt: skip

    def evaluation() -> Callable[[], Answer]:
        firm.time[0] += 0.02
        headers = {"Authorization": f"Bearer {firm.assertion(ROUTER, 'pdp')}"}
        return lambda: firm.call("pdp", "POST", "/access/v1/evaluation", json=question, headers=headers)

    def exchange() -> Callable[[], Answer]:
        firm.time[0] += 0.02  # within the rate of one client
        headers = firm.proof(TRIAGE, "POST", f"{URLS['broker']}/token")
        return lambda: firm.exchange(TRIAGE, session["session"], headers=headers, audience=TICKETS)

    record("evaluation_p99", [_p99(evaluation) for _ in range(RUNS)], "ms", 3.0)
    record("exchange_p99", [_p99(exchange) for _ in range(RUNS)], "ms", 15.0)
    firm.close()


@pytest.mark.parametrize(
    ("figure", "waits", "target"), [("block_push", True, 1.0), ("block_poll", False, 5.0)]
)
def test_from_signal_to_first_block(
    tmp_path: Path, record: Record, figure: str, waits: bool, target: float
) -> None:
    """Over real sockets: until the last enforcement point has heard of a revocation."""
    from issuer.revocation import PRINCIPAL_REVOKED, tell

    folder = tmp_path / "company"
    write_example(folder, now=time.time())

    async def measure() -> list[float]:
        taken = []
        settings = Settings(folder, "production", base_port=0, feed_waits=waits)
        async with served(settings, FileSink(tmp_path / "events.jsonl")) as stack:
            points = list(stack.points.values())
            for number in range(RUNS):
                name = f"agent:production/none-{number}"
                begun = time.perf_counter()
                tell(
                    stack.deployment.db, stack.deployment.recorder, name, PRINCIPAL_REVOKED,
                    reason="bench", cause="revocation",
                )  # fmt: skip
                while not all(name in point.feed._principals for point in points):  # noqa: ASYNC110 - it is timed
                    await asyncio.sleep(0.002)
                taken.append(time.perf_counter() - begun)
        return taken

    record(figure, asyncio.run(measure()), "s", target)


def test_scenarios(tmp_path: Path, record: Record) -> None:
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        played = play("company-week", 7, rate=88)
        write(played, tmp_path / "week.jsonl")
        taken.append((time.perf_counter() - begun) * 100_000 / len(played.events))
        assert len(played.events) > 90_000
    record("scenario_100k_events", taken, "s", 20.0)
