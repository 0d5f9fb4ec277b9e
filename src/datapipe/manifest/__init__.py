# SPDX-License-Identifier: Apache-2.0
"""Signed provenance: statements about data, who vouches for them, and how they are checked."""
