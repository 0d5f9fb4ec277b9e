# SPDX-License-Identifier: Apache-2.0
"""Keys and folders that the tests of manifests share."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from datapipe.manifest.keys import HybridKey, PrivateKey


@pytest.fixture(scope="session")
def ada():
    return PrivateKey.new("p256")


@pytest.fixture(scope="session")
def bob():
    return PrivateKey.new("ed25519")


@pytest.fixture(scope="session")
def cleo():
    return HybridKey.new()


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A folder with the shapes that trip tools: nesting, order, unicode, an empty file."""
    folder = tmp_path / "reviews"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").write_bytes(b"inside")
    (folder / "sub-a").write_bytes(b"sorts before sub/x by code point, after it by parts")
    (folder / "sous\u00e9\u4e2d.txt").write_bytes("\u00e9".encode())
    (folder / "empty").write_bytes(b"")
    (folder / "rows.csv").write_bytes(b"text,label\nhello,1\n" * 50)
    return folder


def key_of(name: str) -> PrivateKey:
    """The key of a person in the examples and vectors; everybody can make it."""
    seed = hashlib.sha256(b"datapipe test key " + name.encode()).digest()
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(seed))


@pytest.fixture(scope="session")
def person():
    """The example people: name to private key."""
    return {name: key_of(name) for name in ("ada", "bob", "cleo", "dora", "eve")}


@pytest.fixture(scope="session")
def dora_hybrid():
    """Dora signs with a classical and a post-quantum key, as hybrid keys did before P-256."""
    seed = hashlib.sha256(b"datapipe test key dora").digest()
    return HybridKey((key_of("dora"), PrivateKey(MLDSA65PrivateKey.from_seed_bytes(seed))))
