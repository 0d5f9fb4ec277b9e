# SPDX-License-Identifier: Apache-2.0
"""A question to a view about a few rows is asked of its macro, where that gives the same answer."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import polars as pl
import pytest

from datapipe.lineage.narrow import VIEWS, narrowed
from datapipe.lineage.store import Lineage

ROWS = 4_000
IDS = [1 << 40 | n for n in range(0, ROWS, 7)]
VALUES = {"a": IDS[3], "many": IDS[:40], "text": "1", "half": 0.5}

FASTER = (
    "from {view} where row_id in (1099511627783, 1099511627790, $a, -1, 99999999999999999999999)",
    "FROM {view} AS x WHERE x.row_id = $a",
    "select 'ü', count(*) from {view} where 1099511627783 = row_id and ordinal > 0",
    "from {view} where row_id = (1::ubigint << 40) | 14",
    "from {view} where row_id in (select unnest($many))",
    "from {view} where row_id  IN (LONG)",
    "select 'row_id in (LONG)', * from {view} as m where ordinal > 5 and m.row_id in (LONG)",
    "from {view} where row_id = any($many) order by all limit 5",
    "from {view} where list_contains($many, row_id)",
    "from {view} where row_id in $many",
    'select "Ü x".row_id from {view} "Ü x" where row_id in ($a)',
    "with n as (select row_id from {view} where row_id = $a) select count(*) from n",
    "from (from {view} where row_id = $a) union all (from {view} where row_id in (1, $a))",
)
AS_IT_IS = (
    "select row_id in (LONG) from {view} where ordinal < 90",
    "from {view} where not (row_id in (LONG)) and ordinal < 90",
    "from {view}",
    "from {view} where row_id > $a and ordinal < 30",
    "from {view} where row_id = $a or ordinal = 14",
    "from {view} where row_id <> $a and ordinal < 30",
    "from {view} where not row_id in ($a) and ordinal < 30",
    "from {view} where row_id in ($a, 0.5)",
    "from {view} where row_id = $half",
    "from {view} where row_id = ordinal + 1099511627776 and ordinal < 30",
    "from {view} where row_id = (select max(row_id) from row_drops)",
    "from {view} where row_id in (select row_id from row_drops limit 3)",
    "from {view} as x(a, b) where b = $a and 'row_id' <> ''",
    "from {view} join row_drops using (row_id) where row_id = $a",
    "with {view} as (select 5::ubigint as row_id) from {view} where row_id = 5",
    "select '{view} where row_id = 5'",
    "explain from {view} where row_id = 5",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """One filter, and a model of what it left."""
    lineage = Lineage(tmp_path_factory.mktemp("narrow") / "store", create=True)
    assert lineage.source_number("sha256:00", "s", ROWS) == 1
    drops = pl.DataFrame({"row_id": IDS}, schema={"row_id": pl.UInt64}).with_columns(
        reason=pl.lit("x")
    )
    home = lineage.scratch()
    drops.write_parquet(home / "a")
    digest, _ = lineage.put_object(home / "a", suffix=".parquet")
    model, _ = lineage.put_bytes(b"model")
    ids = {"run_id": "r", "step_id": "r/0"}
    lineage.append(
        [
            ("runs", {"run_id": "r", "pipeline": "p"}),
            ("sources", {"run_id": "r", "source_no": 1, "name": "s", "rows": ROWS}),
            ("steps", {**ids, "position": 0, "branch_group": 0, "stage": "s"}),
            ("row_drops", {**ids, "object": digest}),
            (
                "datasets",
                {**ids, "digest": "sha256:d", "source_nos": [1], "ancestor_steps": ["r/0"]},
            ),
            ("models", {**ids, "model_id": model, "name": "m", "dataset": "sha256:d"}),
        ]
    )
    assert lineage.index()
    return lineage


def needed(query: str) -> dict[str, object]:
    return {name: value for name, value in VALUES.items() if f"${name}" in query}


@pytest.fixture(scope="module")
def plain(store: Lineage) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB, which knows nothing of this."""
    with duckdb.connect(str(store.store / "lineage.duckdb"), read_only=True) as connection:
        yield connection


@pytest.mark.parametrize("form", FASTER + AS_IT_IS)
def test_the_answer_is_that_of_the_view(
    store: Lineage, plain: duckdb.DuckDBPyConnection, form: str
):
    for view in VIEWS:
        query = form.format(view=view).replace("LONG", ", ".join(map(str, [*IDS[5:50], 10**30])))
        asked, _ = narrowed(plain, query, needed(query))
        assert (f"{view}_of(" in asked) == (form in FASTER), asked
        if not query.startswith("explain"):
            expected = plain.execute(query, needed(query)).fetchall()
            found = store.sql(query, **needed(query)).rows()
            assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_names_keep_their_place_behind_text_of_many_bytes(store: Lineage):
    query = 'select \'ü€\' as t, "ü".row_id from model_rows "ü" where "ü".row_id = 1099511627777'
    assert store.sql(query).rows() == [("ü€", 1099511627777)]


def test_a_mistake_is_told_as_before(store: Lineage):
    with pytest.raises(Exception, match="nothing_of_this_name"):
        store.sql("select nothing_of_this_name from model_rows where row_id = 5")
