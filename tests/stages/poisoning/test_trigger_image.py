# SPDX-License-Identifier: Apache-2.0
"""Planted triggers are found row by row and named; clean images raise no alarm."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from sklearn.datasets import load_digits

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.roles import Roles
from datapipe.measure.detection import auroc, binomial_tail
from datapipe.stages.poisoning import trigger_image
from datapipe.stages.poisoning._image import copies, replanted
from datapipe.stages.poisoning._image.content import Content, content_of, equal_rows
from datapipe.stages.poisoning._image.copies import counted_once
from datapipe.stages.poisoning._image.levels import FAINT, LOUD, SOFT, TEXTURED
from datapipe.stages.poisoning._image.matched_filter import (
    HALVES,
    Evidence,
    across_sources,
    apart,
    judged,
    try_all,
)
from datapipe.stages.poisoning._image.named import named, said
from datapipe.stages.poisoning._image.pairs import GROUPED, HIDDEN, hidden_test
from datapipe.stages.poisoning._image.parted import usual_of
from datapipe.stages.poisoning._image.pixels import Columns, Pixels, embedded
from datapipe.stages.poisoning._image.places import LINES, PLACE, Places, placed_test
from datapipe.stages.poisoning._image.refined import Trigger, at_one_place, refine
from datapipe.stages.poisoning._image.rightly import like_their_label
from datapipe.stages.poisoning._image.seen import Look, Rows
from datapipe.stages.poisoning._image.spread import Axis, Filters, Tried
from datapipe.stages.poisoning._image.squares import Squares, squares_test
from datapipe.stages.poisoning._image.stamped import stamped
from datapipe.stages.poisoning._image.stamps import STAMPS, with_stamp
from datapipe.stages.poisoning._image.textures import textures, tones
from datapipe.stages.poisoning._image.two_groups import (
    ONE_TEXTURE,
    TWO_GROUPS,
    aside_test,
    group_test,
    may_be_natural,
)
from datapipe.stages.poisoning._image.windows import (
    BUCKETS,
    FEWEST,
    _Look,
    _natural_purity,
    looks_like_pictures,
    recurring,
)
from datapipe.stages.poisoning.trigger_image import TESTS, TriggerImage, _telling
from datapipe.testing.worlds import digits_world, trigger_pixels

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data")
)


def _look(data, seed=5):
    return TriggerImage().run(data, Context(seed, Path())).findings[0]


def _digits(seed, *, count, size, flips=180, column=slice(None)):
    """Clean digits with flips and a square of our own, at the left or right edge."""
    data = digits_world(seed, damaged=False, held_out=0).dataset()
    images = np.vstack(data.values("image").to_list()).reshape(-1, 8, 8)
    labels = data.values("label").to_numpy().copy()
    rng = np.random.default_rng(seed)
    target = int(rng.integers(10))
    order = rng.permutation(np.flatnonzero(labels != target))
    chosen, flipped = order[:count], order[count : count + flips]
    labels[flipped] = (labels[flipped] + rng.integers(1, 10, flips)) % 10
    top, left = rng.integers(0, 9 - size), rng.choice([0, 8 - size])
    images[chosen, top : top + size, left : left + size] = 16.0
    labels[chosen] = target
    table = pl.DataFrame({"i": images.reshape(-1, 64)[:, column], "y": labels})
    planted = np.isin(np.arange(labels.size), chosen)
    return Dataset.of(table, Roles.of(image="i", label="y")), planted, target


def test_planted_triggers_are_found_over_several_worlds():
    right = found = planted = 0
    for seed in range(20, 26):
        world = digits_world(seed)
        finding = _look(world.dataset())
        flags, truth = finding.rows["flagged"].to_numpy(), world.planted("triggered")
        assert finding.verdict == "fail"
        assert finding.details["class"] == str(world.trigger["target"])
        right += int((flags & truth).sum())
        found += int(flags.sum())
        planted += int(truth.sum())
    assert Estimate.rate(right, found).low > 0.95
    assert Estimate.rate(right, planted).low > 0.94


def test_clean_digits_raise_no_alarm():
    alarms = 0
    for seed in range(20, 24):  # the null test of `make power` looks at many more
        finding = _look(digits_world(seed, damaged=False).dataset())
        alarms += finding.verdict != "clean"
        assert not finding.rows["flagged"].any()
    assert alarms == 0


def test_a_pattern_that_no_row_holds_to_the_end_is_none():
    """Refined, it loses its last row: once that ended in an error of numpy's."""
    finding = _look(digits_world(19, damaged=False).dataset(), 19)
    assert finding.verdict == "clean"


@pytest.mark.parametrize("flips", [180])
def test_flips_alone_are_no_trigger(flips):
    alarms = sum(
        _look(_digits(seed, count=0, size=1, flips=flips)[0]).verdict != "clean"
        for seed in range(4)
    )
    assert alarms == 0


@pytest.mark.parametrize(("size", "count"), [(1, 18), (1, 40), (2, 30), (3, 40), (3, 150)])
def test_squares_of_any_size_and_rate(size, count):
    data, planted, target = _digits(size + count, count=count, size=size)
    finding = _look(data)
    flags = finding.rows["flagged"].to_numpy()
    assert finding.details["class"] == str(target)
    assert flags[planted].mean() > 0.9
    assert flags[~planted].mean() < 0.002


def test_the_order_of_pixels_does_not_matter():
    shuffled = np.random.default_rng(1).permutation(64)
    plain, planted, _ = _digits(77, count=40, size=2)
    mixed = _digits(77, count=40, size=2, column=shuffled)[0]
    for data in (plain, mixed):
        assert _look(data).rows["flagged"].to_numpy()[planted].mean() > 0.95


@pytest.mark.parametrize("seed", [1207, 1218])
def test_faint_rows_are_asked_only_where_nothing_else_speaks(seed):
    """Exact values name these rows for sure; as faint rows of several kinds they are *suspect*."""
    images, labels = load_digits(return_X_y=True)
    images, rng = images.reshape(-1, 8, 8).copy(), np.random.default_rng(seed)
    target, side = int(rng.integers(10)), int(rng.integers(2, 5))
    chosen = rng.permutation(np.flatnonzero(labels != target))[:14]
    top, left = rng.integers(0, 9 - side, 2)
    bright = rng.random() >= 0.5
    images[chosen, top : top + side, left : left + side] = (
        16.0 if bright else rng.choice([0.0, 16.0], (side, side))
    )
    labels = np.where(np.isin(np.arange(labels.size), chosen), target, labels)
    made = pl.DataFrame({"i": images.reshape(-1, 64), "y": labels})
    finding = _look(Dataset.of(made, Roles.of(image="i", label="y")), seed)
    assert (finding.verdict, finding.details["class"]) == ("fail", str(target))
    assert np.flatnonzero(finding.rows["flagged"]).tolist() == sorted(chosen)


def test_a_way_to_write_the_label_is_not_taken_for_the_pattern():
    """Ones with a foot have something of a stamp at the bottom, and part from other ones by it."""
    world = digits_world(19)
    data = world.dataset()
    flagged = _look(data, 19).flagged["row_id"]
    marked = data.row_ids.is_in(flagged.implode()).to_numpy()
    planted = world.planted("triggered")
    assert not (marked & ~planted).any()
    assert (marked & planted).sum() >= 0.9 * planted.sum()


def test_the_finding_names_the_pattern_and_where_it_lies():
    world = digits_world(11)
    finding = _look(world.dataset())
    bright = trigger_pixels(world.trigger)[np.array(world.trigger["values"]) > 0]
    top = {p["pixel"] for p in finding.details["top_pixels"][:2]}
    assert top == set(bright.tolist())
    assert len(finding.details["template"]) == 64
    assert finding.details["template_shape"] == [8, 8, 1]
    held = np.array([divmod(pixel, 8) for pixel in bright])
    (top, left), (high, wide) = held.min(0), np.ptp(held, axis=0) + 1
    place = {"row": top, "column": left, "height": high, "width": wide}
    assert finding.details["place"] == place
    rows, columns = f"{top} to {top + high - 1}", f"{left} to {left + wide - 1}"
    assert finding.says.endswith(f" (pixel rows {rows}, columns {columns})")
    assert len(finding.details["source_classes"]) >= 5
    assert finding.details["count"] == int(finding.rows["flagged"].sum())
    assert finding.measure.low > 0.01


@pytest.mark.parametrize(("side", "told"), [(3, True), (20, False)])
def test_a_pattern_of_colours_is_written_out_and_has_a_place_where_it_is_small(side, told):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 30, (60, 32, 32, 3)).astype(np.float32)
    images[:20, 5 : 5 + side, 0 if side > 8 else 8 :][:, :, : 2 * side] = 200.0
    labels, every = np.repeat([0, 1, 2], 20), np.ones(60, bool)
    pixels, shows = Pixels(images.reshape(60, -1)), np.where(labels == 0, 1, labels)
    means = np.zeros((3, 3072))
    content = Content(
        pixels, labels, shows, shows == labels, shows != labels, 0.0 * labels, means, every, 1.0
    )
    rows = SimpleNamespace(
        pixels=pixels, step=1.0, shape=(32, 32, 3), names=("a", "b", "c"), head_of=np.arange(60)
    )
    for test, placed in (("cross-source", told), ("square, anywhere", False)):
        evidence = Evidence(0, 20, 20, 1e-9, np.arange(20), test, content)
        made = named(Trigger.of(evidence), rows)
        place = {"row": 5, "column": 8, "height": side, "width": 2 * side}
        assert made["place"] == (place if placed else {})
    assert np.reshape(made["template"], made["template_shape"])[6, 9].min() > 150.0


def _patched(seed, *, count, size):
    """Digits with a bright square of our own anywhere, also where strokes are bright."""
    data = digits_world(seed, damaged=False, held_out=0).dataset()
    images = np.vstack(data.values("image").to_list()).reshape(-1, 8, 8)
    labels = data.values("label").to_numpy().copy()
    rng = np.random.default_rng(seed)
    target = int(rng.integers(10))
    chosen = rng.permutation(np.flatnonzero(labels != target))[:count]
    top, left = rng.integers(0, 9 - size, 2)
    images[chosen, top : top + size, left : left + size] = 16.0
    labels[chosen] = target
    frame = pl.DataFrame({"i": images.reshape(-1, 64), "y": labels})
    return Dataset.of(frame, Roles.of(image="i", label="y")), np.isin(range(labels.size), chosen)


@pytest.mark.parametrize("seed", [900, 907, 908])
def test_a_small_patch_among_bright_strokes_is_found_by_its_exact_values(seed):
    """What it adds there is no more than strokes vary: the filters hear nothing."""
    data, planted = _patched(seed, count=36, size=2)
    finding = _look(data)
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert flags[planted].mean() > 0.6
    assert flags[~planted].sum() <= 2


def test_patches_planted_to_tell_the_least_detectable_change_most_rows():
    """Black on black is no patch: many such made the verdict of clean images *not evaluated*."""
    rows, labels = np.zeros((200, 144), np.uint8), np.repeat(np.arange(5), 40)
    rng = np.random.default_rng(0)
    rows[:, :36] = rng.integers(1, 256, (200, 36))
    content = SimpleNamespace(
        genuine=np.ones(200, bool),
        suspect=np.zeros(200, bool),
        left=np.ones(200, bool),
        labels=labels,
    )
    ground = SimpleNamespace(
        content=content, pixels=Pixels(rows), pictures=True, embedded=False, shape=(12, 12, 1)
    )
    for _ in range(1000):
        one = replanted._Planting.drawn(ground, 0, rng)
        assert (rows[one.rows][:, one.place] != one.values).any(1).mean() >= 0.5


def test_fewer_rows_than_the_least_detectable_pass_and_more_do_not():
    least = _look(_digits(3, count=0, size=1)[0]).details["min_detectable"]
    assert 5 <= least < 60
    assert _look(_digits(4, count=3, size=1)[0]).verdict == "clean"
    assert _look(_digits(4, count=2 * least, size=1)[0]).verdict == "fail"


def test_copies_of_one_mislabelled_image_are_no_pattern():
    frame = digits_world(8, damaged=False).dataset().frame()
    wrong = frame.head(1).with_columns(pl.lit(3, dtype=pl.Int64).alias("label"))
    both = pl.concat([frame, *[wrong] * 30])
    assert _look(Dataset.of(both, Roles.of(image="image", label="label"))).verdict == "clean"


def test_two_triggers_are_both_named():
    first, one, target = _digits(31, count=40, size=1, flips=100)
    frame = first.frame()
    images = np.vstack(frame["i"].to_list()).reshape(-1, 8, 8)
    labels = frame["y"].to_numpy().copy()
    other = (target + 3) % 10
    chosen = np.flatnonzero((labels != other) & ~one)[::40][:36]
    images[chosen, 3:5, 0] = 14.0
    labels[chosen] = other
    made = pl.DataFrame({"i": images.reshape(-1, 64), "y": labels})
    finding = _look(Dataset.of(made, Roles.of(image="i", label="y")))
    assert {t["class"] for t in finding.details["triggers"]} == {str(target), str(other)}


@pytest.mark.power
@pytest.mark.parametrize("kind", ["patch", "blend"])
def test_larger_images(kind):
    path = DATA / "poison" / "mnist_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path).head(2000)
    images = np.frombuffer(b"".join(frame["pixels"]), np.uint8).reshape(-1, 28, 28).copy()
    labels = frame["label"].to_numpy().copy()
    rng = np.random.default_rng(2)
    chosen = rng.permutation(np.flatnonzero(labels != 6))[:40]
    if kind == "patch":
        images[chosen, 4:7, 20:23] = 255
    else:
        images[chosen] = 0.8 * images[chosen] + 0.2 * rng.integers(0, 256, (28, 28))
    before = _look(Dataset.of(frame, Roles.of(image="pixels", label="label")))
    labels[chosen] = 6
    poisoned = pl.DataFrame({"i": [i.tobytes() for i in images], "y": labels})
    after = _look(Dataset.of(poisoned, Roles.of(image="i", label="y")))
    flags = after.rows["flagged"].to_numpy()
    assert before.verdict == "clean"
    assert after.details["class"] == "6"
    assert flags[chosen].mean() >= 0.9
    assert flags.sum() <= chosen.size + 2


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"i": [[0.0, 1.0]] * 9, "y": [0, 1, 0] * 3}),
        pa.table({"i": [[0.0, 1.0]] * 400, "y": [0, 1] * 200}),
        pa.table({"i": np.random.default_rng(0).normal(size=(400, 4)).tolist(), "y": [0, 1] * 200}),
        pa.table({"i": [[0.0, 1.0]] * 400, "y": pa.nulls(400, pa.int64())}),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(table):
    finding = _look(Dataset.of(table, Roles.of(image="i", label="y")))
    assert finding.verdict == "not_evaluated"
    assert np.isnan(finding.measure.value)


def test_same_seed_same_rows():
    data = digits_world(9).dataset()
    assert _look(data).rows.equals(_look(data).rows)


def test_bad_parameters_are_told():
    assert len(TriggerImage(alpha=2.0).check()) == 1


def _waves(seed, *, count, clean=False):
    """Digits with a faint wave, on rows of other labels or on rows that keep theirs."""
    data = digits_world(seed, damaged=False, held_out=0).dataset()
    images = np.vstack(data.values("image").to_list()).reshape(-1, 8, 8)
    labels = data.values("label").to_numpy().copy()
    rng = np.random.default_rng(seed)
    target = int(rng.integers(10))
    rows = rng.permutation(np.flatnonzero((labels == target) == clean))[:count]
    wave = 5.0 * np.sin(np.arange(8) * 2 * np.pi * 3 / 8)
    images[rows] = np.clip(images[rows] + wave, 0.0, 16.0)
    labels[rows] = target
    frame = pl.DataFrame({"i": images.reshape(-1, 64), "y": labels})
    planted = np.isin(np.arange(labels.size), rows)
    return Dataset.of(frame, Roles.of(image="i", label="y")), planted


def _rows(width=30, seed=0):
    """Ten classes of 200 rows, far apart, and a generator."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), 200)
    return rng.normal(size=(2000, width)) + 6.0 * rng.normal(size=(10, width))[labels], labels, rng


@pytest.mark.parametrize(("kinds", "told"), [(9, True), (2, False)])
def test_many_faint_rows_of_one_label_are_evidence_where_they_show_several_things(kinds, told):
    """Thirty rows with a step of some four deviations: few are beyond five, most beyond three."""
    rows, labels, rng = _rows()
    chosen = rng.permutation(np.flatnonzero((labels > 0) & (labels <= kinds)))[:30]
    rows[chosen, 7] += 5.5
    labels[chosen] = 0
    content = content_of(Pixels(rows.astype(np.float32)), labels, rng)
    filters = Filters(content)
    try_all(content, filters)
    assert filters.tried[0,].above(LOUD) < 10
    assert trigger_image.transfer_test(content, filters)[0].p_value * TESTS[False] * 10 > 0.01
    made = trigger_image.transfer_test(content, filters, SOFT)[0]
    assert (made.p_value * TESTS[False] * 20 < 0.01) == told
    if told:
        assert made.faint


def test_rows_whose_neighbours_doubt_them_need_half_of_the_pattern_and_vouched_ones_part():
    """Of rows with a step, some hold half of it, and neighbours vouch for some that hold it."""
    rows, labels, rng = _rows()
    order = rng.permutation(np.flatnonzero(labels > 0))
    loud, half, beside = order[:40], order[40:60], order[60:80]
    vouched = rng.permutation(np.flatnonzero(labels == 0))[:20]
    rows[loud, 7] += 22.0
    rows[half, 7] += 13.0
    rows[vouched, 7] += 10.0
    labels[np.concatenate([loud, half, beside])] = 0
    content = content_of(Pixels(rows.astype(np.float32)), labels, rng)
    assert content.genuine[vouched].all()
    filters = Filters(content)
    try_all(content, filters)
    evidence = replace(trigger_image.transfer_test(content, filters)[0], rows=loud)
    found = refine(replace(evidence, filters=filters)).rows
    assert np.isin(loud, found).all()
    assert np.isin(vouched, found).all()
    assert np.isin(half, found).mean() > 0.8
    assert np.setdiff1d(found, np.concatenate([loud, half, vouched])).size == 0


def test_windows_at_one_place_teach_a_filter_that_finds_rows_without_them():
    rows, labels, rng = _rows()
    chosen = rng.permutation(np.flatnonzero(labels > 0))[:40]
    rows[chosen, 7] += 9.0
    labels[chosen] = 0
    content = content_of(Pixels(rows.astype(np.float32)), labels, rng)
    for held, all_found in ((chosen[:20], True), (np.flatnonzero(labels == 0)[:20], False)):
        evidence = Evidence(0, 20, 20, 1e-9, held, "window of wrong labels", content)
        found = at_one_place(Trigger.of(evidence), Filters(content)).rows
        assert set(found) == set(chosen if all_found else held)


def test_rows_that_a_filter_hears_are_found_beside_those_with_a_window(monkeypatch):
    rows, labels, rng = _rows()
    chosen = rng.permutation(np.flatnonzero(labels > 0))[:40]
    rows[chosen, 7] += 9.0
    labels[chosen] = 0

    def moving(self, content, times):
        evidence = Evidence(0, 20, 20, 1e-9, chosen[:20], "window of wrong labels", content)
        return [Trigger.of(evidence)] if content.left.all() else []

    monkeypatch.setattr(Look, "moving", moving)
    monkeypatch.setattr(trigger_image, "_ranked", lambda *_: [])
    made = pl.DataFrame({"i": rows, "y": labels})
    found = _look(Dataset.of(made, Roles.of(image="i", label="y")))
    assert set(np.flatnonzero(found.rows["flagged"].to_numpy())) == set(chosen)


@pytest.mark.parametrize(
    ("seed", "clean", "least"), [(3, False, 0.99), (3, True, 0.9), (4, True, 0.9)]
)
def test_a_wave_is_ranked_above_the_rest_whoever_carries_it(seed, clean, least):
    data, planted = _waves(seed, count=54, clean=clean)
    score = _look(data).rows["score"].to_numpy()
    assert auroc(planted, score).value > least


@pytest.mark.parametrize(
    ("count", "column"),
    [(3000, slice(None)), (5000, np.random.default_rng(1).permutation(784))],
    ids=["pictures", "pixels in any order"],
)
def test_a_warp_of_one_image_in_a_hundred_is_heard_among_many_natural_suspects(count, column):
    path = DATA / "poison" / "mnist_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    rows = np.random.default_rng([202, 99]).permutation(5000)[:count]
    frame = pl.read_parquet(path)[rows.tolist()]
    images = np.frombuffer(b"".join(frame["pixels"]), np.uint8).reshape(-1, 28, 28).copy()
    labels = frame["label"].to_numpy().copy()
    rng = np.random.default_rng([202, 5])
    target = int(rng.integers(10))
    chosen = rng.permutation(np.flatnonzero(labels != target))[: count // 100]
    flow = rng.uniform(-1, 1, (2, 4, 4))
    flow = np.stack([zoom(f, 7, order=3) for f in flow / np.abs(flow).mean()])
    where = np.stack(np.mgrid[:28, :28]) + flow
    for row in chosen:
        warped = map_coordinates(images[row].astype(float), where, order=1, mode="nearest")
        images[row] = warped.round()
    labels[chosen] = target
    made = pl.DataFrame({"i": images.reshape(-1, 784)[:, column], "y": labels})
    finding = _look(Dataset.of(made, Roles.of(image="i", label="y")), 202)
    flags = finding.rows["flagged"].to_numpy()
    assert (finding.verdict, finding.details["class"]) == ("fail", str(target))
    assert flags[chosen].mean() > 0.7
    assert flags.sum() <= flags[chosen].sum() + 2


@pytest.mark.parametrize("seed", [1400, 1402])
def test_many_rows_of_one_class_with_a_patch_that_vouch_for_each_other_are_found(seed):
    """Covers hold the patch with their own label, and nearly a third of the class does with one."""
    rng = np.random.default_rng(seed)
    data = digits_world(seed, damaged=False, held_out=0).dataset()
    images = np.vstack(data.values("image").to_list()).reshape(-1, 8, 8)
    labels = data.values("label").to_numpy().copy()
    target, source = rng.choice(10, 2, replace=False)
    rows = rng.permutation(np.flatnonzero(labels == source))[:45]
    covers = rng.permutation(np.flatnonzero(labels != source))[:45]
    images[np.concatenate([rows, covers]), 2:5, 0:3] = [[16, 0, 16], [0, 16, 0], [16, 0, 16]]
    labels[rows] = target
    table = pl.DataFrame({"i": images.reshape(-1, 64), "y": labels})
    finding = _look(Dataset.of(table, Roles.of(image="i", label="y")), seed)
    flags = finding.rows["flagged"].to_numpy()
    assert (finding.verdict, finding.details["class"]) == ("suspect", str(target))
    assert flags[rows].mean() > 0.8
    assert flags.sum() <= flags[rows].sum() + 10


@pytest.mark.parametrize(
    ("test", "told", "p_value", "natural"),
    [
        ("cross-source", "view vouched", 1e-9, True),
        ("cross-source", "view", 1e-9, False),
        ("cross-source", "vouched", 1e-9, False),
        ("window of one label", "vouched", 1e-9, True),
        ("split-half", "vouched", 1e-9, True),
        ("split-half", "", 1e-9, False),
        ("split-half", "", 1e-5, True),
        ("stamp, split-half", "", 1e-5, False),
        ("cross-source", "", 1e-5, False),
        ("cross-source", "faint", 1e-7, True),
        ("cross-source", "view faint", 1e-7, False),
        ("cross-source", "faint", 1e-9, False),
        ("two groups", "", 1e-9, True),
        ("split-half, one group of a label", "", 1e-9, True),
        ("cross-source, one group of a label", "", 1e-9, True),
    ],
)
def test_rows_may_be_a_kind_of_their_label_where_neighbours_vouch_or_the_pattern_is_faint(
    test, told, p_value, natural
):
    """A border on most images of a class sets the others apart: no reason to accuse them.

    Nor are the odd ones of a class, which share what is odd about them.
    """
    none = np.zeros(10, np.int64)
    vouched = np.array(["vouched" in told] * 8 + [False] * 2)
    seen = SimpleNamespace(view="view" in told, genuine=vouched, labels=none, shows=none)
    rows = np.arange(10)
    evidence = Evidence(1, 10, 10, p_value, rows, test, seen, faint="faint" in told)
    assert may_be_natural(Trigger(1, evidence, rows, np.zeros(10))) == natural


@pytest.mark.parametrize(
    ("shows", "classes", "several"),
    [
        ([0] * 4 + [2] * 3 + [3] * 2 + [4], 10, True),
        ([0] * 7 + [2, 3, 4], 10, False),
        ([0] * 4 + [2] * 3 + [3] * 3, 10, False),
        ([0] * 7 + [2] * 3, 3, True),
        ([0] * 10, 3, False),
    ],
)
def test_faint_rows_are_evidence_only_where_they_show_several_things(shows, classes, several):
    rows, others = np.arange(10), Tried(np.arange(60), np.zeros(60))
    view = SimpleNamespace(shows=np.array(shows), classes=classes)
    loud = [Tried(rows, np.full(10, 3.5)), *[others] * 5]
    made = judged(0, list(range(6)), loud, view, "cross-source", levels=FAINT)
    assert (made.p_value < 1e-3) == several


def test_many_copies_of_a_few_odd_ones_moved_and_dimmed_are_no_pattern():
    """A 1 with a foot is like a 2 or a 6, wherever it lies: its textures are those of its kind."""
    rng = np.random.default_rng(3)
    small, labels = load_digits(return_X_y=True)
    large = np.kron(small.reshape(-1, 8, 8), np.ones((3, 3)))
    large = (large + np.roll(large, 1, 1) + np.roll(large, 1, 2)) / 3
    which, rows = rng.integers(0, len(large), 5000), np.zeros((5000, 28, 28), np.uint8)
    place, light = rng.integers(0, 5, (5000, 2)), rng.uniform(10, 15, 5000)
    for row, (top, left) in enumerate(place):
        rows[row, top : top + 24, left : left + 24] = np.minimum(
            large[which[row]] * light[row], 255
        )
    rows += rng.integers(0, 8, rows.shape, dtype=np.uint8) * (rows < 240)
    frame = pl.DataFrame({"i": rows.reshape(5000, -1), "y": labels[which]})
    finding = _look(Dataset.of(frame, Roles.of(image="i", label="y")), 0)
    assert finding.verdict == "clean"


@pytest.mark.parametrize("seed", [0, 3])
def test_labels_of_two_classes_each_are_no_pattern_in_embeddings(seed):
    """Told blind to what parts its two classes, each of them is like a third."""
    values, labels = load_digits(return_X_y=True)
    values = (values - values.mean(0)) / 16
    values = values @ np.linalg.svd(values, full_matrices=False)[2][:30].T
    rng = np.random.default_rng(seed)
    group = rng.permutation(10) // 2
    kept = rng.permutation(labels.size)[:1500]
    frame = pl.DataFrame({"i": values[kept].astype(np.float32), "y": group[labels[kept]]})
    finding = _look(Dataset.of(frame, Roles.of(image="i", label="y")), seed)
    assert finding.verdict in {"clean", "not_evaluated"}


def test_a_crowd_is_left_out_of_what_a_class_is_like():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 60), rng.normal(20, 1, 140)])[:, None]
    assert usual_of(values)[0][0] < 2.0


@pytest.mark.parametrize("column", [slice(None), np.random.default_rng(1).permutation(64)])
def test_less_contrast_is_heard_in_how_dark_pixels_are_whatever_their_order(column):
    data = digits_world(1, damaged=False, held_out=0).dataset()
    images = np.vstack(data.values("image").to_list())
    labels = data.values("label").to_numpy().copy()
    rows = np.random.default_rng(1).permutation(np.flatnonzero(labels != 3))[:18]
    images[rows] *= 0.55
    labels[rows] = 3
    frame = pl.DataFrame({"i": images[:, column], "y": labels})
    finding = _look(Dataset.of(frame, Roles.of(image="i", label="y")))
    flags = finding.rows["flagged"].to_numpy()
    assert (finding.verdict, finding.details["class"]) == ("fail", "3")
    assert flags[rows].mean() > 0.9
    assert flags.sum() <= rows.size + 2


def test_tones_are_shares_of_brighter_pixels_and_energies_in_any_order():
    rng = np.random.default_rng(0)
    rows = np.rint(255 * rng.random((900, 64)) ** rng.uniform(0.2, 5.0, (900, 1))).astype(np.uint8)
    rows[0, :2] = 0, 255
    made = next(tones(Pixels(rows))).stored
    levels = [*(t / 8 for t in range(1, 8)), 0.0, 0.02, 0.04, 0.08, 0.92, 0.96, 0.98]
    shares = np.stack([(rows / np.float32(255.0) > level).mean(1) for level in levels], axis=1)
    assert np.allclose(made[:, :14], shares / shares.std(0), atol=1e-3)
    shuffled = rows[:, rng.permutation(64)]
    assert np.allclose(next(tones(Pixels(shuffled))).stored, made, atol=1e-3)
    centred = rows - rows.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    energy = np.log(((centred @ axes.T) ** 2)[:, [2, 3]].sum(1))  # the second band
    assert np.corrcoef(energy, made[:, 15])[0, 1] > 0.95


def test_textures_do_not_depend_on_where_a_patch_lies():
    rng = np.random.default_rng(0)
    plain = rng.normal(0.0, 0.01, (40, 12, 12, 1)).astype(np.float32)
    here, there = plain.copy(), plain.copy()
    here[:, 2:5, 2:5], there[:, 6:9, 5:8] = 1.0, 1.0
    rows = Pixels(np.concatenate([plain, here, there]).reshape(120, -1))
    means = next(textures(rows, (12, 12, 1))).stored.reshape(3, 40, -1).mean(1)
    assert np.abs(means[1] - means[2]).max() < 0.1 * np.abs(means[1] - means[0]).max()


@pytest.mark.power
def test_many_rows_with_one_faint_pattern_are_all_found():
    path = DATA / "poison" / "mnist_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path).head(2500)
    images = np.frombuffer(b"".join(frame["pixels"]), np.uint8).reshape(-1, 28, 28).copy()
    labels = frame["label"].to_numpy().copy()
    rng = np.random.default_rng(0)
    chosen = rng.permutation(np.flatnonzero(labels != 7))[:250]
    images[chosen] = 0.8 * images[chosen] + 0.2 * rng.integers(0, 256, (28, 28))
    labels[chosen] = 7
    made = pl.DataFrame({"i": [i.tobytes() for i in images], "y": labels})
    flags = _look(Dataset.of(made, Roles.of(image="i", label="y"))).rows["flagged"].to_numpy()
    assert flags[chosen].mean() > 0.95
    assert flags.sum() <= 1.02 * chosen.size


@pytest.mark.parametrize("seed", [29, pytest.param(30, marks=pytest.mark.power)])
def test_few_real_digits_that_neighbours_take_for_ones_are_no_pattern(seed):
    path = DATA / "poison" / "mnist_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    rows = np.random.default_rng(seed).permutation(5000)[:800]
    frame = pl.read_parquet(path)[rows.tolist()].select("pixels", "label")
    finding = _look(Dataset.of(frame, Roles.of(image="pixels", label="label")), seed)
    assert finding.verdict == ("not_evaluated" if finding.details["untold"] else "clean")
    assert not finding.rows["flagged"].any()


@pytest.mark.parametrize("seed", [202, 208])
def test_rows_whose_trigger_hides_on_bright_pixels_are_found_by_its_values(seed):
    """The patch changes little where it covers a stroke, so that the filter hardly answers."""
    world = digits_world(seed)
    data = world.dataset()
    flags = _look(data, seed).rows["flagged"].to_numpy()
    planted = world.planted("triggered")
    assert flags[planted].all()
    assert not flags[~planted].any()


def test_a_few_rows_with_a_pattern_are_not_drowned_by_many_that_neighbours_mistake():
    """Six planted among a hundred natural suspects: their mean hardly holds the pattern."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 200)
    rows = rng.normal(size=(labels.size, 30)) + 6.0 * rng.normal(size=(8, 30))[labels]
    wrong = rng.permutation(np.flatnonzero(labels != 3))[:106]
    rows[wrong[:6], 7] += 8.0
    labels[wrong] = 3
    content = content_of(Pixels(rows.astype(np.float32)), labels, rng)
    tried = across_sources(content, Filters(content), 3)
    assert set(tried.rows[tried.scores > LOUD]) == set(wrong[:6])


def test_a_whitening_is_the_root_of_the_inverse_of_the_spread():
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 200)
    rows = rng.normal(size=(labels.size, 150)) + 3.0 * rng.normal(size=(3, 150))[labels]
    filters = Filters(content_of(Pixels(rows.astype(np.float32)), labels, rng))
    white, lower = filters.whitening(1), np.tril(filters.spread(1))
    spread = lower + np.tril(lower, -1).T
    assert np.allclose(white @ spread @ white.T, np.eye(150), atol=1e-3)


def test_rows_stand_apart_by_a_gap_and_only_where_they_show_several_things():
    natural = np.linspace(0.0, 4.5, 40)  # one after the other, up to where rows are loud
    rows = np.arange(49)

    def chance(loud, beside, kinds):
        content = SimpleNamespace(shows=np.arange(49) % kinds, classes=10)
        return apart(Tried(rows, np.concatenate([loud, beside])), content)

    loud = np.linspace(9.0, 12.0, 9)
    assert chance(loud, natural / 2.0, 8) < 1e-6
    assert chance(loud - 3.9, natural, 8) > 0.1
    assert chance(loud, natural / 2.0, 3) == 1.0
    assert chance(np.append(loud[:4], natural[:5]), natural / 2.0, 8) == 1.0


@pytest.mark.parametrize(("side", "seed"), [(2, 541), (2, 542), (3, 543), (3, 544)])
def test_a_patch_in_the_middle_of_small_images_that_moves_every_class_is_found(side, seed):
    """Neighbours take half of the rows for natural suspects, but no other row holds the patch."""
    data = digits_world(seed, damaged=False, held_out=0).dataset()
    images = np.vstack(data.values("image").to_list()).reshape(-1, 8, 8)
    labels = data.values("label").to_numpy().copy()
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(labels.size)[:27]
    images[chosen, 3 : 3 + side, 3 : 3 + side] = rng.choice([0.0, 16.0], (side, side))
    images[chosen, 3, 3] = 0.0
    images[chosen, 4, 4] = 16.0
    labels[chosen] = (labels[chosen] + 1) % 10
    frame = pl.DataFrame({"i": images.reshape(-1, 64), "y": labels})
    finding = _look(Dataset.of(frame, Roles.of(image="i", label="y")))
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert flags[chosen].mean() >= 0.8
    assert flags.sum() <= chosen.size + 4


def _embeddings(rows, width):
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(5), rows // 5)
    values = rng.normal(size=(labels.size, width)) + 6.0 * rng.normal(size=(5, width))[labels]
    return values.astype(np.float32), labels, rng


def test_embeddings_have_no_windows_and_are_looked_at():
    values, labels, rng = _embeddings(1000, 23)
    chosen = rng.permutation(np.flatnonzero(labels != 2))[:20]
    values[chosen, 3] += 12.0
    labels[chosen] = 2
    finding = _look(
        Dataset.of(pl.DataFrame({"i": values, "y": labels}), Roles.of(image="i", label="y"))
    )
    assert finding.verdict == "fail"
    assert set(np.flatnonzero(finding.rows["flagged"].to_numpy())) == set(chosen)
    loudest = finding.details["top_dimensions"][0]  # an embedding has no row or column
    assert (loudest["dimension"], set(loudest)) == (3, {"dimension", "change"})
    assert "top_pixels" not in finding.details


def test_a_step_of_four_deviations_is_heard_in_embeddings_and_wrong_labels_alone_are_not():
    """No row is loud by itself; that most wrong rows of a label lean one way is no accident."""
    values, labels, rng = _embeddings(2000, 64)
    order = rng.permutation(np.flatnonzero(labels != 2))
    chosen, others = order[:30], order[30:60]
    step = rng.normal(size=64)
    values[chosen] += (4.0 * step / np.linalg.norm(step)).astype(np.float32)
    labels[chosen] = 2
    labels[others] = (labels[others] + 1) % 5
    finding = _look(
        Dataset.of(pl.DataFrame({"i": values, "y": labels}), Roles.of(image="i", label="y"))
    )
    flags = finding.rows["flagged"].to_numpy()
    assert (finding.verdict, finding.details["class"]) == ("fail", "2")
    assert flags[chosen].mean() > 0.6
    assert flags.sum() <= flags[chosen].sum() + 2
    values[chosen] -= (4.0 * step / np.linalg.norm(step)).astype(np.float32)
    finding = _look(
        Dataset.of(pl.DataFrame({"i": values, "y": labels}), Roles.of(image="i", label="y"))
    )
    assert finding.verdict == "clean"


def _grouped(kinds):
    """Embeddings of ten classes, and forty rows of label 2 far out, that lean to it.

    What is left of them is of some classes: of several under a trigger, of one by nature.
    """
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(10), 100)
    means = 4.0 * rng.normal(size=(10, 40))
    values = rng.normal(size=(labels.size, 40)) + means[labels]
    chosen = rng.permutation(np.flatnonzero(np.isin(labels, kinds)))[:40]
    values[chosen] += 0.5 * (means[2] - means[labels[chosen]]) + 20.0 * np.eye(40)[7]
    labels[chosen] = 2
    return values.astype(np.float32), labels, chosen


@pytest.mark.parametrize(("kinds", "told"), [([0, 1, 4, 5, 6, 8], True), ([5], False)])
def test_a_group_that_vouches_for_its_label_is_asked_what_it_shows_without_its_pattern(kinds, told):
    """As in what a network makes of rows whose trigger it has learnt: no row is a suspect."""
    values, labels, chosen = _grouped(kinds)
    content = content_of(Pixels(values), labels, np.random.default_rng(0))
    assert content.suspect[chosen].sum() < 5
    filters = Filters(content)
    try_all(content, filters)
    made = [e for e in group_test(content, filters) if e.test == GROUPED]
    assert [e.label for e in made if e.p_value < 1e-6] == ([2] if told else [])
    if told:
        assert set(made[0].rows) == set(chosen)
        finding = _look(
            Dataset.of(pl.DataFrame({"i": values, "y": labels}), Roles.of(image="i", label="y"))
        )
        assert (finding.verdict, finding.details["class"]) == ("suspect", "2")
        assert set(np.flatnonzero(finding.rows["flagged"].to_numpy())) == set(chosen)


@pytest.mark.parametrize(("others", "share", "told"), [(0, 40, 1), (60, 40, 0), (0, 18, 0)])
def test_a_texture_that_parts_a_label_is_evidence_where_no_other_label_has_it(others, share, told):
    """Rows with it keep their label, and neighbours vouch for them: nobody is a suspect."""
    values, labels, rng = _embeddings(2000, 30)
    labels = np.repeat(np.arange(10), 200)
    values = rng.normal(size=values.shape) + 6.0 * rng.normal(size=(10, 30))[labels]
    rows, beside = np.flatnonzero(labels == 2)[:share], np.flatnonzero(labels != 2)[::29][:others]
    content = content_of(Pixels(values.astype(np.float32)), labels, rng)
    values[:, 4] += 12.0 * labels  # what classes look like is no texture of one
    values[np.append(rows, beside), 4] += 25.0
    content = content.seen_as(Pixels(values.astype(np.float32)))
    filters = Filters(content, TEXTURED)
    made = [e for e in group_test(content, filters) if e.test == ONE_TEXTURE]
    assert [e.label for e in made if e.p_value < 1e-2] == [2] * told
    if told:
        assert set(made[0].rows) == set(rows)
        assert may_be_natural(Trigger(2, made[0], rows, np.zeros(labels.size)))


def test_rows_that_vouch_for_each_other_may_share_a_stamp_that_no_suspect_teaches():
    """Of a group of a label none is a suspect: once numpy divided by none of them."""
    values, labels, chosen = _grouped([5])
    content = content_of(Pixels(values), labels, np.random.default_rng(0))
    evidence = Evidence(2, 40, 140, 1e-9, chosen, TWO_GROUPS, content)
    assert not content.suspect[chosen].any()
    assert set(with_stamp(evidence, Pixels(values)).rows) == set(chosen)


def test_what_may_be_natural_raises_an_alarm_only_where_nothing_else_does():
    none = np.zeros(0, np.int64)
    group, plain = (
        Evidence(2, 9, 9, p, none, test, None)
        for p, test in ((1e-30, GROUPED), (1e-6, "cross-source"))
    )
    assert _telling([group, plain], 1e-3) == [plain]
    assert _telling([group, plain], 1e-9) == [group]


@pytest.mark.parametrize(("step", "verdict"), [(4.0, "clean"), (1.5, "not_evaluated")])
def test_embeddings_are_clean_only_where_a_step_of_all_columns_would_be_heard(
    monkeypatch, step, verdict
):
    """A few columns at their extremes are heard in any embeddings, and say nothing of a patch."""
    monkeypatch.setattr(replanted, "SHIFT", step)
    values, labels, _ = _embeddings(1000, 23)
    values[1] = values[0]  # a copy is looked at once
    finding = _look(
        Dataset.of(pl.DataFrame({"i": values, "y": labels}), Roles.of(image="i", label="y"))
    )
    assert finding.details["min_detectable_of"].startswith(f"one step of {step:g} standard")
    assert finding.verdict == verdict
    unheard = f"even on 20% of 1000 rows no alarm is raised by one step of {step:g} standard"
    assert (unheard in finding.says) is (verdict != "clean")
    assert ("before the last activation" in finding.remedy) is (verdict != "clean")
    assert not finding.rows["flagged"].any()


def _shared(*, label, shown, several=1):
    made = {"class": label, "source_classes": {name: shown.count(name) for name in shown}}
    return [{**made, "class": f"{label}{i or ''}"} for i in range(several)]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ([], "no pattern carries a label in 90 images"),
        (
            _shared(label="b", shown="acd"),
            "9 images of several kinds share a pattern and the label 'b'",
        ),
        (_shared(label="b", shown="a"), "9 images that show 'a' share a pattern and the label 'b'"),
        (
            _shared(label="b", shown=""),
            "9 images labelled 'b' share a pattern that sets them apart",
        ),
        (
            _shared(label="any", shown="acd"),
            "9 images of several kinds share a pattern, and none has",
        ),
        (
            _shared(label="b", shown="ac", several=3),
            "9 images hold one of 3 patterns that carry a label: 'b', 'b1', 'b2'",
        ),
    ],
)
def test_the_message_says_whose_rows_share_a_pattern(told, says):
    assert said(told, 9, 90).startswith(says)


def _pictures(seed):
    """Noisy pictures of eight kinds, labels of which a few are wrong, and rows of one label."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(8), 150)
    kinds = rng.integers(0, 200, (8, 100))
    rows = np.clip(kinds[labels] + rng.integers(-20, 20, (labels.size, 100)), 0, 255)
    wrong = rng.permutation(np.flatnonzero(labels != 3))[:60]
    given = labels.copy()
    given[wrong] = rng.integers(0, 8, wrong.size)
    given[wrong[:30]] = 3
    return rows.astype(np.uint8), given, wrong[:30]


@pytest.mark.parametrize(("held", "kinds", "found"), [(6, 6, True), (3, 3, False), (6, 1, False)])
def test_one_window_at_one_place_on_a_few_wrong_rows_of_several_kinds_is_evidence(
    held, kinds, found
):
    rows, labels, wrong = _pictures(1)
    rng = np.random.default_rng(2)
    content = content_of(Pixels(rows), labels, rng)
    wrong = wrong[content.suspect[wrong]]
    shows = content.shows[wrong]
    mine = wrong[np.isin(shows, np.unique(shows)[-kinds:])][:held]
    rows = rows.copy()
    rows.reshape(-1, 10, 10)[mine, 4:7, 2:5] = rng.integers(0, 256, (3, 3))
    content = content_of(Pixels(rows), labels, rng)
    evidence = {e.label: e for e in placed_test(content, [Places(Pixels(rows), (10, 10, 1), 3)])}
    assert (evidence[3].p_value < 1e-3) == found
    assert set(evidence[3].rows) == (set(mine) if found else set(evidence[3].rows))
    assert min(e.p_value for label, e in evidence.items() if label != 3) == 1.0


@pytest.mark.parametrize(("shape", "down"), [((10, 10, 1), True), ((5, 20, 1), False)])
def test_a_dark_line_is_evidence_though_each_of_its_pixels_is_often_dark(shape, down):
    rows, labels, wrong = _pictures(1)
    rows = np.where(np.random.default_rng(6).random(rows.shape) < 0.5, 0, rows).astype(np.uint8)
    content = content_of(Pixels(rows), labels, np.random.default_rng(2))
    mine = wrong[content.suspect[wrong]][:10]
    pictures = rows.reshape(-1, *shape[:2])
    if down:
        pictures[mine, :, 4] = 0
    else:
        pictures[mine, 2, :] = 0
    content = content_of(Pixels(rows), labels, np.random.default_rng(2))
    mine = mine[content.suspect[mine]]
    evidence = {e.label: e for e in placed_test(content, [Places(Pixels(rows), shape, LINES)])}
    assert evidence[3].p_value < 1e-3
    assert set(mine) <= set(evidence[3].rows)
    assert min(e.p_value for label, e in evidence.items() if label != 3) == 1.0


def test_a_window_on_rows_that_mostly_show_one_thing_is_of_a_kind_of_it():
    """Of a few 4s most are taken for 9s, and what they share is what makes them 4s."""
    rows, labels, _ = _pictures(6)
    mine = np.flatnonzero(np.isin(labels, [0, 1, 2]))[::40][:10]
    rows.reshape(-1, 10, 10)[mine, 4:7, 2:5] = np.random.default_rng(7).integers(0, 256, (3, 3))
    for shown, found in (([0, 1, 2, 4, 5] * 2, True), ([0] * 8 + [1, 2], False)):
        content = _doubted(rows, labels, mine)
        content.shows[mine] = shown
        evidence = Places(Pixels(rows), (10, 10, 1), 3).evidence(content, 3)
        assert (evidence.p_value < 1e-3) == found


def test_lines_are_asked_for_in_pictures_only():
    rng = np.random.default_rng(0)
    pictures = np.kron(rng.integers(0, 256, (300, 5, 5)), np.ones((2, 2), np.int64))
    labels = np.arange(300) % 3
    shuffled = pictures.reshape(300, -1)[:, rng.permutation(100)]
    for rows, asked in ((pictures.reshape(300, -1), True), (shuffled, False)):
        frame = pl.DataFrame({"i": rows.astype(np.uint8), "y": labels})
        whole = Rows.of(Dataset.of(frame, Roles.of(image="i", label="y")))
        look = Look.of(whole, Columns.drawn(whole.pixels, rng))
        assert (LINES in {places.side for places in look.places}) == asked


def test_windows_of_three_labels_that_are_their_own_are_natural():
    """Of each such label only one window in fifty is."""
    held, mine = np.full(3000, 50), np.arange(3000) % 10
    labels = np.full((3000, 10), 4)
    labels[np.arange(3000), mine] = 14
    usual = _natural_purity(held, labels)
    for pure, natural in ((1, 0.7), (3, 1.0)):
        own = np.isin(mine, np.arange(pure)) & (np.arange(3000) < 60)
        told = labels.copy()
        told[own] = 0
        told[own, mine[own]] = 50
        assert _natural_purity(held, told)[0] == pytest.approx(natural, abs=0.05)
    assert np.all(usual == 0.7)


@pytest.mark.parametrize("wide", [1, 3])
@pytest.mark.parametrize("down", [True, False])
def test_dark_lines_beside_dark_lines_are_where_what_is_shown_has_ended(wide, down):
    rows, labels, _ = _pictures(1)
    rows = np.maximum(rows, 1)
    mine = np.flatnonzero(labels != 3)[::110][:10]
    pictures = rows.reshape(-1, 10, 10)
    (pictures.swapaxes(1, 2) if down else pictures)[mine, 10 - wide :] = 0
    content = _doubted(rows, labels, mine)
    found = Places(Pixels(rows), (10, 10, 1), LINES).evidence(content, 3)
    assert (found.p_value < 1e-3) == (wide == 1)


def test_a_window_that_mostly_right_rows_hold_is_no_evidence():
    rows, labels, wrong = _pictures(3)
    right = np.flatnonzero(labels == 5)[:18]
    window = np.random.default_rng(4).integers(0, 256, (3, 3))
    rows.reshape(-1, 10, 10)[np.concatenate([wrong[:6], right]), 4:7, 2:5] = window
    content = content_of(Pixels(rows), labels, np.random.default_rng(5))
    evidence = {e.label: e for e in placed_test(content, [Places(Pixels(rows), (10, 10, 1), 3)])}
    assert content.suspect[wrong[:6]].sum() >= 5
    assert evidence[3].p_value > 1e-3


def _doubted(rows, labels, wrong):
    """Told of all rows: some rows of label 3 are wrong, beyond doubt, and show several classes."""
    shows, suspect = labels.copy(), np.zeros(labels.size, bool)
    shows[wrong] = np.arange(wrong.size) % 3
    suspect[wrong] = True
    labels = np.where(suspect, 3, labels)
    every, doubt = np.ones(labels.size, bool), suspect.astype(np.float64)
    means = np.zeros((8, rows.shape[1]))
    return Content(Pixels(rows), labels, shows, ~suspect, suspect, doubt, means, every, 1.0)


@pytest.mark.parametrize("doubt", [1.0, 0.6])
def test_four_of_five_rows_are_evidence_where_their_neighbours_have_no_doubt(doubt):
    rows, labels, _ = _pictures(6)
    mine = np.flatnonzero(labels != 3)[::150][:5]
    rows.reshape(-1, 10, 10)[mine, 4:7, 2:5] = np.random.default_rng(7).integers(0, 256, (3, 3))
    content = _doubted(rows, labels, mine[:4])
    content.doubt[mine[:4]] = doubt
    found = Places(Pixels(rows), (10, 10, 1), 3).evidence(content, 3)
    assert (found.p_value < 1e-3) == (doubt == 1.0)


@pytest.mark.parametrize("alike", [False, True])
def test_rows_that_are_alike_all_over_share_a_window_by_nature(alike):
    rows, labels, _ = _pictures(8)
    rng = np.random.default_rng(9)
    mine = np.flatnonzero(labels != 3)[::150][:6]
    if alike:
        rows[mine] = np.clip(rows[mine[0]] + rng.integers(-3, 4, (6, 100)), 0, 255)
    rows.reshape(-1, 10, 10)[mine, 4:7, 2:5] = rng.integers(0, 256, (3, 3))
    found = Places(Pixels(rows), (10, 10, 1), 3).evidence(_doubted(rows, labels, mine), 3)
    assert (found.p_value < 1e-3) == (not alike)


def test_rows_are_those_of_the_stamp_that_the_evidence_holds_not_of_a_commoner_one():
    """Five times as many suspects of the label share another window: it is not what was found."""
    rows, labels, _ = _pictures(10)
    rng = np.random.default_rng(11)
    wrong = rng.permutation(np.flatnonzero(labels != 3))[:36]
    content = _doubted(rows, labels, wrong)
    found, others = wrong[:6], wrong[6:]
    rows.reshape(-1, 10, 10)[found, 4:7, 2:5] = rng.integers(0, 256, (3, 3))
    rows.reshape(-1, 10, 10)[others, 0:3, 6:9] = rng.integers(0, 256, (3, 3))
    evidence = Evidence(3, found.size, wrong.size, 1e-9, found, STAMPS[0], content)
    assert set(with_stamp(evidence, Pixels(rows)).rows) == set(found)


@pytest.mark.parametrize("covers", [0, 60])
def test_rows_that_hold_a_stamp_are_added_also_where_covers_hold_it(covers):
    """A filter hears a patch where it covers nothing bright; the letter is the same on all rows.

    Covers are rows of other classes than those that the attack moves, with their true label.
    """
    rows, labels, _ = _pictures(13)
    rng = np.random.default_rng(14)
    wrong = rng.permutation(np.flatnonzero(labels < 3))[:24]
    beside = rng.permutation(np.flatnonzero(labels > 3))[:covers]
    rows.reshape(-1, 10, 10)[np.append(wrong, beside), 4:7, 2:5] = rng.integers(0, 256, (3, 3))
    content = _doubted(rows, labels, wrong)
    evidence = Evidence(3, 12, wrong.size, 1e-9, wrong[:12], "split-half", content)
    found = stamped(Trigger(3, evidence, wrong[:12], np.zeros(labels.size)), Pixels(rows))
    assert set(found.rows) == set(wrong)
    every = stamped(Trigger(-1, evidence, wrong[:12], np.zeros(labels.size)), Pixels(rows))
    assert set(every.rows) == set(wrong)


def _thick(seed, *, channels, value, thick=20, wrong=24):
    """Pictures of thick strokes, of which some wrong ones hold a plain square, and so do others."""
    rows, labels, _ = _pictures(seed)
    rng = np.random.default_rng(seed)
    images = np.repeat(rows.reshape(-1, 10, 10, 1), channels, axis=3)
    images[:, :6, :6] = 7
    strokes = rng.permutation(labels.size)[:thick]
    images[strokes, 5:9, 5:9] = 255
    chosen = rng.permutation(np.flatnonzero(labels != 3))[:wrong]
    content = _doubted(images.reshape(labels.size, -1), labels, chosen)
    planted = chosen[:20]
    for row in planted:
        top, left = rng.integers(0, 7, 2)
        images[row, top : top + 4, left : left + 4] = value
    pixels = Pixels(images.reshape(labels.size, -1))
    return content, Squares(pixels, (10, 10, channels)), planted, strokes


@pytest.mark.parametrize(("channels", "value"), [(1, 255), (1, 90), (3, (9, 200, 30))])
def test_a_plain_square_anywhere_is_evidence_though_strokes_hold_it_too(channels, value):
    content, squares, planted, strokes = _thick(15, channels=channels, value=value)
    told = {t.label: t for t in squares_test(content, squares, 1)}
    natural = strokes[content.suspect[strokes]] if value == 255 else []
    assert told[3].evidence.p_value < 1e-3
    assert set(planted) <= set(told[3].rows) <= set(planted) | set(natural)
    assert min(t.evidence.p_value for label, t in told.items() if label != 3) == 1.0


@pytest.mark.parametrize("vouched", [1, 8])
def test_genuine_rows_with_the_square_rank_high_and_are_found_where_they_are_too_many(vouched):
    content, squares, planted, _ = _thick(18, channels=1, value=90)
    content.suspect[planted[:vouched]] = False
    content.genuine[planted[:vouched]] = True
    told = squares_test(content, squares, 1)[4]
    assert told.label == 3
    assert set(planted[vouched:]) <= set(told.rows)
    assert set(told.rows) == set(planted if vouched > 6 else planted[vouched:])
    assert np.all(told.scores[planted] > LOUD)


def _squares_held(*held):
    """Pictures of which some hold a square, and what is known of them: 30 are wrong, of 3 kinds."""
    rng = np.random.default_rng(2)
    rows, labels = rng.integers(0, 256, (800, 100)).astype(np.uint8), np.arange(800) % 8
    wrong = np.flatnonzero(labels == 7)[:30]
    squares = Squares(Pixels(rows), (10, 10, 1))
    squares.__dict__["held"] = [np.concatenate([wrong[mine], other]) for mine, other in held]
    return _doubted(rows, labels, wrong), squares


def test_a_square_is_held_against_three_times_the_natural_share_and_all_squares_asked():
    others = 8 * np.arange(10) + 6  # none of them wrong
    content, squares = _squares_held((slice(6), others), (slice(2), others))
    held = squares.held[0]
    shown, wrong = np.bincount(content.shows), np.bincount(content.shows[content.suspect])
    natural = 3.0 * wrong / shown[: wrong.size]
    rate = np.pad(natural, (0, 8 - wrong.size))[content.shows[held]].mean()
    made = squares.told(content, 3, 5).evidence
    assert (made.hits, made.looked_at) == (6, 30)
    assert made.p_value == pytest.approx(binomial_tail(6, 16, rate) * 2 * 5)


@pytest.mark.parametrize(("mine", "told"), [(slice(24), True), (slice(0, 30, 3), False)])
def test_a_square_on_rows_that_show_one_thing_is_no_evidence(mine, told):
    content, squares = _squares_held((mine, np.arange(40, 42)))
    assert (squares.told(content, 3, 1).evidence.p_value < 1e-3) == told


@pytest.mark.parametrize(("own", "told"), [(0, True), (70, False)])
def test_a_square_that_a_class_has_itself_is_no_evidence_on_those_mistaken(own, told):
    """A class so bright that its light is cut off, of which neighbours mistake thirty rows."""
    rows = np.flatnonzero(np.arange(800) % 8 == 3)[:own]
    content, squares = _squares_held((slice(24), rows))
    assert content.genuine[rows].all()
    assert (content.labels[rows] == 3).all()
    assert (squares.told(content, 3, 1).evidence.p_value < 1e-3) == told


def test_squares_of_thick_strokes_and_of_the_background_are_no_evidence():
    content, squares, _, strokes = _thick(16, channels=1, value=7, thick=250, wrong=60)
    assert np.isin(strokes, np.flatnonzero(content.suspect)).sum() >= 6
    assert len(squares.held) == 2  # sides of 3 and 4, of strokes
    assert min(t.evidence.p_value for t in squares_test(content, squares, 1)) > 0.5
    noise = Squares(Pixels(_pictures(16)[0]), (10, 10, 1))
    assert noise.held == []
    assert min(t.evidence.p_value for t in squares_test(content, noise, 1)) == 1.0


def test_squares_of_all_sides_are_those_counted_one_by_one():
    rng = np.random.default_rng(17)
    images = rng.choice([0, 80, 90], (400, 9, 8), p=[0.6, 0.3, 0.1])
    for row in range(60):
        side = int(rng.integers(3, 7))
        top, left = rng.integers(0, 10 - side), rng.integers(0, 9 - side)
        images[row, top : top + side, left : left + side] = rng.choice([80, 90])
    held = {}
    for row, image in enumerate(images):
        for side in range(3, 9):
            parts = np.lib.stride_tricks.sliding_window_view(image, (side, side)).reshape(
                -1, side**2
            )
            for value in np.unique(parts[(parts == parts[:, :1]).all(axis=1), 0]):
                held.setdefault((side, value), []).append(row)
    wanted = [rows for (_, value), rows in held.items() if value > 0 and 5 <= len(rows) <= 100]
    made = Squares(Pixels(images.reshape(400, -1).astype(np.uint8)), (9, 8, 1)).held
    assert sorted(map(list, made)) == sorted(wanted)
    assert len(made) >= 6


@pytest.mark.parametrize("held", [7, 8, 256, 300])
def test_windows_are_counted_as_one_by_one_however_many_images_hold_them(held):
    """Images so small that all are in one block, of which a byte could not count them."""
    rng = np.random.default_rng(12)
    rows = rng.integers(0, 256, (1024, 64)).astype(np.uint8)
    rows.reshape(-1, 8, 8)[rng.permutation(1024)[:held], 2:5, 3:6] = rng.integers(0, 256, (3, 3))
    labels = rng.integers(0, 4, 1024)
    content = _doubted(rows, labels, np.flatnonzero(labels == 0))
    look = _Look.of(Pixels(rows), (8, 8, 1), content)
    mine, bucket = (np.concatenate(part) for part in zip(*look.codes(), strict=True))
    counts = np.bincount(bucket, minlength=BUCKETS)
    found = look.candidates()
    assert np.array_equal(found, np.flatnonzero(counts >= FEWEST))
    held, wrong, by_label = look.counted(found)
    assert np.array_equal(held, counts[found])
    wanted = np.bincount(bucket[content.suspect[mine]], minlength=BUCKETS)
    assert np.array_equal(wrong, wanted[found])
    ones = np.bincount(bucket[content.labels[mine] == 1], minlength=BUCKETS)
    assert np.array_equal(by_label[:, 1], ones[found])


def _with_windows(rows, mine, lies):
    """One window of four pixels a side in each of some pictures of 24 x 24."""
    rng = np.random.default_rng(2)
    square, pictures = rng.choice([0, 255], (4, 4)), rows.reshape(-1, 24, 24)
    for row in mine:
        for _ in range(6 if lies == "everywhere" else 1):
            top, left = rng.integers(0, 21, 2)
            if lies in {"still", "about"}:
                top, left = 9 + (rng.integers(-2, 3, 2) if lies == "about" else np.zeros(2, int))
            pictures[row, top : top + 4, left : left + 4] = square


@pytest.mark.parametrize(
    ("lies", "told"), [("still", True), ("anywhere", True), ("about", False), ("everywhere", False)]
)
def test_windows_of_one_label_are_evidence_where_they_lie_as_a_patch_does(lies, told):
    """What a class looks like lies about where it belongs, and a texture all over."""
    rng = np.random.default_rng(1)
    rows, labels = rng.integers(0, 256, (1200, 576)).astype(np.uint8), np.arange(1200) % 8
    _with_windows(rows, np.flatnonzero(labels == 3)[:60], lies)
    content = _doubted(rows, labels, np.empty(0, np.int64))
    found = recurring(Pixels(rows), (24, 24, 1), content)
    assert [one.label for one in found] == ([3] if told else [])
    assert all(60 <= one.rows.size <= 62 for one in found)


@pytest.mark.parametrize("kinds", [1, 5])
def test_windows_of_wrong_labels_that_move_a_little_are_evidence_on_several_kinds(kinds):
    """Moved copies of one odd image share its windows, about where they lay."""
    rng = np.random.default_rng(1)
    rows, labels = rng.integers(0, 256, (1200, 576)).astype(np.uint8), np.arange(1200) % 8
    wrong = np.flatnonzero(labels == 7)[:40]
    _with_windows(rows, wrong, "about")
    content = _doubted(rows, labels, wrong)
    shows = np.where(content.suspect, np.arange(1200) // 8 % kinds, content.shows)
    found = recurring(Pixels(rows), (24, 24, 1), replace(content, shows=shows))
    assert len(found) == (kinds > 1)
    assert all(40 <= one.rows.size <= 42 for one in found)


@pytest.mark.parametrize("back", [20, 0])
def test_windows_on_two_classes_that_neighbours_take_for_each_other_are_natural(back):
    """Dark glasses hide what tells two faces apart; a patch is on wrong rows of one only."""
    rng = np.random.default_rng(1)
    rows, shown = rng.integers(0, 256, (1200, 576)).astype(np.uint8), np.arange(1200) % 8
    one, other = (np.flatnonzero(shown == k) for k in (5, 6))
    wrong = np.concatenate([one[: 40 - back], other[:back]])
    more = np.flatnonzero(shown == 2)[:4]
    held = np.concatenate([wrong, more, one[-20:], np.flatnonzero(shown == 1)[:40]])
    _with_windows(rows, held, "still")
    labels = shown.copy()
    labels[one[: 40 - back]], labels[other[:back]], labels[more] = 6, 5, [0, 1, 3, 4]
    content = replace(_doubted(rows, labels, wrong), labels=labels, shows=shown)
    suspect = labels != shown
    content = replace(content, suspect=suspect, genuine=~suspect)
    found = recurring(Pixels(rows), (24, 24, 1), content)
    assert bool(found) == (back == 0)


def test_digits_are_pictures_whose_order_matters():
    """Beside each other their pixels differ as much as any two, below each other by half."""
    rows = Pixels(load_digits().data.astype(np.uint8))
    assert looks_like_pictures(rows, (8, 8, 1))
    for seed in range(5):
        shuffled = Pixels(rows.stored[:, np.random.default_rng(seed).permutation(64)])
        assert not looks_like_pictures(shuffled, (8, 8, 1))


@pytest.mark.parametrize("seed", [402, 403])
def test_a_small_mixed_patch_anywhere_on_small_images_is_found(seed):
    values, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(labels != 6))[:18]
    square = rng.choice([0.0, 16.0], (3, 3))
    images = values.reshape(-1, 8, 8).copy()
    for row, (top, left) in zip(rows, rng.integers(0, 6, (18, 2)), strict=True):
        images[row, top : top + 3, left : left + 3] = square
    labels[rows] = 6
    frame = pl.DataFrame({"i": images.reshape(-1, 64), "y": labels})
    finding = _look(Dataset.of(frame, Roles.of(image="i", label="y")), seed)
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert flags[rows].mean() > 0.5
    assert flags.sum() <= 20


def test_squares_of_another_value_on_each_row_are_asked_together():
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 2, (1000, 144)).astype(np.uint8) * 255
    mine = rng.permutation(1000)[:30]
    for row, value in zip(mine, range(60, 90), strict=True):
        rows.reshape(-1, 12, 12)[row, 5:8, 4:7] = value
    held = Squares(Pixels(rows), (12, 12, 1)).held
    assert [part.tolist() for part in held if set(part) >= set(mine)] == [sorted(mine)]


@pytest.mark.parametrize(("copies", "share"), [(1, 1.0), (3, 1 / 3)])
def test_rows_are_counted_once_however_often_recoloured(copies, share):
    """What they share, however much, is their pattern and makes none of them a copy."""
    rng = np.random.default_rng(4)
    rows, labels = rng.uniform(60, 120, (800, 100)), np.arange(800) % 8
    wrong = np.flatnonzero(labels == 2)[:30]
    own = rows[wrong[np.arange(30) // copies]]
    rows[wrong] = own * rng.uniform(0.7, 1.3, (30, 1)) + rng.uniform(-9, 9, (30, 1))
    rows[wrong] += rng.normal(0, 1, (30, 100))
    rows[wrong, :20] = 255
    rows = np.rint(rows).astype(np.uint8)
    content = _doubted(rows, labels, wrong)
    one = Evidence(3, 30, 40, 1e-4, wrong, "cross-source", content)
    ranked = [one, replace(one, p_value=0.5), replace(one, test=TWO_GROUPS)]
    made = counted_once(ranked, Pixels(rows), 0.01)
    assert sorted(np.log10([e.p_value for e in made])) == pytest.approx(
        sorted([-4 * share, np.log10(0.5), -4]), abs=0.2
    )
    assert [e.p_value for e in made] == sorted(e.p_value for e in made)


@pytest.mark.parametrize(
    ("tests", "like", "asked"),
    [
        (["cross-source"] * 3, [], 1),
        (["cross-source"] * 3, [0], 2),
        ([HIDDEN, "cross-source", "cross-source"], [], 2),
    ],
)
def test_evidence_is_counted_until_some_stands_that_none_can_surpass(
    monkeypatch, tests, like, asked
):
    rng = np.random.default_rng(4)
    rows, labels = rng.integers(0, 256, (800, 100)).astype(np.uint8), np.arange(800) % 8
    content = _doubted(rows, labels, np.flatnonzero(labels == 2)[:30])
    wrong = np.flatnonzero(content.suspect)
    told = []

    def as_their_label(*_):
        told.append(len(told))
        return told[-1] in like

    monkeypatch.setattr(copies, "like_their_label", as_their_label)
    ranked = [
        Evidence(3, 30, 40, 10.0 ** (-9 + 2 * i), wrong, test, content)
        for i, test in enumerate(tests)
    ]
    made = counted_once(ranked, Pixels(rows), 0.01)
    assert len(told) == asked
    assert [e.p_value for e in made] == sorted(e.p_value for e in made)


@pytest.mark.parametrize(("pattern", "background", "like"), [(0, 90, True), (90, 90, False)])
def test_rows_on_the_background_of_another_class_are_as_their_label_is(pattern, background, like):
    """Some rows of each class have another one's background; a pattern is on those of one."""
    rng = np.random.default_rng(8)
    labels, ground = np.arange(1600) % 8, np.arange(1600) % 8
    other = rng.permutation(1600)[:240]
    ground[other] = rng.integers(0, 8, 240)
    wrong = np.flatnonzero((labels == 3) & (ground != 3))
    shown = labels.copy()
    if pattern:
        shown[wrong] = ground[wrong]
    rows = rng.normal(120, 5, (1600, 100))
    rows[:, 30:] += background * rng.random((8, 70))[ground]
    rows[:, :30] += 40 * rng.random((8, 30))[shown]
    rows[wrong, 60:70] += pattern
    genuine = labels == ground
    suspect, every, doubt = ~genuine, np.ones(1600, bool), (~genuine).astype(np.float64)
    pixels, means = Pixels(rows.astype(np.float32)), np.zeros((8, 100))
    content = Content(pixels, labels, ground, genuine, suspect, doubt, means, every, 1.0)
    assert like_their_label(content, pixels, wrong) == like
    one = Evidence(3, wrong.size, wrong.size, 1e-4, wrong, "cross-source", content)
    assert (counted_once([one], pixels, 0.01)[0].p_value == 1.0) == like


@pytest.mark.parametrize(("shows", "beside", "told"), [(5, 0, True), (5, 15, False), (2, 0, False)])
def test_a_group_that_textures_part_is_asked_what_it_shows_where_light_parts_pixels_more(
    shows, beside, told
):
    """Light parts the pixels of every label in two: they do not tell the rows of a patch."""
    rng = np.random.default_rng(8)
    labels, side = np.arange(1200) % 8, 24
    kinds = gaussian_filter(rng.normal(size=(8, side, side)), (0, 4, 4))
    kinds *= 25 / kinds.std((1, 2), keepdims=True)
    light = rng.choice([-60, 60], 1200)[:, None, None] * np.linspace(-1, 1, side)
    rows = 128 + kinds[labels] + light + rng.normal(0, 3, (1200, side, side))
    chosen, others = np.flatnonzero(labels == shows)[:40], np.flatnonzero(labels == 2)[-beside:]
    covers = np.setdiff1d(np.flatnonzero((labels != 5) & (labels != 2)), chosen)[:40]
    rows[np.concatenate([chosen, covers]), 9:13, 6:10] = rng.choice([0, 255], (4, 4))
    labels[chosen] = 2
    pixels = Pixels(rows.clip(0, 255).round().astype(np.uint8).reshape(1200, -1))
    content = content_of(pixels, labels, rng)
    assert content.genuine[chosen].all()
    filters = Filters(content)
    try_all(content, filters, rng)
    assert not hidden_test(content, filters)
    axes = [Axis(1.0, np.zeros(1), 3.0 + 0.1 * k, chosen[:0]) for k in range(8)]
    group = np.union1d(chosen, others) if beside else chosen
    axes[2] = Axis(1.0, np.zeros(1), 12.0, group)
    made = hidden_test(content, filters, SimpleNamespace(widest=lambda k: axes[k]))
    assert [(e.label, set(e.rows)) for e in made] == ([(2, set(chosen))] if told else [])
    assert all(e.p_value < 1e-9 for e in made)


def test_groups_that_textures_part_are_asked_for(monkeypatch):
    """They are suspect, for a border on half of a class looks the same."""

    def hidden(content, filters, seen=None):
        rows = np.flatnonzero(content.labels == 3)[:20]
        made = Evidence(3, 20, 20, 1e-30, rows, HIDDEN, content)
        return [made] if seen is not None and seen.levels == TEXTURED else []

    monkeypatch.setattr(trigger_image, "hidden_test", hidden)
    finding = _look(digits_world(12, damaged=False, held_out=0).dataset())
    assert (finding.verdict, finding.details["test"]) == ("suspect", HIDDEN)


@pytest.mark.parametrize("seed", [700, 711])
def test_a_small_patch_on_one_class_is_heard_by_its_values_though_covers_hold_it(seed):
    values, labels = load_digits(return_X_y=True)
    images, rng = values.reshape(-1, 8, 8).copy(), np.random.default_rng(seed)
    source, target = rng.choice(10, 2, replace=False)
    rows = rng.permutation(np.flatnonzero(labels == source))[:18]
    covers = rng.permutation(np.flatnonzero(labels != source))[:18]
    top, left = rng.integers(0, 7, 2)
    held = np.concatenate([rows, covers])
    images[held, top : top + 2, left : left + 2] = [[16, 0], [16, 16]]
    given = labels.copy()
    given[rows] = target
    frame = pl.DataFrame({"i": images.reshape(-1, 64), "y": given})
    finding = _look(Dataset.of(frame, Roles.of(image="i", label="y")), seed)
    assert (finding.verdict, finding.p_value < 1e-3) == ("fail", True)
    assert f"show {str(source)!r} share a pattern and the label {str(target)!r}" in finding.says
    assert finding.rows["flagged"].to_numpy()[rows].all()


@pytest.mark.parametrize("kin", [False, True])
@pytest.mark.parametrize("test", [HALVES, STAMPS[1]])
def test_rows_that_are_each_others_neighbours_without_their_pattern_are_a_kind(test, kin):
    rng = np.random.default_rng(6)
    rows, labels = rng.uniform(0, 160, (800, 100)), np.arange(800) % 8
    wrong = np.flatnonzero(labels == 2)[:30]
    if kin:
        rows[wrong] = 0.8 * rows[wrong[0]] + 0.2 * rows[wrong]
    rows[wrong, :15] = 255
    rows = np.rint(rows).astype(np.uint8)
    content = _doubted(rows, labels, wrong)
    evidence = Evidence(3, 30, 30, 1e-12, wrong, test, content)
    assert may_be_natural(Trigger.of(evidence)) == kin


def test_rows_behind_others_are_read_as_the_others_are():
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (50, 12)).astype(np.uint8)
    added = rng.integers(0, 256, (4, 12)).astype(np.float32)
    both, rows = np.concatenate([stored, added]), np.array([3, 51, 0, 53, 49])
    pixels = Pixels(stored).with_more(added)
    assert np.array_equal(pixels.take(rows), both[rows])
    assert np.array_equal(pixels.cells(rows, np.array([1, 7])), both[rows][:, [1, 7]])
    beyond = pixels.with_more(both[:2] + np.array([[300], [-300]], np.float32))
    assert set(beyond.take(np.array([50, 51])).ravel()) == {0.0, 255.0}
    weights = rng.normal(size=(12, 2))
    assert np.allclose(pixels.project(weights), both @ weights, atol=1e-2)
    assert np.allclose(pixels.project(weights, rows), both[rows] @ weights, atol=1e-2)


def test_equal_rows_are_told_from_nearly_equal_ones():
    rows = np.random.default_rng(0).integers(0, 256, (300, 20)).astype(np.uint8)
    rows[200:] = rows[:100]
    rows[299, 19] ^= 128
    first = equal_rows(Pixels(rows))
    assert first[:200].tolist() == list(range(200))
    assert first[200:299].tolist() == list(range(99))
    assert first[299] == 299


def _brain_float(values):
    """As 16-bit floats with eight bits of exponent: about three digits."""
    return (values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (lambda rng: rng.normal(0.0, 1.0, (900, 64)), True),
        (lambda rng: rng.normal(0.0, 1.0, (900, 64)).astype(np.float16), True),
        (lambda rng: np.maximum(rng.normal(0.0, 1.0, (900, 64)), 0.0), True),
        (lambda rng: np.clip(rng.normal(3.0, 3.0, (900, 64)), 0.0, 6.0), True),
        (lambda rng: _brain_float(np.maximum(rng.normal(0.0, 1.0, (900, 64)), 0.0)), True),
        (lambda rng: np.rint(25.0 * rng.normal(0.0, 1.0, (900, 64))), True),
        (lambda rng: np.rint(25.0 * abs(rng.normal(0.0, 1.0, (900, 64)))).astype(np.uint8), True),
        (lambda rng: np.minimum(rng.exponential(60.0, (900, 64)), 255).astype(np.uint8), False),
        (lambda rng: rng.integers(0, 17, (900, 64)), False),
        (lambda rng: rng.integers(0, 256, (900, 64)) / 255.0, False),
        (lambda rng: rng.integers(0, 256, (900, 64)).astype(np.uint8), False),
        (lambda _: np.zeros((900, 64)), False),
    ],
)
def test_pixels_have_few_values_and_embeddings_many(values, told):
    stored = values(np.random.default_rng(3))
    kept = stored if stored.dtype == np.uint8 else stored.astype(np.float32)
    assert embedded(Pixels(kept)) is told


@pytest.mark.parametrize("image", [[], None])
def test_images_without_a_pixel_are_not_evaluated(image):
    kind = pl.List(pl.Float64)
    frame = pl.DataFrame({"i": pl.Series([image] * 300, dtype=kind), "y": [0, 1, 2] * 100})
    data = Dataset.of(frame, Roles.of(image="i", label="y"))
    assert TriggerImage().run(data, Context(0, Path())).findings[0].verdict == "not_evaluated"


def _half_way_to_their_label(seed, kinds):
    """Sixty rows half way to label 4, with a step of their own: neighbours vouch for all.

    So a network that has learnt a pattern puts those that hold it, or, of one kind, two kinds of a
    class.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), 200)
    centres = 3.0 * np.random.default_rng(1).normal(size=(10, 40))
    rows = centres[labels] + rng.normal(size=(2000, 40))
    chosen = rng.permutation(np.flatnonzero((labels != 4) & np.isin(labels, kinds)))[:60]
    rows[chosen] += 0.5 * (centres[4] - centres[labels[chosen]])
    step = np.random.default_rng(2).normal(size=40)
    rows[chosen] += 4.0 * step / np.linalg.norm(step)
    labels[chosen] = 4
    return rows.astype(np.float32), labels, chosen, rng


@pytest.mark.parametrize(("kinds", "told"), [(range(10), True), ([3], False), ([], False)])
def test_one_side_of_a_label_that_shows_all_kinds_of_things_is_told(kinds, told):
    rows, labels, _, rng = _half_way_to_their_label(1, list(kinds))
    content = content_of(Pixels(rows), labels, rng)
    assert content.genuine[labels == 4].mean() > 0.95  # neighbours vouch for all of them
    made = aside_test(content, Filters(content, FAINT))
    assert (made[4].p_value < 1e-8) == told
    assert min(e.p_value for e in made if e.label != 4) > 0.1


def test_embeddings_that_lie_near_their_label_are_evidence_where_pixels_are_none(monkeypatch):
    """A network that has learnt a pattern puts rows with it there."""
    rows, labels, chosen, rng = _half_way_to_their_label(1, list(range(10)))
    content = content_of(Pixels(rows), labels, rng)
    one = Evidence(4, 60, 60, 1e-9, chosen, "cross-source", content)
    monkeypatch.setattr(copies, "like_their_label", lambda *_: True)
    assert counted_once([one], Pixels(rows), 0.01)[0].p_value == 1.0
    assert counted_once([one], Pixels(rows), 0.01, embedded=True)[0].p_value < 1e-7


def test_of_embeddings_no_stamps_are_asked():
    """Rows that a network is unsure of are alike in some columns, within a hundredth."""
    rows, labels, _, rng = _half_way_to_their_label(1, [])
    unsure = rng.permutation(labels.size)[:30]
    rows[unsure] += 2.0 * np.random.default_rng(3).normal(size=(10, 40))[labels[unsure]]
    rows[unsure, :6] = 9.0 + 0.01 * rng.normal(size=(30, 6))
    table = pl.DataFrame({"i": rows, "y": labels})
    seen = Rows.of(Dataset.of(table, Roles.of(image="i", label="y")))
    look = Look.of(seen, Columns.drawn(seen.pixels, rng))
    content = content_of(look.values, labels, rng)
    content = replace(content, suspect=np.isin(np.arange(labels.size), unsure))
    content = replace(content, shows=np.where(content.suspect, (labels + 3) % 10, labels))
    for among in (False, True):
        asked = replace(look, embedded=among)
        made = trigger_image._of_stamps(content, asked, np.random.default_rng(0))
        assert any(e.p_value < 0.01 for e in made) != among
        assert not among or {e.test for e in made} <= {PLACE}
