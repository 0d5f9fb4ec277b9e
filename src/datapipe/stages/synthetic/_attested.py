# SPDX-License-Identifier: Apache-2.0
"""What signed statements about upstream data declare; those that no trusted key signed: nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datapipe.core.source import Source
from datapipe.errors import DatapipeError
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.keys import PublicKey, load_public_keys
from datapipe.manifest.manifest import Manifest


def attested(
    sources: Sequence[Source], statements: Sequence[str], trusted: Sequence[str]
) -> tuple[tuple[Source, ...], list[str]]:
    """The sources with what trusted statements about their files declare.

    Args:
        sources: The sources of the rows.
        statements: Paths of envelopes.
        trusted: Paths of public keys.

    Returns:
        The sources, and why each statement that was not believed was not.
    """
    keys = tuple(k for path in trusted for k in load_public_keys(path))
    told, refused = tuple(sources), []
    for path in statements:
        try:
            share, digests = _read(path, keys)
        except DatapipeError as error:
            refused.append(f"{error.code}: {error.message}"[:200])
            continue
        if share in (0.0, 1.0):  # a mixture says nothing about a single row
            told = tuple(_declared(s, digests, synthetic=share == 1.0) for s in told)
    return told, refused


def _read(path: str, keys: tuple[PublicKey, ...]) -> tuple[float | None, set[str]]:
    """The declared share and the content digests that a verified statement is about."""
    envelope = Envelope.load(path)
    envelope.verify(keys, allow_unknown=True)
    manifest = Manifest.open(envelope)
    share = getattr(manifest.predicate, "declared_synthetic_share", None)
    digests = {s.digests["sha256"] for s in manifest.statement.subjects if "sha256" in s.digests}
    return share, digests


def _declared(source: Source, digests: set[str], *, synthetic: bool) -> Source:
    named = source.digest.removeprefix("sha256:") in digests
    return replace(source, synthetic=synthetic) if named and source.digest else source
