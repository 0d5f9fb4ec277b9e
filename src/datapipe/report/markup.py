# SPDX-License-Identifier: Apache-2.0
"""HTML that is inert by construction: every value is escaped on its way into a tag."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray


class Html(str):
    """Markup that was built here and is not escaped again.

    Example:
        >>> isinstance(Html("<b>"), str)
        True
    """

    __slots__ = ()


def put(value: object) -> str:
    """A value as markup: `Html` as it is, everything else escaped.

    Args:
        value: Anything.

    Returns:
        Markup.

    Example:
        >>> put("<script>")
        '&lt;script&gt;'
    """
    return value if isinstance(value, Html) else escape(str(value))


def tag(name: str, *children: object, kind: str = "", anchor: str = "") -> Html:
    """An element.

    Args:
        name: The tag's name.
        *children: What it holds; escaped unless `Html`.
        kind: CSS class.
        anchor: Its id.

    Returns:
        The markup.

    Example:
        >>> tag("b", "1 < 2", kind="x")
        '<b class="x">1 &lt; 2</b>'
    """
    mark = f' class="{escape(kind)}"' if kind else ""
    mark += f' id="{escape(anchor)}"' if anchor else ""
    return Html(f"<{name}{mark}>{''.join(put(c) for c in children)}</{name}>")


def join(parts: Sequence[object]) -> Html:
    """Several pieces one after the other.

    Args:
        parts: Values; escaped unless `Html`.

    Returns:
        The markup.

    Example:
        >>> join(["a", "&"])
        'a&amp;'
    """
    return Html("".join(put(p) for p in parts))


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    kind: str = "",
    anchors: Sequence[str] = (),
) -> Html:
    """A table that scrolls sideways where it must.

    Args:
        head: Column titles.
        rows: Cells by row.
        numbers: 0-based columns that hold numbers.
        kind: CSS class of the table.
        anchors: Id of each row, or empty.

    Returns:
        The markup; a line saying so where there are no rows.

    Example:
        >>> "<td" in table(["a"], [[1]])
        True
    """
    if not rows:
        return tag("p", "None.", kind="soft")
    right = ["num" if i in numbers else "" for i in range(len(head))]
    top = tag("tr", *(tag("th", h, kind=k) for h, k in zip(head, right, strict=True)))
    ids = anchors or [""] * len(rows)
    lines = [
        tag("tr", *(tag("td", c, kind=k) for c, k in zip(r, right, strict=True)), anchor=at)
        for r, at in zip(rows, ids, strict=True)
    ]
    body = tag("table", tag("thead", top), tag("tbody", *lines), kind=kind)
    return tag("div", body, kind="scroll")


def figure(caption: str, drawn: str, data: Html, *, anchor: str = "") -> Html:
    """A picture with its words above it and its figures in a table below, folded away.

    Args:
        caption: What it shows.
        drawn: SVG that was built here; with none there is no figure.
        data: The table.
        anchor: Its id.

    Returns:
        The markup.

    Example:
        >>> figure("nothing", "", table([], []))
        ''
    """
    if not drawn:
        return Html("")
    folded = tag("details", tag("summary", "the figures"), data)
    return tag("figure", tag("figcaption", caption), Html(drawn), folded, anchor=anchor)


def code(words: str) -> Html:
    """A name in code type that may break after a dot or an underscore.

    Args:
        words: The name; escaped here.

    Returns:
        The markup.

    Example:
        >>> code("labels.noise")
        '<code>labels.<wbr>noise</code>'
    """
    broken = escape(words).replace(".", ".<wbr>").replace("_", "_<wbr>")
    return tag("code", Html(broken))


def verdict(name: str) -> Html:
    """A verdict as a coloured badge.

    Args:
        name: `clean`, `suspect`, `fail` or `not_evaluated`.

    Returns:
        The markup.

    Example:
        >>> verdict("not_evaluated")
        '<span class="verdict not_evaluated">not evaluated</span>'
    """
    return tag("span", name.replace("_", " "), kind=f"verdict {name}")


def picture(
    levels: NDArray[np.float64], *, alt: str, span: tuple[float, float] | None = None
) -> Html:
    """An image as an inline PNG, its levels stretched over the whole range.

    Args:
        levels: Shape (height, width) for grey or (height, width, 3) for colour, any scale; NaN is
            drawn black.
        alt: What a reader who cannot see it is told.
        span: The levels that are drawn black and white; None for the lowest and the highest.

    Returns:
        An `img` element.

    Example:
        >>> picture(np.eye(2), alt="a diagonal").startswith('<img alt="a diagonal" src="data:image')
        True
    """
    known = levels[np.isfinite(levels)]
    low, high = span or ((float(known.min()), float(known.max())) if known.size else (0.0, 1.0))
    scaled = np.nan_to_num((levels - low) * (255 / ((high - low) or 1)), posinf=255, neginf=0)
    grid = scaled.clip(0, 255).astype(np.uint8)
    height, width = grid.shape[:2]
    lines = b"".join(b"\0" + grid[i].tobytes() for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if grid.ndim == 3 else 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    png += _chunk(b"IDAT", zlib.compress(lines, 9)) + _chunk(b"IEND", b"")
    data = base64.b64encode(png).decode()
    return Html(f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">')


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
