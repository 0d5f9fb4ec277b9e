# SPDX-License-Identifier: Apache-2.0
"""`sql`: data only on stdout, safe in spreadsheets, and nothing but questions."""

from __future__ import annotations

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.cli.sql import safe_csv
from datapipe.lineage.store import Lineage


@pytest.fixture
def store(here):
    lineage = Lineage(".datapipe", create=True)
    for run, name in (("r1", "=1+1"), ("r2", "fine")):
        lineage.append([("runs", {"run_id": run, "pipeline": name, "seed": -7})])
    return lineage


def test_csv_in_a_pipe_and_json_when_asked(datapipe, store):
    query = "select run_id, pipeline, seed from runs order by 1"
    answer = datapipe("sql", query)
    assert (answer.code, answer.err) == (0, "")
    assert list(csv.reader(io.StringIO(answer.out))) == [
        ["run_id", "pipeline", "seed"],
        ["r1", "'=1+1", "-7"],
        ["r2", "fine", "-7"],
    ]
    assert datapipe("sql", query, "--json").json[0] == {
        "run_id": "r1",
        "pipeline": "=1+1",
        "seed": -7,
    }


@pytest.mark.parametrize(
    "order",
    [
        "copy runs to 'x.csv'",
        "attach 'x.db'",
        "install httpfs",
        "set memory_limit = '1TB'",
        "drop table runs",
        "insert into runs values (1)",
        "select 1; select 2",
        "from read_text('p.py')",
        "select getenv('HOME')",
    ],
)
def test_orders_are_refused(datapipe, store, here, order):
    answer = datapipe("sql", order)
    assert answer.code == 2
    assert answer.out == ""
    assert [p.name for p in here.iterdir()] == [".datapipe"]


def test_a_misspelt_table_is_told(datapipe, store):
    answer = datapipe("sql", "from dropped_row")
    assert answer.code == 2
    assert "dropped_row" in answer.message


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=4))
def test_no_cell_is_a_formula(cells):
    text = safe_csv(pl.DataFrame({"a": cells}))
    read = [row[0] if row else "" for row in csv.reader(io.StringIO(text, newline=""))][1:]
    for cell in read:
        try:
            float(cell)
        except ValueError:
            assert cell[:1] not in set("=+-@\t\r")
