# SPDX-License-Identifier: Apache-2.0
"""A proof for one row: that it stands, as it is, in a data set that somebody signed.

The attestation of a published table holds the root of a Merkle tree over its rows. Whoever has a
row, some twenty hashes and that attestation can check it with a few lines of any language, without
the table and without us:

    leaf = sha256(0x00 | the row as canonical JSON)       root and path as in RFC 6962

A row is the JSON object (RFC 8785) of its columns, the hidden `_row_id` among them. Whole numbers
beyond 2**53 - 1, durations, decimals and numbers that are not finite are written as text, bytes as
base64, times as ISO 8601 in UTC; so a row has one form, whatever wrote the Parquet file.

References:
    Laurie, Langley, Kasper, 2013, RFC 6962, section 2.1.1: Merkle audit paths.
    Rundgren, Jordan, Erdtman, 2020, RFC 8785: JSON Canonicalization Scheme.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datapipe.core.digest import CHUNK_ROWS
from datapipe.core.merkle import HASH_BYTES, leaf_hash, root
from datapipe.core.roles import ROW_ID
from datapipe.errors import DatapipeError, DeclarationError, Malformed, TrustError
from datapipe.manifest.canonical import LARGEST_INTEGER, canonical_json, parse_json
from datapipe.manifest.checks import Check, Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.merkle import inclusion_proof, verify_inclusion
from datapipe.manifest.predicates import DatasetPredicate, read_predicate
from datapipe.manifest.statement import Statement

ROW_PROOF_SUFFIX = ".row.json"
FORM = "https://datapipe.dev/row-proof/v1"

_quoted = json.JSONEncoder(ensure_ascii=False).encode
"""A text as JSON; what must be escaped is escaped as RFC 8785 says."""


@dataclass(frozen=True, slots=True)
class RowProof:
    """One row of a signed data set, with what is needed to check it.

    Args:
        row: The row as canonical JSON text.
        index: Its place in the data set, from 0.
        size: How many rows the data set has.
        path: The hashes from its leaf to the root, 32 bytes each.
        envelope: The signed attestation of the data set.

    Example:
        >>> RowProof.__name__
        'RowProof'
    """

    row: str
    index: int
    size: int
    path: tuple[bytes, ...]
    envelope: Envelope

    def to_bytes(self) -> bytes:
        """The proof as it stands in a file.

        Returns:
            Canonical JSON with a final newline.

        Example:
            >>> RowProof.to_bytes.__name__
            'to_bytes'
        """
        form = {
            "type": FORM,
            "row": self.row,
            "index": self.index,
            "size": self.size,
            "path": [h.hex() for h in self.path],
            "envelope": self.envelope.to_json(),
        }
        return canonical_json(form) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> RowProof:
        """Read a proof that somebody else wrote; nothing is verified yet.

        Args:
            data: The file's bytes.

        Returns:
            The proof.

        Raises:
            TrustError: It does not have the form of a proof.

        Example:
            >>> try:
            ...     RowProof.from_bytes(b"{}")
            ... except TrustError as error:
            ...     print(error.message)
            not a row proof: its members are not those of the form
        """
        form = parse_json(data)
        names = {"type", "row", "index", "size", "path", "envelope"}
        if not isinstance(form, dict) or set(form) != names or form["type"] != FORM:
            raise _refused("its members are not those of the form")
        row, index, size, path = (form[name] for name in ("row", "index", "size", "path"))
        whole = all(type(number) is int for number in (index, size))
        if not isinstance(row, str) or not whole or not isinstance(path, list):
            raise _refused("a member has another type")
        try:
            hashes = tuple(bytes.fromhex(h) for h in path)
        except (ValueError, TypeError) as error:
            raise _refused("its path is not hexadecimal") from error
        if any(len(h) != HASH_BYTES for h in hashes):
            raise _refused("its path holds something that is no hash")
        return cls(row, index, size, hashes, Envelope.from_json(form["envelope"]))

    @property
    def values(self) -> dict[str, Any]:
        """The row's columns as JSON values."""
        found: dict[str, Any] = json.loads(self.row)
        return found

    def check(self, statement: Statement) -> Check:
        """Hold the row against the statement, whose signatures somebody else verifies.

        Args:
            statement: What the envelope says.

        Returns:
            Whether the row stands in the data set at that place.

        Example:
            >>> RowProof.check.__name__
            'check'
        """
        name = f"row {self.index}"
        try:
            predicate = read_predicate(statement)
            if not isinstance(predicate, DatasetPredicate) or predicate.row_tree is None:
                return Check.refused(name, "the statement has no tree of rows", Reason.MISSING)
            if predicate.rows != self.size or not 0 <= self.index < self.size:
                what = f"the data set has {predicate.rows} rows"
                return Check.refused(name, what, Reason.ROOT_MISMATCH)
            if canonical_json(parse_json(self.row.encode())).decode() != self.row:
                return Check.refused(name, "is not canonical JSON", Reason.BAD_FORM)
            leaf = leaf_hash(self.row.encode())
            verify_inclusion(
                leaf, self.index, self.size, self.path, bytes.fromhex(predicate.row_tree)
            )
        except TrustError as error:
            return Check.refused(name, error.message, Reason(error.code))
        except DatapipeError as error:
            return Check.refused(name, error.message, Reason.BAD_FORM)
        return Check.held(name, f"stands in {predicate.name!r}, as it was signed")


def row_tree(path: str | Path) -> tuple[int, str]:
    """The root over the rows of a table, for its attestation.

    Args:
        path: A Parquet file.

    Returns:
        How many rows it has, and the root, hexadecimal.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> pl.DataFrame({"a": [1, 2]}).write_parquet(file)
        >>> row_tree(file)[0]
        2
    """
    leaves = _leaves(path)
    return len(leaves), root(leaves).hex()


def prove_row(path: str | Path, row_id: int, envelope: Envelope) -> RowProof:
    """Prove that a row stands in a published table.

    Args:
        path: The Parquet file that was published.
        row_id: Its id; of several lines with it (a row that was split up) the first is proved.
        envelope: The signed attestation of the table.

    Returns:
        The proof; it is checked before it is given.

    Raises:
        DeclarationError: The table has no such row, or no row ids.
        Malformed: It is no Parquet file.
        TrustError: The table is not the one that was signed.

    Example:
        >>> prove_row.__name__
        'prove_row'
    """
    try:
        there = pq.read_schema(path).names
        ids = pq.read_table(path, columns=[ROW_ID])[ROW_ID] if ROW_ID in there else None
    except (pa.ArrowException, OSError) as error:
        raise Malformed(
            f"{path} cannot be read as Parquet",
            code="DP-DATA-021",
            hint="name the published table itself, not its signature",
        ) from error
    place = -1 if ids is None else pc.index(ids, pa.scalar(row_id, ids.type)).as_py()
    if place < 0:
        raise DeclarationError(
            f"{path} has no row {row_id}",
            code="DP-DECL-072",
            hint="it may have been set aside: datapipe why ROW tells",
        )
    leaves = _leaves(path)
    row = next(r for i, r in enumerate(row_forms(path)) if i == place)
    proof = RowProof(
        row.decode(), place, len(leaves), tuple(inclusion_proof(leaves, place)), envelope
    )
    held = proof.check(envelope.statement())
    if not held.passed:
        raise TrustError(
            f"{path} is not what was signed: {held.reason}",
            code=held.code.value,
            hint="publish it again, or ask its signer",
            path=str(path),
        )
    return proof


def row_forms(path: str | Path) -> Iterator[bytes]:
    """The rows of a table, each as the canonical JSON that its leaf is made of.

    Args:
        path: A Parquet file; it is never read whole.

    Yields:
        UTF-8 text, in the order of the file.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.parquet"
        >>> pl.DataFrame({"b": ["x"], "a": [2**60]}).write_parquet(file)
        >>> list(row_forms(file))
        [b'{"a":"1152921504606846976","b":"x"}']
    """
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=CHUNK_ROWS):
            frame = pl.DataFrame(pl.from_arrow(batch))
            names = sorted(frame.columns, key=lambda n: n.encode("utf-16-be", "surrogatepass"))
            heads = [canonical_json(name).decode() + ":" for name in names]
            columns = [
                [head + text for text in _texts(frame[name])]
                for head, name in zip(heads, names, strict=True)
            ]
            for cells in zip(*columns, strict=True):
                yield ("{" + ",".join(cells) + "}").encode()


def _leaves(path: str | Path) -> list[bytes]:
    return [leaf_hash(row) for row in row_forms(path)]


def _texts(column: pl.Series) -> list[str]:
    """A column's cells as canonical JSON, the plain types in few steps a cell."""
    kind, values = column.dtype, column.to_list()
    if kind == pl.String:
        return ["null" if v is None else _quoted(v) for v in values]
    if kind in (pl.Float64, pl.Float32):
        return ["null" if v is None else _decimal(v) for v in values]
    if kind.is_integer():
        return [
            str(v) if v is not None and -LARGEST_INTEGER <= v <= LARGEST_INTEGER else _text(v)
            for v in values
        ]
    return [_text(v) for v in values]


def _decimal(value: float) -> str:
    """A number as ECMAScript writes it: what Python writes, but for whole and very small ones."""
    text = float.__repr__(value)
    if "e" in text or "n" in text or text.endswith(".0"):
        return _text(value)
    return text


def _text(value: Any) -> str:
    return canonical_json(_plain(value)).decode()


def _plain(value: Any) -> Any:
    """A cell as the JSON value that stands for it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    raise Malformed(
        f"a cell of type {type(value).__name__} has no JSON form",
        code="DP-DATA-022",
        hint="publish a table of numbers, texts, times, bytes, lists and structs",
    )


def _moment(value: datetime) -> str:
    zoned = value.tzinfo is not None
    text = (value.astimezone(UTC) if zoned else value).replace(tzinfo=None).isoformat()
    return text + ("Z" if zoned else "")


def _length(value: timedelta) -> str:
    """Seconds with six decimals; of a negative time the sign stands before all of it."""
    whole = abs(value)
    sign = "-" if value < timedelta() else ""
    return f"{sign}{whole.days * 86400 + whole.seconds}.{whole.microseconds:06d}"


_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (int, lambda v: v if abs(v) <= LARGEST_INTEGER else str(v)),
    (float, lambda v: v if math.isfinite(v) else repr(v)),  # nan, inf, -inf
    (Mapping, lambda v: {str(k): _plain(x) for k, x in v.items()}),
    ((list, tuple, pl.Series), lambda v: [_plain(x) for x in v]),
    (bytes, lambda v: base64.b64encode(v).decode()),
    (datetime, _moment),
    (timedelta, _length),
    ((date, time), lambda v: v.isoformat()),
    (Decimal, lambda v: format(v, "f")),
)
"""Types of cells and the JSON values that stand for them; the first that fits counts."""


def _refused(what: str) -> TrustError:
    return TrustError(
        f"not a row proof: {what}",
        code=Reason.BAD_FORM.value,
        hint="ask for the file that `datapipe why ROW --proof` wrote",
    )
