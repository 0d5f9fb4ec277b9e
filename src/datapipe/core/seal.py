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
import os
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from datapipe.core.digest import PREFIX
from datapipe.core.thrift import (
    BINARY,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    Compact,
    Damaged,
    Items,
    Raw,
    Struct,
    written,
)

MAGIC = b"PAR1"
KEY = b"datapipe.seal"
HEADERS = b"datapipe.page_headers"
MARK = b"datapipe over "
"""Begins `created_by`: a file that lost its seal to a flipped bit still says that it had one."""
BLANK = b"0" * 64
# Fields of the footer's structs, by their numbers in the Parquet specification.
SCHEMA, ROWS, GROUPS, METADATA, MADE_BY = 2, 3, 4, 5, 6
COLUMNS, GROUP_BYTES, GROUP_ROWS, GROUP_START, GROUP_STORED, ORDINAL = 1, 2, 3, 5, 6, 7
FILE_OFFSET, CHUNK = 2, 3
NAME, DECODED, STORED, DATA_AT, INDEX_AT, DICTIONARY_AT, BLOOM_AT, BLOOM_SIZE = (
    3, 6, 7, 9, 10, 11, 14, 15,
)  # fmt: skip
PAGE_DECODED, PAGE_STORED, PAGE_CRC = 2, 3, 4
LARGEST_ORDINAL = 2**15 - 1


@dataclass(frozen=True)
class Page:
    """One page as it lies in a file.

    Args:
        start: Where its header begins.
        body: Where its bytes begin.
        end: Where the next page begins.
        header: Its header.

    Example:
        >>> Page(4, 30, 80, Struct()).end
        80
    """

    start: int
    body: int
    end: int
    header: Struct


@dataclass(frozen=True)
class Soundness:
    """What could be held against a checksum.

    Args:
        sealed: Whether page headers and footer were held against a seal.
        pages: How many pages were looked at.
        unchecked: How many of them carry no checksum.

    Example:
        >>> Soundness(True, 3, 0).complete
        True
    """

    sealed: bool
    pages: int
    unchecked: int

    @property
    def complete(self) -> bool:
        """Whether no byte of what was looked at is without a checksum."""
        return self.sealed and not self.unchecked


@dataclass(frozen=True)
class Mark:
    """How far a sealed file has come, enough to go on from there.

    Args:
        end: Its length in bytes.
        footer: The engine's footer, row groups left out.
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
        self._groups: list[Struct] = []
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
            with _mapped(self.path) as raw, memoryview(raw) as view:
                for mark in marks:
                    groups = [Compact(g).struct() for g in mark.groups]
                    try:
                        self._hold(raw, groups, mark.end)
                    except (Damaged, IndexError, KeyError, TypeError, ValueError):
                        break
                    with view[self._at : mark.end] as part:
                        self._bytes.update(part)
                    self._footer = self._footer or Compact(mark.footer).struct()
                    self._groups += groups
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
                if page.start != at or _signed(zlib.crc32(body)) != page.header[PAGE_CRC]:
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
        self._footer = self._footer or footer
        with memoryview(raw) as view:
            for group in groups:
                self._group(view, raw, group)
        self._file.flush()
        return Mark(self._at, written(footer), tuple(written(g) for g in groups))

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
        footer.put(ROWS, I64, sum(g[GROUP_ROWS] for g in self._groups))
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
                body = view[page.body : page.end]
                page.header.put(PAGE_CRC, I32, _signed(zlib.crc32(body)))
                header = written(page.header)
                places[page.start] = self._at
                grown += len(header) - (page.body - page.start)
                self._headers.update(header)
                self._put(header)
                self._put(body)
                body.release()
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
        self._groups.append(group)

    def _put(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._bytes.update(data)
        self._at += len(data)


def sound(path: Path, columns: Collection[str] | None = None) -> Soundness:
    """Hold a Parquet file against its seal and its pages against their checksums, undecoded.

    Args:
        path: The file.
        columns: Top-level columns whose pages are looked at; None for all.

    Returns:
        What was looked at.

    Raises:
        Damaged: A bit is not as it was written; the message names row group and column.

    Example:
        >>> import tempfile
        >>> import polars as pl
        >>> path = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> pl.DataFrame({"a": [1, 2]}).write_parquet(path)
        >>> sound(path).sealed
        False
    """
    with _mapped(path) as raw:
        try:
            return _sound(raw, columns)
        except (
            IndexError,
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
            OverflowError,
        ) as error:
            raise Damaged(f"its footer cannot be read ({type(error).__name__})") from error


def sound_footer(path: Path) -> bool:
    """Hold the footer of a Parquet file against its seal; no page is read.

    Args:
        path: The file.

    Returns:
        Whether it has a seal, and so a whole footer.

    Raises:
        Damaged: A bit of the footer is not as it was written.

    Example:
        >>> import tempfile
        >>> import polars as pl
        >>> path = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> pl.DataFrame({"a": [1, 2]}).write_parquet(path)
        >>> sound_footer(path)
        False
    """
    with _mapped(path) as raw:
        try:
            footer, start = footer_of(raw)
            return _sealed(raw, footer, start) is not None
        except (
            IndexError,
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
            OverflowError,
        ) as error:
            raise Damaged(f"its footer cannot be read ({type(error).__name__})") from error


def _sealed(raw: mmap.mmap, footer: Struct, start: int) -> bytes | None:
    """The digest of the page headers, out of a footer that its seal covers; None without one."""
    told = {p[1]: p[2] for p in footer.get(METADATA, ())}
    if KEY not in told and HEADERS not in told and not footer.get(MADE_BY, b"").startswith(MARK):
        return None
    found = raw[start : len(raw) - 8]
    spot = found.rfind(KEY) + len(KEY) + 2
    blank = found[:spot] + BLANK + found[spot + len(BLANK) :]
    if told.get(KEY) != hashlib.sha256(blank).hexdigest().encode():
        raise Damaged("its footer does not match its seal")
    return bytes(told[HEADERS])


def _sound(raw: mmap.mmap, columns: Collection[str] | None) -> Soundness:
    footer, start = footer_of(raw)
    if raw[:4] != MAGIC:
        raise Damaged("it does not begin as a Parquet file")
    seal = _sealed(raw, footer, start)
    headers, at = hashlib.sha256(), 4
    seen = unchecked = 0
    with memoryview(raw) as view:
        for number, group in enumerate(footer[GROUPS]):
            for column in group[COLUMNS] if group[GROUP_ROWS] else ():
                meta = column[CHUNK]
                wanted = columns is None or meta[NAME][0].decode() in columns
                for page in pages(raw, meta):
                    if seal is not None:
                        headers.update(raw[page.start : page.body])
                        if page.start != at:
                            raise Damaged(f"row group {number} is not where its seal puts it")
                        at = page.end
                    if not wanted:
                        continue
                    seen += 1
                    crc = page.header.get(PAGE_CRC)
                    unchecked += crc is None
                    with view[page.body : page.end] as body:
                        if crc is not None and _signed(zlib.crc32(body)) != crc:
                            name = b".".join(meta[NAME]).decode(errors="replace")
                            raise Damaged(
                                f"damaged in row group {number}, column {name!r}: a page does not"
                                " match its checksum"
                            )
    if seal is not None and (at != start or headers.hexdigest().encode() != seal):
        raise Damaged("a page header does not match the seal")
    return Soundness(seal is not None, seen, unchecked)


def footer_of(raw: Raw) -> tuple[Struct, int]:
    """The footer of a Parquet file.

    Args:
        raw: The file's bytes.

    Returns:
        The footer, and where it begins.

    Raises:
        Damaged: The end of the file is not that of a Parquet file.

    Example:
        >>> footer_of(b"")
        Traceback (most recent call last):
        ...
        datapipe.core.thrift.Damaged: its end is missing ...
    """
    if len(raw) < 12 or bytes(raw[-4:]) != MAGIC:
        raise Damaged("its end is missing")
    (length,) = struct.unpack("<I", raw[-8:-4])
    start = len(raw) - 8 - length
    if start < 4:
        raise Damaged(f"its footer claims {length} bytes in a file of {len(raw)}")
    reader = Compact(bytes(raw[start : len(raw) - 8]))
    footer = reader.struct()
    if reader.at != length:
        raise Damaged("its footer has bytes that belong nowhere")
    return footer, start


def pages(raw: Raw, meta: Struct) -> Iterator[Page]:
    """The pages of one column of one row group, in order.

    Args:
        raw: The file's bytes.
        meta: The column's metadata in the footer.

    Yields:
        The pages, headers parsed.

    Raises:
        Damaged: A page reaches beyond its column.

    Example:
        >>> list(pages(b"", Struct.of({7: (I64, 0), 9: (I64, 4)})))
        []
    """
    at = min(meta.get(DICTIONARY_AT, 0) or meta[DATA_AT], meta[DATA_AT])
    end = at + meta[STORED]
    if not 0 <= at <= end <= max(len(raw), at):
        raise Damaged("a column lies outside of the file")
    while at < end:
        reader = Compact(raw, at)
        header = reader.struct()
        after = reader.at + header[PAGE_STORED]
        if not reader.at <= after <= end:
            raise Damaged("a page reaches beyond its column")
        yield Page(at, reader.at, after, header)
        at = after


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise Damaged("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            yield raw


def _signed(crc: int) -> int:
    """A CRC-32 as Parquet stores it: a signed 32-bit integer."""
    return crc - 2**32 if crc >= 2**31 else crc


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
        >>> folder = Path(tempfile.mkdtemp())
        >>> pl.DataFrame({"a": [1]}).write_parquet(folder / "a")
        >>> sound(sealed_copy(folder / "a", folder / "b")[0]).sealed
        True
    """
    with _mapped(made) as raw, SealedFile(path) as file:
        file.append(raw)
    return path, file.digest
