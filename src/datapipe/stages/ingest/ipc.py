# SPDX-License-Identifier: Apache-2.0
"""`ReadArrow`: Arrow IPC files and streams, validated in full before another engine sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow as pa
import pyarrow.ipc

from datapipe.core.arrow_file import sealed
from datapipe.core.arrow_values import validate_values
from datapipe.core.context import Context
from datapipe.core.parameters import PositiveInt
from datapipe.core.roles import ROW_ID
from datapipe.core.thrift import Damaged
from datapipe.errors import LimitExceeded, Malformed, SchemaMismatch, in_a_line
from datapipe.stages.ingest import _files, _flatbuffers
from datapipe.stages.ingest._reading import (
    FileReader,
    Reading,
    pieced,
    refuse_reserved,
    refuse_types,
    scanned,
)

FILE_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"
HELD_BYTES = 1 << 28
"""Rows of less than this (256 MiB) stay in memory between validation and use."""
FEW_ROWS = 10_000
"""Batches of fewer rows than this are put together in memory; larger ones are used as they are."""


@dataclass
class _Held:
    """Validated batches, kept while they are few: then nothing has to be decoded a second time."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    left: float = field(default_factory=lambda: HELD_BYTES)

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep one more batch, or let go of all of them for good."""
        self.left -= batch.nbytes
        plain = not any(
            isinstance(t, pa.DictionaryType | pa.BaseExtensionType) for t in batch.schema.types
        )
        if self.left >= 0 and plain:
            self.batches.append(batch)
        else:
            self.batches, self.left = [], -math.inf


@dataclass(frozen=True)
class ReadArrow(FileReader):
    """Reads Arrow IPC files and streams lazily, after every batch was validated in full.

    *Method:* Arrow data is memory that engines trust: one forged offset makes a reader touch memory
    that is not its own and kills the process. So a file that `Dataset.save` sealed is first held
    against its checksum; then pyarrow maps the file, checks every buffer of each batch
    (offsets, indices, UTF-8), and only then polars scans it; streams are first written again as
    files. Types are the file's own; extension types become their storage, and no code of
    theirs runs.
    *Assumes:* all files have the same columns.
    *Choose it when:* rows come from another Arrow program and are read once.
    *Fails when:* a bit flips in a value of a file that no seal covers: IPC has no checksums, so the
    value changes silently. Only a digest taken at the origin helps (`VerifySources`), or a file
    written by `Dataset.save`.
    *Cost:* one validating pass; O(batch) memory for mapped files.

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
        max_batch_bytes: Most bytes that one compressed batch may decode to; > 0.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.arrow"
        >>> table = pa.table({"t": ["x", "y"], "y": [0, 1]})
        >>> with pa.ipc.new_file(file, table.schema) as writer:
        ...     writer.write_table(table)
        >>> len(ReadArrow(file, label="y").run(None, Context(0, Path("."))).data)
        2
    """

    max_batch_bytes: PositiveInt = 1 << 30

    name: ClassVar[str] = "ingest.ipc"
    raises_findings: ClassVar[tuple[str, ...]] = ("ingest.missing_labels",)

    def _read(self, context: Context) -> Reading:
        counts: list[int] = []
        stored: list[tuple[int, int]] = []
        scans: list[Path] = []
        held = _Held()
        first: pa.Schema | None = None
        files = self.files()
        for number, path in enumerate(files):
            schema, rows, told, scan = self._validated(
                path, context.scratch / f"stream-{number}.arrow", held
            )
            first = first if first is not None else schema
            if not schema.equals(first):
                raise SchemaMismatch(
                    f"{path}: its columns differ from those of {files[0]}",
                    code="DP-READ-009",
                    hint="give the files one schema, or read them with two readers",
                )
            counts.append(rows)
            stored.append(told)
            scans.append(scan)
        if held.batches and first is not None:
            table = pa.Table.from_batches(held.batches, first)
            crumbs = len(held.batches) * FEW_ROWS > table.num_rows
            frame = pl.DataFrame(pl.from_arrow(table, rechunk=crumbs)).lazy().with_row_index(ROW_ID)
            return Reading(scanned(frame, self._uri()), tuple(counts))
        frame = pl.scan_ipc(scans, glob=False, hive_partitioning=False, row_index_name=ROW_ID)
        pieces = pieced(_scan, scans, counts, stored)
        return Reading(scanned(frame, self._uri()), tuple(counts), pieces=pieces)

    def _validated(
        self, path: Path, copy: Path, held: _Held
    ) -> tuple[pa.Schema, int, tuple[int, int], Path]:
        """Schema, rows, bytes and batches of a file that holds, and the file to scan."""
        start = _files.head(path)
        is_file = start.startswith(FILE_MAGIC)
        if not is_file and not start.startswith(STREAM_MAGIC):
            raise _files.wrong_kind(path, "an Arrow IPC file", start)
        rows = size_bytes = batches = 0
        try:
            sealed(path)
            for size in _flatbuffers.decoded_sizes(path, is_file=is_file):
                self._refuse_large(path, size)
            with pa.memory_map(str(path)) as mapped:
                reader = pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)
                refuse_reserved(reader.schema.names, str(path))
                refuse_types(reader.schema, str(path))
                schema = reader.schema
                writer = None if is_file else _writer(copy, schema)
                for batch in _batches(reader):
                    validate_values(batch)
                    rows += batch.num_rows
                    size_bytes, batches = size_bytes + batch.nbytes, batches + 1
                    held.add(batch)
                    if writer is not None:
                        writer.write_batch(batch)
                if writer is not None:
                    writer.close()
        except (
            Damaged,
            _flatbuffers.Damaged,
            pa.ArrowException,
            OSError,
            ValueError,
            MemoryError,
        ) as error:
            raise Malformed(
                f"{path}: damaged at or after row {rows + 1}: {in_a_line(error)}",
                code="DP-READ-006",
                hint="copy the file again from where it was made",
            ) from error
        return schema, rows, (size_bytes, batches), path if is_file else copy

    def _refuse_large(self, path: Path, size: int) -> None:
        if size > self.max_batch_bytes:
            raise LimitExceeded(
                f"{path}: a batch decodes to {size} bytes; {self.max_batch_bytes} are allowed",
                code="DP-READ-018",
                hint="write smaller batches, or raise max_batch_bytes if you trust the file",
            )


def _scan(path: Path, before: int) -> pl.LazyFrame:
    return pl.scan_ipc(
        path.absolute(),
        glob=False,
        hive_partitioning=False,
        row_index_name=ROW_ID,
        row_index_offset=before,
    )


def _writer(copy: Path, schema: pa.Schema) -> pa.RecordBatchFileWriter:
    copy.parent.mkdir(parents=True, exist_ok=True)
    return pa.ipc.new_file(str(copy), schema)


def _batches(
    reader: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader,
) -> Iterator[pa.RecordBatch]:
    """The batches one by one, whichever form they are stored in."""
    if hasattr(reader, "num_record_batches"):
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
    else:
        yield from reader
