# SPDX-License-Identifier: Apache-2.0
"""Signed checkpoints of a Merkle log, as text that lives outside the log.

A log that is rewritten whole is consistent with itself; only a checkpoint that its writer cannot
change any more shows it. The text is the C2SP checkpoint form, which witnesses already read:

    datapipe/reviews
    1042
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — datapipe/reviews Az3grlgtzPICa5OS8npVmf1Myq/5…
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import read_limited
from datapipe.manifest.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.signers import AnySigner, Signer, single_signers

LARGEST_CHECKPOINT_BYTES = 64 * 1024
_ORIGIN = re.compile(r"[^\s+]+")

__all__ = [
    "EMPTY_ROOT",
    "Checkpoint",
    "Frontier",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "root",
    "verify_consistency",
    "verify_inclusion",
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log at one moment: whose log, how long, which root.

    Args:
        origin: The name of the log, without spaces or `+`, such as `datapipe/reviews`.
        size: How many entries it has.
        root: Its root hash, 32 bytes.
        signatures: Signature lines: name of the key and key hash with signature.

    Raises:
        DeclarationError: The origin, the size or the root cannot be written as a checkpoint.

    Example:
        >>> from datapipe.manifest.keys import PrivateKey
        >>> key = PrivateKey.new("ed25519")
        >>> text = Checkpoint("logs/a", 0, EMPTY_ROOT).sign(key).to_text()
        >>> Checkpoint.parse(text).verify([key.public_key]).size
        0

    References:
        C2SP project, 2024, tlog-checkpoint and signed-note.
    """

    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes], ...] = ()

    def __post_init__(self) -> None:
        if not _ORIGIN.fullmatch(self.origin) or self.size < 0 or len(self.root) != 32:
            raise DeclarationError(
                f"Checkpoint({self.origin!r}, {self.size}, {len(self.root)} bytes): the origin "
                "has no spaces or '+', the size is >= 0 and the root has 32 bytes",
                code="DP-DECL-036",
                hint="name the log in one word, such as datapipe/reviews",
            )

    @classmethod
    def of(cls, origin: str, frontier: Frontier) -> Checkpoint:
        """The checkpoint of a log as it stands, not yet signed.

        Args:
            origin: The name of the log.
            frontier: The log.

        Returns:
            The checkpoint.

        Example:
            >>> Checkpoint.of("logs/a", Frontier()).size
            0
        """
        return cls(origin, frontier.size, frontier.root)

    def note(self) -> str:
        """The text that is signed.

        Returns:
            Three lines: origin, size, base64 of the root.

        Example:
            >>> Checkpoint("logs/a", 7, EMPTY_ROOT).note().splitlines()[:2]
            ['logs/a', '7']
        """
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, signer: AnySigner, *, name: str = "") -> Checkpoint:
        """Sign it with an Ed25519 key.

        Args:
            signer: An Ed25519 key, or a hybrid key whose Ed25519 part is used.
            name: The name of the key in the signature line; the origin when empty.

        Returns:
            The checkpoint with one more signature.

        Raises:
            DeclarationError: The key is not Ed25519, or its name has spaces or `+`.

        Example:
            >>> from datapipe.manifest.keys import HybridKey
            >>> len(Checkpoint("logs/a", 0, EMPTY_ROOT).sign(HybridKey.new()).signatures)
            1
        """
        single = [part for part in single_signers([signer]) if part.algorithm == "ed25519"]
        name = name or self.origin
        if not single or not _ORIGIN.fullmatch(name):
            raise DeclarationError(
                f"a checkpoint is signed with Ed25519, not {signer.algorithm}, by a key named in "
                f"one word, not {name!r}",
                code="DP-DECL-036",
                hint="use an ed25519 or hybrid key: the form allows no other",
            )
        line = (name, self._signed(single[0], name))
        return Checkpoint(self.origin, self.size, self.root, (*self.signatures, line))

    def verify(self, keys: Iterable[PublicKey]) -> Checkpoint:
        """Check that one of some keys signed it and that no signature of theirs is false.

        Args:
            keys: The keys that are believed; those that are not Ed25519 are passed over.

        Returns:
            This checkpoint.

        Raises:
            TrustError: A signature of a known key does not hold, or none is by a known key.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> key = PrivateKey.new("ed25519")
            >>> Checkpoint("logs/a", 0, EMPTY_ROOT).sign(key).verify([key.public_key]).origin
            'logs/a'
        """
        believed = [key for key in keys if key.algorithm == "ed25519"]
        note, held = self.note().encode(), 0
        for name, blob in self.signatures:
            for key in believed:
                if blob[:4] == _key_hash(name, key):
                    key.verify(blob[4:], note)
                    held += 1
        if not held:
            raise _refused("not signed by any of the given keys", Reason.WRONG_KEY)
        return self

    def to_text(self) -> str:
        r"""The checkpoint as a signed note.

        Returns:
            The note, an empty line and one line for each signature.

        Example:
            >>> Checkpoint("logs/a", 0, EMPTY_ROOT).to_text().count("\n")
            4
        """
        lines = [
            f"\u2014 {name} {base64.b64encode(blob).decode()}\n" for name, blob in self.signatures
        ]
        return f"{self.note()}\n{''.join(lines)}"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a signed note; nothing is verified yet.

        Args:
            text: The note with its signature lines, at most 64 KiB.

        Returns:
            The checkpoint.

        Raises:
            TrustError: The text is not a checkpoint in the one form that is allowed.

        Example:
            >>> Checkpoint.parse(Checkpoint("logs/a", 3, EMPTY_ROOT).to_text()).size
            3
        """
        head, gap, tail = text.partition("\n\n")
        lines = head.split("\n")
        if len(text) > LARGEST_CHECKPOINT_BYTES or not gap or len(lines) != 3:
            raise _refused("a checkpoint has three lines, an empty one, and signatures")
        origin, size, encoded = lines
        if not re.fullmatch(r"0|[1-9][0-9]{0,17}", size) or not _ORIGIN.fullmatch(origin):
            raise _refused("a checkpoint begins with its origin and a plain decimal size")
        tree = _strict_base64(encoded)
        if len(tree) != 32:
            raise _refused(f"a root of {len(tree)} bytes, 32 expected")
        if tail and not tail.endswith("\n"):
            raise _refused("the last signature line is cut off")
        signatures = tuple(_signature_line(line) for line in tail.split("\n")[:-1])
        return cls(origin, int(size), tree, signatures)

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint file; nothing is verified yet.

        Args:
            path: The file.

        Returns:
            The checkpoint.

        Raises:
            TrustError: The file is not UTF-8.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "checkpoint"
            >>> _ = path.write_text(Checkpoint("logs/a", 3, EMPTY_ROOT).to_text(), encoding="utf-8")
            >>> Checkpoint.load(path).size
            3
        """
        try:
            return cls.parse(read_limited(path, LARGEST_CHECKPOINT_BYTES).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise _refused(f"{path} is not UTF-8") from error

    def _signed(self, signer: Signer, name: str) -> bytes:
        public = getattr(signer, "public_key", None)
        if not isinstance(public, PublicKey):
            raise DeclarationError(
                "a checkpoint needs a signer that shows its public key",
                code="DP-DECL-036",
                hint="give the signer a `public_key` attribute of type PublicKey",
            )
        return _key_hash(name, public) + signer.sign(self.note().encode())


def _key_hash(name: str, key: PublicKey) -> bytes:
    """The four bytes by which a signed note names its key: 1 stands for Ed25519."""
    public = key.raw.public_bytes_raw() if hasattr(key.raw, "public_bytes_raw") else b""
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def _signature_line(line: str) -> tuple[str, bytes]:
    found = re.fullmatch(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
    if not found:
        raise _refused("a signature line is a dash, a name and base64")
    blob = _strict_base64(found[2])
    if len(blob) < 5:
        raise _refused("a signature is shorter than its key hash")
    return found[1], blob


def _strict_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("not base64") from error
    if base64.b64encode(data).decode() != text:
        raise _refused("base64 with stray bits at its end")
    return data


def _refused(what: str, reason: Reason = Reason.LOG_CHECKPOINT) -> TrustError:
    return TrustError(
        f"checkpoint: {what}", code=reason.value, hint="compare with a copy kept elsewhere"
    )
