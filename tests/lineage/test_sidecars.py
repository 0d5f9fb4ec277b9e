# SPDX-License-Identifier: Apache-2.0
"""Reasons by position say what a list of rows says, in at most two bits a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import ExecutionError
from datapipe.lineage import sidecars
from datapipe.lineage.sidecars import Span
from datapipe.lineage.store import Lineage

REASONS = ("too short", "too long", "no label", "bad characters")


def drops(rows: dict[int, str]) -> pl.DataFrame:
    ids = pl.Series(sorted(rows), dtype=pl.UInt64)
    return pl.DataFrame({"row_id": ids, "reason": [rows[i] for i in sorted(rows)]})


def record(lineage: Lineage, left: pl.DataFrame, sources: list[tuple[int, int]]) -> Path:
    home = lineage.scratch()
    sidecars.write(home / "a", left, sidecars.spans(left["row_id"], sources))
    digest, path = lineage.put_object(home / "a", suffix=".parquet")
    home.rmdir()
    step = {"run_id": "r", "step_id": "s"}
    lineage.append(
        [
            *(("sources", {"source_no": n, "name": str(n), "rows": rows}) for n, rows in sources),
            ("steps", {**step, "stage": "test"}),
            ("row_drops", {**step, "object": digest, "rows": left.height}),
        ]
    )
    return path


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4).flatmap(
        lambda sizes: st.tuples(
            st.just(sizes),
            st.dictionaries(
                st.sampled_from(
                    [n << 40 | o for n, size in enumerate(sizes, 1) for o in range(size)]
                ),
                st.sampled_from(REASONS),
                min_size=1,
            ),
        )
    )
)
def test_what_is_written_is_what_is_read(tmp_path_factory, world):
    sizes, rows = world
    left, sources = drops(rows), list(enumerate(sizes, 1))
    path = tmp_path_factory.mktemp("s") / "it's.parquet"
    covered = sidecars.spans(left["row_id"], sources)
    sidecars.write(path, left.sample(fraction=1.0, shuffle=True, seed=1), covered)
    assert sidecars.covered_by(path) == covered
    import duckdb

    with duckdb.connect() as connection:
        read = connection.execute(sidecars.as_list(path, covered) + " order by 1").fetchall()
    assert read == sorted(rows.items())


def test_groups_of_rows_join_without_a_seam(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sidecars, "GROUP_ROWS", 7)
    left = drops({o: REASONS[o % 4] for o in range(0, 50, 3)})
    sidecars.write(tmp_path / "a", left, [Span(0, 50)])
    assert pq.read_metadata(tmp_path / "a").num_row_groups == 8
    words = pq.read_table(tmp_path / "a")["reason"].to_pylist()
    assert words == [REASONS[o % 4] if o % 3 == 0 else None for o in range(50)]


def test_the_store_answers_from_positions_as_from_a_list(lineage: Lineage):
    chance = np.random.default_rng(3)
    sources = [(1, 5000), (2, 3000)]
    rows = {
        n << 40 | int(o): REASONS[int(chance.integers(4))]
        for n, size in sources
        for o in np.flatnonzero(chance.random(size) < 0.3)
    }
    path = record(lineage, drops(rows), sources)
    found = lineage.sql("select row_id, reason from dropped_rows order by row_id")
    assert found.rows() == sorted(rows.items())
    assert path.stat().st_size < 8000 / 2
    for row in (sorted(rows)[7], 1 << 40):
        dropped = [d["reason"] for d in lineage.why(row)["dropped"]]
        assert dropped == ([rows[row]] if row in rows else [])
    counts = lineage.sql("select source_no, sum(rows) from row_drop_counts group by 1 order by 1")
    assert counts.rows() == [(n, sum(1 for r in rows if r >> 40 == n)) for n, _ in sources]
    lineage.rebuild()
    assert lineage.sql("select row_id, reason from dropped_rows order by row_id").equals(found)
    assert lineage.verify() == []


def test_a_million_rows_take_less_than_two_bits_each(tmp_path: Path):
    n = 1_000_000
    codes = np.digitize(np.random.default_rng(7).random(n), (0.77, 0.85, 0.92, 0.97))
    at = np.flatnonzero(codes)
    left = pl.DataFrame(
        {"row_id": at.astype(np.uint64), "reason": [REASONS[c - 1] for c in codes[at]]}
    )
    covered = sidecars.spans(left["row_id"], [(0, n)])
    assert sidecars.pays(left, covered)
    sidecars.write(tmp_path / "a", left, covered)
    bits = (tmp_path / "a").stat().st_size * 8 / n
    assert bits < 1.6, bits


def test_few_rows_and_reasons_of_their_own_stay_a_list():
    spans = [Span(0, 1000)]
    assert not sidecars.pays(drops(dict.fromkeys(range(10), "a")), spans)
    assert not sidecars.pays(drops({o: f"duplicate of {o}" for o in range(500)}), spans)
    twice = pl.concat([drops(dict.fromkeys(range(500), "a"))] * 2)
    assert not sidecars.pays(twice, spans)
    assert sidecars.pays(drops(dict.fromkeys(range(500), "a")), spans)


def test_a_list_is_no_sidecar_and_a_later_layout_is_refused(tmp_path: Path):
    drops({1: "a"}).write_parquet(tmp_path / "list")
    assert sidecars.covered_by(tmp_path / "list") is None
    told = {b"datapipe.sidecar": b'{"version": 9, "spans": [[0, 1]]}'}
    pq.write_table(pa.table({"reason": ["a"]}).replace_schema_metadata(told), tmp_path / "later")
    with pytest.raises(ExecutionError, match="has version 9"):
        sidecars.covered_by(tmp_path / "later")
