# SPDX-License-Identifier: Apache-2.0
"""Answers that are numbers, or choices between two items, joined to a table of items."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.stage import Yield
from datapipe.errors import SchemaMismatch
from datapipe.measure.crowd_values import bradley_terry, joined_values
from datapipe.stages.labels._answers import KINDS


def values_joined(data: Dataset, context: Context) -> Yield:
    """One number an item, and the bias and spread of every annotator."""
    frame = _told(data, ("id", "annotator", "label"))
    if not frame.schema["label"].is_numeric():
        raise SchemaMismatch(
            f"the answers are {frame.schema['label']}, numbers are needed",
            hint="leave --kind value out for answers that are classes",
        )
    frame = frame.filter(pl.col("label").cast(pl.Float64).is_finite())
    if frame.is_empty():
        return _unknown("no row has an item, an annotator and a number")
    items, item = _numbers(frame["id"])
    people, who = _numbers(frame["annotator"])
    value = frame["label"].cast(pl.Float64).to_numpy()
    made = joined_values(item, who, value, n_items=len(items), n_annotators=len(people))
    count = np.bincount(item, minlength=len(items))
    labels = pl.DataFrame(
        {"item": items, "label": made.value, "low": made.low, "high": made.high, "n": count}
    )
    answered = np.bincount(who, minlength=len(people))
    annotators = pl.DataFrame(
        {"annotator": people, "answers": answered, "bias": made.bias, "spread": made.spread}
    )
    half = float(((made.high - made.low) / 2).mean())
    says = f"{value.size} numbers of {len(people)} annotators joined to {len(items)} means"
    return _yield({"labels": labels, "annotators": annotators}, says, half, data, context)


def choices_joined(data: Dataset, context: Context, versus: str) -> Yield:
    """A ranking of items from answers that name the better one of two."""
    frame = _told(data, ("id", "annotator", "label"), versus)
    frame = frame.filter(pl.col("id") != pl.col("versus"))
    known = (pl.col("label") == pl.col("id")) | (pl.col("label") == pl.col("versus"))
    odd = frame.filter(~known).height
    frame = frame.filter(known)
    if frame.is_empty():
        return _unknown("no answer names one of its two items")
    items = pl.concat([frame["id"], frame["versus"]]).unique().sort()
    left, right = (_place(frame[c], items) for c in ("id", "versus"))
    first = (frame["label"] == frame["id"]).to_numpy()
    people, who = _numbers(frame["annotator"])
    winner, loser = np.where(first, left, right), np.where(first, right, left)
    made = bradley_terry(winner, loser, who, n=len(items))
    rank = np.empty(len(items), np.int64)
    rank[made.order] = np.arange(1, len(items) + 1)
    count = np.bincount(np.concatenate([winner, loser]), minlength=len(items))
    labels = pl.DataFrame(
        {
            "item": items,
            "label": rank,
            "strength": made.strength,
            "low": made.low,
            "high": made.high,
            "n": count,
        }
    )
    answered = np.bincount(who, minlength=len(people))
    annotators = pl.DataFrame({"annotator": people, "answers": answered, "trust": made.trust})
    half = float(((made.high - made.low) / 2).mean())
    says = f"{winner.size} choices of {len(people)} annotators rank {len(items)} items"
    says += f"; {odd} answers that name neither item were left out" if odd else ""
    return _yield({"labels": labels, "annotators": annotators}, says, half, data, context)


def _told(data: Dataset, roles: tuple[str, ...], versus: str = "") -> pl.DataFrame:
    columns = {role: data.roles.one(role) for role in roles}
    columns |= {"versus": versus} if versus else {}
    frame = data.frame(list(dict.fromkeys(columns.values())))
    return frame.select(frame[c].alias(n) for n, c in columns.items()).drop_nulls()


def _numbers(values: pl.Series) -> tuple[pl.Series, np.ndarray[Any, np.dtype[np.int64]]]:
    known = values.unique().sort()
    return known, _place(values, known)


def _place(values: pl.Series, known: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers = values.replace_strict(known, np.arange(len(known)), return_dtype=pl.Int64)
    return numbers.to_numpy().astype(np.int64)


def _unknown(why: str) -> Yield:
    return Yield(findings=tuple(Finding.not_evaluated(kind, why) for kind in KINDS))


def _yield(
    tables: dict[str, pl.DataFrame], says: str, half: float, data: Dataset, context: Context
) -> Yield:
    n = tables["labels"].height
    measure = Estimate.exact(half, n=n, method="mean half-width of the items' intervals")
    column = (data.roles.one("label"),)
    kept = []
    for name, table in tables.items():
        path = context.scratch / f"aggregate.{name}.parquet"
        table.write_parquet(path)
        facts = {"columns": table.columns, "rows": table.height}
        media = "application/vnd.apache.parquet"
        kept.append(Artifact(f"aggregate.{name}", "table", path, media, facts))
    unknown = Estimate.unknown(method="numbers and choices have no chance level")
    found = (
        Finding(KINDS[0], "clean", measure, says, columns=column, details={"items": n}),
        Finding.not_evaluated(KINDS[1], "answers are no classes", measure=unknown),
    )
    return Yield(findings=found, artifacts=tuple(kept))
