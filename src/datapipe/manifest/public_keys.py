# SPDX-License-Identifier: Apache-2.0
"""Who is believed: `PublicKey`, how keys are read, and which of them belong to one holder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from datapipe.errors import TrustError
from datapipe.manifest.algorithms import (
    HYBRID_PARTS,
    OLD_HYBRID_PARTS,
    Algorithm,
    RawPublicKey,
    Strength,
    algorithm_of,
    key_id,
    public_pem,
    signed_bytes,
)
from datapipe.manifest.checks import Reason

_BLOCK = re.compile(r"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----\n?")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked against.

    Args:
        raw: The key of the `cryptography` package.

    Raises:
        TrustError: The key is of a kind that is not accepted.

    Example:
        >>> from datapipe.manifest.signers import PrivateKey
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
            >>> from datapipe.manifest.signers import PrivateKey
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
            >>> from datapipe.manifest.signers import PrivateKey
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
            >>> from datapipe.manifest.signers import PrivateKey
            >>> len(PrivateKey.new("p256").public_key.keyid)
            64
        """
        return key_id(self.raw)

    def to_pem(self) -> str:
        """The key as text to give away.

        Returns:
            A PEM block with a final newline.

        Example:
            >>> from datapipe.manifest.signers import PrivateKey
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
            >>> from datapipe.manifest.signers import PrivateKey
            >>> PublicKey.from_pem(PrivateKey.new("p521").public_key.to_pem()).algorithm
            'p521'
        """
        found = read_public_keys(pem)
        if len(found) != 1:
            raise bad_key(f"{len(found)} public keys in one PEM text, one expected")
        return found[0]

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature.

        Args:
            signature: What the signer gave.
            message: The bytes it is said to be over.

        Raises:
            TrustError: The signature does not fit the message and this key.

        Example:
            >>> from datapipe.manifest.signers import PrivateKey
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
        >>> from datapipe.manifest.signers import HybridKey
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
        >>> from datapipe.manifest.signers import HybridKey, PrivateKey
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
        >>> from datapipe.manifest.signers import HybridKey
        >>> pem = "".join(key.to_pem() for key in HybridKey.new().public_keys)
        >>> [key.algorithm for key in read_public_keys(pem)]
        ['p256', 'ed25519', 'ml-dsa-65']
    """
    text = pem.decode("ascii", "replace") if isinstance(pem, bytes) else pem
    blocks = _BLOCK.findall(text)
    if not blocks or text.count("-----BEGIN") != len(blocks):
        raise bad_key("the text holds something other than PEM blocks of type PUBLIC KEY")
    try:
        keys = [serialization.load_pem_public_key(block.encode()) for block in blocks]
    except Exception as error:  # OpenSSL raises several types for one malformed key
        raise bad_key("a PUBLIC KEY block does not hold a key") from error
    return tuple(PublicKey(cast("RawPublicKey", key)) for key in keys)


def _verify(raw: RawPublicKey, algorithm: Algorithm, signature: bytes, data: bytes) -> None:
    if isinstance(raw, ec.EllipticCurvePublicKey) and algorithm.curve_hash:
        raw.verify(signature, data, ec.ECDSA(algorithm.curve_hash))
    else:
        cast("ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey", raw).verify(signature, data)


def bad_key(what: str) -> TrustError:
    """The refusal of what is no key that is accepted.

    Args:
        what: What is wrong with it.

    Returns:
        The error to raise.

    Example:
        >>> bad_key("no key").message
        'no key'
    """
    return TrustError(
        what,
        code=Reason.KEY_FORM.value,
        hint="give the PEM that `datapipe keys export` prints",
    )
