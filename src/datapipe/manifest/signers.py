# SPDX-License-Identifier: Apache-2.0
"""Who signs: `Signer`, `PrivateKey`, `HybridKey`; who is believed is in `public_keys`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from datapipe.manifest.algorithms import (
    HYBRID,
    HYBRID_PARTS,
    OLD_HYBRID_PARTS,
    RawPrivateKey,
    algorithm_named,
    algorithm_of,
    signed_bytes,
)
from datapipe.manifest.public_keys import PublicKey, bad_key


class Signer(Protocol):
    """Anything that signs: a key in memory, a smart card, a key service.

    Example:
        >>> def name_of(signer: Signer) -> str:
        ...     return signer.algorithm
        >>> name_of(PrivateKey.new("ed25519"))
        'ed25519'
    """

    @property
    def keyid(self) -> str:
        """The id of the public key, by the rule of `algorithms.key_id`.

        Returns:
            64 hex digits.

        Example:
            >>> len(PrivateKey.new("ed25519").keyid)
            64
        """

    @property
    def algorithm(self) -> str:
        """Which algorithm it signs with.

        Returns:
            A name of `ALGORITHMS`.

        Example:
            >>> PrivateKey.new("p256").algorithm
            'p256'
        """

    def sign(self, message: bytes) -> bytes:
        """Sign a message.

        Args:
            message: The bytes to sign, for an envelope its pre-authentication encoding.

        Returns:
            The signature.

        Example:
            >>> len(PrivateKey.new("ed25519").sign(b"hello"))
            64
        """


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A key in memory that signs. Its repr shows the key id, never the key.

    Args:
        raw: The key of the `cryptography` package.

    Raises:
        TrustError: The key is of a kind that is not accepted.

    Example:
        >>> key = PrivateKey.new("ed25519")
        >>> repr(key) == f"PrivateKey(ed25519 {key.keyid[:12]})"
        True
    """

    raw: RawPrivateKey

    def __post_init__(self) -> None:
        algorithm_of(self.raw)

    @classmethod
    def new(cls, algorithm: str) -> PrivateKey:
        """Make a fresh key from the operating system's randomness.

        Args:
            algorithm: A name of `ALGORITHMS`.

        Returns:
            The key.

        Example:
            >>> PrivateKey.new("p384").algorithm
            'p384'
        """
        return cls(algorithm_named(algorithm).generate())

    @property
    def algorithm(self) -> str:
        """The name of its algorithm.

        Returns:
            A name of `ALGORITHMS`.

        Example:
            >>> PrivateKey.new("ed25519").algorithm
            'ed25519'
        """
        return algorithm_of(self.raw).name

    @property
    def public_key(self) -> PublicKey:
        """The key that checks what this one signs.

        Returns:
            The public half.

        Example:
            >>> PrivateKey.new("ed25519").public_key.algorithm
            'ed25519'
        """
        return PublicKey(self.raw.public_key())

    @property
    def keyid(self) -> str:
        """The id of the public half.

        Returns:
            64 hex digits.

        Example:
            >>> key = PrivateKey.new("ed25519")
            >>> key.keyid == key.public_key.keyid
            True
        """
        return self.public_key.keyid

    @property
    def parts(self) -> tuple[PrivateKey, ...]:
        """The single keys in it, for symmetry with `HybridKey`.

        Returns:
            This key alone.

        Example:
            >>> len(PrivateKey.new("ed25519").parts)
            1
        """
        return (self,)

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The public halves of all parts.

        Returns:
            One public key.

        Example:
            >>> len(PrivateKey.new("ed25519").public_keys)
            1
        """
        return (self.public_key,)

    def sign(self, message: bytes) -> bytes:
        """Sign a message; ECDSA deterministically, so that equal input gives equal bytes.

        Args:
            message: The bytes to sign.

        Returns:
            64 bytes for Ed25519, DER for ECDSA, 3309 bytes for ML-DSA-65 (which is randomized).

        Example:
            >>> key = PrivateKey.new("p256")
            >>> key.sign(b"hello") == key.sign(b"hello")
            True

        References:
            Pornin, 2013, RFC 6979: Deterministic usage of DSA and ECDSA.
        """
        algorithm = algorithm_of(self.raw)
        data = signed_bytes(algorithm, message)
        if isinstance(self.raw, ec.EllipticCurvePrivateKey) and algorithm.curve_hash:
            return self.raw.sign(data, ec.ECDSA(algorithm.curve_hash, deterministic_signing=True))
        return cast("ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey", self.raw).sign(data)

    def __repr__(self) -> str:
        return f"PrivateKey({self.algorithm} {self.keyid[:12]})"


@dataclass(frozen=True, slots=True, repr=False)
class HybridKey:
    """Keys that sign side by side: P-256 and Ed25519 for today, ML-DSA-65 for the years after.

    A forger must break all. It is not one signature but three, so that a verifier which knows only
    a classical part can still check that part; the P-256 part also signs OpenSSF bundles, which
    allow no other kind.

    Args:
        parts: A P-256, an Ed25519 and an ML-DSA-65 key, in this order; without the first in keys
            that an earlier version made.

    Raises:
        TrustError: The parts are others than these.

    Example:
        >>> [part.algorithm for part in HybridKey.new().parts]
        ['p256', 'ed25519', 'ml-dsa-65']
    """

    parts: tuple[PrivateKey, ...]

    def __post_init__(self) -> None:
        found = tuple(part.algorithm for part in self.parts)
        if found not in (HYBRID_PARTS, OLD_HYBRID_PARTS):
            raise bad_key(f"a hybrid key holds {' + '.join(HYBRID_PARTS)}, not {' + '.join(found)}")

    @classmethod
    def new(cls) -> HybridKey:
        """Make a fresh one.

        Returns:
            The key.

        Example:
            >>> HybridKey.new().algorithm
            'hybrid'
        """
        return cls(tuple(PrivateKey.new(name) for name in HYBRID_PARTS))

    @property
    def algorithm(self) -> str:
        """The name of the kind.

        Returns:
            `hybrid`.

        Example:
            >>> HybridKey.new().algorithm
            'hybrid'
        """
        return HYBRID

    @property
    def keyid(self) -> str:
        """The id of the first part, by which all are listed.

        Returns:
            64 hex digits.

        Example:
            >>> key = HybridKey.new()
            >>> key.keyid == key.parts[0].keyid
            True
        """
        return self.parts[0].keyid

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """The public halves.

        Returns:
            A public key for each part.

        Example:
            >>> len(HybridKey.new().public_keys)
            3
        """
        return tuple(part.public_key for part in self.parts)

    def __repr__(self) -> str:
        return f"HybridKey({' + '.join(repr(part) for part in self.parts)})"


AnySigner: TypeAlias = Signer | HybridKey


def single_signers(signers: Iterable[AnySigner]) -> tuple[Signer, ...]:
    """Every single key among some signers, with hybrid keys taken apart.

    Args:
        signers: Keys, hardware signers and hybrid keys.

    Returns:
        One signer for each signature to be made, in order.

    Example:
        >>> [signer.algorithm for signer in single_signers([HybridKey.new()])]
        ['p256', 'ed25519', 'ml-dsa-65']
    """
    single: list[Signer] = []
    for signer in signers:
        single.extend(signer.parts if isinstance(signer, HybridKey) else [signer])
    return tuple(single)
