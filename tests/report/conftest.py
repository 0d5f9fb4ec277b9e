# SPDX-License-Identifier: Apache-2.0
"""Runs to report about, and a reader that sees a page as a browser does."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe import Estimate, Finding, Gate, Pipeline, Stage, Yield, at_most
from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import scored_rows
from datapipe.core.roles import Roles
from datapipe.core.run import Run
from datapipe.core.stage import OnFinding
from datapipe.errors import GateClosed

VOID = {"meta", "img", "wbr", "br", "hr", "link", "input"}


@dataclass(frozen=True)
class Odd(Stage):
    """Takes every row with an odd number for mislabelled."""

    reason: str = "odd"
    kind: str = "labels.issues"
    on_finding: OnFinding = "quarantine"

    name: ClassVar[str] = "labels.odd"

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(["number"], row_id=True)
        odd = frame["number"] % 2 == 1
        rows = scored_rows(
            frame.to_series(0),
            frame["number"].cast(pl.Float64),
            flagged=odd,
            reason=self.reason,
            suggested=pl.Series(["even"] * len(odd)),
        )
        verdict = "fail" if odd.any() else "clean"
        rate = Estimate.rate(int(odd.sum()), len(odd))
        says = f"{int(odd.sum())} of {len(odd)} rows are {self.reason}"
        return Yield(findings=(Finding(self.kind, verdict, rate, says, rows=rows),))


@dataclass(frozen=True)
class Train(Stage):
    """Leaves a file and calls it a model."""

    named: str = "small"

    name: ClassVar[str] = "train.plain"
    gives: ClassVar[tuple[str, ...]] = ("model",)

    def run(self, data: Dataset, context: Context) -> Yield:
        path = context.scratch / "model.bin"
        path.write_bytes(self.named.encode())
        curve = [[k, 0.3 * k**0.5] for k in (1, 2, 3, 4)]
        model = Artifact(
            self.named,
            "model",
            path,
            facts={"epsilon": 0.6, "epsilon_target": 1.0, "delta": 1e-5, "epsilon_by_step": curve},
            measures={"accuracy": Estimate.rate(90, 100)},
            row_ids=data.row_ids,
        )
        return Yield(artifacts=(model,))


def rows(n: int = 60, *, word: str = "text", pixels: int = 0) -> pa.Table:
    """Numbers, labels and texts; every odd number is to be found."""
    columns = {
        "number": list(range(n)),
        "label": [f"class {i % 3}" for i in range(n)],
        "body": [f"{word} {i}" for i in range(n)],
    }
    if pixels:
        columns["image"] = np.random.default_rng(7).random((n, pixels)).tolist()
    return pa.table(columns)


@dataclass
class Page(HTMLParser):
    """A page read by a strict reader: elements, attributes and text."""

    text: str = ""
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, name: str, kind: str = "") -> int:
        """How many elements have a name and a class."""
        return sum(t == name and kind in a.get("class", "").split(" ") for t, a in self.tags)

    @property
    def said(self) -> str:
        """All text, in one line."""
        return " ".join(" ".join(self.words).split())


def finish(pipeline: Pipeline, table: pa.Table, store: Path, **roles: str) -> Run:
    """Run; a closed gate gives its run too."""
    try:
        return pipeline.run(table, seed=7, store=store, roles=Roles.of(**roles))
    except GateClosed as closed:
        return closed.run


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """This file, for tests that make runs of their own."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that looked, cleaned, looked again, passed its gate and trained."""
    gate = Gate({"labels.*": at_most(0.2)})
    stages = [Odd(), Odd(on_finding="note"), gate, Train("small")]
    store = tmp_path_factory.mktemp("cleaned")
    return finish(Pipeline("cleaned", stages), rows(pixels=16), store, label="label", image="image")


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that its gate stopped before training."""
    stages = [Odd(on_finding="note"), Gate({"labels.*": at_most(0.2)}), Train("small")]
    store = tmp_path_factory.mktemp("closed")
    return finish(Pipeline("closed", stages), rows(), store, label="label", text="body")
