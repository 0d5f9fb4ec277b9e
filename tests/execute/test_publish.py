# SPDX-License-Identifier: Apache-2.0
"""Sources are read from a store of objects, results put there once, whole or not at all.

The server is moto's, from an environment of its own (`make peers`); where that is absent, what
needs a whole S3 is skipped and the puts meet a small server that knows conditions.
"""

from __future__ import annotations

import http.server
import json
import socket
import threading

import polars as pl
import pytest

from datapipe.core.dataset import Dataset
from datapipe.core.function import stage
from datapipe.core.pipeline import Pipeline
from datapipe.errors import DeclarationError, ExecutionError, TrustError
from datapipe.execute.bucket import Bucket
from datapipe.execute.publish import publish
from datapipe.stages import ReadParquet


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("DATAPIPE_REMOTE", "s3")
    monkeypatch.setenv("DATAPIPE_CACHE", str(tmp_path / "cache"))


class Shelf(http.server.BaseHTTPRequestHandler):
    """Keeps what is put, unless there is something.

    It can drop the line in the middle of a put or after it, and ask for patience.
    """

    held: dict[str, bytes] = {}  # noqa: RUF012 - one shelf for the server's life
    cut_off = False
    troubles: list[str | int] = []  # noqa: RUF012 - what becomes of the next puts

    def do_PUT(self):
        size = int(self.headers["content-length"])
        if type(self).cut_off:
            self.rfile.read(min(10, size))
            self.connection.close()
            return
        body = self.rfile.read(size)
        trouble = self.troubles.pop(0) if self.troubles else ""
        if isinstance(trouble, int):
            self.answer(trouble)
            return
        there = self.headers.get("if-none-match") == "*" and self.path in self.held
        if not there:
            self.held[self.path] = body
        if trouble == "answer lost":
            self.connection.close()
            return
        self.answer(412 if there else 200)

    def do_GET(self):
        self.answer(200 if self.path in self.held else 404, self.held.get(self.path, b""))

    def do_HEAD(self):
        self.do_GET()

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def shelf():
    Shelf.held, Shelf.cut_off, Shelf.troubles = {}, False, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def address(port, rest=""):
    return f"s3://shelf{rest}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


@stage("demo.half", version="1")
def half(frame):
    return frame.filter(pl.col("k") % 2 == 0)


def run(store, source=None):
    rows = pl.DataFrame({"k": range(100)})
    first = [] if source is None else [ReadParquet(source)]
    data = rows if source is None else None
    return Pipeline("p", [*first, half()]).run(data, seed=7, store=store)


def test_a_result_is_put_once_with_the_record_last(shelf, tmp_path):
    done = run(tmp_path / "store")
    where = publish(done, address(shelf, "/out"))
    assert where == f"s3://shelf/out/runs/{done.run_id}.json"
    keys = list(Shelf.held)
    assert keys[-1] == f"/shelf/out/runs/{done.run_id}.json"
    record = json.loads(Shelf.held[keys[-1]])
    held = Shelf.held[f"/shelf/out/{record['objects'][done.data.digest]}"]
    assert held == done.data.path.read_bytes()
    before = dict(Shelf.held)
    with pytest.raises(DeclarationError, match="published there before"):
        publish(done, address(shelf, "/out"))
    assert before == Shelf.held


def test_a_put_that_is_cut_off_publishes_nothing(shelf, tmp_path):
    done = run(tmp_path / "store")
    Shelf.cut_off = True
    with pytest.raises(ExecutionError, match="could not be put") as told:
        publish(done, address(shelf))
    assert told.value.exit_code == 6
    assert Shelf.held == {}
    Shelf.cut_off = False
    publish(done, address(shelf))
    assert any(key.endswith(".json") for key in Shelf.held)


def test_a_put_whose_answer_was_lost_is_found(shelf, tmp_path):
    done = run(tmp_path / "store")
    Shelf.troubles = ["answer lost", "answer lost"]
    where = publish(done, address(shelf))
    assert where.endswith(f"{done.run_id}.json")
    assert sum("/runs/" in key for key in Shelf.held) == 1
    key = f"/shelf/runs/{done.run_id}.json"
    Shelf.held[key] += b" "  # somebody else's word on the same key
    Shelf.troubles = [200, "answer lost"]
    with pytest.raises(DeclarationError, match="published there before"):
        publish(done, address(shelf))


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_a_store_that_asks_for_patience_is_asked_again(shelf, tmp_path, status):
    Shelf.troubles = [status, status]
    publish(run(tmp_path / "store"), address(shelf))
    assert any(key.endswith(".json") for key in Shelf.held)


def test_a_store_that_refuses_is_asked_once(shelf):
    Shelf.troubles = [403, 200]
    with pytest.raises(ExecutionError, match="status 403"):
        Bucket.of(address(shelf)).put("a", b"1")
    assert Shelf.troubles == [200]


def test_two_drivers_that_publish_at_once_leave_one_record(shelf, tmp_path):
    done, told = run(tmp_path / "store"), []

    def one():
        try:
            told.append(publish(done, address(shelf)))
        except DeclarationError as error:
            told.append(error.code)

    drivers = [threading.Thread(target=one) for _ in range(4)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert sorted(told)[:3] == ["DP-USE-092"] * 3
    assert told.count("DP-USE-092") == 3


def test_what_lies_under_the_name_of_other_content_is_not_published(shelf, tmp_path):
    done = run(tmp_path / "store")
    Shelf.held[f"/shelf/objects/{done.data.path.name}"] = b"half of it"
    with pytest.raises(TrustError, match="another size"):
        publish(done, address(shelf))
    assert not any("/runs/" in key for key in Shelf.held)


def test_a_sound_file_under_another_name_is_not_published(shelf, tmp_path):
    done = run(tmp_path / "store")
    rows = pl.DataFrame({"k": range(100, 300)})
    other = Pipeline("q", [half()]).run(rows, seed=7, store=tmp_path / "store")
    done.data.path.write_bytes(other.data.path.read_bytes())
    with pytest.raises(TrustError, match="does not have the digest it is named by"):
        publish(done, address(shelf))
    assert Shelf.held == {}


def test_nothing_is_opened_unless_its_scheme_is_allowed(monkeypatch, tmp_path):
    def connects(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.delenv("DATAPIPE_REMOTE")
    monkeypatch.setattr(socket.socket, "connect", connects)
    monkeypatch.setattr(socket, "getaddrinfo", connects)
    with pytest.raises(DeclarationError, match="not a local path"):
        Pipeline("p", [ReadParquet("s3://shelf/a.parquet")]).plan()
    monkeypatch.setenv("DATAPIPE_REMOTE", "s3")
    for other in ("http://169.254.169.254/a.parquet", "file:///etc/passwd", "hf://a/b.parquet"):
        with pytest.raises(DeclarationError, match="not a local path"):
            Pipeline("p", [ReadParquet(other)]).plan()


def test_moto_agrees_about_conditional_puts(moto):
    bucket = Bucket.of(address(moto, "/puts"))
    assert bucket.put("a b/ü.txt", b"first") is True
    assert bucket.put("a b/ü.txt", b"second") is False
    there = bucket.holds("a b/ü.txt", b"first"), bucket.holds("a b/ü.txt", b"other", whole=False)
    assert there == (True, True)
    assert not bucket.holds("a b/ü.txt", b"other")
    assert not bucket.holds("none", b"")


def test_sources_are_read_from_a_store_of_objects(moto, tmp_path):
    bucket = Bucket.of(address(moto, "/in"))
    for name, start in (("a", 0), ("b", 60)):
        rows = pl.DataFrame({"k": range(start, start + 60)})
        bucket.put(f"{name}.parquet", Dataset.of(rows).save(tmp_path / f"{name}.parquet"))
    source = address(moto, "/in/*.parquet")
    done = run(tmp_path / "store", source)
    assert done.data.frame()["k"].to_list() == list(range(0, 120, 2))
    assert done.data.sources[0].uri.startswith("s3://shelf/in/*.parquet")
    again = run(tmp_path / "store", source)
    assert all(step.reused for step in again.steps)
    publish(done, address(moto, "/out"))
    with pytest.raises(DeclarationError, match="no such object"):
        run(tmp_path / "store", address(moto, "/in/none.parquet"))


def test_a_store_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ExecutionError, match="could not be put"):
        publish(run(tmp_path / "store"), address(1))
