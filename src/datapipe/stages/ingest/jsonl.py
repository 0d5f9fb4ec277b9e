# SPDX-License-Identifier: Apache-2.0
"""`ReadJSONL`: one JSON object a line, read strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import polars as pl

from datapipe.core.context import Context
from datapipe.core.parameters import PositiveInt, Range
from datapipe.core.roles import ROW_ID
from datapipe.errors import Malformed
from datapipe.stages.ingest import _json, _lines
from datapipe.stages.ingest._reading import FileReader, Reading, refuse_reserved


@dataclass(frozen=True)
class ReadJSONL(FileReader):
    r"""Reads JSON Lines files, every line parsed strictly before a value is used.

    *Method:* each line is parsed once and refused for broken JSON, a key that occurs twice, `NaN`
    and `Infinity`, numbers beyond float64 or int64, halves of surrogate pairs, bytes that are not
    UTF-8, nesting deeper than `max_depth`, and values of two types in one column. Types come from
    all lines, never from a sample: integers are int64, columns of integers and decimals float64
    (refused when an integer over 2**53 would be rounded), objects are structs; texts that look like
    dates stay text. A key that is absent is null.
    *Assumes:* one object a line; keys are columns.
    *Choose it when:* rows are nested or come from a logging or labelling tool.
    *Fails when:* a value is wrong but well formed; the file has no checksum.
    *Cost:* one strict pass in Python (about 10**5 lines a second a core), then one lazy pass.

    Args:
        path: A file, a glob or several of them; local paths only.
        id: The user's own row key.
        text: A text column.
        image: A column of pixel lists or bytes, or a pattern such as `pixel_*`.
        label: The column to predict; a missing label refuses the file (see `missing_labels`).
        annotator: Who gave the label.
        group: Columns whose groups must be treated alike.
        subject: The person a row is about.
        source: Where a row came from, inside one file.
        weight: A row's weight in training.
        time: When the row was made.
        named: The source's name; empty for the file's stem.
        origin: Who made or sold the rows.
        licence: An SPDX expression.
        consent: `granted`, `denied` or empty when not declared.
        synthetic: Whether the rows are declared machine-made; None when not declared.
        generator: The model that made them, when declared.
        manifest: Path of a signed manifest; empty to look beside the file.
        missing_labels: `refuse`, or `quarantine` to set rows without a label aside.
        fewest_classes: Fewest different labels that the source must hold, >= 1.
        on_error: `refuse`, or `quarantine` to set broken lines aside with their reason.
        max_depth: Deepest nesting of lists and objects, 1..64.
        max_record_bytes: Longest line, in bytes; > 0.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> file = Path(tempfile.mkdtemp()) / "a.jsonl"
        >>> _ = file.write_text('{"t": "x", "y": 1}\n{"t": null, "y": 2.5}\n')
        >>> made = ReadJSONL(file, text="t", label="y").run(None, Context(0, Path(".")))
        >>> made.data.frame().rows()
        [('x', 1.0), (None, 2.5)]
    """

    on_error: _lines.OnError = "refuse"
    max_depth: Annotated[int, Range(1, 64)] = 32
    max_record_bytes: PositiveInt = 1 << 26

    name: ClassVar[str] = "ingest.jsonl"
    raises_findings: ClassVar[tuple[str, ...]] = ("ingest.malformed", "ingest.missing_labels")

    def _read(self, context: Context) -> Reading:
        columns = _json.Shape()
        limits = (self.max_record_bytes, self.max_depth)
        go_on = self.on_error == "quarantine"
        surveys = [_json.survey(f, columns, limits, go_on=go_on) for f in self.files()]
        counts = tuple(s.records for s in surveys)
        if not columns.fields:
            raise Malformed(
                f"{self._uri()} has no rows with any key",
                code="DP-READ-007",
                hint="write one JSON object on each line",
            )
        refuse_reserved(list(columns.fields), self._uri())
        frame = pl.scan_ndjson(
            [s.readable(context.scratch, i) for i, s in enumerate(surveys)],
            schema={key: shape.type() for key, shape in columns.fields.items()},
            row_index_name=ROW_ID,
        )
        self._hold_against(frame, sum(s.records - len(s.broken) for s in surveys))
        return Reading(
            _lines.numbered(frame, surveys),
            counts,
            _lines.set_aside(surveys),
            (_lines.malformed(surveys),),
        )

    def _hold_against(self, frame: pl.LazyFrame, counted: int) -> None:
        """Rows as the engine reads them must be as many as the lines that were parsed."""
        try:
            rows = int(frame.select(pl.last().len()).collect(engine="streaming").item())
        except pl.exceptions.PolarsError as error:  # its words quote cells: they stay in the cause
            raise Malformed(
                f"{self._uri()}: the engine reads other values than were parsed",
                code="DP-READ-016",
                hint="save the rows as Parquet",
            ) from error
        if rows != counted:
            raise Malformed(
                f"{self._uri()}: {counted} lines were parsed, {rows} rows were read",
                code="DP-READ-016",
                hint="save the rows as Parquet",
            )
