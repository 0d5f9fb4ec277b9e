# SPDX-License-Identifier: Apache-2.0
"""Keys and envelopes of the second verifier, by their earlier name."""

from verify import b64, fits, keys_of, opened

__all__ = ["b64", "fits", "keys_of", "opened"]
