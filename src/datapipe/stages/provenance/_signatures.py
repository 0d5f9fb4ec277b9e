# SPDX-License-Identifier: Apache-2.0
"""Which signatures are about the files of a source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datapipe.core.digest import digest_file, digest_json
from datapipe.core.source import Source
from datapipe.errors import TrustError
from datapipe.manifest.bundle import ATTESTATION_SUFFIX, OPENSSF_SUFFIX, signature_paths
from datapipe.manifest.envelope import Envelope, read_limited
from datapipe.manifest.openssf import LARGEST_BUNDLE_BYTES, read_bundle
from datapipe.manifest.public_keys import PublicKey


def signed_paths(source: Source, files: Sequence[Path]) -> dict[Path, Path]:
    """Each file that some signature is about, to the signed file or folder."""
    if source.manifest:
        target = _target(Path(source.manifest).absolute())
        return {f: target for f in files if f == target or target in f.parents}
    found: dict[Path, Path] = {}
    for file in files:
        for target in (file, file.parent):
            if any(path.is_file() for path in signature_paths(target)):
                found[file] = target
                break
    return found


def _target(manifest: Path) -> Path:
    """What a signature is about: the file or folder beside it whose name it carries."""
    for suffix in (ATTESTATION_SUFFIX, OPENSSF_SUFFIX):
        if manifest.name.endswith(suffix):
            if not manifest.is_file():
                raise TrustError(f"its manifest {manifest.name} is missing", path=str(manifest))
            return manifest.with_name(manifest.name.removesuffix(suffix))
    raise TrustError(
        f"its manifest {manifest.name} ends in neither {ATTESTATION_SUFFIX} nor {OPENSSF_SUFFIX}",
        path=str(manifest),
    )


def digest_of(files: Sequence[Path]) -> str:
    """The digest of a source's bytes, as it was taken when the source was read."""
    digests = [digest_file(f) for f in files]
    return digests[0] if len(digests) == 1 else digest_json(digests)


def signer_of(target: Path, keys: tuple[PublicKey, ...]) -> str:
    """The key id that signed what was verified a moment ago."""
    bundle, attestation = signature_paths(target)
    if attestation.is_file():
        return Envelope.load(attestation).verify(keys, allow_unknown=True)[0].keyid
    return read_bundle(read_limited(bundle, LARGEST_BUNDLE_BYTES)).verify(keys).keyid
