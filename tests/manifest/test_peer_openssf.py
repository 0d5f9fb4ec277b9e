# SPDX-License-Identifier: Apache-2.0
"""OpenSSF's own client judges our bundles, and we judge its; what it lets pass, we refuse."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datapipe.manifest.bundle import sign_path, signature_paths
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import pae
from datapipe.manifest.keys import HybridKey, PrivateKey, new_key
from datapipe.manifest.policy import Policy, PolicyKey, Rule
from datapipe.manifest.verify import verify_bundle, verify_path

pytest.importorskip("model_signing", reason="model-signing is not installed")

import model_signing._cli as client
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from model_signing import hashing, signing, verifying

CURVES = ("p256", "p384", "p521")
TYPE = "application/vnd.in-toto+json"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def filled(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


SHAPES: dict[str, dict[str, bytes]] = {
    "nested, sorted two ways, not ASCII, empty": {
        "sub/x": b"inside",
        "sub-a": b"before sub/x by code point, after it by parts",
        "sous\u00e9\u4e2d.txt": b"\xc3\xa9",
        "empty": b"",
        "rows.csv": b"text,label\nhello,1\n" * 50,
    },
    "one file": {"only.bin": b"\x00" * 17},
    "all empty": {"a": b"", "b/c": b"", "b/d": b""},
    "deep and many": {f"{i % 7}/{'d/' * (i % 5)}{i:03}.txt": b"%d" % (i * i) for i in range(120)},
    "odd names": {
        ".hidden": b"h",
        "a name with spaces": b"s",
        'quote"s': b"q",
        "percent%2e%2e": b"p",
        "\U0001f600": b"u",
        "UPPER": b"1",
        "upper": b"2",
        "a+b&c=d": b"3",
    },
    "larger than a buffer": {"big.bin": bytes(range(256)) * 12_000, "also.bin": b"\1" * 2_000_000},
    "beside git's own files": {
        "rows.csv": b"x\n1\n",
        ".git/config": b"[core]",
        ".gitignore": b"*.tmp",
        ".gitattributes": b"* text",
        ".github/workflows/ci.yml": b"on: push",
    },
}


@pytest.fixture(scope="module")
def keys():
    return {name: PrivateKey.new(name) for name in CURVES}


def public_file(folder: Path, key) -> Path:
    path = folder / f"{key.keyid[:8]}.pub"
    path.write_text("".join(public.to_pem() for public in key.public_keys))
    return path


def private_file(folder: Path, key: PrivateKey) -> Path:
    """The client cannot read encrypted keys, so it gets a plain one in a temporary folder."""
    path = folder / f"{key.keyid[:8]}.pem"
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    path.write_bytes(key.raw.private_bytes(serialization.Encoding.PEM, form, plain))
    return path


def client_verifies(path: Path, bundle: Path, public: Path, *more: str) -> int:
    """`model_signing verify key`, in this process: starting Python costs it two seconds."""
    words = ["verify", "key", str(path), "--signature", str(bundle), "--public_key", str(public)]
    words += more
    return int(CliRunner().invoke(client.main, words).exit_code)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_client_accepts_our_bundle(tmp_path, keys, shape, curve):
    folder = filled(tmp_path / "reviews", SHAPES[shape])
    signed = sign_path(folder, keys[curve])
    assert client_verifies(folder, signed.openssf, public_file(tmp_path, keys[curve])) == 0


def test_the_client_accepts_our_bundle_of_a_file(tmp_path, keys):
    file = filled(tmp_path, {"rows.csv": b"x\n1\n"}) / "rows.csv"
    signed = sign_path(file, keys["p256"])
    assert client_verifies(file, signed.openssf, public_file(tmp_path, keys["p256"])) == 0
    file.write_bytes(b"x\n2\n")
    assert client_verifies(file, signed.openssf, public_file(tmp_path, keys["p256"])) != 0


def test_the_client_reads_the_exported_hybrid_key_as_it_is(tmp_path):
    """P-256 stands first in the file, and the client reads the first block."""
    key = new_key("hybrid", tmp_path / "k.pem", b"x", rounds=1000)
    assert isinstance(key, HybridKey)
    folder = filled(tmp_path / "reviews", SHAPES["one file"])
    signed = sign_path(folder, key)
    assert client_verifies(folder, signed.openssf, public_file(tmp_path, key)) == 0


@pytest.mark.parametrize("where", ["beside us", "on its own"])
def test_the_installed_command_agrees(root, tmp_path, keys, where):
    """As a process of its own, as users run it; also with the versions that it would choose."""
    place = Path(sys.executable).parent if where == "beside us" else root / ".venv-peers" / "bin"
    command = place / "model_signing"
    if not command.exists():
        pytest.skip(f"no {command}: `make peers` makes it")
    folder = filled(tmp_path / "reviews", SHAPES["one file"])
    signed = sign_path(folder, keys["p256"])
    public = public_file(tmp_path, keys["p256"])
    words = ["verify", "key", folder, "--signature", signed.openssf, "--public_key", public]
    run = lambda: subprocess.run([command, *words], capture_output=True, check=False)  # noqa: E731  # read in place
    assert run().returncode == 0
    (folder / "only.bin").write_bytes(b"\x01" * 17)
    assert run().returncode != 0


def flip(folder: Path) -> None:
    data = bytearray((folder / "rows.csv").read_bytes())
    data[7] ^= 1
    (folder / "rows.csv").write_bytes(data)


def truncate(folder: Path) -> None:
    (folder / "rows.csv").write_bytes((folder / "rows.csv").read_bytes()[:-1])


def swap(folder: Path) -> None:
    one, two = folder / "rows.csv", folder / "sub-a"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def link(folder: Path) -> None:
    (folder / "rows.csv").rename(folder.parent / "elsewhere.csv")
    (folder / "rows.csv").symlink_to(folder.parent / "elsewhere.csv")


CHANGES = {
    "a flipped byte": (flip, {Reason.CHANGED}),
    "a truncated file": (truncate, {Reason.CHANGED}),
    "an added file": (lambda folder: (folder / "new").write_bytes(b"n"), {Reason.ADDED}),
    "a removed file": (lambda folder: (folder / "sub/x").unlink(), {Reason.MISSING}),
    "a renamed file": (
        lambda folder: (folder / "sub-a").rename(folder / "sub-b"),
        {Reason.RENAMED},
    ),
    "two swapped files": (swap, {Reason.CHANGED}),
    "a file behind a link": (link, {Reason.SYMLINK}),
    "an added link": (
        lambda folder: (folder / "new").symlink_to(folder / "rows.csv"),
        {Reason.SYMLINK},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_both_refuse_a_changed_folder(tmp_path, keys, change):
    folder = filled(tmp_path / "reviews", SHAPES["nested, sorted two ways, not ASCII, empty"])
    key = keys["p384"]
    signed = sign_path(folder, key)
    make, reasons = CHANGES[change]
    make(folder)
    assert client_verifies(folder, signed.openssf, public_file(tmp_path, key)) != 0
    failed = verify_bundle(folder, signed.openssf, keys=key.public_keys).failed
    assert {check.code for check in failed} == reasons
    assert reasons <= {check.code for check in verify_path(folder, keys=key.public_keys).failed}


def edited(bundle: Path, **changes) -> None:
    """Change what the payload says, and leave its signature."""
    form = json.loads(bundle.read_text())
    said = json.loads(base64.b64decode(form["dsseEnvelope"]["payload"]))
    said.update(changes)
    form["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
    bundle.write_text(json.dumps(form))


def test_both_refuse_another_key_and_an_edited_payload(tmp_path, keys):
    folder = filled(tmp_path / "reviews", SHAPES["one file"])
    key, other = keys["p256"], PrivateKey.new("p256")
    bundle = sign_path(folder, key).openssf
    assert client_verifies(folder, bundle, public_file(tmp_path, other)) != 0
    found = verify_bundle(folder, bundle, keys=other.public_keys).failed
    assert [check.code for check in found] == [Reason.WRONG_KEY]
    whole = bundle.read_bytes()
    said = json.loads(base64.b64decode(json.loads(whole)["dsseEnvelope"]["payload"]))
    (folder / "only.bin").write_bytes(b"poison")
    digest = hashlib.sha256(b"poison").digest()
    subject = [{"name": "reviews", "digest": {"sha256": hashlib.sha256(digest).hexdigest()}}]
    resources = [{"name": "only.bin", "algorithm": "sha256", "digest": digest.hex()}]
    payload = {"subject": subject, "predicate": {**said["predicate"], "resources": resources}}
    for change in (payload, {"subject": [{**said["subject"][0], "name": "others"}]}):
        bundle.write_bytes(whole)
        edited(bundle, **change)
        assert client_verifies(folder, bundle, public_file(tmp_path, key)) != 0
        found = verify_bundle(folder, bundle, keys=key.public_keys).failed
        assert [check.code for check in found] == [Reason.BAD_SIGNATURE]


@pytest.mark.parametrize("algorithm", ["sha256", "blake3", "blake2b"])
@pytest.mark.parametrize("curve", CURVES)
def test_we_accept_bundles_of_the_library(tmp_path, keys, curve, algorithm):
    """blake3 too, which its own client refuses, and blake2b, which it cannot read back."""
    names = {"sha256": "sha256", "blake3": "blake3", "blake2b": "blake2"}
    config = hashing.Config().use_file_serialization(hashing_algorithm=names[algorithm])
    signer = signing.Config().use_elliptic_key_signer(
        private_key=private_file(tmp_path, keys[curve])
    )
    public = public_file(tmp_path, keys[curve])
    for number, contents in enumerate(SHAPES.values()):
        folder = filled(tmp_path / f"folder{number}", contents)
        bundle = tmp_path / f"{number}.sig"
        signer.set_hashing_config(config).sign(folder, bundle)
        said = verify_bundle(folder, bundle, keys=keys[curve].public_keys)
        assert said.passed, str(said)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and ".git" not in str(path):
                path.write_bytes(path.read_bytes() + b"!")
                break
        changed = verify_bundle(folder, bundle, keys=keys[curve].public_keys).failed
        assert [check.code for check in changed] == [Reason.CHANGED]
    expected = 0 if algorithm == "sha256" else 1
    path.write_bytes(path.read_bytes()[:-1])
    assert client_verifies(folder, bundle, public) == expected


def test_we_accept_a_bundle_that_lies_inside_its_folder(tmp_path, keys):
    folder = filled(tmp_path / "model", SHAPES["one file"])
    bundle = folder / "model.sig"
    private = private_file(tmp_path, keys["p256"])
    words = ["sign", "key", str(folder), "--signature", str(bundle), "--private_key", str(private)]
    assert CliRunner().invoke(client.main, words).exit_code == 0
    assert verify_bundle(folder, bundle, keys=keys["p256"].public_keys).passed
    (folder / "model.sig.bak").write_bytes(b"poison")
    found = verify_bundle(folder, bundle, keys=keys["p256"].public_keys).failed
    assert [check.code for check in found] == [Reason.ADDED]


# ---- what the peer lets pass, or cannot explain ------------------------------------------------


class Forge:
    """Bundles with good signatures over whatever one likes."""

    def __init__(self, folder: Path, key: PrivateKey) -> None:
        self.folder, self.key = folder, key
        self.hint = hashlib.sha256(key.public_key.to_pem().encode()).hexdigest()

    def said(self, *names: str, resources=None, serialization=None, **changes):
        listed = [
            {
                "name": name,
                "algorithm": "sha256",
                "digest": hashlib.sha256((self.folder / name).read_bytes()).hexdigest(),
            }
            for name in names or ("a", "b")
        ]
        listed = listed if resources is None else resources
        joined = b"".join(bytes.fromhex(item["digest"]) for item in listed)
        rules = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        form = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "d", "digest": {"sha256": hashlib.sha256(joined).hexdigest()}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {"resources": listed, "serialization": {**rules, **(serialization or {})}},
        }
        return {**form, **changes}

    def bundle(self, payload, *, message=None, envelope=None, **changes) -> bytes:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        signature = base64.b64encode(self.key.sign(message or pae(TYPE, data))).decode()
        form = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": self.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(data).decode(),
                "payloadType": TYPE,
                "signatures": [{"sig": signature}],
                **(envelope or {}),
            },
        }
        return json.dumps({**form, **changes}).encode()


@pytest.fixture
def forge(tmp_path, keys):
    return Forge(filled(tmp_path / "d", {"a": b"a", "b": b"b"}), keys["p256"])


def _garbage(forge: Forge) -> bytes:
    form = json.loads(forge.bundle(forge.said()))
    form["dsseEnvelope"]["signatures"].append({"sig": base64.b64encode(b"garbage").decode()})
    return json.dumps(form).encode()


def _hidden(forge: Forge) -> bytes:
    filled(forge.folder, {"evil/rows.csv": b"poison"})
    return forge.bundle(forge.said(serialization={"ignore_paths": ["evil"]}))


def _linked(forge: Forge) -> bytes:
    (forge.folder / "b").unlink()
    (forge.folder / "b").symlink_to("a")
    return forge.bundle(forge.said(serialization={"allow_symlinks": True}))


def _outside(forge: Forge) -> bytes:
    filled(forge.folder.parent, {"c": b"outside"})
    return forge.bundle(forge.said("../c", "a", "b"))


def _absolute(forge: Forge) -> bytes:
    return forge.bundle(forge.said(str(forge.folder / "a"), "b"))


def _backslash(forge: Forge) -> bytes:
    filled(forge.folder, {"x\\y": b"1"})
    return forge.bundle(forge.said("a", "b", "x\\y"))


def _control(forge: Forge) -> bytes:
    filled(forge.folder, {"a\nb": b"1"})
    return forge.bundle(forge.said("a", "a\nb", "b"))


def _twice(forge: Forge) -> bytes:
    data = json.dumps(forge.said()).encode()
    return forge.bundle(data.replace(b'"subject"', b'"predicate":{"x":1},"subject"', 1))


def _compatible(forge: Forge) -> bytes:
    """The client also takes signatures over the encoding that its first release got wrong."""
    from model_signing._signing.sign_sigstore_pb import pae_compat

    data = json.dumps(forge.said()).encode()
    return forge.bundle(data, message=pae_compat(data))


def _number(forge: Forge) -> bytes:
    data = json.dumps(forge.said()).encode()
    return forge.bundle(data.replace(b'"allow_symlinks": false', b'"allow_symlinks": NaN', 1))


def _legacy(forge: Forge) -> bytes:
    subject = [
        {"name": n, "digest": {"sha256": hashlib.sha256(n.encode()).hexdigest()}} for n in "ab"
    ]
    kind = "https://model_signing/Digests/v0.1"
    return forge.bundle(forge.said(subject=subject, predicateType=kind))


def _large(forge: Forge) -> bytes:
    return forge.bundle(json.dumps(forge.said()).encode() + b" " * (65 * 1024 * 1024))


def _deep(forge: Forge) -> bytes:
    data = json.dumps(forge.said()).encode()
    deep = b"[" * 70 + b"]" * 70
    return forge.bundle(data.replace(b'{"method"', b'{"deep":' + deep + b',"method"', 1))


HOSTILE = {
    "the v0.1 predicate": (_legacy, True, Reason.LEGACY_PREDICATE),
    "names that are not sorted": (
        lambda f: f.bundle(f.said("b", "a")),
        True,
        Reason.UNSORTED,
    ),
    "a name that stands twice": (
        lambda f: f.bundle(f.said("a", "a", "b")),
        True,
        Reason.DUPLICATE_NAME,
    ),
    "a second signature of garbage": (_garbage, True, Reason.GARBAGE_SIGNATURE),
    "an ignore rule that hides a file": (_hidden, True, Reason.HIDDEN_FILE),
    "a link that the signer allowed": (_linked, False, Reason.SYMLINK),
    "a backslash in a name": (_backslash, True, Reason.BACKSLASH),
    "a control character in a name": (_control, True, Reason.BAD_NAME),
    "a JSON key that stands twice": (_twice, True, Reason.DUPLICATE_JSON_KEY),
    "a signature over the wrong encoding": (_compatible, True, Reason.BAD_SIGNATURE),
    "a number that is none": (_number, True, Reason.BAD_NUMBER),
    "a field that nobody knows": (
        lambda f: f.bundle({**f.said(), "trusted": True}),
        True,
        Reason.UNKNOWN_FIELD,
    ),
    "a payload without end": (_large, True, Reason.TOO_LARGE),
    "nesting without end": (_deep, True, Reason.TOO_DEEP),
    "a name that leaves the folder": (_outside, False, Reason.PARENT_PATH),
    "an absolute name": (_absolute, False, Reason.ABSOLUTE_PATH),
    "no file at all": (lambda f: f.bundle(f.said(resources=[])), False, Reason.EMPTY_SET),
    "no signature": (
        lambda f: f.bundle(f.said(), envelope={"signatures": []}),
        False,
        Reason.UNSIGNED,
    ),
    "shards": (
        lambda f: f.bundle(f.said(serialization={"method": "shards", "shard_size": 2000.0})),
        False,
        Reason.SERIALIZATION,
    ),
    "a hash that nobody knows": (
        lambda f: f.bundle(f.said(serialization={"hash_type": "md5"})),
        True,
        Reason.UNKNOWN_HASH,
    ),
}
"""What it is, how it is made, whether the peer accepts it, and our reason."""


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_bundle_is_refused_with_its_own_reason(tmp_path, forge, name):
    make, peer_accepts, reason = HOSTILE[name]
    bundle = tmp_path / "hostile.sig"
    bundle.write_bytes(make(forge))
    public = public_file(tmp_path, forge.key)
    assert (client_verifies(forge.folder, bundle, public) == 0) is peer_accepts
    failed = verify_bundle(forge.folder, bundle, keys=forge.key.public_keys).failed
    assert [check.code for check in failed] == [reason]


def test_a_name_outside_is_read_by_the_peer_when_it_may_ignore_files(tmp_path, forge):
    """An option of its own makes it open any file that the bundle names."""
    bundle, public = tmp_path / "hostile.sig", public_file(tmp_path, forge.key)
    bundle.write_bytes(_outside(forge))
    assert client_verifies(forge.folder, bundle, public, "--ignore_unsigned_files") == 0
    failed = verify_bundle(forge.folder, bundle, keys=forge.key.public_keys).failed
    assert [check.code for check in failed] == [Reason.PARENT_PATH]


def test_no_two_of_them_share_a_reason():
    reasons = [reason for _, _, reason in HOSTILE.values()]
    accepted = [name for name, (_, peer_accepts, _) in HOSTILE.items() if peer_accepts]
    assert len(set(reasons)) == len(reasons)
    assert len(accepted) >= 14


def test_an_empty_folder_is_signed_by_the_peer_and_never_by_us(tmp_path, keys):
    (tmp_path / "empty").mkdir()
    bundle = tmp_path / "empty.sig"
    private = private_file(tmp_path, keys["p256"])
    signing.Config().use_elliptic_key_signer(private_key=private).sign(tmp_path / "empty", bundle)
    found = verify_bundle(tmp_path / "empty", bundle, keys=keys["p256"].public_keys).failed
    assert [check.code for check in found] == [Reason.EMPTY_SET]


@pytest.mark.parametrize(
    ("dates", "reason"),
    [
        ({"valid_until": NOON - timedelta(days=1)}, Reason.KEY_EXPIRED),
        ({"valid_from": NOON + timedelta(days=1)}, Reason.KEY_NOT_YET_VALID),
        ({"revoked_at": NOON, "reason": "stolen"}, Reason.KEY_REVOKED),
    ],
)
def test_the_peer_knows_no_dates(tmp_path, keys, dates, reason):
    folder = filled(tmp_path / "d", {"a": b"a"})
    key = keys["p256"]
    private, public = private_file(tmp_path, key), public_file(tmp_path, key)
    bundle, _ = signature_paths(folder)
    signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, bundle)
    verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, bundle)
    entry = PolicyKey("ada", ("source",), key.public_keys, **dates)
    policy = Policy("dated", 1, (entry,), (Rule("*"),))
    found = verify_path(folder, policy=policy, at=NOON).failed
    assert found[0].code == reason


def test_a_renamed_file_leaves_the_digest_of_the_peer_and_changes_ours(tmp_path, keys):
    """Whoever refers to a data set by the peer's subject digest is not bound to its names."""
    folder = filled(tmp_path / "d", {"a": b"1", "b": b"2"})
    first = sign_path(folder, keys["p256"])
    old = json.loads(first.openssf.read_bytes())
    (folder / "b").rename(folder / "c")
    second = sign_path(folder, keys["p256"])
    new = json.loads(second.openssf.read_bytes())

    def subject(form):
        return json.loads(base64.b64decode(form["dsseEnvelope"]["payload"]))["subject"]

    assert subject(old) == subject(new)
    assert first.tree != second.tree
    shutil.rmtree(folder)
