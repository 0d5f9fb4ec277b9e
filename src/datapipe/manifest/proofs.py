# SPDX-License-Identifier: Apache-2.0
"""Merkle proofs in the JSON form of the pymerkle package, for readers who do not run our code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datapipe.errors import DeclarationError
from datapipe.manifest.merkle import inclusion_proof, inclusion_steps, root, split_point


def inclusion_json(leaves: Sequence[bytes], index: int) -> dict[str, Any]:
    """Write an inclusion proof.

    Args:
        leaves: All leaf hashes of the tree, 32 bytes each.
        index: Which leaf, from 0 (the form itself counts from 1).

    Returns:
        A dictionary with the keys type, metadata, rule and path.

    Example:
        >>> from datapipe.manifest.merkle import leaf_hash
        >>> inclusion_json([leaf_hash(b"a"), leaf_hash(b"b")], 0)["metadata"]["index"]
        1
    """
    proof = inclusion_proof(leaves, index)
    sides = [int(on_left) for _, _, on_left in inclusion_steps(index, len(leaves))]
    return {
        "type": "inclusion",
        "metadata": {**_HASHING, "size": len(leaves), "index": index + 1},
        "rule": [*sides, 0],
        "path": [leaves[index].hex(), *(sibling.hex() for sibling in proof)],
    }


def consistency_json(leaves: Sequence[bytes], earlier: int) -> dict[str, Any]:
    """Write a consistency proof.

    The form repeats the hashes of the earlier tree and marks them in `subset`, so it is longer
    than the proof of RFC 6962 that `merkle.consistency_proof` gives.

    Args:
        leaves: All leaf hashes of the later tree, 32 bytes each.
        earlier: How many leaves the earlier tree had, 1..size.

    Returns:
        A dictionary with the keys type, metadata, rule, subset and path.

    Raises:
        DeclarationError: The earlier size is not within 1..size.

    Example:
        >>> from datapipe.manifest.merkle import leaf_hash
        >>> consistency_json([leaf_hash(b"a"), leaf_hash(b"b")], 1)["subset"]
        [0, 1]
    """
    if not 0 < earlier <= len(leaves):
        raise DeclarationError(
            f"an earlier tree of {earlier} leaves, the later one has {len(leaves)}",
            code="DP-DECL-035",
            hint=f"give a size within 1..{len(leaves)}",
        )
    start, old, width, side = 0, earlier, len(leaves), 0
    steps: list[tuple[int, int, int, int]] = []
    while old != width and not (old == 0 and width == 1):
        middle = split_point(width)
        if old < middle:
            steps.append((side, 0, start + middle, start + width))
            width, side = middle, 0
        else:
            steps.append((side, 1, start, start + middle))
            start, old, width, side = start + middle, old - middle, width - middle, 1
    steps.append((side, int(old == width), start, start + width))
    steps.reverse()
    return {
        "type": "consistency",
        "metadata": {**_HASHING, "size": len(leaves), "prior_size": earlier},
        "rule": [step[0] for step in steps],
        "subset": [step[1] for step in steps],
        "path": [root(leaves[first:end]).hex() for _, _, first, end in steps],
    }


_HASHING = {"algorithm": "sha256", "security": True}
