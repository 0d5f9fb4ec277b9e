# SPDX-License-Identifier: Apache-2.0
"""`ReadCSV`: comma-separated text in one pinned dialect, read without loss or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from datapipe.core.context import Context
from datapipe.core.parameters import PositiveInt
from datapipe.core.roles import ROW_ID
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.stages.ingest import _columns, _dialect, _lines
from datapipe.stages.ingest._reading import FileReader, Reading, refuse_reserved


@dataclass(frozen=True)
class ReadCSV(FileReader):
    r"""Reads CSV files of RFC 4180 in UTF-8, with every record counted before a value is read.

    *Method:* one pass over the bytes finds where records end and which are broken: wrong number of
    fields, a quote out of place, NUL bytes, bytes that are not UTF-8, lone carriage returns. Then
    all values are read as text and the rows are held against that count. A column becomes int64
    only if each value's text comes back from the number (`007` and 2**70 stay text), float64 only
    if each value is a finite decimal that a float64 holds (`1e400` stays text, integers over 2**53
    are never rounded), boolean only for one pair of `true/false`; all else, dates included, stays
    text. An empty field is null. `NaN` and `inf` count as floats in a column of numbers.
    *Assumes:* the first record names the columns; an empty name becomes `column_<number>`.
    *Choose it when:* there is nothing better than CSV: Parquet keeps types and checksums.
    *Fails when:* a value is wrong but well formed; a CSV file has no checksum.
    *Cost:* three passes over the text, O(window) memory.

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
        separator: One ASCII character between fields; empty for a comma, or a tab in `.tsv` files.
        on_error: `refuse`, or `quarantine` to set broken records aside with their reason.
        max_record_bytes: Longest record, in bytes; > 0.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("code,y\n007,1\n123,0\n")
        >>> made = ReadCSV(file, label="y").run(None, Context(0, Path(".")))
        >>> made.data.frame().rows()
        [('007', 1), ('123', 0)]
    """

    separator: str = ""
    on_error: _lines.OnError = "refuse"
    max_record_bytes: PositiveInt = 1 << 26

    name: ClassVar[str] = "ingest.csv"
    raises_findings: ClassVar[tuple[str, ...]] = ("ingest.malformed", "ingest.missing_labels")

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without reading.

        Returns:
            A sentence for each problem.

        Example:
            >>> ReadCSV("a.csv", separator=";;").check()
            ["ingest.csv: separator=';;'; one ASCII character is needed"]
        """
        if wrong := super().check():
            return wrong
        mark = self.separator
        if mark and (len(mark) > 1 or not mark.isascii() or mark in '"\r\n\0'):
            wrong.append(f"{self.name}: separator={mark!r}; one ASCII character is needed")
        return wrong

    def _read(self, context: Context) -> Reading:
        files = self.files()
        mark = self.separator or ("\t" if files[0].suffix.lower() == ".tsv" else ",")
        most = self.max_record_bytes
        names, _ = _dialect.header(files[0], mark, most)
        refuse_reserved(names, str(files[0]))
        for file in files[1:]:
            _same_header(_dialect.header(file, mark, most)[0], names, file, files[0])
        go_on = self.on_error == "quarantine"
        surveys = [_dialect.survey(f, mark, most, go_on=go_on) for f in files]
        frame = self._scan(surveys, names, mark, context)
        return Reading(
            frame,
            tuple(s.records for s in surveys),
            _lines.set_aside(surveys),
            (_lines.malformed(surveys),),
        )

    def _scan(
        self, surveys: Sequence[_lines.Survey], names: Sequence[str], mark: str, context: Context
    ) -> pl.LazyFrame:
        """The rows as polars reads them, held against the count and given their types."""
        text = pl.scan_csv(
            [s.readable(context.scratch, i) for i, s in enumerate(surveys)],
            separator=mark,
            has_header=False,
            skip_rows=1,
            schema=dict.fromkeys(names, pl.String),
            row_index_name=ROW_ID,
            glob=False,
        )
        counted = sum(s.records - len(s.broken) for s in surveys)
        try:
            rows, some = _columns.filled(text, names)
            casts = _columns.lossless(text, some) if rows == counted else []
        except pl.exceptions.PolarsError as error:  # its words quote cells: they stay in the cause
            raise Malformed(
                f"{self._uri()}: the engine reads other records than were counted",
                code="DP-READ-016",
                hint="quote every field, or save the rows as Parquet",
            ) from error
        if rows != counted:
            raise Malformed(
                f"{self._uri()}: {counted} records were counted, {rows} rows were read",
                code="DP-READ-016",
                hint="quote every field, or save the rows as Parquet",
            )
        return _lines.numbered(text.with_columns(casts), surveys)


def _same_header(names: Sequence[str], first: Sequence[str], path: Path, other: Path) -> None:
    if names == first:
        return
    odd = sorted({*names} ^ {*first}) or [n for n, o in zip(names, first, strict=True) if n != o]
    raise SchemaMismatch(
        f"{path}:1: its header differs from {other} at column {odd[0]!r}",
        code="DP-READ-009",
        hint="give the files one header, or read them with two readers",
    )
