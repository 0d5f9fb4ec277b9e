# SPDX-License-Identifier: Apache-2.0
"""Parquet files that notice every flipped bit: a checksum on each page, a seal on all the rest.

Parquet has room for a CRC-32 of each page, but few writers fill it, and nothing in the format
covers the page headers and the footer. So the files that polars made are written once more on their
way into place: the same pages, each with its checksum, and in the footer's own metadata one digest
over all page headers and one over the footer. Any Parquet reader reads the result.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from datapipe.core.digest import PREFIX
from datapipe.core.pages import (
    BLANK,
    BLOOM_AT,
    BLOOM_SIZE,
    CHUNK,
    COLUMNS,
    DATA_AT,
    DECODED,
    DICTIONARY_AT,
    FILE_OFFSET,
    GROUP_BYTES,
    GROUP_ROWS,
    GROUP_START,
    GROUP_STORED,
    GROUPS,
    HEADERS,
    INDEX_AT,
    KEY,
    LARGEST_ORDINAL,
    MADE_BY,
    MAGIC,
    MARK,
    METADATA,
    ORDINAL,
    PAGE_CRC,
    ROWS,
    STORED,
    footer_of,
    mapped,
    pages,
    signed,
)
from datapipe.core.thrift import (
    BINARY,
    I16,
    I64,
    LIST,
    STRUCT,
    Compact,
    Damaged,
    Items,
    Raw,
    Struct,
    with_number,
    written,
)


@dataclass(frozen=True)
class Mark:
    """How far a sealed file has come, enough to go on from there.

    Args:
        end: Its length in bytes.
        footer: The engine's footer, row groups left out; empty behind the first mark of a file.
        groups: The row groups that were added last.

    Example:
        >>> Mark.from_json(Mark(4, b"a", (b"b",)).to_json())
        Mark(end=4, footer=b'a', groups=(b'b',))
    """

    end: int
    footer: bytes
    groups: tuple[bytes, ...]

    def to_json(self) -> dict[str, Any]:
        """Its fields as JSON values.

        Returns:
            A dictionary.

        Example:
            >>> Mark(4, b"a", ()).to_json()["end"]
            4
        """
        groups = [b64encode(g).decode() for g in self.groups]
        return {"end": self.end, "footer": b64encode(self.footer).decode(), "groups": groups}

    @classmethod
    def from_json(cls, form: dict[str, Any]) -> Self:
        """Read the form that `to_json` gave.

        Args:
            form: The dictionary.

        Returns:
            The mark.

        Example:
            >>> Mark.from_json({"end": 4, "footer": "", "groups": []}).end
            4
        """
        groups = tuple(b64decode(g) for g in form["groups"])
        return cls(int(form["end"]), b64decode(form["footer"]), groups)


class SealedFile:
    """A Parquet file that is made of the row groups of others, with checksums, hashed on the way.

    Args:
        path: Where it is made; what is there is overwritten.
        afresh: False to keep what is there for `go_on`.

    Example:
        >>> import io, tempfile
        >>> import polars as pl
        >>> from datapipe.core.soundness import sound
        >>> made = io.BytesIO()
        >>> pl.DataFrame({"a": [1, 2]}).write_parquet(made)
        >>> path = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> with SealedFile(path) as file:
        ...     for _ in range(2):
        ...         _ = file.append(made.getvalue())
        >>> pl.read_parquet(path)["a"].to_list(), sound(path).complete
        ([1, 2, 1, 2], True)
    """

    def __init__(self, path: Path, *, afresh: bool = True) -> None:
        self.path = path
        self.digest = ""
        self._file = path.open("wb" if afresh or not path.exists() else "r+b")
        self._at = 0
        self._bytes = hashlib.sha256()
        self._headers = hashlib.sha256()
        self._footer: Struct | None = None
        self._groups: list[bytes] = []  # as they are written in the footer
        self._rows = 0
        self._put(MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._file.close()

    def leave(self) -> None:
        """Close it unfinished.

        Example:
            >>> import tempfile
            >>> SealedFile(Path(tempfile.mkdtemp()) / "a").leave()
        """
        self._file.close()

    def go_on(self, marks: Sequence[Mark]) -> int:
        """Take over what an interrupted writer had added, as far as it is whole on disk.

        Args:
            marks: What `append` gave it, in order.

        Returns:
            How many of the marks still hold; the file ends behind the last of them.

        Raises:
            OSError: The disk failed.

        Example:
            >>> import io, tempfile
            >>> import polars as pl
            >>> made = io.BytesIO()
            >>> pl.DataFrame({"a": [1]}).write_parquet(made)
            >>> path = Path(tempfile.mkdtemp()) / "a.parquet"
            >>> first = SealedFile(path)
            >>> mark = first.append(made.getvalue())
            >>> first.leave()
            >>> with SealedFile(path, afresh=False) as second:
            ...     held = second.go_on([mark])
            >>> held, pl.read_parquet(path)["a"].to_list()
            (1, [1])
        """
        held = 0
        self._file.flush()
        if marks:
            with mapped(self.path) as raw, memoryview(raw) as view:
                for mark in marks:
                    groups = [Compact(g).struct() for g in mark.groups]
                    try:
                        self._hold(raw, groups, mark.end)
                    except (Damaged, IndexError, KeyError, TypeError, ValueError):
                        break
                    with view[self._at : mark.end] as part:
                        self._bytes.update(part)
                    self._footer = self._footer or Compact(mark.footer).struct()
                    self._groups += mark.groups
                    self._rows += sum(g[GROUP_ROWS] for g in groups)
                    self._at = mark.end
                    held += 1
        self._file.truncate(self._at)
        self._file.seek(self._at)
        return held

    def _hold(self, raw: mmap.mmap, groups: Sequence[Struct], end: int) -> None:
        """Hold row groups against their checksums, as they were written behind the last one."""
        headers, at = self._headers.copy(), self._at
        for meta in (c[CHUNK] for g in groups for c in g[COLUMNS]):
            for page in pages(raw, meta):
                body = raw[page.body : page.end]
                if page.start != at or signed(zlib.crc32(body)) != page.crc:
                    raise Damaged("it was cut off here")
                headers.update(raw[page.start : page.body])
                at = page.end
        if at != end:
            raise Damaged("it was cut off here")
        self._headers = headers

    def append(self, raw: Raw) -> Mark:
        """Add the row groups of another file of the same columns.

        Args:
            raw: The other file's bytes.

        Returns:
            How far the file has come; its bytes have been handed to the system.

        Raises:
            Damaged: They are not those of a whole Parquet file.
            OSError: The disk is full or failed.

        Example:
            >>> import io, tempfile
            >>> import polars as pl
            >>> made = io.BytesIO()
            >>> pl.DataFrame({"a": [1]}).write_parquet(made)
            >>> file = SealedFile(Path(tempfile.mkdtemp()) / "a")
            >>> len(file.append(made.getvalue()).groups)
            1
            >>> file.leave()
        """
        footer, _ = footer_of(raw)
        groups = [g for g in footer.pop(GROUPS) if g[GROUP_ROWS]]
        with memoryview(raw) as view:
            for group in groups:
                self._group(view, raw, group)
        self._file.flush()
        first = b"" if self._footer else written(footer)
        self._footer = self._footer or footer
        return Mark(self._at, first, tuple(self._groups[len(self._groups) - len(groups) :]))

    def finish(self) -> str:
        """Write the footer and its seal; the file is whole after this, and not yet synced.

        Returns:
            The SHA-256 of the file's bytes, in the house form.

        Raises:
            OSError: The disk is full or failed.

        Example:
            >>> import io, tempfile
            >>> import polars as pl
            >>> made = io.BytesIO()
            >>> pl.DataFrame({"a": [1]}).write_parquet(made)
            >>> file = SealedFile(Path(tempfile.mkdtemp()) / "a")
            >>> _ = file.append(made.getvalue())
            >>> file.finish()[:7]
            'sha256:'
            >>> file.leave()
        """
        footer = self._footer or Struct()
        footer.put(ROWS, I64, self._rows)
        footer.put(GROUPS, LIST, Items(STRUCT, list(self._groups)))
        told = [p for p in footer.get(METADATA, []) if p[1] not in (KEY, HEADERS)]
        for key, value in ((HEADERS, self._headers.hexdigest().encode()), (KEY, BLANK)):
            told.append(Struct.of({1: (BINARY, key), 2: (BINARY, value)}))
        footer.put(METADATA, LIST, Items(STRUCT, told))
        maker = footer.get(MADE_BY, b"").removeprefix(MARK)
        footer.put(MADE_BY, BINARY, MARK + maker)
        blank = written(footer)
        seal = hashlib.sha256(blank).hexdigest().encode()
        raw = blank.replace(KEY + b"\x18\x40" + BLANK, KEY + b"\x18\x40" + seal)
        self._put(raw + struct.pack("<I", len(raw)) + MAGIC)
        self._file.flush()
        self.digest = PREFIX + self._bytes.hexdigest()
        return self.digest

    def _group(self, view: memoryview, raw: Raw, group: Struct) -> None:
        """Copy a row group page by page, and note where everything is now."""
        start, stored, decoded = self._at, 0, 0
        for column in group[COLUMNS]:
            meta = column[CHUNK]
            grown, places = 0, dict[int, int]()
            first = self._at
            for page in pages(raw, meta):
                with view[page.body : page.end] as body:  # let go too when the disk fails
                    header = with_number(
                        bytes(view[page.start : page.body]), PAGE_CRC, signed(zlib.crc32(body))
                    )
                    places[page.start] = self._at
                    grown += len(header) - (page.body - page.start)
                    self._headers.update(header)
                    self._put(header)
                    self._put(body)
            meta.put(STORED, I64, self._at - first)
            meta.put(DECODED, I64, meta[DECODED] + grown)
            meta.put(DATA_AT, I64, places.get(meta[DATA_AT], first))
            if meta.get(DICTIONARY_AT, 0):
                meta.put(DICTIONARY_AT, I64, places.get(meta[DICTIONARY_AT], first))
            for gone in (INDEX_AT, BLOOM_AT, BLOOM_SIZE):
                meta.pop(gone, None)
            # The page indexes and the copy of the metadata behind each chunk are not carried along.
            for gone in [n for n in column if n not in (FILE_OFFSET, CHUNK)]:
                column.pop(gone)
            column.put(FILE_OFFSET, I64, 0)
            stored, decoded = stored + meta[STORED], decoded + meta[DECODED]
        group.put(GROUP_BYTES, I64, decoded)
        group.put(GROUP_START, I64, start)
        group.put(GROUP_STORED, I64, stored)
        if len(self._groups) <= LARGEST_ORDINAL:
            group.put(ORDINAL, I16, len(self._groups))
        else:
            group.pop(ORDINAL, None)
        self._groups.append(written(group))
        self._rows += group[GROUP_ROWS]

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._bytes.update(data)
        self._at += len(data)


def sealed_copy(made: Path, path: Path) -> tuple[Path, str]:
    """A finished Parquet file, sealed.

    Args:
        made: The file as an engine wrote it.
        path: Where the sealed one is made.

    Returns:
        Its path and its digest.

    Raises:
        Damaged: The first one is no whole Parquet file.
        OSError: The disk is full or failed.

    Example:
        >>> import tempfile
        >>> import polars as pl
        >>> from datapipe.core.soundness import sound
        >>> folder = Path(tempfile.mkdtemp())
        >>> pl.DataFrame({"a": [1]}).write_parquet(folder / "a")
        >>> sound(sealed_copy(folder / "a", folder / "b")[0]).sealed
        True
    """
    with mapped(made) as raw, SealedFile(path) as file:
        file.append(raw)
    return path, file.digest
