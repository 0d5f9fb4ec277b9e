# SPDX-License-Identifier: Apache-2.0
"""How far a run has come, one line a group of steps: rows a second, memory, budget, time left.

The time left is what the remaining stages took when they last ran on this store, scaled by rows;
where one of them never ran here, nothing is said.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from datapipe.core.pipeline import Plan
from datapipe.execute._clock import peak_bytes
from datapipe.execute._group import GroupDone
from datapipe.lineage.store import Lineage

log = logging.getLogger("datapipe.execute")

_PACE = """
select stage, arg_max(seconds, seq) as seconds, arg_max(rows_in, seq) as rows
from steps where reused_from is null and seconds is not null and rows_in > 0
group by stage
"""


class Progress:
    """The lines about one run; silent unless somebody listens.

    Args:
        plan: What is run.
        lineage: The store, for the time that stages took before.

    Example:
        >>> from datapipe.core.roles import Roles
        >>> import tempfile
        >>> Progress(Plan("p", (), Roles()), Lineage(tempfile.mkdtemp(), create=True)).epsilon
        0.0
    """

    def __init__(self, plan: Plan, lineage: Lineage) -> None:
        self.epsilon = 0.0
        self._plan = plan
        self._lineage = lineage
        self._pace: Mapping[str, float] | None = None

    def done(self, group: GroupDone) -> None:
        """Say that a group of steps has finished.

        Args:
            group: The group.

        Example:
            >>> Progress.done.__name__
            'done'
        """
        if not log.isEnabledFor(logging.INFO):
            return
        self.epsilon += sum(e.epsilon for o in group.outcomes for e in o.privacy)
        rows = group.counts()[0][0]
        aside = sum(o.rows_aside for o in group.outcomes)
        last = group.steps[-1].position + 1
        names = ", ".join(s.stage.name for s in group.steps)
        parts = [f"{names}: step {last} of {len(self._plan.steps)}"]
        if group.origins:
            parts.append(f"{rows:,} rows, reused")
        else:
            pace = f" ({rows / group.clock.seconds:,.0f} rows/s)" if group.clock.seconds else ""
            parts.append(f"{rows:,} rows in {group.clock.seconds:.1f} s{pace}")
        parts += [f"{aside:,} set aside"] if aside else []
        parts.append(f"{peak_bytes() / 1e6:,.0f} MB at most")
        parts += [f"epsilon {self.epsilon:.3g} so far"] if self.epsilon else []
        left = self._left(last, len(group.out))
        parts += [f"about {left:.0f} s left"] if left is not None else []
        log.info("%s", ", ".join(parts))

    def _left(self, after: int, rows: int) -> float | None:
        """Seconds that the steps after a place will take; None when one of them is unknown."""
        if self._pace is None:
            found = self._lineage.sql(_PACE).rows()
            self._pace = {stage: seconds / n for stage, seconds, n in found}
        names = [s.stage.name for s in self._plan.steps[after:]]
        if not names or any(name not in self._pace for name in names):
            return None
        return sum(self._pace[name] * rows for name in names)
