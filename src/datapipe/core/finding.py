# SPDX-License-Identifier: Apache-2.0
"""`Finding`: what a stage thinks of the data, how sure it is, and of which rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError

Verdict = Literal["clean", "suspect", "fail", "not_evaluated"]
Severity = Literal["info", "low", "medium", "high"]
VERDICTS: tuple[Verdict, ...] = ("clean", "not_evaluated", "suspect", "fail")
"""From best to worst; what could not be evaluated is worse than clean."""

_UNTOLD = "not evaluated: "

ROW_SCHEMA: dict[str, Any] = {
    "row_id": pl.UInt64,
    "score": pl.Float64,
    "p_value": pl.Float64,
    "flagged": pl.Boolean,
    "action": pl.String,
    "reason": pl.String,
    "suggested": pl.String,
}


@dataclass(frozen=True, eq=False)
class Finding:
    """One answer of a stage, with its uncertainty.

    Args:
        kind: `family.what`, such as `labels.noise`; gates match on it.
        verdict: `clean`, `suspect`, `fail` or `not_evaluated`.
        measure: The figure the verdict rests on.
        says: One sentence for a person; no cell values of a person.
        severity: `info`, `low`, `medium` or `high`.
        p_value: Evidence against *clean* in [0, 1]; None where there is no test.
        q_value: The same after Benjamini-Hochberg over the run; the executor fills it in.
        columns: The columns it is about.
        rows: One line per row looked at (see `scored_rows`), or None.
        details: What it names: trigger, class pair, source, predicate. JSON values only.
        remedy: One action that mends it.
        look: Which group of the pipeline looked; the executor fills it in, so that a later look
            at the same kind supersedes an earlier one.

    Raises:
        DeclarationError: The verdict is unknown or a p-value lies outside [0, 1].

    Example:
        >>> f = Finding("labels.noise", "clean", Estimate.rate(3, 500), "3 of 500 look wrong")
        >>> f.family
        'labels'
    """

    kind: str
    verdict: Verdict
    measure: Estimate
    says: str
    severity: Severity = "info"
    p_value: float | None = None
    q_value: float | None = None
    columns: tuple[str, ...] = ()
    rows: pl.DataFrame | None = field(default=None, repr=False)
    details: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""
    look: int = 0

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise DeclarationError(
                f"{self.kind}: {self.verdict!r} is no verdict",
                code="DP-DECL-012",
                hint=f"use one of {', '.join(VERDICTS)}",
            )
        for p in (self.p_value, self.q_value):
            if p is not None and not 0 <= p <= 1:
                raise DeclarationError(
                    f"{self.kind}: the p-value {p} lies outside [0, 1]", code="DP-DECL-012"
                )

    @classmethod
    def not_evaluated(
        cls,
        kind: str,
        why: str,
        *,
        measure: Estimate | None = None,
        columns: tuple[str, ...] = (),
        rows: pl.DataFrame | None = None,
        details: Mapping[str, Any] | None = None,
        remedy: str = "",
    ) -> Finding:
        """The finding of a stage that could not look; it is never `clean`.

        Args:
            kind: `family.what`.
            why: What was missing, as half a sentence; it goes on after "not evaluated: ".
            measure: What is known of the figure all the same; nothing, without it.
            columns: The columns it is about.
            rows: Scores of rows that no verdict rests on.
            details: What it names. JSON values only.
            remedy: One action that lets it be evaluated.

        Returns:
            The finding.

        Example:
            >>> Finding.not_evaluated("labels.noise", "the label has one class").says
            'not evaluated: the label has one class'
        """
        return cls(
            kind,
            "not_evaluated",
            Estimate.unknown(method=why) if measure is None else measure,
            _UNTOLD + why,
            columns=columns,
            rows=rows,
            details=details or {},
            remedy=remedy,
        )

    def withdrawn(self, why: str, *, method: str = "", n: int | None = None) -> Finding:
        """The same finding with its verdict taken back; rows and details stay.

        Args:
            why: Why it does not carry a verdict, as half a sentence.
            method: What the measure says of it; empty for `why`.
            n: How many observations were seen; as many as before, without it.

        Returns:
            The finding, `not_evaluated`.

        Example:
            >>> found = Finding("labels.noise", "clean", Estimate.rate(0, 9), "0 of 9 look wrong")
            >>> found.withdrawn("an alarm takes 20 rows").verdict
            'not_evaluated'
        """
        seen = self.measure.n if n is None else n
        return replace(
            self,
            verdict="not_evaluated",
            severity="info",
            measure=Estimate.unknown(method=method or why, n=seen),
            says=_UNTOLD + why,
        )

    @property
    def reason(self) -> str:
        """What it says, to stand beside a word for its verdict: without "not evaluated: "."""
        return self.says.removeprefix(_UNTOLD)

    @property
    def family(self) -> str:
        """The part of the kind before the first dot."""
        return self.kind.partition(".")[0]

    @property
    def flagged(self) -> pl.DataFrame:
        """The rows that were flagged, empty when no rows were scored."""
        if self.rows is None:
            return scored_rows([], [])
        return self.rows.filter(pl.col("flagged"))

    def to_json(self) -> dict[str, Any]:
        """The promised JSON form (rows are written apart, as Parquet).

        Returns:
            A dictionary with kind, verdict, severity, measure, p_value, q_value, says, details
            and remedy.

        Example:
            >>> Finding("a.b", "clean", Estimate.rate(0, 9), "fine").to_json()["verdict"]
            'clean'
        """
        return {
            "kind": self.kind,
            "verdict": self.verdict,
            "severity": self.severity,
            "measure": self.measure.to_json(),
            "p_value": self.p_value,
            "q_value": self.q_value,
            "says": self.says,
            "columns": list(self.columns),
            "details": _finite(dict(self.details)),
            "remedy": self.remedy,
        }


def label_text(column: str, kind: Any) -> pl.Expr:
    """A label as the text that findings and histories hold: lists as JSON, all else as polars does.

    Args:
        column: The label's column.
        kind: Its polars type.

    Returns:
        An expression of strings, null where there is no label.

    Example:
        >>> frame = pl.DataFrame({"y": [[1, 2], None]})
        >>> frame.select(label_text("y", frame.schema["y"]))["y"].to_list()
        ['[1,2]', None]
    """
    if not kind.is_nested():
        return pl.col(column).cast(pl.String)
    lists = pl.col(column).arr.to_list() if isinstance(kind, pl.Array) else pl.col(column)
    whole = pl.struct(lists.alias("_")).struct.json_encode()
    bare = whole.str.strip_prefix('{"_":').str.strip_suffix("}")
    return pl.when(pl.col(column).is_not_null()).then(bare).alias(column)


def scored_rows(
    row_ids: Any,
    scores: Any,
    *,
    flagged: Any = None,
    p_values: Any = None,
    reason: str = "",
    suggested: Any = None,
) -> pl.DataFrame:
    """The row table of a finding: a line for every row that was looked at.

    Args:
        row_ids: uint64, shape (n,).
        scores: float, shape (n,); higher is worse.
        flagged: bool, shape (n,); None flags nothing.
        p_values: float in [0, 1], shape (n,), or None.
        reason: Why a flagged row is flagged.
        suggested: The label a flagged row should have, strings of shape (n,), or None.

    Returns:
        A frame with the columns of `ROW_SCHEMA`; `action` is empty until the executor acts.

    Example:
        >>> scored_rows([7, 8], [0.1, 0.9], flagged=[False, True], reason="odd")["reason"].to_list()
        ['', 'odd']
    """
    frame = pl.DataFrame(
        {
            "row_id": pl.Series(row_ids, dtype=pl.UInt64),
            "score": pl.Series(scores, dtype=pl.Float64),
        }
    )
    n = frame.height
    null = pl.Series([None] * n)
    return (
        frame.with_columns(
            (null if p_values is None else pl.Series(p_values)).cast(pl.Float64).alias("p_value"),
            (pl.Series([False] * n, dtype=pl.Boolean) if flagged is None else pl.Series(flagged))
            .cast(pl.Boolean)
            .alias("flagged"),
            pl.lit("").alias("action"),
            (null if suggested is None else pl.Series(suggested))
            .cast(pl.String)
            .alias("suggested"),
        )
        .with_columns(
            pl.when(pl.col("flagged")).then(pl.lit(reason)).otherwise(pl.lit("")).alias("reason")
        )
        .select(list(ROW_SCHEMA))
    )


def worst(verdicts: Iterable[str]) -> Verdict:
    """The worst of some verdicts; with none given nothing was evaluated.

    Args:
        verdicts: Names in `VERDICTS`.

    Returns:
        The worst one.

    Example:
        >>> worst(["clean", "suspect"]), worst([])
        ('suspect', 'not_evaluated')
    """
    ranks = [VERDICTS.index(v) for v in verdicts]
    return VERDICTS[max(ranks)] if ranks else "not_evaluated"


def standing(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that no later look at their kind supersedes.

    Findings of one kind from one group of the pipeline stand side by side, such as those of four
    readers, or of three protected columns.

    Args:
        findings: The findings of a run.

    Returns:
        Those of the newest look at each kind, in their order.

    Example:
        >>> first = Finding("a.b", "fail", Estimate.rate(9, 9), "", look=1)
        >>> again = Finding("a.b", "clean", Estimate.rate(0, 9), "", look=2)
        >>> [f.verdict for f in standing([first, again])]
        ['clean']
    """
    every = list(findings)
    newest: dict[str, int] = {}
    for finding in every:
        newest[finding.kind] = max(finding.look, newest.get(finding.kind, 0))
    return [f for f in every if f.look == newest[f.kind]]


def with_q_values(findings: Sequence[Finding]) -> list[Finding]:
    """Fill in q-values: Benjamini-Hochberg over every finding of a run that has a p-value.

    Args:
        findings: The findings, in any order.

    Returns:
        The same findings in the same order, with `q_value` set where there is a `p_value`.

    Example:
        >>> none = Estimate.rate(0, 9)
        >>> made = [Finding("a.b", "clean", none, "", p_value=p) for p in (0.01, 0.5)]
        >>> [f.q_value for f in with_q_values(made)]
        [0.02, 0.5]

    References:
        Benjamini & Hochberg, 1995, Controlling the false discovery rate.
    """
    tested = sorted((f.p_value, i) for i, f in enumerate(findings) if f.p_value is not None)
    q: dict[int, float] = {}
    running = 1.0
    for rank in range(len(tested), 0, -1):
        p, i = tested[rank - 1]
        q[i] = running = min(running, p * len(tested) / rank)
    return [replace(f, q_value=q[i]) if i in q else f for i, f in enumerate(findings)]


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if hasattr(value, "item") and callable(value.item):
        return _finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
