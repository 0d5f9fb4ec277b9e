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
from datapipe.measure.label_noise import confident_joint
from datapipe.measure.label_scan import InMemory, pruned
from datapipe.measure.neighbours import principal
from datapipe.measure.noise_floor import noise_floor
from datapipe.measure.noise_models import noise_model

FEWEST_ROWS = 50
"""Below this nothing can be told from folds."""
WIDE = 96
"""From this many pixels on, images are reduced to their principal components."""
COMPONENTS = 64
OFF = 1e-4
"""How far the probabilities of a row may be from 1 together before they are brought back to it."""
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


def judged_by_columns(
    data: Dataset, rows: Labelled, columns: tuple[str, ...], context: Context
) -> Judgement | str:
    """Judge labels by out-of-fold probabilities that the data set brings along.

    The mask and the joint are the reference's; rows are ranked by the model of label noise under
    which left-out labels are likeliest.
    """
    given = probabilities_of(data, columns)[rows.place]
    classes, names = _columns_of(rows, given.shape[1])
    if not np.isfinite(given).all() or (given < 0).any():
        return "some probabilities are missing or negative"
    sums = given.sum(1)
    if (sums <= 0).any():
        return "some rows have no probability at all"
    off = int((np.abs(sums - 1.0) > OFF).sum())
    probabilities = given / sums[:, None] if off else given
    found = pruned(InMemory(classes, probabilities))
    model = noise_model(classes, probabilities, context.rng("noise"))
    posterior = model.judge(classes, probabilities)
    return Judgement(
        classes,
        names,
        probabilities,
        posterior.error,
        found.scan.leading.astype(np.int64),
        found.mask,
        1.0 - float(np.trace(found.joint)) / classes.size,
        noise_floor(classes, probabilities).estimate(),
        {
            "classifier": "given",
            "rows_renormalised": off,
            "noise_model": model.name,
            "noise_model_scores": {n: s.to_json() for n, s in model.scores.items()},
        },
    )


def probabilities_of(data: Dataset, columns: tuple[str, ...]) -> Floats:
    """Probabilities of one list column, or of one column a class; single precision stays so."""
    named = list(Roles({"image": columns}).resolved(data.names, where="probabilities").all("image"))
    frame = data.frame(named)
    if len(named) == 1 and frame.dtypes[0].is_nested():
        return _of_lists(frame[named[0]])
    odd = [n for n, kind in frame.schema.items() if not kind.is_numeric()]
    if odd:
        raise SchemaMismatch(
            f"the column {odd[0]!r} is no number", hint="name one list column, or one a class"
        )
    narrow = all(kind in (pl.Float32, pl.Float16) for kind in frame.dtypes)
    kind = pl.Float32 if narrow else pl.Float64
    filled = frame.select(pl.all().cast(kind).fill_null(float("nan")))
    return np.ascontiguousarray(filled.to_numpy())


def _of_lists(values: pl.Series) -> Floats:
    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    if not isinstance(lists.dtype, pl.List) or not lists.dtype.inner.is_numeric():
        raise SchemaMismatch(
            f"the column {values.name!r} holds {values.dtype}, lists of numbers are needed"
        )
    widths = lists.list.len().unique()
    if lists.null_count() or len(widths) != 1 or not widths[0]:
        raise SchemaMismatch(
            f"the lists of {values.name!r} are missing or differ in length",
            hint="give every row one probability a class",
        )
    narrow = lists.dtype.inner in (pl.Float32, pl.Float16)
    flat = lists.explode().cast(pl.Float32 if narrow else pl.Float64)
    return flat.fill_null(float("nan")).to_numpy().reshape(len(values), int(widths[0]))


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
