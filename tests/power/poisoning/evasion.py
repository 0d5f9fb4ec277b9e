# SPDX-License-Identifier: Apache-2.0
"""Networks of undamaged digits: what attacks break, and what the filter refuses of honest rows."""

from __future__ import annotations

from datapipe.core.context import Context
from datapipe.stages.poisoning.evasion import EvasionAttacks
from datapipe.stages.train.plain import TrainPlain
from datapipe.testing.worlds import digits_world

SEEDS, SAMPLE = range(10), 1
FLOORS = {"slopes break what anything breaks": 0.9, "broken rows refused": 0.2}
CEILINGS = {"honest rows refused": 0.1}
ASKED = 0.05


def trial(context):
    """Train on digits, attack within a fifth of the range, and count what the filter refuses."""
    data = digits_world(context.seed, damaged=False).dataset()
    trained = TrainPlain(epochs=5).run(data, context)
    given = Context(context.seed, context.scratch, artifacts={a.name: a for a in trained.artifacts})
    stage = EvasionAttacks(epsilons=(0.2,), rows=150, queries=150, false_alarms=ASKED)
    hit, screen = stage.run(data, given).findings
    told, n = hit.details["epsilons"][0], hit.measure.n
    right = round(hit.details["accuracy"]["value"] * n)
    broken = {k: right - round(told[k]["value"] * n) for k in ("pgd", "robust_accuracy")}
    caught = screen.details["refused"]["0.2"]["pgd"]
    return {
        "slopes break what anything breaks": (broken["pgd"], broken["robust_accuracy"]),
        "broken rows refused": (round(caught["value"] * caught["n"]), caught["n"]),
        "honest rows refused": (round(screen.measure.value * screen.measure.n), screen.measure.n),
    }, data
