# SPDX-License-Identifier: Apache-2.0
"""`Pipeline`: a name and a list of stages; an inner list is a group of parallel branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from datapipe._lazy import upward
from datapipe.core.arrow_stream import ArrowStream
from datapipe.core.dataset import Dataset
from datapipe.core.kinds import unraised
from datapipe.core.roles import Roles
from datapipe.core.run import Run
from datapipe.core.stage import KEPT_BY_THE_EXECUTOR, Reader, RowStage, Stage
from datapipe.errors import DeclarationError, MissingRole

StageLike = Stage | Sequence[Stage]
MOST_TOLD = 90
"""Characters of a step's parameters in the text of a plan."""


class Executor(Protocol):
    """What runs a plan: the local executor, or one on a cluster."""

    def run(self, plan: Plan, *, data: Dataset | None, seed: int, store: Path) -> Run:
        """Run every step of a plan and record it.

        Args:
            plan: What to run.
            data: Rows to start from, when the plan has no reader.
            seed: Seed of the run.
            store: Folder of the store.

        Returns:
            The finished run.

        Example:
            >>> hasattr(Executor, "run")
            True
        """
        ...


@dataclass(frozen=True)
class PlannedStep:
    """One step of a plan.

    Args:
        position: 0-based place in the order of execution.
        group: Steps of one group run on the same rows.
        stage: The stage.
        shape: `read`, `row` or `whole`.

    Example:
        >>> PlannedStep(0, 0, Stage(), "whole").shape
        'whole'
    """

    position: int
    group: int
    stage: Stage
    shape: str


@dataclass(frozen=True)
class Plan:
    """A pipeline whose declaration holds.

    Args:
        pipeline: Its name.
        steps: The steps in order.
        roles: The roles the readers declare.

    Example:
        >>> len(Plan("p", (), Roles()).groups())
        0
    """

    pipeline: str
    steps: tuple[PlannedStep, ...]
    roles: Roles

    def groups(self) -> list[list[PlannedStep]]:
        """The steps by group, in order.

        Returns:
            A list of groups; each holds one step or several parallel ones.

        Example:
            >>> Plan("p", (PlannedStep(0, 0, Stage(), "whole"),), Roles()).groups()[0][0].group
            0
        """
        found: dict[int, list[PlannedStep]] = {}
        for step in self.steps:
            found.setdefault(step.group, []).append(step)
        return [found[g] for g in sorted(found)]

    def __str__(self) -> str:
        lines = [f"pipeline {self.pipeline}: {len(self.steps)} steps"]
        for group in self.groups():
            mark = "|" if len(group) > 1 else " "
            for step in group:
                number = str(step.group) if step is group[0] else ""
                lines.append(f"  {number:>3} {mark} {step.stage.name:<28} {_short(step.stage)}")
        return "\n".join(lines)


class Pipeline:
    """A named list of stages. Nothing is read until it runs.

    Args:
        name: What the store calls it.
        stages: The stages in order. An inner list is a group of parallel branches: readers in it
            are put one below the other, other stages in it see the same rows.

    Raises:
        DeclarationError: The stages are no list, or the name is no text.

    Example:
        >>> Pipeline("p", []).plan()
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: pipeline 'p' cannot run: it has no stages [DP-DECL-014]
        <BLANKLINE>
        hint: mend the list of stages
    """

    def __init__(self, name: str, stages: Sequence[StageLike]) -> None:
        if not isinstance(name, str) or not name.strip():
            raise DeclarationError(
                f"a pipeline was given the name {name!r}; a text was expected",
                code="DP-DECL-014",
                hint="name it: the store lists its runs by it",
            )
        unordered = (Stage, str, bytes, Mapping, AbstractSet)
        if isinstance(stages, unordered) or not isinstance(stages, Iterable):
            raise DeclarationError(
                f"pipeline {name!r} was given {stages!r}, not a list of stages",
                code="DP-DECL-014",
                hint="write Pipeline(name, [first stage, next stage])",
            )
        self.name = name
        self.stages = tuple(tuple(s) if isinstance(s, (list, tuple)) else (s,) for s in stages)

    def plan(self, data: ArrowStream | None = None, *, roles: Roles | None = None) -> Plan:
        """Check the whole declaration, before a byte is read.

        Args:
            data: The rows `run` will be given, when no reader starts the pipeline.
            roles: The roles of `data`.

        Returns:
            The plan.

        Raises:
            DeclarationError: With every problem at once.
            MissingRole: When all that is wrong is that roles are missing.

        Example:
            >>> import pyarrow as pa
            >>> from datapipe.stages import ExactDuplicates
            >>> plan = Pipeline("p", [ExactDuplicates()]).plan(pa.table({"a": [1]}))
            >>> plan.steps[0].shape
            'whole'
        """
        given = roles or (data.roles if isinstance(data, Dataset) else Roles())
        problems, missing = self._problems(given, has_data=data is not None)
        every = [*problems, *missing]
        told = every[0] if len(every) == 1 else "".join(f"\n  - {p}" for p in every)
        said = f"pipeline {self.name!r} cannot run: {told}"
        if problems:
            raise DeclarationError(
                said, code="DP-DECL-014", hint="mend the list of stages", problems=every
            )
        if missing:
            hint = "name the columns in the reader, such as label='y'"
            raise MissingRole(said, hint=hint, problems=every)
        pairs = [(number, stage) for number, group in enumerate(self.stages) for stage in group]
        steps = [PlannedStep(i, n, stage, _shape(stage)) for i, (n, stage) in enumerate(pairs)]
        return Plan(self.name, tuple(steps), self._roles(given))

    def run(
        self,
        data: ArrowStream | None = None,
        *,
        seed: int,
        store: str | Path = ".datapipe",
        roles: Roles | None = None,
        executor: Executor | None = None,
    ) -> Run:
        """Run every stage and record every step in the store.

        Args:
            data: Rows to start from: any object with `__arrow_c_stream__`; None with a reader.
            seed: Seed of the run, without a default on purpose: the same seed gives the same bytes.
            store: Folder of the store; made when it is not there.
            roles: The roles of `data`.
            executor: What runs it; None for the local one.

        Returns:
            The finished run.

        Raises:
            DeclarationError: The declaration does not hold; nothing was written.
            DataError: The data does not fit.
            TrustError: A signature or digest does not hold.
            GateClosed: A gate said no; the run is recorded and the findings are in the error.
            BudgetSpent: The privacy budget does not allow the training.
            ExecutionError: A step failed or the disk is full.

        Example:
            >>> import tempfile, pyarrow as pa
            >>> from datapipe.core.function import stage
            >>> @stage("demo.pass", version="1")
            ... def nothing(frame):
            ...     return frame
            >>> run = Pipeline("p", [nothing()]).run(
            ...     pa.table({"a": [1, 2]}), seed=7, store=tempfile.mkdtemp())
            >>> len(run.data)
            2
        """
        if not (isinstance(seed, Integral) and -(2**63) <= seed < 2**63) or isinstance(seed, bool):
            raise DeclarationError(
                f"seed={seed!r} is no whole number of 64 bits",
                code="DP-DECL-017",
                hint="give a number such as seed=7; the same seed gives the same bytes",
            )
        if not isinstance(store, (str, PathLike)) or not str(store) or "://" in str(store):
            raise DeclarationError(
                f"store={store!r} is no folder of this machine",
                code="DP-DECL-018",
                hint="name a folder such as store='.datapipe'; it is made when it is not there",
            )
        start = None if data is None else Dataset.of(data, roles)
        if start is not None and roles is not None:
            start = start.with_roles(roles)
        plan = self.plan(start)
        chosen: Executor = executor or upward("datapipe.execute.local", "LocalExecutor")()
        return chosen.run(plan, data=start, seed=seed, store=Path(store))

    def _roles(self, given: Roles) -> Roles:
        roles = given
        for group in self.stages:
            for stage in group:
                if isinstance(stage, Reader):
                    roles = roles.merged(stage.roles())
        return roles

    def _problems(self, given: Roles, *, has_data: bool) -> tuple[list[str], list[str]]:
        """Everything that is wrong, and which roles are missing."""
        if not self.stages:
            return ["it has no stages"], []
        wrong = [_not_a_stage(s) for g in self.stages for s in g if not isinstance(s, Stage)]
        groups = [[s for s in group if isinstance(s, Stage)] for group in self.stages]
        amiss = False  # whether a reader's own parameters are not as they should be
        for number, group in enumerate(groups):
            for stage in group:
                said = stage.check()
                wrong.extend(said)
                amiss |= bool(said) and isinstance(stage, Reader)
            wrong.extend(_group_problems(number, group, has_data=has_data))
        first = next((s for group in groups for s in group), None)
        if not has_data and not isinstance(first, Reader):
            if first is not None:
                wrong.append("it starts with no reader and no data was given")
            return wrong, []  # which roles there are is not known
        if amiss:
            return wrong, []  # nor what such a reader declares
        missing, unmade = _unmet(groups, self._roles(given))
        return [*wrong, *unmade, *unraised(groups)], missing


def _unmet(groups: Sequence[Sequence[Stage]], roles: Roles) -> tuple[list[str], list[str]]:
    """Roles that no reader declares, and things that no step before makes."""
    has = set(roles.columns)
    missing: list[str] = []
    unmade: list[str] = []
    for group in groups:
        for stage in group:
            missing.extend(
                f"{stage.name} needs the role {need!r}, which no reader declares"
                for need in stage.needs
                if has.isdisjoint(need.split("|"))
            )
            unmade.extend(
                f"{stage.name} needs a {used}, which no step before it makes"
                for used in stage.uses
                if used not in KEPT_BY_THE_EXECUTOR and used not in has
            )
        has.update(*(stage.gives for stage in group))
    return missing, unmade


def _told(stage: Stage) -> str:
    """The parameters that say something, in one line."""
    said = {k: v for k, v in stage.params().items() if v not in ("", (), None)}
    return ", ".join(f"{k}={v!r}" for k, v in said.items())


def _short(stage: Stage) -> str:
    said = _told(stage)
    return said if len(said) <= MOST_TOLD else said[: MOST_TOLD - 1] + "…"


def _shape(stage: Stage) -> str:
    if isinstance(stage, Reader):
        return "read"
    return "row" if isinstance(stage, RowStage) else "whole"


def _not_a_stage(value: Any) -> str:
    if isinstance(value, type) or callable(value):
        return f"{getattr(value, '__name__', value)} is a class or function, not a stage: call it"
    return f"{value!r} is not a stage"


def _group_problems(number: int, group: Sequence[Stage], *, has_data: bool) -> list[str]:
    """What stands against running these stages side by side."""
    wrong: list[str] = []
    readers = [s for s in group if isinstance(s, Reader)]
    if readers and len(readers) != len(group):
        wrong.append(f"group {number} mixes readers with other stages")
    if readers and (number > 0 or has_data):
        name = readers[0].name
        wrong.append(f"{name}: readers belong at the start, and data was given or read before")
    if len(group) > 1 and any(isinstance(s, RowStage) for s in group):
        wrong.append(f"group {number}: row stages cannot be parallel; list them in order")
    for first, second in combinations(group, 2):
        if (first.name, first.params()) == (second.name, second.params()):
            wrong.append(f"group {number} holds {first.name} twice with the same parameters")
        wrong.extend(_clash(first, second))
    return wrong


def _clash(first: Stage, second: Stage) -> list[str]:
    """Whether one of two branches rewrites what the other reads."""
    for one, other in ((first, second), (second, first)):
        relabels = getattr(one, "on_finding", "") == "relabel"
        changed = {*one.changes, *(("label",) if relabels else ())}
        read = {option for need in other.needs for option in need.split("|")} | set(other.changes)
        both = sorted(changed & read)
        if both:
            what = f"{one.name} changes {both[0]!r}, which its parallel branch {other.name} reads"
            return [f"{what}: put them in order"]
    return []
