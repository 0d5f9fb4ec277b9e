# SPDX-License-Identifier: Apache-2.0
"""What a report tells of one run, read from the store alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.core.estimate import Estimate
from datapipe.core.roles import ROW_ID
from datapipe.errors import DeclarationError
from datapipe.lineage.store import Lineage

Line = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Facts:
    """One run as its tables tell it; every list is in the order of the run.

    Args:
        run: The line of `runs` with the state, verdict and times of `run_status`.
        steps: Lines of `steps`.
        findings: Lines of `findings`.
        sources: Lines of `sources`.
        dropped: Lines `stage`, `reason`, `rows` counted from `dropped_rows`.
        models: Lines of `models`.
        exports: Lines of `exports`.
        privacy: Lines of `privacy_events`.
        attestations: Lines of `attestations`.
        lineage: The store, for row tables and thumbnails.

    Example:
        >>> Facts({}, [], [], [], [], [], [], [], [], None).steps
        []
    """

    run: Line
    steps: list[Line]
    findings: list[Line]
    sources: list[Line]
    dropped: list[Line]
    models: list[Line]
    exports: list[Line]
    privacy: list[Line]
    attestations: list[Line]
    lineage: Lineage = field(repr=False)

    def rows_of(self, finding: Line) -> pl.DataFrame | None:
        """The row table of a finding.

        Args:
            finding: A line of `findings`.

        Returns:
            `row_id`, `score`, `flagged`, `reason`, `suggested` …, or None where it scored no row.

        Example:
            >>> # facts.rows_of(facts.findings[0])
        """
        path = self.lineage.object_path(finding["rows_object"]) if finding["rows_object"] else None
        return None if path is None else pl.read_parquet(path)

    def cells(self, step_id: str, column_role: str, row_ids: list[int]) -> dict[int, Any]:
        """The values of a role's column for some rows, as a step saw them.

        Args:
            step_id: The step.
            column_role: Such as `image` or `label`.
            row_ids: Which rows.

        Returns:
            Row id to value; empty where the column or the object is gone.

        Example:
            >>> # facts.cells("r/3", "image", [1 << 40])
        """
        step = next((s for s in self.steps if s["step_id"] == step_id), None)
        digest = (step["dataset_in"] or step["dataset_out"]) if step else ""
        path = self.lineage.object_path(digest) if digest else None
        roles = _roles(self.lineage, digest) if path else {}
        columns = roles.get(column_role, [])
        if path is None or len(columns) != 1:
            return {}
        frame = pl.scan_parquet(path, glob=False).select(ROW_ID, columns[0])
        wanted = frame.filter(pl.col(ROW_ID).is_in(row_ids)).collect()
        return dict(zip(wanted[ROW_ID].to_list(), wanted[columns[0]].to_list(), strict=True))


def gather(store: Path, run_id: str = "") -> Facts:
    """Read everything a report needs.

    Args:
        store: Folder of the store.
        run_id: The run, or its first characters; empty for the newest.

    Returns:
        The facts.

    Raises:
        DeclarationError: There is no such run.

    Example:
        >>> # gather(Path(".datapipe"))
    """
    lineage = Lineage(store)
    query = "select r.*, s.* exclude (run_id, pipeline, started_at) from runs r join run_status s using (run_id)"
    runs = lineage.sql(f"{query} order by r.seq").to_dicts()
    chosen = [r for r in runs if str(r["run_id"]).startswith(run_id)]
    if not chosen:
        known = ", ".join(str(r["run_id"]) for r in runs[-5:])
        raise DeclarationError(
            f"the store {store} has no run {run_id!r}"
            if run_id
            else f"the store {store} has no run",
            code="DP-DECL-060",
            hint=f"known: {known}" if known else "run a pipeline first",
        )
    run = chosen[-1]

    def lines(table: str, order: str = "seq") -> list[Line]:
        frame = lineage.sql(
            f"select * from {table} where run_id = $run order by {order}", run=run["run_id"]
        )
        return [_parsed(line) for line in frame.to_dicts()]

    dropped = lineage.sql(
        "select stage, step_id, reason, count(*) as rows from dropped_rows where run_id = $run"
        " group by all order by rows desc",
        run=run["run_id"],
    ).to_dicts()
    return Facts(
        _parsed(run),
        lines("steps", "position"),
        lines("findings"),
        lines("sources"),
        dropped,
        lines("models"),
        lines("exports"),
        lines("privacy_events"),
        lines("attestations"),
        lineage,
    )


def estimate_of(finding: Line) -> Estimate:
    """The measure of a line of `findings`.

    Args:
        finding: The line.

    Returns:
        The estimate.

    Example:
        >>> line = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1, "method": "count", "level": 0.95}
        >>> estimate_of({**line, "unit": ""}).value
        1.0
    """
    keys = ("value", "low", "high", "n", "method", "level", "unit")
    return Estimate.from_json({key: finding[key] for key in keys})


def _roles(lineage: Lineage, digest: str) -> dict[str, list[str]]:
    found = lineage.sql("select roles from datasets where digest = $digest limit 1", digest=digest)
    return dict(_loads(found["roles"][0])) if found.height else {}


def _parsed(line: Mapping[str, Any]) -> Line:
    """JSON columns as values."""
    names = (
        "details",
        "columns",
        "facts",
        "measures",
        "environment",
        "params",
        "files",
        "result",
        "subjects",
        "keyids",
        "detail",
    )
    return {k: _loads(v) if k in names else v for k, v in line.items()}


def _loads(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in '[{"n' else value
