# SPDX-License-Identifier: Apache-2.0
"""One temperature mends over-confidence, and the calibration error sees what is left."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.errors import DeclarationError
from datapipe.measure.calibration import calibration_error, softened, temperature


def _drawn(seed, n=4000, classes=4, sharpen=1.0):
    """Labels drawn from known probabilities, and those probabilities sharpened."""
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet(np.full(classes, 0.6), n)
    labels = (honest.cumsum(1) > rng.random(n)[:, None]).argmax(1)
    return softened(honest, sharpen), labels, honest


def _error(probabilities, labels):
    return calibration_error(probabilities.max(1), probabilities.argmax(1) == labels)


@pytest.mark.parametrize("sharpen", [0.6, 1.0, 2.0, 4.0])
def test_the_temperature_undoes_sharpening(sharpen):
    given, labels, _ = _drawn(1, sharpen=sharpen)
    assert temperature(given, labels) * sharpen == pytest.approx(1.0, rel=0.12)


def test_the_error_sees_over_confidence_and_its_mending():
    given, labels, honest = _drawn(2, sharpen=3.0)
    assert _error(given, labels).low > 0.05
    assert _error(honest, labels).value < 0.04
    assert _error(softened(given, temperature(given, labels)), labels).value < 0.04


def test_the_interval_holds_the_value_and_ties_share_a_bin():
    error = calibration_error(np.repeat([0.5, 0.9], 50), np.repeat([True, False], 50))
    assert error.value == pytest.approx(0.7)
    assert error.low <= error.value <= error.high
    assert np.isnan(calibration_error(np.empty(0), np.empty(0, bool)).value)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DeclarationError):
        temperature(np.ones((2, 2)) / 2, np.zeros(3, np.int64))
