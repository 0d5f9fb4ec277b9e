# SPDX-License-Identifier: Apache-2.0
"""The journal keeps what it acknowledged, sets the rest aside, and says when it lost some."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from datapipe.errors import ExecutionError, TrustError
from datapipe.lineage import journal as module
from datapipe.lineage.frames import BrokenFrame
from datapipe.lineage.journal import Journal


def bodies(journal: Journal) -> list[int]:
    return [record.body["n"] for record in journal.read()]


def add(journal: Journal, *numbers: int) -> None:
    journal.append([("runs", {"n": n}) for n in numbers])


def test_records_are_numbered_across_segments(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1000)
    journal = Journal(tmp_path)
    for n in range(40):
        add(journal, n)
    assert len(list(tmp_path.glob("*.log"))) > 3
    assert bodies(Journal(tmp_path)) == list(range(40))
    assert [r.seq for r in journal.read()] == list(range(1, 41))
    middle = journal.read(until=journal.tail().mark)
    assert sum(1 for _ in middle) == 40
    add(Journal(tmp_path), 40)
    assert bodies(journal)[-1] == 40


def test_reading_on_from_a_mark(tmp_path: Path):
    journal = Journal(tmp_path)
    add(journal, 0, 1)
    mark = journal.tail().mark
    add(journal, 2)
    assert [r.body["n"] for r in journal.read(mark)] == [2]


def test_the_kind_is_told_without_parsing(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append([("runs", {"kind": "steps", "x": '"kind":"steps","seq":1}'}), ("steps", {})])
    assert [[r.is_of(k) for k in ("runs", "steps")] for r in journal.read()] == [
        [True, False],
        [False, True],
    ]


@pytest.mark.parametrize("keep_head", [True, False])
def test_a_torn_end_is_set_aside_and_never_extended(tmp_path: Path, keep_head):
    add(Journal(tmp_path), 1, 2)
    segment = tmp_path / "000001.log"
    whole = segment.read_bytes()
    head = (tmp_path / "head").read_bytes()
    add(Journal(tmp_path), 3)
    torn = segment.read_bytes()[len(whole) : -7]
    segment.write_bytes(whole + torn)
    if keep_head:
        (tmp_path / "head").write_bytes(head)
    else:
        (tmp_path / "head").unlink()
    journal = Journal(tmp_path)
    add(journal, 4)
    assert bodies(journal) == [1, 2, 4]
    assert [path.read_bytes() for path in journal.torn()] == [torn]


def test_a_whole_batch_behind_the_head_counts(tmp_path: Path):
    add(Journal(tmp_path), 1)
    head = (tmp_path / "head").read_bytes()
    add(Journal(tmp_path), 2)
    (tmp_path / "head").write_bytes(head)
    journal = Journal(tmp_path)
    add(journal, 3)
    assert bodies(journal) == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_lost_records_stop_every_write(tmp_path: Path, cut):
    journal = Journal(tmp_path)
    add(journal, 1)
    add(journal, 2)
    segment = tmp_path / "000001.log"
    segment.write_bytes(segment.read_bytes()[:-cut] if cut < 10_000 else b"")
    before = segment.read_bytes()
    for opened in (journal, Journal(tmp_path)):
        with pytest.raises(TrustError, match="tail lost: 2 records were acknowledged"):
            add(opened, 3)
    assert segment.read_bytes() == before
    accepted = Journal(tmp_path)
    accepted.accept()
    add(accepted, 9)
    assert bodies(accepted) == ([1, 9] if cut < 10_000 else [9])


def test_damage_in_the_middle_is_not_taken_for_a_crash(tmp_path: Path):
    add(Journal(tmp_path), 1)
    size = (tmp_path / "000001.log").stat().st_size
    add(Journal(tmp_path), 2)
    data = bytearray((tmp_path / "000001.log").read_bytes())
    data[size - 3] ^= 1
    (tmp_path / "000001.log").write_bytes(data)
    (tmp_path / "head").unlink()
    with pytest.raises(BrokenFrame):
        add(Journal(tmp_path), 3)
    assert (tmp_path / "000001.log").read_bytes() == data


def test_a_damaged_head_is_made_anew(tmp_path: Path):
    add(Journal(tmp_path), 1)
    head = bytearray((tmp_path / "head").read_bytes())
    head[12] ^= 1
    (tmp_path / "head").write_bytes(head)
    assert Journal(tmp_path).acknowledged() is None
    journal = Journal(tmp_path)
    add(journal, 2)
    assert bodies(journal) == [1, 2]
    assert Journal(tmp_path).acknowledged() is not None


@pytest.mark.parametrize(
    ("code", "exit_hint"), [(errno.ENOSPC, "DP-EXEC-028"), (errno.EIO, "DP-EXEC-005")]
)
@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch, code, exit_hint, call):
    journal = Journal(tmp_path)
    add(journal, 1)
    before = (tmp_path / "000001.log").read_bytes()
    real = getattr(os, call)
    failing = iter([True])

    def fail(*arguments: object) -> object:
        if call == "pwrite" and len(arguments[1]) < 70:
            return real(*arguments)  # the note in the lock file
        if next(failing, False):
            if call == "pwrite":
                real(arguments[0], arguments[1][:20], arguments[2])
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(ExecutionError) as caught:
            add(journal, 2)
    assert caught.value.code == exit_hint
    assert caught.value.exit_code == 6
    assert (tmp_path / "000001.log").read_bytes() == before
    add(journal, 3)
    assert bodies(Journal(tmp_path)) == [1, 3]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:5], at))
    journal = Journal(tmp_path)
    add(journal, 1, 2)
    assert bodies(journal) == [1, 2]


def test_appending_nothing_writes_nothing(tmp_path: Path):
    assert Journal(tmp_path).append([]).seq == 0
    assert not (tmp_path / "000001.log").exists()
