# SPDX-License-Identifier: Apache-2.0
"""The frontier agrees with the definition, with the SQL in the store and with a vector."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.merkle import EMPTY_ROOT, Frontier, leaf_hash
from datapipe.core.merkle import root as root_of
from datapipe.lineage.store import Lineage

CLASSICAL = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
CLASSICAL.append("606162636465666768696a6b6c6d6e6f")


def defined(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + defined(leaves[:split]) + defined(leaves[split:])).digest()


def test_the_root_of_the_classical_eight_leaves():
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in CLASSICAL]
    assert root_of(leaves).hex().startswith("5dc9da79")
    assert root_of(leaves).hex().endswith("4328")


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_frontier_is_the_definition(entries):
    leaves = [leaf_hash(entry) for entry in entries]
    assert root_of(leaves) == defined(leaves)
    assert root_of([]) == EMPTY_ROOT == Frontier().root


def test_sql_recomputes_the_root_at_every_size(lineage: Lineage):
    for i in range(21):
        lineage.append([("run_events", {"run_id": f"r{i}", "event": "note"})])
        size, root = lineage.root()
        assert lineage.sql("from log_root").row(0) == (size, root.hex())
    for size in range(22):
        found = lineage.sql("from log_root_at($n)", n=size).row(0)
        assert found == (size, lineage.root(size)[1].hex())
        assert found[1] == defined(lineage.leaves()[:size]).hex()
