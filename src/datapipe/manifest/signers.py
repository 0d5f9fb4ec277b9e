# SPDX-License-Identifier: Apache-2.0
"""Who signs and who is believed: `Signer`, `PrivateKey`, `HybridKey`, `PublicKey`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from datapipe.errors import TrustError
from datapipe.manifest.algorithms import (
    HYBRID,
    HYBRID_PARTS,
    OLD_HYBRID_PARTS,
    Algorithm,
    RawPrivateKey,
    RawPublicKey,
    Strength,
    algorithm_named,
    algorithm_of,
    key_id,
    public_pem,
    signed_bytes,
)
from datapipe.manifest.checks import Reason

_BLOCK = re.compile(r"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----\n?")


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


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked against.

    Args:
        raw: The key of the `cryptography` package.

    Raises:
        TrustError: The key is of a kind that is not accepted.

    Example:
        >>> private = PrivateKey.new("ed25519")
        >>> PublicKey.from_pem(private.public_key.to_pem()) == private.public_key
        True
    """

    raw: RawPublicKey

    def __post_init__(self) -> None:
        algorithm_of(self.raw)

    def __hash__(self) -> int:
        return hash(self.keyid)

    @property
    def algorithm(self) -> str:
        """The name of its algorithm.

        Returns:
            A name of `ALGORITHMS`.

        Example:
            >>> PrivateKey.new("ml-dsa-65").public_key.algorithm
            'ml-dsa-65'
        """
        return algorithm_of(self.raw).name

    @property
    def strength(self) -> Strength:
        """Whether a quantum computer is expected to forge it.

        Returns:
            `classical` or `post-quantum`.

        Example:
            >>> PrivateKey.new("ed25519").public_key.strength
            'classical'
        """
        return algorithm_of(self.raw).strength

    @property
    def keyid(self) -> str:
        """The id of the key, equal to securesystemslib's.

        Returns:
            64 hex digits.

        Example:
            >>> len(PrivateKey.new("p256").public_key.keyid)
            64
        """
        return key_id(self.raw)

    def to_pem(self) -> str:
        """The key as text to give away.

        Returns:
            A PEM block with a final newline.

        Example:
            >>> PrivateKey.new("p256").public_key.to_pem().splitlines()[0]
            '-----BEGIN PUBLIC KEY-----'
        """
        return public_pem(self.raw)

    @classmethod
    def from_pem(cls, pem: str | bytes) -> PublicKey:
        """Read one public key.

        Args:
            pem: Text with exactly one `PUBLIC KEY` block.

        Returns:
            The key.

        Raises:
            TrustError: There is not exactly one block, or it is not a key that is accepted.

        Example:
            >>> PublicKey.from_pem(PrivateKey.new("p521").public_key.to_pem()).algorithm
            'p521'
        """
        found = read_public_keys(pem)
        if len(found) != 1:
            raise _bad_key(f"{len(found)} public keys in one PEM text, one expected")
        return found[0]

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature.

        Args:
            signature: What the signer gave.
            message: The bytes it is said to be over.

        Raises:
            TrustError: The signature does not fit the message and this key.

        Example:
            >>> private = PrivateKey.new("ed25519")
            >>> private.public_key.verify(private.sign(b"hello"), b"hello")
        """
        algorithm = algorithm_of(self.raw)
        try:
            _verify(self.raw, algorithm, signature, signed_bytes(algorithm, message))
        except InvalidSignature as error:
            raise TrustError(
                f"the signature does not fit the {self.algorithm} key {self.keyid[:12]}",
                code=Reason.BAD_SIGNATURE.value,
                hint="the content, the signature or the key is another one than was signed",
            ) from error


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
            raise _bad_key(
                f"a hybrid key holds {' + '.join(HYBRID_PARTS)}, not {' + '.join(found)}"
            )

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


def missing_parts(
    signed: Iterable[PublicKey], believed: Iterable[PublicKey]
) -> tuple[PublicKey, ...]:
    """The parts of hybrid keys that did not sign although another part did.

    Whoever breaks one algorithm could otherwise drop the signatures of the others. Among the
    believed keys a hybrid one is told by the order in which its parts are written.

    Args:
        signed: The keys whose signatures hold.
        believed: The keys that were asked for, in the order of their files.

    Returns:
        Parts that lack; none when every hybrid key signed with all its parts or not at all.

    Example:
        >>> key = HybridKey.new()
        >>> [part.algorithm for part in missing_parts(key.public_keys[:2], key.public_keys)]
        ['ml-dsa-65']
    """
    there = set(signed)
    begun = [party for party in parties(believed) if there & set(party)]
    return tuple(key for party in begun for key in party if key not in there)


def parties(keys: Iterable[PublicKey]) -> tuple[tuple[PublicKey, ...], ...]:
    """Keys by who holds them, as far as their order tells: the parts of a hybrid key are one.

    Args:
        keys: Public keys in the order of their files.

    Returns:
        Groups in the same order, of one key or of all parts of a hybrid key.

    Example:
        >>> lone = PrivateKey.new("p256").public_key
        >>> [len(party) for party in parties([lone, *HybridKey.new().public_keys])]
        [1, 3]
    """
    listed, found = list(keys), []
    while listed:
        names = tuple(key.algorithm for key in listed[: len(HYBRID_PARTS)])
        kinds = (HYBRID_PARTS, OLD_HYBRID_PARTS)
        size = next((len(kind) for kind in kinds if names[: len(kind)] == kind), 1)
        found.append(tuple(listed[:size]))
        listed = listed[size:]
    return tuple(found)


def read_public_keys(pem: str | bytes) -> tuple[PublicKey, ...]:
    """Read every public key of a PEM text, so three for a hybrid key.

    Args:
        pem: Text with one or more `PUBLIC KEY` blocks.

    Returns:
        The keys, in the order of the text.

    Raises:
        TrustError: There is no block, or one is not a key that is accepted.

    Example:
        >>> pem = "".join(key.to_pem() for key in HybridKey.new().public_keys)
        >>> [key.algorithm for key in read_public_keys(pem)]
        ['p256', 'ed25519', 'ml-dsa-65']
    """
    text = pem.decode("ascii", "replace") if isinstance(pem, bytes) else pem
    blocks = _BLOCK.findall(text)
    if not blocks or text.count("-----BEGIN") != len(blocks):
        raise _bad_key("the text holds something other than PEM blocks of type PUBLIC KEY")
    try:
        keys = [serialization.load_pem_public_key(block.encode()) for block in blocks]
    except Exception as error:  # OpenSSL raises several types for one malformed key
        raise _bad_key("a PUBLIC KEY block does not hold a key") from error
    return tuple(PublicKey(cast("RawPublicKey", key)) for key in keys)


def _verify(raw: RawPublicKey, algorithm: Algorithm, signature: bytes, data: bytes) -> None:
    if isinstance(raw, ec.EllipticCurvePublicKey) and algorithm.curve_hash:
        raw.verify(signature, data, ec.ECDSA(algorithm.curve_hash))
    else:
        cast("ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey", raw).verify(signature, data)


def _bad_key(what: str) -> TrustError:
    return TrustError(
        what,
        code=Reason.KEY_FORM.value,
        hint="give the PEM that `datapipe keys export` prints",
    )
