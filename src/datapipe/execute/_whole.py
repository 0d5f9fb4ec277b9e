# SPDX-License-Identifier: Apache-2.0
"""How one whole stage is run: what it is told, and whose error it is when it fails."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset
from datapipe.core.stage import Stage, Yield
from datapipe.errors import DatapipeError
from datapipe.execute._back import given_back
from datapipe.execute._clock import not_computed, stage_failed
from datapipe.execute._recorder import Recorder
from datapipe.execute._where import name_the_stage
from datapipe.lineage.store import Lineage

log = logging.getLogger("datapipe.execute")


def run_whole(stage: Stage, data: Dataset, context: Context) -> Yield:
    """Run a whole stage; an error that is not ours becomes one that says where.

    Args:
        stage: The stage.
        data: The rows it sees.
        context: What else it is told.

    Returns:
        What it gave back.

    Raises:
        DatapipeError: It failed, or gave back what it may not.
        OSError: The disk is full or failed.

    Example:
        >>> import pyarrow as pa
        >>> class Look(Stage):
        ...     name = "demo.look"
        ...     def run(self, data, context):
        ...         return Yield()
        >>> run_whole(Look(), Dataset.of(pa.table({"a": [1]})), Context(7, Path())).findings
        ()
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - for whole stages alone

    try:
        # One thread a matrix product: sums in a fixed order, and no spinning against polars.
        with threadpool_limits(1):
            return given_back(stage, stage.run(data, context))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise not_computed(stage, error, data.names) from error
    except DatapipeError as error:
        name_the_stage(error, stage)
        raise
    except (KeyboardInterrupt, OSError):
        raise
    except (Exception, SystemExit) as error:
        raise stage_failed(stage, error, data.names) from error


def context_of(stage: Stage, seed: int, folder: Path, recorder: Recorder, data: Dataset) -> Context:
    """What a whole stage is told of the run so far: no more than it says that it uses.

    Args:
        stage: The stage.
        seed: The seed of the run.
        folder: Its own empty folder.
        recorder: The record so far.
        data: The rows it sees.

    Returns:
        The context.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> from datapipe.core.pipeline import Plan
        >>> from datapipe.core.roles import Roles
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> recorder = Recorder(Plan("p", (), Roles()), 7, store)
        >>> context_of(Stage(), 7, Path(), recorder, Dataset.of(pa.table({"a": [1]}))).findings
        ()
    """
    return Context(
        seed=derived_seed(seed, stage.name),
        scratch=folder,
        findings=[f for f, _, _ in recorder.findings] if "findings" in stage.uses else (),
        artifacts=dict(recorder.artifacts) if "model" in stage.uses else {},
        privacy_spent=_spent(recorder.lineage, data) if "privacy" in stage.uses else 0.0,
        say=lambda line: log.info("%s: %s", stage.name, line),
    )


def _spent(lineage: Lineage, data: Dataset) -> float:
    """Epsilon already charged to any data set that shares a source with this one."""
    lineage.index()
    found = lineage.sql(
        "select coalesce(sum(epsilon), 0.0) as spent from privacy_events where dataset in ("
        " select digest from datasets where list_has_any("
        "  cast(source_nos as bigint[]), cast($numbers as bigint[])))",
        numbers=[s.number for s in data.sources],
    )
    return float(found["spent"][0])
