# SPDX-License-Identifier: Apache-2.0
"""`Manifest`: the noun that users meet, a typed statement and the signatures on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datapipe.errors import TrustError
from datapipe.manifest.attestation import attest
from datapipe.manifest.checks import Reason, Report
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.files import hash_tree
from datapipe.manifest.listing import whole_path
from datapipe.manifest.policy import Policy
from datapipe.manifest.predicates import AnyPredicate, DatasetPredicate, read_predicate
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.signers import AnySigner
from datapipe.manifest.statement import Statement, Subject
from datapipe.manifest.verify import verify_envelope


@dataclass(frozen=True, slots=True)
class Manifest:
    """A statement about a data set, step, run, evaluation, model or erasure.

    Args:
        statement: What is said, about what.
        envelope: The statement with its signatures; None before it is signed.

    Example:
        >>> from datapipe.manifest.keys import PrivateKey
        >>> said = DatasetPredicate("reviews")
        >>> key = PrivateKey.new("ed25519")
        >>> manifest = Manifest.about(said, Subject("a.csv", {"sha256": "0" * 64}))
        >>> Manifest.open(manifest.sign(key)).verify(key.public_key).passed
        True
    """

    statement: Statement
    envelope: Envelope | None = None

    @classmethod
    def about(cls, predicate: AnyPredicate, *subjects: Subject) -> Manifest:
        """Say something about subjects.

        Args:
            predicate: What is said.
            *subjects: What it is about, at least one.

        Returns:
            The manifest, not signed.

        Example:
            >>> one = Subject("a", {"sha256": "0" * 64})
            >>> Manifest.about(DatasetPredicate("reviews"), one).predicate.name
            'reviews'
        """
        return cls(predicate.about(*subjects))

    @classmethod
    def of_path(cls, path: str | Path, predicate: DatasetPredicate | None = None) -> Manifest:
        """Say what lies in a folder or file, every name, size and content of it.

        Args:
            path: The folder or file.
            predicate: What else is known about it.

        Returns:
            The manifest, not signed.

        Example:
            >>> import tempfile
            >>> folder = Path(tempfile.mkdtemp())
            >>> _ = (folder / "a.txt").write_text("hi")
            >>> Manifest.of_path(folder).predicate.files
            1
        """
        return cls(attest(whole_path(path).name, hash_tree(path), predicate))

    @classmethod
    def open(cls, envelope: Envelope | str | Path) -> Manifest:
        """Read a signed manifest; it is not verified yet.

        Args:
            envelope: The envelope, or the file that holds it.

        Returns:
            The manifest.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> one = Subject("a", {"sha256": "0" * 64})
            >>> manifest = Manifest.about(DatasetPredicate("reviews"), one)
            >>> Manifest.open(manifest.sign(PrivateKey.new("p256"))).statement == manifest.statement
            True
        """
        read = envelope if isinstance(envelope, Envelope) else Envelope.load(envelope)
        return cls(read.statement(), read)

    @property
    def predicate(self) -> AnyPredicate:
        """What is said, typed.

        Returns:
            One of the six predicates.

        Example:
            >>> one = Subject("a", {"sha256": "0" * 64})
            >>> Manifest.about(DatasetPredicate("reviews"), one).predicate.uri[-10:]
            'dataset/v1'
        """
        return read_predicate(self.statement)

    @property
    def digest(self) -> str:
        """The name by which other statements refer to this one.

        Returns:
            64 hex digits, independent of who signed.

        Example:
            >>> one = Subject("a", {"sha256": "0" * 64})
            >>> len(Manifest.about(DatasetPredicate("reviews"), one).digest)
            64
        """
        return self.statement.digest

    def sign(self, *signers: AnySigner) -> Envelope:
        """Sign it, after those who signed before.

        Args:
            *signers: Keys, hardware signers or hybrid keys, at least one.

        Returns:
            The envelope with all signatures.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> one = Subject("a", {"sha256": "0" * 64})
            >>> manifest = Manifest.about(DatasetPredicate("reviews"), one)
            >>> first = manifest.sign(PrivateKey.new("ed25519"))
            >>> len(Manifest.open(first).sign(PrivateKey.new("p256")).signatures)
            2
        """
        if self.envelope is None:
            return Envelope.sign(self.statement.to_bytes(), *signers)
        envelope = self.envelope
        for signer in signers:
            envelope = envelope.add(signer)
        return envelope

    def verify(self, trust: Policy | PublicKey, *more: PublicKey) -> Report:
        """Check who signed it.

        Args:
            trust: A policy, or a key that is believed.
            *more: More keys that are believed.

        Returns:
            Every check, passed or not; call `require` on it to stop when one was refused.

        Raises:
            TrustError: It was not signed.

        Example:
            >>> from datapipe.manifest.keys import PrivateKey
            >>> one, key = Subject("a", {"sha256": "0" * 64}), PrivateKey.new("p384")
            >>> signed = Manifest.open(Manifest.about(DatasetPredicate("d"), one).sign(key))
            >>> signed.verify(PrivateKey.new("p384").public_key).failed[0].code.slug
            'wrong_key'
        """
        if self.envelope is None:
            raise TrustError(
                f"the statement about {self.statement.subjects[0].name!r} is not signed",
                code=Reason.UNSIGNED.value,
                hint="sign it and open the envelope that `sign` returns",
            )
        if isinstance(trust, Policy):
            return verify_envelope(self.envelope, keys=more, policy=trust)
        return verify_envelope(self.envelope, keys=(trust, *more))
