# SPDX-License-Identifier: Apache-2.0
"""All rows of a pattern, the faint ones too, where nature has nothing like them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning import trigger_image
from datapipe.stages.poisoning._image.carriers import carriers
from datapipe.stages.poisoning._image.content import content_of
from datapipe.stages.poisoning._image.matched_filter import HALVES, Evidence
from datapipe.stages.poisoning._image.pixels import Pixels, embedded
from datapipe.stages.poisoning._image.refined import Trigger
from datapipe.stages.poisoning._image.spread import Filters
from datapipe.stages.poisoning._image.two_groups import ONE_TEXTURE
from datapipe.stages.poisoning.trigger_image import TriggerImage

CARRYING = 60


def _rows(seed=0, width=30):
    """Ten classes of 200 rows, far apart; sixty of others hold a step of 0 to 25 and label 0."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), 200)
    rows = rng.normal(size=(2000, width)) + 6.0 * rng.normal(size=(10, width))[labels]
    order = rng.permutation(np.flatnonzero(labels > 0))
    held, others = order[:CARRYING], order[CARRYING:]
    rows[held, 7] += np.linspace(25.0, 0.0, CARRYING)
    return rows.astype(np.float32), labels, held, others


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_are_found_however_faintly_they_hold_the_pattern_where_other_labels_have_none(seed):
    rows, labels, held, _ = _rows(seed)
    labels[held] = 0
    table = pl.DataFrame({"i": rows, "y": labels})
    data = Dataset.of(table, Roles.of(image="i", label="y"))
    found = TriggerImage().run(data, Context(seed, Path())).findings[0]
    flags = np.flatnonzero(found.rows["flagged"].to_numpy())
    assert found.verdict == "fail"
    assert np.isin(held, flags).mean() >= 0.95
    assert np.setdiff1d(flags, held).size <= 2


@pytest.mark.parametrize("kind", ["all labels", "one class", "one pair", "too few"])
def test_rows_that_nature_accounts_for_are_not_added(kind):
    """Every label has wrong rows, or those beside are of one class, or are asked in one pair."""
    rows, labels, held, others = _rows()
    loud = held[:20]
    labels[held[: 4 if kind == "too few" else 20]] = 0
    wrong = others[:400]
    if kind == "all labels":
        labels[wrong] = (labels[wrong] + 1 + np.arange(400) % 9) % 10
    elif kind == "one class":
        wrong = others[labels[others] == 3][:30]
        labels[wrong] = 0
    else:
        wrong = others[:20]
        labels[wrong] = 0
    content = content_of(Pixels(rows), labels, np.random.default_rng(0))
    test = HALVES if kind == "one pair" else "cross-source"
    evidence = Evidence(0, 20, 20, 1e-9, loud, test, content)
    trigger = Trigger.of(evidence)
    if kind == "too few":
        trigger = replace(trigger, rows=loud[:4])
    made = carriers(trigger, Filters(content)).rows
    assert np.isin(trigger.rows, made).all()
    assert np.isin(wrong, made).sum() == 0


@pytest.mark.parametrize("planted", [True, False])
def test_a_texture_that_may_be_a_kind_of_one_label_adds_no_rows_to_a_pattern(monkeypatch, planted):
    rows, labels, held, _ = _rows()
    if planted:
        labels[held] = 0
    kind = np.flatnonzero(labels == 4)[:50]

    def told(content, *_):
        view = content.seen_as(content.pixels)
        return [Evidence(4, 50, 50, 1e-9, kind, ONE_TEXTURE, view)]

    monkeypatch.setattr(trigger_image, "_of_textures", told)
    table = pl.DataFrame({"i": rows, "y": labels})
    data = Dataset.of(table, Roles.of(image="i", label="y"))
    found = TriggerImage().run(data, Context(0, Path())).findings[0]
    flags = found.rows["flagged"].to_numpy()
    assert found.verdict == ("fail" if planted else "suspect")
    assert flags[kind].any() == (not planted)


def test_pixels_are_told_from_embeddings_by_values_of_all_rows_not_of_a_few():
    """White stands in one image in a hundred, which none of two dozen may be."""
    rng = np.random.default_rng(0)
    images = (250.0 * rng.beta(2.0, 9.0, (5000, 784))).astype(np.uint8)
    images[rng.random(images.shape) < 0.5] = 0
    bright = np.arange(1, 5000, 97)
    images[bright[:, None], np.arange(400)] = 255
    assert not embedded(Pixels(images))
    few = rng.normal(size=(40, 7)).astype(np.float32)
    assert Pixels(few).spread(10**6).size == few.size
    assert embedded(Pixels(rng.normal(size=(5000, 64)).astype(np.float32)))
