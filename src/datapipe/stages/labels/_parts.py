# SPDX-License-Identifier: Apache-2.0
"""Labels that are sets of classes, tokens, boxes or values, against given predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.measure.box_issues import box_issues
from datapipe.measure.label_kinds import set_issues, token_issues, value_issues
from datapipe.measure.noise_floor import noise_floor
from datapipe.stages.labels._boxes import FOUND, box_reasons, boxes_of, in_classes
from datapipe.stages.labels._brought import Brought, matched
from datapipe.stages.labels._judging import Bools, Floats, Ints, Labelled

MOST_NAMED = 5
"""Parts that a row's reason names."""


@dataclass(frozen=True, eq=False)
class PartsJudged:
    """What was made of the rows whose label was there: `place` in the data set."""

    place: Ints
    flags: Bools
    scores: Floats
    reasons: list[str]
    suggested: list[str | None]
    rate: Estimate
    floor: Estimate
    unit: str
    details: dict[str, Any] = field(default_factory=dict)


def kind_of(data: Dataset, columns: tuple[str, ...]) -> str:
    """What the labels are, by the types of their column and of the predictions."""
    label = data.types[data.roles.one("label")]
    if not isinstance(label, pl.List | pl.Array):
        return "class"
    if isinstance(label.inner, pl.Struct):
        return "boxes"
    named = [data.types[c] for c in columns if c in data.names]
    nested = named and isinstance(getattr(named[0], "inner", None), pl.List | pl.Array)
    return "tokens" if nested else "multilabel"


def judged_parts(data: Dataset, kind: str, columns: tuple[str, ...]) -> PartsJudged | str:
    """Judge labels that have parts, or that are values, by predictions that come along."""
    labels = data.values("label")
    place = np.flatnonzero(labels.is_not_null().to_numpy())
    if not place.size:
        return "no row has a label"
    labels = labels.gather(place)
    if kind == "value":
        return _values(data, labels, place, columns)
    if kind == "boxes":
        return _boxes(data, labels, place, columns)
    if not isinstance(labels.dtype, pl.List | pl.Array):
        raise SchemaMismatch(
            f"the label holds {labels.dtype}, lists are needed for kind={kind!r}",
            hint="leave kind='auto'",
        )
    lists = labels.arr.to_list() if isinstance(labels.dtype, pl.Array) else labels
    lengths = lists.list.len().to_numpy().astype(np.int64)
    flat = lists.filter(lists.list.len() > 0).explode()
    if flat.null_count() or not flat.len():
        raise Malformed(
            "a list of labels holds an empty place, or all are empty",
            code="DP-DATA-063",
            hint="give an empty list to a row without classes",
        )
    known = flat.unique().sort()
    codes = flat.replace_strict(known, np.arange(len(known)), return_dtype=pl.Int64).to_numpy()
    rows = Labelled(place, codes, tuple(known.cast(pl.String).to_list()), {})
    judge = _sets if kind == "multilabel" else _tokens
    return judge(data, rows, lengths, columns)


def _sets(data: Dataset, rows: Labelled, lengths: Ints, columns: tuple[str, ...]) -> PartsJudged:
    brought = Brought.of(data, rows, columns)
    order = matched(rows, brought)
    brought = brought.in_order(order.columns)
    p = np.concatenate(list(brought.read(mend=False)))
    _refuse_no_share(p, rows.place)
    given = np.zeros(p.shape, bool)
    given[np.repeat(np.arange(lengths.size), lengths), order.classes] = True
    made = set_issues(given, p)
    likely = given ^ made.mask
    reasons, suggested = [], []
    for row in range(len(given)):
        parts = np.flatnonzero(made.mask[row])
        parts = parts[np.argsort(-made.doubt[row, parts], kind="stable")]
        told = [f"{order.names[k]} {'given' if given[row, k] else 'missing'}" for k in parts]
        reasons.append(_told("the classes contradict their probabilities", told))
        right = [order.names[k] for k in np.flatnonzero(likely[row])]
        suggested.append(json.dumps(right, ensure_ascii=False) if parts.size else None)
    said = given.ravel().astype(np.int64)
    floor = noise_floor(said, np.stack([1 - p.ravel(), p.ravel()], 1).astype(np.float64))
    return PartsJudged(
        rows.place, np.asarray(made.mask.any(1)), made.score, reasons, suggested,
        _rate(made.rate, int(made.mask.sum()), said.size), floor.estimate(), "memberships",
        {"parts_flagged": int(made.mask.sum()), "parts": said.size},
    )  # fmt: skip


def _tokens(data: Dataset, rows: Labelled, lengths: Ints, columns: tuple[str, ...]) -> PartsJudged:
    if len(columns) != 1:
        raise SchemaMismatch(
            f"{len(columns)} columns of probabilities for tokens",
            hint="name one column of lists of lists: one list a token",
        )
    nested = data.frame(list(columns))[columns[0]].gather(rows.place)
    nested = nested.arr.to_list() if isinstance(nested.dtype, pl.Array) else nested
    sizes = nested.list.len().fill_null(0).to_numpy()
    if not np.array_equal(sizes, lengths):
        row = int(rows.place[np.flatnonzero(sizes != lengths)[0]])
        raise SchemaMismatch(
            f"row {row}: there are not as many lists of probabilities as tokens",
            hint="give one list of probabilities a token",
        )
    each = nested.filter(nested.list.len() > 0).explode()
    each = each.arr.to_list() if isinstance(each.dtype, pl.Array) else each
    width = int(each.list.len().max() or 0)  # type: ignore[arg-type]  # a length is an int
    if each.null_count() or (each.list.len() != width).any() or not width:
        raise SchemaMismatch(
            f"the lists of {columns[0]!r} are missing or differ in length",
            hint="give every token one probability a class",
        )
    p = each.explode().cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(-1, width)
    owner = np.repeat(np.arange(lengths.size), lengths)
    _refuse_no_share(p, rows.place[owner])
    order = matched(rows, Brought(data, columns, rows.place, width))
    made = token_issues(order.classes, p, lengths)
    reasons: list[str] = [""] * lengths.size
    suggested: list[str | None] = [None] * lengths.size
    starts = np.cumsum(lengths) - lengths
    flags = np.bincount(owner, weights=made.mask, minlength=lengths.size) > 0
    for row in np.flatnonzero(flags).tolist():
        span = np.arange(starts[row], starts[row] + lengths[row])
        parts = span[made.mask[span]]
        parts = parts[np.argsort(-made.doubt[parts], kind="stable")]
        told = [
            f"token {t - starts[row]}: {order.names[order.classes[t]]} given,"
            f" {order.names[made.likeliest[t]]} likely"
            for t in parts
        ]
        reasons[row] = _told("tokens contradict their probabilities", told)
        right = np.where(made.mask[span], made.likeliest[span], order.classes[span])
        suggested[row] = json.dumps([order.names[k] for k in right], ensure_ascii=False)
    return PartsJudged(
        rows.place, flags, made.score, reasons, suggested,
        _rate(made.rate, int(made.mask.sum()), made.mask.size),
        noise_floor(order.classes, p).estimate(), "tokens",
        {"parts_flagged": int(made.mask.sum()), "parts": made.mask.size},
    )  # fmt: skip


def _values(
    data: Dataset, labels: pl.Series, place: Ints, columns: tuple[str, ...]
) -> PartsJudged | str:
    if len(columns) != 1 or not labels.dtype.is_numeric():
        raise SchemaMismatch(
            "a label that is a number and one column of predictions are needed for kind='value'",
            hint="name the one column of out-of-fold predictions",
        )
    guess = data.frame(list(columns))[columns[0]].gather(place)
    if not guess.dtype.is_numeric():
        raise SchemaMismatch(f"the column {columns[0]!r} is no number", hint="give predictions")
    said, told = (s.cast(pl.Float64).to_numpy() for s in (labels, guess))
    bad = ~(np.isfinite(said) & np.isfinite(told))
    if bad.any():
        raise Malformed(
            f"row {place[bad.argmax()]}: the label or its prediction is missing or infinite",
            code="DP-DATA-064",
            hint="mend or leave out these rows",
        )
    if np.unique(told).size == 1 and place.size > 1:
        return "every row has the same prediction: they tell nothing of any label"
    made = value_issues(said, told)
    reasons = [
        f"the label is {abs(a - b) / max(made.spread, 1e-300):.1f} spreads from its prediction"
        if flag
        else ""
        for a, b, flag in zip(said, told, made.mask, strict=True)
    ]
    whole = labels.dtype.is_integer()
    right = [
        (str(round(b)) if whole else repr(float(b))) if flag else None
        for b, flag in zip(told, made.mask, strict=True)
    ]
    rate = Estimate.rate(int(made.mask.sum()), made.mask.size)
    return PartsJudged(
        place, made.mask, made.score, reasons, right, rate, rate, "values",
        {"residual_spread": made.spread},
    )  # fmt: skip


def _boxes(
    data: Dataset, labels: pl.Series, place: Ints, columns: tuple[str, ...]
) -> PartsJudged | str:
    if len(columns) != 1:
        raise SchemaMismatch(
            f"{len(columns)} columns of predictions for boxes",
            hint="name the one column of predicted boxes",
        )
    given = boxes_of(labels, place, ("label", "box"))
    found = boxes_of(data.frame(list(columns))[columns[0]].gather(place), place, FOUND)
    if not given.names.len():
        return "no image has a box"
    if not found.names.len():
        return "no box was predicted: nothing can be told of any label"
    mine, theirs, names = in_classes(given, found)
    made = box_issues(mine, theirs, place.size, len(names))
    flagged = made.is_badly_located | made.is_swapped
    flags = np.zeros(place.size, bool)
    flags[mine.image[flagged]] = flags[theirs.image[made.is_overlooked]] = True
    parts: dict[int, list[tuple[float, str]]] = {}
    for image, quality, told in box_reasons(mine, theirs, names, made):
        parts.setdefault(image, []).append((quality, told))
    reasons = [
        _told("boxes contradict their predictions", [t for _, t in sorted(parts.get(i, []))])
        for i in range(place.size)
    ]
    rate = Estimate.rate(int(flagged.sum()), flagged.size)
    counts = {
        "overlooked": int(made.is_overlooked.sum()),
        "badly_located": int(made.is_badly_located.sum()),
        "swapped": int(made.is_swapped.sum()),
    }
    return PartsJudged(
        place, flags, 1.0 - made.quality, reasons, [None] * place.size, rate, rate, "boxes",
        {"parts_flagged": int(flagged.sum()), "parts": flagged.size, **counts},
    )  # fmt: skip


def _told(head: str, parts: list[str]) -> str:
    more = f" and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else ""
    return f"{head}: {'; '.join(parts[:MOST_NAMED])}{more}" if parts else ""


def _rate(joint: float, flagged: int, n: int) -> Estimate:
    """From the flagged share's lower bound to the confident joint's upper one."""
    low = Estimate.rate(flagged, n)
    high = Estimate.rate(round(joint * n), n)
    method = "label-free bracket, not audited"
    return Estimate(joint, min(low.low, joint), max(low.high, high.high), n=n, method=method)


def _refuse_no_share(p: Any, place: Ints) -> None:
    """Refuse what lies outside [0, 1]; here rows of a set need not sum to 1."""
    bad = ~((p >= 0) & (p <= 1.0 + 1e-6)).all(1)
    if bad.any():
        raise Malformed(
            f"row {place[int(bad.argmax())]}: a probability is missing or outside [0, 1]",
            code="DP-DATA-061",
            hint="mend or leave out these rows; for logits, apply a sigmoid or softmax first",
        )
