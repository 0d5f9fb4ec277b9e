# SPDX-License-Identifier: Apache-2.0
"""The Ray executor: the same plan, its shards as tasks on a cluster, the same bytes and lineage.

A task is a pure function of its plan and of the files that it names, so it may run twice, anywhere.
Ray runs it again when its worker or node dies; when the driver dies, the shards that had come back
are in the store and the next run goes on after them. Whole stages run on the driver.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.pipeline import Plan
from datapipe.core.run import Run
from datapipe.errors import ExecutionError, MissingExtra, in_a_line
from datapipe.execute._shard_task import shard
from datapipe.execute.local import LocalExecutor
from datapipe.execute.shards import Jobs, Made

RETRIES = 5
"""How often a shard is run again after its worker or node has died."""
AHEAD = 2
"""Shards under way for each CPU of the cluster: keeps all busy, and bounds what waits in memory."""

PATIENCE_S = 10.0
"""How long an address may take to answer."""


class RayExecutor:
    """Runs the row stages of a plan on a Ray cluster, everything else in this process.

    All nodes must see the input files under the same paths. A cluster that this process is already
    connected to is used as it is; else one is started on this machine, or joined by its address,
    and left again.

    Args:
        address: Of a running cluster, such as `auto` or `ray://host:10001`; empty for one here.
        cpus: CPUs of a cluster started here; 0 for all of this machine.

    Example:
        >>> RayExecutor(cpus=2).cpus
        2
    """

    def __init__(self, address: str = "", *, cpus: int = 0) -> None:
        self.address = address
        self.cpus = cpus

    def run(self, plan: Plan, *, data: Dataset | None, seed: int, store: Path) -> Run:
        """Run every step of a plan and record it in a store.

        Args:
            plan: What to run.
            data: Rows to start from, when the plan has no reader.
            seed: Seed of the run.
            store: Folder of the store, on the driver's machine.

        Returns:
            The finished run.

        Raises:
            MissingExtra: Ray is not installed.
            ExecutionError: There is no cluster at the address, or a shard failed for good.

        Example:
            >>> RayExecutor.run.__name__
            'run'
        """
        with self._cluster():
            return LocalExecutor(_run_on_cluster).run(plan, data=data, seed=seed, store=store)

    @contextlib.contextmanager
    def _cluster(self) -> Iterator[None]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        try:
            import ray  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra(
                "the Ray executor needs the package ray", hint="pip install 'datapipe[ray]'"
            ) from error
        if ray.is_initialized():
            yield
            return
        try:
            _answers(self.address)
            if self.address:
                ray.init(self.address, logging_level=logging.ERROR, log_to_driver=False)
            else:
                ray.init(
                    num_cpus=self.cpus or os.cpu_count(),
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise ExecutionError(
                f"no Ray cluster could be reached at {self.address or 'this machine'}",
                code="DP-EXEC-080",
                hint="start one with `ray start --head`, or give its address",
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


def _answers(address: str) -> None:
    """Knock first: Ray itself takes a minute and more to find that nobody is there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()


def _run_on_cluster(jobs: Jobs) -> Iterator[Made]:
    """Run jobs as tasks, so many at once as there are CPUs for, and give the results in order."""
    import ray  # noqa: PLC0415 - an extra

    task = ray.remote(num_cpus=1, num_returns=2, max_retries=RETRIES)(shard)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's
    ahead = AHEAD * max(1, int(resources.get("CPU", 1)))
    waiting: deque[Any] = deque()
    try:
        for build in jobs:
            job = build()
            plans = [
                None if p is None else p.serialize() for p in (job.kept, job.dropped, job.apart)
            ]
            waiting.append(task.remote(*plans))
            if len(waiting) >= ahead:
                yield _fetched(waiting.popleft())
        while waiting:
            yield _fetched(waiting.popleft())
    finally:
        for left in waiting:
            ray.cancel(left[0], force=True)


def _fetched(parts: Any) -> Made:
    import ray  # noqa: PLC0415 - an extra

    try:
        rows, dropped = ray.get(parts)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, (pl.exceptions.PolarsError, OSError)):
            raise cause from error
        raise ExecutionError(
            f"a shard failed on the cluster: {type(cause).__name__}: {in_a_line(cause)}",
            code="DP-EXEC-081",
            hint="run again with -vv for the traceback; finished shards are kept",
        ) from error
    except ray.exceptions.RayError as error:
        raise ExecutionError(
            f"a shard was lost {RETRIES + 1} times with its worker or node: {type(error).__name__}",
            code="DP-EXEC-082",
            hint="see that the nodes have memory and see the files; finished shards are kept",
        ) from error
    return Made(
        None if rows is None else memoryview(rows),  # in the memory of this node, not copied
        None if dropped is None else pl.read_ipc(io.BytesIO(dropped)),
    )
