# SPDX-License-Identifier: Apache-2.0
"""A store's stamp says what is in it: an older reader refuses what it would answer wrongly."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from datapipe.errors import ExecutionError
from datapipe.lineage.stamp import ERASED, WOVEN, holds, stamp
from datapipe.lineage.store import Lineage

NUMBERS = (1, 2, 4, 7)


def number(store: Path) -> int:
    return int((store / "format").read_text().split()[2])


def woven(lineage: Lineage) -> None:
    table = pl.DataFrame({"row_id": [1], "made_from": [2], "lines": [1]})
    folder = lineage.scratch()
    table.write_parquet(folder / "t")
    digest, _ = lineage.put_object(folder / "t", suffix=".parquet")
    lineage.append([("row_edges", {"step_id": "r/1", "run_id": "r", "object": digest})])


def erased(lineage: Lineage) -> None:
    digest, _ = lineage.put_bytes(b"of a person")
    with lineage.erasing() as erasing:
        erasing.remove(digest)


def test_the_stamp_rises_with_what_is_used_and_not_before(filled: Lineage):
    assert number(filled.store) == 1
    woven(filled)
    assert number(filled.store) == 4
    erased(filled)
    assert number(filled.store) == 7
    assert filled.verify() == []
    again = Lineage(filled.store, create=True)
    assert (number(filled.store), again.sql("from row_edges").height) == (7, 1)


def test_an_erased_store_stays_one_when_rows_are_joined(filled: Lineage):
    erased(filled)
    assert number(filled.store) == 2
    woven(filled)
    assert holds(filled.store) == {ERASED, WOVEN}


def test_no_flipped_bit_makes_one_number_another(tmp_path: Path):
    for before in NUMBERS:
        for bit in range(8):
            flipped = bytes([ord(str(before)) ^ 1 << bit])
            (tmp_path / "format").write_bytes(b"datapipe store " + flipped + b"\n")
            assert told(tmp_path) in ("nothing", "refused"), (before, bit)


def told(store: Path) -> str:
    try:
        return "".join(sorted(holds(store))) or "nothing"
    except ExecutionError:
        return "refused"


def test_what_cannot_be_read_is_taken_for_everything(tmp_path: Path):
    (tmp_path / "format").write_bytes(b"dXtapipe store 2\n")
    stamp(tmp_path, WOVEN)
    assert holds(tmp_path) == {ERASED, WOVEN}


@pytest.mark.parametrize("unknown", [3, 5, 6, 8, 99])
def test_other_numbers_are_refused(tmp_path: Path, unknown: int):
    Lineage(tmp_path, create=True)
    (tmp_path / "format").write_text(f"datapipe store {unknown}\n")
    with pytest.raises(ExecutionError, match=f"has version {unknown}"):
        Lineage(tmp_path)
