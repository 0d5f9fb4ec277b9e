# SPDX-License-Identifier: Apache-2.0
"""A question may not write, read elsewhere, change settings, or run for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from datapipe.errors import DatapipeError, DeclarationError, ExecutionError
from datapipe.lineage.console import Limits, ask
from datapipe.lineage.store import Lineage

REFUSED = """
copy runs to '{out}'
copy (select 1) to '{out}' (format parquet)
copy runs from '/etc/passwd'
export database '{out}'
import database '{out}'
attach '{out}'
attach '{index}' as again
attach ':memory:' as mine
detach lineage
use memory
install httpfs
load httpfs
install 'spatial' from 'http://127.0.0.1:9/'
set memory_limit = '1TB'
set threads = 64
set enable_external_access = true
set lock_configuration = false
set temp_directory = '{out}'
reset enable_external_access
pragma enable_external_access
pragma database_list
pragma memory_limit = '1TB'
checkpoint
force checkpoint lineage
vacuum
analyze
begin
commit
call enable_logging('QueryLog')
prepare p as select 1
execute p
create table x as select 1
create temp table x as select 1
create or replace view dropped_rows as select 1
create macro f() as 1
create secret s (type s3)
insert into runs (run_id) values ('x')
update runs set run_id = 'x'
delete from runs
truncate runs
drop table runs
drop view dropped_rows
alter table runs add column x int
comment on table runs is 'x'
from read_text('/etc/passwd')
from read_csv('/etc/passwd')
from read_blob('/etc/passwd')
from read_parquet('{out}')
from read_json('{out}')
from '/etc/passwd'
from '{index}'
from glob('/*')
from sniff_csv('/etc/passwd')
from parquet_metadata('{out}')
from parquet_schema('{out}')
from query('copy runs to ''{out}''')
from query_table('/etc/passwd')
from enable_logging('QueryLog', storage = 'file', storage_path = '{out}')
from disable_logging()
from duckdb_secrets()
from which_secret('a', 'b')
from read_csv('https://127.0.0.1:9/a.csv')
from 's3://bucket/a.parquet'
from local_variable
from arrow_scan(140000, 140000, 140000)
from pandas_scan(140000)
select getenv('HOME')
explain analyze create temp table dropped_rows as select 'forged' as reason
explain analyze create or replace temp view dropped_rows as select 'forged' as reason
/* a */ explain -- b
explain /* a */ analyze create temp table x as select 1
explain /* /* a */ */ analyze create temp table x as select 1
explain (analyze) create temp table x as select 1
explain (analyze, format json) create temp macro f() as 1
explain analyze create table memory.main.x as select 1
explain analyze set threads = 64
explain create temp table x as select 1
update extensions
select 1; select 2
select 1; drop table runs

not sql at all
select
""".strip("\n").split("\n")


def test_nothing_gets_out_or_in(filled: Lineage, monkeypatch):
    local_variable = filled.sql("from runs")
    assert local_variable.height == 1
    folder = filled.store.parent
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    index = filled.store / "lineage.duckdb"
    before = index.read_bytes(), sorted(p.name for p in folder.rglob("*"))
    for question in REFUSED:
        with pytest.raises(DatapipeError) as caught:
            print(question, filled.sql(question.format(out=folder / "out", index=index)))
        assert caught.value.exit_code in (2, 6), caught.value
        assert (index.read_bytes(), sorted(p.name for p in folder.rglob("*"))) == before, question
        assert "forged" not in filled.sql("from dropped_rows")["reason"]


ANSWERED = [
    "from dropped_rows",
    "FROM dropped_rows SELECT count(*)",
    "select reason, count(*) as n from dropped_rows group by all order by n",
    "with a as (select 1 as b) from a",
    "values (1, 2)",
    "describe dropped_rows",
    "summarize findings",
    "show tables",
    "explain from dropped_rows",
    "explain analyze from dropped_rows",
    "/* a */ explain /* b */ (analyze, format json) -- c\nwith a as (select 1) from a",
    "select * from steps; -- done",
    "select params ->> 'b' from steps",
    "from log_root_at(3)",
]


def test_questions_are_answered(filled: Lineage):
    for question in ANSWERED:
        assert filled.sql(question).height > 0, question


def test_values_are_values_and_not_sql(filled: Lineage):
    query = "select count(*) from runs where run_id = $run"
    assert filled.sql(query, run="r1").item() == 1
    assert filled.sql(query, run="r1' or 'a' = 'a").item() == 0
    with pytest.raises(DeclarationError, match="run"):
        filled.sql(query)
    with pytest.raises(DeclarationError, match="other"):
        filled.sql(query, run="r1", other=1)


def test_counts_are_integers(filled: Lineage):
    assert filled.sql("select sum(rows) as n from sources").item() == 10
    assert filled.sql("select sum(rows) as n from sources where false").item() is None
    assert filled.sql("select (2::hugeint ** 100)::hugeint as n").item() == 2**100


def test_a_wrong_name_is_told_with_the_closest(filled: Lineage):
    with pytest.raises(DeclarationError) as caught:
        filled.sql("from droped_rows")
    assert "dropped_rows" in str(caught.value)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("question", "limits", "says"),
    [
        (
            "select count(*) from range(1e9::int) a, range(1e9::int) b",
            Limits(0.3),
            "longer than 0.3",
        ),
        ("select sleep_ms(60000)", Limits(0.3), "longer than 0.3"),
        (
            "select i from range(1e9::int) t(i) order by hash(i)",
            Limits(20, memory="100MB"),
            "more than 100MB of memory",
        ),
        ("from range(1e12::bigint)", Limits(20, answer_bytes=10_000_000), "larger than 10,000,000"),
        (
            "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r",
            Limits(0.5, memory="200MB"),
            "the question",
        ),
    ],
)
def test_a_runaway_question_is_stopped(filled: Lineage, question, limits, says):
    with pytest.raises(ExecutionError, match=says) as caught:
        ask(filled.store / "lineage.duckdb", question, {}, limits)
    assert caught.value.exit_code == 6
    assert filled.sql("from runs").height == 1


def test_no_index_is_made_by_asking(tmp_path: Path):
    with pytest.raises(ExecutionError, match="is not there"):
        ask(tmp_path / "lineage.duckdb", "select 1", {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_quotes_spaces_and_letters(tmp_path: Path):
    lineage = Lineage(tmp_path / 'it\'s a "störe"; drop' / ("x" * 200), create=True)
    lineage.append([("runs", {"run_id": "r"})])
    assert lineage.sql("from runs").height == 1
    lineage.rebuild()
    assert lineage.verify() == []


def test_columns_of_one_name_are_told_apart(filled: Lineage):
    asked = "select 1 as a, 2 as a, 3 as a_1, 4 as a, 5 as b"
    assert filled.sql(asked).rows(named=True) == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4, "b": 5}]


@pytest.mark.parametrize(
    "value",
    [
        "'infinity'::date",
        "'-infinity'::timestamp",
        "'294246-01-01'::timestamptz",
        "[null, 'infinity'::date]",
        "{'a': [{'b': '-infinity'::date}]}",
        "map {1: '290000-01-01'::date}",
        "['infinity'::timestamp]::timestamp[1]",
    ],
)
def test_a_time_that_no_calendar_has_is_told_as_text(filled: Lineage, value: str):
    told = filled.sql(f"select {value} as v").item()
    assert told == filled.sql(f"select ({value})::varchar as v").item()


def test_times_at_the_ends_of_the_calendar_are_answered(filled: Lineage):
    asked = "select '0001-01-01'::date a, '9999-12-31 23:59:59.999999'::timestamp b, null::date c"
    told = filled.sql(asked).row(0)
    assert [str(told[0]), str(told[1]), told[2]] == [
        "0001-01-01",
        "9999-12-31 23:59:59.999999",
        None,
    ]


DEEP = "(repeat('[', 50000) || repeat(']', 50000))::json"
FATAL = [
    f"select {DEEP}::variant",
    f"select cast({DEEP} as VARIANT) as v",
    f'select {DEEP}::"Variant"[1]',
    f"select variant_typeof({DEEP})",
    f"describe select {DEEP}::variant as v",
    f"explain analyze select {DEEP}::variant as v",
    f"select 'é' as \"ü\", /* ' */ {DEEP}::variant -- '",
    f"with a as (select {DEEP} as j) select j::variant from a",
    f"from query('select {DEEP.replace(chr(39), chr(39) * 2)}::vari' || 'ant as v')",
    "from \"query\" /* of a text */ ('select 1')",
    "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
]
"""Each of the first nine ended the process with a segmentation fault."""


@pytest.mark.parametrize("question", FATAL)
def test_what_ends_the_process_is_refused(filled: Lineage, question: str):
    with pytest.raises(DeclarationError, match=r"refused: .*\[DP-DECL-051\]"):
        filled.sql(question)
    assert filled.sql("from runs").height == 1


def test_a_text_may_hold_any_word(filled: Lineage):
    asked = (
        "select 'variant' as a, $$::variant$$ as b, \"query\" from (select 1 as query) -- variant"
    )
    assert filled.sql(asked).row(0) == ("variant", "::variant", 1)
    assert filled.sql("from dropped_rows where reason like '%variant%'").height == 0


@pytest.mark.parametrize(
    "question",
    [
        f"select {'(' * 50_000}1{')' * 50_000}",
        f"select {'[' * 5_000}1{']' * 5_000}",
        f"select {'not ' * 50_000}true",
        f"select {'abs(' * 20_000}1{')' * 20_000}",
        f"select null::int{'[]' * 20_000}",
        f"select null::{'struct(a ' * 5_000}int{')' * 5_000}",
        f"select * from {'(select * from ' * 3_000}(select 1){')' * 3_000}",
        f"with {', '.join(f'c{i + 1} as (from c{i})' for i in range(1_500))} from c1500",
        f"select json_structure({DEEP})",
        f"select json_transform({DEEP}, '[\"INT\"]') is null",
        f"select json_merge_patch({DEEP}, {DEEP}) is null",
        f"select {DEEP} = {DEEP}",
        "select regexp_matches('a', repeat('(', 50000) || 'a' || repeat(')', 50000))",
        f"select '{'a' * 2_000_000}' = ''",
        f"select {'9' * 20_000}",
    ],
)
def test_whatever_is_deep_or_long_is_answered_or_refused(filled: Lineage, question: str):
    code = 0
    try:
        assert filled.sql(question).height == 1
    except DatapipeError as error:
        code = error.exit_code
    assert code in (0, 2, 6)
    assert filled.sql("from runs").height == 1


def test_what_is_nested_too_deep_for_a_frame_is_told_as_text(filled: Lineage):
    told = filled.sql(f"select 1 as a, {'[' * 200}1{']' * 200} as b, [2] as c")
    assert told.row(0) == (1, "[" * 200 + "1" + "]" * 200, "[2]")
