# SPDX-License-Identifier: Apache-2.0
"""Keys and folders that the tests of manifests share."""

from __future__ import annotations

from pathlib import Path

import pytest

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
