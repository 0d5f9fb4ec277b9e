# SPDX-License-Identifier: Apache-2.0
"""A signed table of items, and what has become of them since."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_bytes, digest_file
from datapipe.errors import TrustError
from datapipe.manifest.bundle import signature_paths
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.predicates import DatasetPredicate, read_predicate
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.verify import verify_path

DIGEST = "sha256"
TAKEN = "taken"
"""Column of a snapshot that says when each item was looked at."""
UNLISTED = "is not in the signed snapshot"
CHANGED = "is not what was signed"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The items that somebody signed: `items` has the column `_key`, and `taken` is when."""

    items: pl.DataFrame
    signer: str
    taken: datetime | None


@dataclass(frozen=True, eq=False)
class Compared:
    """Each row's key, and what became of it: null where it is as signed, else the reason.

    `columns` counts the changed cells of every column in which any changed, and `gone` the signed
    items that no row holds.
    """

    ids: pl.Series
    state: pl.Series
    columns: dict[str, int]
    by_digest: bool
    gone: int


def day(text: str) -> datetime | None:
    """The start of a day in UTC, or a moment; None for what is neither."""
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        return None
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def opened(path: str, keys: tuple[PublicKey, ...], key: str) -> Snapshot | str:
    """The snapshot, or why it cannot be believed or read; `key` names the column of its keys."""
    file = Path(path)
    attestation = signature_paths(file)[1]
    missing = [p.name for p in (file, attestation) if not p.is_file()]
    if missing:
        return f"{missing[0]} is missing: the snapshot and its signature lie side by side"
    content = file.read_bytes()
    report = verify_path(file, keys=keys)
    # what is compared are the bytes that were read, so they must be the ones that were verified
    if not report.passed or digest_file(file) != digest_bytes(content):
        why = report.failed[0].reason if report.failed else "it changed while it was read"
        return f"the signature of the snapshot does not hold: {why}"
    items = _listed(content, key)
    if isinstance(items, str):
        return f"the snapshot {file.name} {items}"
    envelope = Envelope.load(attestation)
    signer = envelope.verify(keys, allow_unknown=True)[0].keyid
    return Snapshot(items, signer, _taken(envelope))


def moments(column: pl.Series) -> pl.Series | None:
    """Microseconds since 1970 in UTC, null where none are told; None of what holds no moments."""
    if column.dtype == pl.String:
        column = column.str.to_datetime(strict=False, time_zone="UTC")
    if not column.dtype.is_temporal() or column.dtype in (pl.Time, pl.Duration):
        return None
    made = column.cast(pl.Datetime("us", getattr(column.dtype, "time_zone", None)))
    return made.dt.epoch("us").cast(pl.Float64)


def taken_of(data: Dataset, snapshot: Snapshot) -> pl.Series | None:
    """When each row's item was looked at by the snapshot's column of moments; None without one."""
    if TAKEN not in snapshot.items.columns:
        return None
    told = moments(snapshot.items[TAKEN])
    if told is None:
        return None
    keys = data.values("id").cast(pl.String).alias("_key").to_frame()
    listed = snapshot.items.select("_key", told.alias(TAKEN))
    return keys.join(listed, on="_key", how="left", maintain_order="left")[TAKEN]


def _listed(content: bytes, key: str) -> pl.DataFrame | str:
    """The signed items with the column `_key`, or what is wrong with their table."""
    try:
        items = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError):
        return "is not Parquet"
    if key not in items.columns:
        return f"has no column {key!r}, which names the items"
    named = items.with_columns(pl.col(key).cast(pl.String).alias("_key")).drop_nulls("_key")
    return f"names some items twice in {key!r}" if named["_key"].is_duplicated().any() else named


def _taken(envelope: Envelope) -> datetime | None:
    try:
        said = read_predicate(envelope.statement())
    except TrustError:
        return None
    recorded = said.recorded_at if isinstance(said, DatasetPredicate) else None
    return day(recorded) if recorded else None


def compared(data: Dataset, snapshot: Snapshot) -> Compared | str:
    """Hold every row against the item of its key, or say why that cannot be done."""
    key = data.roles.one("id")
    ids = data.values("id")
    keys = ids.cast(pl.String).alias("_key")
    if snapshot.items.height == 0 or not keys.is_in(snapshot.items["_key"].implode()).any():
        return "no row has the key of an item in the snapshot"
    shared = [c for c in data.names if c in snapshot.items.columns and c not in (key, DIGEST)]
    by_digest = snapshot.items.schema.get(DIGEST) == pl.String
    mine = _digests(data) if by_digest else data.frame(shared)
    if isinstance(mine, str):
        return mine
    if not mine.width:
        return f"the snapshot has neither a column {DIGEST!r} nor one of the data's"
    items = snapshot.items
    if by_digest:  # an item without a digest was not signed; hexadecimal has two ways to be written
        items = items.drop_nulls(DIGEST).with_columns(pl.col(DIGEST).str.to_lowercase())
    listed = items.select("_key", *map(_signed, mine.columns), _there=pl.lit(value=True))
    both = pl.concat([keys.to_frame(), mine], how="horizontal").join(
        listed, on="_key", how="left", maintain_order="left"
    )
    there = both["_there"].fill_null(value=False)
    differs = {c: _differs(both[c], both[f"signed {c}"]) & there for c in mine.columns}
    changed = pl.select(pl.any_horizontal(*differs.values())).to_series()
    state = pl.select(
        pl.when(~there).then(pl.lit(UNLISTED)).when(changed).then(pl.lit(CHANGED))
    ).to_series()
    counts = {c: int(d.sum()) for c, d in differs.items() if d.any()}
    gone = int((~snapshot.items["_key"].is_in(keys.implode())).sum())
    return Compared(ids, state, counts, by_digest, gone)


def _signed(column: str) -> pl.Expr:
    return pl.col(column).alias(f"signed {column}")


def _differs(now: pl.Series, then: pl.Series) -> pl.Series:
    """Where two columns differ; of different types they are compared as they are written."""
    if now.dtype != then.dtype:
        numbers = now.dtype.is_numeric() and then.dtype.is_numeric()
        if not numbers and not (now.dtype.is_nested() or then.dtype.is_nested()):
            now, then = now.cast(pl.String), then.cast(pl.String)
        elif now.dtype.is_nested() != then.dtype.is_nested():
            return pl.Series([True] * len(now), dtype=pl.Boolean)
    return now.ne_missing(then)


def _digests(data: Dataset) -> pl.DataFrame | str:
    """The SHA-256 of every item's own bytes: its image or its text."""
    role = next((r for r in ("image", "text") if r in data.roles), "")
    if not role or len(data.roles.all(role)) != 1:
        return "the snapshot holds digests; name the one column of the items: image or text"
    content = data.values(role)
    if content.dtype not in (pl.String, pl.Binary):
        return f"the column with the role {role} holds no bytes and no text, so it has no digest"
    return pl.DataFrame({DIGEST: [_digest(v) for v in content.cast(pl.Binary)]})


def _digest(value: bytes | None) -> str | None:
    return None if value is None else hashlib.sha256(value).hexdigest()
