# SPDX-License-Identifier: Apache-2.0
"""Whatever is changed in a store behind our back, verify names the file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import duckdb
import pytest

from datapipe.errors import DatapipeError, ExecutionError
from datapipe.lineage.engine import sorted_error
from datapipe.lineage.index import Index
from datapipe.lineage.store import Lineage


def damaged(path: Path, place: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    place = random.Random(path.name).randrange(len(data)) if place is None else place
    data[place] ^= 1
    path.write_bytes(data)


def files(store: Path) -> list[str]:
    """Every file that holds something: all but locks and the index, which has its own tests."""
    found = (
        p for p in store.rglob("*") if p.is_file() and p.name != "lock" and p.suffix != ".lock"
    )
    return sorted(str(p.relative_to(store)) for p in found if p.name != "lineage.duckdb")


def test_a_sound_store_has_no_problems(filled: Lineage):
    assert filled.verify() == []
    assert Lineage(filled.store).verify() == []


def test_what_may_not_be_opened_is_not_told_as_damage():
    said = 'IO Error: Cannot open file "/s/lineage.duckdb": Permission denied'
    told = sorted_error(duckdb.IOException(said), Path("lineage.duckdb"))
    assert (told.exit_code, told.code) == (6, "DP-EXEC-005")
    assert told.message == "lineage.duckdb cannot be opened: Permission denied"


def test_files_of_somebody_else_are_passed_over(filled: Lineage):
    before = filled.sql("select count(*) from log_entries").item()
    for name in ("notes.log", "1.log", "²³.log", "000001.log.bak", "a.bin"):
        (filled.store / "journal" / name).write_text("by an editor")
    (filled.store / "leases").mkdir(exist_ok=True)
    (filled.store / "leases" / ".directory").mkdir()
    (filled.store / "log" / "x.note").write_text("a note")
    assert filled.verify() == []
    filled.rebuild(accept_loss=True)
    filled.append([("runs", {"run_id": "later"})])
    assert filled.sql("select count(*) from log_entries").item() == before + 1
    assert (filled.store / "journal" / "notes.log").read_text() == "by an editor"


def test_a_flipped_byte_in_every_file_is_named(filled: Lineage, tmp_path: Path):
    """Each is looked at whatever is wrong with the others, so a folder is flipped at once."""
    names = files(filled.store)
    assert {name.split("/")[0] for name in names} == {"format", "journal", "log", "objects"}
    at_once: dict[str, list[str]] = {}
    for name in names:
        folder = name.split("/")[0]
        at_once.setdefault(folder if folder in ("log", "objects") else name, []).append(name)
    for group in at_once.values():
        copy = tmp_path / "copy"
        shutil.copytree(filled.store, copy)
        for name in group:
            damaged(copy / name)
        try:
            problems = [problem.path for problem in Lineage(copy).verify()]
        except DatapipeError as error:  # a layout from the future is refused at the door
            problems = group if "version" in error.message else []
        assert set(group) <= set(problems), (group, problems)
        shutil.rmtree(copy)


def test_every_byte_of_the_journal_counts(filled: Lineage):
    segment = filled.store / "journal" / "000001.log"
    size = segment.stat().st_size
    for place in random.Random(7).sample(range(size), 8):
        damaged(segment, place)
        assert "journal/000001.log" in [p.path for p in Lineage(filled.store).verify()]
        damaged(segment, place)
    assert filled.verify() == []


@pytest.mark.parametrize("cut", [1, 60, 500])
def test_a_shortened_journal_is_noticed_by_head_and_checkpoint(filled: Lineage, cut):
    segment = filled.store / "journal" / "000001.log"
    segment.write_bytes(segment.read_bytes()[:-cut])
    found = {p.path: p.says for p in Lineage(filled.store).verify()}
    assert "journal/000001.log" in found
    (filled.store / "journal" / "head").unlink()
    Lineage(filled.store).rebuild(accept_loss=True)
    told = [p.says for p in Lineage(filled.store).verify()]
    if cut == 500:  # records under the checkpoint are gone, and nobody can hide that
        assert told == ["tail lost: the last checkpoint covers 12 records, store has 4"]
    else:  # only the record of the checkpoint itself is gone, its note still holds
        assert told == []


def test_a_rewritten_journal_does_not_fit_its_checkpoint(filled: Lineage, tmp_path: Path):
    other = Lineage(tmp_path / "other", create=True)
    for _ in range(30):
        other.append([("runs", {"run_id": "forged"})])
    shutil.rmtree(filled.store / "journal")
    shutil.copytree(other.store / "journal", filled.store / "journal")
    (filled.store / "lineage.duckdb").unlink()
    told = [p.code for p in Lineage(filled.store).verify() if p.path.startswith("log/")]
    assert "DP-TRUST-710" in told


@pytest.mark.parametrize("name", ["journal/000001.log", "journal/head", "log/checkpoint"])
def test_a_missing_file_is_named(filled: Lineage, name):
    (filled.store / name).unlink()
    assert name in [p.path for p in Lineage(filled.store).verify()]


def test_missing_objects_and_notes_are_named(filled: Lineage):
    gone = [*filled.objects.iterdir(), *(filled.store / "log").glob("*.note")]
    for path in gone:
        path.unlink()
    told = {p.path.partition(".")[0] for p in Lineage(filled.store).verify()}
    assert {f"{p.parent.name}/{p.name}".partition(".")[0] for p in gone} <= told


def test_an_erased_object_is_not_missing(filled: Lineage):
    digest = filled.sql("select object from datasets").item()
    filled.object_path(digest).unlink()
    assert len(Lineage(filled.store).verify()) == 1
    body = {"erasure_id": "e1", "kind": "dataset", "digest": digest, "remedy": "retired"}
    filled.append([("erased", body)])
    assert filled.verify() == []


def test_an_object_that_was_made_again_after_its_erasure_must_be_there(filled: Lineage):
    digest = filled.sql("select object from datasets").item()
    body = {"erasure_id": "e1", "kind": "dataset", "digest": digest, "remedy": "retired"}
    filled.append([("erased", body), ("datasets", {"digest": digest, "object": digest})])
    assert filled.verify() == []
    filled.object_path(digest).unlink()
    assert [p.code for p in Lineage(filled.store).verify()] == ["DP-TRUST-703"]


@pytest.mark.parametrize(
    ("order", "table", "records"),
    [
        ("update steps set rows_out = 9", "steps", "records 5"),
        ("delete from row_drops where row_id & 7 = 3", "row_drops", "records 6"),
        ("insert into runs (seq, run_id) values (2, 'x')", "runs", "records 2"),
        ("update log_entries set leaf = '00' where seq = 4", "log_entries", "records 4"),
    ],
)
def test_an_edited_index_is_told_record_by_record(filled: Lineage, order, table, records):
    with duckdb.connect(str(filled.store / "lineage.duckdb")) as connection:
        connection.execute(order)
    told = Lineage(filled.store).verify()
    assert [p.path for p in told] == ["lineage.duckdb"]
    assert told[0].says == f"{table} is not what the journal gives: {records}"
    filled.rebuild()
    assert filled.verify() == []


def test_an_edited_view_is_told(filled: Lineage):
    with duckdb.connect(str(filled.store / "lineage.duckdb")) as connection:
        connection.execute("create or replace view unsigned_inputs as from sources where false")
    assert "unsigned_inputs" in Lineage(filled.store).verify()[0].says


def test_flipped_bits_in_the_index_never_give_another_answer(filled: Lineage):
    questions = ["from dropped_rows order by all", "from steps", "from model_sources"]
    truth = [filled.sql(q) for q in questions]
    index = filled.store / "lineage.duckdb"
    whole = index.read_bytes()
    chance = random.Random(3)
    codes: list[int] = []
    for _ in range(20):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        index.write_bytes(data)
        asked = Lineage(filled.store)
        try:
            found = [asked.sql(q) for q in questions]
        except DatapipeError as error:
            codes.append(error.exit_code)
        else:
            assert all(a.equals(b) for a, b in zip(found, truth, strict=True))
    assert set(codes) in ({4}, {4, 6})


def test_a_torn_end_that_nobody_was_promised_is_no_problem(filled: Lineage):
    with (filled.store / "journal" / "000001.log").open("ab") as file:
        file.write(b"DPJ1half a frame")
    assert Lineage(filled.store).verify() == []
    assert len(list((filled.store / "journal").glob("torn-*.bin"))) == 1


@pytest.mark.parametrize("index", ["up to date", "behind", "missing"])
def test_a_store_that_cannot_be_written_is_sound_all_the_same(filled: Lineage, monkeypatch, index):
    path = filled.store / "lineage.duckdb"
    if index == "behind":
        filled.append([("runs", {"run_id": "later", "pipeline": "p"})])
    elif index == "missing":
        path.unlink()

    def full(self: Index) -> bool:
        raise ExecutionError("disk full", code="DP-EXEC-028")

    monkeypatch.setattr(Index, "catch_up", full)
    assert filled.verify() == []


def test_an_index_that_nobody_could_look_at_is_not_called_false(filled: Lineage, monkeypatch):
    def held(*_: object) -> None:
        raise ExecutionError("held by process 7", code="DP-EXEC-050")

    monkeypatch.setattr("datapipe.lineage.check.opened", held)
    with pytest.raises(ExecutionError, match="held by process 7"):
        filled.verify()
