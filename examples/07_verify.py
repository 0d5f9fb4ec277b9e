# SPDX-License-Identifier: Apache-2.0
# Prints:
#     signed by ed25519, 2 files
#     verified: True
#     after one changed byte: False
"""Sign a folder, verify it with the public key alone, and see one changed byte being noticed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from datapipe import Manifest
from datapipe.manifest.keys import PrivateKey

with tempfile.TemporaryDirectory() as place:
    folder = Path(place) / "reviews"
    folder.mkdir()
    (folder / "a.csv").write_text("body,stars\ngood,5\n")
    (folder / "b.csv").write_text("body,stars\nbad,1\n")

    key = PrivateKey.new("ed25519")
    manifest = Manifest.of_path(folder)
    signed = Manifest.open(manifest.sign(key))
    print(f"signed by ed25519, {signed.predicate.files} files")

    def unchanged() -> bool:
        """Whether the signature holds and the folder is what was signed."""
        believed = signed.verify(key.public_key).passed
        return believed and Manifest.of_path(folder).digest == signed.digest

    print(f"verified: {unchanged()}")
    (folder / "b.csv").write_text("body,stars\nbad,5\n")
    print(f"after one changed byte: {unchanged()}")
