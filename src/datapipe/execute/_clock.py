# SPDX-License-Identifier: Apache-2.0
"""What a group costs while it runs, and whose fault it is when it fails."""

from __future__ import annotations

import contextlib
import errno
import resource
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import polars as pl

from datapipe.core.stage import Stage
from datapipe.errors import DatapipeError, ExecutionError, Malformed, in_a_line
from datapipe.execute._said import is_ours, said
from datapipe.lineage.locks import failed


@dataclass
class Clock:
    """What a group cost.

    Args:
        seconds: Wall time.
        cpu_seconds: CPU time of this process, user and system.
        peak_bytes: Peak memory of this process so far.
        parts: Wall and CPU seconds of each step that ran on its own.

    Example:
        >>> Clock().seconds
        0.0
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    parts: list[tuple[float, float]] = field(default_factory=list)

    def of(self, i: int, steps: int) -> tuple[float, float]:
        """What one step of the group cost; fused steps share alike, which is all that is known.

        Args:
            i: 0-based place of the step.
            steps: How many steps the group has.

        Returns:
            Wall and CPU seconds.

        Example:
            >>> Clock(2.0, 1.0).of(0, 2)
            (1.0, 0.5)
        """
        if i < len(self.parts):
            return self.parts[i]
        return self.seconds / steps, self.cpu_seconds / steps


@contextlib.contextmanager
def timed(stage: Stage, names: Collection[str] = ()) -> Iterator[Clock]:
    """Time a group; engine errors are the data's fault, disk errors the machine's.

    Args:
        stage: Its first stage.
        names: The columns that it was given.

    Yields:
        The clock, which tells the whole time once the block has ended.

    Raises:
        Malformed: The engine could not compute the rows.
        ExecutionError: The disk is full or failed, or a function of the author's did.

    Example:
        >>> with timed(Stage()) as clock:
        ...     _ = sum(range(100_000))
        >>> clock.cpu_seconds > 0
        True
    """
    clock = Clock()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield clock
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise not_computed(stage, error, names) from error
    except SystemExit as error:  # of a function within an expression
        raise stage_failed(stage, error, names) from error
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise failed(error, f"{stage.name} could not write{where}") from error
        raise ExecutionError(
            f"{stage.name}: {error.strerror or in_a_line(error)}{where}",
            code="DP-EXEC-003",
            hint="free some space or mend the disk, then run again: finished steps are reused",
            stage=stage.name,
        ) from error
    except Exception as error:
        if isinstance(error, DatapipeError) or is_ours(error):
            raise
        raise stage_failed(stage, error, names) from error  # a function within an expression again
    clock.seconds = time.perf_counter() - wall
    clock.cpu_seconds = time.process_time() - cpu
    clock.peak_bytes = peak_bytes()


def not_computed(stage: Stage, error: BaseException, names: Collection[str] = ()) -> Malformed:
    """The engine's error, as ours.

    Args:
        stage: The stage whose rows it computed.
        error: What it raised.
        names: The columns that it was given.

    Returns:
        The error to raise.

    Example:
        >>> not_computed(Stage(), ValueError("no such column")).code
        'DP-DATA-020'
    """
    return Malformed(
        f"{stage.name}: the rows cannot be read or computed: {in_a_line(error, names)}",
        code="DP-DATA-020",
        hint="look at the types of the columns that it was given, and whether the file has changed",
    )


def stage_failed(stage: Stage, error: BaseException, names: Collection[str] = ()) -> ExecutionError:
    """What an author's stage raised, as ours; `sys.exit(0)` would look like a finished run.

    Args:
        stage: The stage.
        error: What it raised.
        names: The columns that it was given.

    Returns:
        The error to raise.

    Example:
        >>> stage_failed(Stage(), SystemExit(0)).code
        'DP-EXEC-001'
    """
    return ExecutionError(
        f"{stage.name} failed: {type(error).__name__}: {said(error, names)}",
        code="DP-EXEC-001",
        hint="run again with -vv for the traceback; this looks like a bug in the stage",
        stage=stage.name,
    )


def peak_bytes() -> int:
    """Peak memory of this process.

    Returns:
        Bytes.

    Example:
        >>> peak_bytes() > 1_000_000
        True
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
