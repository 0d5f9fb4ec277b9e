# SPDX-License-Identifier: Apache-2.0
"""*Clean* is withheld where the test could not have found a share of poison worth finding."""

from __future__ import annotations

from dataclasses import replace

from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding


def withheld(finding: Finding, least: int, of: int, most: float, what: str = "rows") -> Finding:
    """The finding, as *not evaluated* where it says *clean* and more could have gone unseen.

    Its scores stay: they rank rows whatever the test can tell.

    Args:
        finding: What the stage says.
        least: The least number of poisoned rows that would have raised the alarm.
        of: How many rows were looked at, or one source has.
        most: The largest share of them that may go unseen.
        what: What the rows are of.

    Returns:
        The same finding, or one that says why there is no verdict.
    """
    if finding.verdict != "clean" or least <= most * of:
        return finding
    why = f"an alarm takes {least} of {of} {what}, and at most {most:.0%} of them may go unseen"
    measure = Estimate.unknown(method=f"underpowered: {why}", n=of)
    return replace(finding, verdict="not_evaluated", measure=measure, says=f"not evaluated: {why}")
