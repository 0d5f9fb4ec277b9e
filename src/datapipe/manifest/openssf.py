# SPDX-License-Identifier: Apache-2.0
"""The OpenSSF Model Signing v1.0 bundle: written so that its tools accept it, read strictly.

The form allows one signature, by a P-256, P-384 or P-521 key. Everything else that we say about a
data set stands in our own attestation beside it (`attestation.py`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.algorithms import CURVES
from datapipe.manifest.canonical import parse_json
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import MOST_SIGNATURES, Envelope, pae
from datapipe.manifest.files import HASH_BYTES, FileDigest
from datapipe.manifest.listing import name_problem
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.signers import AnySigner, Signer, single_signers
from datapipe.manifest.statement import PAYLOAD_TYPE, STATEMENT_TYPE, Statement

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
LEGACY_PREDICATE_TYPE = "https://model_signing/Digests/v0.1"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_quoted = json.encoder.encode_basestring_ascii
LARGEST_BUNDLE_BYTES = 96 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read, its form checked, its signature not yet.

    Args:
        envelope: The signed payload.
        name: The name it was signed under.
        files: The files with their digests, in the order of the bundle.
        ignored: Paths that the signer passed over, relative to the folder.
        hint: sha256 of the PEM of the key that is said to have signed; empty when not said.

    Example:
        >>> Bundle(Envelope(b""), "d", (), (), "").name
        'd'
    """

    envelope: Envelope
    name: str
    files: tuple[FileDigest, ...]
    ignored: tuple[str, ...]
    hint: str

    def verify(self, keys: Iterable[PublicKey]) -> PublicKey:
        """Check the signature.

        Args:
            keys: The keys that are believed.

        Returns:
            The key that signed.

        Raises:
            TrustError: No key was given, none of them signed, or the signature does not hold.

        Example:
            >>> from datapipe.manifest.signers import PrivateKey
            >>> key = PrivateKey.new("p256")
            >>> files = (FileDigest("a", 0, "0" * 64),)
            >>> read_bundle(write_bundle("d", files, key)).verify([key.public_key]).algorithm
            'p256'
        """
        believed = tuple(keys)
        named = any(_hint(key) == self.hint for key in believed)
        try:
            signer = self.envelope.verify(believed)[0]
        except TrustError as error:
            if error.code == Reason.WRONG_KEY.value and named:
                raise _refused(
                    "the signature does not hold for the content and its key", Reason.BAD_SIGNATURE
                ) from error
            raise
        if self.hint and _hint(signer) != self.hint:
            raise _refused("it names another key than the one that signed", Reason.WRONG_KEY)
        return signer


def bundle_signer(signers: Iterable[AnySigner]) -> Signer | None:
    """The first of some signers that a bundle may carry.

    Args:
        signers: Keys, hardware signers and hybrid keys.

    Returns:
        A signer with an ECDSA key, or None when there is none.

    Example:
        >>> from datapipe.manifest.signers import PrivateKey
        >>> bundle_signer([PrivateKey.new("ed25519")]) is None
        True
    """
    allowed = set(CURVES.values())
    return next((one for one in single_signers(signers) if one.algorithm in allowed), None)


def write_bundle(name: str, files: Iterable[FileDigest], signer: AnySigner) -> bytes:
    """Sign a list of files.

    Args:
        name: The name of the folder or file.
        files: Its files with sha256 digests; a single file is named `.`.
        signer: A P-256, P-384 or P-521 key that shows its `public_key`.

    Returns:
        The bundle's bytes.

    Raises:
        DeclarationError: The signer is of another algorithm, or there is no file.

    Example:
        >>> from datapipe.manifest.signers import PrivateKey
        >>> write_bundle("d", [FileDigest("a", 0, "0" * 64)], PrivateKey.new("p256"))[:12]
        b'{"mediaType"'

    References:
        OpenSSF, 2026, OMS: OpenSSF Model Signing specification v1.0.
    """
    single = bundle_signer([signer])
    public = getattr(single, "public_key", None)
    ordered = sorted(files, key=lambda file: file.name)
    if single is None or not isinstance(public, PublicKey) or not ordered:
        raise DeclarationError(
            f"an OpenSSF bundle is signed with p256, p384 or p521 over at least one file, not "
            f"with {signer.algorithm} over {len(ordered)}",
            code="DP-DECL-040",
            hint="make such a key: datapipe keys new --algorithm p256 --out FILE",
        )
    payload = _statement(name, ordered)
    signature = single.sign(pae(PAYLOAD_TYPE, payload))
    form = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": _hint(public)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        },
    }
    return json.dumps(form, separators=(",", ":")).encode() + b"\n"


def read_bundle(data: bytes) -> Bundle:
    """Read a bundle and check its form; the signature is checked by `Bundle.verify`.

    Args:
        data: The file's bytes, at most 96 MiB.

    Returns:
        The bundle.

    Raises:
        TrustError: The form is not the one that v1.0 allows; each deviation has its own code.

    Example:
        >>> from datapipe.manifest.signers import PrivateKey
        >>> bundle = write_bundle("d", [FileDigest("a", 0, "0" * 64)], PrivateKey.new("p384"))
        >>> read_bundle(bundle).files[0].name
        'a'
    """
    if data.count(b"{") > 2 * MOST_SIGNATURES:  # before memory is spent on them
        raise _refused("more parts than a bundle can have", Reason.TOO_LARGE)
    form = parse_json(data, largest_bytes=LARGEST_BUNDLE_BYTES)
    keys = {"mediaType", "verificationMaterial", "dsseEnvelope"}
    if not isinstance(form, dict) or set(form) != keys or form["mediaType"] != MEDIA_TYPE:
        raise _refused("not a Sigstore bundle v0.3", Reason.BAD_FORM)
    hint = _read_material(form["verificationMaterial"])
    envelope = Envelope.from_json(form["dsseEnvelope"])
    if len(envelope.signatures) != 1:
        reason = Reason.GARBAGE_SIGNATURE if envelope.signatures else Reason.UNSIGNED
        raise _refused(f"{len(envelope.signatures)} signatures, exactly one is allowed", reason)
    statement = envelope.statement()
    if statement.predicate_type == LEGACY_PREDICATE_TYPE:
        raise _refused(
            "the v0.1 predicate has no name and no order of files", Reason.LEGACY_PREDICATE
        )
    if statement.predicate_type != PREDICATE_TYPE:
        raise _refused(f"predicate type {statement.predicate_type!r}", Reason.WRONG_PREDICATE)
    if len(statement.subjects) != 1:
        raise _refused(f"{len(statement.subjects)} subjects, one is allowed", Reason.SUBJECT_COUNT)
    files, ignored = _read_predicate(statement)
    return Bundle(envelope, statement.subjects[0].name, files, ignored, hint)


def _statement(name: str, files: list[FileDigest]) -> bytes:
    """The payload, its long list written directly: folders may hold very many files."""
    everything = hashlib.sha256(bytes.fromhex("".join(file.digest for file in files)))
    form = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": everything.hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
            },
            "resources": [],
        },
    }
    listed = ",".join(
        f'{{"name":{_quoted(f.name)},"algorithm":"{f.algorithm}","digest":"{f.digest}"}}'
        for f in files
    )
    text = json.dumps(form, separators=(",", ":")).removesuffix("]}}")
    return f"{text}{listed}]}}}}".encode()


def _read_material(form: Any) -> str:
    if not isinstance(form, dict) or set(form) - {"publicKey", "tlogEntries"}:
        raise _refused("only bundles made with a key are verified here", Reason.BAD_FORM)
    if form.get("tlogEntries"):
        raise _refused("transparency log entries cannot be checked offline", Reason.BAD_FORM)
    public = form.get("publicKey", {})
    hint = public.get("hint", "") if isinstance(public, dict) else None
    if not isinstance(hint, str):
        raise _refused("publicKey.hint is not a text", Reason.BAD_FORM)
    return hint


def _read_predicate(statement: Statement) -> tuple[tuple[FileDigest, ...], tuple[str, ...]]:
    predicate = statement.predicate
    if set(predicate) != {"resources", "serialization"}:
        raise _refused(f"predicate fields {sorted(predicate)}", Reason.UNKNOWN_FIELD)
    algorithm, ignored = _read_serialization(predicate["serialization"])
    resources = predicate["resources"]
    if not isinstance(resources, list) or not resources:
        raise _refused("no file is signed", Reason.EMPTY_SET)
    files = tuple(_read_resource(item, algorithm) for item in resources)
    _refuse_order([file.name for file in files])
    everything = hashlib.sha256(b"".join(bytes.fromhex(file.digest) for file in files))
    if statement.subjects[0].digests.get("sha256") != everything.hexdigest():
        raise _refused("the subject's digest is not that of its files", Reason.ROOT_MISMATCH)
    return files, ignored


def _read_serialization(form: Any) -> tuple[str, tuple[str, ...]]:
    known = {"method", "hash_type", "allow_symlinks", "ignore_paths"}
    if not isinstance(form, dict) or form.get("method") != "files" or set(form) - known:
        raise _refused("only the serialization method `files` is verified", Reason.SERIALIZATION)
    ignored = form.get("ignore_paths", [])
    if not isinstance(ignored, list) or not all(isinstance(item, str) for item in ignored):
        raise _refused("ignore_paths is not a list of texts", Reason.BAD_FORM)
    if not isinstance(form.get("hash_type"), str):
        raise _refused("hash_type is not a text", Reason.BAD_FORM)
    return form["hash_type"], tuple(ignored)


def _read_resource(form: Any, algorithm: str) -> FileDigest:
    if not isinstance(form, dict) or set(form) - {"name", "algorithm", "digest", "annotations"}:
        raise _refused("a resource has name, algorithm and digest", Reason.BAD_FORM)
    name, used, digest = (form.get(key) for key in ("name", "algorithm", "digest"))
    if not isinstance(name, str) or not isinstance(digest, str):
        raise _refused("a resource without name or digest", Reason.BAD_FORM)
    problem = name_problem(name) if name != "." else None
    if problem:
        raise _refused(f"the file name {name!r}", problem)
    if used not in HASH_BYTES or used != algorithm:
        raise _refused(f"the hash {used!r} (declared {algorithm!r})", Reason.UNKNOWN_HASH)
    if len(digest) != 2 * HASH_BYTES[used] or set(digest) - set("0123456789abcdef"):
        raise _refused(f"the digest of {name!r} is not {used} in hex", Reason.BAD_FORM)
    return FileDigest(name, -1, digest, used)


def _refuse_order(names: list[str]) -> None:
    """Code points is what the specification says, path parts is what its reference tool writes."""
    if len(set(names)) != len(names):
        raise _refused("a file name stands twice", Reason.DUPLICATE_NAME)
    if names == sorted(names):
        return
    if names != sorted(names, key=lambda name: PurePosixPath(name).parts):
        raise _refused("the files are not sorted by name", Reason.UNSORTED)


def _hint(key: PublicKey) -> str:
    return hashlib.sha256(key.to_pem().encode()).hexdigest()


def _refused(what: str, reason: Reason) -> TrustError:
    return TrustError(
        f"OpenSSF bundle: {what}", code=reason.value, hint="sign it anew with a current tool"
    )
