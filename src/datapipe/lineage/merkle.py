# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree over the journal (RFC 6962), kept as its frontier.

The signed side (notes, proofs, witnesses) lives with the manifests on the same floor; a store only
needs to name its own root, so these few lines stand here and share no code with the checker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(payload: bytes) -> bytes:
    """The leaf of one journal record.

    Args:
        payload: The record's bytes as they stand in the journal.

    Returns:
        32 bytes.

    Example:
        >>> leaf_hash(b"").hex()[:8]
        '6e340b9c'
    """
    return hashlib.sha256(b"\x00" + payload).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree that only grows: the roots of its complete sub-trees, the largest first.

    Args:
        size: How many leaves it has.
        stack: One root of 32 bytes for each set bit of `size`.

    Example:
        >>> one = Frontier().grown(leaf_hash(b"a"))
        >>> one.size, one.root == leaf_hash(b"a")
        (1, True)

    References:
        Laurie, Langley, Kasper, 2013, RFC 6962: Certificate Transparency.
    """

    size: int = 0
    stack: tuple[bytes, ...] = ()

    def grown(self, leaf: bytes) -> Frontier:
        """The tree with one more leaf.

        Args:
            leaf: 32 bytes from `leaf_hash`.

        Returns:
            A new frontier; about two hashes on average.

        Example:
            >>> Frontier().grown(leaf_hash(b"a")).grown(leaf_hash(b"b")).size
            2
        """
        stack, size = list(self.stack), self.size
        while size & 1:
            leaf, size = _node(stack.pop(), leaf), size >> 1
        return Frontier(self.size + 1, (*stack, leaf))

    @property
    def root(self) -> bytes:
        """The root of all leaves so far, 32 bytes."""
        if not self.stack:
            return EMPTY_ROOT
        found = self.stack[-1]
        for left in reversed(self.stack[:-1]):
            found = _node(left, found)
        return found


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over some leaves.

    Args:
        leaves: Hashes of 32 bytes, in order.

    Returns:
        32 bytes.

    Example:
        >>> root_of([]) == EMPTY_ROOT
        True
    """
    tree = Frontier()
    for leaf in leaves:
        tree = tree.grown(leaf)
    return tree.root
