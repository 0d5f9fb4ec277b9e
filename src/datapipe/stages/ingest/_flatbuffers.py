# SPDX-License-Identifier: Apache-2.0
"""How many bytes the batches of an Arrow IPC file decode to, told before any of them is decoded.

A compressed buffer begins with the length that it decodes to. Messages and the footer are
Flatbuffers; the few fields that lead to these lengths are read here, every offset held against the
end of the file.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datapipe.errors import DatapipeError

CONTINUES = 0xFFFF_FFFF
MAX_MESSAGES = 1_000_000
MESSAGE_HEADER_TYPE, MESSAGE_HEADER, MESSAGE_BODY = 1, 2, 3
DICTIONARY_BATCH, RECORD_BATCH = 2, 3
BATCH_BUFFERS, BATCH_COMPRESSION = 2, 3
FOOTER_DICTIONARIES, FOOTER_BATCHES = 2, 3


class Damaged(DatapipeError):
    """A message that points outside of its file; told by the reader, which knows the file."""


def decoded_sizes(path: Path, *, is_file: bool) -> Iterator[int]:
    """The bytes that each message's compressed buffers decode to, in order."""
    with _mapped(path) as raw:
        starts = _blocks(raw) if is_file else _messages(raw)
        for start in starts:
            yield _decoded(raw, start)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        try:
            yield raw
        except (struct.error, IndexError, ValueError) as error:
            raise Damaged("a message points outside of the file") from error


def _blocks(raw: mmap.mmap) -> Iterator[int]:
    """Where the messages that a file's footer lists begin."""
    if raw[-6:] != b"ARROW1":
        raise Damaged("its end is missing")
    (length,) = _at(raw, "<i", len(raw) - 10)
    if not 0 < length <= len(raw) - 18:
        raise Damaged(f"its footer claims {length} bytes in a file of {len(raw)}")
    base = len(raw) - 10 - length
    footer = _table(raw, base)
    for field in (FOOTER_DICTIONARIES, FOOTER_BATCHES):
        for (start,) in _vector(raw, footer, field, "<q16x"):
            yield start


def _messages(raw: mmap.mmap) -> Iterator[int]:
    """Where the messages of a stream begin."""
    at = 0
    for _ in range(MAX_MESSAGES):
        if at + 8 > len(raw):
            return
        meta, length = _metadata(raw, at)
        if length == 0:
            return
        yield at
        message = _table(raw, meta)
        (body,) = _scalar(raw, message, MESSAGE_BODY, "<q")
        if body < 0:
            raise Damaged("a message has a negative length")
        at = meta + length + body
    raise Damaged(f"it has more than {MAX_MESSAGES} messages")


def _metadata(raw: mmap.mmap, at: int) -> tuple[int, int]:
    """Where a message's metadata begins and how long it is."""
    (mark,) = _at(raw, "<I", at)
    if mark != CONTINUES:
        return at + 4, mark
    return at + 8, _at(raw, "<i", at + 4)[0]


def _decoded(raw: mmap.mmap, start: int) -> int:
    meta, length = _metadata(raw, start)
    message = _table(raw, meta)
    (kind,) = _scalar(raw, message, MESSAGE_HEADER_TYPE, "<B")
    header = _child(raw, message, MESSAGE_HEADER)
    if kind == DICTIONARY_BATCH:
        header = _child(raw, header, 1)
    elif kind != RECORD_BATCH:
        return 0
    if not _field(raw, header, BATCH_COMPRESSION):
        return 0
    total = 0
    for offset, size in _vector(raw, header, BATCH_BUFFERS, "<qq"):
        if size >= 8:
            (decoded,) = _at(raw, "<q", meta + length + offset)
            total += max(decoded, 0)
    return total


def _at(raw: mmap.mmap, form: str, at: int) -> tuple[int, ...]:
    if at < 0:
        raise Damaged("a message points before the file")
    return struct.unpack_from(form, raw, at)


def _table(raw: mmap.mmap, base: int) -> int:
    return base + _at(raw, "<I", base)[0]


def _field(raw: mmap.mmap, table: int, number: int) -> int:
    """Where a field of a table stands, 0 when it is absent."""
    names = table - _at(raw, "<i", table)[0]
    (size,) = _at(raw, "<H", names)
    slot = 4 + 2 * number
    offset = _at(raw, "<H", names + slot)[0] if slot < size else 0
    return table + offset if offset else 0


def _scalar(raw: mmap.mmap, table: int, number: int, form: str) -> tuple[int, ...]:
    at = _field(raw, table, number)
    return _at(raw, form, at) if at else (0,)


def _child(raw: mmap.mmap, table: int, number: int) -> int:
    at = _field(raw, table, number)
    if not at:
        raise Damaged("a message lacks its content")
    return _table(raw, at)


def _vector(raw: mmap.mmap, table: int, number: int, form: str) -> Iterator[tuple[int, ...]]:
    """The items of a vector of structs."""
    at = _field(raw, table, number)
    if not at:
        return
    start = _table(raw, at)
    (count,) = _at(raw, "<I", start)
    first, end = start + 4, start + 4 + count * struct.calcsize(form)
    if end > len(raw):
        raise Damaged("a list is longer than the file")
    yield from struct.iter_unpack(form, raw[first:end])
