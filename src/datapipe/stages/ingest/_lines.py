# SPDX-License-Identifier: Apache-2.0
"""Text records that are broken: named by row and line, refused or set aside, never guessed at."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import polars as pl

from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.roles import ROW_ID
from datapipe.errors import LimitExceeded, Malformed
from datapipe.stages.ingest import _files
from datapipe.stages.ingest._reading import ASIDE_SCHEMA

OnError = Literal["refuse", "quarantine"]
BOM = b"\xef\xbb\xbf"
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Broken:
    """One record that cannot be read without guessing.

    Args:
        record: 0-based number among the records of its file.
        line: 1-based line of the file on which it starts.
        start: First byte of the record.
        end: First byte after the record and its line end.
        reason: What is wrong with it.
    """

    record: int
    line: int
    start: int
    end: int
    reason: str


@dataclass(frozen=True)
class Survey:
    """What one pass over a text file told.

    Args:
        path: The file.
        records: How many records it has, broken ones included.
        broken: Those that are broken.
        blank: Byte ranges that hold no record: a byte order mark, blank lines at the end.
    """

    path: Path
    records: int
    broken: tuple[Broken, ...] = ()
    blank: tuple[tuple[int, int], ...] = ()

    def readable(self, scratch: Path, number: int) -> Path:
        """The file itself, or a copy without what is broken or blank.

        A copy is also made when its name would read as a glob to the engine.
        """
        left_out = sorted([(b.start, b.end) for b in self.broken] + list(self.blank))
        if not left_out and not glob.has_magic(str(self.path)):
            return self.path
        scratch.mkdir(parents=True, exist_ok=True)
        copy = scratch / f"kept-{number}{self.path.suffix}"
        with self.path.open("rb") as source, copy.open("wb") as target:
            at = 0
            for start, end in [*left_out, (self.path.stat().st_size, 0)]:
                source.seek(at)
                _copy(source, target, start - at)
                at = end
        return copy


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0:
        part = source.read(min(size, COPY_BYTES))
        if not part:
            return
        target.write(part)
        size -= len(part)


def refuse(path: Path, broken: Broken) -> Malformed:
    """The refusal of a file for its first broken record."""
    return Malformed(
        f"{path}:{broken.line}: {broken.reason} (row {broken.record + 1})",
        code="DP-READ-013",
        hint="mend the line, or set broken lines aside with on_error='quarantine'",
    )


def too_long(path: Path, line: int, most: int) -> LimitExceeded:
    """The refusal of a record that never ends."""
    return LimitExceeded(
        f"{path}:{line}: the record is longer than {most} bytes",
        code="DP-READ-017",
        hint="look for a quote that is never closed, or raise max_record_bytes",
    )


def refuse_binary(path: Path, wanted: str) -> int:
    """Refuse what is not UTF-8 text by its first bytes; gives the length of a byte order mark."""
    start = _files.head(path)
    words, _ = _files.looks_like(start)
    if words == "UTF-16 text":
        raise Malformed(
            f"{path} is UTF-16 text; UTF-8 was expected",
            code="DP-READ-011",
            hint=f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}",
        )
    if words:
        raise _files.wrong_kind(path, wanted, start)
    return len(BOM) if start.startswith(BOM) else 0


def numbered(frame: pl.LazyFrame, surveys: Sequence[Survey]) -> pl.LazyFrame:
    """Give rows the ordinal of their record, jumping over the broken ones."""
    index = pl.col(ROW_ID).cast(pl.UInt64)
    gone = _ordinals(surveys)
    if not gone:
        return frame.with_columns(index)
    before = pl.Series([g - i for i, g in enumerate(gone)], dtype=pl.UInt64)
    shift = pl.lit(before).search_sorted(index, side="right").cast(pl.UInt64)
    return frame.with_columns(index + shift)


def set_aside(surveys: Sequence[Survey]) -> pl.DataFrame:
    """The broken records as rows to quarantine."""
    reasons = [f"{s.path.name}:{b.line}: {b.reason}" for s in surveys for b in s.broken]
    return pl.DataFrame({"row_id": _ordinals(surveys), "reason": reasons}, ASIDE_SCHEMA)


def _ordinals(surveys: Iterable[Survey]) -> list[int]:
    found: list[int] = []
    offset = 0
    for survey in surveys:
        found.extend(offset + b.record for b in survey.broken)
        offset += survey.records
    return found


def malformed(surveys: Sequence[Survey]) -> Finding:
    """The share of records that were set aside because they are broken."""
    total = sum(s.records for s in surveys)
    gone = sum(len(s.broken) for s in surveys)
    first = next(((s.path, b) for s in surveys for b in s.broken), None)
    where = f"; the first is {first[0].name}:{first[1].line}: {first[1].reason}" if first else ""
    return Finding(
        "ingest.malformed",
        "suspect" if gone else "clean",
        Estimate.exact(gone / total if total else 0.0, n=total),
        f"{gone} of {total} records are broken{where}",
        "medium" if gone else "info",
        details={"broken": gone, "records": total, "files": len(surveys)},
        remedy="mend these lines where the file was made" if gone else "",
    )
