# SPDX-License-Identifier: Apache-2.0
"""Answers of several annotators as numbers, and what both ways of joining them report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.measure.crowd import Answers, Consensus, majority

KINDS = ("labels.aggregate", "labels.annotators")
LEAST_ANSWERS = 10
"""Annotators with fewer answers are not judged."""
MOST_NAMED = 20
MOST_SOFT = 1000
"""With more classes than this the table holds the likeliest label only, without soft labels."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Told:
    """Answers as numbers, and what the numbers stand for.

    `place` is the row of each answer in the data set. `alone` says why nobody can be compared with
    anybody; the labels can be joined all the same.
    """

    answers: Answers
    place: Ints
    items: pl.Series
    annotators: pl.Series
    classes: pl.Series
    alone: str
    repeated: int


def answers_of(data: Dataset, gold: str = "") -> Told | str:
    """Number the answers; rows without an item, an annotator or a label are left out.

    One voice is shared among the answers that one annotator gave to one item.
    """
    columns = {"item": data.roles.one("id"), "who": data.roles.one("annotator")}
    columns |= {"said": data.roles.one("label")} | ({"gold": gold} if gold else {})
    frame = data.frame(list(dict.fromkeys(columns.values())))
    frame = frame.select(frame[c].alias(n) for n, c in columns.items()).with_row_index("place")
    frame = frame.drop_nulls(["item", "who", "said"])
    frame = frame.filter(~pl.any_horizontal(_is_nan(frame, n) for n in ("item", "who", "said")))
    if frame.is_empty():
        return "no row has an item, an annotator and a label"
    known = _known(frame) if gold else None
    coded = {c: frame[c].unique().sort() for c in ("item", "who", "said")}
    if known is not None:
        coded["said"] = pl.concat([coded["said"], known["gold"]]).unique().sort()
    numbers = {c: _numbered(frame[c], u) for c, u in coded.items()}
    pairs = frame.select(n=pl.len().over("item", "who"))["n"]
    repeated = int((pairs > 1).sum())
    marks = None
    if known is not None:
        marks = np.full(len(coded["item"]), -1)
        marks[_numbered(known["item"], coded["item"])] = _numbered(known["gold"], coded["said"])
    answers = Answers(
        numbers["item"],
        numbers["who"],
        numbers["said"],
        len(coded["item"]),
        len(coded["who"]),
        len(coded["said"]),
        weight=(1.0 / pairs).to_numpy() if repeated else None,
        gold=marks,
    )
    alone = ""
    if len(coded["said"]) < 2:
        alone = "every answer is the same"
    elif frame.select(pl.struct("item", "who").n_unique()).item() == len(coded["item"]):
        alone = "no item has the answers of two annotators"
    place = frame["place"].to_numpy().astype(np.int64)
    return Told(answers, place, coded["item"], coded["who"], coded["said"], alone, repeated)


def _is_nan(frame: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name).is_nan() if frame.schema[name].is_float() else pl.lit(value=False)


def _numbered(values: pl.Series, known: pl.Series) -> Ints:
    numbers = values.replace_strict(known, np.arange(len(known)), return_dtype=pl.Int64)
    return numbers.to_numpy().astype(np.int64)


def _known(frame: pl.DataFrame) -> pl.DataFrame:
    """The gold questions: one line an item whose true label is known."""
    known = frame.select("item", "gold").drop_nulls().unique().sort("item")
    if known["item"].n_unique() < known.height:
        raise Malformed(
            "an item has two different gold labels",
            code="DP-DATA-041",
            hint="give every gold question one label",
        )
    ours, theirs = frame.schema["said"], frame.schema["gold"]
    if ours.is_numeric() and theirs.is_numeric():
        return known.with_columns(pl.col("gold").cast(ours))
    if ours != theirs:
        raise SchemaMismatch(
            f"gold labels are {theirs}, answers are {ours}",
            hint="give both columns one type",
        )
    return known


def skills(told: Told, shares: Floats) -> pl.DataFrame:
    """How often each annotator agrees with the joined labels, with Wilson's interval.

    `chance` is how often he would agree if his answers had nothing to do with the item. He is
    judged `at_chance` when even the upper bound lies nearer to chance than to the average skill.
    """
    answers = told.answers
    people, classes = answers.n_annotators, answers.n_classes
    count = answers.load()
    right = answers.load(shares[answers.item, answers.label])
    habit = np.bincount(answers.habit, answers.weight, minlength=people * classes)
    habit = habit.reshape(people, classes)
    chance = (habit / np.maximum(count, 1e-12)[:, None]) @ shares.mean(0)
    average = right.sum() / max(count.sum(), 1e-12)
    figures = [
        Estimate.rate(min(round(r), round(c)), max(1, round(c)))
        for r, c in zip(right, count, strict=True)
    ]
    high = np.array([f.high for f in figures])
    return pl.DataFrame(
        {
            "annotator": told.annotators,
            "answers": np.bincount(answers.annotator, minlength=people),
            "skill": [f.value for f in figures],
            "low": [f.low for f in figures],
            "high": high,
            "chance": chance,
            "at_chance": (count >= LEAST_ANSWERS) & (high < (chance + average) / 2.0),
        }
    )


def reported(
    told: Told | str,
    joined: Callable[[Answers], Consensus],
    context: Context,
    data: Dataset,
    method: str,
    *,
    details: Callable[[], Mapping[str, Any]] = dict,
) -> Yield:
    """Both findings and both tables of one way to join answers."""
    if isinstance(told, str):
        return Yield(findings=_unknown(told))
    consensus = majority(told.answers) if told.alone else joined(told.answers)
    shares = consensus.posterior
    people = skills(told, shares)
    tables = {"labels": joined_labels(told, shares), "annotators": people}
    files = tuple(_table(n, t, context, method, told) for n, t in tables.items())
    if told.alone:
        return Yield(findings=_unknown(told.alone), artifacts=files)
    found = (
        _aggregate(told, shares, data, method, details()),
        at_chance(data, told, people, _doubt(told.answers, shares)),
    )
    return Yield(findings=found, artifacts=files)


def _unknown(why: str) -> tuple[Finding, ...]:
    return tuple(Finding.not_evaluated(kind, why) for kind in KINDS)


def joined_labels(told: Told, shares: Floats) -> pl.DataFrame:
    """One line an item: its label, how sure it is, and the chance of every class."""
    best = shares.argmax(1)
    top = shares.max(1)
    made = pl.DataFrame(
        {
            "item": told.items,
            "label": told.classes.gather(best),
            "posterior": top,
            "n": np.bincount(told.answers.item, minlength=best.size),
            "tied": (shares >= top[:, None] - 1e-9).sum(1) > 1,
        }
    )
    if shares.shape[1] > MOST_SOFT:
        return made
    soft = pl.Series("probabilities", shares, dtype=pl.Array(pl.Float64, shares.shape[1]))
    return made.with_columns(soft.arr.to_list())


def _table(name: str, table: pl.DataFrame, context: Context, method: str, told: Told) -> Artifact:
    path = context.scratch / f"{method}.{name}.parquet"
    table.write_parquet(path)
    facts: Mapping[str, Any] = {
        "method": method,
        "columns": table.columns,
        "rows": table.height,
        "classes": [str(c) for c in told.classes.to_list()],
    }
    return Artifact(f"{method}.{name}", "table", path, "application/vnd.apache.parquet", facts)


def _aggregate(
    told: Told, shares: Floats, data: Dataset, method: str, details: Mapping[str, Any]
) -> Finding:
    answers = told.answers
    n, people = answers.n_items, answers.n_annotators
    sure = shares.max(1)
    half = 1.96 * float(sure.std()) / np.sqrt(n)
    value = float(sure.mean())
    measure = Estimate(
        value, max(0.0, value - half), min(1.0, value + half), n=n, method="mean posterior"
    )
    return Finding(
        "labels.aggregate",
        "clean",
        measure,
        f"{answers.item.size} answers of {people} annotators joined to {n} labels;"
        f" {value:.1%} of them right if the model holds (not audited){_passed_over(told, data)}",
        columns=(data.roles.one("label"),),
        rows=scored_rows(data.row_ids.gather(told.place), _doubt(answers, shares)),
        details={
            "method": method,
            "items": n,
            "annotators": people,
            "answers_per_item": answers.item.size / n,
            "unsure_items": int((sure < 0.8).sum()),
            "repeated_answers": told.repeated,
            "left_out": len(data) - told.place.size,
            "min_detectable": 2,
            **details,
        },
    )


def _doubt(answers: Answers, shares: Floats) -> Floats:
    """How unlikely each answer is to be right, in [0, 1]."""
    return np.asarray(1.0 - shares[answers.item, answers.label])


def _passed_over(told: Told, data: Dataset) -> str:
    """What was not taken as it stood, in words."""
    out = len(data) - told.place.size
    parts = [f"; {out} rows without item, annotator or answer left out"] if out else []
    if told.repeated:
        parts.append(
            f"; {told.repeated} answers that repeat an annotator's on an item share a voice"
        )
    return "".join(parts)


def at_chance(
    data: Dataset, told: Told, people: pl.DataFrame, doubt: Floats, **told_too: object
) -> Finding:
    """The finding on annotators who answer no better than chance, with what else was told of them.

    `doubt` says of each answer, in [0, 1], how unlikely it is to be right.
    """
    bad = people["at_chance"].to_numpy()
    judged = int((people["answers"] >= LEAST_ANSWERS).sum())
    if judged == 0:
        why = f"no annotator gave {LEAST_ANSWERS} answers"
        return Finding.not_evaluated("labels.annotators", why)
    return Finding(
        "labels.annotators",
        "suspect" if bad.any() else "clean",
        Estimate.rate(int(bad.sum()), judged),
        f"{int(bad.sum())} of {judged} annotators answer no better than chance",
        severity="medium" if bad.any() else "info",
        columns=(data.roles.one("annotator"),),
        rows=scored_rows(
            data.row_ids.gather(told.place),
            doubt,
            flagged=bad[told.answers.annotator],
            reason="the annotator answers no better than chance",
        ),
        details={
            "at_chance": np.flatnonzero(bad)[:MOST_NAMED].tolist(),
            "judged": judged,
            **told_too,
            "min_detectable": LEAST_ANSWERS,
        },
        remedy="leave these annotators out and aggregate again" if bad.any() else "",
    )
