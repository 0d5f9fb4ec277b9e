# SPDX-License-Identifier: Apache-2.0
"""Content digests: what makes two files, tables, parameters or pieces of code the same."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow._compute as kernels  # `pyarrow.compute` writes 286 docstrings: 0.1 s

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK_ROWS = 65_536
PREFIX = "sha256:"
_TELLING = (str, bytes, int, float, PurePath, Decimal, Enum, date, time, timedelta, np.generic)
"""Types whose canonical form holds all that is in a value."""


def digest_bytes(data: bytes) -> str:
    """The SHA-256 of some bytes, in the house form.

    Args:
        data: Any bytes.

    Returns:
        `sha256:` and 64 hexadecimal digits.

    Example:
        >>> digest_bytes(b"")[:14]
        'sha256:e3b0c44'
    """
    return PREFIX + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, read in constant memory.

    Args:
        path: A regular file.

    Returns:
        The digest in the house form.

    Example:
        >>> digest_file(Path(__file__)) == digest_bytes(Path(__file__).read_bytes())
        True
    """
    with path.open("rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes.

    Args:
        value: What `json` can write, plus paths, tuples and objects with `to_json`.

    Returns:
        UTF-8 bytes.

    Example:
        >>> canonical({"b": 1, "a": (2, 3)})
        b'{"a":[2,3],"b":1}'
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain
    )
    return text.encode()


def is_exact(value: Any) -> bool:
    """Whether the canonical form of a value tells it from every other one.

    A lambda, a function in a function and an object of an unknown class only show a name: two that
    do different things may look alike.

    Args:
        value: A parameter of a stage.

    Returns:
        True where equal bytes of `canonical` mean equal values.

    Example:
        >>> is_exact({"columns": ("a", 1.5)}), is_exact(digest_json), is_exact(lambda x: x)
        (True, True, False)
    """
    if isinstance(value, Mapping):
        return all(is_exact(each) for pair in value.items() for each in pair)
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(is_exact(each) for each in value)
    if value is None or isinstance(value, _TELLING) or hasattr(value, "to_json"):
        return True
    if is_dataclass(value) and not isinstance(value, type):  # its form is what it prints
        return all(f.repr and is_exact(getattr(value, f.name)) for f in fields(value))
    named = getattr(value, "__qualname__", "")
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return bool(named) and getattr(module, named, None) is value


def digest_json(value: Any) -> str:
    """The digest of a value's canonical JSON.

    Args:
        value: What `canonical` takes.

    Returns:
        The digest in the house form.

    Example:
        >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
        True
    """
    return digest_bytes(canonical(value))


def digest_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """The logical digest of Arrow rows: the same rows give the same digest, however chunked.

    Rows are regrouped to chunks of 65,536 and each chunk is hashed in Arrow IPC form, so codec,
    row-group size and the caller's batch size do not count; names, types and order do.

    Args:
        schema: The schema of every batch; its metadata is ignored.
        batches: The rows.

    Returns:
        The digest in the house form.

    Example:
        >>> t = pa.table({"a": [1, 2, 3]})
        >>> small = digest_batches(t.schema, t.to_batches(max_chunksize=1))
        >>> small == digest_batches(t.schema, t.to_batches())
        True
    """
    bare = schema.remove_metadata()
    total = hashlib.sha256(bare.serialize().to_pybytes())
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= CHUNK_ROWS:
            table = pa.Table.from_batches(held, schema=schema)
            total.update(_chunk(table.slice(0, CHUNK_ROWS)))
            rest = table.slice(CHUNK_ROWS)
            held, count = rest.to_batches(), rest.num_rows
    if count:
        total.update(_chunk(pa.Table.from_batches(held, schema=schema)))
    return PREFIX + total.hexdigest()


class _Hashing(io.RawIOBase):
    """A file that keeps nothing of what is written but its SHA-256."""

    def __init__(self) -> None:
        super().__init__()
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        self.sha256.update(data)
        return memoryview(data).nbytes


def _chunk(table: pa.Table) -> bytes:
    """One chunk's digest."""
    wanted = _takeable(table.schema)
    columns = [_cast(c, f.type) for c, f in zip(table.columns, wanted, strict=True)]
    plain = pa.Table.from_arrays(columns, schema=wanted).combine_chunks()
    whole = pa.Table.from_arrays([_apart(c) for c in plain.columns], schema=wanted)
    sink = _Hashing()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), whole.schema) as writer:
        writer.write_table(whole)
    return sink.sha256.digest()


def _apart(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column that carries no offset and nothing of its neighbours along: mostly a copy.

    Of a full chunk of plain numbers that none is missing of, the stream has just the numbers.
    """
    fixed = pa.types.is_primitive(column.type) and column.type.bit_width % 8 == 0
    if fixed and not column.null_count and len(column) == CHUNK_ROWS:
        return column
    return kernels.call_function("take", [column, _every(len(column))], kernels.TakeOptions())


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    return kernels.call_function("cast", [column], kernels.CastOptions.safe(kind))


@functools.lru_cache(maxsize=2)
def _every(rows: int) -> pa.Array:
    # From a buffer: `pa.array` of a numpy array would load pandas first to ask about its types.
    numbers = np.arange(rows, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(numbers)])


def _takeable(schema: pa.Schema) -> pa.Schema:
    """String views share buffers, so that equal rows may differ in bytes: copy them apart."""
    large = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    return pa.schema([f.with_type(large.get(f.type, f.type)) for f in schema.remove_metadata()])


@functools.lru_cache(maxsize=256)
def digest_code(module: str) -> str:
    """The digest of the code a stage runs: its own module and the floors it stands on.

    A change in `core`, `measure` or `features` can change any result, so they count too, and so do
    the private modules and packages beside the stage; the command line, the report and other
    families do not.

    Args:
        module: A module's dotted name.

    Returns:
        The digest in the house form.

    Example:
        >>> digest_code("datapipe.core.digest").startswith("sha256:")
        True
    """
    total = hashlib.sha256(_floors().encode())
    origin = _origin(module)
    if origin is not None:
        beside: list[Path] = []
        if ".stages." in module:
            beside = sorted([*origin.parent.glob("_*.py"), *origin.parent.glob("_*/*.py")])
        for path in (origin, *beside):
            name = path.relative_to(origin.parent).as_posix()
            total.update(name.encode() + b"\0" + path.read_bytes())
    return PREFIX + total.hexdigest()


@functools.lru_cache(maxsize=1)
def _floors() -> str:
    root = Path(__file__).resolve().parents[1]
    total = hashlib.sha256()
    for room in ("core", "measure", "features"):
        for path in sorted((root / room).glob("*.py")):
            total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _origin(module: str) -> Path | None:
    loaded = sys.modules.get(module)
    name = getattr(loaded, "__file__", None)
    if name is None and loaded is None:
        spec = importlib.util.find_spec(module)
        name = spec.origin if spec else None
    return Path(name) if name and Path(name).is_file() else None


def _plain(value: Any) -> Any:
    """What `json` cannot write by itself, in a form that is stable over processes."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    if hasattr(value, "item") and callable(value.item):
        return value.item()
    if callable(value) and hasattr(value, "__qualname__"):
        module = getattr(value, "__module__", "")
        return {"callable": f"{module}:{value.__qualname__}", "code": digest_code(module)}
    return str(value)
