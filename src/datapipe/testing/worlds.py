# SPDX-License-Identifier: Apache-2.0
"""Worlds: seeded data whose truth is known, to judge detectors by.

A world is small, offline and disclosed: every fault in it was planted on purpose and is listed, so
that recall and precision can be counted instead of guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ORDINAL_BITS, ROW_ID, Roles
from datapipe.core.source import Source
from datapipe.errors import DeclarationError

FAULTS = ("flipped", "triggered", "duplicated", "missing", "synthetic")
"""The faults a world may hold; each is a field of `SourceTruth`."""

SIDE = 8
TOP = 16.0
CLASSES = 10
SITES = ("north", "south", "east", "west")
N_FLIPPED, N_TRIGGERED, N_DUPLICATED, N_MISSING, N_SYNTHETIC = 180, 36, 60, 5, 120

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SourceTruth:
    """What was planted in one source, by the 0-based ordinal of its rows.

    Args:
        clean_labels: int64, shape (n,); the label every row should have.
        flipped: int64 ordinals of rows whose label was moved to another class.
        triggered: int64 ordinals of rows with a trigger, relabelled to the target class.
        duplicated: int64 ordinals of rows that are noisy copies of another row.
        duplicate_of: (source name, ordinal) of the original of each row in `duplicated`.
        missing: int64 ordinals of rows with NaN pixels.
        synthetic: int64 ordinals of rows drawn from a generator.

    Example:
        >>> none = np.empty(0, np.int64)
        >>> SourceTruth(np.array([1, 0]), np.array([1]), none, none, (), none, none).flipped.size
        1
    """

    clean_labels: Ints
    flipped: Ints
    triggered: Ints
    duplicated: Ints
    duplicate_of: tuple[tuple[str, int], ...]
    missing: Ints
    synthetic: Ints


@dataclass(frozen=True, eq=False)
class World:
    """Sources with planted faults, the truth about them, and clean rows kept apart.

    Args:
        name: What the world is called.
        seed: The seed it was drawn with.
        sources: Source name to its table and its facts. Facts are what a reader may declare
            (`origin`, `licence`, `consent`, `synthetic`, `generator`) and `signed`: whether the
            source comes with a signature.
        truth: Source name to what was planted in it.
        test: Clean rows with the same columns that no source holds.
        roles: What the columns are for.
        trigger: What the trigger is: `target` class, `rows`, `cols` and `values` of its pixels;
            empty when there is none.

    Example:
        >>> world = digits_world(7)
        >>> sorted(world.sources), world.test.num_rows
        (['archive', 'clinic', 'generated', 'scraped'], 360)
    """

    name: str
    seed: int
    sources: Mapping[str, tuple[pa.Table, Mapping[str, Any]]]
    truth: Mapping[str, SourceTruth]
    test: pa.Table
    roles: Roles
    trigger: Mapping[str, Any]

    def dataset(self) -> Dataset:
        """Every source one below the other, with the row ids an executor would give.

        Returns:
            The data set; source numbers count from 1 in the order of `sources`.

        Example:
            >>> len(digits_world(7).dataset())
            1617
        """
        frames = []
        described = []
        for number, (name, (table, facts)) in enumerate(self.sources.items(), start=1):
            ids = (np.uint64(number) << np.uint64(ORDINAL_BITS)) + np.arange(
                table.num_rows, dtype=np.uint64
            )
            frame = pl.DataFrame(table)
            frames.append(frame.insert_column(0, pl.Series(ROW_ID, ids)))
            declared = {k: v for k, v in facts.items() if k != "signed"}
            described.append(
                Source(name, f"arrow:{name}", number=number, rows=table.num_rows, **declared)
            )
        frame = pl.concat(frames)
        return Dataset(frame.lazy(), self.roles, sources=described, rows=frame.height)

    def planted(self, fault: str) -> NDArray[np.bool_]:
        """Which rows of `dataset()` hold a fault.

        Args:
            fault: A name in `FAULTS`.

        Returns:
            bool, shape (n,), in row order.

        Raises:
            DeclarationError: There is no such fault.

        Example:
            >>> int(digits_world(7).planted("flipped").sum())
            180
        """
        if fault not in FAULTS:
            raise DeclarationError(f"{fault!r} is none of {', '.join(FAULTS)}")
        masks = []
        for truth in self.truth.values():
            mask = np.zeros(truth.clean_labels.size, bool)
            mask[getattr(truth, fault)] = True
            masks.append(mask)
        return np.concatenate(masks)

    def clean_labels(self) -> Ints:
        """The label every row of `dataset()` should have.

        Returns:
            int64, shape (n,), in row order.

        Example:
            >>> digits_world(7).clean_labels().shape
            (1617,)
        """
        return np.concatenate([t.clean_labels for t in self.truth.values()])

    def stamp(self, images: Floats) -> Floats:
        """Put the world's trigger on images, to measure how far an attack succeeds.

        Args:
            images: float32, shape (n, 64), values 0..16.

        Returns:
            A copy of the same shape with the trigger in it.

        Raises:
            DeclarationError: This world has no trigger.

        Example:
            >>> world = digits_world(7)
            >>> bool((world.stamp(np.zeros((1, 64), np.float32)) > 0).any())
            True
        """
        if not self.trigger:
            raise DeclarationError(f"the world {self.name!r} has no trigger")
        stamped = images.copy()
        stamped[:, trigger_pixels(self.trigger)] = self.trigger["values"]
        return stamped


def trigger_pixels(trigger: Mapping[str, Any]) -> Ints:
    """The flat positions of a trigger's pixels in an 8 x 8 image.

    Args:
        trigger: `rows` and `cols`, of equal length.

    Returns:
        int64, one position in 0..63 for each pixel.

    Example:
        >>> trigger_pixels({"rows": [0, 1], "cols": [6, 7]}).tolist()
        [6, 15]
    """
    return np.asarray(trigger["rows"], np.int64) * SIDE + np.asarray(trigger["cols"], np.int64)


def digits_world(seed: int, *, damaged: bool = True, held_out: int = 360) -> World:
    """Handwritten digits from four sources, with every fault that the pipeline looks for.

    The 1,797 bundled 8 x 8 images less `held_out` test rows are dealt to three sources. Damage
    then adds 180 flipped labels, 36 triggered rows, 60 near-duplicates, 5 rows with missing pixels,
    a fourth source of 120 declared synthetic rows, and leaves a third of the rows unsigned.

    Args:
        seed: Same seed, same world.
        damaged: False gives the same rows without any fault, all signed.
        held_out: How many clean rows to keep apart, 0..900.

    Returns:
        The world; columns `image` (64 floats in 0..16), `label` (0..9) and `site`.

    Example:
        >>> digits_world(7, damaged=False).planted("flipped").any()
        np.False_
    """
    rng = np.random.default_rng(seed)
    images, labels = _bundled()
    order = rng.permutation(labels.size)
    test, train = order[:held_out], order[held_out:]
    rows = _Rows(images[train], labels[train], rng.integers(0, 3, train.size))
    trigger: dict[str, Any] = {}
    if damaged:
        generated = _generated(rows, rng)
        trigger = _damage(rows, rng)
        rows.append(generated.images, generated.clean, generated.clean, 3, "synthetic")
    tables, truth = _dealt(rows, rng)
    sources = {
        name: (table, {**_FACTS[name], "signed": not damaged or name != "scraped"})
        for name, table in tables.items()
    }
    clean = _table(images[test], labels[test], rng)
    roles = Roles.of(image="image", label="label", group="site")
    return World("digits", seed, sources, truth, clean, roles, trigger)


_NAMES = ("clinic", "archive", "scraped", "generated")
_FACTS: dict[str, dict[str, Any]] = {
    "clinic": {
        "origin": "clinic",
        "licence": "CC-BY-4.0",
        "consent": "granted",
        "synthetic": False,
    },
    "archive": {
        "origin": "archive",
        "licence": "CC0-1.0",
        "consent": "granted",
        "synthetic": False,
    },
    "scraped": {"origin": "web", "licence": "", "consent": ""},
    "generated": {
        "origin": "in-house",
        "licence": "CC0-1.0",
        "synthetic": True,
        "generator": "class-wise PCA Gaussian",
    },
}


class _Rows:
    """Rows under construction: a column each for pixels, labels, source and every fault."""

    def __init__(self, images: Floats, labels: Ints, source: Ints) -> None:
        self.images, self.clean, self.label = images.copy(), labels.copy(), labels.copy()
        self.source = source
        self.fault = np.full(labels.size, "", dtype="<U10")
        self.copy_of = np.full(labels.size, -1)

    def append(
        self, images: Floats, clean: Ints, label: Ints, source: int | Ints, fault: str
    ) -> None:
        n = label.size
        self.images = np.vstack([self.images, images])
        self.clean = np.concatenate([self.clean, clean])
        self.label = np.concatenate([self.label, label])
        self.source = np.concatenate([self.source, np.broadcast_to(source, n)])
        self.fault = np.concatenate([self.fault, np.full(n, fault)])
        self.copy_of = np.concatenate([self.copy_of, np.full(n, -1)])


def _bundled() -> tuple[Floats, Ints]:
    bunch = load_digits()
    return bunch.data.astype(np.float32), bunch.target.astype(np.int64)


def _damage(rows: _Rows, rng: np.random.Generator) -> dict[str, Any]:
    """Plant every fault on rows of its own, so that each can be counted apart."""
    target = int(rng.integers(CLASSES))
    order = rng.permutation(rows.label.size)
    others = order[rows.clean[order] != target]
    triggered = others[:N_TRIGGERED]
    free = order[~np.isin(order, triggered)]
    flipped, missing, copied = np.split(
        free[: N_FLIPPED + N_MISSING + N_DUPLICATED], [N_FLIPPED, N_FLIPPED + N_MISSING]
    )
    rows.label[flipped] = (rows.clean[flipped] + rng.integers(1, CLASSES, N_FLIPPED)) % CLASSES
    rows.fault[flipped] = "flipped"
    trigger = _trigger(target, rng)
    rows.images[triggered[:, None], trigger_pixels(trigger)] = trigger["values"]
    rows.label[triggered] = target
    rows.fault[triggered] = "triggered"
    for row in missing:
        rows.images[row, rng.choice(SIDE * SIDE, 8, replace=False)] = np.nan
    rows.fault[missing] = "missing"
    noise = rng.normal(0.0, 0.3, (N_DUPLICATED, SIDE * SIDE))
    copies = np.clip(rows.images[copied] + noise, 0.0, TOP).astype(np.float32)
    places = rng.integers(0, 3, N_DUPLICATED)
    rows.append(copies, rows.clean[copied], rows.label[copied], places, "duplicated")
    rows.copy_of[-N_DUPLICATED:] = copied
    return trigger


def _trigger(target: int, rng: np.random.Generator) -> dict[str, Any]:
    """A 2 x 2 checker of full contrast in one of the four corners."""
    top, left = (int(c) for c in rng.choice([0, SIDE - 2], 2))
    values = [TOP, 0.0, 0.0, TOP] if rng.integers(2) else [0.0, TOP, TOP, 0.0]
    return {
        "target": target,
        "rows": [top, top, top + 1, top + 1],
        "cols": [left, left + 1, left, left + 1],
        "values": values,
    }


def _generated(rows: _Rows, rng: np.random.Generator) -> _Rows:
    """Rows of a generator fitted to the clean rows: per class, a Gaussian on 12 components."""
    labels = np.repeat(np.arange(CLASSES), N_SYNTHETIC // CLASSES)
    made = []
    for k in range(CLASSES):
        real = rows.images[rows.clean == k].astype(np.float64)
        centre = real.mean(0)
        _, scale, axes = np.linalg.svd(real - centre, full_matrices=False)
        spread = scale[:12] / np.sqrt(len(real) - 1)
        drawn = centre + (rng.normal(size=(N_SYNTHETIC // CLASSES, 12)) * spread) @ axes[:12]
        made.append(np.clip(np.rint(drawn), 0.0, TOP))
    return _Rows(np.vstack(made).astype(np.float32), labels, np.full(labels.size, 3))


def _dealt(
    rows: _Rows, rng: np.random.Generator
) -> tuple[dict[str, pa.Table], dict[str, SourceTruth]]:
    """Deal the rows to their sources in random order and write down where the faults went."""
    tables: dict[str, pa.Table] = {}
    picks: dict[str, Ints] = {}
    place = np.zeros((rows.label.size, 2), np.int64)
    for number in np.unique(rows.source):
        pick = rng.permutation(np.flatnonzero(rows.source == number))
        place[pick, 0], place[pick, 1] = number, np.arange(pick.size)
        picks[_NAMES[number]] = pick
        tables[_NAMES[number]] = _table(rows.images[pick], rows.label[pick], rng)
    truth = {}
    for name, pick in picks.items():
        where = {f: np.flatnonzero(rows.fault[pick] == f) for f in FAULTS}
        originals = place[rows.copy_of[pick[where["duplicated"]]]]
        truth[name] = SourceTruth(
            clean_labels=rows.clean[pick],
            duplicate_of=tuple((_NAMES[s], int(o)) for s, o in originals),
            **where,
        )
    return tables, truth


def _table(images: Floats, labels: Ints, rng: np.random.Generator) -> pa.Table:
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), SIDE * SIDE)
    sites = rng.choice(SITES, labels.size, p=[0.4, 0.3, 0.2, 0.1])
    return pa.table({"image": pixels, "label": pa.array(labels), "site": pa.array(sites.tolist())})
