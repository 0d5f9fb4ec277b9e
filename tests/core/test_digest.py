# SPDX-License-Identifier: Apache-2.0
"""Equal content has equal digests; anything that may change a result changes one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from datapipe.core.digest import (
    CHUNK_ROWS,
    canonical,
    digest_batches,
    digest_bytes,
    digest_code,
    digest_file,
    digest_json,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
TYPES = [pl.Int64, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.List(pl.Int64), pl.Date]
frames = dataframes(min_cols=1, max_cols=3, min_size=1, max_size=30, allowed_dtypes=TYPES)


@given(st.dictionaries(st.text(max_size=4), json_values))
def test_the_order_of_keys_does_not_count(form):
    assert digest_json(dict(reversed(list(form.items())))) == digest_json(form)


@given(json_values, json_values)
def test_other_values_have_other_digests(one, other):
    same = canonical(one) == canonical(other)
    assert (digest_json(one) == digest_json(other)) is same


@given(frames, st.integers(1, 11))
def test_chunks_do_not_count(frame: pl.DataFrame, size: int):
    table = frame.to_arrow()
    whole = digest_batches(table.schema, table.to_batches())
    assert digest_batches(table.schema, table.to_batches(max_chunksize=size)) == whole


@given(frames, st.data())
def test_slices_are_as_good_as_copies(frame: pl.DataFrame, data):
    start = data.draw(st.integers(0, frame.height - 1))
    sliced = frame.to_arrow().slice(start)
    copied = pa.concat_tables([sliced]).combine_chunks()
    again = pl.DataFrame(frame.rows()[start:], schema=frame.schema, orient="row").to_arrow()
    digests = {digest_batches(t.schema, t.to_batches()) for t in (sliced, copied, again)}
    assert len(digests) == 1


@settings(max_examples=5)
@given(st.integers(1, 9))
def test_chunks_of_the_digest_itself_do_not_show(step: int):
    table = pa.table({"a": pa.array(range(CHUNK_ROWS + 1000))})
    whole = digest_batches(table.schema, table.to_batches())
    size = CHUNK_ROWS // step + 1
    assert digest_batches(table.schema, table.to_batches(max_chunksize=size)) == whole


def test_full_chunks_of_numbers_have_the_digest_they_always_had():
    """They are hashed where they lie; the rest of a slice has neighbours, which do not count."""
    numbers = pa.array(range(CHUNK_ROWS + 70))
    columns = {
        "wide": numbers,
        "narrow": numbers.cast(pa.int32()),
        "flag": pa.array([i % 3 == 0 for i in range(len(numbers))]),
        "gaps": pa.array([None if i == 90 else i % 100 for i in range(len(numbers))], pa.int8()),
    }
    table = pa.table(columns)
    among = pa.concat_tables([table.slice(0, 3), table, table.slice(0, 9)]).combine_chunks()
    sliced = among.slice(3, len(table))
    digests = {digest_batches(t.schema, t.to_batches()) for t in (table, sliced)}
    assert digests == {"sha256:d4a585ee6d5a74db545a8abdd44b0a9aa59db7595c60ef948f35cfc931411cb0"}


def test_values_under_nulls_do_not_count():
    validity = pa.py_buffer(bytes([0b101]))
    made = [
        pa.Array.from_buffers(pa.int64(), 3, [validity, pa.array(v, pa.int64()).buffers()[1]])
        for v in ([1, 2, 3], [1, 99, 3])
    ]
    schema = pa.schema([("a", pa.int64())])
    digests = {digest_batches(schema, [pa.record_batch([a], schema=schema)]) for a in made}
    assert len(digests) == 1


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
def test_string_buffers_shared_with_other_rows_do_not_count(kind):
    words = ["a rather long text, out of line", "b", None, "d"]
    values = [w.encode() if w and kind == pa.binary() else w for w in words]
    schema = pa.schema([("a", kind)])
    alone = pa.array(values, kind)
    among = pa.array([values[1], *values, values[0]], kind)[1:5]
    digests = {
        digest_batches(schema, [pa.record_batch([a], schema=schema)]) for a in (alone, among)
    }
    assert len(digests) == 1


def test_metadata_does_not_count_names_and_types_do():
    plain = pa.table({"a": [1]})
    told = plain.replace_schema_metadata({"made": "today"})
    renamed = pa.table({"b": [1]})
    smaller = pa.table({"a": pa.array([1], pa.int32())})
    digests = [digest_batches(t.schema, t.to_batches()) for t in (plain, told, renamed, smaller)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_files_and_bytes_agree_with_hashlib(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    expected = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest_file(path) == digest_bytes(path.read_bytes()) == expected


def test_what_json_cannot_write_has_a_stable_form():
    assert (
        canonical({"p": Path("a") / "b", "s": {3, 1}, "t": (1, 2)})
        == b'{"p":"a/b","s":[1,3],"t":[1,2]}'
    )
    assert canonical({"f": digest_bytes}).startswith(b'{"f":{"callable":"datapipe.core.digest:')


def test_it_is_the_same_in_another_process():
    code = (
        "from datapipe.core.digest import digest_json, digest_code as c\n"
        "print(digest_json({'a': {3, 1, 2}}), c('datapipe.core.gate'))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert (
        told[0]
        == told[1]
        == f"{digest_json({'a': {1, 2, 3}})} {digest_code('datapipe.core.gate')}\n"
    )


def test_the_digest_of_code_follows_the_module(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    made = []
    for number, text in enumerate(("x = 1\n", "x = 2\n")):
        (tmp_path / f"own_stage_{number}.py").write_text(text)
        made.append(digest_code(f"own_stage_{number}"))
    assert made[0] != made[1]


def test_the_code_of_a_stage_is_that_of_its_private_modules_and_packages_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    told = []
    for changed in ("", "_beside.py", "_parts/one.py", "other.py"):
        family = tmp_path / f"own_{len(told)}" / "stages" / "kind"
        (family / "_parts").mkdir(parents=True)
        for name in ("stage.py", "_beside.py", "_parts/__init__.py", "_parts/one.py", "other.py"):
            (family / name).write_text("changed = True\n" if name == changed else "")
        told.append(digest_code(f"own_{len(told)}.stages.kind.stage"))
    assert len(set(told[:3])) == 3
    assert told[3] == told[0]
