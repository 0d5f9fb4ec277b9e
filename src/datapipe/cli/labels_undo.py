# SPDX-License-Identifier: Apache-2.0
"""`datapipe labels relabel FILE --undo RUN`: labels as they were before a run changed them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from datapipe.cli.audit_plan import Beside, reader_of
from datapipe.cli.labels_files import write_table
from datapipe.cli.options import existing_store
from datapipe.cli.terminal import out, out_json, plain, settle
from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.core.roles import Roles
from datapipe.errors import DeclarationError, SchemaMismatch, nearest
from datapipe.execute.undo import undo
from datapipe.lineage.rows import row_number


def put_back(
    file: str,
    label: str,
    run: str,
    rows: Sequence[str],
    output: Path | None,
    *,
    as_json: bool,
    store: Path,
    seed: int,
) -> None:
    """Write a copy with the labels that a run of `relabel --apply` found, and record it.

    Args:
        file: What that run wrote; its labels may have been edited since.
        label: Column of the labels.
        run: Id of the run, or how it begins.
        rows: Rows to give back, as `source:ordinal`; empty for all.
        output: Where the copy goes.
        as_json: Whether one JSON object is printed.
        store: Folder of the store.
        seed: Recorded with the run.

    Raises:
        DeclarationError: No output is named.
        SchemaMismatch: The file has no such column.

    Example:
        >>> put_back.__name__
        'put_back'
    """
    if output is None:
        raise DeclarationError("no output is named", code="DP-USE-040", hint="-o restored.parquet")
    numbers = [row_number(r)[0] for r in rows]
    copy = _read(file)
    if label not in copy.columns:
        raise SchemaMismatch(f"there is no column {label!r}", hint=nearest(label, copy.columns))
    name = Path(file).name
    made, count = undo(existing_store(store), run, copy=copy, name=name, rows=numbers, seed=seed)
    settle()
    write_table(made.data.frame(), output)
    told = made.sql("select count(*) as n from label_history where run_id = $r", r=made.run_id)
    edited = int(told["n"][0]) - count
    if as_json:
        out_json({"run_id": made.run_id, "undone": count, "edited": edited, "output": str(output)})
        return
    also = f"; {edited:,} edited by hand are kept and recorded" if edited else ""
    out(plain(f"{count:,} labels are as they were before run {run}{also}; see {output}"))


def _read(file: str) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        made = reader_of(file, Roles(), Beside()).run(empty(), Context(0, Path(scratch)))
        return made.data.frame() if made.data is not None else pl.DataFrame()
