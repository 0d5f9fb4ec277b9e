# SPDX-License-Identifier: Apache-2.0
"""Writes `manifests/vectors/`: cases that every implementation of the contract must agree on.

Run `PYTHONPATH=src python tests/vectors/make_vectors.py`. Keys are made from their names and
signatures are deterministic, so the same files come out; only ML-DSA signatures differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from file_cases import openssf_cases, tree_cases
from merkle_cases import checkpoint_cases, consistency_cases, inclusion_cases
from signature_cases import canonical_cases, dsse_cases, key_id_cases

KINDS = {
    "canonical_json": (canonical_cases, "RFC 8785 canonical form of strictly read JSON"),
    "key_id": (key_id_cases, "Key ids as securesystemslib computes them"),
    "dsse": (dsse_cases, "DSSE envelopes: every signature must hold and be by a given key"),
    "merkle_inclusion": (inclusion_cases, "RFC 6962 inclusion proofs, SHA-256"),
    "merkle_consistency": (consistency_cases, "RFC 6962 consistency proofs, SHA-256"),
    "checkpoint": (checkpoint_cases, "C2SP checkpoints signed with Ed25519"),
    "tree": (tree_cases, "Tree digest over name, sha256 and size of files"),
    "openssf": (openssf_cases, "OpenSSF Model Signing v1.0 bundles, read strictly"),
}


def vectors(kind):
    """One file of vectors, in the form that Project Wycheproof uses."""
    make, says = KINDS[kind]
    tests = [{"tcId": number, **case} for number, case in enumerate(make(), 1)]
    return {
        "algorithm": kind,
        "schema": "datapipe-vectors/1",
        "header": [says],
        "numberOfTests": len(tests),
        "testGroups": [{"type": kind, "tests": tests}],
    }


def write_all(folder: Path) -> None:
    for kind in KINDS:
        text = json.dumps(vectors(kind), indent=1, ensure_ascii=True) + "\n"
        (folder / f"{kind}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    write_all(Path(sys.argv[1]) if len(sys.argv) > 1 else here / "manifests" / "vectors")
