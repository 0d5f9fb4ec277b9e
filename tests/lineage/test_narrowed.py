# SPDX-License-Identifier: Apache-2.0
"""A question that names its rows is asked about those alone, and the answer is the same."""

from __future__ import annotations

import duckdb
import polars as pl
import pytest

from datapipe.errors import DeclarationError
from datapipe.lineage import console
from datapipe.lineage.narrowed import LONGEST, narrowed
from datapipe.lineage.store import Lineage

A, B, C = (1 << 40 | n for n in (3, 5, 9))
SEEN = [
    f"from dropped_rows where row_id in ({A}, {B}, 99)",
    f"from model_rows where row_id in ({A}, {B}, {C}) and model_id is not null",
    f"from row_history where {B} = row_id",
    "from dropped_rows where row_id = (1::ubigint << 40) | 3",
    f"from dropped_rows where row_id = {A}::ubigint",
    "from dropped_rows where row_id in $rows",
    "from dropped_rows where list_contains($rows, row_id)",
    "select count(*) from model_rows where row_id in ($one, $other)",
    f"from model_rows m left join dropped_rows d using (source_no) where m.row_id = {B}",
    f"select reason from dropped_rows as d, runs r where d.row_id = {A} and r.run_id = d.run_id",
    f"with few as (from row_history where row_id = {B} limit 3) from few union all from few",
    f"from (select row_id, source from dropped_rows where 'é' <> 'e' and row_id = {A}) order by 1",
    f"select (select any_value(stage) from dropped_rows where row_id = {A}) as stage, 1 as one",
    f"SELECT Row_Id FROM Dropped_Rows WHERE ROW_ID IN ({A})",
    f"from dropped_rows -- row_id = 1\nwhere row_id = {A} /* and nothing else */",
    f"select dropped_rows.reason from dropped_rows where dropped_rows.row_id = {A}",
]
LEFT_ALONE = [
    f"from dropped_rows where row_id = {A} or reason = 'duplicate'",
    f"from dropped_rows where row_id not in ({A})",
    f"from dropped_rows where not row_id = {A}",
    "from dropped_rows where row_id = -1",
    "from dropped_rows where row_id in (select row_id from row_history)",
    "from dropped_rows where row_id in (99999999999999999999, 3)",
    f'from "dropped_rows" where row_id = {A}',
    f"from main.dropped_rows where row_id = {A}",
    f"from dropped_rows tablesample 1 rows where row_id = {A}",
    f"from dropped_rows d(a, row_id) where row_id = {A}",
    f"with dropped_rows as (select 7 as row_id) from dropped_rows where row_id = {A}",
    f"select * from model_rows asof join dropped_rows d using (row_id) where d.row_id = {A}",
    f"select * from row_history positional join dropped_rows d where d.row_id = {A}",
    f"explain from dropped_rows where row_id = {A}",
    "from dropped_rows where row_id > 0",
    f"select row_id from step_drops where row_id = {A} and 'dropped_rows' <> ''",
    f"from dropped_rows where row_id = {'+'.join(['1'] * 800)}",
    f"from dropped_rows where row_id = 3 and '{'x' * LONGEST}' <> ''",
]
VALUES = {"rows": [A, B, 7], "one": A, "other": C}


def values_of(query: str) -> dict[str, object]:
    return {name: value for name, value in VALUES.items() if f"${name}" in query}


def asked(lineage: Lineage, query: str) -> pl.DataFrame:
    return lineage.sql(query, **values_of(query))


@pytest.mark.parametrize("query", SEEN)
def test_the_answer_is_that_of_the_question_as_it_was_put(
    filled: Lineage, query: str, monkeypatch: pytest.MonkeyPatch
):
    with duckdb.connect() as connection:
        text, values = narrowed(connection, query, values_of(query))
    (given,) = set(values) - set(values_of(query))
    assert f"_of(${given})" in text
    assert values[given]
    found = asked(filled, query)
    monkeypatch.setattr(console, "narrowed", lambda _, query, values: (query, values))
    expected = asked(filled, query)
    assert found.schema == expected.schema
    assert found.sort("*").equals(expected.sort("*"))
    assert found.height > 0


@pytest.mark.parametrize("query", LEFT_ALONE)
def test_a_question_that_does_not_say_which_rows_is_left_as_it_is(query: str):
    with duckdb.connect() as connection:
        assert narrowed(connection, query, {}) == (query, {})


def test_two_views_of_one_question_get_their_own_rows(filled: Lineage):
    query = f"""select d.row_id, h.row_id as other from dropped_rows d, row_history h
                where d.row_id = {A} and h.row_id in ({B})"""
    with duckdb.connect() as connection:
        text, values = narrowed(connection, query, {})
    assert sorted(values.values()) == [[A], [B]]
    assert all(f"{view}_of(" in text for view in ("dropped_rows", "row_history"))
    assert set(filled.sql(query)["other"]) == {B}


def test_a_mistake_is_told_in_the_words_of_the_question(filled: Lineage):
    with pytest.raises(DeclarationError, match="nonsense"):
        filled.sql(f"select nonsense from dropped_rows where row_id = {A}")
    for mistaken in ("contains(row_id)", "list_contains([1], 2, row_id)", "row_id = $row"):
        with pytest.raises(DeclarationError):
            filled.sql(f"from dropped_rows where {mistaken}")
    with pytest.raises(DeclarationError):
        filled.sql("from dropped_rows where row_id = 3", row=3)
