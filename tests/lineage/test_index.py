# SPDX-License-Identifier: Apache-2.0
"""However records came in and whenever the index caught up, it is what the journal alone gives."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from datapipe.errors import ExecutionError, TrustError
from datapipe.lineage import schema
from datapipe.lineage.locks import locked
from datapipe.lineage.store import Lineage

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""A store on disk for every example: shrinking one would take minutes."""
Json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
BY_TYPE = {
    "varchar": st.text(max_size=8),
    "json": Json,
    "boolean": st.booleans(),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "ubigint": st.integers(0, 2**64 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.just(float("inf")),
    "timestamp": st.datetimes(timezones=st.timezones()).map(lambda t: t.isoformat()),
}
PLAIN = [k for k in schema.tables() if k not in (*schema.DERIVED, *schema.FROM_OBJECT)]


@st.composite
def records(draw) -> tuple[str, dict]:
    kind = draw(st.sampled_from(PLAIN))
    columns = {c.name: BY_TYPE[c.type] for c in schema.tables()[kind].columns[1:]}
    columns.pop("held_out_object", None)
    return kind, draw(st.fixed_dictionaries({}, optional=columns))


def dump(lineage: Lineage) -> dict[str, pl.DataFrame]:
    names = [name for name in schema.tables() if name != "meta"]
    with lineage._asking.connection() as connection:
        return {n: connection.sql(f"from {n} order by all").pl() for n in names}


@settings(max_examples=4, deadline=None, phases=QUICK)
@given(st.lists(st.tuples(st.lists(records(), min_size=1, max_size=6), st.booleans()), max_size=5))
def test_a_rebuilt_index_has_equal_tables(batches):
    with tempfile.TemporaryDirectory() as folder:
        lineage = Lineage(folder, create=True)
        for batch, catch_up in batches:
            lineage.append(batch)
            if catch_up:
                assert lineage.index()
        grown = dump(lineage)
        lineage.rebuild()
        rebuilt = dump(lineage)
        for name, frame in grown.items():
            assert frame.equals(rebuilt[name]), name
        assert grown["log_entries"]["kind"].to_list() == [k for b, _ in batches for k, _ in b]
        assert [p for p in lineage.verify() if p.path == "lineage.duckdb"] == []
        lineage.close()


def test_values_come_back_as_they_were_given(lineage: Lineage):
    details = {"pair": ["3", "8"], "share": float("nan"), "n": 2**64}
    lineage.append(
        [
            ("findings", {"kind": "a.b", "value": float("nan"), "low": 0.25, "details": details}),
            (
                "runs",
                {"run_id": "x'); drop table runs; --\x00", "started_at": "2026-05-01T02:00+02"},
            ),
        ]
    )
    found = lineage.sql("select value, low, details, columns from findings").row(0)
    assert found[:2] == (None, 0.25)
    assert json.loads(found[2]) == {"pair": ["3", "8"], "share": None, "n": 2**64}
    run = lineage.sql("select run_id, started_at::varchar from runs").row(0)
    assert run == ("x'); drop table runs; --\x00", "2026-05-01 00:00:00")


def test_row_tables_hold_what_was_flagged_or_acted_on(filled: Lineage):
    assert filled.sql("select count(*) from row_findings").item() == 1
    assert filled.sql("select kind, score, reason from row_findings").row(0) == ("a.b", 0.9, "odd")
    changed = filled.sql('select "before", "after", posterior, changed_by from label_changes')
    assert changed.row(0) == ("1", "2", 0.9, "r1/1")
    assert filled.sql("select row_id from model_held_out").item() == 1 << 40 | 9


def test_a_model_that_is_reused_keeps_one_list_of_held_out_rows(filled: Lineage):
    model = filled.sql("from models").row(0, named=True)
    again = {k: model[k] for k in ("model_id", "dataset", "held_out_object", "name")}
    filled.append([("models", {**again, "run_id": "r2", "step_id": "r2/1"})])
    assert filled.sql("select count(*) from model_held_out").item() == 1
    filled.rebuild()
    assert filled.sql("select count(*) from model_held_out").item() == 1


def test_a_foreign_reader_keeps_its_state_and_delays_nobody(filled: Lineage, caplog):
    code = (
        "import duckdb, sys\n"
        f"path = {str(filled.store / 'lineage.duckdb')!r}\n"
        "held = duckdb.connect(path, read_only=True)\n"
        "count = 'select count(*) from log_entries'\n"
        "print(held.execute(count).fetchone()[0], flush=True)\n"
        "sys.stdin.readline()\n"
        "print(held.execute(count).fetchone()[0], flush=True)\n"
        "held.close()\n"
        "print(duckdb.connect(path, read_only=True).execute(count).fetchone()[0], flush=True)\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    before = int(reader.stdout.readline())
    filled.append([("run_events", {"run_id": "r1", "event": "note"})])
    assert filled.index() is True
    assert filled.sql("select count(*) from log_entries").item() == before + 1
    told, _ = reader.communicate(b"go\n", timeout=60)
    assert [int(n) for n in told.split()] == [before, before + 1]
    assert "missing" not in caplog.text


def test_a_reader_in_this_process_keeps_its_state_too(filled: Lineage):
    with duckdb.connect(str(filled.store / "lineage.duckdb"), read_only=True) as own:
        filled.append([("runs", {"run_id": "r2"})])
        assert filled.index() is True
        assert own.sql("select count(*) from runs").fetchall() == [(1,)]
        assert filled.sql("select count(*) from runs").item() == 2


def test_a_kept_connection_is_in_nobodys_way(filled: Lineage):
    path = filled.store / "lineage.duckdb"
    assert filled.sql("select count(*) from runs").item() == 1
    code = f"import duckdb; duckdb.connect({str(path)!r}).execute('drop view dropped_rows')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert [p.says for p in filled.verify()] == ["the view dropped_rows is not the promised one"]
    with duckdb.connect(str(path)) as own:
        own.execute("delete from runs")
    assert filled.sql("select count(*) from runs").item() == 0
    assert [p.name for p in filled.store.iterdir() if p.name.startswith(".")] == []


def test_another_committer_at_work_only_makes_the_index_late(filled: Lineage):
    filled.append([("runs", {"run_id": "r2"})])
    with locked(filled.store / "lineage.lock"):
        assert filled._index.catch_up(wait_s=0.05) is False
    assert filled.index() is True


def test_the_file_can_be_read_by_plain_duckdb_while_we_are_idle(filled: Lineage):
    with duckdb.connect(str(filled.store / "lineage.duckdb"), read_only=True) as foreign:
        assert foreign.sql("select reason from dropped_rows order by row_id").fetchall() == [
            ("too short",),
            ("duplicate",),
        ]
        assert foreign.sql("select count(*) from model_rows").fetchall() == [(7,)]


def test_a_newer_index_is_refused_and_an_older_one_rebuilt(filled: Lineage):
    def stamp(version: int) -> None:
        with duckdb.connect(str(filled.store / "lineage.duckdb")) as connection:
            connection.execute(
                f"insert into meta select * replace ({version} as schema_version) from meta"
            )

    before = dump(filled)
    with duckdb.connect(str(filled.store / "lineage.duckdb")) as connection:
        connection.execute("update meta set schema_version = 0")
        connection.execute("drop view dropped_rows")
    assert Lineage(filled.store).sql("from dropped_rows").height == 2
    assert all(frame.equals(before[name]) for name, frame in dump(filled).items())
    stamp(schema.VERSION + 1)
    with pytest.raises(ExecutionError, match="has version 3, this datapipe reads up to 2"):
        Lineage(filled.store).index()


def test_an_index_that_knows_more_than_the_journal_is_refused(filled: Lineage, tmp_path: Path):
    other = Lineage(tmp_path / "other", create=True)
    other.append([("runs", {"run_id": "x"})])
    (filled.store / "lineage.duckdb").replace(other.store / "lineage.duckdb")
    with pytest.raises(TrustError, match="the journal has 1 or other ones"):
        other.sql("from runs")
    other.rebuild()
    assert other.sql("select run_id from runs").item() == "x"


def test_a_file_that_is_no_database_is_told_and_rebuilt(filled: Lineage):
    before = dump(filled)
    (filled.store / "lineage.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(TrustError, match="cannot be read"):
        filled.sql("from runs")
    filled.rebuild()
    assert all(frame.equals(before[name]) for name, frame in dump(filled).items())


def test_a_damaged_object_is_not_indexed(filled: Lineage):
    digest = json.loads(filled.sql("select to_json(min(held_out_object)) from models").item())
    path = filled.object_path(digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(TrustError, match="does not have the digest"):
        filled.rebuild()
    assert filled.sql("select count(*) from models").item() == 1


def test_two_million_dropped_rows_are_one_cheap_insert(lineage: Lineage):
    """A ratio, not a time: indexing costs at most a few readings of the same file."""
    rows = 1_000_000
    path = lineage.scratch() / "drops.parquet"
    pl.select(
        row_id=pl.int_range(rows, dtype=pl.UInt64) + (1 << 40),
        reason=pl.int_range(rows).cast(pl.String).str.slice(0, 1),
    ).write_parquet(path)
    digest, kept = lineage.put_object(path, suffix=".parquet")
    lineage.append([("row_drops", {"step_id": "s", "object": digest, "rows": rows})])
    lineage.append([("steps", {"step_id": "s", "run_id": "r"})])
    start = time.process_time()
    assert pl.read_parquet(kept).sort("reason").height == rows
    sort = time.process_time() - start
    start = time.process_time()
    assert lineage.index()
    cost = time.process_time() - start
    assert lineage.sql("select count(*) from dropped_rows").item() == rows
    assert cost < 20 * sort + 1
