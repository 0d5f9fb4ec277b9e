# SPDX-License-Identifier: Apache-2.0
"""What a published index says of steps, sources and models: little, and asked for again and again.

Rows are many and are looked up one by one; steps are few. Held in memory they let a question about
a row be a single look-up instead of a plan over ten joined views.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from datapipe.lineage.console import lines
from datapipe.lineage.duck import duckdb

_SOURCES = """
select source_no, name, uri, origin, licence, consent, synthetic, generator, digest, rows, trust,
       signer, files
from sources qualify row_number() over (partition by source_no order by seq desc) = 1
"""
_STEPS = """
select o.origin, o.step_id, o.run_id, o.position, o.stage, r.started_at
from step_origins o left join runs r using (run_id) order by all
"""
_TURNS = """
select s.step_id, coalesce(t.run_id || '/' || t.branch_group, s.step_id) as turn,
       s.run_id in (select erasure_id from erasures) as erased
from row_drop_steps s left join steps t using (step_id)
"""
_MODELS = """
select i.model_id, i.name, i.run_id, i.held_set, any_value(d.source_nos)::bigint[] as sources,
       list(distinct a.step_id) as steps
from model_inputs i
join datasets d on d.digest = i.digest and d.run_id = i.dataset_run
left join dataset_ancestors a on a.digest = i.digest and a.run_id = i.dataset_run
group by all order by all
"""
_EXPORTS = """
select distinct e.export_id as digest, e.name, e.run_id, e.model, m.model_id
from exports e left join models m on m.name = e.model and m.run_id = e.run_id order by all
"""
BY_ROW = ("row_drops", "row_findings", "label_changes", "model_held_out", "row_edges")
"""Tables in which a row is looked up."""

_DROPPED_BY = "select seq, step_id from row_drop_steps"


@dataclass(frozen=True)
class Known:
    """Steps, sources, models and exports of one published state.

    Args:
        sources: Number to the newest declaration.
        steps: Id of the step that did the work to the steps that stand for it.
        models: A line for each model and data set it was trained on, with the record that tells of
            the rows held out.
        exports: A line for each export.
        dropped_by: Journal record of `row_drops` to the step it belongs to.
        tables: Those of `BY_ROW` that have a line.
        turns: Step to when it set rows aside, the same for steps side by side, and whether it was
            an erasure.

    Example:
        >>> from datapipe.lineage.load import make
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     Known.read(connection).sources
        {}
    """

    sources: dict[int, dict[str, Any]]
    steps: dict[str, list[dict[str, Any]]]
    models: list[dict[str, Any]]
    exports: list[dict[str, Any]]
    dropped_by: dict[int, str]
    tables: tuple[str, ...]
    turns: dict[str, tuple[str, bool]]

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection) -> Known:
        """Read it from an opened index.

        Args:
            connection: The index.

        Returns:
            What it says.

        Example:
            >>> from datapipe.lineage.load import make
            >>> with duckdb.connect() as connection:
            ...     make(connection)
            ...     Known.read(connection).models
            []
        """
        sources = {line.pop("source_no"): line for line in lines(connection, _SOURCES)}
        for line in sources.values():
            line["files"] = json.loads(line["files"] or "[]")
        steps: dict[str, list[dict[str, Any]]] = {}
        for line in lines(connection, _STEPS):
            steps.setdefault(line.pop("origin"), []).append(line)
        dropped_by = dict(connection.execute(_DROPPED_BY).fetchall())
        models = lines(connection, _MODELS)
        exports = lines(connection, _EXPORTS)
        asked = (f"from {name} limit 1" for name in BY_ROW)
        tables = [n for n, a in zip(BY_ROW, asked, strict=True) if connection.execute(a).fetchone()]
        turns = {s: (turn, bool(e)) for s, turn, e in connection.execute(_TURNS).fetchall()}
        return cls(sources, steps, models, exports, dropped_by, tuple(tables), turns)
