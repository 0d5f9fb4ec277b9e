# SPDX-License-Identifier: Apache-2.0
"""Sign 50 files of 1 GB on the command line: ours against the reference client, from its start.

The second case holds the same client against what no signer in Python can go below: start, load
the cryptography, hash the bytes with hashlib, sign nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import material

from datapipe.manifest.keys import new_key

SUBJECT = "datapipe sign"
PEER = "model_signing sign key"
CASES = ("", "floor")
ROWS = 1_000
REPEATS = 5

FLOOR = """
import hashlib
from pathlib import Path
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
for path in sorted(Path("data").iterdir()):
    with path.open("rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")
"""


def prepare(folder: Path, rows: int) -> None:
    """Fifty files of `rows` megabytes in all.

    Our key is encrypted, and its passphrase costs 210,000 rounds of SHA-512 by design; the client
    has a word for a password but cannot use it (1.1.1), so its key lies open.
    """
    material.files(folder, 50, rows * 1_000_000 // 50)
    new_key("p256", folder / "ours.pem", b"bench")
    (folder / "words").write_bytes(b"bench")
    (folder / "floor.py").write_text(FLOOR)


def command(role: str, case: str, folder: Path) -> list[str]:
    """The installed commands; their words go elsewhere, so that outcomes agree."""
    tools = Path(sys.executable).parent
    if role == "peer":
        words = f"{tools}/model_signing sign key data --private_key key.pem --signature t.sig"
    elif case == "floor":
        words = f"{sys.executable} floor.py"
    else:
        words = f"{tools}/datapipe sign data --key ours.pem --passphrase-file words"
    return ["sh", "-c", f"{words} > {os.devnull}"]
