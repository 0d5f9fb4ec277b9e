# SPDX-License-Identifier: Apache-2.0
"""Rows that a caller hands to a run: which of them this store knows, and which he left out.

Rows of an earlier run keep their ids whatever is done to them by hand. They are held against the
stored data set that they were taken from: what is missing was left out by the caller, and is
recorded as that. Where no data set, or none alone, can be the one, only what is certain is said:
which rows of their sources are not among them. Rows without ids of this store begin anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_json
from datapipe.core.roles import ANCESTORS, ORDINAL_BITS, ROW_ID
from datapipe.core.source import Source
from datapipe.errors import SchemaMismatch
from datapipe.execute.edges import Woven, is_woven, woven
from datapipe.execute.reuse import dataset_key
from datapipe.lineage.erasures import ERASURE, was_erased
from datapipe.lineage.store import Lineage

log = logging.getLogger("datapipe.execute")

STAGE = "handover"
LEFT_OUT = "left out by the caller between runs"
NOT_GIVEN = "not among the rows that the caller gave; what he took them from is not known"
MOST_LOOKED_AT = 100
"""Stored data sets that are looked at for the one which rows were taken from."""

_ORDINALS = (1 << ORDINAL_BITS) - 1
_SOURCES = """
select name, uri, origin, licence, consent, synthetic, generator, source_no as number, digest, rows,
       trust, signer, files
from sources qualify row_number() over (partition by source_no order by seq desc) = 1
"""
_DATASETS = """
with stored as (
  select d.digest, d.seq, coalesce(o.origin, d.step_id) as step,
         d.ancestor_steps::varchar[] as before, d.source_nos::bigint[] as numbers, d.rows
  from datasets d left join step_origins o using (step_id)
  where d.digest = $digest or ($digest = '' and d.rows >= $rows
    and list_has_all(d.source_nos::bigint[], $numbers::bigint[]))
  qualify row_number() over (partition by d.digest order by d.seq desc) = 1
)
select s.* exclude (seq)
from stored s left join (select step_id, rows_out from steps where stage = $stage) h
  on (h.step_id = s.step or list_contains(s.before, h.step_id)) and h.rows_out = s.rows
order by h.step_id is not null, len(s.before) desc, s.seq desc limit $most
"""


@dataclass(frozen=True, eq=False)
class Handed:
    """Rows that the caller gave, as this store names them.

    Args:
        data: The rows.
        key: What keys of reuse of the steps behind rest on.
        before: Ids of the steps of earlier runs that led to the data set they were taken from.
        taken_from: Digest of that data set; empty where it is not known.
        rows_before: How many rows it has, or their sources where it is not known.
        change: What the caller did to rows; None where nothing has to be told.
        change_key: The key under which the same change is found again.
        multiplied: Whether rows were joined or multiplied by the caller or before.

    Example:
        >>> Handed.__name__
        'Handed'
    """

    data: Dataset
    key: str
    before: Sequence[str] = ()
    taken_from: str = ""
    rows_before: int = 0
    change: Woven | None = None
    change_key: str = ""
    multiplied: bool = False


def handed_over(given: Dataset, lineage: Lineage) -> Handed:
    """Find out what the caller's rows are.

    Args:
        given: The rows.
        lineage: The store of the run.

    Returns:
        The rows under names of this store, and what became of those that they were taken from.

    Raises:
        SchemaMismatch: The hidden column of row ids holds something else.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> handed = handed_over(Dataset.of(pa.table({"a": [1, 2]})), store)
        >>> handed.data.row_ids.to_list() == [1 << 40, 1 << 40 | 1], handed.change
        (True, None)
    """
    if given.path is not None and lineage.object_path(given.digest) is not None:
        for past in _stored(lineage, digest=given.digest):
            return Handed(
                given,
                dataset_key(given),
                (*past["before"], past["step"]),
                given.digest,
                len(given),
                multiplied=_multiplied(given, past, lineage),
            )
    frame = _typed(given)
    ids = frame.select(ROW_ID).collect(engine="streaming")[ROW_ID]
    if not ids.is_empty() and not (ids >= 1 << ORDINAL_BITS).any():
        return _anew(given, frame, ids, lineage)  # numbers of sources begin at one: nothing to ask
    known = _known_sources(given, lineage)
    ours = _is_ours(known)
    mine = ids.to_frame().select(ours).to_series()
    nothing_left = ids.is_empty() and any(s.number in known for s in given.sources)
    if not mine.any() and not nothing_left:
        return _anew(given, frame, ids, lineage)
    frame = _let_stay(frame, lineage)
    numbers = (ids.filter(mine) // (1 << ORDINAL_BITS)).unique().sort().to_list()
    sources = [s for s in given.sources if known.get(s.number) is not None]
    sources += [known[n] for n in numbers if n not in {s.number for s in sources}]
    old = Dataset(frame.filter(ours), given.roles, sources=sources)
    if not mine.all():
        frame, new = _some_anew(given, frame, ours, int((~mine).sum()), lineage)
        sources.append(new)
    data = Dataset(frame, given.roles, sources=sources)
    return _compared(given, data, old, numbers, lineage)


def _compared(
    given: Dataset, data: Dataset, old: Dataset, numbers: Sequence[int], lineage: Lineage
) -> Handed:
    """Hold the rows that this store knows against those they were taken from."""
    key = digest_json(["handover", data.digest, given.taken_from])
    again = lineage.find_step(key)
    if again is not None:
        told = again["result"]
        return Handed(
            _with_sources(data, told["numbers"], lineage),
            dataset_key(data),
            told["before"],
            told["taken_from"],
            again["rows_in"],
            Woven(pl.DataFrame(), pl.DataFrame()),
            key,
            multiplied=told["multiplied"],
        )
    past = _taken_from(old.row_ids, numbers, given.taken_from, lineage)
    if past is None:
        every = [_ids_of(s) for s in data.sources if s.number in numbers or s in given.sources]
        before = Dataset(pl.concat(every).to_frame().lazy())
        change = _change(before, old, NOT_GIVEN)
        steps: tuple[str, ...] = ()
        told_of = ""
    else:
        path = lineage.object_path(past["digest"])
        before = Dataset(pl.scan_parquet(path or "", glob=False))
        change = _change(before, old, LEFT_OUT)
        steps, told_of = (*past["before"], past["step"]), past["digest"]
        data = _with_sources(data, past["numbers"], lineage)
    many = bool(change.edges.height) or _multiplied(old, past, lineage)
    return Handed(data, dataset_key(data), steps, told_of, len(before), change, key, many)


def _change(before: Dataset, after: Dataset, reason: str) -> Woven:
    """What became of rows, all of which were there before."""
    if not is_woven(before) and not is_woven(after):
        was, now = before.row_ids, after.row_ids
        if _distinct(was) and _distinct(now):  # only a filter, in any order
            gone = was.filter(~was.is_in(now.implode())).sort().alias("row_id")
            return Woven(gone.to_frame().with_columns(reason=pl.lit(reason)), pl.DataFrame())
    return woven(before, after, [], left_out=reason)


def _distinct(ids: pl.Series) -> bool:
    values = ids.to_numpy()
    return bool((values[1:] > values[:-1]).all()) or ids.n_unique() == ids.len()


def _taken_from(
    ids: pl.Series, numbers: Sequence[int], hint: str, lineage: Lineage
) -> Mapping[str, Any] | None:
    """The data set that holds all of these rows; None where none, or none for certain, does.

    Of several that follow from each other the last is meant: the steps before it tell the rest.
    What was itself handed over and kept as it was comes behind, so that the same rows give the same
    account again. Of several that do not hang together nobody can say which it was.
    """
    wanted = ids.unique()
    found: list[dict[str, Any]] = []
    for past in [*_stored(lineage, digest=hint), *_stored(lineage, wanted.len(), numbers)]:
        path = lineage.object_path(past["digest"])
        if path is None or (found and past["digest"] == found[0]["digest"]):
            continue
        held = pl.scan_parquet(path, glob=False)
        if ROW_ID not in held.collect_schema():
            continue
        there = held.select(ROW_ID).unique().collect(engine="streaming")[ROW_ID]
        if not wanted.is_in(there.implode()).all():
            continue
        if hint and past["digest"] == hint:
            return past
        found.append(past)
    nearest = found[0] if found else None
    if nearest is None or all(_related(nearest, other) for other in found[1:]):
        return nearest
    log.warning(
        "%d stored data sets hold the rows that were given; which one they were taken from is not "
        "known: hand on run.data, or run.data.with_frame(...), to have it recorded",
        len(found),
    )
    return None


def _related(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    same = one["step"] == other["step"]
    return same or one["step"] in other["before"] or other["step"] in one["before"]


def _stored(
    lineage: Lineage, rows: int = 0, numbers: Sequence[int] = (), *, digest: str = ""
) -> list[dict[str, Any]]:
    """The newest record of stored data sets: the one of a digest, or those that may hold rows."""
    if not digest and not numbers:
        return []
    asked = {"digest": digest, "rows": rows, "numbers": list(numbers), "most": MOST_LOOKED_AT}
    asked["stage"] = STAGE
    return lineage.sql(_DATASETS, **asked).to_dicts()


def _multiplied(data: Dataset, past: Mapping[str, Any] | None, lineage: Lineage) -> bool:
    """Whether an id may stand for several lines, or for rows of several sources."""
    if is_woven(data):
        return True
    if past is None:
        return False
    found = lineage.sql(
        "select count(*) from row_edges where list_contains($steps, step_id)",
        steps=[*past["before"], past["step"]],
    )
    return bool(found.item())


def _known_sources(given: Dataset, lineage: Lineage) -> dict[int, Source]:
    """Sources of this store by number; those that the rows say are others left out."""
    found: dict[int, Source] = {}
    for line in lineage.sql(_SOURCES).to_dicts():
        line["files"] = json.loads(line["files"] or "[]")
        form = {k: v for k, v in line.items() if v is not None or k == "synthetic"}
        found[line["number"]] = Source.from_json(form)
    for source in given.sources:
        if source.number in found and found[source.number].digest != source.digest:
            del found[source.number]
    return found


def _with_sources(data: Dataset, numbers: Sequence[int], lineage: Lineage) -> Dataset:
    """The rows with every source of the data set they come from, also those that lost all rows."""
    has = {s.number for s in data.sources}
    more = _known_sources(data, lineage)
    sources = [*data.sources, *(more[n] for n in sorted(set(numbers) - has) if n in more)]
    same = [s for n in numbers for s in sources if s.number == n]
    ordered = [*same, *(s for s in sources if s not in same)]
    return data.with_sources(ordered)


def _is_ours(known: Mapping[int, Source]) -> pl.Expr:
    """Whether an id names a row of a source that this store knows."""
    number = pl.col(ROW_ID) // (1 << ORDINAL_BITS)
    rows = number.replace_strict(
        {n: s.rows for n, s in known.items()} or {0: 0}, default=0, return_dtype=pl.UInt64
    )
    return ((pl.col(ROW_ID) & pl.lit(_ORDINALS, pl.UInt64)) < rows).fill_null(value=False)


def _typed(given: Dataset) -> pl.LazyFrame:
    """The rows with their ids as uint64, whichever whole numbers they came as."""
    frame = given.scan(row_id=True)
    kind = frame.collect_schema()[ROW_ID]
    if not kind.is_integer():
        raise SchemaMismatch(
            f"the column {ROW_ID!r} names rows and is {kind}, not uint64",
            hint="drop it, so that the rows begin anew, or hand on the ids as they were",
        )
    return frame.with_columns(pl.col(ROW_ID).cast(pl.UInt64, strict=False))


def _let_stay(frame: pl.LazyFrame, lineage: Lineage) -> pl.LazyFrame:
    """The rows without those that were erased from the store while the caller held them."""
    if not was_erased(lineage.store):
        return frame
    gone = lineage.sql("select distinct row_id from dropped_rows where stage = $s", s=ERASURE)
    mine = gone["row_id"].cast(pl.UInt64)
    return frame.filter(~pl.col(ROW_ID).is_in(mine.implode()) | pl.col(ROW_ID).is_null())


def _anew(given: Dataset, frame: pl.LazyFrame, ids: pl.Series, lineage: Lineage) -> Handed:
    """Rows of which this store knows nothing become a source of their own."""
    if ids.null_count() or (ids > _ORDINALS).any():
        log.warning("the rows have ids that this store did not give: they begin anew")
    if not ids.equals(pl.int_range(ids.len(), dtype=pl.UInt64, eager=True), check_names=False):
        frame = frame.with_columns(pl.int_range(pl.len(), dtype=pl.UInt64).alias(ROW_ID))
    frame = frame.drop(ANCESTORS, strict=False)
    number = lineage.source_number(given.digest, "data", len(given))
    source = Source("data", "arrow:data", number=number, digest=given.digest, rows=len(given))
    named = frame.with_columns(pl.col(ROW_ID) + pl.lit(number << ORDINAL_BITS, dtype=pl.UInt64))
    return Handed(Dataset(named, given.roles, sources=[source]), dataset_key(given))


def _some_anew(
    given: Dataset, frame: pl.LazyFrame, ours: pl.Expr, rows: int, lineage: Lineage
) -> tuple[pl.LazyFrame, Source]:
    """Rows that the caller added to those of this store: a source of their own, in their order."""
    log.warning("%d of the rows have no id that this store gave: they begin anew", rows)
    number = lineage.source_number(given.digest, "data", rows)
    source = Source("data", "arrow:data", number=number, digest=given.digest, rows=rows)
    place = (~ours).cum_sum().cast(pl.UInt64) - 1 + pl.lit(number << ORDINAL_BITS, dtype=pl.UInt64)
    return frame.with_columns(pl.when(ours).then(ROW_ID).otherwise(place).alias(ROW_ID)), source


def _ids_of(source: Source) -> pl.Series:
    first = source.number << ORDINAL_BITS
    return pl.int_range(first, first + source.rows, dtype=pl.UInt64, eager=True).alias(ROW_ID)
