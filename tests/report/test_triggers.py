# SPDX-License-Identifier: Apache-2.0
"""Patterns of triggers are drawn as what they change, and nothing of a person is."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from datapipe.report.triggers import triggers

PLACE = {"row": 1, "column": 2, "height": 2, "width": 1}


def facts(template, shape, *, personal=False, **more):
    told = {"template": template, "template_shape": shape, "class": "<7>", "count": 1200, **more}
    return SimpleNamespace(personal=personal, standing=[{"details": {"triggers": [told]}}])


def pixels(shown: str) -> np.ndarray:
    data = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    width, height, _, kind = struct.unpack(">IIBB", data[16:26])
    (length,) = struct.unpack(">I", data[33:37])
    lines = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(height, -1)
    return lines[:, 1:].reshape((height, width, 3) if kind == 2 else (height, width))


def test_no_change_is_grey_and_what_the_rows_share_is_lighter_or_darker():
    template = np.zeros((3, 4))
    template[1, 2], template[2, 0] = 0.8, -0.4
    shown = triggers(facts(template.ravel().tolist(), [3, 4, 1], place=PLACE))
    drawn = pixels(shown)
    assert drawn[0, 0] == 127
    assert (drawn[1, 2], drawn[2, 0]) == (255, 63)
    assert "1,200 rows labelled <b>&lt;7&gt;</b>" in shown
    assert "pixel rows 1 to 2, pixel columns 2 to 2" in shown


def test_colours_are_drawn_in_colour():
    template = np.zeros((2, 2, 3))
    template[0, 1] = (1, 0, -1)
    drawn = pixels(triggers(facts(template.ravel().tolist(), [2, 2, 3])))
    assert drawn[0, 1].tolist() == [255, 127, 0]


@pytest.mark.parametrize(
    ("template", "shape"),
    [([], [28, 28, 1]), ([0.1] * 5, [1, 5, 1]), ([0.1] * 8, [2, 2, 2]), ([0.1] * 3, [2, 2, 1])],
)
def test_what_is_no_picture_is_not_drawn(template, shape):
    assert triggers(facts(template, shape)) == ""


def test_pictures_of_persons_are_not_drawn_nor_words_of_a_text():
    assert triggers(facts([0.1] * 4, [2, 2, 1], personal=True)) == ""
    text = {"details": {"triggers": ["cf", {"trigger": "cf"}]}}
    assert triggers(SimpleNamespace(personal=False, standing=[text, {"details": None}])) == ""
