# SPDX-License-Identifier: Apache-2.0
"""What a run would take from the store and what it would do again, and why; no data is read.

Keys are made as in a run. Behind the first step that has to run nothing is known but that the rows
may be others, and that is what is said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datapipe.core.artifact import Artifact
from datapipe.core.context import derived_seed
from datapipe.core.digest import digest_json
from datapipe.core.finding import Finding
from datapipe.core.pipeline import Plan, PlannedStep
from datapipe.core.roles import Roles
from datapipe.core.source import Source
from datapipe.core.stage import Reader, Stage
from datapipe.errors import DatapipeError
from datapipe.execute._record import outcome_of, stored
from datapipe.execute.local import segments
from datapipe.execute.reuse import FileDigests, dataset_key, source_digest, step_key
from datapipe.lineage.store import Lineage

_BEFORE = """
select version, code_digest, params, seed from steps
where stage = $stage and reused_from is null and coalesce("key", '') <> '' order by seq desc limit 1
"""


@dataclass(frozen=True)
class Preview:
    """What a run would do about a step.

    Args:
        position: 0-based place of the step.
        reused: Whether its earlier result would be used.
        why: The reason, in a few words.

    Example:
        >>> Preview(0, False, "it never ran on this store").reused
        False
    """

    position: int
    reused: bool
    why: str


def preview(plan: Plan, *, seed: int, store: Path) -> list[Preview]:
    """Look what a run of a plan would reuse.

    Args:
        plan: The plan; its first stages are readers.
        seed: Seed of the run.
        store: Folder of the store; nothing is made there.

    Returns:
        A line for each step.

    Example:
        >>> preview(Plan("p", (), Roles()), seed=1, store=Path("nowhere"))
        []
    """
    if not (store / "journal").is_dir():
        return [Preview(s.position, False, f"there is no store in {store} yet") for s in plan.steps]
    return _Look(plan, seed, Lineage(store)).all()


class _Look:
    """The state of a run that only pretends: the key of its rows, findings and artifacts so far."""

    def __init__(self, plan: Plan, seed: int, lineage: Lineage) -> None:
        self.plan = plan
        self.seed = seed
        self.lineage = lineage
        self.rows = ""
        self.findings: list[Finding] = []
        self.artifacts: dict[str, Artifact] = {}

    def all(self) -> list[Preview]:
        lead, rest = segments(self.plan)
        told: list[Preview] = []
        blocked = ""
        for number, group in enumerate([[s for g in lead for s in g], *rest]):
            if not group:
                blocked = blocked or "the rows are given by the caller"
                continue
            if blocked:
                told += [Preview(s.position, False, blocked) for s in group]
                continue
            fresh = self._unread(group) if number == 0 else ""
            keys = [] if fresh else self._keys(group, lead=number == 0)
            if keys and self._taken(group, keys):
                told += [
                    Preview(s.position, True, "nothing it depends on has changed") for s in group
                ]
                continue
            told += [Preview(s.position, False, fresh or self._differs(s.stage)) for s in group]
            blocked = f"the rows may change: {group[0].stage.name} runs before it"
        return told

    def _unread(self, group: Sequence[PlannedStep]) -> str:
        """The first source whose content is not known without reading it."""
        digests = FileDigests(self.lineage.store / "cache" / "files.json")
        for step in group:
            if isinstance(step.stage, Reader):
                try:
                    new = [f for f in step.stage.files() if not digests.knows(f)]
                except (OSError, DatapipeError) as error:
                    return f"its source cannot be found: {str(error).splitlines()[0]}"
                if new:
                    return f"{new[0].name} is new or has changed"
        return ""

    def _keys(self, group: Sequence[PlannedStep], *, lead: bool) -> list[str]:
        if lead or group[0].shape == "row":
            return self._chained(group)
        return [self._key(s.stage) for s in group]

    def _chained(self, group: Sequence[PlannedStep]) -> list[str]:
        digests = FileDigests(self.lineage.store / "cache" / "files.json")
        readers = [s.stage for s in group if isinstance(s.stage, Reader)]
        keys = [
            step_key(r, inputs=[source_digest(r, digests)], seed=derived_seed(self.seed, r.name))
            for r in readers
        ]
        before = list(keys) or [self.rows]
        for step in group[len(keys) :]:
            key = step_key(step.stage, inputs=before, seed=derived_seed(self.seed, step.stage.name))
            keys.append(key if step.stage.cacheable() else "")
            before = [key]
        return keys

    def _key(self, stage: Stage) -> str:
        if not stage.cacheable():
            return ""
        return step_key(
            stage,
            inputs=[self.rows],
            seed=derived_seed(self.seed, stage.name),
            findings=self.findings if "findings" in stage.uses else (),
            artifacts=self.artifacts if "model" in stage.uses else None,
        )

    def _taken(self, group: Sequence[PlannedStep], keys: Sequence[str]) -> bool:
        found = [self.lineage.find_step(key) if key else None for key in keys]
        together = digest_json(list(keys))
        results: list[dict[str, Any]] = [
            f["result"] for f in found if f is not None and f["result"].get("group") == together
        ]
        if len(results) != len(group):
            return False
        outcomes = [outcome_of(r, self.lineage) for r in results]
        last = results[-1]
        path = self.lineage.object_path(last["dataset_out"])
        if path is None or any(o is None for o in outcomes):
            return False
        roles = Roles({r: tuple(c) for r, c in last["roles"].items()})
        sources = [Source.from_json(s) for s in last["sources"]]
        self.rows = dataset_key(stored(path, last["dataset_out"], roles, sources))
        for step, outcome in zip(group, outcomes, strict=True):
            if outcome is not None:
                self.findings += [replace(f, look=step.group) for f, _ in outcome.findings]
                self.artifacts |= {a.name: a for a in outcome.artifacts}
        return True

    def _differs(self, stage: Stage) -> str:
        """What is not as it was when a stage of this name ran last."""
        if not stage.cacheable():
            return "a function without a version is never reused"
        before = self.lineage.sql(_BEFORE, stage=stage.name).to_dicts()
        if not before:
            return "it never ran on this store"

        last = before[0]
        then, now = json.loads(last["params"] or "{}"), json.loads(json.dumps(stage.params()))
        changed = sorted(n for n in then.keys() | now.keys() if then.get(n) != now.get(n))
        if last["version"] != stage.version or last["code_digest"] != stage.code_digest():
            return "its code has changed"
        if changed:
            return f"other parameters: {', '.join(changed)}"
        if last["seed"] != self.seed:
            return f"another seed: {last['seed']} when it ran last"
        return (
            "its rows, the steps beside it, or an engine's version are others, or a result is gone"
        )
