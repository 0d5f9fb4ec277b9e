# SPDX-License-Identifier: Apache-2.0
"""Boxes: images flagged and scored as cleanlab does, planted faults told by their kind."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.errors import DeclarationError
from datapipe.measure.box_issues import Boxes, box_issues

CLASSES = 3


def boxes(lines, width):
    """(image, class, x1, y1, x2, y2[, score]) in order of images."""
    table = np.array(lines, float).reshape(-1, width)
    score = table[:, 6] if width == 7 else np.ones(len(table))
    return Boxes(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:6], score)


def world(seed, n=50):
    """Images with up to four objects, a model that sees most of them, and a fault in one of three.

    Gives cleanlab's form, ours, and the fault of each image.
    """
    rng = np.random.default_rng(seed)
    labels, predictions, given, found, faults = [], [], [], [], []
    for image in range(n):
        m = int(rng.integers(0, 5))
        corner = rng.integers(0, 200, (m, 2)).astype(float)
        true = np.c_[corner, corner + rng.integers(15, 80, (m, 2))]
        kind = rng.integers(0, CLASSES, m)
        extra = int(rng.integers(0, 2))
        place = rng.integers(0, 200, (extra, 2)).astype(float)
        seen = np.r_[true + rng.normal(0, 1, true.shape), np.c_[place, place + 30]]
        sure = np.r_[np.clip(rng.beta(8, 0.5, m), 0.05, 0.999), 0.6 * rng.random(extra)]
        what = np.r_[kind, rng.integers(0, CLASSES, extra)]
        fault = str(rng.choice(["lost", "swapped", "moved", "twice", ""], p=[0.1] * 4 + [0.6]))
        fault = fault if m else ""
        if fault == "lost":
            true, kind = true[1:], kind[1:]
        elif fault == "swapped":
            kind[0] = (kind[0] + 1) % CLASSES
        elif fault == "moved":
            true[0] += np.array([12, 9, 12, 9])
        elif fault == "twice":
            true, kind = np.r_[true, true[:1]], np.r_[kind, (kind[:1] + 1) % CLASSES]
        labels.append({"bboxes": true, "labels": kind})
        predictions.append([np.c_[seen, sure][what == k] for k in range(CLASSES)])
        given += [(image, k, *box) for k, box in zip(kind, true, strict=True)]
        found += [(image, k, *line) for k in range(CLASSES) for line in predictions[-1][k]]
        faults.append(fault)
    return labels, predictions, boxes(given, 6), boxes(found, 7), faults


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.power) for s in (1, 2))])
def test_images_are_flagged_and_scored_as_cleanlab_does(seed):
    filters = pytest.importorskip("cleanlab.object_detection.filter")
    rank = pytest.importorskip("cleanlab.object_detection.rank")
    labels, predictions, given, found, _ = world(seed)
    made = box_issues(given, found, len(labels), CLASSES)
    flags = np.zeros(len(labels), bool)
    flags[found.image[made.is_overlooked]] = True
    flags[given.image[made.is_badly_located | made.is_swapped]] = True
    assert np.array_equal(flags, filters.find_label_issues(labels, predictions))
    theirs = rank.get_label_quality_scores(labels, predictions, verbose=False)
    assert np.allclose(made.quality, theirs, atol=1e-8)
    for ours, name in ((made.located, "badloc"), (made.classed, "swap")):
        parts = getattr(rank, f"compute_{name}_box_scores")(labels=labels, predictions=predictions)
        assert np.allclose(ours, np.concatenate(parts), atol=1e-9)


def test_the_kind_of_fault_is_told():
    hits = {"lost": [], "swapped": [], "twice": []}
    for seed in range(3, 9):
        *_, given, found, faults = world(seed)
        made = box_issues(given, found, len(faults), CLASSES)
        overlooked = set(found.image[made.is_overlooked].tolist())
        swapped = set(given.image[made.is_swapped].tolist())
        for image, fault in enumerate(faults):
            if fault in hits:
                hits[fault].append(image in (overlooked if fault == "lost" else swapped))
    shares = {fault: np.mean(found) for fault, found in hits.items()}
    assert shares["twice"] >= 0.9
    assert min(shares.values()) >= 0.3  # a model is sure of few boxes, and others may overlap


def test_no_boxes_or_odd_ones_are_judged_or_refused():
    none, one = boxes([], 6), boxes([(0, 0, 0, 0, 9, 9)], 6)
    sure = boxes([(0, 0, 0, 0, 9, 9, 0.99)], 7)
    assert box_issues(one, boxes([], 7), 2, 1).quality.tolist() == [1.0, 1.0]
    assert box_issues(none, sure, 1, 1).quality[0] < 1
    with pytest.raises(DeclarationError, match="ends before it begins"):
        box_issues(boxes([(0, 0, 9, 0, 0, 9)], 6), sure, 1, 1)
    with pytest.raises(DeclarationError, match="outside"):
        box_issues(one, boxes([(0, 0, 0, 0, 9, 9, 1.5)], 7), 1, 1)
