# SPDX-License-Identifier: Apache-2.0
"""VerifySources: verified, unsigned and invalid sources, and the ways to forge one."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.digest import digest_file, digest_json
from datapipe.core.roles import ROW_ID
from datapipe.errors import TrustError
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.keys import PrivateKey
from datapipe.stages import ReadObject, ReadParquet, VerifySources

KEY, OTHER = PrivateKey.new("p256"), PrivateKey.new("ed25519")


@pytest.fixture
def trusted(tmp_path):
    path = tmp_path / "trusted.pem"
    path.write_text(KEY.public_key.to_pem())
    return path


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data"
    made.mkdir()
    for name in "ab":
        pq.write_table(pa.table({"v": list(range(10)), "n": [name] * 10}), made / f"{name}.parquet")
    return made


def read(*readers, tmp_path):
    """What the executor does with readers: numbers for sources, names for rows."""
    frames, sources = [], []
    for number, reader in enumerate(readers, 1):
        made = reader.run(empty(), Context(0, tmp_path))
        files = reader.files()
        digests = [digest_file(f) for f in files]
        digest = digests[0] if len(digests) == 1 else digest_json(digests)
        sources.append(replace(made.data.sources[0], number=number, digest=digest))
        frame = made.data.frame(row_id=True).cast({"v": int})
        frames.append(frame.with_columns(frame[ROW_ID] + (number << 40)))
    frame = frames[0] if len(frames) == 1 else frames[0].vstack(frames[1])
    return Dataset(frame.lazy(), sources=sources)


def verify(data, trusted, tmp_path):
    made = VerifySources(trusted=trusted).run(data, Context(0, tmp_path))
    return made, {s.name: s for s in made.data.sources}, {f.kind: f for f in made.findings}


def test_signed_and_unsigned_sources_are_told_apart(folder, trusted, tmp_path):
    sign_path(folder / "a.parquet", KEY)
    data = read(
        ReadParquet(folder / "a.parquet"), ReadParquet(folder / "b.parquet"), tmp_path=tmp_path
    )
    made, sources, findings = verify(data, trusted, tmp_path)
    assert (sources["a"].trust, sources["a"].signer) == ("verified", KEY.public_key.keyid)
    assert (sources["b"].trust, sources["b"].signer) == ("unsigned", "")
    unsigned = findings["provenance.unsigned"]
    assert unsigned.verdict == "suspect"
    assert (unsigned.measure.value, unsigned.measure.n) == (0.5, 20)
    assert unsigned.rows.height == 20
    assert {r >> 40 for r in unsigned.flagged["row_id"]} == {2}
    assert findings["provenance.invalid"].verdict == "clean"
    assert made.data.frame(row_id=True).equals(data.frame(row_id=True))
    assert not VerifySources().cacheable()


@pytest.mark.parametrize("declared", [True, False])
def test_a_signed_folder_covers_its_files(folder, trusted, tmp_path, declared):
    signed = sign_path(folder, KEY)
    reader = ReadParquet(folder / "*.parquet", manifest=signed.attestation if declared else "")
    _, sources, findings = verify(read(reader, tmp_path=tmp_path), trusted, tmp_path)
    assert [s.trust for s in sources.values()] == ["verified"]
    assert findings["provenance.unsigned"].verdict == "clean"


def tampered(folder):
    table = pq.read_table(folder / "a.parquet").slice(1)
    pq.write_table(table, folder / "a.parquet")


def other_signer(folder):
    sign_path(folder / "a.parquet", OTHER)


def swapped_signature(folder):
    shutil.copy(folder / "b.parquet.dsse.json", folder / "a.parquet.dsse.json")


def broken_signature(folder):
    path = folder / "a.parquet.dsse.json"
    path.write_text(path.read_text()[:-20])


def emptied_signature(folder):
    (folder / "a.parquet.dsse.json").write_text("{}")


@pytest.mark.parametrize(
    "forge", [tampered, other_signer, swapped_signature, broken_signature, emptied_signature]
)
def test_forgeries_are_invalid_and_fail(folder, trusted, tmp_path, forge):
    for name in "ab":
        sign_path(folder / f"{name}.parquet", KEY)
    forge(folder)
    data = read(ReadParquet(folder / "a.parquet"), tmp_path=tmp_path)
    _, sources, findings = verify(data, trusted, tmp_path)
    assert sources["a"].trust == "invalid"
    invalid = findings["provenance.invalid"]
    assert invalid.verdict == "fail"
    assert invalid.flagged.height == len(data)
    assert invalid.details["sources"][0]["why"]


def test_a_manifest_of_other_files_does_not_vouch(folder, trusted, tmp_path):
    signed = sign_path(folder / "b.parquet", KEY)
    reader = ReadParquet(folder / "a.parquet", manifest=signed.attestation)
    _, sources, _ = verify(read(reader, tmp_path=tmp_path), trusted, tmp_path)
    assert sources["a"].trust == "invalid"


def test_a_declared_manifest_that_is_missing_is_invalid(folder, trusted, tmp_path):
    reader = ReadParquet(folder / "a.parquet", manifest=folder / "a.parquet.dsse.json")
    _, sources, _ = verify(read(reader, tmp_path=tmp_path), trusted, tmp_path)
    assert sources["a"].trust == "invalid"


def test_files_changed_and_signed_again_after_reading_are_invalid(folder, trusted, tmp_path):
    data = read(ReadParquet(folder / "a.parquet"), tmp_path=tmp_path)
    tampered(folder)
    sign_path(folder / "a.parquet", KEY)
    _, sources, findings = verify(data, trusted, tmp_path)
    assert sources["a"].trust == "invalid"
    assert "changed after" in findings["provenance.invalid"].says


def test_one_unsigned_file_makes_its_source_unsigned(folder, trusted, tmp_path):
    sign_path(folder / "a.parquet", KEY)
    data = read(ReadParquet(folder / "*.parquet", named="both"), tmp_path=tmp_path)
    _, sources, _ = verify(data, trusted, tmp_path)
    assert sources["both"].trust == "unsigned"


def test_objects_are_unsigned(trusted, tmp_path):
    made = ReadObject(pa.table({"v": [1]})).run(empty(), Context(0, tmp_path))
    _, sources, findings = verify(made.data, trusted, tmp_path)
    assert sources["object"].trust == "unsigned"
    assert findings["provenance.invalid"].verdict == "not_evaluated"


def test_without_trusted_keys_nothing_is_evaluated(folder, tmp_path):
    sign_path(folder / "a.parquet", KEY)
    data = read(ReadParquet(folder / "a.parquet"), tmp_path=tmp_path)
    made = VerifySources().run(data, Context(0, tmp_path))
    assert {f.verdict for f in made.findings} == {"not_evaluated"}
    assert made.data.sources[0].trust == "unsigned"


def test_a_trusted_key_that_is_missing_stops(folder, tmp_path):
    data = read(ReadParquet(folder / "a.parquet"), tmp_path=tmp_path)
    with pytest.raises(TrustError):
        VerifySources(trusted=tmp_path / "none.pem").run(data, Context(0, tmp_path))
