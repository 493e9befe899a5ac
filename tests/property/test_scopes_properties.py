"""The scope rule of Python and that of SQL give the same answer, for any text."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.format.scopes import SCOPE_MACROS, beyond, covers

SCOPES = st.text("ab:*/ \n\\.$", max_size=8) | st.text(max_size=5).filter(lambda text: "\0" not in text)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for macro in SCOPE_MACROS:
            connection.execute(macro)
        yield connection


@given(wide=SCOPES, scope=SCOPES)
def test_covers_is_one_rule(engine: duckdb.DuckDBPyConnection, wide: str, scope: str) -> None:
    (row,) = engine.execute("SELECT covers($b, $a)", {"b": wide, "a": scope}).fetchall()
    assert row == (covers(wide, scope),)


@given(scopes=st.lists(SCOPES, max_size=4), bounds=st.lists(SCOPES, max_size=4))
def test_exceeds_is_one_rule(engine: duckdb.DuckDBPyConnection, scopes: list[str], bounds: list[str]) -> None:
    asked = "SELECT exceeds($a::VARCHAR[], $b::VARCHAR[])"
    (row,) = engine.execute(asked, {"a": scopes, "b": bounds}).fetchall()
    assert row == (bool(beyond(scopes, bounds)),)
