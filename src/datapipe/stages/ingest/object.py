# SPDX-License-Identifier: Apache-2.0
"""`ReadObject`: any object in memory that speaks the Arrow stream interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa

from datapipe.core.context import Context
from datapipe.core.digest import digest_batches
from datapipe.core.roles import ROW_ID
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.stages.ingest._reading import (
    Reading,
    SourceReader,
    first_line,
    refuse_reserved,
    scanned,
)


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

    Example:
        >>> from pathlib import Path
        >>> reader = ReadObject(pa.table({"t": ["a"], "y": [1]}), text="t", label="y")
        >>> len(reader.run(None, Context(0, Path("."))).data)
        1
    """

    data: Any = field(kw_only=False, compare=False, repr=False)

    name: ClassVar[str] = "ingest.object"
    raises_findings: ClassVar[tuple[str, ...]] = ("ingest.missing_labels",)

    def check(self) -> list[str]:
        """Problems with the parameters, the type of the object among them.

        Returns:
            A sentence for each problem.

        Example:
            >>> ReadObject([1, 2]).check()
            ['ingest.object: list has no __arrow_c_stream__; give a pyarrow, polars, pandas or DuckDB table']
        """
        wrong = super().check()
        if not hasattr(self.data, "__arrow_c_stream__"):
            wrong.append(f"{self.name}: {_refusal(self.data)}")
        return wrong

    def content(self) -> str:
        """The logical digest of the rows.

        Returns:
            The digest in the house form.

        Example:
            >>> ReadObject(pa.table({"a": [1]})).content() == ReadObject(pa.table({"a": [1]})).content()
            True
        """
        table = self._table()
        return digest_batches(table.schema, table.to_batches())

    def params(self) -> dict[str, Any]:
        """The parameters by name, the object replaced by its digest.

        Returns:
            Field name to a value that `json` can write.

        Example:
            >>> ReadObject(pa.table({"a": [1]})).params()["data"].startswith("sha256:")
            True
        """
        return {**super().params(), "data": self.content()}

    def _table(self) -> pa.Table:
        """The object as a validated table, taken over once: a stream can be read only once."""
        kept = self.__dict__.get("_taken")
        if kept is None:
            kept = _taken_over(self.data)
            object.__setattr__(self, "_taken", kept)
        return kept

    def _read(self, context: Context) -> Reading:
        table = self._table()
        refuse_reserved(table.schema.names, "the object")
        if not table.num_columns:
            raise Malformed("the object has no columns", code="DP-READ-007", hint="give rows")
        try:
            frame = pl.DataFrame(table).lazy().with_row_index(ROW_ID)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError) as error:
            raise Malformed(
                f"the object has a column of a type that cannot be read: {first_line(error)}",
                code="DP-READ-006",
                hint="cast the column to a plain Arrow type",
            ) from error
        return Reading(scanned(frame, "the object"), (table.num_rows,))

    def _uri(self) -> str:
        return f"arrow:{type(self.data).__module__.partition('.')[0]}.{type(self.data).__name__}"

    def _default_name(self) -> str:
        return "object"


def _refusal(value: object) -> str:
    kind = type(value).__name__
    return f"{kind} has no __arrow_c_stream__; give a pyarrow, polars, pandas or DuckDB table"


def _taken_over(value: object) -> pa.Table:
    if not hasattr(value, "__arrow_c_stream__"):
        raise SchemaMismatch(
            _refusal(value), code="DP-READ-005", hint="turn it into a table first; nothing is unpickled"
        )
    try:
        table = pa.table(value)
        table.validate(full=True)
    except (pa.ArrowException, ValueError, TypeError, MemoryError) as error:
        raise Malformed(
            f"the {type(value).__name__} is no valid Arrow data: {first_line(error)}",
            code="DP-READ-006",
            hint="make it again with a current Arrow library",
        ) from error
    return table
