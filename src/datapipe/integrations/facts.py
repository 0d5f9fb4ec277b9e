# SPDX-License-Identifier: Apache-2.0
"""What the store knows about one run, each part the answer to a question in SQL with a name.

Every export is made of these answers and of nothing else, so that a figure in it can be asked for
again by whoever doubts it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datapipe.errors import DeclarationError
from datapipe.lineage.store import Lineage

QUESTIONS: Mapping[str, str] = {
    "run": "from runs where run_id = $run",
    "status": "from run_status where run_id = $run",
    "steps": "from steps where run_id = $run order by position",
    "datasets": "from datasets where run_id = $run order by seq",
    "sources": "select distinct on (source_no) * from sources where run_id = $run "
    "order by source_no, seq desc",
    "rows_of_sources": "from dataset_sources where run_id = $run order by digest, source_no",
    "dropped": "select step_id, stage, reason, count(*) as rows from dropped_rows "
    "where run_id = $run group by all order by all",
    "findings": "from findings where run_id = $run order by seq",
    "models": "from models where run_id = $run order by seq",
    "exports": "from exports where run_id = $run order by seq",
    "model_sources": "from model_sources where run_id = $run order by model_id, source_no",
    "synthetic": "from synthetic_share where run_id = $run order by dataset",
    "privacy": "from privacy_events where run_id = $run order by seq",
    "attestations": "from attestations where run_id = $run order by seq",
    "columns": "select distinct e.step_id, e.column_out, e.column_in, e.how "
    "from column_lineage_edges e join step_origins o on o.origin = e.step_id "
    "where o.run_id = $run order by all",
    "log": "select size, root from log_root",
}
"""Name of a question to its SQL; `$run` is the run."""

_JSON = {
    "run": ("environment", "params"),
    "steps": ("params", "result"),
    "datasets": ("schema", "roles", "source_nos", "ancestor_steps"),
    "sources": ("files",),
    "findings": ("columns", "details"),
    "models": ("facts", "measures"),
    "exports": ("facts", "measures"),
    "attestations": ("subjects", "keyids"),
}


@dataclass(frozen=True, eq=False)
class Facts:
    """The answers about one run, by the question's name.

    Args:
        run_id: The run.
        answers: Name of the question to its lines, JSON columns parsed.

    Example:
        >>> Facts("r1", {"run": [{"pipeline": "demo"}]}).run["pipeline"]
        'demo'
    """

    run_id: str
    answers: Mapping[str, list[dict[str, Any]]]

    @property
    def run(self) -> dict[str, Any]:
        """The run's own line."""
        return self.answers["run"][0]

    def __getitem__(self, question: str) -> list[dict[str, Any]]:
        """The lines of one answer."""
        return self.answers.get(question, [])

    @property
    def final(self) -> dict[str, Any] | None:
        """The data set that the run ended with; None when it stored none."""
        found = self["datasets"]
        return found[-1] if found else None


def facts_of(lineage: Lineage, run_id: str = "") -> Facts:
    """Ask a store everything about one run.

    Args:
        lineage: The store.
        run_id: The run; empty for the newest that is no erasure.

    Returns:
        The answers.

    Raises:
        DeclarationError: There is no such run.

    Example:
        >>> import tempfile
        >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
        >>> lineage.append([("runs", {"run_id": "r1", "pipeline": "demo"})])
        >>> facts_of(lineage).run_id
        'r1'
    """
    known = lineage.sql(
        "select run_id from runs where starts_with(run_id, $run) and "
        "($run <> '' or pipeline <> 'erasure') order by started_at desc, seq desc limit 1",
        run=run_id,
    )
    if not known.height:
        raise DeclarationError(
            f"there is no run {run_id!r} in {lineage.store}",
            code="DP-USE-033",
            hint="datapipe sql 'from run_status' lists the runs",
        )
    run = str(known["run_id"][0])
    answers: dict[str, list[dict[str, Any]]] = {}
    for name, question in QUESTIONS.items():
        values = {"run": run} if "$run" in question else {}
        answers[name] = lineage.sql(question, **values).to_dicts()
        for line in answers[name]:
            for column in _JSON.get(name, ()):
                line[column] = json.loads(line[column] or "null")
    return Facts(run, answers)


def bare(digest: str) -> str:
    """A digest's hexadecimal digits.

    Args:
        digest: In the house form.

    Returns:
        Without `sha256:`.

    Example:
        >>> bare("sha256:ab")
        'ab'
    """
    return digest.removeprefix("sha256:")


def moment(at: Any) -> str:
    """A time of the store as other forms write it.

    Args:
        at: A `datetime` without zone, in UTC, or None.

    Returns:
        ISO 8601 with a final Z; empty for None.

    Example:
        >>> from datetime import datetime
        >>> moment(datetime(2026, 1, 31, 12))
        '2026-01-31T12:00:00.000000Z'
    """
    return "" if at is None else at.isoformat(timespec="microseconds") + "Z"
