# SPDX-License-Identifier: Apache-2.0
"""A model of digits, exported as int8: what it costs in right answers, and that it opens."""

from __future__ import annotations

from datapipe.core.context import Context
from datapipe.stages.export.quantized import ExportQuantized
from datapipe.stages.train.plain import TrainPlain
from datapipe.testing.worlds import digits_world

SEEDS, SAMPLE = range(10), 1
FLOORS = {"exports that open and agree": 0.7, "change of accuracy": -0.02}
CEILINGS = {"change of accuracy": 0.02}


def trial(context):
    """Train, export, and compare the answers of both files with those of the model."""
    data = digits_world(context.seed, damaged=False).dataset()
    trained = TrainPlain(epochs=5).run(data, context)
    artifacts = {a.name: a for a in trained.artifacts}
    given = Context(context.seed, context.scratch, artifacts=artifacts)
    found = ExportQuantized("int8").run(data, given).findings
    sound = sum(f.verdict == "clean" for f in found)
    return {
        "exports that open and agree": (sound, len(found)),
        "change of accuracy": sum(f.measure.value for f in found) / len(found),
    }, data
