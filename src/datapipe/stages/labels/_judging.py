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
from datapipe.features.boosted import boosted_predictor
from datapipe.features.linear import dense_predictor, text_predictor
from datapipe.features.tables import features_of
from datapipe.measure.calibration import softened, temperature
from datapipe.measure.copies import copy_groups
from datapipe.measure.crossfit import Predict, out_of_fold, refit, stratified_folds, telling
from datapipe.measure.kernel import kernel_predictor
from datapipe.measure.label_noise import confident_joint, prune_by_noise_rate
from datapipe.measure.neighbours import principal
from datapipe.measure.noise_floor import noise_floor

FEWEST_ROWS = 50
"""Below this nothing can be told from folds."""
WIDE = 96
"""From this many pixels on, images are reduced to their principal components."""
COMPONENTS = 64
FLOOR = 0.02
"""Share of uniform noise when two classifiers are compared by the likelihood of noisy labels."""

SETTLED = 0.95
"""Share of the labels not pruned that a classifier must predict for no other to be tried..."""
MANY_NUMBERS = 1_000_000
"""... where a classifier is costly: from so many features of all rows, times classes, on."""

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

    `given` and `likeliest` are numbers of classes, which `names` names; `own` is the probability of
    the given label, `rival` the largest of the others; `telling` is how well the features tell the
    labels, None where probabilities were given.
    """

    given: Ints
    names: tuple[str, ...]
    own: Floats
    rival: Floats
    error: Floats
    likeliest: Ints
    pruned: Bools
    joint_rate: float
    floor: Estimate
    details: Mapping[str, Any]
    telling: Estimate | None = None


def labelled(named: pl.Series, fewest: int, fewest_rows: int = FEWEST_ROWS) -> Labelled | str:
    """Number the classes; rows without a label and classes of too few rows are left out."""
    named = named.rename("label")
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
    if place.size < fewest_rows:
        return f"{place.size} labelled rows are too few, {fewest_rows} are the least"
    numbers = named.gather(place).replace_strict(
        enough, np.arange(len(enough)), return_dtype=pl.Int64
    )
    names = tuple(enough.cast(pl.String).to_list())
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
    elif classifier == "boosted":
        options["boosted"] = boosted_predictor(values, rows.classes, k)
    else:
        if classifier != "linear":
            rng = context.rng("landmarks")
            options["kernel"] = kernel_predictor(values, rows.classes, k, rng)
        if classifier != "kernel":
            options["linear"] = dense_predictor(values, rows.classes, k)
    costly = values.size * k >= MANY_NUMBERS
    chosen, first = _likelier(options, rows.classes, fold, k, costly=costly)
    made = refit(options[chosen], rows.classes, fold, k, first)
    joint = confident_joint(rows.classes, made.first)
    own = made.second[np.arange(rows.classes.size), rows.classes]
    others = made.second.copy()
    others[np.arange(rows.classes.size), rows.classes] = 0.0
    copies = int(groups.size - np.count_nonzero(np.bincount(groups)))
    return Judgement(
        rows.classes,
        rows.names,
        own,
        others.max(1),
        made.posterior.error,
        made.posterior.likeliest,
        made.pruned,
        1.0 - float(np.trace(joint)) / rows.classes.size,
        noise_floor(rows.classes, made.first).estimate(),
        {"classifier": chosen, "folds": folds, "copies_kept_together": copies},
        telling(rows.classes, made.first),
    )


def _likelier(
    options: Mapping[str, Predict], classes: Ints, fold: Ints, k: int, *, costly: bool
) -> tuple[str, Floats]:
    """The classifier under which left-out labels, noise and all, are likeliest; its first round.

    Where another one is costly and the first explains nearly all labels that it does not hold to be
    wrong, none is fitted: it could not do much better.
    """
    everywhere = np.ones(classes.size, bool)
    scores: dict[str, float] = {}
    rounds: dict[str, Floats] = {}
    for name, predict in options.items():
        rounds[name] = out_of_fold(predict, fold, everywhere, k)
        if len(options) == 1 or (costly and _settled(rounds[name], classes)):
            return name, rounds[name]
        made = softened(rounds[name], temperature(rounds[name], classes))
        own = made[np.arange(classes.size), classes]
        scores[name] = float(np.log((1 - FLOOR) * own + FLOOR / k).sum())
    best = max(scores, key=lambda name: scores[name])
    return best, rounds[best]


def _settled(made: Floats, classes: Ints) -> bool:
    kept = ~prune_by_noise_rate(classes, made)
    return bool((made[kept].argmax(1) == classes[kept]).mean() >= SETTLED)
