"""The guard finds what is forbidden however deep it lies, and lets what is allowed through as deep."""

from __future__ import annotations

import contextlib

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import LedgerError, UsageError
from ledger.query.engine import VIEWS, QueryLimits, connect
from ledger.query.sql_guard import check

PARSER = duckdb.connect()

# Each takes a query that gives one column named x.
WRAPPERS = [
    "select x from ({}) t",
    "with a as ({}) select x from a",
    "with a as (select 1 x), b as ({}) select x from b union all select x from a",
    "with recursive r(x) as (({}) union all select x from r where false) select x from r",
    "select x from (values (1)) v(x) where exists ({})",
    "select (select x from ({}) s limit 1) as x",
    "select case when 1 in ({}) then 1 end as x",
    "select 1 as x from events e, lateral ({}) l",
    "select x from (select 1 x) union ({})",
    "select x from (select 1 x) a semi join ({}) b using (x)",
    "select list_transform([1], lambda y: (select x from ({}) s limit 1)) as x",
    "select 1 as x order by (select x from ({}) s limit 1)",
    "select 1 as x limit (select count(*) from ({}) s)",
    "select count(*) filter (where 1 in ({})) as x from events",
    "select x from (pivot ({}) on x in (1) using count(*)) p, (select 1 x)",
    "select * from unnest([(select x from ({}) s limit 1)]) u(x)",
    "select 1 as x from events group by kind having 1 in ({})",
    "select 1 as x from events qualify row_number() over () in ({})",
    "select distinct on ((select x from ({}) s limit 1)) 1 as x",
]
HOSTILE = [
    "from read_text('f')",
    "select 1 as x from 'f.parquet'",
    "select 1 as x from query('select 1')",
    "select current_setting('threads') as x",
    "select 1 as x from duckdb_settings()",
    "select 1 as x from information_schema.tables",
    "with c as (copy (select 1) to 'f') select 1 as x",
    "with c as (insert into events values (1) returning *) select 1 as x",
    "select len(range(1000000000)) as x",
    "select repeat('x', 1000000000) as x",
    "select 1 as x from (show tables)",
]
BENIGN = ["select 1 as x", "select kind as x from decisions", "select a as x from range(3) t(a)"]


@st.composite
def nested(draw: st.DrawFn, cores: list[str]) -> str:
    text = draw(st.sampled_from(cores))
    for wrapper in draw(st.lists(st.sampled_from(WRAPPERS), max_size=4)):
        text = wrapper.format(text)
    return text


@given(nested(HOSTILE))
@settings(deadline=None)
def test_hostile_parts_are_found_at_any_depth(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(text, PARSER, VIEWS)
    assert "not valid SQL" not in caught.value.message


@given(nested(BENIGN))
@settings(deadline=None)
def test_ordinary_parts_pass_at_any_depth(text: str) -> None:
    check(text, PARSER, VIEWS)


@given(st.text(max_size=40) | st.builds("select {}".format, st.text(max_size=20)))
@settings(deadline=None, max_examples=50)
def test_any_text_gives_an_answer_or_one_of_our_errors(text: str) -> None:
    with connect([], limits=QueryLimits(seconds=5, threads=1)) as query, contextlib.suppress(LedgerError):
        query.sql(text)
