# SPDX-License-Identifier: Apache-2.0
"""A Parquet footer read by ourselves: a damaged one makes Arrow's own accessors abort the process.

The footer is a Thrift struct in compact protocol. What is needed of it is small: how many rows and
columns, where pages lie, how large they are. All of it is held against the file's size and against
each other before an engine opens the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from datapipe.core.thrift import MAX_DEPTH, Compact, Damaged

BYTE_ARRAY = 6
ENCRYPTION, CRYPTO = 8, 8
"""Field of a footer, and of a column of a row group, that only encrypted files have."""
Fields = Mapping[int, Any]


class Encrypted(Damaged):
    """A sound footer of columns that only the writer's key opens."""


@dataclass(frozen=True)
class Chunk:
    """One column of one row group.

    Args:
        path: Its name in the schema, parts joined by dots.
        is_text: Whether its values are byte arrays.
        has_dictionary: Whether values stand in a dictionary page.
        values: How many values it has.
        decoded: Bytes it decodes to, as far as the footer tells.
        start: Where its first page begins in the file.
        told: Whether the footer tells how many bytes its values have, or how long they may be.
        written: Bytes it decodes to as the writer told, nothing guessed from its longest values.
    """

    path: str
    is_text: bool
    has_dictionary: bool
    values: int
    decoded: int
    start: int = 0
    told: bool = True
    written: int = 0


@dataclass(frozen=True)
class Footer:
    """What a footer says of a file.

    Args:
        rows: How many rows.
        chunks: Every column of every row group.
        groups: How many row groups.
    """

    rows: int
    chunks: tuple[Chunk, ...]
    groups: int

    @property
    def decoded(self) -> int:
        """Bytes that all rows decode to, as far as the footer tells."""
        return sum(c.decoded for c in self.chunks)

    @property
    def written(self) -> int:
        """Bytes that all rows decode to as the writer told; a dictionary may hide some."""
        return sum(c.written for c in self.chunks)

    @property
    def accounted(self) -> bool:
        """Whether no dictionary can hide how much it decodes to."""
        return all(c.told or not (c.is_text and c.has_dictionary) for c in self.chunks)

    @property
    def encoded(self) -> list[str]:
        """The text columns with a dictionary."""
        return sorted({c.path for c in self.chunks if c.is_text and c.has_dictionary})


def parsed(raw: bytes, size: int) -> Footer:
    """The footer in `raw` of a file of `size` bytes, found free of contradictions."""
    try:
        meta = Compact(raw).struct()
        return _footer(meta, size)
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise Damaged(f"its footer cannot be read ({type(error).__name__})") from error


def _footer(meta: Fields, size: int) -> Footer:
    if ENCRYPTION in meta or any(CRYPTO in column for group in meta[4] for column in group[1]):
        raise Encrypted("its columns are encrypted, and no key of its writer's is taken")
    leaves = _leaves(meta[2])
    groups = meta[4]
    rows = [group[3] for group in groups]
    if min([meta[3], *rows]) < 0 or sum(rows) != meta[3]:
        raise Damaged(f"its footer claims {meta[3]} rows, its row groups {sum(rows)}")
    chunks: list[Chunk] = []
    for group in groups:
        if len(group[1]) != len(leaves):
            raise Damaged(f"a row group has {len(group[1])} columns, the schema {len(leaves)}")
        for column, leaf in zip(group[1], leaves, strict=True):
            chunks.append(_chunk(column, leaf, group[3], size))
    spans = sorted(_span(c[3]) for g in groups if g[3] for c in g[1])
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise Damaged("two columns claim the same bytes")
    return Footer(meta[3], tuple(chunks), len(groups))


def _leaves(schema: list[Fields]) -> list[tuple[tuple[str, ...], int, bool]]:
    """Path, physical type and whether it repeats, of every leaf in the order of the schema."""
    found: list[tuple[tuple[str, ...], int, bool]] = []
    left = iter(schema)

    def walk(above: tuple[str, ...], element: Fields, repeats: bool, depth: int) -> None:  # noqa: FBT001 - a walk's own state
        if depth > MAX_DEPTH * 4:
            raise Damaged("its schema is nested too deep")
        here = (*above, element[4].decode())
        again = repeats or element.get(3) == 2
        for _ in range(element.get(5, 0)):
            walk(here, next(left), again, depth + 1)
        if not element.get(5, 0):
            found.append((here, element[1], again))

    root = next(left, None)
    if root is None or root.get(5, 0) < 1:
        raise Damaged("its schema has no columns")
    try:
        for _ in range(root[5]):
            walk((), next(left), False, 0)
    except (StopIteration, RuntimeError) as error:
        raise Damaged("its schema ends early") from error
    if next(left, None) is not None:
        raise Damaged("its schema has columns that belong nowhere")
    return found


def _chunk(column: Fields, leaf: tuple[tuple[str, ...], int, bool], rows: int, size: int) -> Chunk:
    meta = column[3]
    path, kind, repeats = leaf
    if tuple(p.decode() for p in meta[3]) != path or meta[1] != kind:
        raise Damaged(f"the column {'.'.join(path)!r} is not the one the schema names")
    values, raw_size = meta[5], meta[6]
    start, end = _span(meta)
    if min(values, raw_size) < 0 or (rows and not 4 <= start <= end <= size - 8):
        raise Damaged(f"the column {'.'.join(path)!r} lies outside of the file")
    if not repeats and values != rows:
        raise Damaged(f"the column {'.'.join(path)!r} has {values} values for {rows} rows")
    dictionary = meta.get(11, 0) > 0
    decoded = max(raw_size, _text_bytes(meta)) if kind == BYTE_ARRAY else raw_size
    told = kind != BYTE_ARRAY or _text_bytes(meta) > 0
    written = max(raw_size, _told_bytes(meta) if kind == BYTE_ARRAY else 0)
    name, is_text = ".".join(path), kind == BYTE_ARRAY
    return Chunk(name, is_text, dictionary, values, decoded, start, told, written)


def _span(meta: Fields) -> tuple[int, int]:
    start = meta.get(11, 0) or meta[9]
    start = min(start, meta[9])
    return start, start + meta[7]


def _text_bytes(meta: Fields) -> int:
    """Bytes of text once every value is spelt out: a dictionary counts each time it is used."""
    stats = meta.get(12, {})
    ends = [stats[k] for k in (1, 2, 5, 6) if isinstance(stats.get(k), bytes)]
    guess = meta[5] * sum(map(len, ends)) // len(ends) if ends and meta.get(11, 0) > 0 else 0
    return max(_told_bytes(meta), guess)


def _told_bytes(meta: Fields) -> int:
    """Bytes of text with every value spelt out, where the writer counted them."""
    told = meta.get(16, {}).get(1, 0)
    if not isinstance(told, int):
        raise Damaged("a size is no number")
    return told
