# SPDX-License-Identifier: Apache-2.0
"""The local executor: runs a plan group by group and records every step it takes.

A group is one stage or several parallel ones. Readers and the row stages behind them become one
streaming plan; every other group sees a stored data set. A group whose keys were seen before is
taken from the store without reading a byte of data.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset, empty
from datapipe.core.digest import digest_json
from datapipe.core.finding import Finding, Verdict, with_q_values, worst
from datapipe.core.pipeline import Plan, PlannedStep
from datapipe.core.roles import ORDINAL_BITS, ROW_ID, Roles
from datapipe.core.run import Run, StepRecord
from datapipe.core.source import Source
from datapipe.core.stage import Reader, RowStage, Stage, Yield
from datapipe.errors import DatapipeError, ExecutionError, GateClosed, Malformed
from datapipe.execute.act import Acted, act, applied
from datapipe.execute.attest import StepDone, environment, sign_run
from datapipe.execute.fuse import CODE, Fused, fuse
from datapipe.execute.opening import Opened, open_readers
from datapipe.execute.record import (
    Keeper,
    Outcome,
    artifact_records,
    dataset_record,
    finding_record,
    now,
    outcome_of,
    stored,
)
from datapipe.execute.reuse import FileDigests, dataset_key, source_digest, step_key
from datapipe.execute.scores import row_findings
from datapipe.lineage.store import Lineage

log = logging.getLogger("datapipe.execute")


class LocalExecutor:
    """Runs a plan in this process.

    Example:
        >>> LocalExecutor().run.__name__
        'run'
    """

    def run(self, plan: Plan, *, data: Dataset | None, seed: int, store: Path) -> Run:
        """Run every step of a plan and record it in a store.

        Args:
            plan: What to run.
            data: Rows to start from, when the plan has no reader.
            seed: Seed of the run.
            store: Folder of the store; made once the input has been found readable.

        Returns:
            The finished run.

        Raises:
            DatapipeError: Of the class that says what to do next; the run is recorded as stopped
                or failed, and what was acknowledged stays.

        Example:
            >>> # LocalExecutor().run(pipeline.plan(), data=None, seed=7, store=Path("s"))
        """
        digests = FileDigests(store / "cache" / "files.json")
        first, rest = _segments(plan)
        opened = open_readers(first, data, digests, seed=seed, store=store)
        with _Session(plan, seed, Lineage(store, create=True)) as session:
            session.begin(opened, first)
            for group in rest:
                session.group(group)
            digests.save()
            return session.finish()


def _segments(plan: Plan) -> tuple[list[list[PlannedStep]], list[list[PlannedStep]]]:
    """The leading groups of readers and row stages, fused into one plan, and the groups after."""
    groups = plan.groups()
    cut = 0
    while cut < len(groups) and groups[cut][0].shape in ("read", "row"):
        cut += 1
    return groups[:cut], groups[cut:]


class _Session:
    """One run: what has been done so far, and the store it is written to."""

    def __init__(self, plan: Plan, seed: int, lineage: Lineage) -> None:
        self.plan = plan
        self.seed = seed
        self.lineage = lineage
        self.run_id = uuid.uuid4().hex[:12]
        self.scratch = lineage.scratch()
        self.keeper = Keeper(lineage, self.scratch)
        self.started = now()
        self.data: Dataset = empty()
        self.findings: list[tuple[Finding, str, str]] = []
        self.artifacts: dict[str, Artifact] = {}
        self.ancestors: list[str] = []
        self.done: list[StepDone] = []
        self.steps: list[StepRecord] = []

    def __enter__(self) -> _Session:
        body = {
            "run_id": self.run_id,
            "pipeline": self.plan.pipeline,
            "seed": self.seed,
            "started_at": self.started,
            "code_digest": digest_json([s.stage.code_digest() for s in self.plan.steps]),
            "environment": {**environment().packages, "python": environment().python},
            "params": [{"stage": s.stage.name, **s.stage.params()} for s in self.plan.steps],
        }
        self.lineage.append([("runs", body), self._event("started")])
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        try:
            if error is not None:
                event = "stopped" if isinstance(error, GateClosed) else "failed"
                code = getattr(error, "code", kind.__name__)
                self.lineage.append([self._event(event, {"code": code})])
                self.lineage.index()
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _event(self, event: str, detail: Mapping[str, Any] | None = None) -> tuple[str, Any]:
        body = {"run_id": self.run_id, "event": event, "recorded_at": now(), "detail": detail or {}}
        return ("run_events", body)

    # -- the leading plan: readers and row stages ------------------------------------------------

    def begin(self, opened: Opened, groups: Sequence[Sequence[PlannedStep]]) -> None:
        """Read the sources through the leading row stages, or take an earlier result."""
        steps = [s for group in groups for s in group]
        if not steps:
            data, _ = opened.numbered(self.lineage)
            self.data = data if data.path is not None else self.keeper.dataset(data)
            ids = self._ids(f"{self.run_id}/data")
            self.lineage.append([*self._source_records(), dataset_record(self.data, ids, [])])
            return
        keys = _chain(opened.keys, steps, self.seed, start=opened.start)
        found = self._found(keys, digest_json(keys))
        if found is not None:
            self._take(steps, keys, found)
            return
        with self._clock(steps[-1].stage) as clock:
            lazy, yields = opened.numbered(self.lineage)
            acted = [act(s.stage, y) for s, y in zip(steps, yields, strict=False)]
            read = applied(lazy, acted)
            fused = fuse(read, [s.stage for s in steps if isinstance(s.stage, RowStage)])
            out = self.keeper.dataset(read.with_frame(fused.kept, roles=fused.roles))
            asides = self._row_asides(fused, [s for s in steps if s.shape == "row"])
        reads = [self._outcome(a, y) for a, y in zip(acted, yields, strict=True)]
        rows = [Outcome(aside=d, rows_aside=n) for d, n in asides]
        self._record(steps, keys, [*reads, *rows], out, clock, counted=True)

    def _row_asides(self, fused: Fused, steps: Sequence[PlannedStep]) -> list[tuple[str, int]]:
        """One stored table of set-aside rows for each row stage."""
        if fused.dropped is None:
            return [("", 0)] * len(steps)
        dropped = fused.dropped.collect(engine="streaming")
        kept: list[tuple[str, int]] = []
        for place in range(len(steps)):
            mine = {c: reason for c, (p, reason) in fused.reasons.items() if p == place}
            left = dropped.filter(pl.col(CODE).is_in(list(mine))) if mine else dropped.clear()
            words = pl.col(CODE).replace_strict(mine, return_dtype=pl.Categorical()) if mine else CODE
            table = left.select("row_id", pl.lit(words).alias("reason") if not mine else words.alias("reason"))
            kept.append((self.keeper.table(table), left.height))
        return kept

    # -- the groups behind it --------------------------------------------------------------------

    def group(self, steps: Sequence[PlannedStep]) -> None:
        """Run one group on the rows so far, or take an earlier result."""
        if steps[0].shape == "row":
            self._row_group(steps)
            return
        keys = [self._key(s.stage) for s in steps]
        found = self._found(keys, digest_json(keys))
        if found is not None:
            self._take(steps, keys, found)
            return
        with self._clock(steps[0].stage) as clock:
            yields = [self._run(s.stage) for s in steps]
            acted = [act(s.stage, y) for s, y in zip(steps, yields, strict=True)]
            outcomes = [self._outcome(a, y) for a, y in zip(acted, yields, strict=True)]
            moved = applied(self._moved(yields), acted)
            out = moved if moved.path is not None else self.keeper.dataset(moved)
        self._record(steps, keys, outcomes, out, clock)
        stop = [f for a in acted for f in a.stop]
        if stop:
            self._close()
            raise GateClosed(
                f"{stop[0].kind}: {stop[0].says}",
                code="DP-GATE-002",
                hint="on_finding='stop' ends the run on a failed finding; see datapipe report",
                findings=stop,
                run=self._result(),
            )

    def _row_group(self, steps: Sequence[PlannedStep]) -> None:
        """Row stages behind a whole stage: the same fused plan over a stored data set."""
        keys = _chain([], steps, self.seed, start=dataset_key(self.data))
        found = self._found(keys, digest_json(keys))
        if found is not None:
            self._take(steps, keys, found)
            return
        with self._clock(steps[0].stage) as clock:
            fused = fuse(self.data, [s.stage for s in steps if isinstance(s.stage, RowStage)])
            out = self.keeper.dataset(self.data.with_frame(fused.kept, roles=fused.roles))
            asides = self._row_asides(fused, steps)
        outcomes = [Outcome(aside=d, rows_aside=n) for d, n in asides]
        self._record(steps, keys, outcomes, out, clock)

    def _run(self, stage: Stage) -> Yield:
        """Run one whole stage; an error that is not ours becomes one that says where."""
        folder = self.scratch / uuid.uuid4().hex[:8]
        folder.mkdir()
        try:
            return stage.run(self.data, self._context(stage, folder))
        except GateClosed as closed:
            self._stopped(stage, closed)
            raise
        except (DatapipeError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise ExecutionError(
                f"{stage.name} failed: {type(error).__name__}: {_first_line(error)}",
                code="DP-EXEC-001",
                hint="run again with -vv for the traceback; if the data is fine this is a bug in the stage",
                stage=stage.name,
            ) from error

    def _context(self, stage: Stage, folder: Path) -> Context:
        reads = set(stage.uses)
        return Context(
            seed=self._seed(stage),
            scratch=folder,
            findings=[f for f, _, _ in self.findings] if "findings" in reads else (),
            artifacts=dict(self.artifacts) if "model" in reads else {},
            privacy_spent=self._spent() if "privacy" in reads else 0.0,
            say=lambda line: log.info("%s: %s", stage.name, line),
        )

    def _seed(self, stage: Stage) -> int:
        return derived_seed(self.seed, stage.name)

    def _key(self, stage: Stage) -> str:
        reads = set(stage.uses)
        return step_key(
            stage,
            inputs=[dataset_key(self.data)],
            seed=self._seed(stage),
            findings=[f for f, _, _ in self.findings] if "findings" in reads else (),
            artifacts=self.artifacts if "model" in reads else None,
        )

    def _spent(self) -> float:
        """Epsilon already charged to any data set that shares a source with this one."""
        numbers = [s.number for s in self.data.sources]
        self.lineage.index()
        found = self.lineage.sql(
            "select coalesce(sum(epsilon), 0.0) as spent from privacy_events where dataset in ("
            " select digest from datasets where list_has_any("
            "  cast(source_nos as bigint[]), cast($numbers as bigint[])))",
            numbers=numbers,
        )
        return float(found["spent"][0])

    def _moved(self, yields: Sequence[Yield]) -> Dataset:
        """The data after a group: that of the one stage that changed it, sources updated."""
        changed = [y.data for y in yields if y.data is not None]
        return changed[-1] if changed else self.data

    # -- results ---------------------------------------------------------------------------------

    def _found(self, keys: Sequence[str], group: str) -> list[dict[str, Any]] | None:
        """Earlier steps with all of these keys, made together, whose objects are still there."""
        if not all(keys):
            return None
        found = [self.lineage.find_step(key) for key in keys]
        steps = [f for f in found if f is not None and f["result"].get("group") == group]
        return steps if len(steps) == len(keys) else None

    def _take(self, steps: Sequence[PlannedStep], keys: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
        """Use earlier results instead of running the steps."""
        outcomes = [outcome_of(f["result"], self.lineage) for f in found]
        last = found[-1]["result"]
        path = self.lineage.object_path(last["dataset_out"])
        if path is None or any(o is None for o in outcomes):
            raise ExecutionError(
                f"the store lost the result of {steps[0].stage.name}",
                code="DP-EXEC-002",
                hint="datapipe verify names the missing objects; use another --store to run again",
            )
        sources = [Source.from_json(s) for s in last["sources"]]
        roles = Roles({r: tuple(c) for r, c in last["roles"].items()})
        out = stored(path, last["dataset_out"], roles, sources)
        origins = [str(f["reused_from"] or f["step_id"]) for f in found]
        counted = any(s.shape == "read" for s in steps)
        kept = [o for o in outcomes if o is not None]
        self._record(steps, keys, kept, out, _Clock(), origins=origins, counted=counted)

    def _outcome(self, acted: Acted, made: Yield) -> Outcome:
        """Store everything a whole stage gave back."""
        artifacts, trained = [], {}
        for artifact in made.artifacts:
            kept, rows = self.keeper.artifact(artifact)
            artifacts.append(kept)
            if rows:
                trained[kept.name] = rows
        findings = tuple(
            (f, "" if f.rows is None else self.keeper.table(f.rows)) for f in acted.findings
        )
        return Outcome(
            findings,
            tuple(artifacts),
            self.keeper.table(acted.set_aside),
            acted.set_aside.height,
            self.keeper.table(acted.label_changes),
            self.keeper.table(acted.weights),
            made.privacy,
            trained,
        )

    def _record(
        self,
        steps: Sequence[PlannedStep],
        keys: Sequence[str],
        outcomes: Sequence[Outcome],
        out: Dataset,
        clock: _Clock,
        *,
        origins: Sequence[str] = (),
        counted: bool = False,
    ) -> None:
        """Append the records of a finished group, in one acknowledged write."""
        before = self.data if not counted else None
        records: list[tuple[str, Mapping[str, Any]]] = []
        ids = [f"{self.run_id}/{s.position}" for s in steps]
        rows = sum(s.rows for s in out.sources) if counted else len(self.data)
        shared = {
            "group": digest_json(list(keys)),
            "dataset_out": out.digest,
            "sources": [s.to_json() for s in out.sources],
            "roles": out.roles.to_json(),
        }
        for i, (step, outcome) in enumerate(zip(steps, outcomes, strict=True)):
            parallel = step.shape == "whole"
            own = step.shape == "read"
            rows_in = out.sources[i].rows if own and i < len(out.sources) else rows
            rows_out = rows_in - outcome.rows_aside
            if step.shape == "whole":
                rows_out = len(out) if len(steps) == 1 else rows_in - outcome.rows_aside
            rows = rows if own or parallel else rows_out
            record = self._step_record(step, keys[i], outcome, clock, share=1 / len(steps))
            record |= {
                "rows_in": rows_in,
                "rows_out": rows_out,
                "reused_from": origins[i] if origins else None,
                "dataset_in": "" if before is None else before.digest,
                "dataset_out": out.digest,
                "result": {**outcome.to_json(), **shared},
            }
            records.append(("steps", record))
            self.done.append(
                StepDone(step.stage, rows_in, rows_out, outcome.rows_aside, tuple(f for f, _ in outcome.findings), bool(origins))
            )
            self.steps.append(
                StepRecord(ids[i], step.stage.name, rows_in, rows_out, outcome.rows_aside, clock.seconds / len(steps), bool(origins))
            )
            self.findings += [(f, digest, ids[i]) for f, digest in outcome.findings]
            self.artifacts |= {a.name: a for a in outcome.artifacts}
            records += self._io_records(ids[i], before, out, outcome)
            if not origins:
                records += self._row_records(ids[i], outcome)
            records += artifact_records(outcome, self.data, self._ids(ids[i]), self.keeper)
        self.ancestors += list(origins or ids)
        if counted:
            records += self._source_records(out)
        self.data = out
        records.append(dataset_record(out, self._ids(ids[-1]), self.ancestors))
        self.lineage.append(records)

    def _ids(self, step_id: str) -> dict[str, str]:
        return {"step_id": step_id, "run_id": self.run_id}

    def _step_record(
        self, step: PlannedStep, key: str, outcome: Outcome, clock: _Clock, *, share: float
    ) -> dict[str, Any]:
        stage = step.stage
        return {
            **self._ids(f"{self.run_id}/{step.position}"),
            "position": step.position,
            "branch_group": step.group,
            "stage": stage.name,
            "version": stage.version,
            "shape": step.shape,
            "key": key if stage.cacheable() else "",
            "code_digest": stage.code_digest(),
            "params": stage.params(),
            "seed": self._seed(stage),
            "rows_aside": outcome.rows_aside,
            "seconds": clock.seconds * share,
            "cpu_seconds": clock.cpu_seconds * share,
            "peak_bytes": clock.peak_bytes,
            "recorded_at": now(),
        }

    def _io_records(
        self, step_id: str, before: Dataset | None, out: Dataset, outcome: Outcome
    ) -> list[tuple[str, Mapping[str, Any]]]:
        named = [("in", "rows", before.digest)] if before is not None else []
        named += [("out", "rows", out.digest)]
        named += [("sidecar", "set_aside", outcome.aside)] if outcome.aside else []
        named += [("rows", f.kind, digest) for f, digest in outcome.findings if digest]
        named += [("artifact", a.name, a.digest) for a in outcome.artifacts]
        ids = self._ids(step_id)
        return [("step_io", {**ids, "role": r, "name": n, "digest": d}) for r, n, d in named]

    def _row_records(self, step_id: str, outcome: Outcome) -> list[tuple[str, Mapping[str, Any]]]:
        ids = self._ids(step_id)
        records: list[tuple[str, Mapping[str, Any]]] = []
        if outcome.aside:
            records.append(("row_drops", {**ids, "object": outcome.aside, "rows": outcome.rows_aside}))
        if outcome.changes:
            records.append(("label_changes", {**ids, "object": outcome.changes, "changed_by": step_id}))
        first = len(self.findings) - len(outcome.findings)
        for i, (finding, digest) in enumerate(outcome.findings):
            if digest:
                named = {**ids, "finding_id": f"{self.run_id}/{first + i}", "kind": finding.kind}
                records.append(("row_findings", {**named, "object": digest}))
        return records

    def _source_records(self, data: Dataset | None = None) -> list[tuple[str, Mapping[str, Any]]]:
        records: list[tuple[str, Mapping[str, Any]]] = []
        for source in (data or self.data).sources:
            body = source.to_json()
            body["source_no"] = body.pop("number")
            body.pop("manifest")
            records.append(("sources", {**body, "run_id": self.run_id}))
        return records

    # -- the end ---------------------------------------------------------------------------------

    def finish(self) -> Run:
        """Record the findings, sign, checkpoint, index."""
        self._close()
        return self._result()

    def _close(self, event: str = "finished") -> None:
        verdict = self._verdict()
        judged = with_q_values([f for f, _, _ in self.findings])
        self.findings = [(q, d, s) for q, (_, d, s) in zip(judged, self.findings, strict=True)]
        records: list[tuple[str, Mapping[str, Any]]] = [
            finding_record(f, digest, self._ids(step), i)
            for i, (f, digest, step) in enumerate(self.findings)
        ]
        if event == "finished":
            records.append(self._event(event, {"verdict": verdict}))
        self.lineage.append(records)
        facts = {
            "run_id": self.run_id,
            "pipeline": self.plan.pipeline,
            "seed": self.seed,
            "verdict": verdict,
            "started_at": self.started,
            "finished_at": now(),
        }
        sign_run(self.lineage, facts, self.done, judged, self.data, list(self.artifacts.values()))
        self.lineage.index()

    def _stopped(self, stage: Stage, closed: GateClosed) -> None:
        """A gate said no: record its finding, sign what was done, hand the run to the error."""
        position = next(s.position for s in self.plan.steps if s.stage is stage)
        step_id = f"{self.run_id}/{position}"
        own = [f for f in closed.findings if isinstance(f, Finding) and f.kind == "gate"]
        self.findings += [(f, "", step_id) for f in own]
        planned = self.plan.steps[position]
        record = self._step_record(planned, "", Outcome(), _Clock(), share=1)
        record |= {
            "rows_in": len(self.data),
            "rows_out": 0,
            "reused_from": None,
            "dataset_in": self.data.digest,
            "dataset_out": "",
            "result": {},
        }
        self.lineage.append([("steps", record)])
        self.steps.append(StepRecord(step_id, stage.name, len(self.data), 0, 0, 0.0, reused=False))
        self._close("stopped")
        closed.run = self._result()

    def _verdict(self) -> Verdict:
        return worst(f.verdict for f, _, _ in self.findings)

    def _result(self) -> Run:
        scored = [(f.kind, digest) for f, digest, _ in self.findings if digest]
        return Run(
            self.run_id,
            self.plan.pipeline,
            self._verdict(),
            tuple(f for f, _, _ in self.findings),
            self.data,
            dict(self.artifacts),
            tuple(self.steps),
            self.lineage.store,
            self.lineage,
            row_findings(self.lineage, scored),
        )

    @contextlib.contextmanager
    def _clock(self, stage: Stage) -> Iterator[_Clock]:
        """Time a group; engine errors while reading are the data's fault, others the step's."""
        clock = _Clock()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield clock
        except pl.exceptions.PolarsError as error:
            raise Malformed(
                f"{stage.name}: the rows cannot be read or computed: {_first_line(error)}",
                code="DP-DATA-020",
                hint="datapipe audit FILE reads the file on its own and names the place",
            ) from error
        except OSError as error:
            raise ExecutionError(
                f"{stage.name}: {error.strerror or _first_line(error)}"
                + (f": {error.filename}" if error.filename else ""),
                code="DP-EXEC-003",
                hint="free some space or mend the disk, then run again: finished steps are reused",
                stage=stage.name,
            ) from error
        clock.seconds = time.perf_counter() - wall
        clock.cpu_seconds = time.process_time() - cpu
        clock.peak_bytes = _peak()


@dataclass
class _Clock:
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def _peak() -> int:
    """Peak memory of this process in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _chain(
    reads: Sequence[str], steps: Sequence[PlannedStep], seed: int, *, start: str = ""
) -> list[str]:
    """Keys of fused steps: each row stage's key rests on the one before it."""
    keys = list(reads)
    before = [start] if start else list(reads)
    for step in steps[len(keys) :]:
        own = derived_seed(seed, step.stage.name)
        key = step_key(step.stage, inputs=before, seed=own) if step.stage.cacheable() else ""
        keys.append(key)
        before = [key]
    return keys


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else "no message"
