# SPDX-License-Identifier: Apache-2.0
"""Keys that everybody can make, and how a case is written down."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from datapipe.manifest.signers import PrivateKey

CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}


def key_of(name: str, algorithm: str) -> PrivateKey:
    """The key of a name; everybody can make it, so it proves nothing."""
    seed = hashlib.sha256(b"datapipe test key " + name.encode()).digest()
    if algorithm == "ed25519":
        return PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    if algorithm == "ml-dsa-65":
        return PrivateKey(mldsa.MLDSA65PrivateKey.from_seed_bytes(seed))
    return PrivateKey(ec.derive_private_key(int.from_bytes(seed, "big"), CURVES[algorithm]))


KEYS = {name: key_of("ada", name) for name in ("ed25519", "p256", "p384", "p521", "ml-dsa-65")}
OTHER = key_of("eve", "ed25519")


def valid(comment, **fields):
    return {"comment": comment, **fields, "result": "valid"}


def invalid(comment, reason, **fields):
    return {"comment": comment, **fields, "result": "invalid", "reason": reason}


def pem(*keys):
    return "".join(key.public_key.to_pem() for key in keys)
