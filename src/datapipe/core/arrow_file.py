# SPDX-License-Identifier: Apache-2.0
"""Arrow IPC files that notice every flipped bit.

The format has no checksum at all. So a file of ours carries a CRC-32 of all of its bytes as one
more entry of its footer's metadata, and says in its schema that it does: a file whose seal was
hit by the flipped bit still says that it had one. Any Arrow reader reads the result.
"""

from __future__ import annotations

import mmap
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from datapipe.core.thrift import Damaged

KEY = b"datapipe.seal"
MARK = b"datapipe.sealed"
BLANK = b"crc32 ????????"
SEAL = re.compile(rb"crc32 [0-9a-f]{8}")
FOOTER_BYTES = 1 << 20
"""Most bytes at the end of a file in which its footer is looked for."""


def write_sealed(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> Path:
    """Write record batches as one sealed file, compressed with zstd, and sync it.

    Args:
        schema: Their schema.
        batches: The rows.
        path: Where the file is made; what is there is overwritten.

    Returns:
        The path.

    Raises:
        OSError: The disk is full or failed.

    Example:
        >>> import tempfile
        >>> table = pa.table({"a": [1, 2]})
        >>> path = Path(tempfile.mkdtemp()) / "a.arrow"
        >>> sealed(write_sealed(table.schema, table.to_batches(), path))
        True
    """
    told = schema.with_metadata({**(schema.metadata or {}), MARK: b"1"})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(path), told, options=options, metadata={KEY: BLANK}) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(told.metadata))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as raw:
        spot = raw.rfind(BLANK)
        raw[spot : spot + len(BLANK)] = b"crc32 %08x" % zlib.crc32(raw)
        raw.flush()
        os.fsync(file.fileno())
    return path


def sealed(path: Path) -> bool:
    """Hold an Arrow IPC file against its seal, before any engine looks into it.

    Args:
        path: The file.

    Returns:
        Whether it has a seal, and so is whole; False for the file of another writer.

    Raises:
        Damaged: A bit is not as it was written.

    Example:
        >>> import tempfile
        >>> table = pa.table({"a": [1]})
        >>> path = Path(tempfile.mkdtemp()) / "a.arrow"
        >>> with pa.ipc.new_file(path, table.schema) as writer:
        ...     writer.write_table(table)
        >>> sealed(path)
        False
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        begin = max(0, len(raw) - FOOTER_BYTES)
        tail = raw[begin:]
        marked = KEY in tail or MARK in tail or MARK in raw[:FOOTER_BYTES]
        if not marked:
            return False
        found = list(SEAL.finditer(tail, max(tail.rfind(KEY) - 4096, 0)))
        for match in reversed(found):
            start, end = begin + match.start(), begin + match.end()
            with memoryview(raw) as view:
                crc = zlib.crc32(view[end:], zlib.crc32(BLANK, zlib.crc32(view[:start])))
            if match.group() == b"crc32 %08x" % crc:
                return True
    raise Damaged("its bytes do not match its seal")
