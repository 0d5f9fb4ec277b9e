# SPDX-License-Identifier: Apache-2.0
"""`audit` reads from a store of objects where that was allowed, as a reader does, else nothing."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import polars as pl
import pytest

from datapipe.core.dataset import Dataset
from datapipe.core.pipeline import Pipeline
from datapipe.errors import DeclarationError
from datapipe.execute.bucket import Bucket
from datapipe.stages import ReadParquet


@pytest.fixture
def bucket(moto, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("DATAPIPE_REMOTE", "s3")
    monkeypatch.setenv("DATAPIPE_CACHE", str(tmp_path / "cache"))
    where = f"s3://shelf/cli/%s?endpoint_override=127.0.0.1:{moto}&scheme=http&region=us-east-1"
    texts = [f"a text of the number {i} and {i * i}" for i in range(60)]
    rows = pl.DataFrame({"t": texts, "y": ["a", "b"] * 30})
    for name in ("one", "two", "three"):
        Bucket.of(where % "").put(
            f"{name}.parquet", Dataset.of(rows).save(tmp_path / f"{name}.parquet")
        )
    return where


def test_an_audit_reads_objects_and_so_does_its_reference(datapipe, bucket):
    words = ("--label", "y", "--text", "t", "--no-fail", "--json")
    one = datapipe("audit", bucket % "one.parquet", *words)
    assert one.code == 0, one.err
    assert one.json["rows"] == 60
    assert one.json["pipeline"] == "one.parquet"
    many = datapipe("audit", bucket % "t*.parquet", *words)
    assert (many.code, many.json["rows"]) == (0, 120)
    held = datapipe("audit", bucket % "one.parquet", "--reference", bucket % "two.parquet", *words)
    assert held.code == 0, held.err
    assert "synthetic.score" in {f["kind"] for f in held.json["findings"]}


def test_what_is_not_there_or_is_several_is_told(datapipe, bucket):
    gone = datapipe("audit", bucket % "none.parquet", "--label", "y")
    assert (gone.code, gone.message[-46:]) == (
        2,
        "none.parquet: there is no such object [DP-READ-041]"[-46:],
    )
    several = datapipe("audit", bucket % "one.parquet", "--reference", bucket % "t*.parquet")
    assert (several.code, "means 2 objects" in several.message) == (2, True)


@pytest.mark.parametrize(
    ("address", "allowed", "told"),
    [
        ("s3://b/a.parquet", "", "set DATAPIPE_REMOTE=s3 to allow it"),
        ("s3://b/a.parquet", "gs", "set DATAPIPE_REMOTE=s3 to allow it"),
        ("s3://me:secret@b/a.parquet", "s3", "set AWS_ACCESS_KEY_ID and"),
        ("https://me:secret@b/a.parquet", "https,s3", "download the file first"),
        ("hf://b/a.parquet", "hf", "download the file first"),
    ],
)
def test_nothing_else_is_opened_and_no_password_told(datapipe, monkeypatch, address, allowed, told):
    def connects(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", connects)
    monkeypatch.setenv("DATAPIPE_REMOTE", allowed)
    here = Path.cwd()
    (here / "a.csv").write_text("x,y\n1,a\n2,b\n")
    for words in ([address], ["a.csv", "--reference", address], ["a.csv", "--anchors", address]):
        answer = datapipe("audit", *words, "--label", "y", "--json")
        assert answer.code == 2
        assert told in json.loads(answer.err)["error"]["hint"]
        assert "secret" not in answer.err
        assert [p.name for p in here.iterdir()] == ["a.csv"]


def test_a_reader_refuses_an_address_with_a_password_and_does_not_repeat_it(monkeypatch):
    for allowed in ("", "s3"):
        monkeypatch.setenv("DATAPIPE_REMOTE", allowed)
        with pytest.raises(DeclarationError) as told:
            Pipeline("p", [ReadParquet("s3://me:secret@b/a.parquet")]).plan()
        assert "secret" not in str(told.value)
