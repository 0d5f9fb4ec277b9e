# SPDX-License-Identifier: Apache-2.0
"""`check_stage` goes red for each way of breaking the contract, and says what it did not check."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.stage import OnFinding, RowStage, Stage, Yield
from datapipe.errors import DeclarationError
from datapipe.stages import CATALOGUE, find
from datapipe.stages.dedup.exact import ExactDuplicates
from datapipe.testing import check_stage
from datapipe.testing.behaved import BEHAVED
from datapipe.testing.declared import DECLARED
from datapipe.testing.rows import CANARY


@dataclass(frozen=True)
class Good(Stage):
    """Flags the rows whose first feature lies far out."""

    name: ClassVar[str] = "tests.good"
    needs: ClassVar[tuple[str, ...]] = ("label", "subject")
    raises_findings: ClassVar[tuple[str, ...]] = ("tests.good",)

    over: float = 1.2
    on_finding: OnFinding = "note"

    def run(self, data: Dataset, context: Context) -> Yield:
        x = data.frame(["x0"], row_id=True).drop_nulls()
        if x.height < 10:
            none = Estimate.unknown(method="too few rows", n=x.height)
            return Yield(findings=(Finding("tests.good", "not_evaluated", none, "too few rows"),))
        far = x["x0"] > self.over
        hits = int(far.sum())
        rows = scored_rows(x["_row_id"], x["x0"], flagged=far, reason="far out")
        verdict = "suspect" if hits else "clean"
        measure = Estimate.rate(hits, x.height)
        return Yield(findings=(Finding("tests.good", verdict, measure, "looked", rows=rows),))


class Loud(Good):
    """Says a person's name."""

    def run(self, data: Dataset, context: Context) -> Yield:
        says = f"{CANARY} is odd"
        return Yield(findings=(Finding("tests.good", "clean", Estimate.exact(1, n=1), says),))


class Undeclared(Good):
    """Yields a kind it did not declare."""

    raises_findings: ClassVar[tuple[str, ...]] = ()


class FlagsClean(Good):
    """Is clean and flags rows."""

    def run(self, data: Dataset, context: Context) -> Yield:
        rows = scored_rows(data.row_ids, np.zeros(len(data)), flagged=np.ones(len(data), bool))
        measure = Estimate.exact(0, n=len(data))
        return Yield(findings=(Finding("tests.good", "clean", measure, "fine", rows=rows),))


class Loses(Good):
    """Drops rows in silence."""

    def run(self, data: Dataset, context: Context) -> Yield:
        return Yield(data=data.with_frame(data.scan(row_id=True).filter(pl.col("x0") < 1)))


class Reorders(Good):
    """Sorts the rows."""

    def run(self, data: Dataset, context: Context) -> Yield:
        return Yield(data=data.with_frame(data.scan(row_id=True).sort("x0", maintain_order=True)))


class Invents(Good):
    """Sets aside a row that is not there."""

    def run(self, data: Dataset, context: Context) -> Yield:
        ids = pl.Series([10**9], dtype=pl.UInt64)
        return Yield(set_aside=pl.DataFrame({"row_id": ids, "reason": ["no reason"]}))


class Global(Good):
    """Draws from the global generators."""

    def run(self, data: Dataset, context: Context) -> Yield:
        score = np.full(len(data), random.random() + np.random.rand())  # noqa: NPY002 - the fault
        rows = scored_rows(data.row_ids, score)
        measure = Estimate.exact(0, n=len(data))
        return Yield(findings=(Finding("tests.good", "clean", measure, "fine", rows=rows),))


class Calls(Good):
    """Asks the network."""

    def run(self, data: Dataset, context: Context) -> Yield:
        with socket.socket() as s:
            s.settimeout(0.2)
            with contextlib.suppress(OSError):
                s.connect(("192.0.2.1", 80))
        return Yield()


class Litters(Good):
    """Writes where it stands."""

    def run(self, data: Dataset, context: Context) -> Yield:
        Path("left.txt").write_text("here")
        return Yield()


class Chunky(Good):
    """Answers by the batches it happens to get."""

    def run(self, data: Dataset, context: Context) -> Yield:
        n = sum(1 for _ in data.batches())
        measure = Estimate.exact(n + (data.path is not None), n=len(data))
        return Yield(findings=(Finding("tests.good", "clean", measure, "counted"),))


class Breaks(Good):
    """Lets a library's error through when there are no rows."""

    def run(self, data: Dataset, context: Context) -> Yield:
        [][1 if not len(data) else slice(0)]
        return Yield()


class SaysClean(Good):
    """Is clean without having looked."""

    def run(self, data: Dataset, context: Context) -> Yield:
        measure = Estimate.exact(0, n=len(data))
        rows = scored_rows(data.row_ids, np.zeros(len(data)))
        return Yield(findings=(Finding("tests.good", "clean", measure, "fine", rows=rows),))


class Careless(Good):
    """Does not look at its on_finding."""

    def check(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Unhashable(Good):
    """Has a list for a parameter."""

    columns: list[str] = field(default_factory=list)


class BadNeeds(Good):
    """Needs a role that does not exist."""

    needs: ClassVar[tuple[str, ...]] = ("label", "colour|subject")


class Nameless(Good):
    """Has no key."""

    name: ClassVar[str] = "nothing"


class Naked(Good):
    """Carries a figure without its uncertainty."""

    def run(self, data: Dataset, context: Context) -> Yield:
        path = context.scratch / "a.txt"
        path.write_text("a")
        return Yield(artifacts=(Artifact("a", "table", path, measures={"accuracy": 0.9}),))


class Neighbours(RowStage):
    """Calls itself a row stage and looks at the row before."""

    name: ClassVar[str] = "tests.neighbours"

    def columns(self, roles, types):
        return {"x0": pl.col("x0").diff().fill_null(0)}


PINNED = Path(__file__).with_name("conformance.json")
"""Which checks run for each stage: one that opts out must be seen in review."""


def test_a_good_stage_passes_and_tells_what_was_skipped():
    report = check_stage(Good())
    assert report.ok, str(report)
    assert {c.name for c in report.skipped} == {"row_local", "artifacts", "lazy"}
    assert all(c.says for c in report.skipped)
    assert len(report.checks) == len(DECLARED) + len(BEHAVED) >= 25
    assert report.to_json()["ran"] + report.to_json()["skipped"] == len(report.checks)


@pytest.mark.parametrize(
    ("stage", "check"),
    [
        (Loud(), "findings"),
        (Undeclared(), "findings"),
        (FlagsClean(), "scored_rows"),
        (Loses(), "nothing_lost"),
        (Reorders(), "nothing_lost"),
        (Invents(), "nothing_lost"),
        (Global(), "same_seed"),
        (Global(), "leaves_globals"),
        (Calls(), "no_network"),
        (Litters(), "tidy"),
        (Chunky(), "stored_alike"),
        (Breaks(), "no_rows"),
        (SaysClean(), "no_rows"),
        (Careless(), "bad_action"),
        (Unhashable(), "equality"),
        (BadNeeds(), "roles"),
        (Nameless(), "key"),
        (Naked(), "artifacts"),
        (Neighbours(), "row_local"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_broken_stage_goes_red(stage, check):
    report = check_stage(stage)
    assert not report.ok
    assert check in {c.name for c in report.failed}, str(report)


LIGHT = {
    "synthetic.collapse": {"generations": 1, "repeats": 2},
    "train.private": {"epochs": 0.3, "noise_multiplier": 2.0},
}
"""The contract is about form: what a stage computes thirty times need not be long."""


@pytest.mark.parametrize("key", CATALOGUE)
def test_every_stage_of_the_catalogue_keeps_the_contract(key, request):
    try:
        stage = find(key)(**LIGHT.get(key, {}))
    except TypeError:
        pytest.skip(f"{key} cannot be made without arguments; its own test checks it")
    if stage.check():
        pytest.skip(f"{key} needs an argument: {stage.check()[0]}")
    report = check_stage(stage)
    assert not report.failed, str(report)
    pinned = json.loads(PINNED.read_text())
    now = {"ran": len(report.ran), "skipped": sorted(c.name for c in report.skipped)}
    if request.config.getoption("--update-goldens"):
        pinned[key] = now
        PINNED.write_text(json.dumps(pinned, indent=1, sort_keys=True) + "\n")
    assert pinned.get(key) == now, "a check was lost or won; --update-goldens pins what runs"


@pytest.mark.parametrize("odd", [ExactDuplicates, 3, None, "dedup.exact"])
def test_what_is_no_stage_is_told(odd):
    with pytest.raises(DeclarationError, match="is no stage, it is"):
        check_stage(odd)
