# SPDX-License-Identifier: Apache-2.0
"""Listing and hashing: plain files only, and a digest that names and sizes belong to."""

from __future__ import annotations

import hashlib
import os
import socket

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.merkle import leaf_hash, root
from datapipe.core.parquet import sink_rows
from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.canonical import canonical_json
from datapipe.manifest.checks import Reason
from datapipe.manifest.compare import compare_files
from datapipe.manifest.files import FileDigest, Tree, hash_file, hash_tree, hasher
from datapipe.manifest.listing import list_files, name_problem

NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


def test_a_folder_is_listed_by_code_points(reviews):
    names = [file.name for file in list_files(reviews).files]
    assert names == ["empty", "rows.csv", "sous\u00e9\u4e2d.txt", "sub-a", "sub/x"]
    assert names == sorted(names)


def test_digests_are_those_of_hashlib(reviews):
    for file in hash_tree(reviews).files:
        data = (reviews / file.name).read_bytes()
        assert (file.size, file.digest) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 7])
def test_sizes_around_the_buffer(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data[::-1])
    tree = hash_tree(tmp_path)
    assert [file.digest for file in tree.files] == [
        hashlib.sha256(data).hexdigest(),
        hashlib.sha256(data[::-1]).hexdigest(),
    ]


@given(st.lists(st.tuples(NAME, st.integers(0, 2**40)), min_size=1, max_size=6))
def test_the_tree_is_the_root_over_canonical_json(entries):
    digest = hashlib.sha256(b"x").hexdigest()
    files = tuple(FileDigest(name, size, digest) for name, size in entries)
    forms = ({"name": f.name, "sha256": f.digest, "size": f.size} for f in files)
    assert Tree(files).root == root(leaf_hash(canonical_json(form)) for form in forms).hex()


def test_the_tree_binds_names_sizes_contents_and_order():
    one, two = FileDigest("a", 1, "0" * 64), FileDigest("b", 2, "1" * 64)
    trees = [
        Tree((one, two)),
        Tree((two, one)),
        Tree((one,)),
        Tree((FileDigest("b", 1, "0" * 64), FileDigest("a", 2, "1" * 64))),
        Tree((FileDigest("a", 2, "0" * 64), two)),
        Tree((FileDigest("a", 1, "2" * 64), two)),
    ]
    assert len({tree.root for tree in trees}) == len(trees)
    with pytest.raises(DeclarationError):
        _ = Tree((FileDigest("a", 1, "0" * 64, "blake3"),)).root


def make_link(folder):
    (folder / "odd").symlink_to("rows.csv")


def make_folder_link(folder):
    (folder / "odd").symlink_to("sub", target_is_directory=True)


def make_dangling_link(folder):
    (folder / "odd").symlink_to("nowhere")


def make_pipe(folder):
    os.mkfifo(folder / "odd")


def make_socket(folder):
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(folder)  # the path of a socket is short
            made.bind("odd")
        finally:
            os.fchdir(here)
            os.close(here)


def make_backslash(folder):
    (folder / "odd\\name").write_bytes(b"")


def make_newline(folder):
    (folder / "odd\nname").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_link, Reason.SYMLINK),
        (make_folder_link, Reason.SYMLINK),
        (make_dangling_link, Reason.SYMLINK),
        (make_pipe, Reason.SPECIAL_FILE),
        (make_socket, Reason.SPECIAL_FILE),
        (make_backslash, Reason.BACKSLASH),
        (make_newline, Reason.BAD_NAME),
    ],
)
def test_what_is_not_plain_is_refused(reviews, make, reason):
    make(reviews)
    with pytest.raises(TrustError) as caught:
        hash_tree(reviews)
    assert caught.value.code == reason
    assert str(reviews) in str(caught.value)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"odd\xff")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system stores only unicode names")
    with pytest.raises(TrustError) as caught:
        hash_tree(tmp_path)
    assert caught.value.code == Reason.BAD_NAME


@pytest.mark.parametrize("make", [make_link, make_pipe])
def test_a_single_file_is_plain_too(reviews, make):
    make(reviews)
    with pytest.raises(TrustError):
        hash_file(reviews / "odd")
    with pytest.raises(TrustError):
        hash_tree(reviews / "odd")


def test_empty_and_missing_folders_are_refused(tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    for path, reason in (("empty", Reason.EMPTY_SET), ("none", Reason.MISSING)):
        with pytest.raises(TrustError) as caught:
            hash_tree(tmp_path / path)
        assert caught.value.code == reason


def test_git_files_at_the_top_are_left_out(reviews):
    before = hash_tree(reviews).root
    (reviews / ".git").mkdir()
    (reviews / ".git" / "HEAD").write_text("ref")
    (reviews / ".gitignore").write_text("*")
    assert hash_tree(reviews).root == before
    (reviews / "sub" / ".gitignore").write_text("*")
    assert hash_tree(reviews).root != before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b.txt", None),
        ("\u00e9\u4e2d", None),
        ("..a", None),
        ("a..", None),
        ("../a", Reason.PARENT_PATH),
        ("a/../b", Reason.PARENT_PATH),
        ("..", Reason.PARENT_PATH),
        ("/etc/passwd", Reason.ABSOLUTE_PATH),
        ("C:/a", Reason.ABSOLUTE_PATH),
        ("a\\b", Reason.BACKSLASH),
        ("..\\a", Reason.BACKSLASH),
        ("", Reason.BAD_NAME),
        (".", Reason.BAD_NAME),
        ("./a", Reason.BAD_NAME),
        ("a//b", Reason.BAD_NAME),
        ("a/", Reason.BAD_NAME),
        ("a\x00b", Reason.BAD_NAME),
        ("a\x7f", Reason.BAD_NAME),
        ("\ud800", Reason.BAD_NAME),
    ],
)
def test_names(name, reason):
    assert name_problem(name) is reason


def test_unknown_hashes_are_refused():
    with pytest.raises(TrustError) as caught:
        hasher("md5")
    assert caught.value.code == Reason.UNKNOWN_HASH


def test_a_flipped_byte_of_a_table_is_told_with_its_row_group_and_column(tmp_path):
    """SG1: pages that datapipe wrote have checksums of their own."""
    path = tmp_path / "rows.parquet"
    sink_rows(pl.LazyFrame({"a": range(1000), "b": ["x"] * 1000}), path)
    signed = hash_tree(path).files
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)
    (check,) = compare_files(signed, path)
    assert "damaged in row group 0, column 'a'" in check.reason
