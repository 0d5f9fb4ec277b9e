# SPDX-License-Identifier: Apache-2.0
"""What a run found, for a terminal: a line a finding, the worst first, wrapped where it is long."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from datapipe.cli.layout import hung, line_width
from datapipe.cli.terminal import cut, out, painted, plain, settle
from datapipe.core.estimate import Estimate
from datapipe.core.finding import VERDICTS, Finding
from datapipe.core.run import Run

MOST = 16
"""Findings shown before the rest is only counted."""
MOST_KIND = 44
"""Characters of a finding's kind that are shown."""


def show(run: Run, *, headline: str, closing: Sequence[str]) -> None:
    """Print what a run found, its verdict and what to do next.

    Args:
        run: The finished run.
        headline: The first line: what was looked at.
        closing: The last lines: what to do next.

    Example:
        >>> show.__name__
        'show'
    """
    settle()
    out(plain(headline))
    out("")
    for line in finding_lines(run.findings):
        out(line)
    out("")
    out(verdict_line(run.verdict, run.findings))
    for line in closing:
        out(plain(line))


def finding_lines(findings: Sequence[Finding], *, width: int = 0) -> list[str]:
    """A line for each finding: verdict, kind, figure with its interval, and the sentence.

    Args:
        findings: The findings.
        width: Characters a line may have; 0 for the terminal's width.

    Returns:
        The lines, the worst first; those that do not fit are counted in the last line.

    Example:
        >>> made = Finding("labels.noise", "clean", Estimate.rate(3, 500), "3 of 500 look wrong")
        >>> finding_lines([made], width=100)[0]
        'clean         labels.noise  0.006 [0.002043, 0.01749] n=500  3 of 500 look wrong'
    """
    limit = width or line_width()
    ordered = sorted(findings, key=lambda f: -VERDICTS.index(f.verdict))
    shown = ordered[: MOST if len(ordered) > MOST + 1 else MOST + 1]
    kinds = min(max((len(f.kind) for f in shown), default=0), MOST_KIND)
    figures = max((len(figure(f.measure)) for f in shown), default=0)
    lines = []
    for finding in shown:
        word = finding.verdict.replace("_", " ").ljust(13)
        kind = cut(finding.kind, kinds)
        start = plain(f"{word} {kind:<{kinds}}  {figure(finding.measure):<{figures}}  ")
        first, *below = hung(start, plain(finding.says), limit)
        lines += [painted(word, finding.verdict) + first.removeprefix(word), *below]
    rest = ordered[len(shown) :]
    if rest:
        counts = Counter(f.verdict for f in rest)
        told = ", ".join(f"{n} {v.replace('_', ' ')}" for v, n in counts.items())
        lines.append(painted(f"and {len(rest)} more ({told}); --json shows all", "dim"))
    return lines


def figure(measure: Estimate) -> str:
    """A figure with its interval, short enough for a table.

    Args:
        measure: The figure.

    Returns:
        Value, interval and n.

    Example:
        >>> figure(Estimate.exact(60, n=1857, unit="rows"))
        '60 rows n=1857'
    """
    unit = f" {measure.unit}" if measure.unit else ""
    if math.isnan(measure.value) and measure.n == 0:
        return "-"
    if measure.low == measure.high:
        return f"{measure.value:.4g}{unit} n={measure.n}"
    point = "?" if math.isnan(measure.value) else f"{measure.value:.4g}"
    return f"{point} [{measure.low:.4g}, {measure.high:.4g}]{unit} n={measure.n}"


def verdict_line(verdict: str, findings: Sequence[Finding]) -> str:
    """The verdict in one line, with how many findings of each kind led to it.

    Args:
        verdict: The run's verdict.
        findings: Its findings.

    Returns:
        The line.

    Example:
        >>> made = Finding("labels.noise", "clean", Estimate.rate(3, 500), "fine")
        >>> verdict_line("clean", [made])
        'verdict: clean (1 clean); 0 rows flagged'
    """
    counts = Counter(f.verdict for f in findings)
    told = ", ".join(f"{counts[v]} {v.replace('_', ' ')}" for v in reversed(VERDICTS) if counts[v])
    marked: set[int] = set()
    for finding in findings:
        if finding.verdict in ("suspect", "fail") and finding.rows is not None:
            marked.update(finding.flagged["row_id"].to_list())
    word = painted(verdict.replace("_", " "), verdict)
    rows = "1 row" if len(marked) == 1 else f"{len(marked):,} rows"
    return f"verdict: {word} ({told or 'no findings'}); {rows} flagged"
