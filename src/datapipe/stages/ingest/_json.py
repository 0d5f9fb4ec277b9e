# SPDX-License-Identifier: Apache-2.0
"""One pass over JSON lines: which are broken, and which polars type holds every value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.errors import LimitExceeded, Malformed
from datapipe.stages.ingest._lines import Broken, Survey, refuse, refuse_binary, too_long

EXACT_INTEGER = 2**53
STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
BRACKETS = re.compile(rb"[\[\]{}]")
MAX_COLUMNS = 10_000


class Unfit(Exception):
    """A value that no column can hold without loss; caught in this module and never leaves it."""


@dataclass
class Shape:
    """What the values of one column, list or object field have been so far.

    Args:
        kinds: Names of the JSON types seen, null left out.
        largest: The largest integer seen, by absolute value.
        inside: The shape of a list's items.
        fields: The shape of each field of an object.
    """

    kinds: set[str] = field(default_factory=set)
    largest: int = 0
    inside: Shape | None = None
    fields: dict[str, Shape] = field(default_factory=dict)

    def add(self, value: Any) -> None:
        """Take one parsed value in; objects are tuples of pairs, so that repeats are seen."""
        if value is None:
            return
        kind = type(value).__name__
        if kind == "int":
            if not -(2**63) <= value < 2**63:
                raise Unfit("an integer beyond 64 bits")
            self.largest = max(self.largest, abs(value))
        elif kind == "float" and value in (float("inf"), float("-inf")):
            raise Unfit("a number too large for a float64")
        elif kind == "list":
            self.inside = self.inside or Shape()
            for item in value:
                self.inside.add(item)
        elif kind == "tuple":
            self._add_object(value)
        self.kinds.add(kind)
        if len(self.kinds) > 1 and self.kinds != {"int", "float"}:
            raise Unfit("both " + " and ".join(sorted(WORDS[k] for k in self.kinds)))
        if len(self.kinds) == 2 and self.largest > EXACT_INTEGER:
            raise Unfit("integers over 2**53 among decimals, which would be rounded")

    def _add_object(self, pairs: tuple[tuple[str, Any], ...]) -> None:
        for key, value in pairs:
            self.fields.setdefault(key, Shape()).add(value)
        if len(self.fields) > MAX_COLUMNS:
            raise LimitExceeded(
                f"an object has more than {MAX_COLUMNS} different keys",
                code="DP-READ-021",
                hint="keys seem to be data; write them as values",
            )

    def type(self) -> pl.DataType:
        """The polars type that holds every value seen; one that was always null is text."""
        if self.kinds in ({"int", "float"}, {"float"}):
            return pl.Float64()
        (kind,) = self.kinds or {"str"}
        if kind == "list":
            return pl.List(self.inside.type() if self.inside else pl.String())
        if kind == "tuple":
            return pl.Struct({k: s.type() for k, s in self.fields.items()})
        return {"int": pl.Int64(), "bool": pl.Boolean(), "str": pl.String()}[kind]


WORDS = {
    "int": "numbers", "float": "numbers", "bool": "booleans",
    "str": "texts", "list": "lists", "tuple": "objects",
}  # fmt: skip


def survey(path: Path, columns: Shape, limits: tuple[int, int], *, go_on: bool) -> Survey:
    """Parse every line, take its values into `columns`, and find the broken lines.

    With `go_on` every broken line is listed, else the first one raises.
    """
    most, depth = limits
    broken: list[Broken] = []
    blank: list[tuple[int, int, int]] = []
    mark = refuse_binary(path, "a JSON Lines file")
    record, at = 0, mark
    for number, line in enumerate(_lines_of(path, at, most), start=1):
        start, at = at, at + len(line)
        if not line.strip():
            blank.append((number, start, at))
            continue
        for where, begin, end in blank:  # blank lines count only when a record follows them
            broken.append(Broken(record, where, begin, end, "a blank line"))
            record += 1
        blank = []
        reason = _reason(line, columns, depth)
        if reason:
            broken.append(Broken(record, number, start, at, reason))
        record += 1
        if broken and not go_on:
            raise _refusal(path, broken[0], line)
    skipped = [(0, mark)] if mark else []
    skipped.extend((begin, end) for _, begin, end in blank)
    return Survey(path, record, tuple(broken), tuple(skipped))


def _lines_of(path: Path, start: int, most: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        number = 0
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most:
                raise too_long(path, number, most)
            yield line


def _refusal(path: Path, broken: Broken, line: bytes) -> Malformed:
    if broken.record == 0 and line.lstrip()[:1] == b"[":
        return Malformed(
            f"{path} holds a JSON array; one object on each line was expected",
            code="DP-READ-019",
            hint=f"jq -c '.[]' {path.name} > {path.stem}.jsonl",
        )
    return refuse(path, broken)


def _reason(line: bytes, columns: Shape, depth: int) -> str:
    """Why a line cannot be a row, empty when it can; a good line's values are taken in."""
    if line.count(b"[") + line.count(b"{") > depth and _depth(line) > depth:
        return f"nested deeper than {depth}"
    try:
        return _taken_in(_parsed(line), columns)
    except Unfit as error:
        return str(error)


def _parsed(line: bytes) -> tuple[tuple[str, Any], ...]:
    """The pairs of the object on a line."""
    try:
        value = json.loads(line.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise Unfit("bytes that are not UTF-8") from error
    except json.JSONDecodeError as error:
        raise Unfit(f"not JSON at column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise Unfit("nested too deep") from error
    except ValueError as error:  # Python's own limit on the digits of an integer
        raise Unfit("a number with too many digits") from error
    if not isinstance(value, tuple):
        raise Unfit("not an object")
    if b"\\u" in line:
        _refuse_surrogates(value)
    return value


def _taken_in(value: tuple[tuple[str, Any], ...], columns: Shape) -> str:
    for key, item in value:
        known = columns.fields.get(key)
        before = set(known.kinds) if known else set()
        try:
            columns.fields.setdefault(key, Shape()).add(item)
        except Unfit as error:
            if known is not None:
                known.kinds = before
            return f"{key!r}: {error}"
    if len(columns.fields) > MAX_COLUMNS:
        return f"more than {MAX_COLUMNS} different keys so far"
    return ""


def _depth(line: bytes) -> int:
    level = deepest = 0
    for bracket in BRACKETS.findall(STRINGS.sub(b"", line)):
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
    return deepest


def _pairs(pairs: list[tuple[str, Any]]) -> tuple[tuple[str, Any], ...]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise Unfit("a key occurs twice in one object")
    return tuple(pairs)


def _constant(word: str) -> float:
    raise Unfit(f"{word} is not JSON")


def _refuse_surrogates(value: Any) -> None:
    """Refuse halves of surrogate pairs, which no UTF-8 text can hold."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError as error:
                raise Unfit("half of a surrogate pair") from error
        elif isinstance(item, tuple):
            stack.extend(chain.from_iterable(item))
        elif isinstance(item, list):
            stack.extend(item)
