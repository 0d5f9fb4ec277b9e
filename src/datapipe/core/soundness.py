# SPDX-License-Identifier: Apache-2.0
"""Whether a Parquet file is as it was written: its seal and its pages' checksums, undecoded."""

from __future__ import annotations

import hashlib
import mmap
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datapipe.core.pages import (
    BLANK,
    CHUNK,
    COLUMNS,
    GROUP_ROWS,
    GROUPS,
    HEADERS,
    KEY,
    MADE_BY,
    MAGIC,
    MARK,
    METADATA,
    NAME,
    footer_of,
    mapped,
    pages,
    signed,
)
from datapipe.core.thrift import Damaged, Struct


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
    with mapped(path) as raw, _readable():
        return _sound(raw, columns)


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
    with mapped(path) as raw, _readable():
        footer, start = footer_of(raw)
        return _sealed(raw, footer, start) is not None


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever a footer of nonsense makes of its reader, as damage."""
    nonsense = (IndexError, KeyError, TypeError, AttributeError, ValueError, OverflowError)
    try:
        yield
    except nonsense as error:
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
                    crc = page.crc
                    unchecked += crc is None
                    with view[page.body : page.end] as body:
                        if crc is not None and signed(zlib.crc32(body)) != crc:
                            name = b".".join(meta[NAME]).decode(errors="replace")
                            raise Damaged(
                                f"damaged in row group {number}, column {name!r}: a page does not"
                                " match its checksum"
                            )
    if seal is not None and (at != start or headers.hexdigest().encode() != seal):
        raise Damaged("a page header does not match the seal")
    return Soundness(seal is not None, seen, unchecked)
