# SPDX-License-Identifier: Apache-2.0
"""The finding that names columns which copy the label."""

from __future__ import annotations

from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding

LEAK = "labels.leak"


def leak(columns: list[str], label: str, rows: int) -> Finding:
    """The finding that names them."""
    told = ", ".join(repr(c) for c in columns)
    one, many = f"the column {told} copies", f"the columns {told} copy"
    says = f"{one} the label, and was not looked at"
    if len(columns) > 1:
        says = f"{many} the label, and were not looked at"
    return Finding(
        LEAK,
        "suspect",
        Estimate.exact(1.0, n=rows, method="labels that a column beside them repeats"),
        says,
        severity="high",
        columns=(*columns, label),
        details={"copies": columns},
        remedy="leave the copies out: a model would read the label from them",
    )
