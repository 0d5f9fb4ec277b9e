# SPDX-License-Identifier: Apache-2.0
"""Stores for the tests of the lineage room."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pytest

from datapipe.lineage.store import Lineage


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[Lineage]:
    """An empty store."""
    made = Lineage(tmp_path / "store", create=True)
    yield made
    made.close()


@pytest.fixture
def filled(ran: Path, tmp_path: Path) -> Iterator[Lineage]:
    """A copy of its own of a store after one run."""
    shutil.copytree(ran, tmp_path / "store", dirs_exist_ok=True)
    made = Lineage(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after one run: ten rows, two set aside, one flagged, one relabelled, one held out."""
    lineage = Lineage(tmp_path_factory.mktemp("ran") / "store", create=True)
    number = lineage.source_number("sha256:" + "a" * 64, "reviews", 10)

    def ids(ordinals: Iterable[int]) -> pl.Series:
        return pl.Series([number << 40 | o for o in ordinals], dtype=pl.UInt64)

    def put(**columns: object) -> str:
        path = lineage.scratch() / "table.parquet"
        pl.DataFrame(columns).write_parquet(path)
        digest, _ = lineage.put_object(path, suffix=".parquet")
        path.parent.rmdir()
        return digest

    dropped = put(row_id=ids([3, 4]), reason=["too short", "duplicate"])
    flagged = put(
        row_id=ids(range(8)),
        score=[0.1] * 7 + [0.9],
        p_value=[None] * 8,
        flagged=[False] * 7 + [True],
        action=[""] * 8,
        reason=[""] * 7 + ["odd"],
        suggested=[None] * 8,
    )
    changed = put(row_id=ids([5]), before=["1"], after=["2"], why=["noise"], posterior=[0.9])
    held = put(row_id=ids([9]))
    rows, _ = lineage.put_bytes(b"rows", suffix=".parquet")
    model, _ = lineage.put_bytes(b"weights", suffix=".safetensors")
    export, _ = lineage.put_bytes(b"small weights", suffix=".onnx")
    run = {"run_id": "r1"}
    step = {**run, "step_id": "r1/1"}
    lineage.append(
        [
            ("runs", {**run, "pipeline": "demo", "seed": 7, "started_at": "2026-01-01T00:00:00Z"}),
            ("run_events", {**run, "event": "started"}),
            (
                "sources",
                {
                    **run,
                    "source_no": number,
                    "name": "reviews",
                    "uri": "reviews.csv",
                    "digest": "sha256:" + "a" * 64,
                    "rows": 10,
                    "licence": "CC0-1.0",
                    "synthetic": True,
                    "trust": "unsigned",
                    "files": [["one.csv", 6], ["two.csv", 4]],
                },
            ),
        ]
    )
    lineage.append(
        [
            (
                "steps",
                {
                    **step,
                    "position": 1,
                    "stage": "dedup.exact",
                    "key": "k1",
                    "params": {"b": 1},
                    "result": {"rows": 8},
                },
            ),
            ("row_drops", {**step, "object": dropped, "rows": 2}),
            ("row_findings", {**step, "finding_id": "f1", "kind": "a.b", "object": flagged}),
            ("label_changes", {**step, "object": changed, "changed_by": "r1/1"}),
            (
                "datasets",
                {
                    **step,
                    "digest": rows,
                    "rows": 8,
                    "source_nos": [number],
                    "ancestor_steps": ["r1/1"],
                    "object": rows,
                },
            ),
            (
                "models",
                {
                    **step,
                    "model_id": model,
                    "name": "plain",
                    "dataset": rows,
                    "held_out_object": held,
                },
            ),
            ("exports", {**step, "export_id": export, "name": "int8", "model": "plain"}),
            ("run_events", {**run, "event": "finished", "detail": {"verdict": "clean"}}),
        ]
    )
    size, root = lineage.root()
    lineage.put_checkpoint(size, root, f"datapipe/store\n{size}\n{b64(root)}\n\n- key c2ln\n")
    assert lineage.index()
    lineage.close()
    return lineage.store


def b64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()
