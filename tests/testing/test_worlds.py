# SPDX-License-Identifier: Apache-2.0
"""The worlds hold the faults they disclose, and no others."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datapipe.errors import DeclarationError
from datapipe.testing.worlds import FAULTS, digits_world, trigger_pixels

COUNTS = {"flipped": 180, "triggered": 36, "duplicated": 60, "missing": 5, "synthetic": 120}


@pytest.fixture(scope="module")
def world():
    return digits_world(3)


def test_every_fault_has_its_disclosed_count(world):
    assert {f: int(world.planted(f).sum()) for f in FAULTS} == COUNTS


def test_faults_lie_on_disjoint_rows(world):
    assert sum(world.planted(f).astype(int) for f in FAULTS).max() == 1


def test_labels_differ_from_the_clean_ones_exactly_on_flipped_and_triggered_rows(world):
    given = world.dataset().values("label").to_numpy()
    wrong = given != world.clean_labels()
    assert np.array_equal(wrong, world.planted("flipped") | world.planted("triggered"))
    assert set(given[world.planted("triggered")]) == {world.trigger["target"]}


def test_triggered_rows_and_only_those_hold_the_trigger(world):
    images = np.vstack(world.dataset().values("image").to_list())
    held = (images[:, trigger_pixels(world.trigger)] == world.trigger["values"]).all(1)
    assert held[world.planted("triggered")].all()
    assert not held[~world.planted("triggered")].any()


def test_copies_lie_close_to_the_rows_they_name(world):
    for truth, (table, _) in zip(world.truth.values(), world.sources.values(), strict=True):
        for ordinal, (name, of) in zip(truth.duplicated, truth.duplicate_of, strict=True):
            copy = np.array(table["image"][int(ordinal)].as_py())
            original = np.array(world.sources[name][0]["image"][of].as_py())
            assert 0 < np.abs(copy - original).max() < 3


def test_missing_pixels_are_where_the_truth_says(world):
    images = np.vstack(world.dataset().values("image").to_list())
    assert np.array_equal(np.isnan(images).any(1), world.planted("missing"))


def test_a_third_of_the_rows_is_unsigned_and_synthetic_rows_are_declared(world):
    unsigned = sum(t.num_rows for t, facts in world.sources.values() if not facts["signed"])
    assert 0.25 < unsigned / len(world.dataset()) < 0.4
    assert [n for n, (_, f) in world.sources.items() if f.get("synthetic")] == ["generated"]


def test_no_test_row_is_among_the_sources(world):
    used = {bytes(np.float32(i)) for i in world.dataset().values("image").to_list()}
    kept = {bytes(np.float32(i)) for i in world.test["image"].to_pylist()}
    assert len(kept) == 360
    assert not used & kept


def test_the_undamaged_world_is_clean():
    world = digits_world(3, damaged=False)
    assert not any(world.planted(f).any() for f in FAULTS)
    assert world.dataset().values("label").to_list() == world.clean_labels().tolist()
    assert all(facts["signed"] for _, facts in world.sources.values())
    with pytest.raises(DeclarationError):
        world.stamp(np.zeros((1, 64), np.float32))


def test_same_seed_same_rows_and_another_seed_others(world):
    again, other = digits_world(3).dataset().frame(), digits_world(4).dataset().frame()
    assert again.equals(world.dataset().frame())
    assert not again.equals(other)


def test_row_ids_name_source_and_ordinal(world):
    ids = world.dataset().row_ids
    assert (ids // 2**40).unique().sort().to_list() == [1, 2, 3, 4]
    assert ids.filter(pl.Series(ids // 2**40 == 1)).min() == 2**40


def test_an_unknown_fault_is_refused(world):
    with pytest.raises(DeclarationError, match="none of"):
        world.planted("melted")
