# SPDX-License-Identifier: Apache-2.0
"""Folders and files against their signatures: whatever was done to them is named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.bundle import sign_path, signature_paths
from datapipe.manifest.checks import Reason, Report
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.predicates import DatasetPredicate, EvaluationPredicate, read_predicate
from datapipe.manifest.statement import Subject
from datapipe.manifest.verify import verify_envelope, verify_path


def codes(path, *keys, **options):
    public = [part for key in keys for part in key.public_keys]
    return {check.code for check in verify_path(path, keys=public, **options).failed}


def flip(folder):
    path = folder / "rows.csv"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


def truncate(folder):
    os.truncate(folder / "rows.csv", 10)


def swap(folder):
    (folder / "sub-a").replace(folder / "kept")
    (folder / "rows.csv").replace(folder / "sub-a")
    (folder / "kept").replace(folder / "rows.csv")


def link(folder):
    (folder / "rows.csv").replace(folder.parent / "elsewhere")
    (folder / "rows.csv").symlink_to(folder.parent / "elsewhere")


MUTATIONS = {
    "byte flip": (flip, {Reason.CHANGED}),
    "truncation": (truncate, {Reason.CHANGED}),
    "emptied": (lambda d: (d / "rows.csv").write_bytes(b""), {Reason.CHANGED}),
    "appended": (
        lambda d: (d / "rows.csv").write_bytes((d / "rows.csv").read_bytes() + b"\n"),
        {Reason.CHANGED},
    ),
    "added": (lambda d: (d / "new").write_bytes(b"x"), {Reason.ADDED}),
    "hidden file": (lambda d: (d / ".new").write_bytes(b"x"), {Reason.ADDED}),
    "removed": (lambda d: (d / "empty").unlink(), {Reason.MISSING}),
    "renamed": (lambda d: (d / "sub-a").rename(d / "sub-b"), {Reason.RENAMED}),
    "moved": (lambda d: (d / "sub-a").rename(d / "sub" / "a"), {Reason.RENAMED}),
    "swapped": (swap, {Reason.CHANGED}),
    "linked": (link, {Reason.SYMLINK}),
    "linked folder": (lambda d: (d / "more").symlink_to("sub"), {Reason.SYMLINK}),
    "pipe": (lambda d: os.mkfifo(d / "pipe"), {Reason.SPECIAL_FILE}),
    "gone": (shutil.rmtree, {Reason.MISSING}),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("only", ["both", "attestation", "openssf"])
def test_every_mutation_is_named(reviews, ada, mutation, only):
    signed = sign_path(reviews, ada)
    if only != "both":
        (signed.openssf if only == "attestation" else signed.attestation).unlink()
    assert codes(reviews, ada) == set()
    mutate, expected = MUTATIONS[mutation]
    mutate(reviews)
    assert codes(reviews, ada) == expected


def test_the_error_names_the_file_and_its_exit_code(reviews, bob):
    sign_path(reviews, bob)
    flip(reviews)
    with pytest.raises(TrustError) as caught:
        verify_path(reviews, keys=bob.public_keys).require()
    assert "rows.csv" in str(caught.value)
    assert (caught.value.exit_code, caught.value.code) == (4, Reason.CHANGED)


@pytest.mark.parametrize("name", ["ada", "bob", "cleo"])
def test_each_kind_of_key_signs_a_folder(reviews, name, request):
    key = request.getfixturevalue(name)
    signed = sign_path(reviews, key)
    assert (signed.openssf is None) == (name == "bob")
    assert bool(signed.says) == (name == "bob")
    assert codes(reviews, key) == set()
    assert codes(reviews, PrivateKey.new("p256")) == {Reason.WRONG_KEY}
    assert codes(reviews) == {Reason.NO_KEYS}


def test_several_sign_together(reviews, ada, bob, cleo):
    signed = sign_path(reviews, bob, ada, cleo)
    assert len(Envelope.load(signed.attestation).signatures) == 5
    assert codes(reviews, ada, bob, cleo) == set()
    assert codes(reviews, ada) == {Reason.UNKNOWN_SIGNER}
    with pytest.raises(DeclarationError):
        sign_path(reviews)


def test_signing_anew_leaves_no_old_bundle(reviews, ada, bob):
    sign_path(reviews, ada)
    flip(reviews)
    signed = sign_path(reviews, bob)
    assert not signature_paths(reviews)[0].exists()
    assert signed.attestation.exists()
    assert codes(reviews, ada, bob) == set()


@pytest.mark.parametrize("name", ["rows.csv", "empty", "sous\u00e9\u4e2d.txt"])
def test_a_single_file(reviews, ada, name):
    path = reviews / name
    sign_path(path, ada)
    assert codes(path, ada) == set()
    moved = path.rename(reviews / "other")
    for found in signature_paths(path):
        found.rename(found.with_name(found.name.replace(name, "other")))
    assert codes(moved, ada) == {Reason.RENAMED}
    path.write_bytes(b"changed")
    moved.unlink()
    assert Reason.MISSING in codes(moved, ada)


def test_signatures_can_be_named_themselves(reviews, ada):
    signed = sign_path(reviews, ada)
    for path in (signed.openssf, signed.attestation):
        assert codes(path, ada) == set()
    flip(reviews)
    for path in (signed.openssf, signed.attestation):
        assert codes(path, ada) == {Reason.CHANGED}


def test_nothing_signed_is_no_success(reviews, ada, tmp_path):
    assert codes(reviews, ada) == {Reason.UNSIGNED}
    assert codes(reviews / "rows.csv", ada) == {Reason.UNSIGNED}
    assert codes(tmp_path / "none", ada) == {Reason.MISSING}
    with pytest.raises(TrustError):
        Report("d", ()).require()


def test_a_signed_statement_inside_does_not_vouch_for_its_folder(reviews, ada):
    sign_path(reviews / "rows.csv", ada)
    assert codes(reviews, ada) == {Reason.UNSIGNED}


def attested(folder, key, **changes):
    """Sign an attestation whose subjects or predicate were changed first."""
    signed = sign_path(folder, key)
    form = json.loads(Envelope.load(signed.attestation).payload)
    form |= changes.get("top", {})
    form["predicate"] |= changes.get("predicate", {})
    if "subject" in changes:
        form["subject"] = changes["subject"](form["subject"])
    signed.attestation.write_bytes(Envelope.sign(json.dumps(form).encode(), key).to_bytes())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s[::-1], Reason.UNSORTED),
        (lambda s: [s[0], *s], Reason.DUPLICATE_NAME),
        (lambda s: s[:-1], Reason.MISSING),  # no tree: the files are looked for beside
        (lambda s: s[-1:], Reason.EMPTY_SET),
        (lambda s: [*s, s[-1]], Reason.SUBJECT_COUNT),
        (lambda s: [{**s[0], "name": "../a"}, *s[1:]], Reason.PARENT_PATH),
        (lambda s: [{**s[0], "name": "/a"}, *s[1:]], Reason.ABSOLUTE_PATH),
        (lambda s: [{**s[0], "name": "a\\b"}, *s[1:]], Reason.BACKSLASH),
        (lambda s: [{**s[0], "digest": {"sha512": "0" * 128}}, *s[1:]], Reason.UNKNOWN_HASH),
        (lambda s: [{**s[0], "name": "a"}, *s[1:]], Reason.RENAMED),
    ],
)
def test_hostile_attestations(reviews, bob, change, reason):
    attested(reviews, bob, subject=change)
    assert codes(reviews, bob) == {reason}


def test_the_tree_must_be_that_of_the_files(reviews, bob):
    zeros = "0" * 64
    attested(reviews, bob, predicate={"tree": zeros})
    assert codes(reviews, bob) == {Reason.ROOT_MISMATCH}
    tree = [{"name": "reviews/", "digest": {"rfc6962Sha256": zeros}}]
    attested(reviews, bob, predicate={"tree": zeros}, subject=lambda s: s[:-1] + tree)
    assert codes(reviews, bob) == {Reason.ROOT_MISMATCH}


def test_damaged_files_are_refused_not_crashed_on(reviews, ada):
    signed = sign_path(reviews, ada)
    for path in (signed.openssf, signed.attestation):
        whole = path.read_bytes()
        for broken in (b"", b"[]", whole[:-20], b"\xff" + whole, whole.replace(b"{", b"[", 1)):
            path.write_bytes(broken)
            assert codes(reviews, ada)
        path.write_bytes(whole)
    assert codes(reviews, ada) == set()


def test_evidence_is_verified_file_by_file(tmp_path, bob):
    folder = tmp_path / "stages" / "dedup"
    folder.mkdir(parents=True)
    code = b"the code"
    said = EvaluationPredicate("dedup.minhash").about(
        Subject("minhash.py", {"sha256": hashlib.sha256(code).hexdigest()})
    )
    (folder / "minhash.evidence.json").write_bytes(Envelope.sign(said.to_bytes(), bob).to_bytes())
    (folder / "minhash.md").write_text("# MinHash")
    (folder.parent / "README.md").write_text("# Stages")
    top = folder.parent
    assert codes(top, bob) == {Reason.MISSING}
    source = tmp_path / "minhash.py"
    source.write_bytes(code)
    where = {"minhash.py": source}
    assert codes(top, bob, locate=lambda subject: where.get(subject.name)) == set()
    source.write_bytes(b"new code")
    assert codes(top, bob, locate=lambda subject: where.get(subject.name)) == {Reason.CHANGED}
    (folder / "rows.parquet").write_bytes(b"poison")
    assert Reason.ADDED in codes(top, bob)


def test_an_envelope_alone(ada, bob):
    said = DatasetPredicate("d").about(Subject("a", {"sha256": "0" * 64}))
    envelope = Envelope.sign(said.to_bytes(), ada)
    assert verify_envelope(envelope, keys=ada.public_keys).passed
    assert not verify_envelope(envelope, keys=bob.public_keys).passed


def test_a_report_is_json(reviews, ada):
    sign_path(reviews, ada)
    flip(reviews)
    form = verify_path(reviews, keys=ada.public_keys).to_json()
    assert form["passed"] is False
    assert {check["slug"] for check in form["checks"]} == {"holds", "changed"}
    assert json.loads(json.dumps(form)) == form


def test_remembered_digests_sign_the_same(reviews, bob, tmp_path):
    memory = tmp_path / "memory.json"
    first = sign_path(reviews, bob, memory=memory)
    again = sign_path(reviews, bob, memory=memory)
    assert first.tree == again.tree == sign_path(reviews, bob).tree
    flip(reviews)
    sign_path(reviews, bob, memory=memory)
    assert codes(reviews, bob) == set()


def test_the_same_rows_in_another_file_are_told_apart_from_other_rows(tmp_path, ada):
    """The bytes were signed, so both are refused; one of them harmless, and it says so."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    table = pa.table({"x": list(range(1000)), "t": [f"text {i % 9}" for i in range(1000)]})
    pq.write_table(table, path, compression="zstd")
    said = read_predicate(Envelope.load(sign_path(path, ada).attestation).statement())
    assert (said.rows, len(said.logical), len(said.schema)) == (1000, 64, 64)
    for options in ({"compression": "snappy"}, {"row_group_size": 100}, {"use_dictionary": False}):
        pq.write_table(table, path, **options)
        assert Reason.REENCODED in codes(path, ada)
        assert not verify_path(path, keys=ada.public_keys).passed
    changes = {
        "a row less": table.slice(1),
        "two swapped": table.take(pa.array([1, 0, *range(2, 1000)])),
        "a row twice": pa.concat_tables([table.slice(0, 1), table]),
    }
    for changed in changes.values():
        pq.write_table(changed, path)
        assert codes(path, ada) == {Reason.CHANGED}
    path.write_bytes(b"PAR1 no table PAR1")
    assert codes(path, ada) == {Reason.CHANGED}
    assert read_predicate(Envelope.load(sign_path(path, ada).attestation).statement()).rows is None
