# SPDX-License-Identifier: Apache-2.0
"""What is done to a finding once it is made: a *clean* withheld, a trigger proved."""

from __future__ import annotations

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.errors import MissingExtra


def withheld(
    finding: Finding,
    least: int,
    of: int,
    most: float,
    what: str = "rows",
    *,
    passing: int | None = None,
) -> Finding:
    """The finding, as *not evaluated* where it says *clean* and more could have gone unseen.

    Its scores stay: they rank rows whatever the test can tell.

    Args:
        finding: What the stage says.
        least: The least number of poisoned rows that would have raised the alarm.
        of: How many rows were looked at, or one source has.
        most: The largest share of them that may go unseen.
        what: What the rows are of.
        passing: How many may go unseen, where fewer can have been poisoned than raise the alarm;
            all that do not raise it if it is not given.

    Returns:
        The same finding, or one that says why there is no verdict.
    """
    unseen = least if passing is None else passing
    if finding.verdict != "clean" or unseen <= most * of:
        return finding
    why = f"an alarm takes {least} of {of} {what}"
    if least >= of:
        why = f"no number of {of} {what} is sure to raise an alarm"
    if unseen < least:
        why += f", {unseen} can have been poisoned"
    why += f", and at most {most:.0%} of them may go unseen"
    return finding.withdrawn(why, method=f"underpowered: {why}", n=of)


def asked_to_prove(finding: Finding, data: Dataset, context: Context) -> Finding:
    """The finding with the attack success of a small model, before and after filtering.

    Args:
        finding: What a detector of triggers says.
        data: The rows it looked at.
        context: Its seed parts the rows and draws the first weights.

    Returns:
        The finding; its details hold `proof` where enough rows were flagged.

    Raises:
        MissingExtra: There is no torch.
    """
    try:
        from datapipe.stages.poisoning._proof import proven  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{finding.kind}: prove=True trains a small model and needs {error.name}",
            hint="pip install 'datapipe[train]'",
        ) from error
    return proven(finding, data, context)
