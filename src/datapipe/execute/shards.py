# SPDX-License-Identifier: Apache-2.0
"""Rows in shards: the unit in which fused row stages run, are retried, and resume after a crash.

A shard is a range of input rows. Each becomes a few row groups of the output, by a plan of its own,
whoever runs it and whenever: so a run that was interrupted goes on after its last shard, and a
cluster writes the same bytes as one process does.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from datapipe.core.dataset import Dataset, Piece
from datapipe.core.pages import GROUP_BYTES, GROUPS, footer_of, mapped
from datapipe.core.parquet import encode
from datapipe.core.stage import RowStage
from datapipe.core.thrift import Damaged
from datapipe.execute.fuse import fuse, left

SHARD_ROWS = 250_000
"""Most input rows of a shard. Small enough to lose little and to fit in memory on any machine."""
SHARD_BYTES = 2**26
"""Most bytes that the input rows of a shard take in memory (64 MiB), where that is known: rows of
900 bytes are cut at 74,000. It is told by the input alone, so that everybody cuts alike."""
SLICES = 4
"""Most slices of one row group for the sake of bytes: each decodes what lies before it again."""
THREADS_A_SHARD = 4
"""A shard keeps about this many threads busy; with more there, several shards run side by side.

Two always do where there are two threads: while one is sealed and stored, the other goes on (a
fifth less time for 10 M rows on two cores, at the same CPU time).
"""


class Shard(NamedTuple):
    """A range of the input's rows.

    Args:
        frame: A plan over them.
        takes_turns: Whether they are part of a row group that has more rows and bytes than a shard
            may have: an engine that reads them holds far more than them.

    Example:
        >>> Shard(pl.LazyFrame()).takes_turns
        False
    """

    frame: pl.LazyFrame
    takes_turns: bool = False


@dataclass(frozen=True)
class Made:
    """What became of the rows of one shard.

    Args:
        rows: The rows that stay, as a Parquet file; None when the output holds them already.
        dropped: `row_id` and reason code of the others; None where no stage sets rows aside.

    Example:
        >>> Made(None, None).rows is None
        True
    """

    rows: bytes | memoryview | None
    dropped: pl.DataFrame | None


@dataclass(frozen=True)
class Job:
    """The plans of a shard.

    Args:
        kept: The rows that stay; None when the output holds them already.
        dropped: The others; None where no stage sets rows aside.
        apart: The same by the long way, where the short one fails; see `fuse.left`.

    Example:
        >>> Job(pl.LazyFrame({"a": [1]}), None).run().rows[:4]
        b'PAR1'
    """

    kept: pl.LazyFrame | None
    dropped: pl.LazyFrame | None
    apart: pl.LazyFrame | None = None

    def run(self) -> Made:
        """Run both plans; the same bytes come of it wherever and how often it is run.

        Returns:
            What became of the rows.

        Example:
            >>> Job(None, None).run()
            Made(rows=None, dropped=None)
        """
        rows = None
        if self.kept is not None:
            out = io.BytesIO()
            encode(self.kept, out)
            rows = out.getvalue()
        dropped = None if self.dropped is None else left(self.dropped, self.apart)
        return Made(rows, dropped)


Jobs = Sequence[Callable[[], Job]]
RunJobs = Callable[[Jobs], Iterator[Made]]
"""Runs jobs, which are built when their turn comes, and gives what they made in their order."""


def cut(
    pieces: Sequence[Piece], most: int = SHARD_ROWS, most_bytes: int = SHARD_BYTES
) -> list[Shard]:
    """Cut rows into shards: large pieces into equal parts, small neighbours put together.

    Args:
        pieces: Plans over parts of the source, with their numbers of rows and bytes.
        most: Most rows of a shard, > 0.
        most_bytes: Most bytes of a shard, > 0; rows are taken to be equally large within a piece.

    Returns:
        The shards, in order; nothing is read.

    Example:
        >>> five = Piece(pl.LazyFrame({"a": range(5)}), 5)
        >>> [s.frame.collect().height for s in cut([five, five], 4)]
        [3, 2, 3, 2]
        >>> [s.frame.collect().height for s in cut([five, five, five], 10)]
        [10, 5]
        >>> [s.frame.collect().height for s in cut([five._replace(size_bytes=10)], most_bytes=4)]
        [2, 2, 1]
    """
    shards: list[Shard] = []
    held: list[pl.LazyFrame] = []
    rows = size = 0
    for frame, n, size_bytes, groups in pieces:
        parts = max(-(-n // most), min(-(-size_bytes // most_bytes), groups * SLICES, n))
        if held and (rows + n > most or size + size_bytes > most_bytes):
            shards.append(Shard(pl.concat(held) if len(held) > 1 else held[0]))
            held, rows, size = [], 0, 0
        if parts <= 1:
            held.append(frame)
            rows, size = rows + n, size + size_bytes
            continue
        step = -(-n // parts)
        large = n > groups * step and size_bytes > groups * most_bytes
        slices = [frame.slice(start, min(step, n - start)) for start in range(0, n, step)]
        shards += [Shard(part, takes_turns=large) for part in slices]
    if held:
        shards.append(Shard(pl.concat(held) if len(held) > 1 else held[0]))
    return shards


def pieces_of(data: Dataset) -> Sequence[Piece]:
    """Parts of a data set of which slices can be read on their own; empty when it has none.

    Args:
        data: The rows.

    Returns:
        The pieces its reader gave, or the file that holds it.

    Example:
        >>> from datapipe.core.roles import ROW_ID
        >>> pieces_of(Dataset(pl.LazyFrame({ROW_ID: [1]}, {ROW_ID: pl.UInt64}), rows=1))
        ()
    """
    if data.path is not None:
        return [Piece(data.scan(row_id=True), len(data), *_stored_as(data.path))]
    return data.pieces


def _stored_as(path: Path) -> tuple[int, int]:
    """What the pages of a Parquet file decode to, and its row groups, as its footer tells."""
    try:
        with mapped(path) as raw:
            groups = footer_of(raw)[0][GROUPS]
    except (Damaged, OSError, KeyError):
        return 0, 1  # whoever reads its rows finds out
    return sum(group[GROUP_BYTES] for group in groups), len(groups)


def worth_cutting(data: Dataset) -> bool:
    """Whether rows make more than one shard.

    Args:
        data: The rows.

    Returns:
        False too where they cannot be cut.

    Example:
        >>> from datapipe.core.roles import ROW_ID
        >>> worth_cutting(Dataset(pl.LazyFrame({ROW_ID: [1]}, {ROW_ID: pl.UInt64}), rows=1))
        False
    """
    return len(cut(pieces_of(data))) > 1


def jobs_of(data: Dataset, stages: Sequence[RowStage], done: int = 0) -> Jobs:
    """The jobs of a fused group, in order.

    Args:
        data: The rows it is given.
        stages: The row stages.
        done: How many leading shards the output holds already.

    Returns:
        A function for each shard that builds its job; none where the rows cannot be cut.

    Example:
        >>> from datapipe.core.roles import ROW_ID
        >>> lines = pl.LazyFrame({ROW_ID: [1, 2]}, {ROW_ID: pl.UInt64})
        >>> data = Dataset(lines, pieces=[Piece(lines, 2)])
        >>> [build().run().dropped for build in jobs_of(data, [])]
        [None]
    """
    shards = cut(pieces_of(data))
    return [_Build(data, stages, s, number < done) for number, s in enumerate(shards)]


@dataclass(frozen=True, eq=False)
class _Build:
    """Builds the job of a shard when its turn has come."""

    data: Dataset
    stages: Sequence[RowStage]
    shard: Shard
    done: bool

    def __call__(self) -> Job:
        part = fuse(
            Dataset(self.shard.frame, self.data.roles, sources=self.data.sources), self.stages
        )
        return Job(None if self.done else part.kept, part.dropped, part.apart)


def _built(build: Callable[[], Job]) -> Made:
    return build().run()


def run_here(jobs: Jobs) -> Iterator[Made]:
    """Run jobs in this process, a few side by side where there is more than one thread.

    Slices of large row groups run one after the other: an engine holds the group to read one.

    Args:
        jobs: What to run.

    Yields:
        What they made, in their order; never more than a few are held at once.

    Example:
        >>> [m.rows[:4] for m in run_here([lambda: Job(pl.LazyFrame({"a": [1]}), None)])]
        [b'PAR1']
    """
    threads = pl.thread_pool_size()
    if threads == 1 or len(jobs) == 1:
        for build in jobs:
            yield build().run()
        return
    turns = any(isinstance(build, _Build) and build.shard.takes_turns for build in jobs)
    beside = 1 if turns else max(2, threads // THREADS_A_SHARD)
    with ThreadPoolExecutor(beside) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for build in jobs:
                waiting.append(pool.submit(_built, build))
                if len(waiting) > beside:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()
