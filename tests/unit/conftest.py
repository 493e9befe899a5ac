"""What several unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.issuing import Company


@pytest.fixture
def firm(company: Path) -> Iterator[Company]:
    """The example company's services, on a clock of the test's own."""
    firm = Company.of(company)
    yield firm
    firm.close()
