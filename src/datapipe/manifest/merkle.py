# SPDX-License-Identifier: Apache-2.0
"""Proofs about a Merkle tree (RFC 6962) that anybody can check; the tree itself is in `core`."""

from __future__ import annotations

from collections.abc import Sequence

from datapipe.core.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, leaf_hash, node_hash, root
from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "Frontier",
    "consistency_proof",
    "inclusion_proof",
    "inclusion_steps",
    "leaf_hash",
    "node_hash",
    "root",
    "split_point",
    "verify_consistency",
    "verify_inclusion",
]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes that lead from one leaf to the root.

    Args:
        leaves: All leaf hashes of the tree.
        index: Which leaf, from 0.

    Returns:
        Sibling hashes, the lowest first; about log2 of the size.

    Raises:
        DeclarationError: There is no such leaf.

    Example:
        >>> leaves = [leaf_hash(bytes([i])) for i in range(5)]
        >>> proof = inclusion_proof(leaves, 3)
        >>> verify_inclusion(leaves[3], 3, 5, proof, root(leaves))
    """
    if not 0 <= index < len(leaves):
        raise _no_leaf(index, len(leaves))
    return tuple(root(leaves[a:b]) for a, b, _ in inclusion_steps(index, len(leaves)))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes
) -> None:
    """Check that a leaf is at an index of the tree with this size and root.

    Args:
        leaf: The leaf hash, 32 bytes.
        index: Its index, from 0.
        size: How many leaves the tree has.
        proof: What `inclusion_proof` gave.
        tree_root: The root, 32 bytes, from a checkpoint that was verified.

    Raises:
        TrustError: The proof does not hold.

    Example:
        >>> verify_inclusion(leaf_hash(b"a"), 0, 1, (), leaf_hash(b"a"))
    """
    if not 0 <= index < size or len(leaf) != HASH_BYTES:
        raise _refused(f"leaf {index} of {size} does not exist")
    steps = inclusion_steps(index, size)
    if len(proof) != len(steps) or any(len(h) != HASH_BYTES for h in proof):
        raise _refused(f"the proof has {len(proof)} hashes, {len(steps)} expected")
    found = leaf
    for sibling, (_, _, on_left) in zip(proof, steps, strict=True):
        found = node_hash(sibling, found) if on_left else node_hash(found, sibling)
    if found != tree_root:
        raise _refused(f"leaf {index} of {size} is not in the tree with this root")


def consistency_proof(leaves: Sequence[bytes], earlier: int) -> tuple[bytes, ...]:
    """The hashes that show an earlier tree to be a prefix of this one.

    Args:
        leaves: All leaf hashes of the later tree.
        earlier: How many leaves the earlier tree had, 1..size.

    Returns:
        Hashes in the order of RFC 6962; none when the sizes are equal.

    Raises:
        DeclarationError: The earlier size is not within 1..size.

    Example:
        >>> leaves = [leaf_hash(bytes([i])) for i in range(7)]
        >>> proof = consistency_proof(leaves, 3)
        >>> verify_consistency(3, root(leaves[:3]), 7, root(leaves), proof)
    """
    if not 0 < earlier <= len(leaves):
        raise _no_leaf(earlier - 1, len(leaves))
    return tuple(root(leaves[a:b]) for a, b in _consistency_ranges(earlier, len(leaves)))


def verify_consistency(
    earlier: int, earlier_root: bytes, later: int, later_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the later tree begins with the earlier one: nothing rewritten, nothing removed.

    Args:
        earlier: Size of the earlier tree, >= 0; an empty tree is a prefix of every tree.
        earlier_root: Its root, 32 bytes.
        later: Size of the later tree.
        later_root: Its root, 32 bytes.
        proof: What `consistency_proof` gave.

    Raises:
        TrustError: The proof does not hold, or the later tree is smaller.

    Example:
        >>> verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, ())

    References:
        Laurie, Messeri, Stradling, 2021, RFC 9162: Certificate Transparency Version 2.0.
    """
    if earlier < 0 or later < earlier:
        raise _refused(f"the log shrank from {earlier} to {later} entries", Reason.LOG_SHRUNK)
    if earlier in (0, later):
        expected = EMPTY_ROOT if earlier == 0 else later_root
        if proof or earlier_root != expected:
            raise _refused("two trees of one size have two roots")
        return
    hashes = list(proof)
    if earlier & (earlier - 1) == 0:  # a complete tree is its own first hash
        hashes.insert(0, earlier_root)
    if not hashes or any(len(h) != HASH_BYTES for h in hashes):
        raise _refused("the consistency proof is empty or malformed")
    if _climb(earlier - 1, later - 1, hashes) != (earlier_root, later_root):
        raise _refused(f"the first {earlier} entries are not those of the earlier tree")


def _climb(first: int, last: int, hashes: list[bytes]) -> tuple[bytes, bytes] | None:
    """Both roots that a consistency proof leads to, or None when its length is wrong."""
    while first & 1:
        first, last = first >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return None
        if first & 1 or first == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        first, last = first >> 1, last >> 1
    return None if last else (old, new)


def inclusion_steps(index: int, size: int) -> list[tuple[int, int, bool]]:
    """The ranges of leaves whose roots an inclusion proof holds.

    Args:
        index: Which leaf, from 0.
        size: How many leaves the tree has.

    Returns:
        From leaf to root: first leaf, end (exclusive), and whether the range lies on the left.

    Example:
        >>> inclusion_steps(2, 3)
        [(0, 2, True)]
    """
    start, end = 0, size
    steps: list[tuple[int, int, bool]] = []
    while end - start > 1:
        middle = start + split_point(end - start)
        if index < middle:
            steps.append((middle, end, False))
            end = middle
        else:
            steps.append((start, middle, True))
            start = middle
    return steps[::-1]


def _consistency_ranges(earlier: int, later: int) -> list[tuple[int, int]]:
    """The ranges whose roots make a consistency proof (RFC 6962, section 2.1.2)."""
    start, end, whole = 0, later, True
    ranges: list[tuple[int, int]] = []
    while earlier != end:
        middle = start + split_point(end - start)
        if earlier <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, whole = middle, False
    if not whole:
        ranges.append((start, end))
    return ranges[::-1]


def split_point(width: int) -> int:
    """Where RFC 6962 divides a tree.

    Args:
        width: How many leaves, >= 2.

    Returns:
        The largest power of two below `width`.

    Example:
        >>> split_point(7), split_point(8)
        (4, 4)
    """
    return 1 << ((width - 1).bit_length() - 1)


def _no_leaf(index: int, size: int) -> DeclarationError:
    return DeclarationError(
        f"leaf {index} of a tree with {size} leaves",
        code="DP-DECL-035",
        hint=f"give an index within 0..{size - 1}",
    )


def _refused(what: str, reason: Reason = Reason.LOG_PROOF) -> TrustError:
    return TrustError(what, code=reason.value, hint="do not trust this log; keep both checkpoints")
