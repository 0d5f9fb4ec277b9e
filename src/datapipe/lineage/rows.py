# SPDX-License-Identifier: Apache-2.0
"""Everything known about one row: where from, what was thought of it, where it went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import duckdb

from datapipe.core.roles import ORDINAL_BITS
from datapipe.errors import DeclarationError
from datapipe.lineage.console import lines

_SOURCE = """
select name, uri, origin, licence, consent, synthetic, generator, digest, rows, trust, signer, files
from sources where source_no = $source order by seq desc limit 1
"""
_DROPPED = "select run_id, step_id, stage, reason from dropped_rows where row_id = $row"
_LABELS = """
select run_id, stage, "before", "after", why, posterior, changed_by
from label_history where row_id = $row order by run_id, position
"""
_HISTORY = """
select h.run_id, h.position, h.stage, h.event, h.reason, h.score
from row_history h left join runs r using (run_id)
where h.row_id = $row order by r.started_at, h.run_id, h.position, h.event
"""
_MODELS = """
select distinct i.model_id as digest, i.name, i.run_id
from model_inputs i
join datasets d on d.digest = i.digest and d.run_id = i.dataset_run
where list_contains(d.source_nos::bigint[], $source)
  and not exists (
    select 1 from dataset_ancestors a join step_drops r using (step_id)
    where a.digest = i.digest and a.run_id = i.dataset_run and r.row_id = $row)
  and not exists (
    select 1 from model_held_out h where h.model_id = i.model_id and h.row_id = $row)
order by all
"""
_EXPORTS = """
select distinct e.export_id as digest, e.name, e.run_id
from exports e
where list_contains($models, e.model)
   or exists (select 1 from models m where m.name = e.model and m.run_id = e.run_id
              and list_contains($models, m.model_id))
order by all
"""


def row_number(row: int | str) -> tuple[int, int, int]:
    """A row's id, the number of its source and its place there.

    Args:
        row: The id, or `source:ordinal`.

    Returns:
        Row id, source number, ordinal.

    Raises:
        DeclarationError: It is neither.

    Example:
        >>> row_number("1:5"), row_number(1 << 40 | 5)
        ((1099511627781, 1, 5), (1099511627781, 1, 5))
    """
    source, colon, ordinal = str(row).strip().partition(":")
    digits = source.isdecimal() and (ordinal.isdecimal() if colon else not ordinal)
    number = 0
    if digits:
        number = int(source) << ORDINAL_BITS | int(ordinal) if colon else int(source)
    fits = digits and number < 2**64 and (not colon or int(ordinal) < 1 << ORDINAL_BITS)
    if not fits:
        raise DeclarationError(
            f"{row!r} names no row",
            code="DP-DECL-056",
            hint="give SOURCE:ORDINAL such as 1:1429, or a row_id as `datapipe sql` shows it",
        )
    return number, number >> ORDINAL_BITS, number & ((1 << ORDINAL_BITS) - 1)


def why(connection: duckdb.DuckDBPyConnection, row: int | str) -> dict[str, Any]:
    """Everything known about one row.

    Args:
        connection: An opened index.
        row: The row's id, or `source:ordinal`.

    Returns:
        `row_id source_no ordinal source file dropped history labels models exports`.

    Raises:
        DeclarationError: The store has no such row.

    Example:
        >>> from datapipe.lineage.load import make
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     _ = connection.execute(
        ...         "insert into sources (source_no, name, rows) values (1, 'reviews', 3)"
        ...     )
        ...     why(connection, "1:2")["source"]["name"]
        'reviews'
    """
    row_id, source_no, ordinal = row_number(row)
    found = lines(connection, _SOURCE, source=source_no)
    if not found or (found[0]["rows"] is not None and ordinal >= found[0]["rows"]):
        raise _no_row(connection, row, source_no)
    source = found[0]
    models = lines(connection, _MODELS, row=row_id, source=source_no)
    digests = [m["digest"] for m in models]
    return {
        "row_id": row_id,
        "source_no": source_no,
        "ordinal": ordinal,
        "file": _file(json.loads(source.pop("files") or "[]"), ordinal),
        "source": source,
        "dropped": lines(connection, _DROPPED, row=row_id),
        "history": lines(connection, _HISTORY, row=row_id),
        "labels": lines(connection, _LABELS, row=row_id),
        "models": models,
        "exports": lines(connection, _EXPORTS, models=digests) if digests else [],
    }


def _file(files: list[tuple[str, int]], ordinal: int) -> Mapping[str, Any] | None:
    """The file of a source that holds a row, and which of its rows it is, from 0."""
    before = 0
    for path, rows in files:
        if ordinal < before + rows:
            return {"path": path, "row": ordinal - before}
        before += rows
    return None


def _no_row(
    connection: duckdb.DuckDBPyConnection, row: int | str, source_no: int
) -> DeclarationError:
    known = lines(
        connection,
        "select source_no, source, rows from source_facts where source_no = $source "
        "union all (select source_no, source, rows from source_facts where source_no <> $source "
        "order by source_no limit 5)",
        source=source_no,
    )
    told = "; ".join(f"source {k['source_no']} ({k['source']}) has {k['rows']} rows" for k in known)
    return DeclarationError(
        f"there is no row {row} in this store", code="DP-DECL-057", hint=told or "run a pipeline"
    )
