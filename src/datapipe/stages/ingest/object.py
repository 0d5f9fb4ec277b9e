# SPDX-License-Identifier: Apache-2.0
"""`ReadObject`: any object in memory that speaks the Arrow stream interface."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa

from datapipe.core.context import Context
from datapipe.core.digest import digest_batches
from datapipe.core.roles import ROW_ID
from datapipe.errors import Malformed, SchemaMismatch, in_a_line
from datapipe.stages.ingest._reading import (
    Reading,
    SourceReader,
    refuse_reserved,
    refuse_types,
    scanned,
)


class HeldRows:
    """An object in memory that stands for its rows: equal rows are equal, and `json` sees a digest.

    The object is taken over when it is first asked for rows, and only once: a stream can be read
    only once.

    Args:
        value: Any object; one without `__arrow_c_stream__` is refused when rows are asked for.

    Example:
        >>> HeldRows(pa.table({"a": [1]})) == HeldRows(pa.table({"a": [1]}))
        True
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        self.kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        self.streams = hasattr(value, "__arrow_c_stream__")

    @functools.cached_property
    def table(self) -> pa.Table:
        """The rows, validated in full.

        Raises:
            SchemaMismatch: The object does not speak the Arrow stream interface.
            Malformed: What it gives is no valid Arrow data.
        """
        if not self.streams:
            raise SchemaMismatch(
                self.refusal(),
                code="DP-READ-024",
                hint="turn it into a table first; nothing is unpickled",
            )
        try:
            table = pa.table(self._value)
            table.validate(full=True)
        except (pa.ArrowException, ValueError, TypeError, MemoryError) as error:
            raise Malformed(
                f"the {self.kind} is no valid Arrow data: {in_a_line(error)}",
                code="DP-READ-006",
                hint="make it again with a current Arrow library",
            ) from error
        self._value = table
        return table

    @functools.cached_property
    def digest(self) -> str:
        """The logical digest of the rows."""
        return digest_batches(self.table.schema, self.table.to_batches())

    def refusal(self) -> str:
        """Why the object cannot be read.

        Returns:
            A sentence.

        Example:
            >>> HeldRows([1]).refusal()
            'list has no __arrow_c_stream__; give an Arrow table or a data frame'
        """
        name = self.kind.removeprefix("builtins.")
        return f"{name} has no __arrow_c_stream__; give an Arrow table or a data frame"

    def to_json(self) -> str:
        """What stands for the rows among a stage's parameters.

        Returns:
            Their digest; the type's name for an object that holds none.

        Example:
            >>> HeldRows(pa.table({"a": [1]})).to_json()[:7]
            'sha256:'
        """
        return self.digest if self.streams else self.kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeldRows) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Any, ...]:
        return (HeldRows, (self.table,))

    def __repr__(self) -> str:
        return f"<{self.to_json()[:15]}>"


@dataclass(frozen=True)
class ReadObject(SourceReader):
    """Reads a pyarrow, polars, pandas or DuckDB table that is already in memory.

    *Method:* the object is taken over through `__arrow_c_stream__`, validated in full before any
    other engine sees it, and named by the logical digest of its rows, so that equal rows are the
    same source however they are chunked. Extension types become their storage type.
    *Assumes:* the object fits in memory; a one-shot stream is read once and kept.
    *Choose it when:* the rows were made in this process.
    *Fails when:* the rows are larger than memory: write them to Parquet and use `ReadParquet`.
    *Cost:* one validation and one hashing pass; no copy where types allow it.

    Args:
        data: Any object with `__arrow_c_stream__`; nothing is unpickled.
        id: The user's own row key.
        text: A text column.
        image: A column of pixel lists or bytes, or a pattern such as `pixel_*`.
        label: The column to predict; a missing label refuses the rows (see `missing_labels`).
        annotator: Who gave the label.
        group: Columns whose groups must be treated alike.
        subject: The person a row is about.
        source: Where a row came from.
        weight: A row's weight in training.
        time: When the row was made.
        named: The source's name; empty for `object`.
        origin: Who made or sold the rows.
        licence: An SPDX expression.
        consent: `granted`, `denied` or empty when not declared.
        synthetic: Whether the rows are declared machine-made; None when not declared.
        generator: The model that made them, when declared.
        manifest: Not used for objects; kept with the source's facts.
        missing_labels: `refuse`, or `quarantine` to set rows without a label aside.
        fewest_classes: Fewest different labels that the source must hold, >= 1.

    Example:
        >>> from pathlib import Path
        >>> reader = ReadObject(pa.table({"t": ["a"], "y": [1]}), text="t", label="y")
        >>> len(reader.run(None, Context(0, Path("."))).data)
        1
    """

    data: Any

    name: ClassVar[str] = "ingest.object"
    raises_findings: ClassVar[tuple[str, ...]] = ("ingest.missing_labels",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.data, HeldRows):
            object.__setattr__(self, "data", HeldRows(self.data))

    def _held(self) -> HeldRows:
        held: HeldRows = self.data
        return held

    def check(self) -> list[str]:
        """Problems with the parameters, the type of the object among them.

        Returns:
            A sentence for each problem.

        Example:
            >>> ReadObject([1, 2]).check()
            ['ingest.object: list has no __arrow_c_stream__; give an Arrow table or a data frame']
        """
        wrong = super().check()
        held = self._held()
        if not held.streams:
            wrong.append(f"{self.name}: {held.refusal()}")
        return wrong

    def content(self) -> str:
        """The logical digest of the rows.

        Returns:
            The digest in the house form.

        Example:
            >>> one, other = (ReadObject(pa.table({"a": [1]})) for _ in range(2))
            >>> one.content() == other.content()
            True
        """
        return str(self._held().digest)

    def _read(self, context: Context) -> Reading:
        table = self._held().table
        refuse_reserved(table.schema.names, "the object")
        refuse_types(table.schema, "the object")
        if not table.num_columns:
            raise Malformed("the object has no columns", code="DP-READ-007", hint="give rows")
        try:
            frame = pl.DataFrame(table).lazy().with_row_index(ROW_ID)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError) as error:
            raise Malformed(
                f"the object has a column of a type that cannot be read: {in_a_line(error)}",
                code="DP-READ-006",
                hint="cast the column to a plain Arrow type",
            ) from error
        return Reading(scanned(frame, "the object"), (table.num_rows,))

    def _uri(self) -> str:
        return f"arrow:{self._held().kind}"

    def _default_name(self) -> str:
        return "object"
