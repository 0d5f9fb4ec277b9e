# SPDX-License-Identifier: Apache-2.0
"""The search for patterns that carry a label, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.rounds import MOST_PATTERNS, Asked, Ground, Pattern, Round
from datapipe.stages.poisoning._text.word_model import Model

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Search:
    """What was found: patterns in order, and of every row its loudest planted candidate.

    `score` is -ln of the corrected p-value of that candidate; `planted` is the least corrected
    ln p of candidates that would be triggers and `natural` that of the others. `templates`, bool,
    shape (K,), tells which labels' texts are made of templates, or seem to be full of triggers.
    """

    patterns: list[Pattern]
    score: Floats
    planted: float
    natural: float
    candidates: int
    templates: Bools


def search(asked: Asked, model: Model, labels: Ints, alpha: float) -> Search:
    """Find patterns one after the other, each with the rows of the last ones left out."""
    gone, explained = np.zeros((2, labels.size), bool)
    first = Round.of(Ground.of(asked, model, labels, alpha), (gone, explained), asked.tests)
    ground = replace(
        first.ground,
        templates=first.shared_out(np.ones(first.log_p.size, bool)),
        many=first.shared_out(first.planted),
    )
    turn = replace(first, ground=ground)
    patterns: list[Pattern] = []
    told = np.zeros(asked.tests.which.size, bool)
    while (made := turn.loudest(told)) and len(patterns) < MOST_PATTERNS:
        patterns.append(made)
        gone[made.rows] = True
        if not made.planted:
            explained[made.likely[0]] = True
        asked.tests.leave_out(gone)
        # What is told is not told again of the rows beside those that were put there.
        told |= (asked.tests.which == made.candidate) & (asked.tests.label == made.label)
        turn = Round.of(ground, (gone, explained), asked.tests)
    return _summed(patterns, turn, labels.size, asked.candidates)


def _summed(patterns: list[Pattern], last: Round, rows: int, candidates: int) -> Search:
    score = np.zeros(rows)
    planted = last.planted
    for span, told in last.tests.blocks():
        heard = planted[span][told.of] & told.hit
        np.maximum.at(score, told.row[heard], -last.log_p[span][told.of[heard]])
    best = []
    for kind, among in ((True, planted), (False, ~planted)):
        found = [p.log_p for p in patterns if p.planted == kind]
        best.append(min(found) if found else float(last.log_p[among].min(initial=0.0)))
    for pattern in patterns:
        if pattern.planted:
            held, chance = pattern.likely
            score[held] = np.maximum(score[held], -pattern.log_p * chance)
            score[pattern.rows] = np.maximum(score[pattern.rows], -pattern.log_p)
    templates = last.ground.templates | last.ground.many
    return Search(patterns, score, best[0], best[1], candidates, templates)
