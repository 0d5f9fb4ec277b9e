# SPDX-License-Identifier: Apache-2.0
"""The signature algorithms: their names, classes and key ids, and the bytes each one signs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from datapipe.errors import DeclarationError, TrustError, nearest
from datapipe.manifest.checks import Reason

RawPublicKey: TypeAlias = (
    ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | mldsa.MLDSA65PublicKey
)
RawPrivateKey: TypeAlias = (
    ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey
)
Strength: TypeAlias = Literal["classical", "post-quantum"]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to sign, with the names that securesystemslib gives it.

    Args:
        name: Our name, such as `p256`.
        keytype: The key type in the key id, such as `ecdsa`.
        scheme: The scheme in the key id, such as `ecdsa-sha2-nistp256`.
        strength: `classical` or `post-quantum`.
        generate: Makes a fresh private key.
        curve_hash: The hash of an ECDSA signature; None for the others.

    Example:
        >>> ALGORITHMS["ml-dsa-65"].strength
        'post-quantum'
    """

    name: str
    keytype: str
    scheme: str
    strength: Strength
    generate: Callable[[], RawPrivateKey]
    curve_hash: hashes.HashAlgorithm | None = None


ALGORITHMS: dict[str, Algorithm] = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm("ed25519", "ed25519", "ed25519", "classical", ed25519.Ed25519PrivateKey.generate),
        Algorithm(
            "p256",
            "ecdsa",
            "ecdsa-sha2-nistp256",
            "classical",
            lambda: ec.generate_private_key(ec.SECP256R1()),
            hashes.SHA256(),
        ),
        Algorithm(
            "p384",
            "ecdsa",
            "ecdsa-sha2-nistp384",
            "classical",
            lambda: ec.generate_private_key(ec.SECP384R1()),
            hashes.SHA384(),
        ),
        Algorithm(
            "p521",
            "ecdsa",
            "ecdsa-sha2-nistp521",
            "classical",
            lambda: ec.generate_private_key(ec.SECP521R1()),
            hashes.SHA512(),
        ),
        Algorithm(
            "ml-dsa-65",
            "ml-dsa",
            "ml-dsa-65/1",
            "post-quantum",
            mldsa.MLDSA65PrivateKey.generate,
        ),
    )
}
HYBRID = "hybrid"
HYBRID_PARTS = ("p256", "ed25519", "ml-dsa-65")
"""P-256 stands first: tools that read one block of a PEM file find the key of the bundle there."""
OLD_HYBRID_PARTS = ("ed25519", "ml-dsa-65")
"""Hybrid keys of before held no P-256; they are read and sign as they did."""
CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}


def algorithm_named(name: str) -> Algorithm:
    """Look up an algorithm by our name for it.

    Args:
        name: `ed25519`, `p256`, `p384`, `p521` or `ml-dsa-65`.

    Returns:
        The algorithm.

    Raises:
        DeclarationError: There is none of this name.

    Example:
        >>> algorithm_named("p384").scheme
        'ecdsa-sha2-nistp384'
    """
    if name not in ALGORITHMS:
        raise DeclarationError(
            f"no signature algorithm {name!r}",
            code="DP-DECL-032",
            hint=nearest(name, [*ALGORITHMS, HYBRID]),
        )
    return ALGORITHMS[name]


def algorithm_of(key: object) -> Algorithm:
    """Tell which algorithm a key of the `cryptography` package belongs to.

    Args:
        key: A public or private key object.

    Returns:
        The algorithm.

    Raises:
        TrustError: The key is of a kind that is not accepted, such as RSA or P-224.

    Example:
        >>> algorithm_of(ed25519.Ed25519PrivateKey.generate()).name
        'ed25519'
    """
    if isinstance(key, (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey)):
        return ALGORITHMS["ed25519"]
    if isinstance(key, (mldsa.MLDSA65PublicKey, mldsa.MLDSA65PrivateKey)):
        return ALGORITHMS["ml-dsa-65"]
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        name = CURVES.get(key.curve.name)
        if name:
            return ALGORITHMS[name]
    raise TrustError(
        f"keys of type {type(key).__name__} are not accepted",
        code=Reason.KEY_FORM.value,
        hint=f"use one of {', '.join(ALGORITHMS)}",
    )


def signed_bytes(algorithm: Algorithm, message: bytes) -> bytes:
    """The bytes that the primitive signs for a message.

    ML-DSA signs a prefixed SHA-512, as TUF's TAP 21 and securesystemslib do, so that a hardware
    key never needs the whole message; the others sign the message itself.

    Args:
        algorithm: The algorithm.
        message: What is to be signed, for an envelope its pre-authentication encoding.

    Returns:
        The message, or 68 bytes for ML-DSA.

    Example:
        >>> len(signed_bytes(ALGORITHMS["ml-dsa-65"], b"hello"))
        68

    References:
        TUF project, 2024, TAP 21: Scheme definitions of ML-DSA signatures.
    """
    if algorithm.keytype == "ml-dsa":
        return b"tuf\x01" + hashlib.sha512(message).digest()
    return message


def public_pem(key: RawPublicKey) -> str:
    """A public key as PEM text.

    Args:
        key: The key.

    Returns:
        A `PUBLIC KEY` block with a final newline.

    Example:
        >>> public_pem(ed25519.Ed25519PrivateKey.generate().public_key())[:26]
        '-----BEGIN PUBLIC KEY-----'
    """
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def key_id(key: RawPublicKey) -> str:
    """The id of a public key, by the rule of securesystemslib.

    Args:
        key: The key.

    Returns:
        64 hex digits: the sha256 of the canonical description of the key.

    Example:
        >>> zeros = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
        >>> key_id(zeros)[:12]
        '4cc3f338069d'
    """
    algorithm = algorithm_of(key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        public = key.public_bytes_raw().hex()
    else:
        public = public_pem(key)
    form = {"keytype": algorithm.keytype, "scheme": algorithm.scheme, "keyval": {"public": public}}
    return hashlib.sha256(_olpc(form).encode()).hexdigest()


def _olpc(value: object) -> str:
    """OLPC canonical JSON of texts and objects: only backslash and quote are escaped.

    Newlines of a PEM stay raw, which is why the JCS writer would give another id.
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{_olpc(k)}:{_olpc(value[k])}" for k in sorted(value)) + "}"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
