# SPDX-License-Identifier: Apache-2.0
"""The local executor: runs a plan group by group and has every step recorded.

A group is one stage or several parallel ones. Readers and the row stages behind them become one
streaming plan; every other group sees a stored data set. A group whose keys were seen before is
taken from the store without reading a byte of data.
"""

from __future__ import annotations

from pathlib import Path

from datapipe.core.dataset import Dataset
from datapipe.core.pipeline import Plan, PlannedStep
from datapipe.core.run import Run
from datapipe.execute._opening import open_readers
from datapipe.execute._session import Session
from datapipe.execute.reuse import FileDigests
from datapipe.execute.shards import RunJobs, run_here
from datapipe.lineage.store import Lineage


class LocalExecutor:
    """Runs a plan in this process.

    Args:
        run_jobs: What runs the shards of row stages over large inputs.

    Example:
        >>> LocalExecutor().run.__name__
        'run'
    """

    def __init__(self, run_jobs: RunJobs = run_here) -> None:
        self._run_jobs = run_jobs

    def run(self, plan: Plan, *, data: Dataset | None, seed: int, store: Path) -> Run:
        """Run every step of a plan and record it in a store.

        Args:
            plan: What to run.
            data: Rows to start from, when the plan has no reader.
            seed: Seed of the run.
            store: Folder of the store; made once the input has been found readable.

        Returns:
            The finished run.

        Example:
            >>> import tempfile
            >>> import pyarrow as pa
            >>> from datapipe.core.pipeline import Pipeline
            >>> from datapipe.core.stage import RowStage
            >>> rows = Dataset.of(pa.table({"a": [1, 2]}))
            >>> plan = Pipeline("p", [RowStage()]).plan(rows)
            >>> run = LocalExecutor().run(plan, data=rows, seed=7, store=Path(tempfile.mkdtemp()))
            >>> len(run.data)
            2
        """
        digests = FileDigests(store / "cache" / "files.json")
        lead, rest = segments(plan)
        opened = open_readers(lead, data, digests, seed=seed, store=store)
        with Session(plan, seed, Lineage(store, create=True), self._run_jobs) as session:
            session.lead(opened, [s for group in lead for s in group])
            for group in rest:
                session.group(group)
            digests.save()
            return session.recorder.close(session.data)


def segments(plan: Plan) -> tuple[list[list[PlannedStep]], list[list[PlannedStep]]]:
    """The leading groups of readers and row stages, fused into one plan, and the groups after.

    Later runs of row stages are one group each, so that they are fused too.

    Args:
        plan: A plan.

    Returns:
        The leading groups, and the groups after.

    Example:
        >>> from datapipe.core.roles import Roles
        >>> segments(Plan("p", (), Roles()))
        ([], [])
    """
    groups = plan.groups()
    cut = 0
    while cut < len(groups) and groups[cut][0].shape in ("read", "row"):
        cut += 1
    rest: list[list[PlannedStep]] = []
    for group in groups[cut:]:
        if rest and group[0].shape == "row" and rest[-1][-1].shape == "row":
            rest[-1] = [*rest[-1], *group]
        else:
            rest.append(list(group))
    return groups[:cut], rest
