# SPDX-License-Identifier: Apache-2.0
"""What figures are drawn with: elements of SVG, and a scale of round numbers.

One unit of a view box is one pixel of the page's column, so that text is as large as it says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH = 960
"""Of a figure across the page's column, in pixels."""
CHARACTER = 7.1
"""Width of a character of 12 px text, rounded up."""


def svg(width: float, height: float, body: str, *, title: str) -> str:
    """An SVG element that shrinks with the page and says what it shows.

    Args:
        width: Width of the view box, in pixels.
        height: Height of the view box, in pixels.
        body: What is drawn.
        title: What a reader who cannot see it is told.

    Returns:
        The element.

    Example:
        >>> svg(10, 10, "", title="nothing")[:4]
        '<svg'
    """
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"'
        f' aria-label="{escape(title)}"><title>{escape(title)}</title>{body}</svg>'
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
        '<text x="1" y="2">a&lt;b</text>'
    """
    mark = f' class="{escape(kind)}"' if kind else ""
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{px(x)}" y="{px(y)}"{mark}{at}>{escape(words)}</text>'


def line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    """A straight line.

    Args:
        x0: Where it begins, from the left.
        y0: Where it begins, from the top.
        x1: Where it ends, from the left.
        y1: Where it ends, from the top.
        kind: CSS class.

    Returns:
        The element.

    Example:
        >>> line(0, 0, 1.5, 0, "axis")
        '<line x1="0" y1="0" x2="1.5" y2="0" class="axis"/>'
    """
    return f'<line x1="{px(x0)}" y1="{px(y0)}" x2="{px(x1)}" y2="{px(y1)}" class="{kind}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle that is never too thin to be seen.

    Args:
        x: Its left edge.
        y: Its upper edge.
        width: How wide, >= 0.
        height: How high, >= 0.
        kind: CSS class.

    Returns:
        The element.

    Example:
        >>> rect(0, 0, 8, 0, "bar")
        '<rect x="0" y="0" width="8" height="0.8" class="bar"/>'
    """
    return (
        f'<rect x="{px(x)}" y="{px(y)}" width="{px(max(width, 1))}"'
        f' height="{px(max(height, 0.8))}" class="{kind}"/>'
    )


def scale(lows: Sequence[float], highs: Sequence[float]) -> list[float]:
    """Round tick values around a range; from 0 unless the range is far from it.

    Args:
        lows: Lower ends, finite.
        highs: Upper ends, finite.

    Returns:
        Two to seven ticks in rising order; the first and the last enclose the range.

    Example:
        >>> scale([0.0], [0.133])
        [0.0, 0.05, 0.1, 0.15]
        >>> scale([0.85], [0.997])
        [0.85, 0.9, 0.95, 1.0]
    """
    low, high = min(lows), max(highs)
    if 0 <= low <= high * 0.6:
        low = 0.0
    span = high - low
    if span <= 1e-9 * max(1.0, abs(low), abs(high)):
        span = max(1.0, abs(high))
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= 5)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(i * step, 12) for i in range(first, last + 1)]


def px(value: float) -> str:
    """A coordinate with one digit and no trailing zero.

    Args:
        value: In pixels.

    Returns:
        It in characters.

    Example:
        >>> px(1.04), px(2.5)
        ('1', '2.5')
    """
    return f"{value:.1f}".rstrip("0").rstrip(".")
