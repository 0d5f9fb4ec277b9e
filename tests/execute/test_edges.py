# SPDX-License-Identifier: Apache-2.0
"""Joins, explodes, resampling, silent filters: the store's answers against every line by hand."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from datapipe import Estimate, Finding, Pipeline, RowStage, Stage, Yield
from datapipe.core.ancestry import joined
from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import scored_rows
from datapipe.core.roles import ORDINAL_BITS, ROW_ID, Roles
from datapipe.execute._handed import LEFT_OUT as LEFT_OUT_BY_HAND
from datapipe.execute._handed import NOT_GIVEN
from datapipe.execute.edges import LEFT_OUT, MERGED
from datapipe.lineage.store import Lineage
from datapipe.stages import ReadCSV

LOW = (1 << ORDINAL_BITS) - 1


@dataclass(frozen=True)
class Makes(Stage):
    """Rows of its own: joined, multiplied, drawn or left out without a word."""

    how: str = "filter"

    name: ClassVar[str] = "test.makes"

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.scan(row_id=True).collect()
        match self.how:
            case "filter":
                made = frame.filter(pl.col("k") % 3 != 0)
            case "explode":
                parts = pl.int_ranges(0, pl.col("k") % 3 + 1).alias("part")
                made = frame.with_columns(parts).explode("part")
                made = made.with_columns(p=pl.col("p") * 3 + pl.col("part")).drop("part")
            case "resample":
                made = frame[[i * i % frame.height for i in range(frame.height)]]
            case _:
                first = frame["who"].min()
                mine, other = frame.filter(who=first), frame.filter(pl.col("who") != first)
                made = joined(mine.lazy(), other.lazy(), on="k").collect()
                made = made.select(pl.exclude("^.*_right$"))
        return Yield(data=Dataset(made.lazy(), data.roles, sources=data.sources))


@dataclass(frozen=True)
class Cuts(RowStage):
    """Sets lines aside by their part, so that copies of a row may stay."""

    name: ClassVar[str] = "test.cuts"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"odd part": (pl.col("p") % 2 == 1) & (pl.col("k") > 1)}


@dataclass(frozen=True)
class Flags(Stage):
    """Sets whole rows aside, every copy."""

    by: int = 5
    on_finding: str = "quarantine"

    name: ClassVar[str] = "test.flags"

    def run(self, data: Dataset, context: Context) -> Yield:
        ids = data.row_ids.unique().sort()
        marked = ids % self.by == 1
        score = marked.cast(pl.Float64)
        rows = scored_rows(ids, score, flagged=marked, reason=f"one over {self.by}")
        measure = Estimate.rate(int(marked.sum()), max(len(ids), 1))
        return Yield(findings=(Finding("test.flags", "suspect", measure, "marked", rows=rows),))


@dataclass(frozen=True)
class Trains(Stage):
    """A model that holds out every fourth row."""

    which: str = "model"

    name: ClassVar[str] = "test.trains"

    def run(self, data: Dataset, context: Context) -> Yield:
        ids = data.row_ids.unique().sort()
        path = context.scratch / "weights.bin"
        path.write_text(f"{self.which} {ids.to_list()} {data.digest}")
        kept = ids.filter(ids % 4 != 0)
        media = "application/octet-stream"
        made = Artifact(self.which, "model", path, media, row_ids=kept)
        return Yield(artifacts=(made,))


STEPS = ("filter", "explode", "resample", "join", "cuts", "flags", "flags beside")
Line = dict


def stage_of(name: str) -> Stage | list[Stage]:
    match name:
        case "cuts":
            return Cuts()
        case "flags":
            return Flags()
        case "flags beside":
            return [Flags(by=3), Flags(by=6)]
    return Makes(name)


def by_hand(lines: list[Line], name: str) -> list[Line]:
    if name == "explode":
        return [{**r, "p": r["p"] * 3 + i} for r in lines for i in range(r["k"] % 3 + 1)]
    if name == "resample":
        return [lines[i * i % len(lines)] for i in range(len(lines))]
    if name == "join":
        first = min((r["who"] for r in lines), default="")
        mine = [r for r in lines if r["who"] == first]
        other = [r for r in lines if r["who"] != first]
        both = [(r, o) for r in mine for o in other if o["k"] == r["k"]]
        return [{**r, "from": r["from"] | o["from"]} for r, o in both]
    stays = {
        "filter": lambda r: r["k"] % 3 != 0,
        "cuts": lambda r: not (r["p"] % 2 == 1 and r["k"] > 1),
        "flags": lambda r: r["id"] % 5 != 1,
        "flags beside": lambda r: r["id"] % 3 != 1,
    }[name]
    return [r for r in lines if stays(r)]


def read(folder: Path, seed: int) -> tuple[list[Path], list[Line]]:
    draw = random.Random(seed)
    files, lines = [], []
    for number, who in enumerate("abc", start=1):
        rows = [(draw.randint(0, 6), who) for _ in range(draw.randint(6, 14))]
        files.append(folder / f"{who}{seed}.csv")
        files[-1].write_text("\n".join(["k,who,p", *(f"{k},{w},0" for k, w in rows)]) + "\n")
        for i, (k, w) in enumerate(rows):
            lines.append({"at": (number, i), "k": k, "who": w, "p": 0})
    return files, lines


def numbered(lines: list[Line], lineage: Lineage, run_id: str) -> list[Line]:
    asked = "select source_no from sources where run_id = $run order by name, source_no"
    numbers = lineage.sql(asked, run=run_id)["source_no"].unique(maintain_order=True).to_list()
    found = []
    for line in lines:
        number, ordinal = line["at"]
        row = numbers[number - 1] << ORDINAL_BITS | ordinal
        found.append({**line, "id": row, "from": frozenset([row])})
    return found


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_the_store_answers_what_a_loop_over_every_line_says(tmp_path: Path, request):
    """A pipeline of six steps; fourteen more under `make faults`."""
    for seed in range(15 if "faults" in request.config.option.markexpr else 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        one_pipeline(folder, seed)


def one_pipeline(tmp_path: Path, seed: int) -> None:
    names = random.Random(seed).sample(STEPS, len(STEPS) - 1)
    files, unnamed = read(tmp_path, seed)
    readers = [ReadCSV(f, named=f.name[0]) for f in files]
    middle = len(names) // 2
    stages = [*map(stage_of, names[:middle]), Trains("early"), *map(stage_of, names[middle:])]
    chain = Pipeline("edges", [readers, *stages, Trains("late")])
    run = chain.run(seed=7, store=tmp_path / "store")
    lineage = Lineage(tmp_path / "store")
    lines = numbered(unnamed, lineage, run.run_id)
    everything = {r["id"] for r in lines}
    truth = {}
    for name in names[:middle]:
        lines = by_hand(lines, name)
    truth["early"] = lines
    for name in names[middle:]:
        lines = by_hand(lines, name)
    truth["late"] = lines
    assert run.data.row_ids.sort().to_list() == sorted(r["id"] for r in lines), names
    agrees(lineage, run.run_id, truth, everything)
    chain.run(seed=7, store=tmp_path / "store")  # reused: the same answers, and once
    agrees(lineage, run.run_id, truth, everything)
    before = {t: lineage.sql(f"from {t}") for t in ("row_edges", "row_drops", "model_rows")}
    lineage.rebuild()
    for table, rows in before.items():
        assert lineage.sql(f"from {table}").sort("*").equals(rows.sort("*")), table
    assert [p.says for p in lineage.verify()] == []


def agrees(lineage: Lineage, run_id: str, truth: dict[str, list[Line]], rows: set[int]) -> None:
    """Every view and `why` against the lines that each model was given."""
    ids = lineage.sql("select name, model_id from models where run_id = $run", run=run_id)
    models = dict(ids.rows())
    reached = {
        models[name]: {m for r in lines if r["id"] % 4 for m in r["from"]}
        for name, lines in truth.items()
    }
    found = lineage.sql("select model_id, row_id from model_rows").rows()
    assert len(found) == len(set(found))
    for model, expected in reached.items():
        assert {r for m, r in found if m == model} == expected
    counts = lineage.sql(
        "select model_id, source_no, rows from model_sources where run_id = $run", run=run_id
    )
    for model, number, n in counts.rows():
        assert n == sum(r >> ORDINAL_BITS == number for r in reached[model]), number
    impact = lineage.sql("select source_no, digest from source_impact where kind = 'model'").rows()
    told = {(r >> ORDINAL_BITS, m) for m, seen in reached.items() for r in seen}
    assert {i for i in impact if i[1] in reached} == told
    parts = Counter(m >> ORDINAL_BITS for m in {m for r in truth["late"] for m in r["from"]})
    last = lineage.sql(
        "select source_no, s.rows from dataset_sources s join datasets d using (digest, run_id) "
        "where run_id = $run qualify d.seq = max(d.seq) over ()",
        run=run_id,
    )
    assert {n: k for n, k in last.rows() if k} == dict(parts)
    for row in sorted(rows)[::4]:
        answer = lineage.why(row)
        mine = {m["digest"] for m in answer["models"]}
        assert mine & set(reached) == {m for m, seen in reached.items() if row in seen}, row
        if not mine:  # nothing leaves without a word
            held = any(row == r["id"] for lines in truth.values() for r in lines)
            assert held or answer["dropped"], row


def test_why_tells_what_a_row_was_made_into(tmp_path: Path):
    files, _ = read(tmp_path, 0)
    readers = [ReadCSV(f, named=f.name[0]) for f in files[:2]]
    run = Pipeline("two", [readers, Makes("join")]).run(seed=1, store=tmp_path / "store")
    lineage = Lineage(tmp_path / "store")
    held = run.data.scan(row_id=True).collect()
    row, other = held[ROW_ID][0], held["_row_ancestors"][0][0]
    assert [r["row_id"] for r in lineage.why(other)["made_into"]].count(row) == 1
    assert other in [r["row_id"] for r in lineage.why(row)["made_from"]]
    assert [d["reason"] for d in lineage.why(other)["dropped"]] == [MERGED]
    reasons = set(lineage.sql("select reason from dropped_rows")["reason"])
    assert reasons <= {MERGED, LEFT_OUT}
    assert run.steps[-1].rows_aside == lineage.sql("from dropped_rows").height


def test_a_row_of_which_several_copies_leave_is_told_of_once(tmp_path: Path):
    (tmp_path / "a.csv").write_text("k,p\n5,1\n8,2\n")
    made = Pipeline("copies", [ReadCSV(tmp_path / "a.csv"), Makes("explode"), Cuts()])
    run = made.run(seed=1, store=tmp_path / "store")
    assert run.data.frame(["p"])["p"].to_list() == [4, 6, 8]
    left = run.sql("select ordinal, reason from dropped_rows order by ordinal")
    assert left.rows() == [(0, "odd part"), (1, "odd part")]


def test_a_filter_that_tells_keeps_no_edges(tmp_path: Path):
    files, _ = read(tmp_path, 0)
    Pipeline("plain", [ReadCSV(files[0]), Cuts(), Flags()]).run(seed=1, store=tmp_path / "store")
    assert Lineage(tmp_path / "store").sql("from row_edges").height == 0


@pytest.mark.parametrize("more", [(), (Cuts(),)])
def test_rows_handed_to_another_run_keep_their_past(more, tmp_path: Path):
    (tmp_path / "a.csv").write_text("k,who,p\n" + "".join(f"{i % 7},a,0\n" for i in range(40)))
    first = Pipeline("first", [ReadCSV(str(tmp_path / "a.csv")), Makes("filter")])
    rows = first.run(seed=1, store=tmp_path / "store").data
    second = Pipeline("second", [*more, Trains()]).run(rows, seed=1, store=tmp_path / "store")
    lineage = Lineage(tmp_path / "store")
    trained = lineage.sql(
        "select row_id from model_rows where model_id in "
        "(select model_id from models where run_id = $run) order by row_id",
        run=second.run_id,
    )["row_id"]
    assert 0 < len(rows) < 40
    assert trained.to_list() == [i for i in sorted(second.data.row_ids) if i % 4]
    Pipeline("second", [*more, Trains()]).run(rows, seed=1, store=tmp_path / "store")
    assert lineage.verify() == []  # a reused model has a line for each run


HANDS = ("filter", "explode", "resample", "join", "one source", "backwards", "none")
AS = ("with_frame", "polars", "arrow", "data set", "roles")


def work_of_hand(rows: Dataset, lines: list[Line], how: str) -> tuple[pl.DataFrame, list[Line]]:
    """What a caller does to rows between two runs, to the frame and to the lines."""
    if how == "one source":
        at = min((r["id"] >> ORDINAL_BITS for r in lines), default=0)
        frame = rows.scan(row_id=True).filter(pl.col(ROW_ID) // (1 << ORDINAL_BITS) != at)
        return frame.collect(), [r for r in lines if r["id"] >> ORDINAL_BITS != at]
    if how == "backwards":
        return rows.scan(row_id=True).reverse().collect(), lines[::-1]
    if how == "none":
        return rows.scan(row_id=True).collect(), lines
    made = Makes(how).run(rows, None).data
    return made.scan(row_id=True).collect(), by_hand(lines, how)


def handed_on(rows: Dataset, frame: pl.DataFrame, form: str) -> dict:
    match form:
        case "with_frame":
            return {"data": rows.with_frame(frame.lazy())}
        case "polars":
            return {"data": frame}
        case "arrow":
            return {"data": frame.to_arrow()}
        case "data set":
            return {"data": Dataset(frame.lazy(), rows.roles, sources=rows.sources)}
    return {"data": rows.with_frame(frame.lazy()), "roles": Roles.of(label="who")}


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_what_a_caller_does_by_hand_between_two_runs_is_accounted_for(tmp_path: Path, request):
    """A pair of runs; sixty under `make faults`."""
    for seed in range(60) if "faults" in request.config.option.markexpr else (3,):
        folder = tmp_path / str(seed)
        folder.mkdir()
        two_runs(folder, seed)


def two_runs(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    names = draw.sample(STEPS, 4)
    how, form = HANDS[seed % len(HANDS)], AS[seed % len(AS)]
    files, unnamed = read(tmp_path, seed)
    readers = [ReadCSV(f, named=f.name[0]) for f in files]
    store = tmp_path / "store"
    first = Pipeline("first", [readers, *map(stage_of, names[:2])]).run(seed=7, store=store)
    lineage = Lineage(store)
    lines = numbered(unnamed, lineage, first.run_id)
    everything = {r["id"] for r in lines}
    for name in names[:2]:
        lines = by_hand(lines, name)
    frame, lines = work_of_hand(first.data, lines, how)
    if frame.is_empty() and form in ("polars", "arrow", "data set"):
        form = "with_frame"  # without rows nothing but the data set says what they were taken from
    given = handed_on(first.data, frame, form)
    kept = {r["id"] for r in lines}
    chain = Pipeline("second", [*map(stage_of, names[2:]), Trains("late")])
    second = chain.run(**given, seed=7, store=store)
    for name in names[2:]:
        lines = by_hand(lines, name)
    where = (seed, names, how, form)
    assert sorted(second.data.row_ids) == sorted(r["id"] for r in lines), where
    agrees(lineage, second.run_id, {"late": lines}, everything)
    gone = set(first.data.row_ids) - kept
    said = "select row_id, reason from dropped_rows where run_id = $run and stage = 'handover'"
    told = dict(lineage.sql(said, run=second.run_id).rows())
    assert set(told) == gone, where
    assert set(told.values()) <= {LEFT_OUT_BY_HAND, MERGED}, where
    again = chain.run(**given, seed=7, store=store)
    assert dict(lineage.sql(said, run=again.run_id).rows()) == told, where
    before = lineage.sql("from model_rows").sort("*")
    trained = "select row_id from model_rows join models using (model_id) where run_id = $r"
    mine = set(lineage.sql(trained, r=again.run_id)["row_id"])
    assert mine == {m for r in lines if r["id"] % 4 for m in r["from"]}, where
    lineage.rebuild()
    assert lineage.sql("from model_rows").sort("*").equals(before)
    assert [p.says for p in lineage.verify()] == [], where


def a_run(tmp_path: Path, *stages: Stage, name: str = "a", rows: int = 40) -> Dataset:
    path = tmp_path / f"{name}.csv"
    path.write_text("k,who,p\n" + "".join(f"{i % 7},{name},{i}\n" for i in range(rows)))
    pipeline = Pipeline("first", [ReadCSV(str(path)), *stages])
    return pipeline.run(seed=1, store=tmp_path / "store").data


def trained(tmp_path: Path, run_id: str) -> list[int]:
    asked = "select r.row_id from model_rows r join models m using (model_id) where run_id = $run"
    found = Lineage(tmp_path / "store").sql(asked, run=run_id)
    return sorted(found["row_id"])


def test_where_rows_were_taken_from_is_not_invented(tmp_path: Path):
    """Two runs hold the rows, and neither follows from the other: only what is certain is said."""
    one = a_run(tmp_path, Makes("filter"))
    two = a_run(tmp_path, Flags())
    store = tmp_path / "store"
    both = one.scan(row_id=True).filter(pl.col(ROW_ID).is_in(two.row_ids.implode())).collect()
    run = Pipeline("second", [Trains()]).run(both.head(12), seed=1, store=store)
    lineage = Lineage(store)
    told = lineage.sql("select reason, count(*) from dropped_rows where run_id = $r group by all",
                       r=run.run_id)  # fmt: skip
    assert told.rows() == [(NOT_GIVEN, 40 - 12)]
    assert trained(tmp_path, run.run_id) == [i for i in sorted(both.head(12)[ROW_ID]) if i % 4]
    sure = Pipeline("second", [Trains()]).run(
        one.with_frame(both.head(12).lazy()), seed=1, store=store
    )
    told = lineage.sql("select reason, count(*) from dropped_rows where run_id = $r group by all",
                       r=sure.run_id)  # fmt: skip
    assert told.rows() == [(LEFT_OUT_BY_HAND, len(one) - 12)]


def test_rows_without_ids_of_this_store_begin_anew(tmp_path: Path):
    rows = a_run(tmp_path, Makes("filter"))
    store, lineage = tmp_path / "store", Lineage(tmp_path / "store")
    plain = rows.frame().head(9)
    run = Pipeline("second", [Trains()]).run(plain, seed=1, store=store)
    assert [(s.name, s.uri, s.rows) for s in run.data.sources] == [("data", "arrow:data", 9)]
    assert lineage.sql("from dropped_rows where run_id = $r", r=run.run_id).height == 0
    number = run.data.sources[0].number
    assert trained(tmp_path, run.run_id) == [number << ORDINAL_BITS | i for i in range(9) if i % 4]


def test_rows_of_another_store_are_not_taken_for_ours(tmp_path: Path):
    (tmp_path / "far").mkdir()
    ours, theirs = a_run(tmp_path), a_run(tmp_path / "far", name="b")
    assert ours.row_ids.equals(theirs.row_ids)
    run = Pipeline("second", [Trains()]).run(theirs, seed=1, store=tmp_path / "store")
    assert [s.uri for s in run.data.sources] == ["arrow:data"]
    assert trained(tmp_path, run.run_id) == [i for i in sorted(run.data.row_ids) if i % 4]
    assert not set(run.data.row_ids) & set(ours.row_ids)


def test_rows_that_the_caller_adds_become_a_source_and_the_others_keep_their_names(tmp_path: Path):
    rows = a_run(tmp_path, Makes("filter")).scan(row_id=True).collect()
    more = pl.DataFrame({"k": [1, 2], "who": ["n", "n"], "p": [0, 0]})
    both = pl.concat([more, rows.head(20)], how="diagonal").select(rows.columns)
    run = Pipeline("second", [Trains()]).run(both, seed=1, store=tmp_path / "store")
    new = run.data.sources[-1]
    assert (new.uri, new.rows) == ("arrow:data", 2)
    first = new.number << ORDINAL_BITS
    assert run.data.row_ids.to_list() == [first, first + 1, *rows.head(20)[ROW_ID]]
    assert trained(tmp_path, run.run_id) == [i for i in sorted(run.data.row_ids) if i % 4]
    told = Lineage(tmp_path / "store").sql("from dropped_rows where stage = 'handover'")
    assert told.height == rows.height - 20
