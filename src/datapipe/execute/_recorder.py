# SPDX-License-Identifier: Apache-2.0
"""Writing a run down while it happens: steps, rows, findings, models, and what signs it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datapipe.core.artifact import Artifact
from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_json
from datapipe.core.finding import Finding, Verdict, standing, with_q_values, worst
from datapipe.core.pipeline import Plan, PlannedStep
from datapipe.core.run import Run, StepRecord
from datapipe.execute._attest import StepDone, environment, sign_run
from datapipe.execute._clock import Clock
from datapipe.execute._ends import ends_of
from datapipe.execute._group import GroupDone
from datapipe.execute._handed import STAGE as HANDOVER
from datapipe.execute._handed import Handed
from datapipe.execute._record import (
    Keeper,
    Outcome,
    Record,
    artifact_records,
    dataset_record,
    finding_record,
    now,
)
from datapipe.execute.columns import Edge
from datapipe.execute.scores import row_findings
from datapipe.lineage.recall import FEW_RECORDS
from datapipe.lineage.store import Lineage


class Recorder:
    """The record of one run, appended group by group.

    Args:
        plan: What is run.
        seed: Seed of the run.
        lineage: The store.

    Example:
        >>> import tempfile
        >>> from datapipe.core.roles import Roles
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> len(Recorder(Plan("p", (), Roles()), 7, store).run_id)
        12
    """

    def __init__(self, plan: Plan, seed: int, lineage: Lineage) -> None:
        self.plan = plan
        self.seed = seed
        self.lineage = lineage
        self.run_id = uuid.uuid4().hex[:12]
        self.keeper = Keeper(lineage, lineage.scratch())
        self.started = now()
        self._code = {id(s.stage): s.stage.code_digest() for s in plan.steps}
        self.findings: list[tuple[Finding, str, str]] = []
        self.artifacts: dict[str, Artifact] = {}
        self._ancestors: list[str] = []
        self._done: list[StepDone] = []
        self._steps: list[StepRecord] = []
        self._begun = 0

    def begin(self) -> None:
        """Acknowledge that the run has started."""
        body = {
            "run_id": self.run_id,
            "pipeline": self.plan.pipeline,
            "seed": self.seed,
            "started_at": self.started,
            "code_digest": digest_json([self._code[id(s.stage)] for s in self.plan.steps]),
            "environment": {**environment().packages, "python": environment().python},
            "params": [{"stage": s.stage.name, **s.stage.params()} for s in self.plan.steps],
        }
        self._begun, _ = self.lineage.root()
        self.lineage.append([("runs", body), self._event("started")])

    def failed(self, code: str) -> None:
        """Record that the run ended on an error.

        Args:
            code: The error's code.
        """
        self.lineage.append([self._event("failed", {"code": code})])
        self._index()

    def handed(self, handed: Handed) -> None:
        """Take over the steps that led to the caller's rows, and record what he left out of them.

        Args:
            handed: What his rows are.
        """
        self._ancestors += handed.before
        if handed.change is None:
            return
        ids = self._ids(f"{self.run_id}/data")
        again = self.lineage.find_step(handed.change_key)
        origin = None if again is None else str(again["step_id"])
        left = handed.change.left_out
        numbers = [s.number for s in handed.data.sources]
        told = {"taken_from": handed.taken_from}
        body = {
            **ids,
            "position": -1,
            "branch_group": -1,
            "stage": HANDOVER,
            "shape": "given",
            "key": handed.change_key,
            "params": told,
            "seed": self.seed,
            "rows_in": handed.rows_before,
            "rows_out": len(handed.data),
            "rows_aside": left.height if again is None else again["rows_aside"],
            "reused_from": origin,
            "dataset_in": handed.taken_from,
            "recorded_at": now(),
            "result": {
                **told,
                "before": list(handed.before),
                "numbers": numbers,
                "multiplied": handed.multiplied,
            },
        }
        records: list[Record] = [("steps", body)]
        if handed.taken_from:
            named = {"role": "in", "name": "rows", "digest": handed.taken_from}
            records.append(("step_io", {**ids, **named}))
        if again is None:
            aside = self.keeper.aside(left, handed.data.sources)
            outcome = Outcome(aside=aside, rows_aside=left.height)
            outcome = replace(outcome, edges=self.keeper.table(handed.change.edges))
            records += self._rows(ids["step_id"], outcome)
        self.lineage.append(records)
        self._ancestors.append(origin or ids["step_id"])

    def given(self, data: Dataset) -> None:
        """Record rows that the caller gave and no reader read.

        Args:
            data: The stored rows.
        """
        ids = self._ids(f"{self.run_id}/data")
        self.lineage.append([*self._sources(data), dataset_record(data, ids, self._ancestors)])

    def group(self, done: GroupDone) -> None:
        """Record a finished group in one acknowledged write.

        Args:
            done: The group.
        """
        records: list[Record] = []
        before = done.before if done.before is not None else done.out
        ids = [f"{self.run_id}/{s.position}" for s in done.steps]
        for i, (rows_in, rows_out) in enumerate(done.counts()):
            records.append(("steps", self._step(done, i, rows_in, rows_out)))
            records += self._io(ids[i], done.before, done.out, done.outcomes[i])
            if not done.origins:
                records += self._rows(ids[i], done.outcomes[i])
                records += self._columns(ids[i], done.columns[i] if done.columns else ())
            self._remember(done, i, rows_in, rows_out)
            ids_of_step = self._ids(ids[i])
            records += artifact_records(done.outcomes[i], before, ids_of_step, self)
        self._ancestors += list(done.origins or ids)
        if done.before is None or done.out.sources != done.before.sources:
            records += self._sources(done.out)
        if done.before is None or done.out.digest != done.before.digest:
            records.append(dataset_record(done.out, self._ids(ids[-1]), self._ancestors))
        self.lineage.append(records)

    def gate_closed(self, step: PlannedStep, data: Dataset, findings: Sequence[Finding]) -> None:
        """Record a gate that said no.

        Args:
            step: The gate.
            data: The rows it judged.
            findings: Its own findings.
        """
        done = GroupDone([step], [""], [Outcome()], data, data, Clock())
        body = self._step(done, 0, len(data), 0)
        body |= {"rows_out": 0, "dataset_out": "", "result": {}}
        step_id = f"{self.run_id}/{step.position}"
        self.lineage.append([("steps", body)])
        self.findings += [(replace(f, look=step.group), "", step_id) for f in findings]
        self._steps.append(StepRecord(step_id, step.stage.name, len(data), 0, 0, 0.0, reused=False))

    def close(self, data: Dataset, event: str = "finished", code: str = "") -> Run:
        """Record the findings, sign the run, checkpoint the log.

        Args:
            data: The rows that are left.
            event: `finished` or `stopped`.
            code: Code of the error that stopped it, or empty.

        Returns:
            The run.
        """
        judged = with_q_values([f for f, _, _ in self.findings])
        self.findings = [(q, d, s) for q, (_, d, s) in zip(judged, self.findings, strict=True)]
        records: list[Record] = [
            finding_record(f, digest, self._ids(step), i)
            for i, (f, digest, step) in enumerate(self.findings)
        ]
        detail = {"verdict": self.verdict, **({"code": code} if code else {})}
        self.lineage.append([*records, self._event(event, detail)])
        facts = {
            "run_id": self.run_id,
            "pipeline": self.plan.pipeline,
            "seed": self.seed,
            "verdict": self.verdict,
            "started_at": self.started,
            "finished_at": now(),
        }
        artifacts = list(self.artifacts.values())
        sign_run(
            self.lineage,
            facts,
            steps=self._done,
            findings=judged,
            data=data,
            artifacts=artifacts,
        )
        self._index()
        return self._result(data)

    def _index(self) -> None:
        """Leave the index to whoever asks next, unless the journal has grown long meanwhile.

        Each time the journal passes another so many records, the run that took it there brings the
        index up to date: one commit serves many small runs, and nobody has much to catch up with.
        """
        size, _ = self.lineage.root()
        if size // FEW_RECORDS > self._begun // FEW_RECORDS:
            self.lineage.index()
        else:
            self.lineage.index_later()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict among the newest look at each kind: a second look counts."""
        return worst(f.verdict for f in standing(f for f, _, _ in self.findings))

    def _result(self, data: Dataset) -> Run:
        scored = [(f.kind, digest) for f, digest, _ in self.findings if digest]
        return Run(
            self.run_id,
            self.plan.pipeline,
            self.verdict,
            tuple(f for f, _, _ in self.findings),
            data,
            dict(self.artifacts),
            tuple(self._steps),
            self.lineage.store,
            self.lineage,
            row_findings(self.lineage, scored),
        )

    def _ids(self, step_id: str) -> dict[str, str]:
        return {"step_id": step_id, "run_id": self.run_id}

    def _event(self, event: str, detail: Mapping[str, Any] | None = None) -> Record:
        body = {"run_id": self.run_id, "event": event, "recorded_at": now(), "detail": detail or {}}
        return ("run_events", body)

    def _step(self, done: GroupDone, i: int, rows_in: int, rows_out: int) -> dict[str, Any]:
        step, outcome = done.steps[i], done.outcomes[i]
        seconds, cpu_seconds = done.clock.of(i, len(done.steps))
        stage, result = step.stage, {**outcome.to_json(), **done.shared}
        return {
            **self._ids(f"{self.run_id}/{step.position}"),
            "position": step.position,
            "branch_group": step.group,
            "stage": stage.name,
            "version": stage.version,
            "shape": step.shape,
            "key": done.keys[i],
            "code_digest": self._code[id(stage)],
            "params": stage.params(),
            "seed": self.seed,
            "rows_in": rows_in,
            "rows_out": rows_out,
            "rows_aside": outcome.rows_aside,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "peak_bytes": done.clock.peak_bytes,
            "reused_from": done.origins[i] if done.origins else None,
            "dataset_in": "" if done.before is None else done.before.digest,
            "dataset_out": done.out.digest,
            "recorded_at": now(),
            "result": result if done.origins else {**result, "ends": ends_of(result, self.lineage)},
        }

    def _remember(self, done: GroupDone, i: int, rows_in: int, rows_out: int) -> None:
        stage, outcome, reused = done.steps[i].stage, done.outcomes[i], bool(done.origins)
        step_id = f"{self.run_id}/{done.steps[i].position}"
        found = tuple(f for f, _ in outcome.findings)
        counts = (rows_in, rows_out, outcome.rows_aside)
        self._done.append(StepDone(stage, self._code[id(stage)], *counts, found, reused))
        seconds, _ = done.clock.of(i, len(done.steps))
        self._steps.append(
            StepRecord(step_id, stage.name, rows_in, rows_out, outcome.rows_aside, seconds, reused)
        )
        look = done.steps[i].group
        self.findings += [(replace(f, look=look), d, step_id) for f, d in outcome.findings]
        self.artifacts |= {a.name: a for a in outcome.artifacts}

    def _io(
        self, step_id: str, before: Dataset | None, out: Dataset, outcome: Outcome
    ) -> list[Record]:
        named = [("in", "rows", before.digest)] if before is not None else []
        named += [("out", "rows", out.digest)]
        named += [("sidecar", "set_aside", outcome.aside)] if outcome.aside else []
        named += [("sidecar", "edges", outcome.edges)] if outcome.edges else []
        named += [("rows", f.kind, digest) for f, digest in outcome.findings if digest]
        named += [("artifact", a.name, a.digest) for a in outcome.artifacts]
        ids = self._ids(step_id)
        return [("step_io", {**ids, "role": r, "name": n, "digest": d}) for r, n, d in named]

    def _rows(self, step_id: str, outcome: Outcome) -> list[Record]:
        """Row-level records; called before the step's findings are remembered."""
        ids = self._ids(step_id)
        records: list[Record] = []
        if outcome.aside:
            body = {**ids, "object": outcome.aside, "rows": outcome.rows_aside}
            records.append(("row_drops", body))
        if outcome.edges:
            records.append(("row_edges", {**ids, "object": outcome.edges}))
        if outcome.changes:
            body = {**ids, "object": outcome.changes, "changed_by": step_id}
            records.append(("label_changes", body))
        for i, (finding, digest) in enumerate(outcome.findings, start=len(self.findings)):
            if digest:
                named = {**ids, "finding_id": f"{self.run_id}/{i}", "kind": finding.kind}
                records.append(("row_findings", {**named, "object": digest}))
        return records

    def _columns(self, step_id: str, edges: Sequence[Edge]) -> list[Record]:
        ids, names = self._ids(step_id), ("column_out", "column_in", "how")
        return [
            ("column_lineage_edges", {**ids, **dict(zip(names, edge, strict=True))})
            for edge in edges
        ]

    def _sources(self, data: Dataset) -> list[Record]:
        records: list[Record] = []
        for source in data.sources:
            body = source.to_json()
            body["source_no"] = body.pop("number")
            body.pop("manifest")
            records.append(("sources", {**body, "run_id": self.run_id}))
        return records
