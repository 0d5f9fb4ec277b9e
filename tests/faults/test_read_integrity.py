# SPDX-License-Identifier: Apache-2.0
"""A flipped bit in a file is refused or changes nothing: no read is silently wrong.

Files of ours carry checksums over every byte. Files of others can only be held against what their
writer stored: there the promise is that nothing crashes and that only our errors are raised.
"""

from __future__ import annotations

import random

import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.parquet import vouch
from datapipe.core.roles import Roles
from datapipe.core.soundness import sound
from datapipe.errors import DataError, TrustError
from datapipe.execute._record import stored
from datapipe.stages import ReadArrow, ReadParquet

SHORT = 60
LONG = 500
"""Damaged files of each of the four kinds: 2,000 together."""


@pytest.fixture
def n(sweeps):
    """How many damaged files of each kind are tried."""
    return LONG if sweeps else SHORT


def rows(n=700):
    rng = random.Random(3)
    words = [f"word{i}" for i in range(40)]
    return pl.DataFrame(
        {
            "t": [" ".join(rng.choices(words, k=6)) for _ in range(n)],
            "y": [rng.choice(["good", "bad"]) for _ in range(n)],
            "x": [None if rng.random() < 0.1 else rng.gauss(0, 1) for _ in range(n)],
            "k": range(n),
            "l": [[1, 2, 3][: i % 4] for i in range(n)],
        }
    )


def damaged(raw, rng):
    """The same bytes with one to three bits flipped."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 3)):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def read(reader, path, folder):
    """The rows, or the refusal: our own error, or the engine's that the executor makes ours."""
    try:
        made = reader(path, label="y").run(None, Context(0, folder))
    except DataError as error:
        return error
    try:
        return made.data.scan().collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return error


def swept(whole, path, reader, folder, n):
    """How many damaged copies were refused, read right, and read silently wrong."""
    before, rng = whole.read_bytes(), random.Random(n)
    refused = same = wrong = 0
    for _ in range(n):
        path.write_bytes(damaged(before, rng))
        found = read(reader, path, folder)
        refused += isinstance(found, BaseException)
        same += isinstance(found, pl.DataFrame) and found.equals(truth(whole, reader, folder))
        wrong += isinstance(found, pl.DataFrame) and not found.equals(truth(whole, reader, folder))
    return refused, same, wrong


_truths = {}


def truth(whole, reader, folder):
    if whole not in _truths:
        _truths[whole] = read(reader, whole, folder)
        assert _truths[whole].equals(rows())
    return _truths[whole]


@pytest.mark.faults
@pytest.mark.parametrize(("suffix", "reader"), [(".parquet", ReadParquet), (".arrow", ReadArrow)])
def test_what_save_wrote_is_never_read_silently_wrong(tmp_path, suffix, reader, n):
    whole = Dataset.of(rows()).save(tmp_path / f"a{suffix}")
    refused, same, wrong = swept(whole, tmp_path / f"b{suffix}", reader, tmp_path, n)
    assert wrong == 0
    assert refused + same == n
    assert refused >= 0.99 * n  # nearly every byte counts, and the seal covers them all


@pytest.mark.faults
def test_what_the_store_holds_is_never_read_silently_wrong(tmp_path, n):
    whole = Dataset.of(rows()).save(tmp_path / "a.parquet")
    before, rng = whole.read_bytes(), random.Random(n)
    hit = tmp_path / "b.parquet"
    for i in range(n):
        hit.write_bytes(damaged(before, rng))
        with pytest.raises(TrustError) as refusal:
            stored(hit, f"sha256:{i}", Roles(), (), kept=True).frame()
        assert refusal.value.exit_code == 4


@pytest.mark.faults
def test_page_checksums_of_others_are_held_against_their_pages(tmp_path, n):
    whole = tmp_path / "a.parquet"
    pq.write_table(rows().to_arrow(), whole, compression="zstd", write_page_checksum=True)
    assert sound(whole).unchecked == 0
    footer = int.from_bytes(whole.read_bytes()[-8:-4], "little") + 8
    before, rng = whole.read_bytes(), random.Random(n)
    hit, wrong = tmp_path / "b.parquet", 0
    for _ in range(n):
        pages = damaged(before[:-footer], rng)
        hit.write_bytes(pages + before[-footer:])
        found = read(ReadParquet, hit, tmp_path)
        wrong += isinstance(found, pl.DataFrame) and not found.equals(rows())
    assert wrong == 0


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows"])
def test_damage_in_files_without_checksums_never_crashes_a_reader(tmp_path, kind, n):
    whole, table = tmp_path / f"a.{kind}", rows().to_arrow()
    if kind == "parquet":
        pq.write_table(table, whole)
    else:
        make = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with make(str(whole), table.schema) as writer:
            writer.write_table(table)
    reader = ReadParquet if kind == "parquet" else ReadArrow
    refused, same, wrong = swept(whole, tmp_path / f"b.{kind}", reader, tmp_path, n)
    print(f"{kind}: {refused} refused, {same} read right, {wrong} silently wrong of {n}")
    assert refused + same + wrong == n


def test_a_seal_that_was_lost_is_missed(tmp_path):
    path = Dataset.of(rows()).save(tmp_path / "a.parquet")
    raw = path.read_bytes().replace(b"datapipe.seal", b"datapipe.seam")
    path.write_bytes(raw)
    with pytest.raises(DataError, match="seal"):
        ReadParquet(path).run(None, Context(0, tmp_path))
    arrow = Dataset.of(rows()).save(tmp_path / "a.arrow")
    arrow.write_bytes(arrow.read_bytes().replace(b"datapipe.seal\0", b"datapipe.seam\0"))
    with pytest.raises(DataError, match="seal"):
        ReadArrow(arrow).run(None, Context(0, tmp_path))


def test_damage_is_told_with_its_row_group_and_column(tmp_path):
    path = Dataset.of(rows()).save(tmp_path / "a.parquet")
    meta = pq.read_metadata(path).row_group(0).column(1)
    raw = bytearray(path.read_bytes())
    start = meta.dictionary_page_offset or meta.data_page_offset
    raw[start + meta.total_compressed_size - 3] ^= 8
    path.write_bytes(raw)
    with pytest.raises(DataError, match="row group 0, column 'y'"):
        ReadParquet(path).run(None, Context(0, tmp_path))


def test_other_programs_read_what_we_write(tmp_path):
    import duckdb

    path = Dataset.of(rows()).save(tmp_path / "a.parquet")
    assert pl.DataFrame(pq.read_table(path, page_checksum_verification=True)).equals(rows())
    assert duckdb.sql(f"select count(*), sum(k) from '{path}'").fetchall() == [(700, 244650)]
    arrow = Dataset.of(rows()).save(tmp_path / "a.arrow")
    assert pl.read_ipc(arrow).equals(rows())
    with pa.ipc.open_file(str(arrow)) as reader:
        assert reader.read_all().num_rows == 700


def test_a_file_found_sound_is_looked_at_again_when_it_changes(tmp_path):
    import os

    from datapipe.core.parquet import sink_rows

    path = tmp_path / "a.parquet"
    digest = sink_rows(rows().lazy(), path)
    vouch(path, digest)
    raw = bytearray(path.read_bytes())
    raw[200] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(1, 1))
    with pytest.raises(TrustError, match="DP-TRUST-711"):
        vouch(path, digest)


def test_a_source_that_rotted_since_it_was_digested_is_refused(tmp_path, monkeypatch):
    import os

    from datapipe.core.function import stage
    from datapipe.core.pipeline import Pipeline

    @stage("demo.one", version="1")
    def one(frame):
        return frame

    @stage("demo.two", version="1")
    def two(frame):
        return frame

    def stamp(file):  # a disk that forgets does not tell the kernel, which knows of our write
        told = file.stat()
        return [told.st_size, told.st_mtime_ns, 0, told.st_ino]

    monkeypatch.setattr("datapipe.execute.reuse._stamp", stamp)
    path = tmp_path / "a.parquet"
    pq.write_table(rows().to_arrow(), path, compression="none", use_dictionary=False)
    Pipeline("p", [ReadParquet(path), one()]).run(seed=7, store=tmp_path / "s")
    status, raw = path.stat(), bytearray(path.read_bytes())
    raw[raw.find(b"word") + 1] ^= 1
    with path.open("r+b") as file:  # the same inode, as on a disk that forgets
        file.write(raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    reused = Pipeline("p", [ReadParquet(path), one()]).run(seed=7, store=tmp_path / "s")
    assert reused.data.frame().equals(rows())
    with pytest.raises(TrustError, match="bytes have changed"):
        Pipeline("p", [ReadParquet(path, named="b"), two()]).run(seed=7, store=tmp_path / "s")
