# SPDX-License-Identifier: Apache-2.0
"""A sound file under another object's name is never taken for that object when it is used again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from datapipe import Estimate, Finding, Pipeline, Stage, Yield, stage
from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import scored_rows
from datapipe.core.run import Run
from datapipe.errors import TrustError
from datapipe.lineage.store import Lineage
from datapipe.stages import ReadCSV

N = 3000
REUSED = "select reused_from is not null from steps where run_id = $r order by position"


@dataclass(frozen=True)
class Judge(Stage):
    """Sets rows aside, scores all of them and writes a file."""

    name: ClassVar[str] = "test.judge"

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(["a"], row_id=True)
        ids, a = frame.to_series(0), frame["a"]
        rows = scored_rows(ids, a.cast(pl.Float64), flagged=a % 7 == 0, reason="seventh")
        measure = Estimate.rate(int((a % 7 == 0).sum()), a.len())
        finding = Finding("test.judge", "suspect", measure, "sevenths", rows=rows)
        aside = pl.DataFrame({"row_id": ids.filter(a % 5 == 0)}).with_columns(reason=pl.lit("five"))
        file = context.scratch / "made.bin"
        file.write_bytes(bytes(20_000) + a.to_numpy().tobytes())
        return Yield(
            findings=(finding,), set_aside=aside, artifacts=(Artifact("made", "table", file),)
        )


@stage("test.louder", version="1")
def louder(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(b=pl.col("a") * 2)


def run(folder: Path, n: int, *more: Stage) -> Run:
    file = folder / f"{n}.csv"
    if not file.exists():
        numbers = pl.Series("a", range(10_000 * n, 10_000 * n + N))
        pl.DataFrame({"a": numbers}).write_csv(file)
    return Pipeline("p", [ReadCSV(str(file)), Judge(), *more]).run(seed=1, store=folder / "s")


def objects(lineage: Lineage, run_id: str) -> dict[str, Path]:
    """Every object of a run that a later one may use again, by what it is."""
    asked = "select result from steps where run_id = $run order by position"
    found: dict[str, Path] = {}
    for (text,) in lineage.sql(asked, run=run_id).rows():
        result = pl.Series([text]).str.json_decode(infer_schema_length=None).to_list()[0]
        named = {k: result[k] for k in ("dataset_out", "aside") if result[k]}
        scores = [f["rows_object"] for f in result["findings"] if f["rows_object"]]
        files = [artifact["digest"] for artifact in result["artifacts"]]
        named |= dict(zip(["scores", "file"], [*scores, *files], strict=False)) if scores else {}
        found |= {name: lineage.object_path(digest) for name, digest in named.items()}
    return found


@pytest.mark.parametrize("name", ["dataset_out", "aside", "scores", "file"])
def test_a_file_in_the_place_of_another_is_not_used(tmp_path: Path, name: str):
    first, second = (
        objects(made.lineage, made.run_id) for made in (run(tmp_path, 1), run(tmp_path, 2))
    )
    mine, other = first[name], second[name]
    assert mine.suffix == other.suffix
    kept = mine.read_bytes()
    mine.write_bytes(other.read_bytes())
    with pytest.raises(TrustError, match="another file lies under this object's name") as caught:
        run(tmp_path, 1, louder())
    assert mine.name in caught.value.message
    assert mine.stem.partition(".")[0] in "".join(map(str, Lineage(tmp_path / "s").verify()))
    mine.unlink()
    again = run(tmp_path, 1, louder())
    wanted = [2 * a for a in range(10_000, 10_000 + N) if a % 5]
    assert again.data.frame(["b"])["b"].to_list() == wanted
    assert mine.read_bytes() == kept
    assert Lineage(tmp_path / "s").verify() == []


def test_what_lies_where_it_was_put_is_used_again(tmp_path: Path):
    run(tmp_path, 1)
    for path in (tmp_path / "s" / "objects").iterdir():  # copied with the store: times are new
        path.touch()
    again = run(tmp_path, 1, louder())
    reused = again.sql(REUSED, r=again.run_id)
    assert reused.to_series().to_list() == [True, True, False]


def test_a_result_of_an_earlier_version_tells_of_no_ends_and_is_used(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("datapipe.execute._recorder.ends_of", lambda *_: {})
    run(tmp_path, 1)
    monkeypatch.undo()
    again = run(tmp_path, 1)
    assert again.sql(REUSED, r=again.run_id).to_series().to_list() == [True, True]
