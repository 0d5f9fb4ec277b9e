# SPDX-License-Identifier: Apache-2.0
"""A folder of keys with owners and dates: listed, rotated, revoked, never deleted.

`keys.json` holds public keys only and what is known about them; private keys are encrypted PEM
files beside it. A revoked key stays listed for ever, so that its signatures are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from datapipe.errors import DeclarationError, ExecutionError, nearest
from datapipe.manifest.canonical import canonical_json, parse_json
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import read_limited
from datapipe.manifest.facts import Moment
from datapipe.manifest.keys import HybridKey, PrivateKey, new_key
from datapipe.manifest.pkcs8 import ROUNDS
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.records import from_form, to_form

LISTING_FILE = "keys.json"
_LARGEST_LISTING_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RingKey:
    """One public key of a ring.

    Args:
        keyid: Its id.
        algorithm: Its algorithm.
        owner: Whose it is; thresholds count owners.
        public: The public key as PEM text.
        valid_from: From when it is believed.
        valid_until: Until when; absent for no end.
        revoked_at: When it was revoked; all its signatures are refused, older ones too.
        reason: Why it was revoked.
        file: The private key's file in the folder, when it is here; all parts of a hybrid key
            share one.

    Example:
        >>> RingKey("ab", "ed25519", "ada", "", "2026-01-01T00:00:00Z").revoked_at is None
        True
    """

    keyid: str
    algorithm: str
    owner: str
    public: str
    valid_from: Moment
    valid_until: Moment | None = None
    revoked_at: Moment | None = None
    reason: str | None = None
    file: str | None = None

    def problem(self, at: datetime) -> Reason | None:
        """Tell why the key is not believed at a time.

        A revoked key is refused at every time: whoever stole it can write any date.

        Args:
            at: The time, with its zone.

        Returns:
            The reason, or None when it is believed.

        Example:
            >>> key = RingKey("ab", "ed25519", "ada", "", "2026-01-01T00:00:00Z")
            >>> key.problem(datetime(2025, 1, 1, tzinfo=UTC)).slug
            'key_not_yet_valid'
        """
        return validity_problem(
            at,
            valid_from=datetime.fromisoformat(self.valid_from),
            valid_until=datetime.fromisoformat(self.valid_until) if self.valid_until else None,
            revoked=self.revoked_at is not None,
        )


def validity_problem(
    at: datetime, *, valid_from: datetime | None, valid_until: datetime | None, revoked: bool
) -> Reason | None:
    """The one rule by which rings and policies judge a key's dates.

    Args:
        at: The time of judgement, with its zone.
        valid_from: From when the key is believed; None for always.
        valid_until: Until when; None for no end.
        revoked: Whether it was revoked at any time.

    Returns:
        Why it is not believed, or None.

    Example:
        >>> at = datetime(2026, 1, 1, tzinfo=UTC)
        >>> validity_problem(at, valid_from=None, valid_until=None, revoked=True).slug
        'key_revoked'
    """
    if revoked:
        return Reason.KEY_REVOKED
    if valid_from is not None and at < valid_from:
        return Reason.KEY_NOT_YET_VALID
    if valid_until is not None and at > valid_until:
        return Reason.KEY_EXPIRED
    return None


def moment(at: datetime) -> str:
    """A time as statements write it.

    Args:
        at: The time, with its zone.

    Returns:
        UTC with a final Z, to the second.

    Example:
        >>> moment(datetime(2026, 1, 31, 12, tzinfo=UTC))
        '2026-01-31T12:00:00Z'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class KeyRing:
    """The keys of a folder.

    Args:
        folder: The folder; it need not exist yet.

    Example:
        >>> import tempfile
        >>> ring = KeyRing(tempfile.mkdtemp())
        >>> at = datetime(2026, 1, 1, tzinfo=UTC)
        >>> key = ring.new("ed25519", "ada", b"correct horse", at=at, rounds=1000)
        >>> ring.revoke(key.keyid, "laptop stolen", at=at)
        >>> ring.keys[0].reason
        'laptop stolen'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def keys(self) -> tuple[RingKey, ...]:
        """All keys, in the order they were added.

        Returns:
            The keys, revoked and expired ones too.

        Example:
            >>> KeyRing("no-such-folder").keys
            ()
        """
        path = self.folder / LISTING_FILE
        if not path.exists():
            return ()
        form = parse_json(read_limited(path, _LARGEST_LISTING_BYTES))
        return from_form(_Listing, form, LISTING_FILE).keys

    def believed(self, at: datetime) -> tuple[PublicKey, ...]:
        """The keys that are believed at a time.

        Args:
            at: The time, with its zone.

        Returns:
            Public keys that are within their dates and not revoked.

        Example:
            >>> KeyRing("no-such-folder").believed(datetime.now(UTC))
            ()
        """
        return tuple(PublicKey.from_pem(k.public) for k in self.keys if k.problem(at) is None)

    def new(
        self, algorithm: str, owner: str, passphrase: bytes, *, at: datetime, rounds: int = ROUNDS
    ) -> PrivateKey | HybridKey:
        """Make a key in this folder.

        Args:
            algorithm: A name of `ALGORITHMS`, or `hybrid`.
            owner: Whose it is.
            passphrase: What encrypts the private key.
            at: From when it is valid.
            rounds: Rounds of the passphrase's derivation.

        Returns:
            The key.

        Raises:
            ExecutionError: The folder cannot be written.

        Example:
            >>> import tempfile
            >>> ring = KeyRing(tempfile.mkdtemp())
            >>> _ = ring.new("hybrid", "ada", b"x", at=datetime.now(UTC), rounds=1000)
            >>> [key.algorithm for key in ring.keys]
            ['p256', 'ed25519', 'ml-dsa-65']
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ExecutionError(
                f"the key ring {self.folder} cannot be made: {error.strerror}",
                hint="choose a folder that you may write to",
            ) from error
        file = f"{owner}-{os.urandom(4).hex()}.pem"
        key = new_key(algorithm, self.folder / file, passphrase, rounds=rounds)
        self.add(key.public_keys, owner, at=at, file=file)
        return key

    def add(
        self, public: Iterable[PublicKey], owner: str, *, at: datetime, file: str | None = None
    ) -> None:
        """Add public keys, such as those of a colleague.

        Args:
            public: The keys.
            owner: Whose they are.
            at: From when they are valid.
            file: The private key's file in this folder, if it is here.

        Raises:
            DeclarationError: A key is in the ring already, or the owner is empty.

        Example:
            >>> import tempfile
            >>> ring = KeyRing(tempfile.mkdtemp())
            >>> ring.add([PrivateKey.new("p256").public_key], "bob", at=datetime.now(UTC))
            >>> ring.keys[0].owner
            'bob'
        """
        known = self.keys
        added = tuple(
            RingKey(key.keyid, key.algorithm, owner, key.to_pem(), moment(at), file=file)
            for key in public
        )
        if not owner or {key.keyid for key in known} & {key.keyid for key in added}:
            raise DeclarationError(
                f"the key ring {self.folder} cannot take this key: no owner, or listed already",
                code="DP-DECL-039",
                hint="name an owner; a revoked key is not added again, make a new one",
            )
        self._write((*known, *added))

    def rotate(
        self,
        keyid: str,
        passphrase: bytes,
        *,
        at: datetime,
        overlap: timedelta = timedelta(days=30),
        rounds: int = ROUNDS,
    ) -> PrivateKey | HybridKey:
        """Make a successor with the same owner and algorithm; the old key ends after an overlap.

        Within the overlap both are believed, which is the time to sign again what must stay
        trusted.

        Args:
            keyid: The old key, or the beginning of its id.
            passphrase: What encrypts the new private key.
            at: When.
            overlap: How long the old key stays valid, >= 0.
            rounds: Rounds of the passphrase's derivation.

        Returns:
            The new key.

        Example:
            >>> import tempfile
            >>> ring, at = KeyRing(tempfile.mkdtemp()), datetime(2026, 1, 1, tzinfo=UTC)
            >>> old = ring.new("ed25519", "ada", b"x", at=at, rounds=1000)
            >>> new = ring.rotate(old.keyid, b"x", at=at, rounds=1000)
            >>> ring.keys[0].valid_until
            '2026-01-31T00:00:00Z'
        """
        old = self._family(keyid)
        algorithm = "hybrid" if len(old) > 1 else old[0].algorithm
        fresh = self.new(algorithm, old[0].owner, passphrase, at=at, rounds=rounds)
        self._change(old, valid_until=moment(at + overlap))
        return fresh

    def revoke(self, keyid: str, reason: str, *, at: datetime) -> None:
        """Stop believing a key; the parts of a hybrid key go together.

        Args:
            keyid: The key, or the beginning of its id.
            reason: Why, for those who find its signatures.
            at: When.

        Example:
            >>> import tempfile
            >>> ring, at = KeyRing(tempfile.mkdtemp()), datetime(2026, 1, 1, tzinfo=UTC)
            >>> key = ring.new("hybrid", "ada", b"x", at=at, rounds=1000)
            >>> ring.revoke(key.keyid[:8], "lost", at=at)
            >>> [key.problem(at).slug for key in ring.keys]
            ['key_revoked', 'key_revoked', 'key_revoked']
        """
        self._change(self._family(keyid), revoked_at=moment(at), reason=reason)

    def export(self, keyid: str) -> str:
        """The public PEM of a key, all parts of a hybrid key.

        Args:
            keyid: The key, or the beginning of its id.

        Returns:
            PEM text to give away.

        Example:
            >>> import tempfile
            >>> ring = KeyRing(tempfile.mkdtemp())
            >>> key = ring.new("p256", "ada", b"x", at=datetime.now(UTC), rounds=1000)
            >>> ring.export(key.keyid) == key.public_keys[0].to_pem()
            True
        """
        return "".join(key.public for key in self._family(keyid))

    def _family(self, keyid: str) -> tuple[RingKey, ...]:
        """The keys that share the private key's file with the one of this id."""
        known = self.keys
        named = [key for key in known if keyid and key.keyid.startswith(keyid)]
        if len(named) != 1:
            raise DeclarationError(
                f"{len(named)} keys of {self.folder} have an id that begins with {keyid!r}",
                code="DP-DECL-039",
                hint=nearest(keyid, [key.keyid for key in known]),
            )
        one = named[0]
        return tuple(k for k in known if k == one or (one.file is not None and k.file == one.file))

    def _change(
        self,
        keys: tuple[RingKey, ...],
        *,
        valid_until: str | None = None,
        revoked_at: str | None = None,
        reason: str | None = None,
    ) -> None:
        changed = {key.keyid for key in keys}
        self._write(
            tuple(
                replace(
                    key,
                    valid_until=valid_until or key.valid_until,
                    revoked_at=key.revoked_at or revoked_at,
                    reason=key.reason or reason,
                )
                if key.keyid in changed
                else key
                for key in self.keys
            )
        )

    def _write(self, keys: tuple[RingKey, ...]) -> None:
        path = self.folder / LISTING_FILE
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_bytes(canonical_json(to_form(_Listing(1, keys))) + b"\n")
            draft.replace(path)
        except OSError as error:
            raise ExecutionError(
                f"the key ring {path} cannot be written: {error.strerror}",
                hint="choose a folder that you may write to",
            ) from error


@dataclass(frozen=True, slots=True)
class _Listing:
    version: int
    keys: tuple[RingKey, ...]
