# SPDX-License-Identifier: Apache-2.0
"""Remembered digests equal fresh ones, whatever happened in between."""

from __future__ import annotations

import os
import time

import pytest

from datapipe.manifest import remembered
from datapipe.manifest.files import hash_files
from datapipe.manifest.listing import list_files
from datapipe.manifest.remembered import remembered_digests

LONG_AGO = time.time() - 3600


@pytest.fixture
def quiet(reviews, tmp_path):
    """A folder whose digests are remembered; its files were quiet before."""
    for file in list_files(reviews).files:
        os.utime(file.path, (LONG_AGO + 0.25, LONG_AGO + 0.25))
    time.sleep(0.06)  # the time of the last change of an inode cannot be set
    memory = tmp_path / "memory.json"
    remembered_digests(list_files(reviews).files, memory)
    return reviews, memory


def both(folder, memory):
    files = list_files(folder).files
    return remembered_digests(files, memory), hash_files(files)


def count_hashed(monkeypatch):
    seen = []

    def counting(files):
        seen.extend(file.name for file in files)
        return hash_files(files)

    monkeypatch.setattr(remembered, "hash_files", counting)
    return seen


def test_nothing_changed_nothing_read(quiet, monkeypatch):
    seen = count_hashed(monkeypatch)
    ours, fresh = both(*quiet)
    assert ours == fresh
    assert seen == []


def test_one_changed_one_read(quiet, monkeypatch):
    folder, memory = quiet
    (folder / "rows.csv").write_bytes(b"changed")
    seen = count_hashed(monkeypatch)
    ours, fresh = both(folder, memory)
    assert ours == fresh
    assert seen == ["rows.csv"]


def test_same_size_and_old_date_do_not_deceive(quiet):
    """Whoever sets the modification time back cannot set the change time back."""
    folder, memory = quiet
    path = folder / "rows.csv"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"hello", b"jello"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    ours, fresh = both(folder, memory)
    assert ours == fresh


def test_replaced_removed_and_added_files(quiet):
    folder, memory = quiet
    (folder / "new").write_bytes(b"new")
    (folder / "sub-a").replace(folder / "rows.csv")
    (folder / "empty").unlink()
    ours, fresh = both(folder, memory)
    assert ours == fresh


def test_a_file_written_just_now_is_not_remembered(reviews, tmp_path, monkeypatch):
    memory = tmp_path / "memory.json"
    soon = time.time_ns() + 10_000_000_000
    for file in list_files(reviews).files:
        os.utime(file.path, ns=(soon, soon))
    remembered_digests(list_files(reviews).files, memory)
    seen = count_hashed(monkeypatch)
    both(reviews, memory)
    assert len(seen) == 5


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"form":"datapipe-digests/1","files":[1]}'])
def test_a_damaged_memory_is_as_good_as_none(quiet, text):
    folder, memory = quiet
    memory.write_text(text)
    ours, fresh = both(folder, memory)
    assert ours == fresh
