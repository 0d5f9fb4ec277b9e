# SPDX-License-Identifier: Apache-2.0
"""The reference reader on our sidecar: trusted under our anchor, invalid when a byte flips."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from datapipe.cli.app import main
from datapipe.errors import DeclarationError, TrustError
from datapipe.integrations.c2pa import PARQUET, sidecar
from datapipe.manifest.keys import new_key
from datapipe.manifest.signers import PrivateKey

c2pa = pytest.importorskip("c2pa")


def name(common: str) -> x509.Name:
    told = {NameOID.COMMON_NAME: common, NameOID.ORGANIZATION_NAME: "datapipe tests"}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in told.items()])


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def chain(key: PrivateKey) -> tuple[str, str]:
    """The certificate chain of a key, and the anchor that issued it."""
    authority = PrivateKey.new("p256")
    now = datetime.now(UTC)

    def begun(subject: str, public) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("anchor"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
        )

    def usage(*, signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            signs, False, False, False, False, not signs, not signs, False, False
        )  # fmt: skip

    issuer_id = x509.SubjectKeyIdentifier.from_public_key(authority.raw.public_key())
    root = (
        begun("anchor", authority.raw.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(issuer_id, critical=False)
        .sign(authority.raw, hashes.SHA256())
    )
    leaf = (
        begun("signer", key.raw.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
            critical=False,
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.raw.public_key()), critical=False
        )
        .sign(authority.raw, hashes.SHA256())
    )
    return pem(leaf) + pem(root), pem(root)


def read(manifest: bytes, data: bytes, anchor: str) -> tuple[str, dict]:
    settings = {
        "trust": {"user_anchors": anchor},
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    context = c2pa.Context.from_dict(settings)
    with c2pa.Reader(PARQUET, io.BytesIO(data), manifest_data=manifest, context=context) as reader:
        return reader.get_validation_state(), json.loads(reader.json())


@pytest.mark.parametrize("algorithm", ["p256", "p384", "ed25519"])
def test_trusted_under_our_anchor_and_invalid_on_a_flipped_byte(
    exported, facts, tmp_path, algorithm
):
    key = PrivateKey.new(algorithm)
    certificates, anchor = chain(key)
    data = exported.object_path(facts.final["digest"]).read_bytes()
    file = tmp_path / "rows.parquet"
    file.write_bytes(data)
    made = sidecar(facts, file, key, certificates)
    assert file.read_bytes() == data
    state, told = read(made, data, anchor)
    assert state == "Trusted"
    active = told["manifests"][told["active_manifest"]]
    run = next(a["data"] for a in active["assertions"] if a["label"] == "dev.datapipe.run")
    assert run["run"] == facts.run_id
    _, stranger = chain(key)
    assert read(made, data, stranger)[0] == "Valid"
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    assert read(made, bytes(flipped), anchor)[0] == "Invalid"


def test_a_certificate_of_another_key_is_refused(exported, facts, tmp_path):
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"PAR1" + b"0" * 100 + b"PAR1")
    certificates, _ = chain(PrivateKey.new("p256"))
    with pytest.raises(TrustError, match="C2PA refuses"):
        sidecar(facts, file, PrivateKey.new("p256"), certificates)


def test_a_key_that_c2pa_does_not_know_is_refused(facts, tmp_path):
    with pytest.raises(DeclarationError, match="ml-dsa-65"):
        sidecar(facts, tmp_path / "a", PrivateKey.new("ml-dsa-65"), "")


def test_on_the_command_line(exported, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse battery")
    key = new_key("p256", tmp_path / "key.pem", b"correct horse battery", rounds=1000)
    certificates, anchor = chain(key)
    (tmp_path / "chain.pem").write_text(certificates)
    words = ["lineage", "export", tmp_path / "out", "--format", "c2pa", "--store", exported.store]
    assert main([str(w) for w in words]) == 2
    words += ["--key", tmp_path / "key.pem", "--certificate", tmp_path / "chain.pem"]
    assert main([str(w) for w in words]) == 0
    (made,) = (tmp_path / "out").glob("*.c2pa")
    data = made.with_name(made.name.removesuffix(".c2pa")).read_bytes()
    assert read(made.read_bytes(), data, anchor)[0] == "Trusted"


def test_rows_of_which_nobody_said_what_they_are_are_not_called_synthetic(
    exported, facts, tmp_path
):
    quiet = type(facts)(
        facts.run_id,
        {**facts.answers, "sources": [s | {"synthetic": None} for s in facts["sources"]]},
    )
    key = PrivateKey.new("p256")
    certificates, anchor = chain(key)
    file = tmp_path / "rows.parquet"
    file.write_bytes(exported.object_path(facts.final["digest"]).read_bytes())
    made = sidecar(quiet, file, key, certificates)
    assert read(made, file.read_bytes(), anchor)[0] == "Trusted"
    assert b"trainedAlgorithmic" not in made
    assert b"not recorded" in made
