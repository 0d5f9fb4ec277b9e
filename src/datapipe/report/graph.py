# SPDX-License-Identifier: Apache-2.0
"""The lineage picture: sources, steps line by line, the gate, and under it what was trained.

Steps flow from left to right like words; a line that is full goes on below, along the right edge.
Steps that ran side by side stand together in a frame. What was made of the rows (a trainer, its
model, its exports) hangs as a tree under the rows it was made of. No two edges cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from datapipe.report.svg import WIDTH, svg, text
from datapipe.report.wording import short

WIDE, TALL, GAP, DOWN, PAD = 172, 44, 20, 28, 12
COLUMNS = 5
RIGHT = COLUMNS * WIDE + (COLUMNS - 1) * GAP
INDENT = 14
LEFT = 1.5
SIDE = WIDTH - 6.0


@dataclass(frozen=True)
class Node:
    """A box.

    Args:
        title: First line.
        detail: Second line.
        state: CSS class: `verified`, `unsigned`, `invalid`, `step`, `gate`, `closed`, `model`,
            `export` or `unrun` (planned; no edge leads there).
        anchor: Id of an element of the page that tells more, or empty.
        parts: What was made from it, drawn below.

    Example:
        >>> Node("clinic", "505 rows", "verified").parts
        ()
    """

    title: str
    detail: str
    state: str
    anchor: str = ""
    parts: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Row:
    """One stretch of the picture.

    Args:
        nodes: Its boxes.
        shape: `chain` (one after the other), `frame` (side by side, the rows go on below) or
            `trees` (side by side, the rows end there).
        title: A frame's title.

    Example:
        >>> Row([Node("a", "", "step")], "chain").title
        ''
    """

    nodes: Sequence[Node]
    shape: str
    title: str = ""


@dataclass
class _Canvas:
    """What is drawn so far, and where the next edge starts."""

    parts: list[str] = field(default_factory=list)
    y: float = 2.0
    leave: tuple[float, float] | None = None
    """Where the rows leave: the foot of a box or a frame."""
    around: list[tuple[float, float]] = field(default_factory=list)
    """The way to the right edge, where something hangs below the point they leave from."""


def draw(rows: Sequence[Row], *, title: str) -> str:
    """Draw the picture.

    Args:
        rows: Its stretches, from the sources down.
        title: What the picture shows.

    Returns:
        The SVG; empty without boxes.

    Example:
        >>> two = [Row([Node("a", "", "unsigned")], "frame"), Row([Node("b", "", "step")], "chain")]
        >>> draw(two, title="t").count('class="edge"')
        1
    """
    filled = [row for row in rows if row.nodes]
    if not filled:
        return ""
    canvas = _Canvas()
    for row in filled:
        if row.shape == "chain":
            _chain(canvas, row.nodes)
        elif row.shape == "frame":
            _frame(canvas, row)
        else:
            _trees(canvas, row.nodes)
    return svg(WIDTH, canvas.y + 4, "".join(canvas.parts), title=title)


def _chain(canvas: _Canvas, nodes: Sequence[Node]) -> None:
    for start in range(0, len(nodes), COLUMNS):
        line = nodes[start : start + COLUMNS]
        top = _enter(canvas, LEFT + WIDE / 2)
        lowest = top + TALL
        for i, node in enumerate(line):
            x = LEFT + i * (WIDE + GAP)
            if i:
                canvas.parts.append(_edge([(x - GAP, top + TALL / 2), (x, top + TALL / 2)]))
            lowest = max(lowest, _tree(canvas, node, x, top))
        end = LEFT + (len(line) - 1) * (WIDE + GAP)
        canvas.y = lowest
        canvas.leave = (end + WIDE / 2, top + TALL)
        middle = top + TALL / 2
        canvas.around = [(end + WIDE, middle), (SIDE, middle)] if lowest > top + TALL else []


def _frame(canvas: _Canvas, row: Row) -> None:
    per = min(COLUMNS, len(row.nodes))
    if len(row.nodes) == COLUMNS + 1:
        per = 3  # two even lines rather than a lonely box
    lines = -(-len(row.nodes) // per)
    head = 20 if row.title else 0
    inner = (RIGHT - 2 * PAD - (COLUMNS - 1) * 12) / COLUMNS
    width = per * inner + (per - 1) * 12 + 2 * PAD
    height = head + lines * TALL + (lines - 1) * 10 + 2 * PAD
    top = _enter(canvas, LEFT + min(width, WIDE) / 2)
    canvas.parts.append(
        f'<rect x="{LEFT}" y="{top:g}" width="{width:.1f}" height="{height:g}" rx="8"'
        ' class="frame"/>'
    )
    if row.title:
        canvas.parts.append(text(PAD + LEFT, top + 20, row.title, kind="tick"))
    for i, node in enumerate(row.nodes):
        x = LEFT + PAD + (i % per) * (inner + 12)
        y = top + PAD + head + (i // per) * (TALL + 10)
        canvas.parts.append(_box(node, x, y, inner))
    canvas.y = top + height
    canvas.leave, canvas.around = (LEFT + min(width, WIDE) / 2, canvas.y), []


def _trees(canvas: _Canvas, nodes: Sequence[Node]) -> None:
    """Columns of trees under a bus; the rows pass them on the right side if they go on."""
    came = canvas.leave
    for start in range(0, len(nodes), COLUMNS):
        line = nodes[start : start + COLUMNS]
        top = canvas.y + DOWN
        lowest = top + TALL
        for i, node in enumerate(line):
            x = LEFT + i * (WIDE + GAP)
            if came is not None and node.state != "unrun":
                canvas.parts.append(_edge(_elbow(canvas, came, (x + WIDE / 2, top))))
            lowest = max(lowest, _tree(canvas, node, x, top))
        canvas.y = lowest
        came = None if came is None else (LEFT + WIDE / 2, top)
    if canvas.leave is not None and not canvas.around:
        x, y = canvas.leave
        canvas.around = [(x, y), (x, y + DOWN / 2), (SIDE, y + DOWN / 2)]


def _enter(canvas: _Canvas, x: float) -> float:
    """Draw the edge into the next stretch; gives its top."""
    if canvas.leave is None:
        return canvas.y
    top = canvas.y + DOWN
    canvas.parts.append(_edge(_elbow(canvas, canvas.leave, (x, top))))
    return top


def _elbow(
    canvas: _Canvas, start: tuple[float, float], end: tuple[float, float]
) -> list[tuple[float, float]]:
    """From a box to one below, turning in the gap above it, or along the right edge."""
    gap = end[1] - DOWN / 2
    if canvas.around:
        return [*canvas.around, (SIDE, gap), (end[0], gap), end]
    return [start, (start[0], gap), (end[0], gap), end]


def _tree(canvas: _Canvas, node: Node, x: float, y: float, *, indent: float = 0.0) -> float:
    """A box and what hangs under it; gives the lowest point."""
    canvas.parts.append(_box(node, x + indent, y, WIDE - indent))
    low = y + TALL
    for part in node.parts:
        foot = x + indent + 7
        middle = low + 10 + TALL / 2
        canvas.parts.append(_edge([(foot, y + TALL), (foot, middle), (foot + INDENT - 7, middle)]))
        low = _tree(canvas, part, x, low + 10, indent=indent + INDENT)
    return low


def _box(node: Node, x: float, y: float, width: float) -> str:
    drawn = (
        f'<g class="node {escape(node.state)}">'
        f"<title>{escape(node.title)}: {escape(node.detail)}</title>"
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{TALL}" rx="6"/>'
        + text(x + 9, y + 18, short(node.title, int((width - 14) / 6.7)), kind="name")
        + text(x + 9, y + 34, short(node.detail, int((width - 14) / 6)), kind="tick")
        + "</g>"
    )
    return f'<a href="#{escape(node.anchor)}">{drawn}</a>' if node.anchor else drawn


def _edge(points: Sequence[tuple[float, float]]) -> str:
    """A line with straight pieces, and a head where it arrives."""
    path = " ".join(f"{'L' if i else 'M'}{x:g} {y:g}" for i, (x, y) in enumerate(points))
    (x0, _), (x1, y1) = points[-2], points[-1]
    if x0 == x1:
        head = f"M{x1 - 4:g} {y1 - 6:g} L{x1:g} {y1:g} L{x1 + 4:g} {y1 - 6:g}"
    else:
        head = f"M{x1 - 6:g} {y1 - 4:g} L{x1:g} {y1:g} L{x1 - 6:g} {y1 + 4:g}"
    return f'<path d="{path} {head}" class="edge"/>'
