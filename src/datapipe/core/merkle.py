# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree of RFC 6962: leaves, nodes, roots, and a frontier that grows.

Journal, folders and rows are all hashed into this one tree; proofs about it stand in
`datapipe.manifest.merkle`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from datapipe.errors import DeclarationError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry.

    The prefix byte keeps leaves and inner nodes apart, so that a node cannot pose as an entry.

    Args:
        entry: The entry's bytes.

    Returns:
        32 bytes.

    Example:
        >>> leaf_hash(b"").hex()[:8]
        '6e340b9c'

    References:
        Laurie, Langley, Kasper, 2013, RFC 6962: Certificate Transparency.
    """
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two sub-trees.

    Args:
        left: Root of the left one, 32 bytes.
        right: Root of the right one, 32 bytes.

    Returns:
        32 bytes.

    Example:
        >>> len(node_hash(leaf_hash(b"a"), leaf_hash(b"b")))
        32
    """
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree that only grows: the roots of its complete sub-trees, the largest first.

    It needs 32 bytes for each set bit of its size, so a log of a million entries fits in 200
    bytes, and an append costs two hashes on average.

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
            A new frontier.

        Raises:
            DeclarationError: The leaf is not 32 bytes.

        Example:
            >>> Frontier().grown(leaf_hash(b"a")).grown(leaf_hash(b"b")).size
            2
        """
        if len(leaf) != HASH_BYTES:
            raise DeclarationError(
                f"a leaf of {len(leaf)} bytes, 32 expected",
                code="DP-DECL-059",
                hint="append leaf_hash(entry)",
            )
        stack, size = list(self.stack), self.size
        while size & 1:
            leaf, size = node_hash(stack.pop(), leaf), size >> 1
        return Frontier(self.size + 1, (*stack, leaf))

    @property
    def root(self) -> bytes:
        """The root of all leaves so far, 32 bytes; the hash of nothing when there is none."""
        if not self.stack:
            return EMPTY_ROOT
        found = self.stack[-1]
        for left in reversed(self.stack[:-1]):
            found = node_hash(left, found)
        return found


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over some leaves, level by level: a few times faster than growing a frontier.

    Args:
        leaves: Hashes of 32 bytes from `leaf_hash`, in order.

    Returns:
        32 bytes.

    Example:
        >>> root([]) == EMPTY_ROOT
        True
    """
    sha256 = hashlib.sha256
    level = list(leaves)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        alone = level[-1:] if len(level) & 1 else []
        level = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level += alone
    return level[0]
