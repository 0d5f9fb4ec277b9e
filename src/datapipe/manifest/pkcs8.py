# SPDX-License-Identifier: Apache-2.0
"""Encrypted PKCS#8 with a derivation that makes guessing passphrases dear.

OpenSSL's default of 2,048 rounds of PBKDF2 is from another age and cannot be changed through
`cryptography`, so the outer structure is written here. Any OpenSSL reads it.
"""

from __future__ import annotations

import base64
import hashlib
import os

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from datapipe.manifest.algorithms import RawPrivateKey

ROUNDS = 210_000
"""Of HMAC-SHA512: a guess costs as much on graphics cards as 600,000 of HMAC-SHA256, and on the
owner's processor less."""

_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA512 = bytes.fromhex("06082a864886f70d020b") + b"\x05\x00"
_AES_256_CBC = bytes.fromhex("060960864801650304012a")


def encrypted_pem(key: RawPrivateKey, passphrase: bytes, *, rounds: int = ROUNDS) -> bytes:
    """Write a private key as an encrypted PKCS#8 PEM block.

    Args:
        key: The key.
        passphrase: What encrypts it, not empty.
        rounds: Rounds of PBKDF2-HMAC-SHA512, at least 1.

    Returns:
        An `ENCRYPTED PRIVATE KEY` block with a final newline.

    Example:
        >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        >>> pem = encrypted_pem(Ed25519PrivateKey.generate(), b"secret", rounds=1000)
        >>> pem.splitlines()[0]
        b'-----BEGIN ENCRYPTED PRIVATE KEY-----'

    References:
        Moriarty, Kaliski, Rusch, 2017, RFC 8018: PKCS #5 v2.1.
    """
    plain = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    salt, nonce = os.urandom(16), os.urandom(16)
    secret = hashlib.pbkdf2_hmac("sha512", passphrase, salt, rounds, 32)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(secret), modes.CBC(nonce)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    derivation = _sequence(
        _PBKDF2, _sequence(_octets(salt), _integer(rounds), _sequence(_HMAC_SHA512))
    )
    cipher = _sequence(_AES_256_CBC, _octets(nonce))
    der = _sequence(_sequence(_PBES2, _sequence(derivation, cipher)), _octets(sealed))
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    name = "ENCRYPTED PRIVATE KEY"
    return "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", ""]).encode()


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _octets(content: bytes) -> bytes:
    return _tagged(0x04, content)


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))
