# SPDX-License-Identifier: Apache-2.0
"""Answers of several annotators as numbers, and what both ways of joining them report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.stage import Yield

KINDS = ("labels.aggregate", "labels.annotators")
LEAST_ANSWERS = 10
"""Annotators with fewer answers are not judged."""
MOST_NAMED = 20

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Answers:
    """Who (`who`) said what (`said`) of which item (`item`), each as a number.

    `weight` shares one voice among the answers that one annotator gave to one item. `place` is the
    row of each answer in the data set.
    """

    item: Ints
    who: Ints
    said: Ints
    weight: Floats
    place: Ints
    items: pl.Series
    annotators: pl.Series
    classes: pl.Series

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many items, annotators and classes there are."""
        return len(self.items), len(self.annotators), len(self.classes)

    def votes(self) -> Floats:
        """Weight of the answers for each class: float64, shape (items, classes)."""
        n, _, k = self.shape
        flat = np.bincount(self.item * k + self.said, self.weight, minlength=n * k)
        return np.asarray(flat.reshape(n, k), np.float64)


def answers_of(data: Dataset) -> Answers | str:
    """Number the answers; rows without an item, an annotator or a label are left out."""
    frame = pl.DataFrame(
        {
            "item": data.values("id"),
            "who": data.values("annotator"),
            "said": data.values("label"),
        }
    ).with_row_index("place")
    frame = frame.drop_nulls()
    if frame.is_empty():
        return "no row has an item, an annotator and a label"
    coded = {c: frame[c].unique().sort() for c in ("item", "who", "said")}
    if len(coded["said"]) < 2:
        return "every answer is the same"
    if frame.select(pl.struct("item", "who").n_unique()).item() == len(coded["item"]):
        return "no item has the answers of two annotators"
    numbers = {
        c: frame[c].replace_strict(u, np.arange(len(u)), return_dtype=pl.Int64).to_numpy()
        for c, u in coded.items()
    }
    weight = frame.select(1.0 / pl.len().over("item", "who")).to_series().to_numpy()
    place = frame["place"].to_numpy().astype(np.int64)
    return Answers(
        numbers["item"],
        numbers["who"],
        numbers["said"],
        weight,
        place,
        coded["item"],
        coded["who"],
        coded["said"],
    )


def skills(answers: Answers, shares: Floats) -> pl.DataFrame:
    """How often each annotator agrees with the joined labels, with Wilson's interval.

    `chance` is how often he would agree if his answers had nothing to do with the item. He is
    judged `at_chance` when even the upper bound lies nearer to chance than to the average skill.
    """
    _, people, classes = answers.shape
    count = np.bincount(answers.who, answers.weight, minlength=people)
    right = np.bincount(
        answers.who, answers.weight * shares[answers.item, answers.said], minlength=people
    )
    habit = np.bincount(
        answers.who * classes + answers.said, answers.weight, minlength=people * classes
    ).reshape(people, classes)
    chance = (habit / np.maximum(count, 1e-12)[:, None]) @ shares.mean(0)
    average = right.sum() / max(count.sum(), 1e-12)
    told = [
        Estimate.rate(min(round(r), round(c)), max(1, round(c)))
        for r, c in zip(right, count, strict=True)
    ]
    high = np.array([t.high for t in told])
    return pl.DataFrame(
        {
            "annotator": answers.annotators,
            "answers": np.bincount(answers.who, minlength=people),
            "skill": [t.value for t in told],
            "low": [t.low for t in told],
            "high": high,
            "chance": chance,
            "at_chance": (count >= LEAST_ANSWERS) & (high < (chance + average) / 2.0),
        }
    )


def reported(
    answers: Answers | str, shares: Floats, context: Context, data: Dataset, method: str
) -> Yield:
    """Both findings and both tables of one way to join answers."""
    if isinstance(answers, str):
        unknown = Estimate.unknown(method=answers)
        says = f"not evaluated: {answers}"
        return Yield(findings=tuple(Finding(k, "not_evaluated", unknown, says) for k in KINDS))
    people = skills(answers, shares)
    found = (_aggregate(answers, shares, data, method), _annotators(answers, shares, people, data))
    tables = {"labels": _joined(answers, shares), "annotators": people}
    return Yield(
        findings=found,
        artifacts=tuple(_table(n, t, context, method, answers) for n, t in tables.items()),
    )


def _joined(answers: Answers, shares: Floats) -> pl.DataFrame:
    best = shares.argmax(1)
    top = shares.max(1)
    return pl.DataFrame(
        {
            "item": answers.items,
            "label": answers.classes.gather(best),
            "posterior": top,
            "n": np.bincount(answers.item, minlength=best.size),
            "tied": (shares >= top[:, None] - 1e-9).sum(1) > 1,
        }
    )


def _table(
    name: str, table: pl.DataFrame, context: Context, method: str, answers: Answers
) -> Artifact:
    path = context.scratch / f"{method}.{name}.parquet"
    table.write_parquet(path)
    facts: Mapping[str, Any] = {
        "method": method,
        "columns": table.columns,
        "rows": table.height,
        "classes": [str(c) for c in answers.classes.to_list()],
    }
    return Artifact(f"{method}.{name}", "table", path, "application/vnd.apache.parquet", facts)


def _aggregate(answers: Answers, shares: Floats, data: Dataset, method: str) -> Finding:
    n, people, _ = answers.shape
    sure = shares.max(1)
    half = 1.96 * float(sure.std()) / np.sqrt(n)
    value = float(sure.mean())
    measure = Estimate(
        value, max(0.0, value - half), min(1.0, value + half), n=n, method="mean posterior"
    )
    doubt = 1.0 - shares[answers.item, answers.said]
    return Finding(
        "labels.aggregate",
        "clean",
        measure,
        f"{answers.item.size} answers of {people} annotators joined to {n} labels;"
        f" {value:.1%} of them right if the model holds (not audited)",
        columns=(data.roles.one("label"),),
        rows=scored_rows(data.row_ids.gather(answers.place), doubt),
        details={
            "method": method,
            "items": n,
            "annotators": people,
            "answers_per_item": answers.item.size / n,
            "unsure_items": int((sure < 0.8).sum()),
            "min_detectable": 2,
        },
    )


def _annotators(answers: Answers, shares: Floats, people: pl.DataFrame, data: Dataset) -> Finding:
    bad = people["at_chance"].to_numpy()
    judged = int((people["answers"] >= LEAST_ANSWERS).sum())
    flags = bad[answers.who]
    doubt = 1.0 - shares[answers.item, answers.said]
    if judged == 0:
        unknown = Estimate.unknown(method="too few answers an annotator")
        says = f"not evaluated: no annotator gave {LEAST_ANSWERS} answers"
        return Finding("labels.annotators", "not_evaluated", unknown, says)
    return Finding(
        "labels.annotators",
        "suspect" if bad.any() else "clean",
        Estimate.rate(int(bad.sum()), judged),
        f"{int(bad.sum())} of {judged} annotators answer no better than chance",
        severity="medium" if bad.any() else "info",
        columns=(data.roles.one("annotator"),),
        rows=scored_rows(
            data.row_ids.gather(answers.place),
            doubt,
            flagged=flags,
            reason="the annotator answers no better than chance",
        ),
        details={
            "at_chance": np.flatnonzero(bad)[:MOST_NAMED].tolist(),
            "judged": judged,
            "min_detectable": LEAST_ANSWERS,
        },
        remedy="leave these annotators out and aggregate again" if bad.any() else "",
    )
