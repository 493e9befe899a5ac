"""One Spark in this process, without a network of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("pyspark", reason="`make spark` fetches it")


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    from detections.metrics.on_spark import local_spark

    session = local_spark()
    yield session
    session.stop()
