# SPDX-License-Identifier: Apache-2.0
"""Scales enclose what they are drawn for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from datapipe.report.svg import scale


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_ticks_enclose_the_range(a, b):
    low, high = sorted((a, b))
    ticks = scale([low], [high])
    slack = 1e-9 * max(abs(low), abs(high), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 8
    assert low < 0 or ticks[0] >= 0
