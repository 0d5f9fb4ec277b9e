# SPDX-License-Identifier: Apache-2.0
"""Figures as plain SVG: readable without a script, coloured by the page's own variables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from datapipe.core.estimate import Estimate

WIDTH = 640
LABEL = 190
ROW = 26


@dataclass(frozen=True)
class Node:
    """A box in the lineage picture.

    Args:
        key: Unique name.
        title: First line.
        detail: Second line.
        state: `source`, `unsigned`, `step`, `stopped`, `data`, `model` or `export`.
        layer: Column from the left, 0-based.

    Example:
        >>> Node("a", "clinic-a", "899 rows", "source", 0).layer
        0
    """

    key: str
    title: str
    detail: str
    state: str
    layer: int


def svg(width: float, height: float, body: str, *, title: str) -> str:
    """An SVG element that scales with the page and says what it shows.

    Args:
        width: Width of the view box, in units.
        height: Height of the view box, in units.
        body: What is drawn.
        title: What a reader who cannot see it is told.

    Returns:
        The element.

    Example:
        >>> svg(10, 10, "", title="nothing")[:4]
        '<svg'
    """
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    """A line of text.

    Args:
        x: Left edge, centre or right edge, by `anchor`.
        y: Base line.
        words: The text; escaped here.
        kind: CSS class.
        anchor: `start`, `middle` or `end`.

    Returns:
        The element.

    Example:
        >>> text(1, 2, "a<b")
        '<text x="1" y="2" class="" text-anchor="start">a&lt;b</text>'
    """
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def intervals(lines: Sequence[tuple[str, Estimate, str]], *, title: str) -> str:
    """Figures as dots with their intervals, one a line, on a common scale.

    Args:
        lines: (label, estimate, CSS class of the mark) of each.
        title: What the picture shows.

    Returns:
        The SVG; empty when there is no line.

    Example:
        >>> intervals([("noise", Estimate.rate(9, 100), "fail")], title="t").count("<circle")
        1
    """
    drawn = [(name, e, kind) for name, e, kind in lines if math.isfinite(e.high)]
    if not drawn:
        return ""
    low = min(0.0, *(e.low for _, e, _ in drawn))
    high = _ceiling(max(e.high for _, e, _ in drawn))
    scale = (WIDTH - LABEL - 90) / ((high - low) or 1)
    parts = [_axis(low, high, scale, len(drawn) * ROW + 6)]
    for i, (name, e, kind) in enumerate(drawn):
        y = i * ROW + 18
        x0, x1 = (LABEL + (v - low) * scale for v in (e.low, e.high))
        parts.append(text(LABEL - 10, y + 4, _short(name, 30), anchor="end"))
        parts.append(
            f'<line x1="{x0:.1f}" x2="{x1:.1f}" y1="{y}" y2="{y}" class="whisker {kind}"/>'
        )
        shown = "unknown" if math.isnan(e.value) else _number(e.value)
        if not math.isnan(e.value):
            x = LABEL + (e.value - low) * scale
            parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4.5" class="dot {kind}"/>')
        parts.append(text(WIDTH - 4, y + 4, shown, kind="figure", anchor="end"))
    return svg(WIDTH, len(drawn) * ROW + 34, "".join(parts), title=title)


def bars(
    labels: Sequence[str], counts: Sequence[float], *, title: str, marked: Sequence[float] = ()
) -> str:
    """Counts as horizontal bars; a second, darker bar shows a part of each.

    Args:
        labels: Names of the bars.
        counts: Their lengths, >= 0.
        title: What the picture shows.
        marked: The part of each count that is marked, or empty.

    Returns:
        The SVG; empty when there is no bar.

    Example:
        >>> bars(["a", "b"], [3, 1], title="t").count("<rect")
        2
    """
    if not labels:
        return ""
    scale = (WIDTH - LABEL - 90) / (max(counts) or 1)
    parts: list[str] = []
    for i, (name, count) in enumerate(zip(labels, counts, strict=True)):
        y = i * 22 + 4
        parts.append(text(LABEL - 10, y + 13, _short(name, 30), anchor="end"))
        parts.append(
            f'<rect x="{LABEL}" y="{y}" width="{count * scale:.1f}" height="16" class="bar"/>'
        )
        if marked and marked[i]:
            parts.append(
                f'<rect x="{LABEL}" y="{y}" width="{marked[i] * scale:.1f}" height="16" class="bar part"/>'
            )
        shown = _number(count) + (f" ({_number(marked[i])})" if marked and marked[i] else "")
        parts.append(text(LABEL + count * scale + 6, y + 13, shown, kind="figure"))
    return svg(WIDTH, len(labels) * 22 + 8, "".join(parts), title=title)


def histogram(
    counts: Sequence[int], flagged: Sequence[int], edges: Sequence[float], *, title: str
) -> str:
    """Scores of rows as a histogram on a square-root scale, flagged rows on top.

    Args:
        counts: Rows not flagged in each bin.
        flagged: Rows flagged in each bin.
        edges: Bin edges, one more than bins.
        title: What the picture shows.

    Returns:
        The SVG; empty when there is no row.

    Example:
        >>> histogram([9, 0], [0, 4], [0, 0.5, 1], title="t").count("<rect")
        2
    """
    top = max((a + b for a, b in zip(counts, flagged, strict=True)), default=0)
    if not top:
        return ""
    height, base = 110, 122
    wide = (WIDTH - 20) / len(counts)
    parts: list[str] = []
    for i, (plain, marked) in enumerate(zip(counts, flagged, strict=True)):
        tall = math.sqrt((plain + marked) / top) * height
        share = marked / (plain + marked) if plain + marked else 0
        x = 10 + i * wide
        if plain:
            parts.append(_bin(x, base - tall, wide, tall * (1 - share), "bar"))
        if marked:
            parts.append(_bin(x, base - tall * share, wide, tall * share, "bar fail"))
    parts.append(f'<line x1="10" x2="{WIDTH - 10}" y1="{base}" y2="{base}" class="axis"/>')
    for share in (0.0, 0.5, 1.0):
        value = edges[0] + share * (edges[-1] - edges[0])
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        parts.append(
            text(10 + share * (WIDTH - 20), base + 15, _number(value), kind="tick", anchor=anchor)
        )
    return svg(WIDTH, base + 20, "".join(parts), title=title)


def curve(points: Sequence[tuple[float, float]], *, title: str, limit: float | None = None) -> str:
    """A line through points, with a limit drawn across.

    Args:
        points: (x, y) in the order of x, y >= 0.
        title: What the picture shows.
        limit: A value of y that must not be passed, or None.

    Returns:
        The SVG; empty with fewer than two points.

    Example:
        >>> "polyline" in curve([(0, 0), (1, 1)], title="t", limit=2)
        True
    """
    if len(points) < 2:
        return ""
    left, right, height, base = 46, WIDTH - 14, 150, 162
    most_x = max(x for x, _ in points) or 1
    most_y = _ceiling(max([y for _, y in points] + [limit or 0]))
    spot = [(left + x / most_x * (right - left), base - y / most_y * height) for x, y in points]
    parts = [f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spot)}" class="line"/>']
    parts.append(f'<line x1="{left}" x2="{right}" y1="{base}" y2="{base}" class="axis"/>')
    for share in (0.0, 0.5, 1.0):
        y = base - share * height
        parts.append(text(left - 6, y + 4, _number(share * most_y), kind="tick", anchor="end"))
        parts.append(
            text(
                left + share * (right - left),
                base + 16,
                _number(share * most_x),
                kind="tick",
                anchor="middle",
            )
        )
    if limit is not None:
        y = base - limit / most_y * height
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>')
        parts.append(text(right, y - 5, f"limit {_number(limit)}", kind="tick", anchor="end"))
    return svg(WIDTH, base + 22, "".join(parts), title=title)


def lineage(nodes: Sequence[Node], edges: Sequence[tuple[str, str]], *, title: str) -> str:
    """A layered graph: sources on the left, models and exports on the right.

    Args:
        nodes: The boxes.
        edges: (from key, to key).
        title: What the picture shows.

    Returns:
        The SVG; empty without nodes.

    Example:
        >>> two = [Node("a", "a", "", "source", 0), Node("b", "b", "", "data", 1)]
        >>> lineage(two, [("a", "b")], title="t").count('class="edge"')
        1
    """
    if not nodes:
        return ""
    wide, tall, gap_x, gap_y, per_row = 150, 44, 26, 14, 6
    spots = _places(nodes, wide, tall, gap_x, gap_y, per_row)
    parts = [_edge(spots[a], spots[b], wide, tall) for a, b in edges if a in spots and b in spots]
    for node in nodes:
        x, y = spots[node.key]
        parts.append(
            f'<g class="node {node.state}"><rect x="{x}" y="{y}" width="{wide}" height="{tall}" rx="6"/>'
            f"<title>{escape(node.title)}: {escape(node.detail)}</title>"
            + text(x + 9, y + 18, _short(node.title, 21), kind="name")
            + text(x + 9, y + 34, _short(node.detail, 25), kind="tick")
            + "</g>"
        )
    width = max(x for x, _ in spots.values()) + wide + 4
    height = max(y for _, y in spots.values()) + tall + 6
    return svg(width, height, "".join(parts), title=title)


def _places(
    nodes: Sequence[Node], wide: int, tall: int, gap_x: int, gap_y: int, per_row: int
) -> Mapping[str, tuple[int, int]]:
    """Columns by layer; after `per_row` columns the picture goes on in a new band below."""
    layers: dict[int, list[Node]] = {}
    for node in nodes:
        layers.setdefault(node.layer, []).append(node)
    order = sorted(layers)
    spots: dict[str, tuple[int, int]] = {}
    top = 4
    for start in range(0, len(order), per_row):
        band = order[start : start + per_row]
        most = max(len(layers[layer]) for layer in band)
        for column, layer in enumerate(band):
            lead = (most - len(layers[layer])) * (tall + gap_y) // 2
            for i, node in enumerate(layers[layer]):
                spots[node.key] = (2 + column * (wide + gap_x), top + lead + i * (tall + gap_y))
        top += most * (tall + gap_y) + 18
    return spots


def _edge(a: tuple[int, int], b: tuple[int, int], wide: int, tall: int) -> str:
    if b[0] > a[0] + wide:
        x0, y0, x1, y1 = float(a[0] + wide), a[1] + tall / 2, float(b[0]), b[1] + tall / 2
        middle = (x0 + x1) / 2
        path = f"M{x0} {y0} C{middle} {y0} {middle} {y1} {x1} {y1}"
    else:  # the picture goes on in the band below: leave by the foot, enter by the head
        x0, y0, x1, y1 = a[0] + wide / 2, float(a[1] + tall), b[0] + wide / 2, float(b[1])
        middle = (y0 + y1) / 2
        path = f"M{x0} {y0} C{x0} {middle} {x1} {middle} {x1} {y1}"
    return f'<path d="{path}" class="edge"/>'


def _bin(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 1, 1):.1f}" height="{max(height, 0.8):.1f}" class="{kind}"/>'


def _axis(low: float, high: float, scale: float, height: float) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + share * (high - low)
        x = LABEL + (value - low) * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height:g}" class="grid"/>')
        parts.append(text(x, height + 16, _number(value), kind="tick", anchor="middle"))
    return "".join(parts)


def _ceiling(value: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-12)))


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.3g}"


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"
