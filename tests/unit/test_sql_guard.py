"""What ad-hoc SQL is refused, and that ordinary analysts' SQL is not."""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb
import pytest

from ledger.errors import LedgerError, UsageError
from ledger.query.engine import VIEWS, QueryLimits, connect
from ledger.query.sql_guard import MAX_QUERY_CHARS, REFUSED_FUNCTIONS, check

ALLOWED = [
    "select 1",
    "from events",
    "table events",
    "values (1), (2)",
    "select * from main.events; -- the end",
    "select * from memory.main.\"EVENTS\" e where e.kind = 'decision'",
    "select kind, count(*) c from events group by all having c > 1 order by all limit 10 offset 2",
    "with a as (select * from events), b as (from a) select * from b union all select * from a",
    "with recursive t(a) as (select 1 union all select a + 1 from t where a < 10) select * from t",
    "with recursive t(a, b) using key (a) as (select 1, 1 union select a, b + 1 from t where b < 3) from t",
    "select * from events e asof join decisions d on e.trace_id = d.trace_id and e.time >= d.time",
    "select * from events e semi join decisions d using (event_id)",
    "select row_number() over (partition by kind order by time) r, lag(time) over w from events"
    " window w as (order by time) qualify r = 1",
    "select case when decision = 'deny' then 1 end, time::date, cast(count as decimal(10,2)) from events",
    "select {'a': 1}, [1, 2], map {'a': 1}, x'00'::blob, null::struct(a int), null::map(varchar, int)",
    "select time_bucket(interval 1 hour, time), time at time zone 'Europe/Berlin' from events",
    "select attributes->>'$.x', json_extract_string(attributes, '$.z') from events",
    "select list_transform(delegation, lambda x: upper(x)), [x for x in roles if x = 'a'] from events",
    "select delegation[1], delegation[1:2], unnest(delegation) from events",
    "select * from events e, unnest(e.delegation) as u(name)",
    "select * from events e, lateral (select e.kind) x",
    "select * from generate_series(timestamp '2026-01-01', timestamp '2026-01-02', interval 1 hour) t(h)",
    "select * from unnest([1, 2]) with ordinality",
    "select * exclude (raw), columns('.*_id') from events",
    "select * from events where exists (from decisions d where d.event_id = events.decision_ref)",
    "select * from decisions d where d.time > (with m as (select max(time) t from events) select t from m)",
    "select quantile_cont(epoch(time), 0.95), string_agg(kind, ',' order by kind) from events",
    "select count(*) filter (where kind is null) from events",
    "select * from (pivot events on decision in ('allow', 'deny') using count(*) group by kind)",
    "unpivot (select count, sent from events) on count, sent",
    "select kind, grouping(kind) from events group by rollup (kind)",
    "select distinct on (kind) kind, time from events order by kind, time desc nulls last",
    "select * from events using sample 10 rows",
    "select kind from events intersect select kind from decisions except select 'a'",
    "select lpad(kind, 10, ' '), repeat('-', 20), printf('%05d', 3), format('{:.2f}', 1.5) from events",
    "select principal(delegated_actor, actor), exceeds(scopes, required_scopes) from events",
    "select * from delegation_edges join dead_letters on true",
    "with events as (select 1 x) select x from events",
    "select 'read_csv(''/etc/passwd''); copy x to y'",
]

NOT_SELECT = [
    "copy (select 1) to '{out}'",
    "with x as (copy (select 1) to '{out}') select 1",
    "select * from (with x as (copy (select 1) to '{out}') from x)",
    "select (with x as (copy events to '{out}') select 1)",
    "with x as (insert into events values (1) returning *) select * from x",
    "with x as (delete from events_ranges returning *) select * from x",
    "with x as (update events set kind = 'a' returning *) select * from x",
    "insert into events select * from events",
    "create table t as select 1",
    "create or replace view events as select 1",
    "drop view events",
    "attach '{out}' as other",
    "detach memory",
    "use memory",
    "pragma version",
    "pragma database_list",
    "call pragma_version()",
    "set threads = 1",
    "reset threads",
    "set variable a = 1",
    "install httpfs",
    "load httpfs",
    "export database '{out}'",
    "import database '{out}'",
    "explain analyze select 1",
    "prepare a as select 1",
    "execute a",
    "begin",
    "vacuum",
    "checkpoint",
    "show tables",
    "select * from (show tables)",
    "describe events",
    "select * from (summarize events)",
    "comment on view events is 'x'",
    "merge into events using decisions on true when matched then delete",
]

FILES_AND_CATALOGS = [
    "from '{secret}'",
    'from "{secret}"',
    "select * from read_csv('{secret}')",
    "select * from READ_TEXT('{secret}')",
    "select * from read_blob('{secret}')",
    "select * from read_json('{secret}')",
    "select * from read_parquet('{secret}')",
    "select * from parquet_metadata('{secret}')",
    "select * from parquet_scan('{secret}')",
    "select * from sniff_csv('{secret}')",
    "select * from glob('/*')",
    "select * from system.main.glob('/*')",
    "select * from query('select 1')",
    "select * from query_table('events')",
    "select * from query_table(['events', 'decisions'])",
    "select 1 where exists (from read_text('{secret}'))",
    "select (select content from read_text('{secret}'))",
    "select * from events e, lateral (from read_text(e.reason))",
    "with a as (from read_text('{secret}')) from a",
    "select list_transform([1], lambda x: (select content from read_text('{secret}')))",
    "select * from duckdb_settings()",
    "select * from duckdb_views",
    "select * from duckdb_secrets()",
    "select * from sqlite_master",
    "select * from information_schema.tables",
    "select * from pg_catalog.pg_views",
    "select * from pragma_table_info('events')",
    "select * from which_secret('a', 'b')",
    "select * from json_execute_serialized_sql('{{}}')",
    "select * from python_map_function()",
    "select * from arrow_scan(1, 2, 3)",
    "select * from seq_scan(1)",
    "select * from repeat('x', 10)",
    "select * from other.events",
    "select * from memory.other.events",
    "select * from events_ranges",
    "select * from local_variable",
    # a CTE is visible after itself and inside its own statement only
    'with a as (from "{secret}"), "{secret}" as (select 1) from a',
    'select * from (with "{secret}" as (select 1) select 1), "{secret}"',
    'with "{secret}" as (from "{secret}") select 1',
]

FUNCTIONS = [
    "select current_setting('allowed_paths')",
    "select system.main.current_setting('allowed_paths')",
    "select \"Current_Setting\"('allowed_paths')",
    "select 'allowed_paths'.current_setting()",
    "select getenv('HOME')",
    "select list_transform(['a'], lambda x: current_setting(x))",
    "select count(*) over (order by current_setting('threads')) from events",
    "select 1 order by current_setting('threads')",
    "select write_log('x')",
    "select sleep_ms(100000)",
    "select pg_sleep(100000)",
    "select nextval('a')",
    "select json_serialize_plan('from events')",
    "select len(range(100000000))",
    "select unnest(generate_series(1, 10000000000))",
    "select * from unnest(range(100000000))",
    "select length(repeat('x', 2000000000))",
    "select length(repeat('x', 1000 * 1000000))",
    "select length(lpad('x', 1000000000, 'y'))",
    "select length(rpad('x', sent, 'y')) from events",
    "select list_resize([1], 100000000)",
    "select bitstring('1', 1000000000)",
    "select printf('%1000000000d', 1)",
    "select printf('%*d', 1000000000, 1)",
    "select format('{{:1000000000}}', 1)",
    "select format('{{:{{}}}}', 1, 1000000000)",
    "select format(reason, 1) from events",
]


@pytest.fixture(scope="module")
def parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@pytest.mark.parametrize("text", ALLOWED)
def test_ordinary_queries_pass_and_run(text: str, parser: duckdb.DuckDBPyConnection) -> None:
    check(text, parser, VIEWS)
    with connect([]) as query:
        query.sql(text)


@pytest.mark.parametrize("text", NOT_SELECT)
def test_everything_but_select_is_refused(text: str, parser: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UsageError, match="Only SELECT"):
        check(text.format(out="/nowhere/out"), parser, VIEWS)


@pytest.mark.parametrize("text", FILES_AND_CATALOGS)
def test_nothing_but_the_views_can_be_read(text: str, parser: duckdb.DuckDBPyConnection) -> None:
    local_variable = [1]
    with pytest.raises(UsageError, match=r"There is no table|table function|function which_secret"):
        check(text.format(secret="/nowhere/secret.csv"), parser, VIEWS)
    assert local_variable


@pytest.mark.parametrize("text", FUNCTIONS)
def test_functions_without_bound_or_with_a_view_of_the_machine(
    text: str, parser: duckdb.DuckDBPyConnection
) -> None:
    with pytest.raises(UsageError):
        check(text.replace("{{", "{").replace("}}", "}"), parser, VIEWS)


@pytest.mark.parametrize(
    "text", ["", "  -- nothing", "select 1; select 2", "select 1; copy (select 1) to 'x'"]
)
def test_exactly_one_statement(text: str, parser: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UsageError, match=r"exactly one|Only SELECT"):
        check(text, parser, VIEWS)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("select 1\0; copy (select 1) to 'x'", "NUL"),
        ("select " + "1," * MAX_QUERY_CHARS + "1", "characters"),
        ("select " + "(" * 5_000 + "1" + ")" * 5_000, ""),
        ("select " + "1+" * 900 + "1", ""),
        ("selec 1", "not valid SQL"),
        ("select '", "not valid SQL"),
        ("select \ud800", "cannot be read"),
    ],
)
def test_odd_texts_get_a_plain_sentence(text: str, what: str, parser: duckdb.DuckDBPyConnection) -> None:
    if not what:
        with contextlib.suppress(UsageError):
            check(text, parser, VIEWS)
        return
    with pytest.raises(UsageError, match=what) as caught:
        check(text, parser, VIEWS)
    assert caught.value.remedy


def test_the_second_wall_holds_without_the_guard(tmp_path: Path) -> None:
    """Our own entry point runs anything, and yet the settings let it touch nothing."""
    with connect([], limits=QueryLimits(seconds=5)) as query:
        local_variable = [1]
        for text in [
            f"copy (select 1) to '{tmp_path}/out.csv'",
            f"with x as (copy (select 1) to '{tmp_path}/out.csv') select 1",
            "select * from read_text('/etc/hostname')",
            "select * from glob('/*')",
            f"attach '{tmp_path}/other.db'",
            "set threads = 1",
            "set enable_external_access = true",
            "set allowed_paths = []",
            "set temp_directory = '/nowhere'",
            "select * from local_variable",
            "install httpfs",
        ]:
            with contextlib.suppress(LedgerError):
                assert query.trusted(text).num_rows == 0, text
        assert local_variable
        assert not list(tmp_path.iterdir())
        folder = query.trusted("select current_setting('temp_directory') t").column("t")[0].as_py()
        assert not folder


def test_every_impure_function_was_looked_at(parser: duckdb.DuckDBPyConnection) -> None:
    """A new DuckDB that adds a volatile function makes someone decide about it here."""
    harmless = {
        "current_database", "current_date", "current_query", "current_schema", "current_schemas", "error",
        "gen_random_uuid", "get_current_time", "get_current_timestamp", "in_search_path", "now", "random",
        "today", "transaction_timestamp", "uuid", "uuidv4", "uuidv7", "vector_type",
    }  # fmt: skip
    rows = parser.execute(
        "select distinct function_name from duckdb_functions() where stability is not null"
        " and stability <> 'CONSISTENT' and function_type = 'scalar'"
    ).fetchall()
    assert {name for (name,) in rows} - REFUSED_FUNCTIONS == harmless
