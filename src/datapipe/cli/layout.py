# SPDX-License-Identifier: Apache-2.0
"""Tables and sheets that fit the terminal: what is too long goes on below, nothing is cut."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from datapipe.cli.terminal import plain, shown

NARROWEST = 20
"""Characters that a line has at the least, however narrow the terminal says it is."""
LEAST_LAST = 24
"""Characters of a table's last column at the least, where its texts are wrapped."""


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, width: int = 0) -> str:
    """Rows as aligned text; where they do not fit, the last column is wrapped, or each row a block.

    Args:
        headers: Names of the columns.
        rows: Cells; anything that `str` can show.
        width: Characters a line may have; 0 for the terminal's width.

    Returns:
        The lines.

    Example:
        >>> print(table(["kind", "n"], [["labels.noise", 3], ["gate", 12]], width=40))
        kind          n
        labels.noise  3
        gate          12
        >>> print(table(["kind", "says"], [["labels.noise", "3 of 500 look wrong"]], width=20))
        kind  labels.noise
        says  3 of 500 look
              wrong
    """
    names = [plain(name) for name in headers]
    cells = [[plain(shown(c)) for c in row] for row in rows]
    wide = [max([len(n), *(len(r[i]) for r in cells)]) for i, n in enumerate(names)]
    limit = width or line_width()
    before = sum(wide[:-1]) + 2 * (len(wide) - 1)
    if before + (wide or [0])[-1] > limit and before + LEAST_LAST > limit and cells:
        blocks = [sheet(dict(zip(_apart(names), row, strict=True)), width=limit) for row in cells]
        return "\n\n".join(blocks)
    lines = []
    for row in [names, *cells]:
        start = "".join(f"{c:<{w}}  " for c, w in zip(row[:-1], wide, strict=False))
        lines += hung(start, row[-1] if row else "", limit)
    return "\n".join(lines)


def sheet(value: Mapping[str, Any], *, width: int = 0) -> str:
    """A nested answer as text: names and values, lists of records as small tables.

    Args:
        value: The answer.
        width: Characters a line may have; 0 for the terminal's width.

    Returns:
        The lines.

    Example:
        >>> steps = [{"stage": "dedup.exact", "kept": True}]
        >>> print(sheet({"row": "1:7", "steps": steps}, width=40))
        row    1:7
        steps
          stage        kept
          dedup.exact  True
    """
    limit = width or line_width()
    names = max((len(k) for k, v in value.items() if not _is_block(v)), default=0)
    lines: list[str] = []
    for name, item in value.items():
        if not _is_block(item):
            lines += hung(f"{name:<{names}}  ", plain(shown(item)), limit)
            continue
        within = max(NARROWEST, limit - 2)
        inner = sheet(item, width=within) if isinstance(item, Mapping) else _records(item, within)
        lines += [name, *(f"  {line}".rstrip() for line in inner.splitlines())]
    return "\n".join(lines)


def hung(start: str, text: str, width: int) -> list[str]:
    """A line whose text goes on below where it began, or below the whole line where that is far.

    Args:
        start: What stands before the text.
        text: The text.
        width: Characters a line may have.

    Returns:
        The lines; words are only broken where one alone is too long.

    Example:
        >>> hung("kind  ", "it goes on below", 14)
        ['kind  it goes', '      on below']
    """
    if len(start) + len(text) <= width:
        return [(start + text).rstrip()]
    indent = len(start) if len(start) <= width // 2 else 4
    first = start if indent == len(start) else " " * indent
    parts = textwrap.wrap(
        text, max(1, width - indent), break_on_hyphens=False, drop_whitespace=True
    )
    lines = [(first if i == 0 else " " * indent) + part for i, part in enumerate(parts or [""])]
    above = [] if first == start else textwrap.wrap(start, width)
    return [line.rstrip() for line in (*above, *lines)]


def line_width() -> int:
    """How long a line of text may be: the terminal's width, or anything where there is none.

    Returns:
        Characters.

    Example:
        >>> line_width() >= NARROWEST
        True
    """
    if not sys.stdout.isatty():
        return 10_000
    return max(NARROWEST, shutil.get_terminal_size((120, 24)).columns)


def _apart(names: Sequence[str]) -> list[str]:
    """Names by which a row's cells can be told, also where two columns have one name."""
    return [n if names.index(n) == i else f"{n} ({i + 1})" for i, n in enumerate(names)]


def _is_block(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Mapping)


def _records(records: Sequence[Mapping[str, Any]], width: int) -> str:
    names = list(dict.fromkeys(k for r in records for k in r))
    full = [n for n in names if any(r.get(n) not in (None, "", [], {}) for r in records)]
    return table(full, [[r.get(n) for n in full] for r in records], width=width)
