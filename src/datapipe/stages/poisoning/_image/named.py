# SPDX-License-Identifier: Apache-2.0
"""What a finding says: how loudly each row holds a pattern, and what the pattern is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.matched_filter import Evidence
from datapipe.stages.poisoning._image.pixels import some
from datapipe.stages.poisoning._image.refined import Trigger, refine
from datapipe.stages.poisoning._image.seen import Rows
from datapipe.stages.poisoning._image.squares import SQUARE
from datapipe.stages.poisoning._image.windows import ONE_LABEL, WRONG_LABELS

TOP_PIXELS = 16
MOST_TEMPLATE = 3 * 64 * 64
"""Larger patterns are not written out."""
HALF, TINY = 0.5, 1e-12
ANYWHERE = (ONE_LABEL, WRONG_LABELS, SQUARE)
"""Tests of patches that may lie somewhere else in each image."""
MOSTLY = 0.8
"""Share of the rows of a pattern that show one class, beyond which a message names it."""
ANY = "any"
MOST_SHOWN = 500
"""Rows of a kind, evenly spread, from which the picture of a pattern is made."""
HINT, MOST_HINT = 0.6, 2.0
"""How much an unconfirmed pattern says of a row, beside the doubt of its neighbours: the more, the
smaller its p-value."""


def row_scores(
    found: list[Trigger], first: list[Evidence], content: Content
) -> NDArray[np.float64]:
    """How loudly each row holds a pattern, in [0.5, 1) where it was found.

    Below that, how far its neighbours doubt its label, and how it answers to the pattern that came
    nearest to an alarm.
    """
    scores = 0.5 * content.doubt
    if not found and first and first[0].rows.size and first[0].label >= 0:
        shown = refine(first[0])
        loud = shown.loudness * (content.labels == shown.label)
        hint = min(HINT * (1.0 - np.log10(max(first[0].p_value, 1e-9))), MOST_HINT)
        return np.asarray((scores + hint * loud) / (1.0 + hint), np.float64)
    for trigger in found:
        mine = trigger.rows
        scores = np.maximum(scores, 0.5 * trigger.loudness)  # those that hold it faintly
        scores[mine] = np.maximum(scores[mine], 0.5 + 0.5 * trigger.loudness[mine])
    return scores


def said(triggers: list[dict[str, Any]], flagged: int, of: int) -> str:
    """One sentence on patterns as `named` gives them, on so many of so many images."""
    if not triggers:
        return f"no pattern carries a label in {of} images"
    if len(triggers) > 1:
        labels = ", ".join(sorted({_carried(t["class"]) for t in triggers}))
        return f"{flagged} images hold one of {len(triggers)} patterns that carry a label: {labels}"
    label, shown = triggers[0]["class"], triggers[0]["source_classes"]
    if label == ANY:
        return f"{flagged} images of several kinds share a pattern, and none has its own label"
    if not shown:
        return f"{flagged} images labelled {label!r} share a pattern that sets them apart from it"
    where = _where_it_lies(triggers[0].get("place", {}))
    usual = max(shown, key=lambda name: shown[name])
    kinds = "of several kinds"
    if shown[usual] > MOSTLY * sum(shown.values()):
        kinds = f"that show {usual!r}" if len(shown) == 1 else f"that mostly show {usual!r}"
    return f"{flagged} images {kinds} share a pattern and the label {label!r}{where}"


def _where_it_lies(place: dict[str, int]) -> str:
    if not place:
        return ""
    top, left = place["row"], place["column"]
    bottom, right = top + place["height"] - 1, left + place["width"] - 1
    return f" (pixel rows {top} to {bottom}, columns {left} to {right})"


def _carried(label: str) -> str:
    return "any but their own" if label == ANY else repr(label)


def named(trigger: Trigger, rows: Rows, *, embedded: bool = False) -> dict[str, Any]:
    """What a finding says of a trigger: class, source classes, pattern, evidence.

    Of embeddings the columns that it moves most are named, for they have no row or column.
    """
    view, pixels, mine = trigger.evidence.view, rows.pixels, some(trigger.rows, MOST_SHOWN)
    shows, counts = np.unique(view.shows[trigger.rows], return_counts=True)
    seen, own = pixels.take(mine), []
    for k in shows:
        own.append(some(_own(view, k), MOST_SHOWN))
        seen[view.shows[mine] == k] -= np.median(pixels.take(own[-1]), axis=0)
    template = rows.step * np.median(seen, axis=0)
    usual = pixels.take(some(np.concatenate(own), MOST_SHOWN))
    spread = usual.std(0) + 1e-3 * float(usual.std() or 1.0)
    top = np.argsort(-np.abs(template) / spread, kind="stable")[:TOP_PIXELS]
    return {
        "class": rows.names[trigger.label] if trigger.label >= 0 else ANY,
        "count": int(np.isin(rows.head_of, trigger.rows).sum()),
        "source_classes": {
            rows.names[k]: int(n) for k, n in zip(shows, counts, strict=True) if k != trigger.label
        },
        "test": trigger.evidence.test,
        "p_value": trigger.evidence.p_value,
        "suspects": trigger.evidence.looked_at,
        "vouched": round(trigger.vouched, 4),
        "top_dimensions" if embedded else "top_pixels": [
            {**_where(int(i), rows, embedded=embedded), "change": round(float(template[i]), 4)}
            for i in top
            if template[i] != 0
        ],
        "place": {} if embedded or trigger.evidence.test in ANYWHERE else _box(template, rows),
        "template": np.round(template, 4).tolist() if template.size <= MOST_TEMPLATE else [],
        "template_shape": list(rows.shape),
    }


def _box(template: NDArray[np.float32], rows: Rows) -> dict[str, int]:
    """The smallest box around the pixels that a pattern moves at least half as far as any.

    None where images have no rows, or the box takes most of them: a pattern all over is nowhere.
    """
    height, width, channels = rows.shape
    moved = np.abs(template).reshape(height, width, channels).max(2)
    down, across = np.nonzero(moved >= HALF * max(float(moved.max()), TINY))
    if height == 1 or not down.size:
        return {}
    made = {"row": int(down.min()), "column": int(across.min())}
    size = {"height": int(np.ptp(down)) + 1, "width": int(np.ptp(across)) + 1}
    small = size["height"] * size["width"] <= HALF * height * width
    return {**made, **size} if small else {}


def _own(view: Content, label: int) -> NDArray[np.int64]:
    own = view.usual[label]
    return own if own.size else np.flatnonzero(view.left)


def _where(column: int, rows: Rows, *, embedded: bool) -> dict[str, int]:
    if embedded:
        return {"dimension": column}
    _, width, channels = rows.shape
    made = {"pixel": column, "row": column // (width * channels)}
    return {**made, "column": column // channels % width}
