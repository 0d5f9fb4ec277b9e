# SPDX-License-Identifier: Apache-2.0
"""Damage is named, set aside and mended from what is left; a run makes lost objects again."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from datapipe import Dataset, Pipeline, RowStage
from datapipe.errors import TrustError
from datapipe.lineage.store import Lineage


class Third(RowStage):
    name = "test.third"

    def set_aside(self, roles, types):
        return {"third": pl.col("a") % 3 == 0}


def run(store: Path, seed: int = 1):
    rows = Dataset.of(pa.table({"a": list(range(90))}))
    return Pipeline("p", [Third()]).run(rows, seed=seed, store=store)


@pytest.mark.parametrize(
    ("which", "damage"),
    [("sidecar", "flipped"), ("sidecar", "gone"), ("rows", "cut"), ("rows", "gone")],
)
def test_an_object_is_made_again(tmp_path: Path, damage: str, which: str, caplog):
    store = tmp_path / "s"
    first = run(store)
    dropped = first.sql("select row_id, reason from dropped_rows order by 1")
    query = (
        f"select digest from step_io where role = '{'sidecar' if which == 'sidecar' else 'out'}'"
    )
    lineage = first.lineage
    path = lineage.object_path(lineage.sql(query).item())
    if damage == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data if damage == "flipped" else data[:-9])
    assert any(path.stem in p.path for p in lineage.verify())
    if which == "sidecar":
        with pytest.raises(TrustError, match=path.stem):
            lineage.rebuild()
    lineage.rebuild(accept_loss=True)
    assert not path.exists()
    assert (store / "damaged" / path.name).exists() == (damage != "gone")
    assert path.stem in caplog.text or which == "rows"
    assert [p.path for p in lineage.verify() if "missing" in p.says] == [f"objects/{path.stem}"]
    again = run(store)
    assert again.data.digest == first.data.digest
    assert [s.reused for s in again.steps] == [False]
    lineage.rebuild()
    assert lineage.verify() == []
    found = lineage.sql(
        "select row_id, reason from dropped_rows where run_id = $run order by 1", run=first.run_id
    )
    assert found.equals(dropped)


def test_a_damaged_index_is_kept_beside_the_new_one(tmp_path: Path):
    lineage = run(tmp_path / "s").lineage
    before = lineage.sql("from dropped_rows")
    lineage.close()
    index = tmp_path / "s" / "lineage.duckdb"
    index.write_bytes(index.read_bytes()[:5000])
    with pytest.raises(TrustError, match="cannot be read"):
        lineage.sql("from dropped_rows")
    lineage.rebuild()
    assert lineage.sql("from dropped_rows").equals(before)
    assert index.with_suffix(".damaged").stat().st_size == 5000
    assert Lineage(tmp_path / "s").verify() == []
