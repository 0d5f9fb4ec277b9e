# SPDX-License-Identifier: Apache-2.0
"""Policies that change hands: the newest seen is remembered, an older one is refused.

As in The Update Framework a new version is signed twice over: by enough of those whom the version
before names, so that nobody else can replace it, and by enough of those whom it names itself, so
that they hold the keys they claim. What was accepted is kept in a small file of the verifier.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from datapipe.core.parameters import Count
from datapipe.errors import ExecutionError, TrustError
from datapipe.manifest.canonical import canonical_json, parse_json
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import read_limited
from datapipe.manifest.facts import Sha256
from datapipe.manifest.policy import LARGEST_POLICY_BYTES, Policy
from datapipe.manifest.policy_signatures import require_signers
from datapipe.manifest.public_keys import PublicKey, read_public_keys
from datapipe.manifest.records import from_form, to_form

SEEN_FILE = "policies-seen.json"


@dataclass(frozen=True, slots=True)
class SeenPolicy:
    """The newest version of a policy that was accepted.

    Args:
        version: Its version.
        digest: The sha256 of its bytes.
        signers: PEM of those who may sign the next version; empty when it named none.
        threshold: How many of them must.

    Example:
        >>> SeenPolicy(3, "0" * 64).version
        3
    """

    version: Count
    digest: Sha256
    signers: str = ""
    threshold: Count = 1


@dataclass(frozen=True, slots=True)
class _Seen:
    version: int
    policies: Mapping[str, SeenPolicy] = field(default_factory=dict, hash=False)


def load_policy(
    path: str | Path,
    *,
    memory: str | Path,
    at: datetime,
    signed_by: Iterable[PublicKey] = (),
    threshold: int = 1,
) -> Policy:
    r"""Read a policy file, unless a newer version or another chain of signers was seen before.

    Args:
        path: The TOML file; its signatures are in `<name>.dsse.json` beside it.
        memory: The verifier's file of what was accepted; made on first use.
        at: The time of judgement, with its zone.
        signed_by: Keys that may sign the first version that is met.
        threshold: How many different signers of `signed_by` must have signed that one.

    Returns:
        The policy; it is remembered.

    Raises:
        TrustError: It is older than one seen, another one of the same version, past its own end,
            or not signed as it or the version before asks.
        ExecutionError: What was accepted cannot be remembered.

    Example:
        >>> import tempfile
        >>> from datetime import UTC
        >>> folder, at = Path(tempfile.mkdtemp()), datetime(2026, 1, 1, tzinfo=UTC)
        >>> _ = (folder / "p.toml").write_text('name = "strict"\nversion = 2')
        >>> load_policy(folder / "p.toml", memory=folder / "seen.json", at=at).version
        2

    References:
        Samuel, Mathewson, Cappos & Dingledine, 2010, Survivable key compromise in software update
        systems.
    """
    data = read_limited(path, LARGEST_POLICY_BYTES)
    policy = Policy.of_bytes(path, data)
    digest = hashlib.sha256(data).hexdigest()
    seen = _read(Path(memory))
    known = seen.policies.get(policy.name)
    if known is not None:
        _refuse_rollback(path, policy, digest, known)
    if policy.valid_until is not None and at > policy.valid_until:
        what = f"the policy {path} ended at {policy.valid_until.isoformat()}"
        raise _refused(path, what, Reason.POLICY_EXPIRED, "ask for the current policy")
    vouching = [(tuple(signed_by), threshold, "as asked")] if known is None else []
    if known is not None and known.version < policy.version and known.signers:
        words = f"by those whom version {known.version} names"
        vouching.append((read_public_keys(known.signers), known.threshold, words))
    vouching.append((policy.signers, policy.threshold, "by those whom it names itself"))
    for keys, count, words in vouching:
        if keys:
            require_signers(path, data, keys, count, words=words, allow_unknown=True)
    if known is None or known.version < policy.version:
        pem = "".join(key.to_pem() for key in policy.signers)
        accepted = SeenPolicy(policy.version, digest, pem, policy.threshold)
        _write(Path(memory), replace(seen, policies={**seen.policies, policy.name: accepted}))
    return policy


def _refuse_rollback(path: str | Path, policy: Policy, digest: str, known: SeenPolicy) -> None:
    if policy.version < known.version:
        what = f"the policy {path} has version {policy.version}, {known.version} was seen before"
        hint = "use the current policy; an old one may trust keys that were revoked"
        raise _refused(path, what, Reason.POLICY_ROLLBACK, hint)
    if policy.version == known.version and digest != known.digest:
        what = f"the policy {path} is not the version {policy.version} that was seen before"
        hint = "every change of a policy needs a higher version"
        raise _refused(path, what, Reason.POLICY_FORKED, hint)


def _read(memory: Path) -> _Seen:
    """What was accepted; a file in another form is refused, for it may be the attack."""
    if not memory.exists():
        return _Seen(1)
    return from_form(_Seen, parse_json(read_limited(memory, LARGEST_POLICY_BYTES)), memory.name)


def _write(memory: Path, seen: _Seen) -> None:
    draft = memory.with_name(f".{memory.name}.{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.write_bytes(canonical_json(to_form(seen)) + b"\n")
        draft.replace(memory)
    except OSError as error:
        raise ExecutionError(
            f"the policy's version cannot be remembered in {memory}: {error.strerror}",
            code="DP-EXEC-091",
            hint="name a key ring that you may write to (--ring, DATAPIPE_KEYS)",
        ) from error


def _refused(path: str | Path, what: str, reason: Reason, hint: str) -> TrustError:
    return TrustError(what, code=reason.value, hint=hint, path=str(path))
