# SPDX-License-Identifier: Apache-2.0
"""Where the pages of a Parquet file lie: its footer and page headers, read without an engine."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datapipe.core.thrift import Compact, Damaged, Raw, Struct, numbers

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
PAGE_STORED, PAGE_CRC = 3, 4
LARGEST_ORDINAL = 2**15 - 1


@dataclass(frozen=True)
class Page:
    """One page as it lies in a file.

    Args:
        start: Where its header begins.
        body: Where its bytes begin.
        end: Where the next page begins.
        crc: The checksum that its header tells, signed; None without one.

    Example:
        >>> Page(4, 30, 80, None).end
        80
    """

    start: int
    body: int
    end: int
    crc: int | None


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
        The pages.

    Raises:
        Damaged: A page reaches beyond its column.

    Example:
        >>> from datapipe.core.thrift import I64
        >>> list(pages(b"", Struct.of({7: (I64, 0), 9: (I64, 4)})))
        []
    """
    at = min(meta.get(DICTIONARY_AT, 0) or meta[DATA_AT], meta[DATA_AT])
    end = at + meta[STORED]
    if not 0 <= at <= end <= max(len(raw), at):
        raise Damaged("a column lies outside of the file")
    while at < end:
        told, body = numbers(raw, at)
        after = body + told[PAGE_STORED]
        if not body <= after <= end:
            raise Damaged("a page reaches beyond its column")
        yield Page(at, body, after, told.get(PAGE_CRC))
        at = after


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes, read as they are asked for.

    Args:
        path: The file.

    Yields:
        The bytes.

    Raises:
        Damaged: It is empty.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a"
        >>> _ = path.write_bytes(b"abc")
        >>> with mapped(path) as raw:
        ...     raw[:2]
        b'ab'
    """
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise Damaged("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            yield raw


def signed(crc: int) -> int:
    """A CRC-32 as Parquet stores it: a signed 32-bit integer.

    Args:
        crc: The checksum, unsigned.

    Returns:
        The same 32 bits, signed.

    Example:
        >>> signed(2**32 - 1)
        -1
    """
    return crc - 2**32 if crc >= 2**31 else crc
