"""What several unit tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.benchmarks.comparisons import topics
from tests.issuing import Company

Lend = Callable[[object], None]


@pytest.fixture
def firm(company: Path) -> Iterator[Company]:
    """The example company's services, on a clock of the test's own."""
    firm = Company.of(company)
    yield firm
    firm.close()


@pytest.fixture
def lend_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lend:
    """Given what a benchmark needs: the broker of the run instead of one of its own, where it needs any."""

    def lend(needs: object) -> None:
        if needs in (topics.broker_needs, topics.spark_needs):
            monkeypatch.setenv(topics.BOOTSTRAP, request.getfixturevalue("kafka_bootstrap"))

    return lend
