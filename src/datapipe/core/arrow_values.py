# SPDX-License-Identifier: Apache-2.0
"""Whether Arrow data is what its types say: the check that makes foreign memory safe to touch.

pyarrow looks at each text on its own, which costs a seventh of reading it. The same answer comes
from looking at all of a column's bytes at once: ASCII may be cut anywhere, other UTF-8 wherever no
character goes on.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

BINARY = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
"""Text by offsets, and the same buffers without a promise about the bytes between them."""
LONGER = 0x80
"""First byte beyond ASCII; also the top two bits of a byte that goes on with a character."""


def validate_values(batch: pa.RecordBatch) -> None:
    """Check every buffer: lengths, each offset, each index, and that all text is UTF-8.

    Args:
        batch: Rows from another program.

    Raises:
        pa.ArrowInvalid: A buffer is not what the type of its column asks for.

    Example:
        >>> validate_values(pa.record_batch({"a": ["x", "å", None]}))
    """
    batch.validate()
    for column in batch.columns:
        if not _text_holds(column):
            column.validate(full=True)


def _text_holds(column: pa.Array) -> bool:
    """Whether a column is text that holds as a whole; what does not needs the closer look."""
    if column.type not in BINARY or not len(column):
        return False
    valid, ends, data = column.buffers()
    if data is None:
        return False
    plain = BINARY[column.type]
    buffers = [valid, ends, data]
    offsets = pa.Array.from_buffers(plain, len(column), buffers, offset=column.offset)
    offsets.validate(full=True)
    width = np.dtype(np.int32 if plain == pa.binary() else np.int64)
    at = np.frombuffer(ends, width, len(column) + 1, column.offset * width.itemsize)
    first, last = int(at[0]), int(at[-1])
    raw = np.frombuffer(data, np.uint8)[first:last]
    if not raw.size or raw.max() < LONGER:
        return True
    whole = pa.py_buffer(np.array([first, last], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, whole, data]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    starts = raw[at[at < last] - first]
    return not bool(((starts & 0xC0) == LONGER).any())
