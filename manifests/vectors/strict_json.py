# SPDX-License-Identifier: Apache-2.0
"""Strict JSON of the second verifier, by its earlier name."""

from verify import canonical, ecmascript, need, strict

__all__ = ["canonical", "ecmascript", "need", "strict"]
