# SPDX-License-Identifier: Apache-2.0
"""Generations of models of a table, each fitted to rows that the one before made.

Column by column nothing shows: spreads and tail masses stay. What goes is the likelihood of real
rows far out, so that is what is followed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.neighbours import principal
from datapipe.stages.synthetic._recursion import Plan
from datapipe.stages.synthetic._table_models import LEARNERS, TableModelName

Floats = NDArray[np.float64]

DIMENSIONS = 6
OUTER = 0.1
"""The tail: unseen real rows farthest from the middle."""
UNSEEN = 0.3
MOST_ROWS = 500


def table_course(
    values: Floats,
    plan: Plan,
    generations: int,
    rng: np.random.Generator,
    *,
    model: TableModelName = "mixture",
) -> Floats:
    """How much likelier the first model finds far real rows than the model of each generation.

    Args:
        values: float64, shape (n, d), finite; real rows.
        plan: How training data comes about.
        generations: How many models are fitted to a model's rows.
        rng: Draws rows.
        model: What learns from rows and makes more.

    Returns:
        float64, shape (generations + 1,); nats a row, 0 first, higher is worse.
    """
    order = rng.permutation(values.shape[0])[:MOST_ROWS]
    cut = round(UNSEEN * order.size)
    scaled = (values - values.mean(0)) / np.where(values.std(0) > 0, values.std(0), 1.0)
    frame = principal(scaled.astype(np.float32), min(DIMENSIONS, values.shape[1]), rng)
    points = frame.project(scaled.astype(np.float32)).astype(np.float64)
    points = points / np.where(points.std(0) > 0, points.std(0), 1.0)
    unseen, real = points[order[:cut]], points[order[cut:]]
    far = unseen[np.argsort((unseen**2).sum(1))[-max(5, round(OUTER * cut)) :]]
    n = real.shape[0]
    made = round(n * plan.share) if plan.name == "replace" else n
    kept = real[rng.permutation(n)[: n - made]]
    now = pool = real
    cost = []
    for g in range(generations + 1):
        learnt = LEARNERS[model](now, rng)
        cost.append(-float(learnt.log_density(far).mean()))
        if g == generations or not made:
            continue
        fresh = learnt.drawn(made, rng)
        if plan.name == "replace":
            now = np.concatenate([kept, fresh])
        else:
            pool = np.concatenate([pool, fresh])
            now = pool if plan.name == "accumulate" else pool[rng.permutation(len(pool))[:n]]
    return np.array(cost) - cost[0]
