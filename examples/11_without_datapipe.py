# SPDX-License-Identifier: Apache-2.0
# Prints:
#     given: 3 files, their attestation and a public key
#     signatures that hold: ECDSA P-256, Ed25519, ML-DSA-65
#     every file is what was signed: True
#     after one changed byte: False
#     after one renamed file: False
#     datapipe was imported: False
"""Verify a data set that you were given, without datapipe: hashlib, json and cryptography."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

BLOCK = re.compile(r"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----\n?")


def holds(key: PublicKeyTypes, signature: bytes, message: bytes) -> str:
    """The name of the algorithm when the signature holds, else nothing."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            return "ECDSA P-256"
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
            return "Ed25519"
        # ML-DSA signs a prefixed SHA-512, so that a hardware key never needs the whole message
        key.verify(signature, b"tuf\x01" + hashlib.sha512(message).digest())
    except InvalidSignature:
        return ""
    return "ML-DSA-65"


def signed_by(attestation: Path, public: str) -> tuple[dict, list[str]]:
    """What is said, and which keys signed it: a DSSE envelope around an in-toto statement."""
    envelope = json.loads(attestation.read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    keys = [serialization.load_pem_public_key(block.encode()) for block in BLOCK.findall(public)]
    signatures = [base64.b64decode(item["sig"]) for item in envelope["signatures"]]
    names = [name for sig in signatures for key in keys if (name := holds(key, sig, message))]
    if len(names) != len(keys):
        raise SystemExit("not signed with every part of the key")
    return json.loads(payload), sorted(names)


def unchanged(folder: Path, statement: dict) -> bool:
    """Whether the folder holds exactly the signed names with the signed bytes."""
    signed = {
        s["name"]: s["digest"]["sha256"] for s in statement["subject"] if "sha256" in s["digest"]
    }
    there = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    return there == signed


def give(place: Path) -> None:
    """Somebody else signs a folder with datapipe, and gives it away with the public key."""
    (place / "reviews" / "more").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "more/c.csv"):
        (place / "reviews" / name).write_text(f"body,stars\nfrom {name},5\n")
    secret = {**os.environ, "DATAPIPE_KEY_PASSPHRASE": "correct horse"}

    def datapipe(*words: str) -> str:
        command = [sys.executable, "-m", "datapipe", *words]
        done = subprocess.run(  # noqa: S603  # words of our own
            command, cwd=place, env=secret, capture_output=True, text=True, check=True
        )
        return done.stdout

    datapipe("keys", "new", "--algorithm", "hybrid", "--out", "key.pem")
    (place / "key.pub").write_text(datapipe("keys", "export", "key.pem"))
    datapipe("sign", "reviews", "--key", "key.pem")


with tempfile.TemporaryDirectory() as folder:
    place = Path(folder)
    give(place)
    statement, names = signed_by(place / "reviews.dsse.json", (place / "key.pub").read_text())
    print(f"given: {statement['predicate']['files']} files, their attestation and a public key")
    print(f"signatures that hold: {', '.join(names)}")
    print(f"every file is what was signed: {unchanged(place / 'reviews', statement)}")
    whole = (place / "reviews" / "b.csv").read_text()
    (place / "reviews" / "b.csv").write_text(whole.replace("5", "1"))
    print(f"after one changed byte: {unchanged(place / 'reviews', statement)}")
    (place / "reviews" / "b.csv").write_text(whole)
    (place / "reviews" / "b.csv").rename(place / "reviews" / "d.csv")
    print(f"after one renamed file: {unchanged(place / 'reviews', statement)}")
    print(f"datapipe was imported: {'datapipe' in sys.modules}")
