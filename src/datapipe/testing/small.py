# SPDX-License-Identifier: Apache-2.0
"""The smallest run there is: three rows and one stage, for examples and first tries."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile

import polars as pl
import pyarrow as pa

from datapipe.core.function import stage
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import Roles
from datapipe.core.run import Run


@stage("text.long_enough", version="1", needs=("text",))
def long_enough(frame: pl.LazyFrame, *, column: str = "t") -> pl.LazyFrame:
    """Keep the rows whose text has two characters or more.

    Args:
        frame: The rows, the hidden column included.
        column: The text column.

    Returns:
        The rows that stay.

    Example:
        >>> long_enough().name
        'text.long_enough'
    """
    return frame.filter(pl.col(column).str.len_chars() > 1)


@functools.cache
def small_run() -> Run:
    """A finished run over three rows, one of which is set aside.

    The store lies in a temporary folder that goes when the process ends; every call gives the
    same run.

    Returns:
        The run.

    Example:
        >>> run = small_run()
        >>> len(run.data), run.steps[-1].rows_aside
        (2, 1)
    """
    store = tempfile.mkdtemp(prefix="datapipe-small-")
    atexit.register(shutil.rmtree, store, ignore_errors=True)
    rows = pa.table({"t": ["one", "x", "three"]})
    return Pipeline("small", [long_enough()]).run(
        rows, seed=7, store=store, roles=Roles.of(text="t")
    )
