# SPDX-License-Identifier: Apache-2.0
"""What is promised, documented and made by DuckDB is the same; what does not fit is refused."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from datapipe.errors import DeclarationError
from datapipe.lineage import schema
from datapipe.lineage.load import make
from datapipe.lineage.store import Lineage

CONTRACT = Path(__file__).parents[2] / "manifests" / "lineage"
PROMISED_TABLES = """
runs run_events steps step_io datasets sources findings row_findings label_changes models exports
privacy_events attestations log_entries log_checkpoints
""".split()  # noqa: SIM905 - reads as the design states it
PROMISED_VIEWS = {
    "run_status": "run_id pipeline state started_at ended_at verdict",
    "dropped_rows": "run_id row_id source_no ordinal source step_id stage reason",
    "row_history": "row_id source_no ordinal run_id position stage event reason score",
    "model_sources": "model_id name run_id source_no source origin licence rows",
    "model_rows": "model_id row_id source_no ordinal",
    "source_impact": "source_no source kind digest name",
    "synthetic_share": "run_id dataset rows declared_rows declared_share",
    "unsigned_inputs": "run_id source_no name uri trust",
    "privacy_spend": "dataset unit delta epsilon_sum_bound events",
    "label_history": "row_id source_no ordinal run_id position stage before after why posterior "
    "changed_by",
    "column_lineage": "run_id stage column_out column_in how",
}


@pytest.fixture
def database():
    with duckdb.connect() as connection:
        make(connection)
        yield connection


def described(connection, name: str) -> list[tuple[str, str]]:
    return [(n, t.lower()) for n, t, *_ in connection.execute(f'describe "{name}"').fetchall()]


def documented(page: str) -> dict[str, list[tuple[str, str, str]]]:
    """Table name to (column, type, meaning), read from a page of the contract."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for line in (CONTRACT / page).read_text().splitlines():
        if match := re.match(r"## `(\w+)`", line):
            found[match[1]] = []
        elif match := re.match(r"\| `(\w+)` \| (\w+) \| (.*) \|$", line):
            found[list(found)[-1]].append(match.groups())
    return found


def test_the_tables_read_from_the_schema_are_those_duckdb_makes(database):
    assert set(PROMISED_TABLES) <= set(schema.tables())
    for name, table in schema.tables().items():
        assert described(database, name) == [(c.name, c.type) for c in table.columns]
        assert table.columns[0].name == "seq"


@pytest.mark.parametrize("view", PROMISED_VIEWS)
def test_promised_views_have_their_columns(database, view):
    assert [n for n, _ in described(database, view)] == PROMISED_VIEWS[view].split()


def test_the_page_of_tables_is_the_schema():
    stated = documented("tables.md")
    assert list(stated) == list(schema.tables())
    for name, table in schema.tables().items():
        assert stated[name] == [(c.name, c.type, c.meaning) for c in table.columns]


def test_the_page_of_views_is_what_duckdb_makes(database):
    stated = documented("views.md")
    rows = database.execute("select view_name from duckdb_views() where not internal").fetchall()
    assert set(stated) == {name for (name,) in rows}
    for name, columns in stated.items():
        assert [(n, t) for n, t, _ in columns] == described(database, name), name


def test_the_pages_name_the_version():
    for page in ("tables.md", "views.md", "README.md"):
        assert f"version {schema.VERSION}" in (CONTRACT / page).read_text()


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("step", {}, "did you mean 'steps'"),
        ("meta", {}, "no record of kind 'meta'"),
        ("log_entries", {}, "no record of kind"),
        ("runs", {"pipline": "x"}, "did you mean 'pipeline'"),
        ("runs", {"seed": "7"}, "runs.seed is bigint, not str"),
        ("runs", {"seed": 2**63}, "runs.seed is bigint"),
        ("runs", {"seed": True}, "not bool"),
        ("runs", {"started_at": "yesterday"}, "runs.started_at is timestamp"),
        ("sources", {"synthetic": 1}, "sources.synthetic is boolean"),
        ("runs", {"pipeline": "\ud800"}, "no JSON form"),
        ("log_checkpoints", {"size": -1}, "log_checkpoints.size is ubigint"),
        ("row_drops", {"object": "sha256:00"}, "not in the store"),
    ],
)
def test_what_could_not_be_indexed_is_refused_before_it_is_recorded(lineage, kind, body, says):
    with pytest.raises(DeclarationError, match=re.escape(says)):
        lineage.append([("runs", {"run_id": "r"}), (kind, body)])
    assert lineage.root()[0] == 0


def test_rows_that_cannot_be_indexed_are_refused(lineage: Lineage, tmp_path: Path):
    text, _ = lineage.put_bytes(b"no parquet")
    with pytest.raises(DeclarationError, match="no Parquet file"):
        lineage.append([("row_drops", {"object": text})])
    import polars as pl

    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "a.parquet")
    digest, _ = lineage.put_object(tmp_path / "a.parquet")
    with pytest.raises(DeclarationError, match="no column row_id"):
        lineage.append([("row_drops", {"object": digest})])
