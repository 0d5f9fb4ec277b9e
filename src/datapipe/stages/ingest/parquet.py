# SPDX-License-Identifier: Apache-2.0
"""`ReadParquet`: Parquet files, checked for bombs and damage before a row is handed on."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import polars as pl
import pyarrow as pa
import pyarrow._compute as kernels  # `pyarrow.compute` writes 286 docstrings: 0.1 s
import pyarrow.parquet as pq

from datapipe.core.arrow_values import validate_values
from datapipe.core.context import Context
from datapipe.core.parameters import Positive, PositiveInt
from datapipe.core.roles import ROW_ID
from datapipe.core.soundness import Soundness, sound
from datapipe.core.thrift import Damaged
from datapipe.errors import LimitExceeded, Malformed, SchemaMismatch, in_a_line
from datapipe.stages.ingest import _files, _footer
from datapipe.stages.ingest._reading import (
    FileReader,
    Reading,
    pieced,
    refuse_reserved,
    refuse_types,
    scanned,
)

MAGIC = b"PAR1"
FLOOR_BYTES = 1 << 28
"""Files that decode to less than this (256 MiB) are no bombs, whatever their ratio."""
SMALL_BYTES = 1 << 20
"""Files of less than this together (1 MiB) have every page decoded first, checksums or not."""
HIDING_BYTES = 1 << 26
"""The same (64 MiB) where a dictionary may hide how much its column decodes to."""
SCAN_ROWS = 16_384
CheckDepth = Literal["auto", "full", "footer"]


@dataclass(frozen=True)
class ReadParquet(FileReader):
    """Reads Parquet files lazily, after their footers and, where it tells, every page was checked.

    *Method:* the footer is held against the file's size and against limits on rows and on decoded
    bytes; then every page is held against its checksum, where the writer stored one, and the whole
    footer against its seal, where `Dataset.save` or the store wrote the file. Small files without
    checksums have every page decoded once in small batches and validated in full instead (in large
    ones that finds nothing which reading would not find). Dictionary pages stay encoded in that
    pass, so a small file that would decode to gigabytes is refused in small memory. Types are the
    file's own; extension types become their storage type, and no code of theirs runs.
    *Assumes:* all files have the same columns; damage inside a page is certain to be noticed only
    where the writer stored page checksums (`write_page_checksum=True`), in a footer only where it
    is sealed.
    *Choose it when:* the rows are in Parquet, also when they are larger than memory.
    *Fails when:* a bit flips in a page without checksum: the value may change silently. Only a
    digest taken at the origin helps (`VerifySources`).
    *Cost:* one pass over the stored bytes of files with checksums, one decoding pass over small
    ones without, before the first row is used; O(batch) memory.

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
        checks: `auto`; `full` for a pass over all pages always, `footer` for none.
        max_ratio: Most decoded bytes for each byte of file, beyond 256 MiB decoded; > 0.
        max_rows: Most rows in all files together; > 0.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> pq.write_table(pa.table({"t": ["x", "y"], "y": [0, 1]}), file)
        >>> made = ReadParquet(file, text="t", label="y").run(None, Context(0, Path(".")))
        >>> len(made.data), made.data.sources[0].name
        (2, 'a')
    """

    checks: CheckDepth = "auto"
    max_ratio: Positive = 1000.0
    max_rows: PositiveInt = 2**32 - 2

    name: ClassVar[str] = "ingest.parquet"
    raises_findings: ClassVar[tuple[str, ...]] = ("ingest.missing_labels",)

    def _read(self, context: Context) -> Reading:
        files = self.files()
        counts: list[int] = []
        stored: list[tuple[int, int]] = []
        first: pa.Schema | None = None
        total = sum(path.stat().st_size for path in files)
        for path in files:
            footer = _footer_of(path)
            with _opened(path, footer) as file:
                refuse_reserved(file.schema_arrow.names, str(path))
                refuse_types(file.schema_arrow, str(path))
                first = first if first is not None else file.schema_arrow
                _same_columns(file.schema_arrow, first, path, files[0])
                counts.append(footer.rows)
                stored.append((footer.written, footer.groups))
                if sum(counts) > self.max_rows:
                    raise LimitExceeded(
                        f"{path}: more than {self.max_rows} rows",
                        code="DP-READ-021",
                        hint="raise max_rows if that many are meant",
                    )
                most = self._most_bytes(path)
                if footer.decoded > most:
                    raise _bomb(path, footer.decoded, most)
                if self._looks(path, footer, total):
                    _inspect(file, path, footer.rows, most)
        frame = pl.scan_parquet(
            list(files), glob=False, hive_partitioning=False, row_index_name=ROW_ID
        )
        pieces = pieced(_scan, files, counts, stored)
        return Reading(scanned(frame, self._uri()), tuple(counts), pieces=pieces)

    def _looks(self, path: Path, footer: _footer.Footer, total: int) -> bool:
        """Hold every page against its checksum; whether they must be decoded to know more."""
        if self.checks == "footer":
            return False
        told = _held_against_checksums(path)
        if self.checks == "full":
            return True
        if told.unchecked and total < SMALL_BYTES:
            return True
        return not footer.accounted and (total < HIDING_BYTES or not told.unchecked)

    def _most_bytes(self, path: Path) -> float:
        return max(FLOOR_BYTES, self.max_ratio * path.stat().st_size)


def _scan(path: Path, before: int) -> pl.LazyFrame:
    return pl.scan_parquet(
        path.absolute(),
        glob=False,
        hive_partitioning=False,
        row_index_name=ROW_ID,
        row_index_offset=before,
    )


def _footer_of(path: Path) -> _footer.Footer:
    """The footer of a file; anything that is no Parquet file is refused first."""
    size = path.stat().st_size
    start = _files.head(path)
    if not start.startswith(MAGIC):
        raise _files.wrong_kind(path, "a Parquet file", start)
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
        if size < 12 or tail[4:] != MAGIC:
            raise _cut(path, "its end is missing")
        (length,) = struct.unpack("<I", tail[:4])
        if length > size - 12:
            raise _cut(path, f"its footer claims {length} bytes in a file of {size}")
        file.seek(size - 8 - length)
        raw = file.read(length)
    try:
        return _footer.parsed(raw, size)
    except _footer.Encrypted as error:
        hint = "decrypt it, and save the rows as a Parquet file"
        raise Malformed(f"{path}: {error.message}", code="DP-READ-005", hint=hint) from error
    except Damaged as error:
        raise _cut(path, error.message) from error


def _held_against_checksums(path: Path) -> Soundness:
    """What of a file could be held against a checksum; a bit that is not as it was refuses it."""
    try:
        return sound(path)
    except Damaged as error:
        raise _cut(path, error.message) from error


def _opened(path: Path, footer: _footer.Footer) -> pq.ParquetFile:
    """The file as pyarrow opens it; text stays encoded, so that a bomb is seen before it bursts."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=footer.encoded)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _cut(path, f"its footer cannot be read: {in_a_line(error)}") from error


def _same_columns(schema: pa.Schema, first: pa.Schema, path: Path, other: Path) -> None:
    if schema.equals(first):
        return
    ours, theirs = (
        dict(zip(schema.names, schema.types, strict=True)),
        dict(zip(first.names, first.types, strict=True)),
    )
    odd = sorted(n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n))
    if not odd and schema.names == first.names:
        return
    name = odd[0] if odd else schema.names[0]
    raise SchemaMismatch(
        f"{path}: column {name!r} is {ours.get(name, 'absent')}, in {other} it is"
        f" {theirs.get(name, 'absent')}" + ("" if odd else " in another order"),
        code="DP-READ-009",
        hint="give the files one schema, or read them with two readers",
    )


def _inspect(file: pq.ParquetFile, path: Path, claimed: int, most: float) -> None:
    """Decode every page once: refuse damaged ones, and rows that need too much memory."""
    rows, seen = 0, 0
    try:
        for batch in file.iter_batches(batch_size=SCAN_ROWS):
            validate_values(batch)
            rows += batch.num_rows
            seen += sum(_decoded_bytes(column) for column in batch.columns)
            if seen > most:
                raise _bomb(path, seen, most)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _cut(path, f"damaged at or after row {rows + 1}: {in_a_line(error)}") from error
    if rows != claimed:
        raise _cut(path, f"its footer claims {claimed} rows, its pages hold {rows}")


def _decoded_bytes(column: pa.Array) -> int:
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = kernels.call_function("binary_length", [column.dictionary])
    taken = kernels.call_function("take", [lengths, column.indices], kernels.TakeOptions())
    return int(kernels.call_function("sum", [taken]).as_py() or 0)


def _cut(path: Path, why: str) -> Malformed:
    return Malformed(
        f"{path}: {why}", code="DP-READ-006", hint="copy the file again from where it was made"
    )


def _bomb(path: Path, needed: float, most: float) -> LimitExceeded:
    return LimitExceeded(
        f"{path}: {path.stat().st_size} bytes of file decode to more than {min(needed, 1e18):.3g}"
        f" bytes; {most:.3g} are allowed",
        code="DP-READ-018",
        hint="raise max_ratio if the file comes from somebody you trust",
    )
