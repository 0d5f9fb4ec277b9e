# SPDX-License-Identifier: Apache-2.0
"""Merkle proofs in the JSON form of the pymerkle package, for readers who do not run our code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from datapipe.core.merkle import node_hash, root
from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.merkle import (
    inclusion_proof,
    inclusion_steps,
    split_point,
    verify_inclusion,
)


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
    steps = _steps(earlier, len(leaves))
    return {
        "type": "consistency",
        "metadata": {**_HASHING, "size": len(leaves), "prior_size": earlier},
        "rule": [step[0] for step in steps],
        "subset": [step[1] for step in steps],
        "path": [root(leaves[first:end]).hex() for _, _, first, end in steps],
    }


def _steps(earlier: int, later: int) -> list[tuple[int, int, int, int]]:
    """The proof from leaf to root: side, whether it is of the earlier tree, first leaf, end."""
    start, old, width, side = 0, earlier, later, 0
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
    return steps[::-1]


def verify_inclusion_json(form: Any, leaf: bytes, size: int, tree_root: bytes) -> None:
    """Check an inclusion proof that somebody else wrote.

    Args:
        form: The parsed JSON.
        leaf: The leaf hash, 32 bytes.
        size: How many leaves the tree has, from a checkpoint that was verified.
        tree_root: Its root, 32 bytes, from the same checkpoint.

    Raises:
        TrustError: It is no such proof, or does not hold.

    Example:
        >>> from datapipe.manifest.merkle import leaf_hash
        >>> leaves = [leaf_hash(b"a"), leaf_hash(b"b")]
        >>> verify_inclusion_json(inclusion_json(leaves, 1), leaves[1], 2, root(leaves))
    """
    stated, index, path = _read(form, "inclusion", "index")
    if stated != size or not 1 <= index <= size:
        raise _refused(f"leaf {index} of {stated} is not one of a tree of {size}")
    sides = [int(on_left) for _, _, on_left in inclusion_steps(index - 1, size)]
    if form.get("rule") != [*sides, 0] or path[:1] != [leaf]:
        raise _refused("the proof is about another leaf or place")
    verify_inclusion(leaf, index - 1, size, path[1:], tree_root)


def verify_consistency_json(
    form: Any, earlier: int, earlier_root: bytes, later: int, later_root: bytes
) -> None:
    """Check a consistency proof that somebody else wrote.

    Args:
        form: The parsed JSON.
        earlier: Size of the earlier tree, from a checkpoint that was verified.
        earlier_root: Its root, 32 bytes.
        later: Size of the later tree.
        later_root: Its root, 32 bytes.

    Raises:
        TrustError: It is no such proof, or does not hold.

    Example:
        >>> from datapipe.manifest.merkle import leaf_hash
        >>> leaves = [leaf_hash(b"a"), leaf_hash(b"b")]
        >>> verify_consistency_json(consistency_json(leaves, 1), 1, leaves[0], 2, root(leaves))
    """
    stated, prior, path = _read(form, "consistency", "prior_size")
    if (prior, stated) != (earlier, later) or not 1 <= earlier <= later:
        raise _refused(f"it is about trees of {prior} and {stated}, not {earlier} and {later}")
    steps = _steps(earlier, later)
    rule, subset = [step[0] for step in steps], [step[1] for step in steps]
    if (form.get("rule"), form.get("subset"), len(path)) != (rule, subset, len(steps)):
        raise _refused("the proof has another shape than its sizes ask for")
    new = path[0]
    for side, other in zip(rule, path[1:], strict=False):
        new = node_hash(other, new) if side else node_hash(new, other)
    whole = [digest for kept, digest in zip(subset, path, strict=True) if kept]
    old = whole[0]
    for left in whole[1:]:
        old = node_hash(left, old)
    if (old, new) != (earlier_root, later_root):
        raise _refused(f"the first {earlier} entries are not those of the earlier tree")


def _read(form: Any, kind: str, place: str) -> tuple[int, int, list[bytes]]:
    """Size, index or earlier size, and hashes of a proof, its form checked."""
    typed = isinstance(form, dict) and form.get("type") == kind
    said = form.get("metadata") if typed else None
    said = said if isinstance(said, dict) else {}
    size, at = said.get("size"), said.get(place)
    if not isinstance(size, int) or not isinstance(at, int) or {**said, **_HASHING} != said:
        raise _refused(f"not a proof of {kind} with sha256")
    path = form.get("path")
    if not isinstance(path, list) or not 1 <= len(path) <= _LONGEST:
        raise _refused("the proof has no path, or one without end")
    if not all(isinstance(text, str) and _DIGEST.fullmatch(text) for text in path):
        raise _refused("a hash of the path is not 64 hex digits")
    return size, at, [bytes.fromhex(text) for text in path]


def _refused(what: str) -> TrustError:
    return TrustError(what, code=Reason.LOG_PROOF.value, hint="ask for a proof of the newest log")


_HASHING = {"algorithm": "sha256", "security": True}
_LONGEST = 200
_DIGEST = re.compile("[0-9a-f]{64}")
