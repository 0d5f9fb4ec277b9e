# SPDX-License-Identifier: Apache-2.0
"""`Run`: what comes back from a pipeline, and the questions it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from datapipe._lazy import upward
from datapipe.core.artifact import Artifact
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding, Verdict
from datapipe.errors import DeclarationError, nearest


class Answers(Protocol):
    """The part of a lineage store that a run asks."""

    def index(self) -> bool:
        """Bring the index up to date; see `datapipe.Lineage.index`.

        Returns:
            Whether it is.

        Example:
            >>> hasattr(Answers, "index")
            True
        """
        ...

    def sql(self, query: str, **values: object) -> pl.DataFrame:
        """Answer a query; see `datapipe.Lineage.sql`.

        Args:
            query: SQL.
            values: Values of its named parameters.

        Returns:
            The rows.

        Example:
            >>> hasattr(Answers, "sql")
            True
        """
        ...

    def why(self, row: str | int) -> Mapping[str, Any]:
        """Everything known about one row; see `datapipe.Lineage.why`.

        Args:
            row: A row id, or `source:ordinal`.

        Returns:
            The row's history.

        Example:
            >>> hasattr(Answers, "why")
            True
        """
        ...

    def trace(self, digest: str) -> Mapping[str, Any]:
        """The way back from an object to its sources; see `datapipe.Lineage.trace`.

        Args:
            digest: A digest, or its first eight or more digits.

        Returns:
            Steps and sources.

        Example:
            >>> hasattr(Answers, "trace")
            True
        """
        ...


@dataclass(frozen=True)
class StepRecord:
    """What one step did.

    Args:
        step_id: Its id in the store.
        stage: Catalogue key.
        rows_in: Rows it was given.
        rows_out: Rows it passed on.
        rows_aside: Rows it set aside.
        seconds: Wall time it took, in seconds.
        reused: Whether an earlier result was used instead of running it.

    Example:
        >>> StepRecord("s1", "dedup.exact", 10, 9, 1, 0.1, False).rows_aside
        1
    """

    step_id: str
    stage: str
    rows_in: int
    rows_out: int
    rows_aside: int
    seconds: float
    reused: bool


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished run.

    Args:
        run_id: Its id in the store.
        pipeline: The pipeline's name.
        verdict: The worst verdict among the newest finding of each kind.
        findings: Every finding, in order, q-values filled in.
        data: The rows that are left.
        artifacts: Models and exports by name.
        steps: What each step did.
        store: Folder of the store.
        lineage: The store's answers.
        row_findings: Parquet file with a line for every row that a detector scored.

    Example:
        >>> Run.__name__
        'Run'
    """

    run_id: str
    pipeline: str
    verdict: Verdict
    findings: Sequence[Finding]
    data: Dataset
    artifacts: Mapping[str, Artifact]
    steps: Sequence[StepRecord]
    store: Path
    lineage: Answers = field(repr=False)
    row_findings: Path | None = None

    def sql(self, query: str, **values: object) -> pl.DataFrame:
        """Ask the store in SQL.

        Args:
            query: A query over the promised tables and views, such as `from dropped_rows`.
            values: Values of its named parameters.

        Returns:
            The rows.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> small_run().sql("select count(*) as n from dropped_rows")["n"].to_list()
            [1]
        """
        return self.lineage.sql(query, **values)

    def why(self, row: str | int) -> Mapping[str, Any]:
        """Where a row came from, what was thought of it and where it went.

        Args:
            row: A row id, or `source:ordinal` such as `1:1429`.

        Returns:
            The row's history.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> small_run().why("1:1")["dropped"][0]["reason"]
            'left out by text.long_enough'
        """
        return self.lineage.why(row)

    def finding(self, kind: str) -> Finding:
        """The newest finding of a kind.

        Args:
            kind: Such as `labels.noise`.

        Returns:
            The finding.

        Raises:
            DeclarationError: No step found anything of this kind.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> small_run().finding("labels.noise")
            Traceback (most recent call last):
            ...
            datapipe.errors.DeclarationError: no step found 'labels.noise' [DP-DECL-015]
            <BLANKLINE>
            hint: nothing is known here
        """
        for finding in reversed(self.findings):
            if finding.kind == kind:
                return finding
        raise DeclarationError(
            f"no step found {kind!r}",
            code="DP-DECL-015",
            hint=nearest(kind, [f.kind for f in self.findings]),
        )

    def report(self, path: str | Path = "report.html") -> Path:
        """Write what happened as one self-contained HTML file.

        Args:
            path: Where to write.

        Returns:
            The path.

        Example:
            >>> import tempfile
            >>> from datapipe.testing.small import small_run
            >>> small_run().report(Path(tempfile.mkdtemp()) / "report.html").name
            'report.html'
        """
        written: Path = upward("datapipe.report.html", "write_report")(
            self.store, self.run_id, Path(path)
        )
        return written

    def to_json(self) -> dict[str, Any]:
        """The promised JSON form.

        Returns:
            A dictionary with run_id, verdict, findings, row_findings and artifacts.

        Example:
            >>> from datapipe.testing.small import small_run
            >>> small_run().to_json()["rows"]
            2
        """
        return {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "verdict": self.verdict,
            "findings": [f.to_json() for f in self.findings],
            "row_findings": str(self.row_findings) if self.row_findings else None,
            "artifacts": [a.to_json() for a in self.artifacts.values()],
            "rows": len(self.data),
            "steps": [
                {
                    "step_id": s.step_id,
                    "stage": s.stage,
                    "rows_in": s.rows_in,
                    "rows_out": s.rows_out,
                    "rows_aside": s.rows_aside,
                    "seconds": round(s.seconds, 3),
                    "reused": s.reused,
                }
                for s in self.steps
            ],
            "store": str(self.store),
        }

    def __repr__(self) -> str:
        told = [
            f"  {f.verdict:<13} {f.kind}: {f.says}"[:100]
            for f in self.findings
            if f.verdict != "clean"
        ]
        more = [f"  … and {len(told) - 6} more"] if len(told) > 6 else []
        head = (
            f"Run({self.run_id} of {self.pipeline!r}: {self.verdict}, {len(self.data):,} rows left)"
        )
        return "\n".join([head, *told[:6], *more])

    def _repr_html_(self) -> str:
        """The notebook form: verdict, findings and steps as plain tables."""
        return str(upward("datapipe.report.html", "run_card")(self))
