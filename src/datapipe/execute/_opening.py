# SPDX-License-Identifier: Apache-2.0
"""Opening the sources: all of them are found readable before anything is written."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset, Piece, empty
from datapipe.core.pipeline import PlannedStep
from datapipe.core.roles import ORDINAL_BITS, ROW_ID, Roles
from datapipe.core.stage import Reader, Yield
from datapipe.errors import SchemaMismatch
from datapipe.execute._handed import Handed, handed_over
from datapipe.execute.reuse import FileDigests, source_digest, step_key
from datapipe.lineage.erasures import ERASED_REASON, ERASURE, was_erased
from datapipe.lineage.store import Lineage


@dataclass(eq=False)
class Opened:
    """Sources that were found readable, or found unchanged in the store.

    Args:
        readers: The readers, in order; empty when the caller gave the rows.
        digests: The digest of what each reads.
        keys: Each reader's key of reuse.
        seed: Seed of the run.
        given: The caller's rows, when there is no reader.
        yields: What the readers gave; filled in on first need.
        files: Digests of files, some of them only remembered.

    Example:
        >>> Opened((), (), (), 0).given is None
        True
    """

    readers: tuple[Reader, ...]
    digests: tuple[str, ...]
    keys: tuple[str, ...]
    seed: int
    given: Dataset | None = None
    yields: list[Yield] = field(default_factory=list)
    files: FileDigests = field(default_factory=lambda: FileDigests(Path("none")))
    _handed: Handed | None = None

    def handed(self, lineage: Lineage) -> Handed | None:
        """What the caller's rows are to a store, found out once; None with readers.

        Args:
            lineage: The store.

        Returns:
            The rows under names of the store.
        """
        if self._handed is None and self.given is not None:
            self._handed = handed_over(self.given, lineage)
        return self._handed

    def read(self) -> None:
        """Let every reader look at its source; nothing is kept of it but a lazy plan.

        Example:
            >>> Opened((), (), (), 0, empty()).read()
        """
        if self.yields or not self.readers:
            return
        for reader in self.readers:
            for file in reader.files():
                self.files.confirm(file)
            scratch = tempfile.mkdtemp(prefix="datapipe-")  # the lazy plans read from it later
            weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
            context = Context(derived_seed(self.seed, reader.name), Path(scratch))
            self.yields.append(reader.run(empty(), context))
        _agree([made.data or empty() for made in self.yields])

    def numbered(self, lineage: Lineage) -> tuple[Dataset, list[Yield]]:
        """Give every source its number and every row its name, and put the sources together.

        Args:
            lineage: The store that gives the numbers.

        Returns:
            The rows of all sources, lazily; what each reader gave, its rows named.
        """
        self.read()
        handed = self.handed(lineage)
        if handed is not None:
            return handed.data, []
        parts: list[Dataset] = []
        named: list[Yield] = []
        for made, digest in zip(self.yields, self.digests, strict=True):
            data = made.data or empty()
            source = data.sources[0]
            rows = source.rows or len(data)
            number = lineage.source_number(digest, source.name, rows)
            known = replace(source, number=number, digest=digest, rows=rows)
            frame = _shifted(data.scan(row_id=True), ROW_ID, number)
            pieces = [p._replace(frame=_shifted(p.frame, ROW_ID, number)) for p in data.pieces]
            parts.append(Dataset(frame, data.roles, sources=[known], pieces=pieces))
            named.append(_renamed(made, number))
        return _together(parts), [
            kept_out(lineage, y, p) for y, p in zip(named, parts, strict=True)
        ]


def kept_out(lineage: Lineage, made: Yield, data: Dataset) -> Yield:
    """Set rows aside again that were erased from the store at a person's request.

    A source keeps its number as long as its bytes are the same, so a row of it has the same id: who
    was erased is not let in again by reading the same file once more, and nobody's name is needed.

    Args:
        lineage: The store.
        made: What a reader gave, its rows named.
        data: The rows of its source.

    Returns:
        The same, with the erased rows among those set aside.
    """
    if not was_erased(lineage.store):
        return made
    gone = lineage.sql(
        "select distinct row_id from dropped_rows where stage = $stage and source_no = $number",
        stage=ERASURE,
        number=data.sources[0].number,
    )
    if not gone.height:
        return made
    again = gone.with_columns(pl.col("row_id").cast(pl.UInt64), reason=pl.lit(ERASED_REASON))
    before = [] if made.set_aside is None else [made.set_aside.select("row_id", "reason")]
    return replace(made, set_aside=pl.concat([again, *before], how="vertical_relaxed"))


def open_readers(
    groups: Sequence[Sequence[PlannedStep]],
    data: Dataset | None,
    digests: FileDigests,
    *,
    seed: int,
    store: Path,
) -> Opened:
    """Digest the sources and, unless the store knows them, find them readable.

    Args:
        groups: The leading groups of the plan.
        data: The caller's rows, or None.
        digests: Cache of file digests.
        seed: Seed of the run.
        store: Folder of the store; not made here.

    Returns:
        The opened sources.

    Example:
        >>> open_readers([], empty(), FileDigests(Path("none")), seed=0, store=Path("none")).readers
        ()
    """
    readers = tuple(s.stage for g in groups for s in g if isinstance(s.stage, Reader))
    if not readers:
        return Opened((), (), (), seed, data or empty())
    found = tuple(source_digest(r, digests) for r in readers)
    keys = tuple(
        step_key(r, inputs=[d], seed=derived_seed(seed, r.name))
        for r, d in zip(readers, found, strict=True)
    )
    opened = Opened(readers, found, keys, seed, files=digests)
    if not _known(store, keys):
        opened.read()
    return opened


def _known(store: Path, keys: Sequence[str]) -> bool:
    """Whether a store is there and has read exactly these sources before."""
    if not (store / "journal").is_dir():
        return False
    lineage = Lineage(store)
    return all(lineage.find_step(key) is not None for key in keys)


def _shifted(frame: pl.LazyFrame, column: str, number: int) -> pl.LazyFrame:
    name = pl.col(column).cast(pl.UInt64) + pl.lit(number << ORDINAL_BITS, dtype=pl.UInt64)
    return frame.with_columns(name.alias(column))


def _renamed(made: Yield, number: int) -> Yield:
    """What a reader gave, its ordinals made row ids."""

    def shift(rows: pl.DataFrame) -> pl.DataFrame:
        return _shifted(rows.lazy(), "row_id", number).collect()

    findings = tuple(f if f.rows is None else replace(f, rows=shift(f.rows)) for f in made.findings)
    aside = None if made.set_aside is None else shift(made.set_aside)
    return replace(made, findings=findings, set_aside=aside)


def _together(parts: Sequence[Dataset]) -> Dataset:
    """Sources one below the other; a column that one lacks is null there."""
    if len(parts) == 1:
        return parts[0]
    roles = Roles()
    for part in parts:
        roles = roles.merged(part.roles)
    frame = pl.concat([p.scan(row_id=True) for p in parts], how="diagonal")
    sources = [s for p in parts for s in p.sources]
    pieces: list[Piece] = []
    if all(p.pieces for p in parts):
        types = frame.collect_schema()
        pieces = [p._replace(frame=_widened(p.frame, types)) for d in parts for p in d.pieces]
    return Dataset(frame, roles, sources=sources, pieces=pieces)


def _widened(piece: pl.LazyFrame, types: pl.Schema) -> pl.LazyFrame:
    """The rows with every column that any source has; those that theirs lacks are null."""
    has = set(piece.collect_schema())
    lacks = [pl.lit(None, kind).alias(name) for name, kind in types.items() if name not in has]
    return piece.with_columns(lacks).select(types.names())


def _agree(parts: Sequence[Dataset]) -> None:
    """Refuse sources that give one column two types."""
    types: dict[str, pl.DataType] = {}
    for part in parts:
        for name, kind in part.types.items():
            if types.setdefault(name, kind) != kind:
                raise SchemaMismatch(
                    f"column {name!r} is {kind} in source {part.sources[0].name!r}"
                    f" and {types[name]} in another",
                    code="DP-DATA-010",
                    hint="cast it in one of them, or read them in two pipelines",
                )
