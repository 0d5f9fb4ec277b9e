# SPDX-License-Identifier: Apache-2.0
"""What a report tells of one run, read from the store alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.core.estimate import Estimate
from datapipe.core.parquet import vouch
from datapipe.core.roles import ROW_ID
from datapipe.errors import DeclarationError
from datapipe.lineage.erasures import ERASURE
from datapipe.lineage.store import Lineage

Line = Mapping[str, Any]

TABLES = {
    "run_events": "seq",
    "steps": "position",
    "findings": "seq",
    "sources": "seq",
    "datasets": "seq",
    "models": "seq",
    "exports": "seq",
    "privacy_events": "seq",
    "attestations": "seq",
}
"""The tables a report reads, each in the order in which its lines are told."""

COUNTS = ("rows_in", "rows_out", "rows_aside")
"""What a step counts of its rows."""

MOST_REASONS = 60
MOST_CLASSES = 40


@dataclass(frozen=True, eq=False)
class Cells:
    """What a row holds in the columns that a report may show.

    Args:
        label: Its label as text, or None.
        pixels: Its image as numbers, or None.
        text: Its text, or None.

    Example:
        >>> Cells(label="3").pixels is None
        True
    """

    label: str | None = None
    pixels: Any = None
    text: str | None = None


@dataclass(frozen=True, eq=False)
class Facts:
    """One run as its tables tell it; every list is in the order of the run.

    Args:
        run: The line of `runs` with the state, verdict and times of `run_status`.
        tables: Table name to its lines of this run.
        dropped: Lines `stage`, `reason`, `rows` counted from `dropped_rows`.
        lineage: The store, for row tables and cells.

    Example:
        >>> from datapipe.testing.small import small_run
        >>> [s["stage"] for s in gather(small_run().store).steps][-1]
        'text.long_enough'
    """

    run: Line
    tables: Mapping[str, Sequence[Line]]
    dropped: Sequence[Line]
    lineage: Lineage = field(repr=False)

    @property
    def steps(self) -> Sequence[Line]:
        """Lines of `steps`."""
        return self.tables["steps"]

    @property
    def findings(self) -> Sequence[Line]:
        """Lines of `findings`."""
        return self.tables["findings"]

    @cached_property
    def sources(self) -> Sequence[Line]:
        """The newest line of `sources` about each source: a later step may have verified it."""
        return list({s["source_no"]: s for s in self.tables["sources"]}.values())

    @cached_property
    def not_run(self) -> Sequence[str]:
        """Stages that were planned and have no step; the plan is in the order of positions."""
        ran = {int(s["position"]) for s in self.steps}
        plan = self.run["params"] or []
        return [str(p.get("stage", "")) for i, p in enumerate(plan) if i not in ran]

    @cached_property
    def later(self) -> Mapping[str, Line]:
        """Finding id to the step that looked at the same thing again, for superseded findings."""
        step = {s["step_id"]: s for s in self.steps}
        newest: dict[str, Line] = {}
        for finding in self.findings:
            if finding["step_id"] in step:
                newest[finding["kind"]] = step[finding["step_id"]]
        return {
            f["finding_id"]: newest[f["kind"]]
            for f in self.findings
            if f["step_id"] in step and _place(step[f["step_id"]]) < _place(newest[f["kind"]])
        }

    @cached_property
    def standing(self) -> Sequence[Line]:
        """The findings that no later step looked at again: the verdict rests on these."""
        return [f for f in self.findings if f["finding_id"] not in self.later]

    @cached_property
    def closed(self) -> Line | None:
        """The finding of the gate that stopped the run, or None."""
        gates = [f for f in self.findings if f["kind"] == "gate" and f["verdict"] == "fail"]
        return gates[-1] if gates else None

    @cached_property
    def personal(self) -> bool:
        """Whether rows belong to persons: then no cell of a row is shown."""
        return any("subject" in dict(d["roles"] or {}) for d in self.tables["datasets"])

    def rows_of(self, finding: Line) -> pl.LazyFrame | None:
        """The row table of a finding, not read yet.

        Args:
            finding: A line of `findings`.

        Returns:
            `row_id score p_value flagged action reason suggested`, or None where it scored no row
            or the object is gone.

        Raises:
            TrustError: The object is not as it was written.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> gather(small_run().store).rows_of({"rows_object": ""}) is None
            True
        """
        path = self.lineage.object_path(finding["rows_object"]) if finding["rows_object"] else None
        if path is None:
            return None
        vouch(path, finding["rows_object"])
        return pl.scan_parquet(path, glob=False)

    def seen_by(self, step_id: str) -> str:
        """The data set that a step looked at.

        Args:
            step_id: The step.

        Returns:
            Its digest; empty when the step is unknown.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> gather(small_run().store).seen_by("nowhere")
            ''
        """
        step = next((s for s in self.steps if s["step_id"] == step_id), None)
        return str(step["dataset_in"] or step["dataset_out"] or "") if step else ""

    def rows_in(self, digest: str) -> tuple[pl.LazyFrame, Mapping[str, Sequence[str]]] | None:
        """The rows of a data set, not read yet, and what its columns are for.

        Args:
            digest: Its digest.

        Returns:
            Rows and roles; None where the file is not in the store.

        Raises:
            TrustError: The file is not as it was written.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> gather(small_run().store).rows_in("") is None
            True
        """
        path = self.lineage.object_path(digest) if digest else None
        told = [d for d in self.tables["datasets"] if d["digest"] == digest]
        if path is None or not told:
            return None
        vouch(path, digest)
        return pl.scan_parquet(path, glob=False), dict(told[-1]["roles"] or {})

    def cells(self, step_id: str, row_ids: Sequence[int]) -> Mapping[int, Cells]:
        """Label, image and text of some rows, as a step saw them.

        Nothing is given where the rows belong to persons.

        Args:
            step_id: The step.
            row_ids: Which rows.

        Returns:
            Row id to cells; empty where the data set is gone.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> run = small_run()
            >>> gather(run.store).cells(run.steps[-1].step_id, [1 << 40])[1 << 40].text
            'one'
        """
        found = None if self.personal else self.rows_in(self.seen_by(step_id))
        if found is None:
            return {}
        frame, roles = found
        label, text = ([*roles.get(r, ())][:1] for r in ("label", "text"))
        image = list(roles.get("image", ()))
        wanted = frame.filter(pl.col(ROW_ID).is_in(list(row_ids)))
        lines = wanted.select(*dict.fromkeys([ROW_ID, *label, *text, *image])).collect()
        return {
            int(line[ROW_ID]): Cells(
                None if not label or line[label[0]] is None else str(line[label[0]]),
                _pixels([line[c] for c in image]),
                None if not text or line[text[0]] is None else str(line[text[0]]),
            )
            for line in lines.to_dicts()
        }

    def labels_in(self, digest: str) -> Mapping[str, int]:
        """How many rows of a data set carry each label.

        Args:
            digest: The data set.

        Returns:
            Label to rows; empty where there are no labels or they are no classes.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> gather(small_run().store).labels_in("")
            {}
        """
        found = self.rows_in(digest)
        columns = [] if found is None else list(found[1].get("label", ()))
        if found is None or len(columns) != 1:
            return {}
        label = pl.col(columns[0])
        if found[0].collect_schema()[columns[0]].is_nested():
            return {}
        counted = (
            found[0].filter(label.is_not_null()).group_by(label.alias("label")).len()
            .sort("len", descending=True).head(MOST_CLASSES + 1).collect()
        )  # fmt: skip
        if counted.height > MOST_CLASSES:
            return {}
        return {str(line["label"]): int(line["len"]) for line in counted.to_dicts()}


def gather(store: Path, run_id: str = "") -> Facts:
    """Read everything a report needs, in three questions to the store.

    Args:
        store: Folder of the store.
        run_id: The run, or its first characters; empty for the newest.

    Returns:
        The facts.

    Example:
        >>> from datapipe.testing.small import small_run
        >>> gather(small_run().store).run["pipeline"]
        'small'
    """
    lineage = Lineage(store)
    run = _run(lineage, store, run_id)
    lines = lineage.sql(_question(), run=run["run_id"]).sort("name", "place")
    tables: dict[str, list[Line]] = {name: [] for name in TABLES}
    for name, line in zip(lines["name"], lines["line"], strict=True):
        tables[name].append(json.loads(line))
    dropped = lineage.sql(
        "select stage, regexp_replace(reason, '[0-9]+:[0-9]+', '…', 'g') as reason,"
        " count(*) as rows from dropped_rows where run_id = $run group by 1, 2"
        " order by rows desc, 1, 2 limit $most",
        run=run["run_id"],
        most=MOST_REASONS,
    )
    return Facts(run, tables, dropped.to_dicts(), lineage)


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


def measure_of(line: Line, name: str) -> Estimate | None:
    """A measure of a line of `models` or `exports`.

    Args:
        line: The line.
        name: Such as `accuracy`.

    Returns:
        The estimate, or None where it was not measured.

    Example:
        >>> measure_of({"measures": {}}, "accuracy") is None
        True
    """
    form = dict(line["measures"] or {}).get(name)
    return None if form is None else Estimate.from_json(form)


def _run(lineage: Lineage, store: Path, run_id: str) -> Line:
    """A run by its id or how it begins, else the newest; an erasure is none: it found nothing."""
    runs = lineage.sql(
        "select to_json(x)::varchar as line from ("
        " select r.*, s.* exclude (run_id, pipeline, started_at)"
        " from runs r join run_status s using (run_id) where starts_with(r.run_id, $run)"
        " and r.pipeline <> $erasure order by r.seq desc limit 2) x",
        run=run_id,
        erasure=ERASURE,
    )["line"].to_list()
    if not runs or (run_id and len(runs) > 1):
        known = lineage.sql(
            "select run_id from runs where pipeline <> $erasure order by seq desc limit 5",
            erasure=ERASURE,
        )["run_id"].to_list()
        which = f"no run {run_id!r}" if run_id else "no run"
        raise DeclarationError(
            f"the store {store} has {which if not runs else f'several runs {run_id!r}…'}",
            code="DP-DECL-060",
            hint=f"known: {', '.join(known)}" if known else "run a pipeline first",
        )
    return dict(json.loads(runs[0]))


def _question() -> str:
    """One question for all tables: a line of each as JSON, what only reuse needs left out."""
    left_out = {"steps": " exclude (result)", "datasets": " exclude (ancestor_steps)"}
    return " union all ".join(
        f"select '{table}' as name, {place}::bigint as place, to_json(x)::varchar as line"  # noqa: S608 - our own names
        f" from (select *{left_out.get(table, '')} from {table} where run_id = $run) x"
        for table, place in TABLES.items()
    )


def _place(step: Line) -> int:
    """Where a step stands; steps side by side stand in one place."""
    group = step["branch_group"]
    return int(step["position"] if group is None else group)


def _pixels(values: Sequence[Any]) -> Any:
    """The pixels of a row as one flat list or bytes; several columns are a pixel each."""
    if not values or any(isinstance(v, str) for v in values):
        return None
    return values[0] if len(values) == 1 else list(values)
