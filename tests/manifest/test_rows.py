# SPDX-License-Identifier: Apache-2.0
"""A row's proof holds for that row and no other, here and for the second verifier."""

from __future__ import annotations

import dataclasses
import importlib
import json
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from datapipe.core.roles import ROW_ID
from datapipe.errors import DeclarationError, Malformed, TrustError
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.canonical import canonical_json
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.rows import RowProof, prove_row, row_forms, row_tree
from datapipe.manifest.signers import PrivateKey
from datapipe.manifest.verify import verify_path

KEY = PrivateKey.new("ed25519")
N = 37


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed table with every type of cell."""
    draw = random.Random(5)
    path = tmp_path_factory.mktemp("rows") / "t.parquet"
    pl.DataFrame(
        {
            ROW_ID: pl.Series([(1 << 40) | i for i in range(N)], dtype=pl.UInt64),
            "text": [draw.choice(["a", 'q"uo\\te', "größe 𝄞", "x\ny", None]) for _ in range(N)],
            "big": [draw.choice([2**62, -(2**60), 3, None]) for _ in range(N)],
            "float": [draw.choice([1.0, 0.1, 1e21, -1e-7, float("nan"), float("inf"), None])
                      for _ in range(N)],
            "flag": [draw.choice([True, False, None]) for _ in range(N)],
            "at": [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=i) for i in range(N)],
            "day": [date(2026, 1, 1)] * N,
            "clock": [time(12, 30)] * N,
            "span": [timedelta(seconds=-i, microseconds=7) for i in range(N)],
            "money": pl.Series([Decimal("1.50")] * N, dtype=pl.Decimal(10, 2)),
            "raw": [bytes([i, 255]) for i in range(N)],
            "tags": [draw.choice([["x"], [], None]) for _ in range(N)],
            "pair": [{"b": i, "a": [i, None]} for i in range(N)],
            "\U0001f600": [1] * N,
            "\ufb01": [2] * N,
        }
    ).write_parquet(path)  # fmt: skip
    rows, tree = row_tree(path)
    sign_path(path, KEY, predicate=DatasetPredicate("t", rows=rows, row_tree=tree))
    return path


@pytest.fixture(scope="module")
def envelope(table: Path) -> Envelope:
    return Envelope.load(table.with_name("t.parquet.dsse.json"))


@pytest.fixture(scope="module")
def second(root: Path):
    """The verifier that shares no code with us."""
    import sys

    folder = str(root / "manifests" / "vectors")
    sys.path.insert(0, folder)
    yield importlib.import_module("verify_row").proved
    sys.path.remove(folder)


def ids() -> list[int]:
    return [(1 << 40) | i for i in range(N)]


def test_a_row_is_one_canonical_json_object(table):
    for form in row_forms(table):
        assert canonical_json(json.loads(form)) == form


def test_the_same_rows_have_the_same_root_however_they_are_stored(table, tmp_path):
    other = tmp_path / "other.parquet"
    pl.read_parquet(table).write_parquet(other, compression="snappy", row_group_size=5)
    assert row_tree(other) == row_tree(table)
    frame = pl.read_parquet(table)
    frame.with_columns(text=frame["text"].fill_null("a")).write_parquet(other)
    assert row_tree(other) != row_tree(table)


def test_every_row_can_be_proved_and_both_verifiers_agree(table, envelope, second):
    pem = KEY.public_key.to_pem()
    for row_id in ids():
        data = prove_row(table, row_id, envelope).to_bytes()
        assert RowProof.from_bytes(data).check(envelope.statement()).passed
        assert second(data, pem)[ROW_ID] == row_id


def changed(proof: RowProof) -> dict[str, RowProof]:
    """Proofs that must not hold."""
    values = proof.values
    text = canonical_json({**values, "text": "another"}).decode()
    short, long = proof.path[:-1], (*proof.path, proof.path[0])
    swapped = (proof.path[1], proof.path[0], *proof.path[2:])
    return {
        "another value": dataclasses.replace(proof, row=text),
        "a cell less": dataclasses.replace(
            proof, row=canonical_json({k: v for k, v in values.items() if k != "flag"}).decode()
        ),
        "another form": dataclasses.replace(proof, row=json.dumps(values)),
        "another place": dataclasses.replace(proof, index=proof.index ^ 1),
        "no place": dataclasses.replace(proof, index=N),
        "before the first": dataclasses.replace(proof, index=-1),
        "another size": dataclasses.replace(proof, size=N + 1),
        "a path too short": dataclasses.replace(proof, path=short),
        "a path too long": dataclasses.replace(proof, path=long),
        "a path out of order": dataclasses.replace(proof, path=swapped),
    }


def test_what_is_not_the_row_is_refused_by_both(table, envelope, second):
    proof = prove_row(table, ids()[11], envelope)
    for name, wrong in changed(proof).items():
        assert not wrong.check(envelope.statement()).passed, name
        with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
            second(wrong.to_bytes(), KEY.public_key.to_pem())


def test_verify_asks_who_signed(table, envelope, tmp_path):
    file = tmp_path / "p.row.json"
    file.write_bytes(prove_row(table, ids()[0], envelope).to_bytes())
    assert verify_path(file, keys=[KEY.public_key]).passed
    assert not verify_path(file, keys=[PrivateKey.new("ed25519").public_key]).passed
    assert not verify_path(file).passed
    for cut in (b"", b"{}", file.read_bytes()[:-20], b"[" * 9999):
        file.write_bytes(cut)
        assert not verify_path(file, keys=[KEY.public_key]).passed


def test_a_table_that_changed_after_signing_gives_no_proof(table, envelope, tmp_path):
    other = tmp_path / "t.parquet"
    pl.read_parquet(table).with_columns(flag=pl.lit(value=True)).write_parquet(other)
    with pytest.raises(TrustError, match="not what was signed"):
        prove_row(other, ids()[0], envelope)


def test_a_row_that_is_not_there_and_a_file_that_is_no_table(table, envelope, tmp_path):
    with pytest.raises(DeclarationError, match="no row 7"):
        prove_row(table, 7, envelope)
    (tmp_path / "x").write_text("no table")
    with pytest.raises(Malformed):
        prove_row(tmp_path / "x", 7, envelope)
