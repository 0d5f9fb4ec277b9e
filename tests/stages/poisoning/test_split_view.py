# SPDX-License-Identifier: Apache-2.0
"""SplitView: changed, swapped and unlisted items are told to the row; late edits are doubted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from datapipe.cli.app import main
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.stages.poisoning.split_view import SplitView
from datapipe.testing import check_stage

KEY, OTHER = PrivateKey.new("p256"), PrivateKey.new("ed25519")
TEXTS = [f"page {i}" for i in range(40)]
TAKEN = datetime(2026, 3, 1, tzinfo=UTC)
ROLES = Roles.of(id="url", text="t")


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(KEY.public_key.to_pem())
    return path


def rows(texts=TEXTS):
    return pl.DataFrame({"url": [f"https://a.example/{i}" for i in range(len(texts))], "t": texts})


def listed(folder, frame, *, digests, signer=KEY):
    """A signed snapshot of a frame, with digests in place of the texts or with the texts."""
    path = folder / "snapshot.parquet"
    told = [hashlib.sha256(t.encode()).hexdigest() for t in frame["t"]]
    kept = frame.select("url", pl.Series("sha256", told)) if digests else frame
    kept.write_parquet(path)
    said = DatasetPredicate(path.name, recorded_at=TAKEN.strftime("%Y-%m-%dT%H:%M:%SZ"))
    sign_path(path, signer, predicate=said)
    return path


def look(frame, snapshot, key, roles=ROLES, **arguments):
    stage = SplitView(signed=snapshot, trusted=key, **arguments)
    found = stage.run(Dataset.of(frame, roles), Context(0, snapshot.parent)).findings
    return {f.kind.split(".")[1]: f for f in found}


@pytest.mark.parametrize("digests", [True, False])
def test_items_served_otherwise_are_told_to_the_row(tmp_path, key, digests):
    snapshot = listed(tmp_path, rows(), digests=digests)
    assert look(rows(), snapshot, key)["split_view"].verdict == "clean"
    texts = list(TEXTS)
    texts[7], texts[20], texts[21] = "page 7.", texts[21], texts[20]  # one edited, two swapped
    served = pl.concat([rows(texts), pl.DataFrame({"url": ["https://b.example"], "t": ["new"]})])
    made = look(served.reverse(), snapshot, key)["split_view"]
    flagged = made.rows.filter("flagged")
    assert made.verdict == "fail"
    assert sorted(flagged["row_id"].to_list()) == sorted(40 - i for i in (7, 20, 21, 40))
    assert set(made.details["items"]) == {f"https://a.example/{i}" for i in (7, 20, 21)}
    assert (made.details["changed"], made.details["unlisted"], made.details["gone"]) == (3, 1, 0)
    assert made.details["signer"] == KEY.public_key.keyid
    assert made.rows.height == served.height


def test_a_moved_label_is_a_change_of_its_column(tmp_path, key):
    frame = rows().with_columns(y=pl.Series([i % 2 for i in range(40)]))
    snapshot = listed(tmp_path, frame, digests=False)
    moved = frame.with_columns(y=pl.when(pl.arange(0, 40) == 5).then(0).otherwise("y"))
    made = look(moved, snapshot, key)["split_view"]
    assert made.details["columns"] == {"y": 1}
    as_text = look(frame.cast({"y": pl.String}), snapshot, key)["split_view"]
    assert as_text.verdict == "clean"


def test_a_snapshot_that_nobody_trusted_signed_proves_nothing(tmp_path, key):
    snapshot = listed(tmp_path, rows(), digests=True, signer=OTHER)
    assert look(rows(), snapshot, key)["split_view"].verdict == "not_evaluated"
    snapshot = listed(tmp_path, rows(), digests=True)
    forged = pl.read_parquet(snapshot).with_columns(sha256=pl.lit("0" * 64))
    forged.write_parquet(snapshot)
    made = look(rows(), snapshot, key)["split_view"]
    assert made.verdict == "not_evaluated"
    assert "does not hold" in made.says


@pytest.mark.parametrize(
    ("frame", "roles", "says"),
    [
        (rows(), Roles.of(text="t"), "role id"),
        (rows().with_columns(url=pl.lit("elsewhere")), ROLES, "no row has the key"),
        (rows().drop("t"), Roles.of(id="url"), "name the one column"),
        (rows().with_columns(t=pl.Series([[1]] * 40)), Roles.of(id="url", image="t"), "no bytes"),
    ],
)
def test_what_cannot_be_held_against_it_is_not_evaluated(tmp_path, key, frame, roles, says):
    made = look(frame, listed(tmp_path, rows(), digests=True), key, roles)["split_view"]
    assert made.verdict == "not_evaluated"
    assert says in made.says


def test_edits_just_before_the_snapshot_are_doubted(tmp_path, key):
    made_at = [TAKEN - timedelta(days=30 + i) for i in range(40)]
    made_at[3], made_at[4] = TAKEN - timedelta(days=1), TAKEN + timedelta(days=2)
    roles = Roles.of(id="url", text="t", time="at")
    snapshot = listed(tmp_path, rows(), digests=True)
    for form in (pl.Series("at", made_at), pl.Series("at", [m.isoformat() for m in made_at])):
        made = look(rows().with_columns(form), snapshot, key, roles)["front_run"]
        assert made.verdict == "suspect"
        assert made.rows.filter("flagged")["row_id"].to_list() == [3, 4]
        assert made.details["after"] == 1
    old = rows().with_columns(at=pl.lit(TAKEN - timedelta(days=30)))
    assert look(old, snapshot, key, roles)["front_run"].verdict == "clean"
    assert look(old, snapshot, key, roles, taken="2026-02-01")["front_run"].verdict == "suspect"
    assert look(rows(), snapshot, key)["front_run"].verdict == "not_evaluated"


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", ""])
def test_the_snapshot_may_say_of_each_item_when_it_was_looked_at(tmp_path, key, form):
    """What `datapipe sign` attests carries no day; items may have been fetched on many."""
    seen = pl.Series("taken", [TAKEN + timedelta(days=i) for i in range(40)])
    path = tmp_path / "list.parquet"
    told = pl.Series("sha256", [hashlib.sha256(t.encode()).hexdigest() for t in TEXTS])
    when = seen.dt.strftime(form) if form else seen
    rows().select("url", told, when).write_parquet(path)
    sign_path(path, KEY)
    roles = Roles.of(id="url", text="t", time="at")
    made_at = rows().with_columns(at=pl.lit(TAKEN - timedelta(days=1)))
    made = look(made_at, path, key, roles)
    assert made["split_view"].verdict == "clean"
    assert made["front_run"].verdict == "suspect"
    assert made["front_run"].rows.filter("flagged")["row_id"].to_list() == list(range(6))
    assert made["front_run"].details["taken"] == "2026-03-01"
    plain = tmp_path / "plain.parquet"
    rows().select("url", told).write_parquet(plain)
    sign_path(plain, KEY)
    silent = look(made_at, plain, key, roles)["front_run"]
    assert silent.verdict == "not_evaluated"
    assert "column 'taken'" in silent.says


@pytest.mark.parametrize(("without", "verdict"), [(2, "clean"), (3, "not_evaluated")])
def test_items_without_a_time_are_not_passed(tmp_path, key, without, verdict):
    made_at = [None] * without + [TAKEN - timedelta(days=30)] * (40 - without)
    roles = Roles.of(id="url", text="t", time="at")
    snapshot = listed(tmp_path, rows(), digests=True)
    made = look(rows().with_columns(at=pl.Series(made_at)), snapshot, key, roles)["front_run"]
    assert made.verdict == verdict
    assert made.details["without_time"] == without


def test_the_audit_reaches_it(tmp_path, key):
    snapshot = listed(tmp_path, rows(), digests=True)
    texts = [*TEXTS[:-1], "swapped"]
    file = tmp_path / "served.parquet"
    rows(texts).write_parquet(file)
    command = [sys.executable, "-m", "datapipe", "audit", file, "--id", "url", "--text", "t",
               "--snapshot", snapshot, "--key", key, "--json",
               "--store", tmp_path / "s"]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = {f["kind"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["poisoning.split_view"]["details"]["items"] == ["https://a.example/39"]
    assert done.returncode == 3


def test_conformance():
    assert not check_stage(SplitView()).failed


def test_a_snapshot_without_a_trusted_key_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("id,t\n1,a\n")
    (tmp_path / "s.parquet").write_text("no table")
    words = ["audit", "a.csv", "--id", "id", "--text", "t", "--snapshot", "s.parquet"]
    assert main(words) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "s.parquet"]
