# SPDX-License-Identifier: Apache-2.0
"""The erasure drill: what rows reached equals brute force, and after it nothing is left."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import duckdb
import polars as pl
import pytest

from datapipe import Estimate, Finding, Pipeline, RowStage, Stage, Yield
from datapipe.cli.store_trust import verify_store
from datapipe.core.ancestry import joined
from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import CHUNK_ROWS, Dataset
from datapipe.core.finding import scored_rows
from datapipe.core.roles import ANCESTORS, ROW_ID, Roles
from datapipe.core.stage import OnFinding
from datapipe.errors import DeclarationError, ExecutionError, TrustError
from datapipe.execute._reach import Stored
from datapipe.execute.erase import erase
from datapipe.execute.settle import settle
from datapipe.lineage.store import Lineage
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.log import Checkpoint, consistency_proof, verify_consistency
from datapipe.manifest.predicates import ErasurePredicate, read_predicate
from datapipe.stages import ReadParquet

TRAINED: dict[str, set[str]] = {}
"""What each model of the drill really saw, told by the stage that trained it."""


@dataclass(frozen=True)
class LongEnough(RowStage):
    name: ClassVar[str] = "drill.long_enough"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"too short": pl.col("n") < 2}


@dataclass(frozen=True)
class Once(Stage):
    """Dedup: the first row of each key stays."""

    name: ClassVar[str] = "drill.once"

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(["key"], row_id=True)
        twice = frame.filter(~pl.col("key").is_first_distinct())
        gone = twice.select(pl.col(ROW_ID).alias("row_id"), pl.lit("duplicate").alias("reason"))
        return Yield(set_aside=gone)


@dataclass(frozen=True)
class Sentences(Stage):
    """Explode: a row for each sentence, each with the id of the row it came from."""

    name: ClassVar[str] = "drill.sentences"

    def run(self, data: Dataset, context: Context) -> Yield:
        return Yield(
            data.with_frame(
                data.scan(row_id=True).with_columns(pl.col("t").str.split(". ")).explode("t")
            )
        )


@dataclass(frozen=True)
class Odd(Stage):
    """A detector that names what it found, as real ones do."""

    on_finding: OnFinding = "quarantine"
    name: ClassVar[str] = "drill.odd"

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(["t", "n"], row_id=True).unique(ROW_ID, maintain_order=True)
        odd = frame["n"] % 5 == 0
        rows = scored_rows(
            frame[ROW_ID], odd.cast(pl.Float64), flagged=odd, reason="odd", suggested=frame["t"]
        )
        shown = frame.filter(odd)["t"].head(2).to_list()
        says = f"such as {shown[0].split()[0]}" if shown else "nothing"
        measure = Estimate.rate(int(odd.sum()), len(odd))
        finding = Finding(
            "drill.odd", "suspect", measure, says, rows=rows, details={"trigger": shown}
        )
        return Yield(findings=(finding,))


@dataclass(frozen=True)
class Resampled(Stage):
    name: ClassVar[str] = "drill.resampled"

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(row_id=True)
        picked = random.Random(context.seed).choices(range(frame.height), k=frame.height)
        return Yield(data.with_frame(frame[picked].lazy()))


@dataclass(frozen=True)
class Quoted(Stage):
    """Join: every row also quotes a row of somebody else, and is made from both."""

    name: ClassVar[str] = "drill.quoted"

    def run(self, data: Dataset, context: Context) -> Yield:
        rows = data.scan(row_id=True)
        quotes = rows.unique("n", keep="first", maintain_order=True)
        quotes = quotes.select(ROW_ID, (pl.col("n") + 1).alias("n"), pl.col("t").alias("quote"))
        return Yield(data.with_frame(joined(rows, quotes, on="n", how="left")))


@dataclass(frozen=True)
class WithoutNames(Stage):
    """The column that names persons goes: from here on only row ids lead back to them."""

    name: ClassVar[str] = "drill.without_names"

    def run(self, data: Dataset, context: Context) -> Yield:
        return Yield(data.with_frame(data.scan(row_id=True).drop("who")))


@dataclass(frozen=True)
class Model(Stage):
    """A model trained on the rows whose `n` leaves a rest; one of them keeps a vocabulary."""

    called: str = "all"
    divisor: int = 1
    vocabulary: bool = False
    name: ClassVar[str] = "drill.model"
    gives: ClassVar[tuple[str, ...]] = ("model",)

    def run(self, data: Dataset, context: Context) -> Yield:
        frame = data.frame(row_id=True).filter(pl.col("n") % self.divisor == 0)
        texts = [*frame["t"], *frame["quote"].drop_nulls()]
        TRAINED[self.called] = set(re.findall(r"\w+", " ".join(texts)))
        path = context.scratch / f"{self.called}.json"
        words = sorted(TRAINED[self.called]) if self.vocabulary else []
        path.write_text(json.dumps({"called": self.called, "words": words}))
        small = context.scratch / f"{self.called}.small"
        small.write_bytes(hashlib.sha256(self.called.encode()).digest())
        ids = frame[ROW_ID].unique()
        model = Artifact(self.called, "model", path, row_ids=ids)
        export = Artifact(f"{self.called}.small", "export", small, parents=(self.called,))
        return Yield(artifacts=(model, export))


@dataclass(frozen=True)
class Drill:
    """A store after one run over many persons' rows."""

    lineage: Lineage
    people: list[str]
    words: dict[str, set[str]]
    texts: dict[str, list[str]]

    home: ClassVar[Path]


MADE: dict[int, tuple[Path, Drill, dict[str, set[str]]]] = {}
"""Drills that were run once, by how many persons they have: a test works on a copy of its own."""


@pytest.fixture(scope="module", autouse=True)
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where drills are run once."""
    MADE.clear()
    Drill.home = tmp_path_factory.mktemp("drills")
    yield Drill.home
    MADE.clear()


def drilled(folder: Path, people: int) -> Drill:
    """A store of its own after a run over so many persons."""
    if people not in MADE:
        home = Drill.home / str(people)
        MADE[people] = (home, ran(home, people), dict(TRAINED))
    home, drill, trained = MADE[people]
    shutil.copytree(home, folder, dirs_exist_ok=True)
    TRAINED.update(trained)
    return replace(drill, lineage=Lineage(folder / "store"))


def ran(folder: Path, people: int, *, seed: int = 7) -> Drill:
    """Persons with one to four rows each; every word of a row is used in that row only."""
    draw = random.Random(seed)
    names = [f"person-{draw.getrandbits(40):010x}" for _ in range(people)]
    lines, words, texts = [], {}, {}
    for who in names:
        for _ in range(draw.randint(1, 4)):
            own = [f"w{draw.getrandbits(48):012x}" for _ in range(6)]
            text = f"{' '.join(own[:3])}. {' '.join(own[3:])}"
            words.setdefault(who, set()).update(w.rstrip(".") for w in own)
            key, n = draw.choice(["same", *own, *own, *own]), draw.randint(0, 20)
            texts.setdefault(who, []).extend([text] * (n >= 2))  # others are never stored
            lines.append({"who": who, "t": text, "n": n, "key": key})
    draw.shuffle(lines)
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(lines).write_parquet(folder / "rows.parquet")
    again(folder, seed=seed)
    return Drill(Lineage(folder / "store"), names, words, texts)


def again(folder: Path, *, seed: int = 7) -> None:
    """Run the drill's pipeline over its rows."""
    pipeline = Pipeline(
        "drill",
        [
            ReadParquet(str(folder / "rows.parquet"), subject="who", text="t"),
            LongEnough(),
            Once(),
            Sentences(),
            Odd(),
            Resampled(),
            Quoted(),
            WithoutNames(),
            Model("all"),
            Model("even", 2),
            Model("third", 3, vocabulary=True),
        ],
    )
    pipeline.run(seed=seed, store=str(folder / "store"))


@pytest.fixture
def drill(tmp_path: Path, request: pytest.FixtureRequest) -> Drill:
    """1,000 persons under `make faults`, 20 elsewhere."""
    return drilled(tmp_path / "drill", 1000 if "faults" in request.config.option.markexpr else 20)


class Everything:
    """Every word of every table of a store, with where it stands: row ids are not asked."""

    def __init__(self, lineage: Lineage) -> None:
        self.places: dict[str, set[tuple[str, int]]] = {}
        for path in sorted(lineage.objects.glob("*.parquet")):
            frame = pl.read_parquet(path)
            if ROW_ID not in frame.columns:
                continue
            visible = frame.drop(ROW_ID, ANCESTORS, strict=False)
            for place, row in enumerate(visible.rows()):
                for word in re.findall(r"\w+", " ".join(map(str, row))):
                    self.places.setdefault(word, set()).add((f"sha256:{path.stem}", place))

    def holding(self, words: set[str]) -> dict[str, list[int]]:
        """Data sets with the places of the rows that hold one of some words."""
        found: dict[str, list[int]] = {}
        for digest, place in sorted({p for w in words for p in self.places.get(w, ())}):
            found.setdefault(digest, []).append(place)
        return found


def assert_reach_is_brute_force(drill: Drill, everything: Everything, who: str) -> None:
    found = erase(drill.lineage, who).to_json()
    expected = everything.holding(drill.words[who])
    assert {d["digest"]: d["rows"] for d in found["datasets"]} == {
        digest: len(places) for digest, places in expected.items()
    }
    for dataset in found["datasets"]:
        places = expected[dataset["digest"]]
        assert dataset["batches"] == sorted({p // CHUNK_ROWS for p in places})
    trained = {name for name, seen in TRAINED.items() if not drill.words[who].isdisjoint(seen)}
    assert {m["name"] for m in found["models"]} == trained
    assert {e["name"] for e in found["exports"]} == {f"{name}.small" for name in trained}
    assert found["rows"] == len(drill.texts[who])


def contents(store: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file of a store as bytes, tables and the index decoded."""
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            yield path, pl.read_parquet(path).write_json().encode()
        if path.name == "lineage.duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                names = "select table_name from duckdb_tables() where not internal"
                for (table,) in connection.execute(names).fetchall():
                    yield path, repr(connection.execute(f"from {table}").fetchall()).encode()


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_the_drill(drill: Drill, request: pytest.FixtureRequest):
    """1,000 subjects, 6 stages, 3 models; 60 subjects without `-m faults`."""
    lineage, everything = drill.lineage, Everything(drill.lineage)
    draw = random.Random(1)
    asked = draw.sample(drill.people, len(drill.people) if len(drill.people) == 1000 else 5)
    for who in asked:
        assert_reach_is_brute_force(drill, everything, who)
    leaves = lineage.leaves()
    point = Checkpoint.load(lineage.store / "log" / "checkpoint")
    gone = asked[:2]
    receipts = []
    for who in gone:
        done = erase(lineage, who, carry_out=True)
        assert done.done
        assert (
            done.commitment == hashlib.sha256(bytes.fromhex(done.salt) + who.encode()).hexdigest()
        )
        receipts.append(done.receipt)
    sought = {w.encode() for who in gone for w in drill.words[who]} | {w.encode() for w in gone}
    for path, data in contents(lineage.store):
        assert not [w for w in sought if w in data], path
    assert Lineage(lineage.store).verify() == []
    answer = verify_store(lineage.store, (), None)
    assert answer.passed, answer.failed
    after = lineage.leaves()
    assert after[: len(leaves)] == leaves
    proof = consistency_proof(after, point.size)
    size, root = lineage.root()
    verify_consistency(point.size, point.root, size, root, proof)
    for digest in receipts:
        told = read_predicate(Envelope.load(lineage.object_path(digest)).statement())
        assert isinstance(told, ErasurePredicate)
        assert lineage.root(told.log.size)[1].hex() == told.log.root
    others = [w for w in drill.people if w not in gone]
    everything = Everything(Lineage(lineage.store))
    for who in draw.sample(others, 2):
        assert_reach_is_brute_force(drill, everything, who)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Drill:
    """A store that tests only look at."""
    small = drilled(tmp_path_factory.mktemp("small"), 6)
    small.lineage.index()  # else the first to look would bring it up to date
    return small


def snapshot(store: Path) -> dict[str, str]:
    held = [p for p in store.rglob("*") if p.is_file() and not p.name.endswith("lock")]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in held if p.name != "lock"}


def test_without_being_told_so_nothing_is_changed(small: Drill):
    before = snapshot(small.lineage.store)
    found = erase(small.lineage, small.people[0])
    assert not found.done
    assert not found.receipt
    assert snapshot(small.lineage.store) == before


def test_nobody_of_that_id_is_no_error(small: Drill):
    assert erase(small.lineage, "person-0").reach.rows == 0


def test_an_empty_id_is_refused(small: Drill):
    with pytest.raises(DeclarationError, match="empty"):
        erase(small.lineage, "")


def test_a_store_that_names_no_persons_does_not_say_that_there_are_none(tmp_path: Path):
    pl.DataFrame({"a": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    Pipeline("p", [ReadParquet(str(tmp_path / "a.parquet"))]).run(seed=1, store=str(tmp_path / "s"))
    with pytest.raises(DeclarationError, match="role 'subject'") as refused:
        erase(Lineage(tmp_path / "s"), "ada", carry_out=True)
    assert refused.value.exit_code == 2


def test_a_running_run_keeps_erasures_out(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    other = Lineage(drill.lineage.store)
    other.append([("runs", {"run_id": "r9"}), ("run_events", {"run_id": "r9", "event": "started"})])
    with pytest.raises(ExecutionError, match="r9") as refused:
        erase(drill.lineage, drill.people[0], carry_out=True)
    assert refused.value.exit_code == 6
    other.append([("run_events", {"run_id": "r9", "event": "finished"})])
    assert erase(drill.lineage, drill.people[0], carry_out=True).done


def test_what_became_of_an_erased_row_and_of_its_models_can_be_asked(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    done = erase(drill.lineage, drill.people[0], carry_out=True)
    row = done.reach.row_ids[0]
    assert "erased at the person's request" in {
        h["reason"] for h in drill.lineage.why(row)["history"]
    }
    marked = drill.lineage.sql("from erased_models where kind = 'model'")
    assert set(marked["name"]) == {m.name for m in done.reach.of("model")}
    assert (
        dict(marked.select("name", "remedy").rows()).items()
        <= {
            "all": "pending",
            "even": "pending",
            "third": "retired",  # its vocabulary held the person's words
        }.items()
    )
    for held in done.reach.of("dataset"):
        assert drill.lineage.object_path(held.digest) is None
        assert drill.lineage.trace(done.replaced[held.digest])["kind"] == "dataset"


ABOUT_ROWS = ("dropped_rows", "row_history", "model_rows", "row_findings")


def test_views_tell_of_others_what_they_told_before(tmp_path: Path):
    drill = drilled(tmp_path, 8)
    lineage, who = drill.lineage, drill.people[1]
    ids = Stored(lineage).reach(who).row_ids
    theirs = pl.col("row_id").is_in(ids.implode())
    before = {view: lineage.sql(f"from {view}") for view in ABOUT_ROWS}
    assert all(rows.filter(~theirs).height for rows in before.values())
    assert before["model_rows"].filter(theirs).height
    done = erase(lineage, who, carry_out=True)
    after = {view: lineage.sql(f"from {view}") for view in ABOUT_ROWS}
    for view, rows in before.items():
        others = [each.filter(~theirs).rows() for each in (rows, after[view])]
        assert Counter(map(str, others[0])) == Counter(map(str, others[1])), view
    told = after["dropped_rows"].filter(theirs)
    assert set(told["row_id"]) == set(ids)  # each row of theirs has its reason, and no other words
    assert set(told["reason"]) <= {"erased", "erased at the person's request"}
    assert told.filter(stage="erasure")["row_id"].sort().to_list() == ids.to_list()
    assert done.reach.rows == ids.len()
    for view in ("row_history", "row_findings"):
        rows = after[view].filter(theirs)
        said = {cell for column in rows.iter_columns() for cell in column if isinstance(cell, str)}
        assert not any(who in cell for cell in said), view
    lineage.rebuild()
    for view, rows in after.items():
        assert Counter(map(str, lineage.sql(f"from {view}").rows())) == Counter(
            map(str, rows.rows())
        )


def test_models_can_be_retired_at_once(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    done = erase(drill.lineage, drill.people[0], carry_out=True, models="retire")
    assert done.reach.of("model")
    for held in (*done.reach.of("model"), *done.reach.of("export")):
        assert drill.lineage.object_path(held.digest) is None
    told = read_predicate(Envelope.load(drill.lineage.object_path(done.receipt)).statement())
    assert told.completed_at is not None


def test_an_erasure_cut_short_is_finished_by_the_next(tmp_path: Path, monkeypatch):
    from datapipe.execute import erase as module

    drill = drilled(tmp_path, 6)

    def dies(*_: object) -> None:
        raise OSError(5, "the machine stops")

    with monkeypatch.context() as broken:
        broken.setattr(module, "sign_receipts", dies)
        with pytest.raises(OSError, match="stops"):
            erase(drill.lineage, drill.people[0], carry_out=True)
    answer = verify_store(drill.lineage.store, (), None)
    assert [c["reason"] for c in answer.failed if "has no receipt" in c["reason"]]
    erase(drill.lineage, drill.people[0], carry_out=True)
    assert verify_store(drill.lineage.store, (), None).passed


def test_an_index_that_an_erasure_did_not_live_to_make_anew_is_made_by_the_next_question(
    tmp_path: Path, monkeypatch
):
    drill = drilled(tmp_path, 6)
    of_them = "select * from row_findings where list_contains($ids, row_id) and score is not null"

    def dies(*_: object, **__: object) -> None:
        raise OSError(5, "the machine stops")

    rows_of = {p: Stored(drill.lineage).reach(p).row_ids.to_list() for p in drill.people}
    flagged = [p for p, ids in rows_of.items() if drill.lineage.sql(of_them, ids=ids).height]
    who, ids = flagged[0], rows_of[flagged[0]]
    with monkeypatch.context() as broken:
        broken.setattr("datapipe.lineage.index.Index.rebuild", dies)
        with pytest.raises(OSError, match="stops"):
            erase(drill.lineage, who, carry_out=True)
    fresh = Lineage(drill.lineage.store)
    assert fresh.sql(of_them, ids=ids).height == 0
    assert fresh.verify() == []  # what is missing is the receipt, and that is told by its own check
    erase(fresh, who, carry_out=True)
    assert verify_store(fresh.store, (), None).passed


def test_a_record_that_was_redacted_without_an_erasure_is_damage(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    record = next(r for r in drill.lineage._journal.read() if r.is_of("runs"))
    drill.lineage._journal.redact({record.seq: b'{"at":"","body":{},"kind":"runs","seq":1}'})
    assert "DP-TRUST-711" in [p.code for p in Lineage(drill.lineage.store).verify()]


def test_a_receipt_over_another_log_is_refused(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    done = erase(drill.lineage, drill.people[0], carry_out=True)
    path = drill.lineage.object_path(done.receipt)
    other = drilled(tmp_path / "other", 6).lineage
    erase(other, "person-0", carry_out=True)
    request = {"erasure_id": done.erasure_id, "commitment": done.commitment, "rows": 1}
    digest, kept = other.put_bytes(path.read_bytes(), suffix=".dsse.json")
    body = {"digest": digest, "run_id": done.erasure_id, "object": kept.name}
    other.append([("erasures", request), ("attestations", body)])
    failed = verify_store(other.store, (), None).failed
    assert [c for c in failed if c["name"] == "receipt"]


def test_rows_that_a_crash_left_unrecorded_or_unfinished_go_too(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    lineage, who = drill.lineage, drill.people[0]
    rows = erase(lineage, who).reach
    stray = lineage.scratch() / "stray.parquet"
    pl.read_parquet(lineage.object_path(rows.of("dataset")[0].digest)).with_columns(
        stray=pl.lit(1)
    ).write_parquet(stray)
    digest, path = lineage.put_object(stray, suffix=".parquet")
    partial = lineage.store / "partial" / "k"
    partial.mkdir(parents=True)
    (partial / "rows.parquet").write_bytes(drill.texts[who][0].encode())
    done = erase(lineage, who, carry_out=True)
    assert done.remedies[digest] == "retired"
    assert not path.exists()
    assert not partial.exists()
    assert verify_store(lineage.store, (), None).passed


def test_who_was_erased_is_not_let_in_again_by_the_same_file(tmp_path: Path):
    file = tmp_path / "rows.parquet"
    pl.DataFrame(
        {"who": ["ada-b", "bob", "ada-b"], "t": ["her words", "his", "more"]}
    ).write_parquet(file)
    pipeline = Pipeline("p", [ReadParquet(str(file), subject="who", text="t"), Model2()])
    first = pipeline.run(seed=1, store=str(tmp_path / "s"))
    lineage = Lineage(tmp_path / "s")
    done = erase(lineage, "ada-b", carry_out=True)
    again = pipeline.run(seed=1, store=str(tmp_path / "s"))
    assert again.data.frame(["who"])["who"].to_list() == ["bob"]
    assert erase(lineage, "ada-b").reach.rows == 0
    told = again.sql(
        "select row_id, reason from dropped_rows where run_id = $run", run=again.run_id
    )
    assert set(told["row_id"]) == set(done.reach.row_ids)
    assert set(told["reason"]) == {"erased at the person's request"}
    rows = again.sql("select distinct m.row_id from model_rows m join models using (model_id) "
                     "where run_id = $run", run=again.run_id)  # fmt: skip
    assert not set(rows["row_id"]) & set(done.reach.row_ids)
    assert len(first.data.sources) == 1
    assert verify_store(lineage.store, (), None).passed


@dataclass(frozen=True)
class Model2(Stage):
    """A model of all rows, whatever their columns."""

    name: ClassVar[str] = "drill.model_two"
    gives: ClassVar[tuple[str, ...]] = ("model",)

    def run(self, data: Dataset, context: Context) -> Yield:
        path = context.scratch / "m.bin"
        path.write_bytes(str(len(data)).encode() * 100)
        return Yield(artifacts=(Artifact("m", "model", path, row_ids=data.row_ids),))


@dataclass(frozen=True)
class Telling(RowStage):
    """Sets many rows aside, for reasons that quote the person."""

    name: ClassVar[str] = "drill.telling"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {
            "written by ada-lovelace": pl.col("n") % 4 == 1,
            "even": pl.col("n") % 2 == 0,
        }


def test_reasons_kept_by_position_lose_the_person_too(tmp_path: Path):
    """Where many rows leave, reasons stand by position and name no row id."""
    file, n = tmp_path / "rows.parquet", 4000
    who = ["ada-lovelace" if i % 4 == 1 else f"p{i:05d}" for i in range(n)]
    pl.DataFrame({"who": who, "n": range(n)}).write_parquet(file)
    stages = [ReadParquet(str(file), subject="who"), Model2(), Telling()]
    run = Pipeline("p", stages).run(seed=1, store=str(tmp_path / "s"))
    lineage = Lineage(tmp_path / "s")
    before = run.sql("select row_id, reason from dropped_rows where reason = 'even'")
    aside = lineage.sql("select count(*) as n from dropped_rows").item()
    assert Stored(lineage).positions
    erase(lineage, "ada-lovelace", carry_out=True)
    after = lineage.sql("select row_id, reason from dropped_rows where reason = 'even'")
    assert set(after.rows()) == set(before.rows())
    told = lineage.sql("select distinct reason from dropped_rows")["reason"]
    assert set(told) == {"even", "erased", "erased at the person's request"}
    assert (
        lineage.sql("select count(*) as n from dropped_rows where stage = 'drill.telling'").item()
        == aside
    )
    for path, data in contents(lineage.store):
        assert b"lovelace" not in data or path.name == "rows.parquet", path
    assert verify_store(lineage.store, (), None).passed


def test_a_model_trained_anew_settles_the_erasure(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    done = erase(drill.lineage, drill.people[0], carry_out=True)
    waiting = {t.name for t in settle(drill.lineage).things}
    assert waiting
    assert {t.remedy for t in settle(drill.lineage, carry_out=True).things} == {"pending"}
    assert told_by(drill, done.erasure_id).completed_at is None

    # The same rows again: who was erased is set aside, so the models learn nothing of them.
    again(tmp_path)
    settled = settle(drill.lineage, carry_out=True)
    assert {t.name for t in settled.things} == waiting
    assert {t.remedy for t in settled.things} == {"retrained"}
    assert settle(drill.lineage).things == ()
    told = told_by(drill, done.erasure_id)
    assert told.completed_at is not None
    assert {r.remedy for r in told.reached if r.thing.name in waiting} == {"retrained"}
    assert verify_store(drill.lineage.store, (), None).passed


def test_what_is_not_trained_anew_can_be_retired(tmp_path: Path):
    drill = drilled(tmp_path, 6)
    done = erase(drill.lineage, drill.people[0], carry_out=True)
    settled = settle(drill.lineage, carry_out=True, retire=True)
    assert {t.remedy for t in settled.things} == {"retired"}
    assert all(drill.lineage.object_path(t.digest) is None for t in settled.things)
    assert told_by(drill, done.erasure_id).completed_at is not None
    assert verify_store(drill.lineage.store, (), None).passed


def test_a_settlement_cut_short_is_finished_by_the_next(tmp_path: Path, monkeypatch):
    from datapipe.lineage.erasing import Erasing

    drill = drilled(tmp_path, 6)
    done = erase(drill.lineage, drill.people[0], carry_out=True)

    def dies(*_: object) -> None:
        raise OSError(5, "the machine stops")

    with monkeypatch.context() as broken:
        broken.setattr(Erasing, "remove", dies)
        with pytest.raises(OSError, match="stops"):
            settle(drill.lineage, carry_out=True, retire=True)
    assert told_by(drill, done.erasure_id).completed_at is None
    settle(drill.lineage, carry_out=True)
    assert told_by(drill, done.erasure_id).completed_at is not None
    held = (*done.reach.of("model"), *done.reach.of("export"))
    assert not [h.name for h in held if drill.lineage.object_path(h.digest)]


def told_by(drill: Drill, erasure: str) -> ErasurePredicate:
    """What the newest receipt of an erasure says."""
    digest = drill.lineage.sql(
        "select digest from attestations where run_id = $id order by seq desc", id=erasure
    )["digest"][0]
    return read_predicate(Envelope.load(drill.lineage.object_path(digest)).statement())


def short_store(tmp_path: Path) -> Lineage:
    rows = pl.DataFrame({"who": [f"p{i % 9}" for i in range(90)], "n": [i % 4 for i in range(90)]})
    rows.write_parquet(tmp_path / "a.parquet")
    read = ReadParquet(tmp_path / "a.parquet", subject="who")
    Pipeline("p", [read, LongEnough()]).run(seed=1, store=tmp_path / "store")
    return Lineage(tmp_path / "store")


def files_of(lineage: Lineage) -> dict[str, bytes]:
    lineage.close()
    kept = [p for p in lineage.store.rglob("*") if p.is_file() and not p.name.endswith("lock")]
    return {str(p): p.read_bytes() for p in kept}


@pytest.mark.parametrize("table", ["datasets", "row_drops"])
def test_a_damaged_table_stops_an_erasure_before_anything_is_taken_out(tmp_path: Path, table: str):
    """What took its place would look sound."""
    lineage = short_store(tmp_path)
    asked = {"datasets": "select digest from datasets", "row_drops": _SIDECARS}
    path = lineage.object_path(lineage.sql(asked[table])["digest"][0])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = files_of(lineage)
    with pytest.raises(TrustError, match="does not have the digest"):
        erase(lineage, "p3", carry_out=True)
    assert files_of(lineage) == before
    lineage.rebuild(accept_loss=True)
    if table == "row_drops":  # else no data set is left
        assert erase(lineage, "p3", carry_out=True).done


_SIDECARS = "select digest from step_io where role = 'sidecar'"


def test_a_lost_table_stops_an_erasure_until_the_loss_is_accepted(tmp_path: Path):
    lineage = short_store(tmp_path)
    dropped = lineage.sql("from dropped_rows").height
    lineage.object_path(lineage.sql(_SIDECARS)["digest"][0]).unlink()
    with pytest.raises(TrustError, match="is missing"):
        erase(lineage, "p3", carry_out=True)
    assert lineage.sql("from dropped_rows").height == dropped > 0
    assert lineage.sql("from erasures").height == 0
    lineage.rebuild(accept_loss=True)
    done = erase(lineage, "p3", carry_out=True)
    assert (done.done, bool(done.receipt)) == (True, True)
    assert erase(lineage, "p4", carry_out=True).done


def test_an_erasure_in_a_process_of_its_own_has_the_relations_it_asks_by() -> None:
    """In a process of tests somebody else has loaded them."""
    asked = (
        "from datapipe.execute import _reach; print(_reach.started({}).sql('select 7').pl().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("7\n", "")
