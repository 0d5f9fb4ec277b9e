# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree against its definition, its known answers and its forgeries."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from datapipe.manifest.proofs import (
    consistency_json,
    inclusion_json,
    verify_consistency_json,
    verify_inclusion_json,
)

# The eight inputs of the reference implementation of Certificate Transparency.
CLASSICAL = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    bytes(range(0x50, 0x58)),
    bytes(range(0x60, 0x70)),
]
CLASSICAL_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def by_definition(leaves):
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    both = by_definition(leaves[:k]) + by_definition(leaves[k:])
    return hashlib.sha256(b"\x01" + both).digest()


def some_leaves(size):
    return [leaf_hash(b"entry %d" % i) for i in range(size)]


@pytest.mark.parametrize(("size", "expected"), CLASSICAL_ROOTS.items())
def test_known_answers(size, expected):
    assert root(leaf_hash(entry) for entry in CLASSICAL[:size]).hex() == expected


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_the_frontier_is_the_definition(entries):
    leaves = [leaf_hash(entry) for entry in entries]
    frontier = Frontier()
    for index, leaf in enumerate(leaves):
        assert frontier.size == index
        frontier = frontier.grown(leaf)
        assert len(frontier.stack) == frontier.size.bit_count()
    assert (frontier.size, frontier.root) == (len(leaves), by_definition(leaves))
    assert root(iter(leaves)) == frontier.root


def test_every_proof_of_small_trees_holds():
    for size in range(1, 34):
        leaves = some_leaves(size)
        top = root(leaves)
        for index in range(size):
            verify_inclusion(leaves[index], index, size, inclusion_proof(leaves, index), top)
        for earlier in range(1, size + 1):
            proof = consistency_proof(leaves, earlier)
            verify_consistency(earlier, root(leaves[:earlier]), size, top, proof)


def test_no_forged_inclusion_is_accepted():
    drawn = random.Random(7)
    for _ in range(2000):
        size = drawn.randrange(2, 70)
        leaves, index = some_leaves(size), drawn.randrange(size)
        leaf, top = leaves[index], root(leaves)
        proof = list(inclusion_proof(leaves, index))
        match drawn.randrange(6):
            case 0:
                leaf = leaves[(index + 1) % size]
            case 1:
                proof[drawn.randrange(len(proof))] = leaf_hash(b"other")
            case 2:
                proof.append(leaf_hash(b"more"))
            case 3:
                proof.pop()
            case 4:
                top = root(leaves[:-1])
            case _:
                index = size
        with pytest.raises(TrustError) as caught:
            verify_inclusion(leaf, index, size, proof, top)
        assert caught.value.code == Reason.LOG_PROOF


def test_a_rewritten_log_has_no_consistency_proof():
    for size in range(2, 40):
        leaves = some_leaves(size)
        for earlier in range(1, size):
            rewritten = [leaf_hash(b"new"), *leaves[1:]]
            proof = consistency_proof(rewritten, earlier)
            old = root(leaves[:earlier])
            with pytest.raises(TrustError):
                verify_consistency(earlier, old, size, root(rewritten), proof)
            with pytest.raises(TrustError):
                verify_consistency(earlier, old, size, root(leaves), [*proof, leaf_hash(b"x")])


def test_a_shorter_log_is_told_apart():
    leaves = some_leaves(5)
    with pytest.raises(TrustError) as caught:
        verify_consistency(5, root(leaves), 4, root(leaves[:4]), ())
    assert caught.value.code == Reason.LOG_SHRUNK
    verify_consistency(0, EMPTY_ROOT, 5, root(leaves), ())
    with pytest.raises(TrustError):
        verify_consistency(0, root(leaves), 5, root(leaves), ())


def test_a_node_cannot_pose_as_an_entry():
    leaves = some_leaves(2)
    assert leaf_hash(leaves[0] + leaves[1]) != root(leaves)


def test_misuse_is_told():
    with pytest.raises(DeclarationError):
        Frontier().grown(b"an entry, not its hash")
    with pytest.raises(DeclarationError):
        inclusion_proof([], 0)
    with pytest.raises(DeclarationError):
        consistency_proof(some_leaves(3), 4)


def test_pymerkle_verifies_our_proofs():
    proofs = pytest.importorskip("pymerkle.proof", reason="pymerkle is not installed")
    drawn, checked = random.Random(11), 0
    while checked < 1000:
        size = drawn.randrange(1, 120)
        leaves, index = some_leaves(size), drawn.randrange(size)
        proof = proofs.MerkleProof.deserialize(inclusion_json(leaves, index))
        proof.verify(leaves[index], root(leaves), index=index + 1, size=size, algorithm="sha256")
        earlier = drawn.randrange(1, size + 1)
        proof = proofs.MerkleProof.deserialize(consistency_json(leaves, earlier))
        proof.verify(root(leaves[:earlier]), root(leaves), prior_size=earlier, later_size=size)
        checked += 2


def test_we_verify_the_proofs_of_pymerkle():
    pymerkle = pytest.importorskip("pymerkle", reason="pymerkle is not installed")
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for i in range(60):
        tree.append_entry(b"entry %d" % i)
    leaves, drawn = some_leaves(60), random.Random(12)
    assert tree.get_root() == root(leaves)
    for index in range(60):
        form = tree.prove_inclusion(index + 1).serialize()
        verify_inclusion_json(form, leaves[index], 60, root(leaves))
        with pytest.raises(TrustError):
            verify_inclusion_json(form, leaves[index - 1], 60, root(leaves))
    for later in range(2, 61):
        for earlier in (1, drawn.randrange(1, later), later):
            form = tree.prove_consistency(earlier, later).serialize()
            old, new = root(leaves[:earlier]), root(leaves[:later])
            verify_consistency_json(form, earlier, old, later, new)
            with pytest.raises(TrustError):
                verify_consistency_json(form, earlier, leaf_hash(b"x"), later, new)
            with pytest.raises(TrustError):
                verify_consistency_json(form, earlier, old, later, leaf_hash(b"x"))


@pytest.mark.parametrize(
    "change",
    [
        {"type": "inclusion"},
        {"metadata": {}},
        {"metadata": {"algorithm": "sha1", "security": True, "size": 7, "prior_size": 3}},
        {"metadata": {"algorithm": "sha256", "security": False, "size": 7, "prior_size": 3}},
        {"metadata": {"algorithm": "sha256", "security": True, "size": 7, "prior_size": 8}},
        {"metadata": {"algorithm": "sha256", "security": True, "size": 8, "prior_size": 3}},
        {"path": []},
        {"path": ["zz"]},
        {"path": ["00" * 32] * 300},
        {"subset": [1, 1, 1, 1]},
        {"rule": [1, 1, 1, 1]},
    ],
)
def test_other_forms_of_proofs_are_refused(change):
    leaves = some_leaves(7)
    form = consistency_json(leaves, 3)
    verify_consistency_json(form, 3, root(leaves[:3]), 7, root(leaves))
    with pytest.raises(TrustError) as caught:
        verify_consistency_json({**form, **change}, 3, root(leaves[:3]), 7, root(leaves))
    assert caught.value.code == Reason.LOG_PROOF
