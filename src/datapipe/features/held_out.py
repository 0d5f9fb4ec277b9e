# SPDX-License-Identifier: Apache-2.0
"""The rows that a model was evaluated on, found again to compare exports on or to attack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID
from datapipe.features.encoding import Encoded, Encoding

COMPARED_ROWS = 256
BATCH_ROWS = 1024
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that no model learnt from.

    Args:
        x: The encoded rows.
        y: int64, shape (n,): their class numbers, -1 for an unknown class.
        frame: The columns that the model reads, in the same order.
        row_ids: uint64, shape (n,).

    Example:
        >>> rows = Encoded((1,), np.zeros((3, 1), np.float32))
        >>> len(HeldOut(rows, np.zeros(3, np.int64)))
        3
    """

    x: Encoded
    y: NDArray[np.int64]
    frame: pl.DataFrame = field(default_factory=pl.DataFrame)
    row_ids: pl.Series = field(default_factory=lambda: pl.Series([], dtype=pl.UInt64))

    def __len__(self) -> int:
        return len(self.y)

    def batches(self) -> Iterator[Floats]:
        """The rows, dense, some at a time.

        Yields:
            float32 of shape (k, *shape).

        Example:
            >>> rows = Encoded((1,), np.zeros((3, 1), np.float32))
            >>> [b.shape for b in HeldOut(rows, np.zeros(3, np.int64)).batches()]
            [(3, 1)]
        """
        for start in range(0, len(self), BATCH_ROWS):
            yield self.x.take(np.arange(start, min(start + BATCH_ROWS, len(self))))

    def tried(self, context: Context) -> Floats:
        """Rows to compare answers on: held-out ones, or noise where there are none.

        Args:
            context: Its seed draws the noise.

        Returns:
            float32 of shape (k, *shape).

        Example:
            >>> from pathlib import Path
            >>> none = HeldOut(Encoded((2,), np.zeros((0, 2), np.float32)), np.zeros(0, np.int64))
            >>> none.tried(Context(1, Path("."))).shape
            (256, 2)
        """
        if len(self):
            return self.x.take(np.arange(min(len(self), COMPARED_ROWS)))
        noise = context.rng("tried").standard_normal((COMPARED_ROWS, *self.x.shape))
        return noise.astype(np.float32)

    def right(self, said: Floats) -> NDArray[np.bool_]:
        """Which rows were answered rightly.

        Args:
            said: float32, shape (n, K): logits.

        Returns:
            bool, shape (n,).

        Example:
            >>> rows = Encoded((1,), np.zeros((1, 1), np.float32))
            >>> HeldOut(rows, np.ones(1, np.int64)).right(np.array([[0.0, 2.0]])).tolist()
            [True]
        """
        return np.asarray(said.argmax(axis=1) == self.y)


def held_out_rows(model: Artifact, encoding: Encoding, data: Dataset, context: Context) -> HeldOut:
    """The rows in the table of held-out answers that its trainer left beside the model.

    Args:
        model: The artifact of a trained model.
        encoding: How its rows become numbers.
        data: The rows it was trained from; those held out are among them.
        context: Its artifacts hold the table of held-out answers.

    Returns:
        The rows; none where the trainer held nothing out.

    Example:
        >>> from pathlib import Path
        >>> words = Encoding("text", (8,), ("t",), {"buckets": 8})
        >>> data = Dataset.of(pl.DataFrame({"t": ["a"]}))
        >>> model = Artifact("plain", "model", Path("plain.safetensors"))
        >>> len(held_out_rows(model, words, data, Context(1, Path("."))))
        0
    """
    table = context.artifacts.get(f"{model.name}.heldout")
    if table is None:
        nothing = np.zeros((0, *encoding.shape), np.float32)
        return HeldOut(Encoded(encoding.shape, nothing), np.zeros(0, np.int64))
    judged = pl.read_parquet(table.path).select(
        pl.col("row_id").alias(ROW_ID), pl.col("label").alias("_label")
    )
    frame = judged.join(_features(model, encoding, data), on=ROW_ID, maintain_order="left")
    classes = [str(c) for c in model.facts["classes"]]
    places = pl.Series(range(len(classes)), dtype=pl.Int64)
    y = frame["_label"].replace_strict(classes, places, default=-1, return_dtype=pl.Int64)
    return HeldOut(encoding.encode(frame), y.to_numpy(), frame, frame[ROW_ID])


def _features(model: Artifact, encoding: Encoding, data: Dataset) -> pl.DataFrame:
    """The columns that the model reads, by row id: of its test file, else of the data."""
    test = str(model.facts["evaluated_on"].get("file", ""))
    if not test:
        return data.frame(encoding.columns, row_id=True)
    frame = pl.read_parquet(test)
    if ROW_ID not in frame.columns:
        frame = frame.with_row_index(ROW_ID)
    return frame.select(pl.col(ROW_ID).cast(pl.UInt64), *encoding.columns)
