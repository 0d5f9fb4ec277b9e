# SPDX-License-Identifier: Apache-2.0
"""ReadArrow: files and streams, forged offsets, cut files, bombs."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.errors import DataError, LimitExceeded, Malformed, SchemaMismatch
from datapipe.stages import ReadArrow

TABLE = pa.table({"s": ["alpha", "bravo", "charlie"], "v": [1.5, None, 2.0]})


def written(table, kind="file", **options):
    sink = io.BytesIO()
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
        writer.write_table(table)
    return sink.getvalue()


def read(path, raw, **options):
    path.write_bytes(raw)
    return ReadArrow(path, **options).run(empty(), Context(0, path.parent / "scratch"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.arrow"


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_files_and_streams_are_read(path, kind, compression):
    made = read(path, written(TABLE, kind, compression=compression), text="s")
    assert made.data.frame().equals(pl.concat([pl.DataFrame(TABLE)] * 2))
    assert made.data.row_ids.to_list() == list(range(6))
    assert made.data.sources[0].rows == 6


def forged():
    raw = bytearray(written(pa.table({"s": ["alpha", "bravo", "charlie"]})))
    at = bytes(raw).find(struct.pack("<4i", 0, 5, 10, 17))
    raw[at + 8 : at + 12] = struct.pack("<i", 2_000_000_000)
    return bytes(raw)


def test_a_forged_offset_is_refused_and_the_process_lives(path):
    path.write_bytes(forged())
    script = (
        "import sys\nfrom pathlib import Path\nfrom datapipe.core.context import Context\n"
        "from datapipe.errors import Malformed\nfrom datapipe.stages import ReadArrow\n"
        "try:\n    ReadArrow(sys.argv[1]).run(None, Context(0, Path('.')))\n"
        "except Malformed as error:\n    sys.exit(error.exit_code)\n"
    )
    child = subprocess.run([sys.executable, "-c", script, path], check=False, timeout=60)
    assert child.returncode == 7


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_cut_file_is_refused_or_shorter_than_told(path, kind):
    whole = written(TABLE, kind)
    for cut in range(1, len(whole) - 8, 29):
        try:
            made = read(path, whole[:cut])
        except Malformed:
            continue
        assert kind == "stream"  # a stream may end after any message
        assert made.data.frame().height in (3, 6)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"ARROW1", "damaged"),
        (b"ARROW1\0\0" + b"\0" * 40, "damaged"),
        (b"FEA1....", "Feather V1"),
        (b"PAR1....", "ReadParquet"), (b"\x80\x04\x95", "pickle"), (b"hello", "not an Arrow"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_arrow_file_is_refused(path, raw, what):
    with pytest.raises(Malformed) as told:
        read(path, raw)
    assert what in str(told.value)


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_bomb_is_refused_before_it_bursts(path, kind):
    zeros = pa.table({"v": np.zeros(10_000_000)})
    raw = written(zeros, kind, compression="zstd")
    assert len(raw) < 100_000
    del zeros
    before = pa.total_allocated_bytes()
    with pytest.raises(LimitExceeded):
        read(path, raw, max_batch_bytes=50_000_000)
    assert pa.total_allocated_bytes() - before < 1 << 20
    assert len(read(path, raw).data) == 20_000_000


def test_random_damage_never_kills_the_process(path):
    rng = random.Random(3)
    raws = [
        written(TABLE, kind, compression=c) for kind in ("file", "stream") for c in (None, "lz4")
    ]
    outcomes = set()
    for i in range(240):
        bad = bytearray(raws[i % 4])
        for _ in range(3):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        try:
            read(path, bytes(bad)).data.frame()
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
        except pl.exceptions.PolarsError:
            outcomes.add("engine")
    assert {"read", "refused"} <= outcomes


def test_files_of_one_source_share_their_columns(tmp_path):
    (tmp_path / "a.arrow").write_bytes(written(TABLE))
    (tmp_path / "b.arrow").write_bytes(written(TABLE.drop_columns(["v"])))
    with pytest.raises(SchemaMismatch):
        ReadArrow(tmp_path / "*.arrow").run(empty(), Context(0, tmp_path))


def test_reserved_columns_and_bad_limits_are_refused(path):
    with pytest.raises(SchemaMismatch, match="_row_id"):
        read(path, written(pa.table({"_row_id": [1]})))
    assert ReadArrow("a", max_batch_bytes=0).check()


@pytest.mark.parametrize(
    "odd",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array([1.0])),
        pa.UnionArray.from_sparse(pa.array([0] * 3, pa.int8()), [pa.array([1, 2, 3])]),
        pa.array([[1], [2], []], pa.list_view(pa.int8())),
        pa.array([1, 2, 3], pa.decimal256(50, 2)),
        pa.array([[1], [2], []], pa.list_(pa.decimal256(50, 2))),
    ],
    ids=lambda odd: str(odd.type),
)
def test_types_that_cannot_be_computed_with_are_refused_by_column(path, odd):
    sink = io.BytesIO()
    table = pa.table({"v": [1, 2, 3], "strange": odd})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(SchemaMismatch, match=r"column 'strange' holds .*DP-READ-027"):
        read(path, sink.getvalue())
