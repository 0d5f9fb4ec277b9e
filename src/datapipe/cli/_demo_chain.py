# SPDX-License-Identifier: Apache-2.0
"""The demo's two pipelines, and the files they read: digits with planted, disclosed faults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from datapipe.core.gate import Gate, at_most, not_failed
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import ORDINAL_BITS
from datapipe.core.stage import Stage
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.stages import (
    ClassBalance,
    ConfidentLearning,
    DeclaredSynthetic,
    Expect,
    ExportQuantized,
    GroupBalance,
    LabelFlips,
    NearDuplicates,
    ReadParquet,
    SyntheticShare,
    TrainFederated,
    TrainPlain,
    TrainPrivately,
    TriggerImage,
    VerifySources,
)
from datapipe.testing.worlds import World

LIMITS = {
    "provenance.invalid": not_failed(),
    "dedup.near": at_most(0.01),
    "synthetic.declared": at_most(0.10),
    "poisoning.trigger_image": at_most(0.01),
    "labels.noise": at_most(0.08),
    "validate.*": not_failed(),
}
"""What the gate asks of the rows; every limit reads the upper bound of an interval."""

SUITE = [
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "image.missing", "min_value": 0, "max_value": 0},
        "severity": "critical",
    },
    {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "label", "value_set": list(range(10))},
        "severity": "critical",
    },
]
"""The Great Expectations suite: no pixel is missing, labels are digits."""

EPSILON, DELTA = 3.0, 1e-5
BUDGET = 100.0
"""Epsilon that all private models of one demo store may spend together: the digits are public."""


@dataclass(frozen=True, eq=False)
class DemoFiles:
    """The demo's inputs on disk.

    Args:
        sources: Source name to its Parquet file.
        facts: Source name to what it declares.
        trusted: Public keys of the signers, PEM.
        test: Clean rows that no source holds.

    Example:
        >>> DemoFiles({}, {}, Path("k.pem"), Path("t.parquet")).sources
        {}
    """

    sources: Mapping[str, Path]
    facts: Mapping[str, Mapping[str, Any]]
    trusted: Path
    test: Path


def write_files(world: World, folder: Path) -> DemoFiles:
    """Write a world's sources as Parquet and sign those that come with a signature.

    The signer is a key made for this demo and thrown away; its public half is what the pipeline is
    told to trust. Files whose content is unchanged are left alone, so that a second run reuses.

    Args:
        world: The world.
        folder: Where to write; made when it is not there.

    Returns:
        The files.

    Example:
        >>> import tempfile
        >>> from datapipe.testing.worlds import digits_world
        >>> len(write_files(digits_world(7), Path(tempfile.mkdtemp())).sources)
        4
    """
    folder.mkdir(parents=True, exist_ok=True)
    trusted, test = folder / "suppliers.pub.pem", folder / "test.parquet"
    files: dict[str, Path] = {}
    facts: dict[str, dict[str, Any]] = {}
    key = PrivateKey.new("p256")
    fresh = not trusted.exists()
    for name, (table, told) in world.sources.items():
        path = folder / f"{name}.parquet"
        if fresh:
            _publish(table, path)
            if told["signed"]:
                told_by_signer = DatasetPredicate(name, rows=table.num_rows, origin=told["origin"])
                sign_path(path, key, predicate=told_by_signer)
        files[name] = path
        facts[name] = {k: v for k, v in told.items() if k != "signed"}
    if fresh:
        _publish(world.test, test)
        trusted.write_text(key.public_key.to_pem(), "utf-8")
    return DemoFiles(files, facts, trusted, test)


def _publish(table: Any, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
    partial.replace(path)


def as_delivered(files: DemoFiles) -> Pipeline:
    """Look at the rows as they came, change nothing, and let the gate judge them.

    Args:
        files: The demo's inputs.

    Returns:
        The pipeline; on damaged digits its gate closes.
    """
    return Pipeline(
        "digits as delivered",
        [
            *_read(files),
            [Expect(SUITE), *_detectors(), *_described()],
            Gate(LIMITS),
        ],
    )


def cleaned(files: DemoFiles, *, train: bool = True) -> Pipeline:
    """Set aside what the detectors flag, look again, and train on what the gate lets through.

    Args:
        files: The demo's inputs.
        train: Whether models are trained and exported too.

    Returns:
        The pipeline.
    """
    test = str(files.test)
    before = [TrainPlain(named="before", test=test)] if train else []
    return Pipeline(
        "digits cleaned",
        [
            *_read(files),
            Expect(SUITE, on_finding="quarantine"),
            *before,
            NearDuplicates(on_finding="quarantine"),
            TriggerImage(on_finding="quarantine"),
            ConfidentLearning(on_finding="quarantine"),
            [Expect(SUITE), *_detectors(), *_described()],
            Gate(LIMITS),
            *(_models(test) if train else []),
        ],
    )


def _models(test: str) -> list[Any]:
    """Three trainings side by side, and the export of the first."""
    private = TrainPrivately(
        named="private", epsilon=EPSILON, delta=DELTA, budget=BUDGET, test=test
    )
    return [
        [
            TrainPlain(named="plain", test=test),
            private,
            TrainFederated(named="federated", test=test),
        ],
        ExportQuantized("int8", model="plain"),
    ]


def _read(files: DemoFiles) -> list[Any]:
    readers = [
        ReadParquet(
            str(path), named=name, image="image", label="label", group="site", **files.facts[name]
        )
        for name, path in files.sources.items()
    ]
    return [readers, VerifySources(trusted=(str(files.trusted),))]


def _detectors() -> list[Stage]:
    return [
        NearDuplicates(on_finding="note"),
        TriggerImage(),
        LabelFlips(),
        ConfidentLearning(),
    ]


def _described() -> list[Stage]:
    return [DeclaredSynthetic(), SyntheticShare(), ClassBalance(), GroupBalance()]


def row_ids(world: World, numbers: Mapping[str, int], fault: str) -> pl.Series:
    """The row ids of the rows with a planted fault.

    Args:
        world: The world.
        numbers: Source name to the number the store gave it.
        fault: A name in `datapipe.testing.worlds.FAULTS`.

    Returns:
        uint64 row ids.

    Example:
        >>> from datapipe.testing.worlds import digits_world
        >>> names = ["clinic", "archive", "scraped", "generated"]
        >>> row_ids(digits_world(7), {n: i + 1 for i, n in enumerate(names)}, "missing").len()
        5
    """
    parts = [
        pl.Series(getattr(truth, fault), dtype=pl.UInt64) + (numbers[name] << ORDINAL_BITS)
        for name, truth in world.truth.items()
    ]
    return pl.concat(parts)
