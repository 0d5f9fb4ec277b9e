# SPDX-License-Identifier: Apache-2.0
"""Sign 50 files of 1 GB on the command line: ours against the reference client, from its start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import material

from datapipe.manifest.keys import new_key

SUBJECT = "datapipe sign"
PEER = "model_signing sign key"
CASES = ("",)
ROWS = 1_000
REPEATS = 5


def prepare(folder: Path, rows: int) -> None:
    """Fifty files of `rows` megabytes in all; our key is encrypted, theirs cannot be."""
    material.files(folder, 50, rows * 1_000_000 // 50)
    new_key("p256", folder / "ours.pem", b"bench")
    (folder / "words").write_bytes(b"bench")


def command(role: str, case: str, folder: Path) -> list[str]:
    """The installed commands; their words go elsewhere, so that outcomes agree."""
    tools = Path(sys.executable).parent
    if role == "subject":
        words = f"{tools}/datapipe sign data --key ours.pem --passphrase-file words"
    else:
        words = f"{tools}/model_signing sign key data --private_key key.pem --signature t.sig"
    return ["sh", "-c", f"{words} > {os.devnull}"]
