# SPDX-License-Identifier: Apache-2.0
"""How many suspects are loud by nature, and how unlikely more of them are."""

from __future__ import annotations

import numpy as np

from datapipe.measure.detection import beta_binomial_tail

LOUD = 5.0
"""A score this many deviations above genuine rows carries the pattern: clean rows rarely do."""
LEAST_HITS = 5
"""Fewer rows with one pattern than this are a coincidence."""
Levels = tuple[tuple[float, float, float], ...]
LEVELS: Levels = ((LOUD, 0.02, 20.0), (2 * LOUD, 0.01, 100.0), (4 * LOUD, 0.002, 300.0))
"""Loudness, the least natural share of suspects beyond it, and how many suspects that share is
worth: the louder, the rarer by nature and the less it differs between labels."""
SOFT: Levels = ((3.0, 0.1, 20.0), (4.0, 0.03, 40.0), *LEVELS)
"""The same of suspects of pixels that show several things, of which natural ones seldom lean one
way: of a hundred labels of sixty clean sets, with borders, logos and false labels of all kinds
among them, the most beyond 3 were seven of 43, and none had five beyond 4."""
FAINT: Levels = ((2.0, 0.1, 60.0), (3.0, 0.05, 40.0), (4.0, 0.02, 40.0), *LEVELS)
"""The same of embeddings, whose columns many causes make: of 6,000 natural suspects of 42 clean
sets, 4.4 in a hundred were beyond 2, 0.9 beyond 3 and 0.3 beyond 4, where pixels have long tails.
"""
TEXTURED: Levels = ((3.0, 0.05, 40.0), (4.0, 0.015, 60.0), (LOUD, 0.01, 60.0), (10.0, 0.01, 100.0))
"""The same of textures, means of many pixels: of 3,100 natural suspects of twelve clean sets of
digits 1.3 in a hundred were beyond 3, 0.2 beyond 4 and none beyond 5.
"""
MOST_NATURAL = 0.5
DEAF = 0.1
"""The natural share where no other label can be asked."""


def natural_rate(others: list[tuple[int, int]], floor: float) -> float:
    """The share of hits among the other labels, the worst of them left out."""
    asked = sorted((o for o in others if o[1]), key=lambda pair: pair[0] / pair[1])[:-1]
    hits, tried = sum(h for h, _ in asked), sum(n for _, n in asked)
    return float(np.clip((hits + 1) / (tried + 2), floor, MOST_NATURAL)) if tried else DEAF


def tail(hits: int, looked_at: int, rate: float, strength: float) -> float:
    """Chance of as many hits by nature; few hits are never evidence."""
    if hits < LEAST_HITS:
        return 1.0
    return beta_binomial_tail(hits, looked_at, strength * rate, strength * (1 - rate))
