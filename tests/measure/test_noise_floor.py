# SPDX-License-Identifier: Apache-2.0
"""The floor covers the planted noise rate and stays at zero for labels that are merely hard."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.errors import DeclarationError
from datapipe.measure.noise_floor import noise_floor


def _labels(seed, noise, *, n=3000, slope=1.0):
    """Labels whose doubt is a logistic function of the model's log odds, then flipped."""
    rng = np.random.default_rng(seed)
    odds = np.abs(rng.normal(0, 2.5, n))
    sure = 1 / (1 + np.exp(-odds))
    honest = (rng.random(n) > 1 / (1 + np.exp(-slope * odds))).astype(np.int64)
    flipped = rng.random(n) < noise
    return np.where(flipped, 1 - honest, honest), np.column_stack([sure, 1 - sure])


@pytest.mark.parametrize(
    "noise", [0.03, *(pytest.param(n, marks=pytest.mark.power) for n in (0.1, 0.2))]
)
def test_the_floor_lies_near_the_noise_rate(noise):
    floors = [noise_floor(*_labels(seed, noise)).estimate() for seed in range(20)]
    assert np.mean([f.value for f in floors]) == pytest.approx(noise, abs=0.015)
    # where the share counts as level, the hard rows that are left lift it a little
    assert np.mean([f.low <= noise <= f.high for f in floors]) >= 0.6


@pytest.mark.parametrize(
    ("slope", "worlds"),
    [(1.0, 10), *(pytest.param(s, 30, marks=pytest.mark.power) for s in (0.6, 1.0, 2.0))],
)
def test_hard_rows_alone_are_no_noise(slope, worlds):
    judged = (noise_floor(*_labels(s, 0.0, slope=slope)) for s in range(worlds))
    alarms = sum(one.p_value(0.02) < 0.01 for one in judged)
    assert alarms <= 1


def test_the_test_has_power():
    found = sum(noise_floor(*_labels(s, 0.1)).p_value(0.02) < 0.01 for s in range(20))
    assert found >= 16


def test_overlapping_classes_show_no_wrong_labels():
    shown = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, 1000)
        odds = labels + rng.normal(size=1000) - 0.5 + 0.3 * rng.normal(size=1000)
        share = 1 / (1 + np.exp(-odds))
        shown += noise_floor(labels, np.column_stack([1 - share, share])).estimate().low > 0.05
    assert shown <= 4


def test_wrong_labels_of_a_sure_model_are_shown_by_few_rows():
    shown = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sure = rng.uniform(0.7, 0.8, 300)
        labels = (rng.random(300) < 0.3).astype(np.int64)
        shown += noise_floor(labels, np.column_stack([sure, 1 - sure])).estimate().low > 0.05
    assert shown >= 12


def test_nothing_and_what_does_not_fit():
    nothing = noise_floor(np.empty(0, np.int64), np.empty((0, 2)))
    assert np.isnan(nothing.estimate().value)
    assert nothing.p_value(0.1) == 1.0
    with pytest.raises(DeclarationError):
        noise_floor(np.zeros(3, np.int64), np.ones((2, 2)) / 2)
