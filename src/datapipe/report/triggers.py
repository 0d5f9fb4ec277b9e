# SPDX-License-Identifier: Apache-2.0
"""Patterns that detectors found in images, as pictures: what the rows of a trigger share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from datapipe.report.facts import Facts
from datapipe.report.markup import Html, join, picture, tag

CHANNELS = (1, 3)
MOST_DRAWN = 12


def triggers(facts: Facts) -> Html:
    """The pattern of each trigger that stands, on grey: lighter and darker is what it changes.

    Args:
        facts: The run.

    Returns:
        The markup; empty where none was found, and where rows belong to persons, of whom the
        middle of a few pictures may show one.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> triggers(gather(small_run().store))
        ''
    """
    cards: list[Html] = []
    for finding in [] if facts.personal else facts.standing:
        told = finding["details"]
        told = json.loads(told) if isinstance(told, str) else dict(told or {})
        named = told.get("triggers")
        cards += [_card(t) for t in named if _drawable(t)] if isinstance(named, list) else []
    if not cards:
        return Html("")
    words = "What the rows of a trigger have in common, beside usual rows; grey is no change"
    return join([tag("p", words, kind="soft"), tag("div", *cards[:MOST_DRAWN], kind="gallery")])


def _drawable(trigger: object) -> bool:
    if not isinstance(trigger, Mapping):
        return False
    template, shape = trigger.get("template"), trigger.get("template_shape")
    if not template or not isinstance(shape, list) or len(shape) != 3:
        return False
    height, width, channels = shape
    return len(template) == height * width * channels and height > 1 and channels in CHANNELS


def _card(trigger: Mapping[str, Any]) -> Html:
    shape = tuple(trigger["template_shape"])
    change = np.asarray(trigger["template"], np.float64).reshape(shape)
    most = float(np.abs(change).max()) or 1.0
    levels = change if shape[2] == 3 else change[:, :, 0]
    label, rows = str(trigger.get("class", "")), int(trigger.get("count", 0))
    drawn = picture(levels, alt=f"pattern of the label {label}", span=(-most, most))
    lines = [tag("div", f"{rows:,} rows labelled ", tag("b", label))]
    if place := trigger.get("place"):
        lines.append(tag("div", _where(place), kind="soft"))
    return tag("div", drawn, *lines, kind="card")


def _where(place: Mapping[str, int]) -> str:
    last = {"row": place["height"] - 1, "column": place["width"] - 1}
    ends = {at: (place[at], place[at] + more) for at, more in last.items()}
    return ", ".join(f"pixel {at}s {a} to {b}" for at, (a, b) in ends.items())
