# SPDX-License-Identifier: Apache-2.0
"""Checks of what a stage does: it is run on ordinary rows, on awkward ones and in a pipeline.

A check yields a sentence for each problem, and raises `Skip` where it does not apply.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import ROW_SCHEMA
from datapipe.core.pipeline import Pipeline
from datapipe.core.stage import RowStage, Yield
from datapipe.errors import DatapipeError
from datapipe.testing import rows
from datapipe.testing.declared import OneCheck
from datapipe.testing.trial import Skip, Trial, fingerprint, global_states, inside, other_globals


def _runs(trial: Trial) -> Iterator[str]:
    """It runs on ordinary rows, gives a Yield and leaves the rows as they were."""
    trial.must_run()
    before = trial.data.frame(row_id=True).clone()
    if isinstance(trial.first, Exception):
        yield _told(trial.first)
    elif not isinstance(trial.first, Yield):
        yield f"run gave {type(trial.first).__name__}, not a Yield"
    if not trial.data.frame(row_id=True).equals(before):
        yield "it changed the rows it was given"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _findings(trial: Trial) -> Iterator[str]:
    """Its findings are of the kinds it declares, say something and are measured by estimates."""
    made = trial.made()
    if not made.findings:
        raise Skip("it found nothing to say")
    for f in made.findings:
        if f.kind not in trial.stage.raises_findings:
            yield f"the finding {f.kind!r} is not declared in raises_findings"
        if not isinstance(f.measure, Estimate):
            yield f"{f.kind} is measured by a bare {type(f.measure).__name__}"
        if not f.says:
            yield f"{f.kind} says nothing"
        if rows.CANARY in f.says:
            yield f"{f.kind} says the value of a person's cell"


def _scored_rows(trial: Trial) -> Iterator[str]:
    """A finding about rows has one line for each row it looked at, and flags none when clean."""
    scored = [f for f in trial.made().findings if f.rows is not None]
    if not scored:
        raise Skip("no finding scores rows")
    known = trial.data.row_ids
    for f in scored:
        table = f.rows
        if table is None or dict(table.schema) != ROW_SCHEMA:
            yield f"{f.kind}: its rows are not of ROW_SCHEMA; make them with scored_rows"
            continue
        if table["row_id"].n_unique() != table.height:
            yield f"{f.kind} scores a row twice"
        if not table["row_id"].is_in(known.implode()).all():
            yield f"{f.kind} scores rows that it was not given"
        if not table["p_value"].drop_nulls().is_between(0, 1).all():
            yield f"{f.kind} has p-values outside [0, 1]"
        if table["flagged"].null_count() or (f.verdict == "clean" and table["flagged"].any()):
            yield f"{f.kind} is {f.verdict} and flags rows, or leaves it open"


def _nothing_lost(trial: Trial) -> Iterator[str]:
    """Rows in are rows out and rows set aside, each once, in their order."""
    made = trial.made()
    before = trial.data.row_ids
    after = before if made.data is None else made.data.row_ids
    aside = made.set_aside["row_id"] if made.set_aside is not None else before.clear()
    if made.data is not None and sorted([*after, *aside]) != sorted(before):
        yield f"{len(before)} rows in, {len(after)} out, {len(aside)} set aside: some lost or twice"
    if not aside.is_in(before.implode()).all():
        yield "it set aside rows that it was not given"
    if after.to_list() != before.filter(before.is_in(after.implode())).to_list():
        yield "the rows came out in another order"


def _same_seed(trial: Trial) -> Iterator[str]:
    """The same seed gives the same bytes, whatever the global random generators hold."""
    first = fingerprint(trial.made())
    with other_globals():
        again = fingerprint(trial.run(trial.data))
    if first != again:
        yield "a second run with the same seed gave something else"


def _leaves_globals(trial: Trial) -> Iterator[str]:
    """It draws nothing from the global random generators."""
    trial.made()
    before = global_states()
    trial.answer(rows.part(trial.data, 0, 60))
    after = global_states()
    yield from (f"it moved the generator of {k}" for k in before if not _same(before[k], after[k]))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _stored_alike(trial: Trial) -> Iterator[str]:
    """Rows read from a Parquet file in small row groups give the same answer."""
    first = fingerprint(trial.made())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        trial.data.frame(row_id=True).write_parquet(path, row_group_size=37)
        stored = Dataset(pl.scan_parquet(path), trial.data.roles, path=path, rows=len(trial.data))
        if fingerprint(trial.run(stored)) != first:
            yield "stored rows gave another answer than rows in memory"


def _row_local(trial: Trial) -> Iterator[str]:
    """A row stage answers for each row alone: in parts and in another order as for the whole."""
    if not isinstance(trial.stage, RowStage):
        raise Skip("a whole stage may look at all rows and their order")
    whole = _kept(trial.made()).sort("_row_id")
    half = len(trial.data) // 2
    halves = [rows.part(trial.data, 0, half), rows.part(trial.data, half, len(trial.data))]
    if not pl.concat([_kept(trial.run(h)) for h in halves]).sort("_row_id").equals(whole):
        yield "two halves gave other rows than the whole"
    if not _kept(trial.run(rows.shuffled(trial.data))).sort("_row_id").equals(whole):
        yield "another order gave other rows"


def _kept(made: Yield) -> pl.DataFrame:
    return pl.DataFrame() if made.data is None else made.data.frame(row_id=True)


def _no_network(trial: Trial) -> Iterator[str]:
    """It reaches for nothing outside this machine."""
    trial.made()
    yield from (f"it tried to reach {host}" for host in sorted(set(trial.calls)))


def _tidy(trial: Trial) -> Iterator[str]:
    """It writes under its scratch folder only."""
    trial.made()
    yield from (f"it wrote {name} outside its scratch folder" for name in sorted(set(trial.litter)))


def _artifacts(trial: Trial) -> Iterator[str]:
    """Its artifacts are files with unique names and figures that are estimates."""
    artifacts = trial.made().artifacts
    if not artifacts:
        raise Skip("it makes no artifacts")
    names = [a.name for a in artifacts]
    if len(set(names)) < len(names):
        yield f"two artifacts are called alike: {names}"
    for a in artifacts:
        if not a.path.is_file():
            yield f"the artifact {a.name} is no file"
        bare = [k for k, m in a.measures.items() if not isinstance(m, Estimate)]
        yield from (f"the figure {name} of {a.name} is no Estimate" for name in bare)


def _awkward(make: Callable[[Dataset], Dataset], name: str, says: str) -> OneCheck:
    def check(trial: Trial) -> Iterator[str]:
        trial.made()
        try:
            made = trial.answer(make(trial.data))
        except Exception as error:  # noqa: BLE001 - a library's error that came through
            yield f"{_told(error)} (a library's error came through)"
            return
        if name == "no_rows" and not isinstance(made, DatapipeError):
            said = [f.kind for f in made.findings if f.verdict == "clean" and f.rows is not None]
            yield from (f"{kind} is clean, though there was no row to look at" for kind in said)

    check.__name__ = f"_{name}"
    check.__doc__ = says
    return check


def _recorded(trial: Trial) -> Iterator[str]:
    """In a pipeline it is recorded, and an unchanged second run reuses what it made."""
    trial.made()
    pipeline = Pipeline("trial", [trial.stage])
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        first = pipeline.run(trial.data, seed=trial.seed, store="store")
        again = pipeline.run(trial.data, seed=trial.seed, store="store")
        if first.data.digest != again.data.digest:
            yield "two runs with one seed left different rows"
        if trial.stage.cacheable() and not all(step.reused for step in again.steps):
            yield "an unchanged second run was not reused"


BEHAVED: tuple[OneCheck, ...] = (
    _runs,
    _findings,
    _scored_rows,
    _nothing_lost,
    _same_seed,
    _leaves_globals,
    _stored_alike,
    _row_local,
    _artifacts,
    _awkward(rows.no_rows, "no_rows", "No rows: an answer or our own error, and not *clean*."),
    _awkward(rows.one_row, "one_row", "One row: an answer or one of our own errors."),
    _awkward(rows.all_null, "all_null", "Nulls only: an answer or one of our own errors."),
    _awkward(rows.one_class, "one_class", "One class: an answer or one of our own errors."),
    _awkward(rows.awkward_text, "awkward_text", "Awkward strings: an answer or our own error."),
    _awkward(rows.wide_types, "wide_types", "Awkward types: an answer or our own error."),
    _recorded,
    _no_network,
    _tidy,
)
