# SPDX-License-Identifier: Apache-2.0
"""What nothing needs goes, what anything may need stays, and nothing goes while a run works."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from datapipe.cli.app import main
from datapipe.errors import ExecutionError, TrustError
from datapipe.lineage.garbage import garbage
from datapipe.lineage.locks import locked
from datapipe.lineage.store import Lineage


def test_only_what_no_record_names_goes(filled: Lineage):
    needed = {p.name for p in filled.objects.iterdir()}
    left, path = filled.put_bytes(b"left by a crash", suffix=".bin")
    torn = filled.store / "journal" / "torn-000001-9.bin"
    torn.write_bytes(b"never acknowledged")
    before = filled.sql("from row_history order by all")
    assert filled.gc() == []  # too young: somebody may be about to name it
    found = filled.gc(older_than_s=0)
    assert {g.path for g in found} == {path, torn}
    assert path.exists()
    filled.gc(dry_run=False, older_than_s=0)
    assert not path.exists()
    assert filled.object_path(left) is None
    assert {p.name for p in filled.objects.iterdir()} == needed
    assert filled.verify() == []
    filled.rebuild()
    assert filled.sql("from row_history order by all").equals(before)


def test_work_to_go_on_with_is_kept_for_a_week(filled: Lineage):
    folder = filled.store / "partial" / "ab"
    folder.mkdir(parents=True)
    rows, listed = folder / "rows.parquet", folder / "shards.jsonl"
    for path, days in ((rows, 9), (listed, 6)):
        path.write_bytes(b"unfinished")
        then = time.time() - days * 86_400
        os.utime(path, (then, then))
    assert filled.gc(older_than_s=0) == []
    os.utime(listed, (then - 2 * 86_400, then - 2 * 86_400))
    assert {g.path for g in filled.gc(dry_run=False, older_than_s=0)} == {rows, listed}
    assert not rows.exists()


def test_a_running_run_keeps_it_out(filled: Lineage):
    filled.append([("run_events", {"run_id": "works", "event": "started"})])
    filled.put_bytes(b"not recorded yet")
    with pytest.raises(ExecutionError) as caught:
        filled.gc(dry_run=False, older_than_s=0)
    assert caught.value.exit_code == 6
    assert len(filled.gc(older_than_s=0)) == 1  # looking is always allowed


def test_a_damaged_journal_keeps_everything(filled: Lineage):
    _, path = filled.put_bytes(b"perhaps needed")
    journal = filled.store / "journal" / "000001.log"
    data = bytearray(journal.read_bytes())
    data[200] ^= 1
    journal.write_bytes(data)
    with pytest.raises(TrustError):
        Lineage(filled.store).gc(dry_run=False, older_than_s=0)
    assert path.exists()


@pytest.mark.parametrize("part", ["objects", "cache"])
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(filled: Lineage, monkeypatch, part: str):
    folder, whole = filled.store / part, os.listdir
    folder.mkdir(exist_ok=True)

    def kept_out(path):
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(os, "listdir", kept_out)
    monkeypatch.setattr(os, "scandir", kept_out)
    with pytest.raises(ExecutionError, match=f"{part} cannot be read"):
        filled.gc(dry_run=True, older_than_s=0)


def test_the_command_shows_first_and_removes_when_told(filled: Lineage, capfd):
    _, path = filled.put_bytes(b"left", suffix=".bin")
    old = time.time() - 7200
    os.utime(path, (old, old))
    store = str(filled.store)
    assert main(["lineage", "gc", "--json", "--store", store]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["files"] == [
        {"path": f"objects/{path.name}", "bytes": 4, "says": "an object that no record names"}
    ]
    assert told["removed"] is False
    assert path.exists()
    assert main(["lineage", "gc", "--remove", "--store", store]) == 0
    assert "1 files, 4 bytes removed" in capfd.readouterr().out
    assert not path.exists()
    assert main(["lineage", "gc", "--remove", "--dry-run", "--store", store]) == 2


def test_objects_that_another_store_may_need_are_left_alone(filled: Lineage, tmp_path):
    other = Lineage(tmp_path / "other", create=True)
    other.close()
    (other.store / "objects").rmdir()
    (other.store / "objects").symlink_to(filled.objects)
    assert len(other.gc(older_than_s=0)) == len(list(filled.objects.iterdir()))
    with pytest.raises(ExecutionError, match="is a link"):
        other.gc(dry_run=False, older_than_s=0)
    assert filled.verify() == []


@pytest.mark.parametrize("at_work", ["naming an object", "making an index"])
def test_nothing_goes_that_somebody_is_about_to_name(filled: Lineage, monkeypatch, at_work: str):
    monkeypatch.setattr("datapipe.lineage.store.GC_WAIT_S", 0.05)
    index = filled.store / "lineage.lock"
    with filled.naming() if at_work == "naming an object" else locked(index):
        _, path = filled.put_bytes(b"not named yet")
        with pytest.raises(ExecutionError, match="is held by"):
            Lineage(filled.store).gc(dry_run=False, older_than_s=0)
        assert path.exists()


def test_a_run_that_begins_waits_for_gc(filled: Lineage, monkeypatch):
    began: list[str] = []
    found = garbage

    def slow(*args, **kwargs):
        thread.start()
        thread.join(0.3)
        assert not began
        return found(*args, **kwargs)

    def begin() -> None:
        Lineage(filled.store).append([("run_events", {"run_id": "new", "event": "started"})])
        began.append("new")

    thread = threading.Thread(target=begin)
    monkeypatch.setattr("datapipe.lineage.store.garbage", slow)
    filled.gc(dry_run=False, older_than_s=0)
    thread.join(10)
    assert began == ["new"]
