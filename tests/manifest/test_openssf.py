# SPDX-License-Identifier: Apache-2.0
"""OpenSSF bundles: ours have the form of the specification, hostile ones each get their reason."""

from __future__ import annotations

import base64
import hashlib
import json
import os

import pytest

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import pae
from datapipe.manifest.files import FileDigest, hash_tree
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.openssf import read_bundle, write_bundle
from datapipe.manifest.statement import Statement
from datapipe.manifest.verify import verify_bundle

TYPE = "application/vnd.in-toto+json"
SHA = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b", "c")}


def statement(*names, **changes):
    """A payload that is right unless told otherwise."""
    resources = [
        {"name": name, "algorithm": "sha256", "digest": SHA.get(name, SHA["a"])}
        for name in names or ("a", "b")
    ]
    joined = b"".join(bytes.fromhex(item["digest"]) for item in resources)
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    form = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "d", "digest": {"sha256": hashlib.sha256(joined).hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": changes.pop("resources", resources),
            "serialization": {**serialization, **changes.pop("serialization", {})},
        },
    }
    return {**form, **changes}


def bundle(payload, key, **changes):
    """Sign any payload: hostile bundles have good signatures."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    encode = lambda raw: base64.b64encode(raw).decode()  # noqa: E731  # read in place
    envelope = {
        "payload": encode(data),
        "payloadType": TYPE,
        "signatures": [{"sig": encode(key.sign(pae(TYPE, data)))}],
    }
    envelope |= changes.pop("envelope", {})
    hint = hashlib.sha256(key.public_key.to_pem().encode()).hexdigest()
    form = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": envelope,
    }
    return json.dumps({**form, **changes}).encode()


@pytest.fixture
def folder(tmp_path):
    """A folder of which `statement()` is true."""
    (tmp_path / "d").mkdir()
    for name in ("a", "b"):
        (tmp_path / "d" / name).write_bytes(name.encode())
    return tmp_path / "d"


def reasons(folder, data, key):
    """Every reason that verification gives."""
    path = folder.parent / "any.sigstore.json"
    path.write_bytes(data)
    return [check.code for check in verify_bundle(folder, path, keys=[key.public_key]).failed]


@pytest.mark.parametrize("algorithm", ["p256", "p384", "p521"])
def test_our_bundle_has_the_form_of_the_specification(reviews, algorithm):
    key = PrivateKey.new(algorithm)
    form = json.loads(write_bundle("reviews", hash_tree(reviews).files, key))
    payload = base64.b64decode(form["dsseEnvelope"]["payload"])
    said = json.loads(payload)
    names = [item["name"] for item in said["predicate"]["resources"]]
    raw = b"".join(hashlib.sha256((reviews / n).read_bytes()).digest() for n in sorted(names))
    assert names == sorted(names)
    assert said["subject"] == [
        {"name": "reviews", "digest": {"sha256": hashlib.sha256(raw).hexdigest()}}
    ]
    assert set(said["predicate"]) == {"resources", "serialization"}
    assert set(form) == {"mediaType", "verificationMaterial", "dsseEnvelope"}
    sig = base64.b64decode(form["dsseEnvelope"]["signatures"][0]["sig"])
    key.public_key.verify(sig, pae(TYPE, payload))


def test_the_honest_bundle_holds(folder, ada):
    assert reasons(folder, bundle(statement(), ada), ada) == []


HOSTILE_PAYLOADS = {
    "legacy predicate": (
        {"predicateType": "https://model_signing/Digests/v0.1"},
        Reason.LEGACY_PREDICATE,
    ),
    "other predicate": ({"predicateType": "https://example.org/v1"}, Reason.WRONG_PREDICATE),
    "two subjects": (
        {"subject": [{"name": n, "digest": {"sha256": "0" * 64}} for n in "ab"]},
        Reason.SUBJECT_COUNT,
    ),
    "no subject": ({"subject": []}, Reason.SUBJECT_COUNT),
    "other root": (
        {"subject": [{"name": "d", "digest": {"sha256": "0" * 64}}]},
        Reason.ROOT_MISMATCH,
    ),
    "empty set": ({"resources": []}, Reason.EMPTY_SET),
    "shards": ({"serialization": {"method": "shards"}}, Reason.SERIALIZATION),
    "shard size": ({"serialization": {"shard_size": 2000.0}}, Reason.SERIALIZATION),
    "unknown hash": ({"serialization": {"hash_type": "md5"}}, Reason.UNKNOWN_HASH),
    "mixed hashes": ({"serialization": {"hash_type": "sha512"}}, Reason.UNKNOWN_HASH),
    "predicate key": ({"predicate": {"resources": [], "x": 1}}, Reason.UNKNOWN_FIELD),
    "statement key": ({"x": 1}, Reason.UNKNOWN_FIELD),
    "ignore rule of another type": ({"serialization": {"ignore_paths": "a"}}, Reason.BAD_FORM),
}


@pytest.mark.parametrize("name", HOSTILE_PAYLOADS)
def test_hostile_payloads(folder, ada, name):
    changes, reason = HOSTILE_PAYLOADS[name]
    assert reasons(folder, bundle(statement(**changes), ada), ada) == [reason]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("b", "a"), Reason.UNSORTED),
        (("a", "a", "b"), Reason.DUPLICATE_NAME),
        (("../b", "a"), Reason.PARENT_PATH),
        (("/etc/passwd",), Reason.ABSOLUTE_PATH),
        (("a\\b",), Reason.BACKSLASH),
        (("./a",), Reason.BAD_NAME),
        (("a//b",), Reason.BAD_NAME),
        (("a", ""), Reason.BAD_NAME),
        (("a", "b", "c"), Reason.MISSING),
        (("a",), Reason.ADDED),
    ],
)
def test_hostile_names(folder, ada, names, reason):
    assert reasons(folder, bundle(statement(*names), ada), ada) == [reason]


def test_a_resource_without_a_digest(folder, ada):
    for digest in ("", "0" * 63, "Z" * 64):
        item = {"name": "a", "algorithm": "sha256", "digest": digest}
        data = bundle(statement(resources=[item]), ada)
        assert reasons(folder, data, ada) == [Reason.BAD_FORM]


def test_a_second_signature_is_never_ignored(folder, ada):
    good = json.loads(bundle(statement(), ada))["dsseEnvelope"]["signatures"][0]
    for second in ({"sig": base64.b64encode(b"garbage").decode()}, good):
        data = bundle(statement(), ada, envelope={"signatures": [good, second]})
        assert reasons(folder, data, ada) == [Reason.GARBAGE_SIGNATURE]
    data = bundle(statement(), ada, envelope={"signatures": []})
    assert reasons(folder, data, ada) == [Reason.UNSIGNED]


def test_an_ignore_rule_hides_nothing(folder, ada):
    (folder / "evil").mkdir()
    (folder / "evil" / "rows.csv").write_bytes(b"poison")
    said = statement(serialization={"ignore_paths": ["evil", ".git"]})
    assert reasons(folder, bundle(said, ada), ada) == [Reason.HIDDEN_FILE]
    said = statement(serialization={"ignore_paths": ["."]})
    assert reasons(folder, bundle(said, ada), ada) == [Reason.HIDDEN_FILE]


def test_an_ignore_rule_without_a_file_is_harmless(folder, ada):
    said = statement(serialization={"ignore_paths": ["model.sig", ".git", ".gitignore"]})
    assert reasons(folder, bundle(said, ada), ada) == []


def test_signatures_and_keys(folder, ada):
    other = PrivateKey.new("p256")
    good = bundle(statement(), ada)
    assert reasons(folder, good, other) == [Reason.WRONG_KEY]
    stolen = json.loads(good)["dsseEnvelope"]["signatures"]
    edited = bundle(statement("a"), ada, envelope={"signatures": stolen})
    assert reasons(folder, edited, ada) == [Reason.BAD_SIGNATURE]


def test_a_hint_that_names_another_key(folder, ada):
    """The hint is not signed, so a wrong one is a change that nobody vouched for."""
    material = {"publicKey": {"hint": "0" * 64}, "tlogEntries": []}
    data = bundle(statement(), ada, verificationMaterial=material)
    assert reasons(folder, data, ada) == [Reason.WRONG_KEY]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extra": 1}, Reason.BAD_FORM),
        ({"mediaType": "application/json"}, Reason.BAD_FORM),
        ({"verificationMaterial": {"certificate": {}}}, Reason.BAD_FORM),
        ({"verificationMaterial": {"publicKey": {"hint": 1}}}, Reason.BAD_FORM),
        ({"verificationMaterial": {"tlogEntries": [{}]}}, Reason.BAD_FORM),
        ({"envelope": {"payloadType": "text/plain"}}, Reason.BAD_FORM),
    ],
)
def test_hostile_outsides(folder, ada, changes, reason):
    assert reasons(folder, bundle(statement(), ada, **changes), ada) == [reason]


def test_duplicate_keys_are_refused_at_both_levels(folder, ada):
    good = bundle(statement(), ada)
    outside = good.replace(b'{"mediaType"', b'{"dsseEnvelope":{},"mediaType"', 1)
    assert reasons(folder, outside, ada) == [Reason.DUPLICATE_JSON_KEY]
    payload = json.dumps(statement()).encode()
    twice = payload.replace(b'"subject"', b'"predicate":{},"subject"', 1)
    assert reasons(folder, bundle(twice, ada), ada) == [Reason.DUPLICATE_JSON_KEY]


def test_an_oversized_bundle_is_not_read(folder, ada, tmp_path):
    large = tmp_path / "large.sigstore.json"
    large.touch()
    os.truncate(large, 97 * 1024 * 1024)
    report = verify_bundle(folder, large, keys=ada.public_keys)
    assert [check.code for check in report.failed] == [Reason.TOO_LARGE]


def test_an_oversized_payload_is_not_parsed():
    with pytest.raises(TrustError) as caught:
        Statement.from_bytes(bytes(64 * 1024 * 1024 + 1))
    assert caught.value.code == Reason.TOO_LARGE


def test_missing_optional_parts_are_accepted(folder, ada):
    """Peers leave out the hint or the list of log entries."""
    for material in ({"publicKey": {}}, {"publicKey": {"hint": ""}, "tlogEntries": []}, {}):
        data = bundle(statement(), ada, verificationMaterial=material)
        assert reasons(folder, data, ada) == []


def test_both_orders_of_peers_are_accepted(ada):
    by_parts = [FileDigest(name, 0, SHA["a"]) for name in ("sub/x", "sub-a")]
    names = [file.name for file in by_parts]
    assert names != sorted(names)
    data = bundle(statement(*names), ada)
    assert [file.name for file in read_bundle(data).files] == names


@pytest.mark.parametrize("key", [PrivateKey.new("ed25519"), PrivateKey.new("ml-dsa-65")])
def test_only_curves_may_sign(key):
    with pytest.raises(DeclarationError):
        write_bundle("d", [FileDigest("a", 0, SHA["a"])], key)


def test_no_file_is_no_bundle(ada):
    with pytest.raises(DeclarationError):
        write_bundle("d", [], ada)


def test_blake3_is_accepted_when_its_package_is_there(folder, ada):
    blake3 = pytest.importorskip("blake3", reason="blake3 is not installed")
    resources = [
        {"name": n, "algorithm": "blake3", "digest": blake3.blake3(n.encode()).hexdigest()}
        for n in ("a", "b")
    ]
    said = statement(resources=resources, serialization={"hash_type": "blake3"})
    joined = b"".join(bytes.fromhex(item["digest"]) for item in resources)
    said["subject"][0]["digest"]["sha256"] = hashlib.sha256(joined).hexdigest()
    assert reasons(folder, bundle(said, ada), ada) == []


def test_a_verified_bundle_of_a_missing_folder(folder, ada, tmp_path):
    signed = sign_path(folder, ada)
    report = verify_bundle(tmp_path / "gone", signed.openssf, keys=ada.public_keys)
    assert [check.code for check in report.failed] == [Reason.MISSING]
    with pytest.raises(TrustError):
        report.require()
