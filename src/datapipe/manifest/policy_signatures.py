# SPDX-License-Identifier: Apache-2.0
"""Who signed a policy: an envelope beside its file, over the letters of the file."""

from __future__ import annotations

from pathlib import Path

from datapipe.errors import TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.public_keys import PublicKey, parties

POLICY_TYPE = "application/vnd.datapipe.policy+toml"
_SUFFIX = ".dsse.json"


def signature_file(path: str | Path) -> Path:
    """Where the signatures of a policy lie.

    Args:
        path: The TOML file.

    Returns:
        The envelope's file, beside it.

    Example:
        >>> signature_file("trust.toml").name
        'trust.toml.dsse.json'
    """
    return Path(f"{path}{_SUFFIX}")


def require_signers(
    path: str | Path,
    data: bytes,
    keys: tuple[PublicKey, ...],
    threshold: int,
    *,
    words: str = "as asked",
    allow_unknown: bool = False,
) -> None:
    """Stop unless enough different signers signed a policy; a hybrid key is one, with all parts.

    Args:
        path: The TOML file.
        data: Its bytes.
        keys: The keys that may sign.
        threshold: How many different holders of them must have signed.
        words: How it should have been signed, for the message.
        allow_unknown: Whether signatures by others are passed over.

    Raises:
        TrustError: It is not signed so, or another text was signed.

    Example:
        >>> require_signers("no-such.toml", b"", (), 1)
        Traceback (most recent call last):
        ...
        datapipe.errors.TrustError: the policy no-such.toml is not signed as asked: ...
    """
    try:
        envelope = Envelope.load(signature_file(path))
        signed = set(envelope.verify(keys, allow_unknown=allow_unknown))
    except TrustError as error:
        raise _unsigned(path, words, error.message) from error
    if envelope.payload != data or envelope.payload_type != POLICY_TYPE:
        raise _unsigned(path, words, "another text was signed")
    count = sum(signed >= set(party) for party in parties(keys))
    if count < max(threshold, 1):
        raise _unsigned(path, words, f"by {count} signers, {max(threshold, 1)} are needed")


def _unsigned(path: str | Path, words: str, why: str) -> TrustError:
    return TrustError(
        f"the policy {path} is not signed {words}: {why}",
        code=Reason.POLICY_UNSIGNED.value,
        hint="ask those who decide whom to trust for a policy that they signed",
        path=str(path),
    )
