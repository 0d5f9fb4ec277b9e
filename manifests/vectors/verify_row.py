# SPDX-License-Identifier: Apache-2.0
"""A second verifier of row proofs: the standard library and cryptography, none of our code.

`python verify_row.py PROOF.row.json KEY.pem` prints the row, or exits 1.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from verify import canonical, included, keys_of, need, opened, strict

FORM = "https://datapipe.dev/row-proof/v1"
DATASET = "https://datapipe.dev/attestation/dataset/v1"


def proved(data, pem):
    """The row of a proof whose signatures and path hold."""
    form = strict(data)
    need(set(form) == {"type", "row", "index", "size", "path", "envelope"})
    need(form["type"] == FORM)
    said = strict(opened(form["envelope"], keys_of(pem)))
    need(said["predicateType"] == DATASET and said["predicate"]["rows"] == form["size"])
    row = strict(form["row"].encode())
    need(canonical(row) == form["row"] and 0 <= form["index"] < form["size"])
    leaf = hashlib.sha256(b"\0" + form["row"].encode()).digest()
    path = [bytes.fromhex(item) for item in form["path"]]
    need(all(len(item) == 32 for item in path))
    root = included(leaf, form["index"], form["size"], path)
    need(root.hex() == said["predicate"]["rowTree"] and not path)
    return row


if __name__ == "__main__":
    try:
        print(proved(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_text()))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        sys.exit("refused")
