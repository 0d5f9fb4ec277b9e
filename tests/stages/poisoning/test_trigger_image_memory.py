# SPDX-License-Identifier: Apache-2.0
"""The search in images takes little beside the data."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.measure.neighbours import principal
from datapipe.stages.poisoning._image.axes import principal_of
from datapipe.stages.poisoning._image.pixels import Pixels
from datapipe.stages.poisoning.trigger_image import TriggerImage


@pytest.mark.parametrize("width", [30, 600], ids=["exact", "random projection"])
@pytest.mark.parametrize("blind", [False, True])
def test_components_of_rows_read_a_few_at_a_time_are_those_of_all_at_once(width, blind):
    rng = np.random.default_rng(width)
    spread = np.linspace(40.0, 1.0, width)
    values = np.clip(rng.normal(128.0, spread, (900, width)), 0, 255).astype(np.uint8)
    rows = np.sort(rng.permutation(900)[:700])
    taken, without = values[rows].astype(np.float32), None
    if blind:
        without = rng.normal(size=width).astype(np.float32)
        without /= np.linalg.norm(without)
        taken -= np.outer(taken @ without, without)
    want = principal(taken, 5, np.random.default_rng(1))
    made = principal_of(Pixels(values), rows, 5, np.random.default_rng(1), without)
    assert np.allclose(made.mean, want.mean, atol=1e-3)
    assert np.allclose(made.axes, want.axes, atol=2e-3)
    assert np.allclose(made.variances, want.variances, rtol=1e-3)


def test_the_search_takes_little_beside_the_data():
    """4,000 images of 28 x 28, as 32-bit floats 12.5 million bytes, of which a quarter is kept."""
    rng = np.random.default_rng(3)
    side, n = 28, 4000
    labels = rng.integers(0, 10, n)
    coarse = np.random.default_rng(0).uniform(0, 150, (10, 7, 7))
    images = np.kron(coarse, np.ones((4, 4)))[labels] + rng.integers(0, 40, (n, side, side))
    rows = rng.permutation(np.flatnonzero(labels != 3))[:40]
    images[rows, 20:24, 6:10] = 255
    labels[rows] = 3
    flat = images.reshape(n, -1).astype(np.float32)
    data = Dataset.of(pl.DataFrame({"i": flat, "y": labels}), Roles.of(image="i", label="y"))
    tracemalloc.start()
    try:
        finding = TriggerImage().run(data, Context(3, Path())).findings[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert finding.details["class"] == "3"
    assert peak < 1.4 * flat.nbytes
