"""pytest plugin: the session fixture `kafka_bootstrap`, and a line that says which broker it was.

Load it with `pytest_plugins = ["tests.broker.plugin"]` in the root conftest. All workers of a run
share one broker, started by the first test that asks and ended with the run.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import run
from tests.broker.topics import Topics

RUN_VARIABLE = "DECISION_LEDGER_BROKER_RUN"
REQUIRE_VARIABLE = "DECISION_LEDGER_REQUIRE_KAFKA"


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # a worker of pytest-xdist: its controller has set the folder
    os.environ[RUN_VARIABLE] = f"{tempfile.mkdtemp(prefix='kafka-run-')}:{os.getpid()}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and RUN_VARIABLE in os.environ:
        run.end(_folder())
        del os.environ[RUN_VARIABLE]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    answer = _folder() / "broker.json"
    if answer.exists():
        found = json.loads(answer.read_text())
        said = found.get("label") or f"none, tests that need one were skipped ({found['unavailable']})"
        terminalreporter.write_line(f"Kafka broker: {said}")


@pytest.fixture(scope="session")
def kafka_bootstrap() -> str:
    """`host:port` of a real broker; skips without one, fails where one is required."""
    owner = int(os.environ[RUN_VARIABLE].rpartition(":")[2])
    answer = run.ask(_folder(), owner)
    if "unavailable" in answer:
        said = f"no Kafka broker: {answer['unavailable']}"
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(said)
        pytest.skip(said)
    return answer["bootstrap"]


@pytest.fixture
def topics(kafka_bootstrap: str) -> Iterator[Topics]:
    """Topics of this test alone, deleted at its end."""
    with Topics(kafka_bootstrap) as made:
        yield made


def _folder() -> Path:
    return Path(os.environ[RUN_VARIABLE].rpartition(":")[0])
