# SPDX-License-Identifier: Apache-2.0
"""What a report reads from the store: the newest word on everything, and rows only lazily."""

from __future__ import annotations

import math

import polars as pl
import pytest

from datapipe import Estimate
from datapipe.core.roles import ROW_ID
from datapipe.lineage.store import Lineage
from datapipe.report.facts import TABLES, Facts, estimate_of, gather


def line(number, kind, step, verdict="clean"):
    return {"finding_id": f"r/{number}", "kind": kind, "step_id": step, "verdict": verdict}


def step(number, group):
    return {"step_id": f"r/{number}", "position": number, "branch_group": group, "stage": "a.b"}


def facts(**tables):
    return Facts({}, {**{name: [] for name in TABLES}, **tables}, [], None)


def test_a_later_look_supersedes_and_one_side_by_side_does_not():
    told = facts(
        steps=[step(0, 0), step(1, 0), step(2, 1), step(3, 2), step(4, 2)],
        findings=[
            line(0, "ingest.missing", "r/0", "fail"),
            line(1, "ingest.missing", "r/1"),
            line(2, "labels.noise", "r/2", "fail"),
            line(3, "labels.noise", "r/3"),
            line(4, "dedup.near", "r/4"),
        ],
    )
    assert [f["finding_id"] for f in told.standing] == ["r/0", "r/1", "r/3", "r/4"]
    assert told.later["r/2"]["position"] == 3


def test_steps_outside_any_group_are_in_order():
    told = facts(
        steps=[step(0, None), step(1, None)],
        findings=[line(0, "a.b", "r/0", "fail"), line(1, "a.b", "r/1")],
    )
    assert [f["finding_id"] for f in told.standing] == ["r/1"]


def test_the_newest_word_about_a_source_counts():
    told = facts(
        sources=[
            {"source_no": 1, "trust": "unsigned"},
            {"source_no": 2, "trust": "unsigned"},
            {"source_no": 1, "trust": "verified"},
        ]
    )
    assert [s["trust"] for s in told.sources] == ["verified", "unsigned"]


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_line_of_every_table_is_read(cleaned, table):
    told = gather(cleaned.store, cleaned.run_id)
    where = f"select count(*) as n from {table} where run_id = $run"
    assert len(told.tables[table]) == cleaned.sql(where, run=cleaned.run_id)["n"][0]


def test_findings_are_those_of_the_run(cleaned):
    told = gather(cleaned.store, cleaned.run_id)
    assert [f["kind"] for f in told.findings] == [f.kind for f in cleaned.findings]
    for read, known in zip(told.findings, cleaned.findings, strict=True):
        assert estimate_of(read) == known.measure
        assert read["details"] == dict(known.details)


def test_dropped_rows_are_counted_without_naming_rows(cleaned):
    (told,) = gather(cleaned.store, cleaned.run_id).dropped
    assert (told["stage"], told["rows"]) == ("labels.odd", 30)


def test_row_tables_are_not_read_before_they_are_asked(cleaned):
    told = gather(cleaned.store, cleaned.run_id)
    rows = told.rows_of(told.findings[0])
    assert isinstance(rows, pl.LazyFrame)
    assert rows.select(pl.len()).collect().item() == 60


def test_cells_are_those_that_the_step_saw(cleaned):
    told = gather(cleaned.store, cleaned.run_id)
    seen, _ = told.rows_in(told.seen_by(str(told.findings[0]["step_id"])))
    expected = dict(seen.select(ROW_ID, "label").collect().iter_rows())
    cells = told.cells(str(told.findings[0]["step_id"]), list(expected)[:7])
    assert {row: c.label for row, c in cells.items()} == {r: expected[r] for r in cells}
    assert len(cells) == 7
    assert all(len(c.pixels) == 16 for c in cells.values())


def test_a_store_whose_objects_are_gone_still_has_a_report(cleaned, tmp_path):
    told = gather(cleaned.store, cleaned.run_id)
    bare = Facts(told.run, told.tables, told.dropped, Lineage(tmp_path / "s", create=True))
    assert bare.rows_of(told.findings[0]) is None
    assert bare.cells(str(told.findings[0]["step_id"]), [1]) == {}
    assert bare.labels_in(str(told.steps[0]["dataset_out"])) == {}


def test_an_infinite_measure_survives():
    form = {"value": None, "low": 3.0, "high": None, "n": 4, "method": "m", "level": 0.9}
    read = estimate_of({**form, "unit": ""})
    assert read.low == 3.0
    assert read.high == float("inf")
    assert math.isnan(read.value)
    assert isinstance(read, Estimate)
