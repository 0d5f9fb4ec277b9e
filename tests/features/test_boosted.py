# SPDX-License-Identifier: Apache-2.0
"""Boosted trees predict rows they have not seen, bends included, and know every class."""

from __future__ import annotations

import numpy as np

from datapipe.features.boosted import boosted_predictor
from datapipe.features.linear import dense_predictor


def test_what_bends_is_learnt_and_a_class_that_was_not_fitted_has_no_chance():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (600, 2)).astype(np.float32)
    labels = (np.abs(x[:, 0]) > 0.5).astype(np.int64)
    fitted, asked = np.arange(400), np.arange(400, 600)
    made = boosted_predictor(x, labels, 3)(fitted, asked)
    assert (made.argmax(1) == labels[asked]).mean() > 0.95
    assert (dense_predictor(x, labels, 3)(fitted, asked).argmax(1) == labels[asked]).mean() < 0.8
    assert np.allclose(made.sum(1), 1.0)
    assert (made[:, 2] == 0).all()
    one = boosted_predictor(x, labels, 3)(np.flatnonzero(labels == 1), asked)
    assert one[:, 1].min() == 1.0
