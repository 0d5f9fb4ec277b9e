# SPDX-License-Identifier: Apache-2.0
"""DSSE envelopes: one payload, any number of signatures over its type and bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.canonical import canonical_json, parse_json
from datapipe.manifest.checks import Reason
from datapipe.manifest.plain import reading
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.signers import AnySigner, Signer, single_signers
from datapipe.manifest.statement import PAYLOAD_TYPE, Statement

LARGEST_ENVELOPE_BYTES = 96 * 1024 * 1024
MOST_SIGNATURES = 64


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed, so that a type cannot be swapped.

    Args:
        payload_type: The media type of the payload.
        payload: The payload's bytes.

    Returns:
        Version, lengths and contents in one unambiguous sequence of bytes.

    Example:
        >>> pae("text/plain", b"hi")
        b'DSSEv1 10 text/plain 2 hi'

    References:
        Secure Systems Lab, 2021, DSSE: Dead Simple Signing Envelope v1.0.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope.

    Args:
        keyid: Which key is said to have made it; empty when the signer did not say.
        sig: The signature's bytes.

    Example:
        >>> Signature("ab", b"xy").to_json()
        {'keyid': 'ab', 'sig': 'eHk='}
    """

    keyid: str
    sig: bytes

    def to_json(self) -> dict[str, str]:
        """The DSSE form.

        Returns:
            A dictionary with the keys keyid (left out when empty) and sig.

        Example:
            >>> Signature("", b"xy").to_json()
            {'sig': 'eHk='}
        """
        form = {"keyid": self.keyid} if self.keyid else {}
        return {**form, "sig": base64.b64encode(self.sig).decode()}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with the signatures of those who vouch for it.

    Args:
        payload: The signed bytes, for an in-toto statement its canonical JSON.
        payload_type: The media type of the payload.
        signatures: The signatures, in the order they were made.

    Example:
        >>> from datapipe.manifest.keys import PrivateKey
        >>> ada, bob = PrivateKey.new("ed25519"), PrivateKey.new("p256")
        >>> envelope = Envelope.sign(b"{}", ada, bob)
        >>> accepted = envelope.verify([ada.public_key, bob.public_key], threshold=2)
        >>> [key.algorithm for key in accepted]
        ['ed25519', 'p256']
    """

    payload: bytes
    payload_type: str = PAYLOAD_TYPE
    signatures: tuple[Signature, ...] = ()

    @classmethod
    def sign(
        cls, payload: bytes, *signers: AnySigner, payload_type: str = PAYLOAD_TYPE
    ) -> Envelope:
        """Sign a payload with one or more keys.

        Args:
            payload: The bytes to sign.
            *signers: Private keys, hardware signers or hybrid keys; a hybrid key makes
                three signatures.
            payload_type: The media type of the payload.

        Returns:
            The envelope.

        Raises:
            DeclarationError: No signer was given, or one twice.

        Example:
            >>> from datapipe.manifest.keys import HybridKey
            >>> len(Envelope.sign(b"{}", HybridKey.new()).signatures)
            3
        """
        if not signers:
            raise DeclarationError(
                "an envelope needs at least one signer",
                code="DP-DECL-033",
                hint="make a key with `datapipe keys new` and sign with it",
            )
        envelope = cls(payload, payload_type)
        for signer in signers:
            envelope = envelope.add(signer)
        return envelope

    def add(self, signer: AnySigner) -> Envelope:
        """Let another party sign the same payload.

        Args:
            signer: The key, hardware signer or hybrid key.

        Returns:
            An envelope with the new signature after the old ones.

        Raises:
            DeclarationError: This key has signed already.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> envelope = Envelope.sign(b"{}", PrivateKey.new("ed25519"))
            >>> len(envelope.add(PrivateKey.new("p384")).signatures)
            2
        """
        made: list[Signature] = []
        message = pae(self.payload_type, self.payload)
        for single in single_signers([signer]):
            if any(signature.keyid == single.keyid for signature in self.signatures):
                raise DeclarationError(
                    f"the key {single.keyid[:12]} has signed this envelope already",
                    code="DP-DECL-033",
                    hint="sign once with each key; a threshold counts keys, not signatures",
                )
            made.append(_signature(single, message))
        return replace(self, signatures=(*self.signatures, *made))

    def verify(
        self, keys: Iterable[PublicKey], *, threshold: int = 1, allow_unknown: bool = False
    ) -> tuple[PublicKey, ...]:
        """Check every signature, and that enough of the given keys signed.

        Stricter than the DSSE protocol: one signature that does not hold refuses the envelope
        even when others hold, because nobody can say who would have read the rest.

        Args:
            keys: The keys that are believed.
            threshold: How many different keys of `keys` must have signed, at least 1.
            allow_unknown: Pass over signatures by keys that are not in `keys`.

        Returns:
            The keys that signed, in the order of the signatures.

        Raises:
            TrustError: There is no signature, one does not hold, one is by an unknown key, a key
                signed twice, or fewer than `threshold` keys signed; each with its own code.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> key = PrivateKey.new("ed25519")
            >>> Envelope.sign(b"{}", key).verify([key.public_key])[0] == key.public_key
            True
        """
        known = {key.keyid: key for key in keys}
        accepted = self._accepted(known, allow_unknown=allow_unknown)
        if len(accepted) < max(threshold, 1):
            raise _refused(
                f"signed by {len(accepted)} of the given keys, {max(threshold, 1)} needed",
                Reason.THRESHOLD if accepted else Reason.WRONG_KEY,
            )
        return tuple(accepted.values())

    def statement(self) -> Statement:
        """The in-toto statement in it. Verify before believing it.

        Returns:
            The statement.

        Raises:
            TrustError: The payload is of another type, or not a statement.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> from datapipe.manifest.statement import Subject
            >>> said = Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {})
            >>> Envelope.sign(said.to_bytes(), PrivateKey.new("ed25519")).statement() == said
            True
        """
        if self.payload_type != PAYLOAD_TYPE:
            raise _refused(f"the payload is of type {self.payload_type!r}", Reason.BAD_FORM)
        return Statement.from_bytes(self.payload)

    def to_json(self) -> dict[str, Any]:
        """The DSSE form.

        Returns:
            A dictionary with the keys payload, payloadType and signatures.

        Example:
            >>> Envelope(b"{}").to_json()["payload"]
            'e30='
        """
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [signature.to_json() for signature in self.signatures],
        }

    def to_bytes(self) -> bytes:
        """The envelope as it is written to a file: canonical JSON and a newline.

        Returns:
            UTF-8 bytes.

        Example:
            >>> Envelope.from_bytes(Envelope(b"{}").to_bytes()).payload
            b'{}'
        """
        return canonical_json(self.to_json()) + b"\n"

    @classmethod
    def from_json(cls, form: Any) -> Envelope:
        """Read the DSSE form; nothing is verified yet.

        Args:
            form: A parsed JSON object.

        Returns:
            The envelope.

        Raises:
            TrustError: The form is not a DSSE envelope with strict base64, or it holds more than
                64 signatures.

        Example:
            >>> Envelope.from_json(Envelope(b"{}").to_json()).payload
            b'{}'
        """
        if not isinstance(form, dict) or set(form) != {"payload", "payloadType", "signatures"}:
            raise _refused("an envelope has payload, payloadType and signatures", Reason.BAD_FORM)
        kind, signatures = form["payloadType"], form["signatures"]
        if not isinstance(kind, str) or not isinstance(signatures, list):
            raise _refused("payloadType is a text and signatures a list", Reason.BAD_FORM)
        if len(signatures) > MOST_SIGNATURES:
            raise _refused(f"more than {MOST_SIGNATURES} signatures", Reason.TOO_LARGE)
        return cls(_base64(form["payload"]), kind, tuple(map(_read_signature, signatures)))

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """Read an envelope file; nothing is verified yet.

        Args:
            data: UTF-8 JSON of at most 96 MiB.

        Returns:
            The envelope.

        Raises:
            TrustError: It is no strict JSON, or has more parts than an envelope can have.

        Example:
            >>> Envelope.from_bytes(b'{"payload":"","payloadType":"a/b","signatures":[]}').payload
            b''
        """
        if data.count(b"{") > 2 * MOST_SIGNATURES:  # before memory is spent on them
            raise _refused(f"more than {MOST_SIGNATURES} signatures", Reason.TOO_LARGE)
        return cls.from_json(parse_json(data, largest_bytes=LARGEST_ENVELOPE_BYTES))

    @classmethod
    def load(cls, path: str | Path) -> Envelope:
        """Read an envelope file; nothing is verified yet.

        Args:
            path: The file.

        Returns:
            The envelope.

        Raises:
            TrustError: The file cannot be read or is larger than 96 MiB.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "a.dsse.json"
            >>> _ = path.write_bytes(Envelope(b"{}").to_bytes())
            >>> Envelope.load(path).payload
            b'{}'
        """
        return cls.from_bytes(read_limited(path, LARGEST_ENVELOPE_BYTES))

    def _accepted(
        self, known: dict[str, PublicKey], *, allow_unknown: bool
    ) -> dict[str, PublicKey]:
        if not self.signatures:
            raise _refused("the envelope has no signature", Reason.UNSIGNED)
        if not known:
            raise _refused("no key was given to verify with", Reason.NO_KEYS)
        message = pae(self.payload_type, self.payload)
        accepted: dict[str, PublicKey] = {}
        unknown: list[str] = []
        broken: list[str] = []
        for number, signature in enumerate(self.signatures, 1):
            candidates = _candidates(signature, known)
            key = _first_fitting(candidates, signature.sig, message)
            if key is None:
                (broken if candidates and signature.keyid else unknown).append(f"number {number}")
            elif key.keyid in accepted:
                raise _refused(f"the key {key.keyid[:12]} signed twice", Reason.DUPLICATE_SIGNATURE)
            else:
                accepted[key.keyid] = key
        if broken:
            raise _refused(
                f"signature {', '.join(broken)} does not hold for the content and its key",
                Reason.GARBAGE_SIGNATURE if accepted else Reason.BAD_SIGNATURE,
            )
        if unknown and not accepted:
            raise _refused("not signed by any of the given keys", Reason.WRONG_KEY)
        if unknown and not allow_unknown:
            raise _refused(
                f"signature {', '.join(unknown)} is by none of the given keys",
                Reason.UNKNOWN_SIGNER,
            )
        return accepted


def read_limited(path: str | Path, largest_bytes: int) -> bytes:
    """Read a small file that came from outside, without being made to read a large one.

    Args:
        path: The file.
        largest_bytes: The most bytes it may have.

    Returns:
        Its bytes.

    Raises:
        TrustError: It cannot be read, is no file, or is larger.

    Example:
        >>> read_limited(__file__, 10_000_000)[:6]
        b'# SPDX'
    """
    try:
        with reading(path) as file:
            data = file.read(largest_bytes + 1)
    except OSError as error:
        raise TrustError(
            f"{path} cannot be read: {error.strerror}",
            code=Reason.MISSING.value,
            hint="check the path and its permissions",
            path=str(path),
        ) from error
    if len(data) > largest_bytes:
        raise TrustError(
            f"{path} has more than {largest_bytes} bytes",
            code=Reason.TOO_LARGE.value,
            hint="a signature file of this size is not read; ask its author",
            path=str(path),
        )
    return data


def _signature(signer: Signer, message: bytes) -> Signature:
    return Signature(signer.keyid, signer.sign(message))


def _candidates(signature: Signature, known: dict[str, PublicKey]) -> Sequence[PublicKey]:
    """The keys to try: the one it names, or all when it names none (DSSE makes keyid optional)."""
    if not signature.keyid:
        return tuple(known.values())
    return (known[signature.keyid],) if signature.keyid in known else ()


def _first_fitting(keys: Sequence[PublicKey], sig: bytes, message: bytes) -> PublicKey | None:
    for key in keys:
        try:
            key.verify(sig, message)
        except TrustError:
            continue
        return key
    return None


def _read_signature(form: Any) -> Signature:
    if not isinstance(form, dict) or set(form) - {"keyid", "sig"}:
        raise _refused("a signature has only keyid and sig", Reason.BAD_FORM)
    keyid = form.get("keyid", "")
    if not isinstance(keyid, str) or not form.get("sig"):
        raise _refused("a signature has a text keyid and a sig", Reason.BAD_FORM)
    return Signature(keyid, _base64(form["sig"]))


def _base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise _refused("base64 must be a text", Reason.BAD_FORM)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("not strict base64", Reason.BAD_FORM) from error
    if base64.b64encode(data).decode() != text:
        raise _refused("base64 with stray bits at its end", Reason.BAD_FORM)
    return data


def _refused(what: str, reason: Reason) -> TrustError:
    return TrustError(what, code=reason.value, hint="do not use what it signs; ask its signer")
