# SPDX-License-Identifier: Apache-2.0
"""The chunk root: one digest for rows, whatever file, codec, row groups or library holds them.

Rows are cut into chunks of 65,536 and each chunk's columns are written out plainly, so that any
language can do the same:

    column = name | 0x00 | type | 0x00 | rows u64 | validity | values
    leaf   = sha256(0x00 | the columns of a chunk)        root as in RFC 6962, over
             sha256(0x00 | names and types) and then the chunks

Numbers are little-endian. Validity is a bit a row, lowest first, and left out when nothing is null;
what lies under a null is zero. Texts and bytes are 64-bit offsets and their data; lists are 64-bit
offsets and their items as a column `item`; structures are the columns of their fields.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datapipe.core.digest import CHUNK_ROWS
from datapipe.core.merkle import leaf_hash, root
from datapipe.errors import DeclarationError


def chunk_root(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """The root over the chunks of some rows: the same rows give the same root.

    Dictionaries count as their values, 32-bit and view texts as texts; names, other types and the
    order of rows count as they are.

    Args:
        schema: The schema of every batch; its metadata does not count.
        batches: The rows, in any grouping.

    Returns:
        64 hexadecimal digits.

    Raises:
        DeclarationError: A column has a type without a plain form, such as a union.

    Example:
        >>> t = pa.table({"a": ["x", None], "b": [[1], []]})
        >>> d = t.set_column(0, "a", t["a"].dictionary_encode())
        >>> chunk_root(t.schema, t.to_batches()) == chunk_root(d.schema, d.to_batches())
        True
    """
    plain = _plain_schema(schema)
    leaves = [leaf_hash(_head(plain))]
    leaves += [leaf_hash(_written(chunk)) for chunk in _chunks(schema, plain, batches)]
    return root(leaves).hex()


def schema_digest(schema: pa.Schema) -> str:
    """The digest of names and types, in the plain form of the chunk root.

    Args:
        schema: Any schema; its metadata does not count.

    Returns:
        64 hexadecimal digits.

    Raises:
        DeclarationError: A column has a type without a plain form.

    Example:
        >>> text, view = pa.schema({"a": pa.string()}), pa.schema({"a": pa.string_view()})
        >>> schema_digest(text) == schema_digest(view)
        True
    """
    return hashlib.sha256(_head(_plain_schema(schema))).hexdigest()


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, _plain_type(f.type, f.name)) for f in schema])


def _head(plain: pa.Schema) -> bytes:
    return "".join(f"{f.name}\0{f.type}\0" for f in plain).encode()


def _chunks(
    schema: pa.Schema, plain: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.Table]:
    """Rows regrouped to chunks of one size, the last one smaller."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= CHUNK_ROWS:
            table = pa.Table.from_batches(held, schema=schema)
            yield _cast(table.slice(0, CHUNK_ROWS), plain)
            held = table.slice(CHUNK_ROWS).to_batches()
            count -= CHUNK_ROWS
    if count:
        yield _cast(pa.Table.from_batches(held, schema=schema), plain)


def _cast(table: pa.Table, plain: pa.Schema) -> pa.Table:
    columns = [
        column if column.type == field.type else pc.cast(column, field.type)
        for column, field in zip(table.columns, plain, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=plain)


def _written(chunk: pa.Table) -> bytes:
    parts: list[bytes] = []
    for name, column in zip(chunk.column_names, chunk.columns, strict=True):
        whole = column.combine_chunks()
        array = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
        _column(name, array, parts)
    return b"".join(parts)


def _column(name: str, array: pa.Array, parts: list[bytes]) -> None:
    """Append one column's plain form; nested ones append those of their fields."""
    kind, rows = array.type, len(array)
    parts.append(f"{name}\0{kind}\0".encode() + struct.pack("<Q", rows))
    if array.null_count:
        valid = np.asarray(pc.is_valid(array))
        parts.append(np.packbits(valid, bitorder="little").tobytes())
    if pa.types.is_null(kind):
        return
    if pa.types.is_struct(kind):
        for place, field in enumerate(kind):
            _column(field.name, pc.struct_field(array, [place]), parts)
    elif pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        parts.append(_offsets(np.asarray(lengths)))
        _column("item", pc.list_flatten(array), parts)
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        lengths = pc.fill_null(pc.binary_length(array), 0)
        parts.append(_offsets(np.asarray(lengths)))
        dense = array.drop_null() if array.null_count else array
        _, offsets, data = dense.buffers()
        if data is not None and len(dense):
            ends = np.frombuffer(offsets, np.int64)[dense.offset : dense.offset + len(dense) + 1]
            parts.append(data[int(ends[0]) : int(ends[-1])])
    elif pa.types.is_boolean(kind):
        filled = np.asarray(pc.fill_null(array, False))
        parts.append(np.packbits(filled, bitorder="little").tobytes())
    else:
        parts.append(_fixed(array, kind.bit_width // 8))


def _offsets(lengths: np.ndarray) -> bytes:
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends.tobytes()


def _fixed(array: pa.Array, width: int) -> bytes:
    """Values of a fixed width, zero where null."""
    data = array.buffers()[1]
    start = array.offset * width
    values = np.frombuffer(data, np.uint8)[start : start + len(array) * width]
    if array.null_count:
        values = values.reshape(-1, width) * np.asarray(pc.is_valid(array))[:, None]
    return values.tobytes()


_ONE_FORM = {
    pa.string(): pa.large_string(),
    pa.string_view(): pa.large_string(),
    pa.binary(): pa.large_binary(),
    pa.binary_view(): pa.large_binary(),
}


def _plain_type(kind: pa.DataType, name: str) -> pa.DataType:
    """The one type that stands for all that hold the same values."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type, name)
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type, name)
    kind = _ONE_FORM.get(kind, kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(pa.field("item", _plain_type(kind.value_type, name)))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _plain_type(f.type, name)) for f in kind])
    fixed = pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
    known = (pa.types.is_null, pa.types.is_large_string, pa.types.is_large_binary)
    if fixed or pa.types.is_fixed_size_binary(kind) or any(test(kind) for test in known):
        return kind
    raise DeclarationError(
        f"the column {name!r} of type {kind} has no chunk digest",
        code="DP-DECL-061",
        hint="write it as numbers, texts, lists or structures",
    )
