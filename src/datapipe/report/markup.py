# SPDX-License-Identifier: Apache-2.0
"""HTML that is inert by construction: every value is escaped on its way into a tag."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from html import escape


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


def tag(name: str, *children: object, kind: str = "") -> Html:
    """An element.

    Args:
        name: The tag's name.
        *children: What it holds; escaped unless `Html`.
        kind: CSS class.

    Returns:
        The markup.

    Example:
        >>> tag("b", "1 < 2", kind="x")
        '<b class="x">1 &lt; 2</b>'
    """
    mark = f' class="{escape(kind)}"' if kind else ""
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
    head: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[int] = ()
) -> Html:
    """A table that scrolls sideways where it must.

    Args:
        head: Column titles.
        rows: Cells by row.
        numbers: 0-based columns that hold numbers.

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
    lines = [
        tag("tr", *(tag("td", c, kind=k) for c, k in zip(r, right, strict=True))) for r in rows
    ]
    return tag("div", tag("table", tag("thead", top), tag("tbody", *lines)), kind="scroll")


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


def picture(pixels: Sequence[float | None], width: int, height: int, *, alt: str) -> Html:
    """Grey levels as an inline PNG; a missing pixel is black.

    Args:
        pixels: `width * height` levels in row order, any scale.
        width: In pixels, > 0.
        height: In pixels, > 0.
        alt: What a reader who cannot see it is told.

    Returns:
        An `img` element.

    Example:
        >>> picture([0, 1, 2, 3], 2, 2, alt="four").startswith('<img alt="four" src="data:image/png')
        True
    """
    known = [p for p in pixels if p is not None and not math.isnan(p)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    scale = 255 / ((high - low) or 1)
    level = bytes(0 if p is None or math.isnan(p) else int((p - low) * scale) for p in pixels)
    lines = b"".join(b"\0" + level[i * width : (i + 1) * width] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    png += _chunk(b"IDAT", zlib.compress(lines, 9)) + _chunk(b"IEND", b"")
    data = base64.b64encode(png).decode()
    return Html(f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">')


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
