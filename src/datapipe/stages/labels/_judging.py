# SPDX-License-Identifier: Apache-2.0
"""What a judgement of labels starts from and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.roles import Roles
from datapipe.errors import SchemaMismatch
from datapipe.features.linear import dense_predictor, text_predictor
from datapipe.features.tables import features_of
from datapipe.measure.calibration import softened, temperature
from datapipe.measure.crossfit import (
    Predict,
    copy_groups,
    kernel_predictor,
    out_of_fold,
    refit,
    stratified_folds,
)
from datapipe.measure.label_noise import (
    confident_joint,
    prune_by_noise_rate,
    transition_posterior,
)
from datapipe.measure.neighbours import principal
from datapipe.measure.noise_floor import noise_floor

FEWEST_ROWS = 50
"""Below this nothing can be told from folds."""
WIDE = 96
"""From this many pixels on, images are reduced to their principal components."""
COMPONENTS = 64
FLOOR = 0.02
"""Share of uniform noise when two classifiers are compared by the likelihood of noisy labels."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Labelled:
    """The rows whose label can be judged: `place` in the data set, class number, class names."""

    place: Ints
    classes: Ints
    names: tuple[str, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was made of each judged label; the arrays are as long as `Labelled.place`.

    `given` and `likeliest` count the columns of `probabilities`, which `names` names.
    """

    given: Ints
    names: tuple[str, ...]
    probabilities: Floats
    error: Floats
    likeliest: Ints
    pruned: Bools
    joint_rate: float
    floor: Estimate
    details: Mapping[str, Any]


def labelled(named: pl.Series, fewest: int) -> Labelled | str:
    """Number the classes; rows without a label and classes of too few rows are left out."""
    counts = named.drop_nulls().value_counts(name="n").sort(named.name)
    if named.dtype.is_float() and counts.height > 100:
        return f"the label has {counts.height} values: it looks like a number, not a class"
    enough = counts.filter(pl.col("n") >= fewest)[named.name]
    kept = named.is_in(enough.implode()) & named.is_not_null()
    place = np.flatnonzero(kept.fill_null(value=False).to_numpy())
    left_out = {
        "rows without a label": named.null_count(),
        "rows of classes too small to judge": len(named) - named.null_count() - place.size,
    }
    if len(enough) < 2:
        return f"{len(enough)} classes have the {fewest} rows that are needed; two are the least"
    if place.size < FEWEST_ROWS:
        return f"{place.size} labelled rows are too few, {FEWEST_ROWS} are the least"
    numbers = named.gather(place).replace_strict(
        enough, np.arange(len(enough)), return_dtype=pl.Int64
    )
    names = tuple(str(v) for v in enough.to_list())
    return Labelled(place, numbers.to_numpy(), names, {k: n for k, n in left_out.items() if n})


def judged_by_fit(
    data: Dataset, rows: Labelled, context: Context, *, folds: int, classifier: str
) -> Judgement | str:
    """Judge labels by classifiers fitted out of fold, twice."""
    features = features_of(data)
    if features.kind == "none" or features.values.shape[1] == 0:
        return "no column can be learnt from: give one the role image or text"
    values = features.values[rows.place]
    if features.kind == "image" and values.shape[1] > WIDE:
        values = principal(values, COMPONENTS, context.rng("components")).project(values)
    k = len(rows.names)
    groups = copy_groups(values)
    fold = stratified_folds(rows.classes, folds, context.rng("folds"), groups)
    options: dict[str, Predict] = {}
    if features.kind == "text":
        texts = data.values("text").gather(rows.place)
        options["linear"] = text_predictor(texts, rows.classes, k)
    else:
        if classifier != "linear":
            rng = context.rng("landmarks")
            options["kernel"] = kernel_predictor(values, rows.classes, k, rng)
        if classifier != "kernel":
            options["linear"] = dense_predictor(values, rows.classes, k)
    chosen = _likelier(options, rows.classes, fold, k)
    made = refit(options[chosen], rows.classes, fold, k)
    joint = confident_joint(rows.classes, made.first)
    copies = int(groups.size - np.unique(groups).size)
    return Judgement(
        rows.classes,
        rows.names,
        made.second,
        made.posterior.error,
        made.posterior.likeliest,
        made.pruned,
        1.0 - float(np.trace(joint)) / rows.classes.size,
        noise_floor(rows.classes, made.first).estimate(),
        {"classifier": chosen, "folds": folds, "copies_kept_together": copies},
    )


def judged_by_columns(data: Dataset, rows: Labelled, columns: tuple[str, ...]) -> Judgement | str:
    """Judge labels by out-of-fold probabilities that the data set brings along."""
    named = Roles({"image": columns}).resolved(data.names, where="probabilities").all("image")
    given = data.frame(list(named)).to_numpy().astype(np.float64)[rows.place]
    classes, names = _columns_of(rows, given.shape[1])
    if not np.isfinite(given).all() or (given < 0).any():
        return "some probabilities are missing or negative"
    sums = given.sum(1)
    if (sums <= 0).any():
        return "some rows have no probability at all"
    off = int((np.abs(sums - 1.0) > 1e-4).sum())
    probabilities = given / sums[:, None] if off else given
    joint = confident_joint(classes, probabilities)
    soft = softened(probabilities, temperature(probabilities, classes))
    posterior = transition_posterior(classes, soft)
    by_self = 1.0 - probabilities[np.arange(classes.size), classes]
    return Judgement(
        classes,
        names,
        probabilities,
        (_ranks(posterior.error) + _ranks(by_self)) / 2.0,
        probabilities.argmax(1),
        prune_by_noise_rate(classes, probabilities, joint),
        1.0 - float(np.trace(joint)) / classes.size,
        noise_floor(classes, probabilities).estimate(),
        {"classifier": "given", "rows_renormalised": off, "posterior_rate": posterior.error.mean()},
    )


def _columns_of(rows: Labelled, width: int) -> tuple[Ints, tuple[str, ...]]:
    """The column of each row's class: by the class's own number, else by the sorted classes."""
    if all(n.isdecimal() and int(n) < width for n in rows.names):
        return np.array([int(n) for n in rows.names])[rows.classes], tuple(map(str, range(width)))
    if width != len(rows.names):
        raise SchemaMismatch(
            f"there are {width} columns of probabilities for {len(rows.names)} classes",
            hint="give one column a class, in the order of the sorted classes",
        )
    return rows.classes, rows.names


def _likelier(options: Mapping[str, Predict], classes: Ints, fold: Ints, k: int) -> str:
    """The classifier under which the left-out labels, noise and all, are likeliest."""
    if len(options) == 1:
        return next(iter(options))
    everywhere = np.ones(classes.size, bool)
    scores = {}
    for name, predict in options.items():
        made = out_of_fold(predict, fold, everywhere, k)
        made = softened(made, temperature(made, classes))
        own = made[np.arange(classes.size), classes]
        scores[name] = float(np.log((1 - FLOOR) * own + FLOOR / k).sum())
    return max(scores, key=lambda name: scores[name])


def _ranks(values: Floats) -> Floats:
    """Ranks scaled to [0, 1]; ties share their mean rank."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean: Floats = (last - (count - 1) / 2.0)[group] / values.size
    return mean
