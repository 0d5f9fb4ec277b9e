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

import polars as pl

from datapipe.core.dataset import Dataset, Piece
from datapipe.core.parquet import encode
from datapipe.core.stage import RowStage
from datapipe.execute.fuse import fuse

SHARD_ROWS = 250_000
"""Most input rows of a shard. Small enough to lose little and to fit in memory on any machine."""
THREADS_A_SHARD = 4
"""A shard keeps about this many threads busy; with more there, several shards run side by side.

Two always do where there are two threads: while one is sealed and stored, the other goes on (a
fifth less time for 10 M rows on two cores, at the same CPU time).
"""


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
    """The two plans of a shard.

    Args:
        kept: The rows that stay; None when the output holds them already.
        dropped: The others; None where no stage sets rows aside.

    Example:
        >>> Job(pl.LazyFrame({"a": [1]}), None).run().rows[:4]
        b'PAR1'
    """

    kept: pl.LazyFrame | None
    dropped: pl.LazyFrame | None

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
        dropped = None if self.dropped is None else self.dropped.collect(engine="streaming")
        return Made(rows, dropped)


Jobs = Sequence[Callable[[], Job]]
RunJobs = Callable[[Jobs], Iterator[Made]]
"""Runs jobs, which are built when their turn comes, and gives what they made in their order."""


def cut(pieces: Sequence[Piece], most: int = SHARD_ROWS) -> list[pl.LazyFrame]:
    """Cut rows into shards: large pieces into equal parts, small neighbours put together.

    Args:
        pieces: Plans over parts of the source, with their numbers of rows.
        most: Most rows of a shard, > 0.

    Returns:
        A plan for each shard, in order; nothing is read.

    Example:
        >>> lines = pl.LazyFrame({"a": range(5)})
        >>> [f.collect().height for f in cut([(lines, 5), (lines, 5), (lines.head(1), 1)], 4)]
        [3, 2, 3, 2, 1]
        >>> [f.collect().height for f in cut([(lines, 5), (lines, 5), (lines, 5)], 10)]
        [10, 5]
    """
    shards: list[pl.LazyFrame] = []
    held: list[pl.LazyFrame] = []
    rows = 0
    for frame, n in pieces:
        if held and rows + n > most:
            shards.append(pl.concat(held) if len(held) > 1 else held[0])
            held, rows = [], 0
        if n <= most:
            held.append(frame)
            rows += n
            continue
        step = -(-n // -(-n // most))
        shards += [frame.slice(start, min(step, n - start)) for start in range(0, n, step)]
    if held:
        shards.append(pl.concat(held) if len(held) > 1 else held[0])
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
        return [(data.scan(row_id=True), len(data))]
    return data.pieces


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
    rows = len(data) if data.path is not None else sum(n for _, n in data.pieces)
    return rows > SHARD_ROWS


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
        >>> [build().run().dropped for build in jobs_of(Dataset(lines, pieces=[(lines, 2)]), [])]
        [None]
    """
    shards = cut(pieces_of(data))

    def job(number: int) -> Callable[[], Job]:
        def build() -> Job:
            part = fuse(Dataset(shards[number], data.roles, sources=data.sources), stages)
            return Job(None if number < done else part.kept, part.dropped)

        return build

    return [job(number) for number in range(len(shards))]


def _built(build: Callable[[], Job]) -> Made:
    return build().run()


def run_here(jobs: Jobs) -> Iterator[Made]:
    """Run jobs in this process, a few side by side where there is more than one thread.

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
    beside = max(2, threads // THREADS_A_SHARD)
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
