# SPDX-License-Identifier: Apache-2.0
"""Public keys, their ids, and DSSE envelopes for a second implementation."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from strict_json import need

SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def keys_of(pem):
    """Key id to key, for every PUBLIC KEY block."""
    found = {}
    for block in re.findall(r"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----\s?", pem):
        key = serialization.load_pem_public_key(block.encode())
        public = key.public_bytes(serialization.Encoding.PEM, SPKI).decode()
        kind, scheme = "ml-dsa", "ml-dsa-65/1"
        if isinstance(key, ed25519.Ed25519PublicKey):
            kind, scheme, public = "ed25519", "ed25519", key.public_bytes_raw().hex()
        elif isinstance(key, ec.EllipticCurvePublicKey):
            kind, scheme = "ecdsa", f"ecdsa-sha2-nistp{key.key_size}"
        text = f'{{"keytype":"{kind}","keyval":{{"public":"{public}"}},"scheme":"{scheme}"}}'
        found[hashlib.sha256(text.encode()).hexdigest()] = key
    return found


def fits(key, sig, message):
    sizes = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
    with contextlib.suppress(InvalidSignature):
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(sig, message, ec.ECDSA(sizes[key.key_size]()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(sig, message)
        else:
            key.verify(sig, b"tuf\x01" + hashlib.sha512(message).digest())
        return True
    return False


def b64(text):
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text)
    return data


def opened(form, keys, threshold=1):
    """The payload of a DSSE envelope whose every signature holds."""
    need(set(form) == {"payload", "payloadType", "signatures"})
    payload, kind = b64(form["payload"]), form["payloadType"].encode()
    message, signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload), set()
    for item in form["signatures"]:
        need(set(item) <= {"keyid", "sig"})
        named = {i: k for i, k in keys.items() if item.get("keyid", "") in ("", i)}
        by = {i for i, key in named.items() if fits(key, b64(item["sig"]), message)}
        need(by and not by & signed)
        signed |= by
    need(len(signed) >= threshold)
    return payload
