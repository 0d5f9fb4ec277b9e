# SPDX-License-Identifier: Apache-2.0
"""Questions about a list of rows give what the views say of them, without a look at the others."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest

from datapipe.lineage import sidecars
from datapipe.lineage.store import Lineage

VIEWS = ("dropped_rows", "row_history", "model_rows")
SOURCES = (20_000, 9_000, 30)


def put(lineage: Lineage, frame: pl.DataFrame, covered: list | None = None) -> str:
    home = lineage.scratch()
    if covered is None:
        frame.write_parquet(home / "a")
    else:
        sidecars.write(home / "a", frame, covered)
    digest, _ = lineage.put_object(home / "a", suffix=".parquet")
    home.rmdir()
    return digest


def left(draw: random.Random, share: float, reasons: int) -> pl.DataFrame:
    ids = [n << 40 | o for n, rows in enumerate(SOURCES, 1) for o in range(rows)]
    mine = [row for row in ids if draw.random() < share]
    named = [f"reason {draw.randrange(reasons)}" for _ in mine]
    draw.shuffle(mine)  # a list of row ids need not be in order
    return pl.DataFrame(
        {"row_id": mine, "reason": named}, schema={"row_id": pl.UInt64, "reason": pl.String}
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """Records by position and as lists, few reasons and many, a row named twice, no reason."""
    lineage = Lineage(tmp_path_factory.mktemp("some") / "store", create=True)
    draw = random.Random(3)
    sources = []
    for n, rows in enumerate(SOURCES, 1):
        assert lineage.source_number(f"sha256:{n:064x}", f"s{n}", rows) == n
        sources.append(("sources", {"run_id": "r", "source_no": n, "name": f"s{n}", "rows": rows}))
    frames = [left(draw, 0.3, 5), left(draw, 0.02, 3), left(draw, 0.02, 500)]
    frames.append(pl.concat([left(draw, 0.01, 2), frames[1].head(9)]).vstack(frames[1].head(5)))
    frames.append(left(draw, 0.01, 1).with_columns(reason=pl.lit(None, pl.String)))
    steps = []
    for i, frame in enumerate(frames):
        ids = {"run_id": "r", "step_id": f"r/{i}"}
        steps.append(("steps", {**ids, "position": i, "branch_group": i, "stage": f"s.{i}"}))
        covered = sidecars.spans(frame["row_id"], list(enumerate(SOURCES, 1))) if i == 0 else None
        steps.append(("row_drops", {**ids, "object": put(lineage, frame, covered)}))
    flagged = frames[1].head(50).with_columns(score=0.5, flagged=True, action=pl.lit(""))
    steps.append(("row_findings", {"run_id": "r", "step_id": "r/1", "finding_id": "f",
                                   "kind": "a.b", "object": put(lineage, flagged)}))  # fmt: skip
    numbers = list(range(1, len(SOURCES) + 1))
    held = put(lineage, left(draw, 0.1, 1).select("row_id"))
    for name, upto in (("early", 2), ("late", len(frames))):
        model, _ = lineage.put_bytes(name.encode())
        ids = {"run_id": "r", "step_id": f"r/{upto - 1}"}
        before = [f"r/{i}" for i in range(upto)]
        body = {**ids, "digest": f"sha256:{name}", "source_nos": numbers, "ancestor_steps": before}
        steps.append(("datasets", body))
        trained = {"name": name, "dataset": f"sha256:{name}", "held_out_object": held}
        steps.append(("models", {**ids, "model_id": model, **trained}))
    lineage.append([("runs", {"run_id": "r", "pipeline": "p"}), *sources, *steps])
    return lineage


@pytest.mark.parametrize("view", VIEWS)
def test_the_answer_about_some_rows_is_that_of_the_view(store: Lineage, view: str):
    draw = random.Random(5)
    every = [n << 40 | o for n, rows in enumerate(SOURCES, 1) for o in range(rows)]
    asked = [*draw.sample(every, 700), 1 << 40, 1 << 40 | 8191, 1 << 40 | 8192, 9 << 40, 7]
    asked += store.sql("select row_id from row_drops where seq = (select max(seq) from row_drops)")[
        "row_id"
    ].to_list()[:20]
    expected = store.sql(f"from {view} where list_contains($ids::ubigint[], row_id)", ids=asked)
    found = store.sql(f"from {view}_of($ids)", ids=asked)
    assert found.columns == expected.columns
    assert found.height > 50
    assert found.sort("*").equals(expected.sort("*"))
    assert store.sql(f"from {view}_of([])").height == 0
    one = draw.choice(found["row_id"].to_list())
    assert store.sql(f"from {view}_of([{one}])").height == found.filter(row_id=one).height


def test_only_records_that_a_block_can_hold_have_blocks(store: Lineage):
    with_blocks = (
        "select distinct step_id from row_drop_steps semi join row_drop_blocks using (seq)"
    )
    assert set(store.sql(with_blocks)["step_id"]) == {"r/0", "r/1", "r/4"}


def test_blocks_are_made_anew_from_the_journal(store: Lineage, tmp_path: Path):
    before = store.sql("from row_drop_blocks order by all")
    store.rebuild()
    assert store.sql("from row_drop_blocks order by all").equals(before)
    assert store.verify() == []


KINDS: dict[str, list[str | None]] = {
    "one": ["too long"],
    "none": [None],
    "none and a blank": [None, ""],
    "few": ["b", "a", None],
    "many": [f"reason {n}" for n in range(100)],
    "most": [f"reason {n}" for n in range(400)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["beside", "after"])
def test_blocks_and_counts_say_what_the_rows_say(lineage: Lineage, kind: str, how: str):
    """Held against a plain count, also where a step beside it had set some of the rows aside."""
    draw = random.Random(len(kind))
    ids = sorted(n << 40 | o for n in (1, 2) for o in draw.sample(range(20_000), 200))
    rows = pl.DataFrame(
        {"row_id": ids, "reason": [KINDS[kind][n % len(KINDS[kind])] for n in range(len(ids))]},
        {"row_id": pl.UInt64, "reason": pl.String},
    )
    for step, some in (("r/0", rows.filter(pl.col("row_id") % 3 == 0)), ("r/1", rows)):
        ids_of = {"run_id": "r", "step_id": step}
        group = 0 if how == "beside" else int(step[-1])
        lineage.append(
            [
                ("steps", {**ids_of, "position": int(step[-1]), "branch_group": group}),
                ("row_drops", {**ids_of, "object": put(lineage, some)}),
            ]
        )
    mine = "seq = (select max(seq) from row_drops)"
    found = lineage.sql(f"select * exclude seq from row_drop_counts where {mine}")
    place = pl.col("row_id").and_((1 << 40) - 1)
    expected = (
        rows.with_columns(pl.lit(None, pl.String).alias("reason") if kind == "most" else "reason")
        .group_by((pl.col("row_id") // (1 << 40)).alias("source_no"), "reason")
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            (pl.col("row_id") % 3 == 0).sum().cast(pl.Int64).alias("again") * (how == "beside"),
            place.min().alias("first_ordinal"),
            place.max().alias("last_ordinal"),
        )
    )
    assert found.sort("*").equals(expected.sort("*"))
    told: list[tuple[int, str | None]] = []
    blocks = lineage.sql(
        f"select block, taken::varchar, codes, reasons from row_drop_blocks where {mine}"
    )
    for block, taken, codes, reasons in blocks.rows():
        at = [i for i, bit in enumerate(taken) if bit == "1"]
        told += [
            (block << 13 | i, json.loads(reasons)[ord(c) - 35])
            for i, c in zip(at, codes, strict=True)
        ]
    assert told == ([] if kind in ("many", "most") else rows.rows())
