# SPDX-License-Identifier: Apache-2.0
"""ReadParquet: rows and their names, paths, labels, and hostile files."""

from __future__ import annotations

import base64
import os
import random
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.core.digest import canonical
from datapipe.core.pipeline import Pipeline
from datapipe.errors import (
    DataError,
    DeclarationError,
    LimitExceeded,
    Malformed,
    SchemaMismatch,
)
from datapipe.stages import ReadParquet
from datapipe.stages.ingest import _footer, reader_key


def read(reader, scratch):
    return reader.run(empty(), Context(0, scratch))


def write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_rows_are_named_in_sorted_file_order(tmp_path):
    for name, rows in (("b", [3, 4]), ("a", [1, 2]), ("c", [5])):
        write(tmp_path / f"{name}.parquet", {"v": rows})
    made = read(ReadParquet(tmp_path / "*.parquet"), tmp_path)
    frame = made.data.frame(row_id=True)
    assert frame["_row_id"].dtype == pl.UInt64
    assert frame.rows() == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    (source,) = made.data.sources
    assert [n for _, n in source.files] == [2, 2, 1]
    assert source.rows == 5
    assert len(made.data) == 5
    given_twice = ReadParquet([tmp_path / "c.parquet", tmp_path / "*.parquet"])
    assert len(given_twice.files()) == 3


def test_facts_reach_the_source(tmp_path):
    path = write(tmp_path / "r.parquet", {"body": ["a"], "stars": [1]})
    reader = ReadParquet(
        path, text="body", label="stars", licence="CC-BY-4.0", origin="vendor-a",
        consent="granted", synthetic=True, generator="gpt-2", manifest=tmp_path / "m.json",
    )  # fmt: skip
    made = read(reader, tmp_path)
    source = made.data.sources[0]
    assert (source.name, source.licence, source.origin) == ("r", "CC-BY-4.0", "vendor-a")
    assert (source.consent, source.synthetic, source.generator) == ("granted", True, "gpt-2")
    assert source.manifest == str(tmp_path / "m.json")
    assert made.data.roles.one("text") == "body"
    assert hash(reader) == hash(reader)
    assert canonical(reader.params())


def test_names_that_look_like_globs_are_read_as_names(tmp_path):
    path = write(tmp_path / "part[1].parquet", {"v": [1]})
    assert len(read(ReadParquet(path), tmp_path).data) == 1


@pytest.mark.parametrize(
    "path",
    [
        "http://169.254.169.254/x.parquet", "file:///etc/passwd", "s3://a/b", "hf://a/b",
        "\\\\host\\share\\a.parquet", "//host/share/a.parquet", "az:a", "",
    ],
)  # fmt: skip
def test_no_scheme_is_ever_followed(path, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(socket.socket, "connect", lambda *a: calls.append(a))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: calls.append(a))
    assert ReadParquet(path).check()
    with pytest.raises(DeclarationError):
        read(ReadParquet(path), tmp_path)
    assert not calls


def test_a_missing_file_is_told_with_the_closest_name(tmp_path):
    write(tmp_path / "reviews.parquet", {"v": [1]})
    with pytest.raises(DeclarationError) as told:
        read(ReadParquet(tmp_path / "review.parquet"), tmp_path)
    assert "reviews.parquet" in told.value.hint
    assert told.value.exit_code == 2
    with pytest.raises(DeclarationError, match="no such file"):
        ReadParquet(tmp_path / "*.csv").files()
    with pytest.raises(DeclarationError, match="folder"):
        ReadParquet(tmp_path).files()


def test_a_missing_column_is_told_with_the_closest_name(tmp_path):
    path = write(tmp_path / "a.parquet", {"label": [1]})
    with pytest.raises(SchemaMismatch) as told:
        read(ReadParquet(path, label="lable"), tmp_path)
    assert "'label'" in told.value.hint
    assert str(path) in told.value.message
    assert told.value.exit_code == 2


def test_pipes_and_empty_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "p.parquet")
    with pytest.raises(Malformed, match="pipe"):
        ReadParquet(tmp_path / "p.parquet").files()
    (tmp_path / "e.parquet").touch()
    with pytest.raises(Malformed, match="0 bytes"):
        ReadParquet(tmp_path / "e.parquet").files()


@pytest.mark.parametrize(("labels", "fewest"), [(["a", "a", None], 2), (["a", "b", None], 3)])
def test_too_few_classes_are_refused_when_all_should_be_there(tmp_path, labels, fewest):
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"y": labels}).write_parquet(path)
    some = {"label": "y", "missing_labels": "quarantine"}
    assert len(read(ReadParquet(path, fewest_classes=fewest - 1, **some), tmp_path).data) == 2
    with pytest.raises(Malformed, match=f"at least {fewest} were expected"):
        read(ReadParquet(path, fewest_classes=fewest, **some), tmp_path)


@pytest.mark.parametrize(
    ("labels", "missing", "first"),
    [
        ([1, None, 2, None], [1, 3], 2),
        ([float("nan"), 1.0, 2.0, 3.0], [0], 1),
        (["a", " ", "b", "NaN"], [1, 3], 2),
    ],
)
def test_missing_labels_are_refused_or_set_aside(tmp_path, labels, missing, first):
    path = write(tmp_path / "a.parquet", {"y": labels, "x": [1, 2, 3, 4]})
    words = f"labels are missing in {len(missing)} of 4 rows, first at row {first}"
    with pytest.raises(Malformed, match=words) as told:
        read(ReadParquet(path, label="y"), tmp_path)
    assert told.value.exit_code == 7
    made = read(ReadParquet(path, label="y", missing_labels="quarantine"), tmp_path)
    assert made.set_aside["row_id"].to_list() == missing
    assert set(made.set_aside["reason"]) == {"label is missing"}
    kept = sorted({0, 1, 2, 3} - set(missing))
    assert made.data.row_ids.to_list() == kept
    (finding,) = made.findings
    assert (finding.kind, finding.verdict) == ("ingest.missing_labels", "suspect")
    assert finding.measure.value == len(missing) / 4


def test_the_row_is_named_within_its_file(tmp_path):
    write(tmp_path / "a.parquet", {"y": [1, 2, 3]})
    write(tmp_path / "b.parquet", {"y": [4, None]})
    with pytest.raises(Malformed, match=r"b\.parquet:2:y"):
        read(ReadParquet(tmp_path / "*.parquet", label="y"), tmp_path)


def test_labels_that_are_all_missing_never_pass(tmp_path):
    path = write(tmp_path / "a.parquet", {"y": pa.nulls(3, pa.int64())})
    for choice in ("refuse", "quarantine"):
        with pytest.raises(Malformed):
            read(ReadParquet(path, label="y", missing_labels=choice), tmp_path)


def test_no_rows_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", {"y": pa.array([], pa.int64())})
    with pytest.raises(Malformed, match="no rows"):
        read(ReadParquet(path), tmp_path)


def test_reserved_and_repeated_columns_are_refused(tmp_path):
    with pytest.raises(SchemaMismatch, match="_row_id"):
        read(ReadParquet(write(tmp_path / "a.parquet", {"_row_id": [1]})), tmp_path)
    twice = pa.table([[1], [2]], names=["a", "a"])
    pq.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(Malformed, match="twice"):
        read(ReadParquet(tmp_path / "b.parquet"), tmp_path)


def test_files_of_one_source_share_their_columns(tmp_path):
    write(tmp_path / "a.parquet", {"v": [1]})
    write(tmp_path / "b.parquet", {"v": ["x"]})
    with pytest.raises(SchemaMismatch, match="'v'"):
        read(ReadParquet(tmp_path / "*.parquet"), tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        b"PAR1", b"PAR1PAR1", b"not parquet at all", b"\x80\x04\x95pickle", b"\x93NUMPY\x01\x00",
        b"PK\x03\x04weights", b"ARROW1\x00\x00", b"PARE" + b"\x00" * 20,
        b"PAR1" + b"\x00" * 16 + struct.pack("<I", 2**31 - 1) + b"PAR1",
        b"PAR1" + b"\x00" * 64 + struct.pack("<I", 32) + b"PAR1",
    ],
)  # fmt: skip
def test_what_is_no_parquet_file_is_refused(tmp_path, raw):
    path = tmp_path / "a.parquet"
    path.write_bytes(raw)
    with pytest.raises(Malformed) as told:
        read(ReadParquet(path), tmp_path)
    assert str(path) in told.value.message
    assert told.value.exit_code == 7


def test_a_cut_file_is_refused_at_every_length(tmp_path):
    whole = write(tmp_path / "a.parquet", {"s": ["abc"] * 50, "v": list(range(50))}).read_bytes()
    for cut in range(1, len(whole), 37):
        (tmp_path / "cut.parquet").write_bytes(whole[:cut])
        with pytest.raises(Malformed):
            read(ReadParquet(tmp_path / "cut.parquet"), tmp_path)


@pytest.mark.parametrize("statistics", [True, False])
def test_a_bomb_is_refused_before_it_bursts(tmp_path, statistics):
    rows = pa.DictionaryArray.from_arrays(np.zeros(2_000_000, np.int32), pa.array(["x" * 1000]))
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"s": rows}), path, compression="zstd", write_statistics=statistics)
    assert path.stat().st_size < 300_000
    before = pa.total_allocated_bytes()
    with pytest.raises(LimitExceeded):
        read(ReadParquet(path), tmp_path)
    assert pa.total_allocated_bytes() - before < 1 << 26


def test_a_plain_bomb_is_told_from_the_footer(tmp_path):
    path = write(
        tmp_path / "bomb.parquet", {"v": np.zeros(50_000_000)}, compression="zstd",
        use_dictionary=False,
    )  # fmt: skip
    with pytest.raises(LimitExceeded):
        read(ReadParquet(path, checks="footer"), tmp_path)
    assert len(read(ReadParquet(path, max_ratio=1e6, checks="footer"), tmp_path).data) == 50_000_000


def test_too_many_rows_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", {"v": list(range(10))})
    with pytest.raises(LimitExceeded):
        read(ReadParquet(path, max_rows=9), tmp_path)


def test_flipped_bits_are_found_in_files_with_checksums(tmp_path):
    rng = random.Random(7)
    columns = {"s": [f"row {i}" for i in range(400)], "v": [i * 0.5 for i in range(400)]}
    path = write(tmp_path / "a.parquet", columns, write_page_checksum=True)
    raw, truth = path.read_bytes(), pl.read_parquet(path)
    silent = 0
    for _ in range(120):
        bad = bytearray(raw)
        for _ in range(3):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        try:
            frame = read(ReadParquet(path), tmp_path).data.frame()
        except (DataError, pl.exceptions.PolarsError):
            continue
        silent += frame.columns == truth.columns and not frame.equals(truth)
    assert silent == 0


def test_a_flipped_footer_never_kills_the_process(tmp_path):
    """Arrow's own accessors abort on some of these; the child would die with a signal."""
    columns = {"s": [f"row {i % 40}" for i in range(400)], "n": [[1, 2]] * 400}
    path = write(tmp_path / "a.parquet", columns, row_group_size=150)
    script = """
import random, sys
from pathlib import Path
from datapipe.core.context import Context
from datapipe.errors import DataError
from datapipe.stages import ReadParquet
path = Path(sys.argv[1])
raw = path.read_bytes()
foot = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
rng, refused = random.Random(11), 0
for _ in range(250):
    bad = bytearray(raw)
    bad[rng.randrange(foot, len(bad))] ^= 1 << rng.randrange(8)
    path.write_bytes(bad)
    try:
        ReadParquet(path).run(None, Context(0, path.parent))
    except DataError:
        refused += 1
print(refused)
"""
    child = subprocess.run(
        [sys.executable, "-c", script, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr[-500:]
    assert int(child.stdout) > 50


def test_the_footer_is_read_as_arrow_reads_it(tmp_path):
    columns = {"s": ["ab", None, "c"] * 50, "deep": [[{"k": 1}], None, []] * 50}
    path = write(tmp_path / "a.parquet", columns, row_group_size=40)
    meta = pq.read_metadata(path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[-8:-4], "little")
    ours = _footer.parsed(raw[-8 - length : -8], len(raw))
    assert ours.rows == meta.num_rows
    theirs = [
        meta.row_group(g).column(c)
        for g in range(meta.num_row_groups)
        for c in range(meta.num_columns)
    ]
    assert [c.path for c in ours.chunks] == [c.path_in_schema for c in theirs]
    assert [c.values for c in ours.chunks] == [c.num_values for c in theirs]
    assert [c.has_dictionary for c in ours.chunks] == [c.has_dictionary_page for c in theirs]
    sizes = [c.total_uncompressed_size for c in theirs]
    assert all(o.decoded >= t for o, t in zip(ours.chunks, sizes, strict=True))


def test_extension_types_become_their_storage(tmp_path):
    class Evil(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.int64(), "tests.evil")

        def __arrow_ext_serialize__(self):
            return b"payload"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type, serialized):
            return cls()

    column = pa.ExtensionArray.from_storage(Evil(), pa.array([1, 2]))
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    made = read(ReadParquet(tmp_path / "a.parquet"), tmp_path)
    assert made.data.types == {"x": pl.Int64}


TEXT = st.text(st.characters(codec="utf-8"))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(TEXT, st.floats(), st.none() | st.integers(-9, 9)),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_values_come_back_as_they_were_written(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("law")
    table = pa.table({
        "s": pa.array([r[0] for r in rows], pa.string()),
        "f": pa.array([r[1] for r in rows], pa.float64()),
        "i": pa.array([r[2] for r in rows], pa.int64()),
    })  # fmt: skip
    pq.write_table(table, folder / "a.parquet")
    made = read(ReadParquet(folder / "a.parquet"), folder)
    assert made.data.frame().equals(pl.DataFrame(table))


def test_parameters_are_checked_without_reading():
    assert ReadParquet("a", checks="some").check()
    assert ReadParquet("a", max_ratio=0).check()
    assert ReadParquet("a", consent="maybe").check()
    assert ReadParquet("a", missing_labels="drop").check()
    assert ReadParquet("a", fewest_classes=0).check()
    assert "as text and as label" in ReadParquet("a", text="y", label="y").check()[0]
    assert ReadParquet([]).check()
    assert not ReadParquet("a").check()


def test_a_name_tells_the_reader_and_pickles_have_none():
    assert reader_key(Path("a") / "b.CSV") == "ingest.csv"
    with pytest.raises(Malformed) as told:
        reader_key("weights.pt")
    assert told.value.exit_code == 7
    with pytest.raises(DeclarationError):
        reader_key("a.docx")


def test_large_files_are_looked_at_where_checksums_tell(tmp_path, monkeypatch):
    monkeypatch.setattr("datapipe.stages.ingest.parquet.SMALL_BYTES", 0)
    columns = {"a": list(range(5_000)), "t": [f"row {i}" for i in range(5_000)]}
    plain = write(tmp_path / "plain.parquet", columns)
    checked = write(tmp_path / "checked.parquet", columns, write_page_checksum=True)
    for path, refused in ((plain, False), (checked, True)):
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 3] ^= 4
        path.write_bytes(raw)
        if refused:
            with pytest.raises(Malformed):
                read(ReadParquet(path), tmp_path)
        else:
            read(ReadParquet(path), tmp_path)  # damage is left to the engine that decodes it


@pytest.mark.parametrize("values", [[b"ok", None, b"\xff\xfe"], [[1], [2], None], [{"a": 1}] * 3])
def test_a_text_column_that_holds_no_text_is_refused_before_anything_is_written(tmp_path, values):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"t": values}).write_parquet(path)
    with pytest.raises(DataError) as refused:
        Pipeline("p", [ReadParquet(path, text="t")]).run(seed=0, store=tmp_path / "store")
    said = "a.parquet:3:t: named as text" if values[0] == b"ok" else "named as text, holds"
    assert said in str(refused.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("role", ["source", "annotator", "group", "time", "subject", "id"])
def test_a_list_plays_no_role_of_one_value(tmp_path, role):
    path = write(tmp_path / "a.parquet", {"t": ["x", "y"], "who": [["a"], ["b"]]})
    with pytest.raises(SchemaMismatch, match=f"'who', named as {role}, holds List"):
        read(ReadParquet(path, **{role: "who"}), tmp_path)


def test_text_kept_as_bytes_is_text(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"t": ["å".encode(), None, b"b"]}).write_parquet(path)
    assert len(ReadParquet(path, text="t").run(None, Context(0, tmp_path)).data) == 3


def test_decimals_of_too_many_digits_are_refused_by_column(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"v": [1], "cents": pa.array([1], pa.decimal256(50, 2))}), path)
    with pytest.raises(SchemaMismatch, match=r"column 'cents' holds decimal256\(50, 2\)"):
        ReadParquet(path).run(empty(), Context(0, tmp_path))


@pytest.mark.parametrize("plain_footer", [False, True])
def test_an_encrypted_file_is_told_as_one(tmp_path, plain_footer):
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):
        def __init__(self, _):
            super().__init__()

        def wrap_key(self, key, _):
            return base64.b64encode(key)

        def unwrap_key(self, key, _):
            return base64.b64decode(key)

    how = encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["v"]}, plaintext_footer=plain_footer
    )
    made = encryption.CryptoFactory(Keys).file_encryption_properties(
        encryption.KmsConnectionConfig(), how
    )
    table = pa.table({"v": [1, 2], "w": ["a", "b"]})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=made) as file:
        file.write_table(table)
    with pytest.raises(Malformed, match=r"encrypted.* no key of its writer's is taken") as told:
        read(ReadParquet(tmp_path / "a.parquet"), tmp_path)
    assert told.value.hint == "decrypt it, and save the rows as a Parquet file"


@pytest.mark.parametrize("zone", ["+05:30", "GMT+2", "Z", "nowhere"])
def test_a_time_zone_that_is_no_zones_name_is_refused(tmp_path, zone, capfd):
    times = pa.array([0, 1], pa.timestamp("us", zone))
    write(tmp_path / "a.parquet", {"t": times})
    with pytest.raises(SchemaMismatch, match="the column 't' holds timestamp") as told:
        read(ReadParquet(tmp_path / "a.parquet"), tmp_path)
    assert told.value.hint == "write the times in UTC"
    assert "panicked" not in capfd.readouterr().err
    for known in ("UTC", "Europe/Berlin", "+00:00", None):
        write(tmp_path / "b.parquet", {"t": pa.array([0, 1], pa.timestamp("us", known))})
        assert len(read(ReadParquet(tmp_path / "b.parquet"), tmp_path).data) == 2


def test_a_label_is_no_span_of_time(tmp_path):
    write(tmp_path / "a.parquet", {"y": pa.array([1, 2], pa.duration("s"))})
    with pytest.raises(SchemaMismatch, match="'y', named as label, holds Duration"):
        read(ReadParquet(tmp_path / "a.parquet", label="y"), tmp_path)
