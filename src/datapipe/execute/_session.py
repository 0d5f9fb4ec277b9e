# SPDX-License-Identifier: Apache-2.0
"""One run, group by group: the rows so far, and what was done to them."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import polars as pl

from datapipe.core.context import derived_seed
from datapipe.core.dataset import Dataset, empty
from datapipe.core.digest import digest_json
from datapipe.core.finding import Finding
from datapipe.core.pipeline import Plan, PlannedStep
from datapipe.core.roles import Roles
from datapipe.core.source import Source
from datapipe.core.stage import RowStage, Stage, Yield
from datapipe.errors import ExecutionError, GateClosed
from datapipe.execute._back import known, no_strangers, together
from datapipe.execute._clock import Clock, timed
from datapipe.execute._group import GroupDone
from datapipe.execute._opening import Opened
from datapipe.execute._record import Outcome, outcome_of, stored
from datapipe.execute._recorder import Recorder
from datapipe.execute._whole import context_of, run_whole
from datapipe.execute.act import Acted, act, applied
from datapipe.execute.columns import Edge, passed_edges, planned_edges
from datapipe.execute.edges import same_rows, woven
from datapipe.execute.fuse import fuse
from datapipe.execute.progress import Progress
from datapipe.execute.reuse import dataset_key, step_key
from datapipe.execute.shards import RunJobs, worth_cutting
from datapipe.lineage.store import Lineage

log = logging.getLogger("datapipe.execute")


class Session:
    """One run: the rows so far, and the recorder that writes down what is done to them."""

    def __init__(self, plan: Plan, seed: int, lineage: Lineage, run_jobs: RunJobs) -> None:
        self.plan = plan
        self.run_jobs = run_jobs
        self.seed = seed
        self.lineage = lineage
        self.recorder = Recorder(plan, seed, lineage)
        self.keeper = self.recorder.keeper
        self.progress = Progress(plan, lineage)
        self.data: Dataset = empty()
        self._woven = False  # whether rows were joined or multiplied, so that ids tell too little

    def __enter__(self) -> Self:
        self.recorder.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None and not isinstance(error, GateClosed):
                with contextlib.suppress(ExecutionError):  # the first error is the one to tell
                    self.recorder.failed(str(getattr(error, "code", type(error).__name__)))
        finally:
            shutil.rmtree(self.keeper.scratch, ignore_errors=True)

    def lead(self, opened: Opened, steps: Sequence[PlannedStep]) -> None:
        """Read the sources through the leading row stages, or take an earlier result."""
        handed = opened.handed(self.lineage)
        if handed is not None:
            self.recorder.handed(handed)
            self._woven = handed.multiplied
            if not steps:
                data = handed.data
                self.data = data if data.path is not None else self.keeper.dataset(data)
                self.recorder.given(self.data)
                return
        start, rows = ("", None) if handed is None else (handed.key, len(handed.data))
        keys = self._chain(list(opened.keys), steps, start=start)
        if self._taken(steps, keys, before=None, given=rows):
            return
        with timed(steps[0].stage) as clock:
            lazy, yields = opened.numbered(self.lineage)
            acted = [act(s.stage, y) for s, y in zip(steps, yields, strict=False)]
            read = applied(lazy, acted)
            out, asides = self._fused(read, steps[len(yields) :], keys)
        outcomes = [self._outcome(a, y) for a, y in zip(acted, yields, strict=True)]
        columns = planned_edges([s.stage for s in steps], read.roles, read.types)
        done = GroupDone(steps, keys, [*outcomes, *asides], None, out, clock, columns=columns)
        self._done(replace(done, given=rows))

    def group(self, steps: Sequence[PlannedStep]) -> None:
        """Run one group on the rows so far, or take an earlier result."""
        fused = steps[0].shape == "row"
        keys = (
            self._chain([], steps, start=dataset_key(self.data))
            if fused
            else [self._key(s.stage) for s in steps]
        )
        if self._taken(steps, keys, before=self.data):
            return
        acted: list[Acted] = []
        columns: list[list[Edge]] = []
        with timed(steps[0].stage, self.data.names) as clock:
            if fused:
                out, outcomes = self._fused(self.data, steps, keys)
                columns = planned_edges([s.stage for s in steps], self.data.roles, self.data.types)
            else:
                yields = [self._timed(s, clock) for s in steps]
                stages = [s.stage for s in steps]
                acted = self._acted(stages, yields)
                columns = [self._passed(y, a) for y, a in zip(yields, acted, strict=True)]
                rows, acted = together(self.data, stages, yields, acted)
                moved = applied(rows, acted)
                out = moved if moved.path is not None else self.keeper.dataset(moved)
                acted, edges = self._told(stages, yields, acted, out)
                outcomes = [self._outcome(a, y) for a, y in zip(acted, yields, strict=True)]
                outcomes[-1] = replace(outcomes[-1], edges=edges)
        self._done(GroupDone(steps, keys, outcomes, self.data, out, clock, columns=columns))
        self._stop([f for a in acted for f in a.stop])

    def _acted(self, stages: Sequence[Stage], yields: Sequence[Yield]) -> list[Acted]:
        """What the findings of a group lead to, all of it about rows that were there."""
        acted = [act(s, y, self.data) for s, y in zip(stages, yields, strict=True)]
        if any(a.set_aside.height or a.label_changes.height for a in acted):
            ids = self.data.row_ids
            for stage, decided in zip(stages, acted, strict=True):
                known(stage, decided, ids)
        return acted

    def _told(
        self, stages: Sequence[Stage], yields: Sequence[Yield], acted: Sequence[Acted], out: Dataset
    ) -> tuple[list[Acted], str]:
        """Tell of rows that a stage which gave rows of its own left out, joined or multiplied."""
        own = [i for i, y in enumerate(yields) if y.data is not None]
        own = [i for i in own if not same_rows(self.data, yields[i].data or self.data)]
        if not own and not self._woven:
            return list(acted), ""
        if own:
            no_strangers(" and ".join(stages[i].name for i in own), self.data, out)
        told = pl.concat([a.set_aside["row_id"] for a in acted])
        more = woven(self.data, out, [told])
        acted = [
            replace(a, set_aside=a.set_aside.unique("row_id", maintain_order=True)) for a in acted
        ]
        if more.left_out.height:
            at = own[-1] if own else -1
            both = pl.concat([acted[at].set_aside, more.left_out], how="vertical_relaxed")
            acted[at] = replace(acted[at], set_aside=both)
        return acted, self.keeper.table(more.edges)

    def _passed(self, made: Yield, acted: Acted) -> list[Edge]:
        """What a whole stage did to columns; of rows that it made itself nothing is known."""
        if made.data is not None and made.data is not self.data:
            return []
        changed = acted.label_changes.height > 0
        return passed_edges(relabelled=self.data.roles.all("label")[:1] if changed else ())

    def _fused(
        self, data: Dataset, steps: Sequence[PlannedStep], keys: Sequence[str]
    ) -> tuple[Dataset, list[Outcome]]:
        """Row stages in streaming passes, and a table of the rows each one set aside."""
        stages = [s.stage for s in steps if isinstance(s.stage, RowStage)]
        fused = fuse(data, stages)
        if worth_cutting(data):
            path, digest, dropped = self.keeper.shards(data, stages, keys, self.run_jobs)
            out = stored(path, digest, fused.roles, data.sources)
        else:
            out = self.keeper.dataset(data.with_frame(fused.kept, roles=fused.roles))
            dropped = fused.left()
        asides = fused.asides(dropped, len(steps), once=self._woven)
        outcomes = [
            Outcome(aside=self.keeper.aside(a, data.sources), rows_aside=a.height) for a in asides
        ]
        if self._woven and asides:
            edges = woven(data, out, [a["row_id"] for a in asides]).edges
            outcomes[-1] = replace(outcomes[-1], edges=self.keeper.table(edges))
        return out, outcomes

    def _timed(self, step: PlannedStep, clock: Clock) -> Yield:
        wall, cpu = time.perf_counter(), time.process_time()
        made = self._run(step)
        clock.parts.append((time.perf_counter() - wall, time.process_time() - cpu))
        return made

    def _run(self, step: PlannedStep) -> Yield:
        """Run one whole stage; a gate that closes is recorded before it ends the run."""
        folder = self.keeper.scratch / uuid.uuid4().hex[:8]
        folder.mkdir()
        try:
            context = context_of(step.stage, self.seed, folder, self.recorder, self.data)
            return run_whole(step.stage, self.data, context)
        except GateClosed as closed:
            own = [f for f in closed.findings if f.kind == "gate"]
            self.recorder.gate_closed(step, self.data, own)
            closed.run = self.recorder.close(self.data, "stopped", closed.code)
            raise

    def _stop(self, findings: Sequence[Finding]) -> None:
        """A failed finding of a stage with `on_finding="stop"` ends the run."""
        if findings:
            raise GateClosed(
                f"{findings[0].kind}: {findings[0].says}",
                code="DP-GATE-002",
                hint="on_finding='stop' ends the run on a failed finding; see datapipe report",
                findings=findings,
                run=self.recorder.close(self.data, "stopped", "DP-GATE-002"),
            )

    def _key(self, stage: Stage) -> str:
        if not stage.cacheable():
            return ""
        return step_key(
            stage,
            inputs=[dataset_key(self.data)],
            seed=derived_seed(self.seed, stage.name),
            findings=[f for f, _, _ in self.recorder.findings] if "findings" in stage.uses else (),
            artifacts=self.recorder.artifacts if "model" in stage.uses else None,
        )

    def _chain(self, keys: list[str], steps: Sequence[PlannedStep], *, start: str) -> list[str]:
        """Keys of fused steps: each row stage's key rests on the one before it."""
        before = [start] if start else list(keys)
        for step in steps[len(keys) :]:
            key = step_key(step.stage, inputs=before, seed=derived_seed(self.seed, step.stage.name))
            keys.append(key if step.stage.cacheable() else "")
            before = [key]
        return keys

    def _taken(
        self,
        steps: Sequence[PlannedStep],
        keys: Sequence[str],
        *,
        before: Dataset | None,
        given: int | None = None,
    ) -> bool:
        """Use earlier results when all of these keys were met together and nothing is lost."""
        group = digest_json(list(keys))
        found: list[dict[str, Any]] = []
        for key in keys:
            earlier = self.lineage.find_step(key) if key else None
            if earlier is None or earlier["result"].get("group") != group:
                return False
            found.append(earlier)
        results = [f["result"] for f in found]
        outcomes = [outcome_of(r, self.lineage) for r in results]
        last = results[-1]
        path = self.lineage.object_path(last["dataset_out"])
        kept = [o for o in outcomes if o is not None]
        if path is None or len(kept) != len(outcomes):
            log.warning(
                "%s: its earlier result is gone from the store; running it again",
                steps[0].stage.name,
            )
            return False
        sources = [Source.from_json(s) for s in last["sources"]]
        out = stored(
            path,
            last["dataset_out"],
            Roles({r: tuple(c) for r, c in last["roles"].items()}),
            sources,
            kept=True,
        )
        origins = [str(f["reused_from"] or f["step_id"]) for f in found]
        self._done(GroupDone(steps, keys, kept, before, out, Clock(), origins, given=given))
        return True

    def _outcome(self, acted: Acted, made: Yield) -> Outcome:
        """Store everything a whole stage gave back."""
        kept = [self.keeper.artifact(a) for a in made.artifacts]
        findings = [
            (f, "" if f.rows is None else self.keeper.table(f.rows)) for f in acted.findings
        ]
        return Outcome(
            tuple(findings),
            tuple(artifact for artifact, _ in kept),
            self.keeper.table(acted.set_aside),
            acted.set_aside.height,
            self.keeper.table(acted.label_changes),
            self.keeper.table(acted.weights),
            made.privacy,
            {artifact.name: rows for artifact, rows in kept if rows},
        )

    def _done(self, done: GroupDone) -> None:
        self.recorder.group(done)
        self.data = done.out
        self._woven = self._woven or any(o.edges for o in done.outcomes)
        self.progress.done(done)
