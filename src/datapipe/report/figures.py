# SPDX-License-Identifier: Apache-2.0
"""Figures as plain SVG: readable without a script, coloured by the page's own variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datapipe.core.estimate import Estimate
from datapipe.report.svg import CHARACTER, WIDTH, line, px, rect, scale, svg, text
from datapipe.report.wording import is_share, number, percent, said, short

LABEL = 300
VALUE = 210


@dataclass(frozen=True)
class Mark:
    """A line of the interval figure.

    Args:
        label: What it is.
        now: The figure.
        kind: CSS class of the mark: a verdict, or empty.
        before: The same figure at an earlier look, or None.

    Example:
        >>> Mark("noise", Estimate.rate(1, 9)).before is None
        True
    """

    label: str
    now: Estimate
    kind: str = ""
    before: Estimate | None = None


def intervals(marks: Sequence[Mark], *, title: str, from_zero: bool = False) -> str:
    """Figures as dots with their intervals on a common scale, earlier looks as hollow dots below.

    Args:
        marks: The lines; those without a finite interval are left out. Shares are given in percent
            when all of them are shares.
        title: What the picture shows.
        from_zero: Whether the scale begins at 0, however far the figures are from it.

    Returns:
        The SVG; empty when there is no line.

    Example:
        >>> intervals([Mark("noise", Estimate.rate(9, 100), "fail")], title="t").count("<circle")
        1
    """
    drawn = [m for m in marks if _finite(m.now)]
    if not drawn:
        return ""
    seen = [e for m in drawn for e in (m.now, m.before) if e is not None and _finite(e)]
    lows = [e.low for e in seen] + ([0.0] if from_zero else [])
    ticks = scale(lows, [e.high for e in seen])
    step = (WIDTH - LABEL - VALUE) / (ticks[-1] - ticks[0])
    height = sum(_tall(m) for m in drawn) + 8
    one = percent if all(is_share(e) for e in seen) else number
    parts = []
    for tick in ticks:
        x = LABEL + (tick - ticks[0]) * step
        parts.append(line(x, 4, x, height, "grid"))
        parts.append(text(x, height + 16, one(tick), kind="tick", anchor="middle"))
    y = 4.0
    for mark in drawn:
        parts.append(_mark(mark, y, ticks[0], step))
        y += _tall(mark)
    return svg(WIDTH, height + 24, "".join(parts), title=title)


def bars(
    labels: Sequence[str],
    counts: Sequence[float],
    *,
    title: str,
    before: Sequence[float] = (),
    spans: Sequence[tuple[float, float]] = (),
) -> str:
    """Counts as horizontal bars, with what they were before as an outline behind them.

    Args:
        labels: Names of the bars.
        counts: Their lengths, >= 0.
        title: What the picture shows.
        before: Length of each outline, or empty.
        spans: (low, high) of each count's interval, or empty.

    Returns:
        The SVG; empty when there is no bar.

    Example:
        >>> bars(["a", "b"], [3, 1], title="t", before=[4, 2]).count("<rect")
        4
    """
    if not labels:
        return ""
    left, tall = 170, 22
    longest = max([*counts, *before, *(high for _, high in spans)]) or 1
    step = (WIDTH - left - 120) / longest
    parts: list[str] = []
    for i, (name, count) in enumerate(zip(labels, counts, strict=True)):
        y = i * tall + 4
        parts.append(text(left - 10, y + 13, short(name, 22), anchor="end"))
        ends = [count]
        if before:
            parts.append(rect(left, y, before[i] * step, 16, "was"))
            ends.append(before[i])
        parts.append(rect(left, y + 3, count * step, 10, "bar"))
        if spans:
            low, high = (left + v * step for v in spans[i])
            parts.append(line(low, y + 8, high, y + 8, "span"))
            ends.append(spans[i][1])
        told = number(count) + (f" of {number(before[i])}" if before else "")
        parts.append(text(left + max(ends) * step + 8, y + 13, told, kind="figure"))
    return svg(WIDTH, len(labels) * tall + 8, "".join(parts), title=title)


def histogram(
    counts: Sequence[int],
    flagged: Sequence[int],
    edges: Sequence[float],
    *,
    title: str,
    threshold: float | None = None,
) -> str:
    """Scores of rows as a histogram on a square-root scale, flagged rows on top.

    Args:
        counts: Rows not flagged in each bin.
        flagged: Rows flagged in each bin.
        edges: Bin edges, one more than bins.
        title: What the picture shows.
        threshold: The lowest score that was flagged, or None.

    Returns:
        The SVG; empty when there is no row.

    Example:
        >>> histogram([9, 0], [0, 4], [0, 0.5, 1], title="t").count("<rect")
        2
    """
    top = max((a + b for a, b in zip(counts, flagged, strict=True)), default=0)
    if not top:
        return ""
    left, right, height, base = 60, WIDTH - 14, 120, 134
    wide = (right - left) / len(counts)
    parts: list[str] = []
    for i, (plain, marked) in enumerate(zip(counts, flagged, strict=True)):
        tall = math.sqrt((plain + marked) / top) * height
        share = marked / (plain + marked) if plain + marked else 0
        x = left + i * wide
        if plain:
            parts.append(rect(x, base - tall, wide - 1, tall * (1 - share), "bar"))
        if marked:
            parts.append(rect(x, base - tall * share, wide - 1, tall * share, "bar fail"))
    parts.append(line(left, base, right, base, "axis"))
    parts.append(text(left - 8, base - height + 4, number(top), kind="tick", anchor="end"))
    parts.append(text(left - 8, base + 4, "0 rows", kind="tick", anchor="end"))
    span = (edges[-1] - edges[0]) or 1
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = left + share * (right - left)
        told = number(edges[0] + share * span)
        parts.append(text(x, base + 16, told, kind="tick", anchor=anchor))
    if threshold is not None and edges[0] <= threshold <= edges[-1]:
        x = left + (threshold - edges[0]) / span * (right - left)
        anchor = "end" if x > WIDTH / 2 else "start"
        parts.append(line(x, base - height, x, base, "limit"))
        told = f"flagged from {number(threshold)}"
        shift = -6 if anchor == "end" else 6
        parts.append(text(x + shift, base - height + 10, told, kind="tick", anchor=anchor))
    return svg(WIDTH, base + 22, "".join(parts), title=title)


def curve(
    points: Sequence[tuple[float, float]],
    *,
    title: str,
    axes: tuple[str, str] = ("", ""),
    limit: float | None = None,
) -> str:
    """A line through points, with a limit drawn across.

    Args:
        points: (x, y) in the order of x, y >= 0.
        title: What the picture shows.
        axes: Names of x and y.
        limit: A value of y that must not be passed, or None.

    Returns:
        The SVG; empty with fewer than two points.

    Example:
        >>> "polyline" in curve([(0, 0), (1, 1)], title="t", limit=2)
        True
    """
    if len(points) < 2:
        return ""
    left, right, height, base = 60, WIDTH - 60, 160, 186
    across = scale([0.0], [max(x for x, _ in points)])
    up = scale([0.0], [max([y for _, y in points] + [limit or 0])])
    spot = [(left + x / across[-1] * (right - left), base - y / up[-1] * height) for x, y in points]
    parts = [text(left - 8, 14, axes[1], kind="tick", anchor="start")]
    for tick in up:
        y = base - tick / up[-1] * height
        parts.append(line(left, y, right, y, "axis" if tick == 0 else "grid"))
        parts.append(text(left - 8, y + 4, number(tick), kind="tick", anchor="end"))
    for tick in across:
        x = left + tick / across[-1] * (right - left)
        parts.append(text(x, base + 16, number(tick), kind="tick", anchor="middle"))
    parts.append(text(right, base + 32, axes[0], kind="tick", anchor="end"))
    if limit is not None:
        y = base - limit / up[-1] * height
        parts.append(line(left, y, right, y, "limit"))
        parts.append(text(right, y - 5, f"limit {number(limit)}", kind="tick", anchor="end"))
    parts.append(
        f'<polyline points="{" ".join(f"{px(x)},{px(y)}" for x, y in spot)}" class="line"/>'
    )
    parts.extend(f'<circle cx="{px(x)}" cy="{px(y)}" r="3" class="dot"/>' for x, y in spot)
    return svg(WIDTH, base + 38, "".join(parts), title=title)


def bands(
    lines: Sequence[tuple[str, Sequence[Estimate]]],
    *,
    title: str,
    axes: tuple[str, str] = ("", ""),
    most: float = 1.0,
) -> str:
    """Figures that develop step by step, each line with the band of its intervals.

    Args:
        lines: A name, and one estimate for each step from 0 on; the first is drawn full.
        title: What the picture shows.
        axes: Names of x and y.
        most: The value at the top, > 0; the bottom is 0, and what lies beyond is drawn at the edge.

    Returns:
        The SVG; empty with fewer than two steps.

    Example:
        >>> one = [Estimate.rate(9, 10), Estimate.rate(5, 10)]
        >>> "polygon" in bands([("plan", one)], title="t")
        True
    """
    steps = max((len(es) for _, es in lines), default=0)
    if steps < 2:
        return ""
    left, right, height, base = 60, WIDTH - 150, 200, 226

    def spot(step: int, value: float) -> str:
        held = min(1.0, max(0.0, value / most))
        return f"{px(left + step / (steps - 1) * (right - left))},{px(base - held * height)}"

    parts = [text(left - 8, 14, axes[1], kind="tick", anchor="start")]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = base - tick * height
        parts.append(line(left, y, right, y, "axis" if tick == 0 else "grid"))
        parts.append(text(left - 8, y + 4, number(tick * most), kind="tick", anchor="end"))
    for step in range(0, steps, max(1, steps // 10)):
        x = left + step / (steps - 1) * (right - left)
        parts.append(text(x, base + 16, str(step), kind="tick", anchor="middle"))
    parts.append(text(right, base + 32, axes[0], kind="tick", anchor="end"))
    free = base + 4.0
    for rank, (_, es) in sorted(enumerate(lines), key=lambda one: one[1][1][-1].value):
        edge = [spot(i, e.low) for i, e in enumerate(es)]
        edge += [spot(i, e.high) for i, e in reversed(list(enumerate(es)))]
        parts.append(f'<polygon points="{" ".join(edge)}" class="none"/>')
        middle = " ".join(spot(i, e.value) for i, e in enumerate(es))
        kind = "was" if rank else "line"
        parts.append(f'<polyline points="{middle}" class="{kind}"/>')
        free = min(free, base - min(1.0, max(0.0, es[-1].value / most)) * height + 4)
        if free >= 12:  # names go up where lines end together
            parts.append(text(right + 8, free, lines[rank][0], kind="tick"))
        free -= 13
    return svg(WIDTH, base + 38, "".join(parts), title=title)


def heat(
    names: Sequence[str],
    cells: Sequence[Sequence[int]],
    *,
    title: str,
    axes: tuple[str, str] = ("", ""),
) -> str:
    """Counts in a square grid, darker where there are more.

    Args:
        names: Names of the rows, which are those of the columns too.
        cells: Counts, one list a row.
        title: What the picture shows.
        axes: What rows and columns are.

    Returns:
        The SVG; empty when every count is 0.

    Example:
        >>> heat(["a", "b"], [[0, 3], [1, 0]], title="t").count("<rect")
        4
    """
    top = max((n for row in cells for n in row), default=0)
    if not top:
        return ""
    left, head = 130, 44
    side = min(46, (WIDTH - left - 10) / len(names))
    most = max(3, int(side / CHARACTER))
    parts = [
        text(left, 14, f"{axes[1]} →", kind="tick"),
        text(left - 10, head - 6, f"{axes[0]} ↓", kind="tick", anchor="end"),
    ]
    for i, name in enumerate(names):
        middle = i * side + side / 2
        parts.append(text(left + middle, head - 6, short(name, most), anchor="middle"))
        parts.append(text(left - 10, head + middle + 4, short(name, 17), anchor="end"))
        for j, n in enumerate(cells[i]):
            x, y, shade = left + j * side, head + i * side, round(math.sqrt(n / top), 2)
            parts.append(
                f'<rect x="{px(x)}" y="{px(y)}" width="{px(side - 1)}" height="{px(side - 1)}"'
                + (f' class="heat" fill-opacity="{shade:g}"/>' if n else ' class="none"/>')
            )
            if n:
                kind = "figure on" if shade > 0.6 else "figure"
                where = (x + side / 2, y + side / 2 + 4)
                parts.append(text(*where, number(n), kind=kind, anchor="middle"))
    width = left + side * len(names) + 6
    return svg(width, head + side * len(names) + 6, "".join(parts), title=title)


def _tall(mark: Mark) -> int:
    return 26 if mark.before is None else 40


def _mark(mark: Mark, y: float, low: float, step: float) -> str:
    def at(value: float) -> float:
        return LABEL + (value - low) * step

    middle = y + 13
    most = int((LABEL - 14) / CHARACTER)
    parts = [text(LABEL - 12, middle + 4, short(mark.label, most), anchor="end")]
    parts.append(text(WIDTH - VALUE + 16, middle + 4, said(mark.now), kind="figure"))
    parts.append(_whisker(mark.now, at, middle, mark.kind))
    if mark.before is not None and _finite(mark.before):
        parts.append(_whisker(mark.before, at, middle + 14, "old"))
        told = f"at first {said(mark.before)}"
        parts.append(text(WIDTH - VALUE + 16, middle + 18, told, kind="tick"))
    return "".join(parts)


def _whisker(e: Estimate, at: Callable[[float], float], y: float, kind: str) -> str:
    drawn = line(at(e.low), y, at(e.high), y, f"whisker {kind}".strip())
    if math.isnan(e.value):
        return drawn
    return f'{drawn}<circle cx="{px(at(e.value))}" cy="{px(y)}" r="4.5" class="dot {kind}"/>'


def _finite(e: Estimate) -> bool:
    return math.isfinite(e.low) and math.isfinite(e.high)
