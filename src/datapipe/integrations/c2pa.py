# SPDX-License-Identifier: Apache-2.0
"""A C2PA manifest beside a Parquet file: content credentials for rows.

The file itself is not changed; the manifest holds its hash, what it was made from and how it was
made, and is signed with an X.509 certificate, which C2PA asks for.

References:
    C2PA Technical Specification 2.2, 2025; action `c2pa.created`, digital source types.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from datapipe import __version__
from datapipe.errors import DeclarationError, MissingExtra, TrustError
from datapipe.integrations.facts import Facts
from datapipe.manifest.signers import PrivateKey

PARQUET = "application/vnd.apache.parquet"
DATA = "http://c2pa.org/digitalsourcetype/trainedAlgorithmicData"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
DATA_DRIVEN = "http://cv.iptc.org/newscodes/digitalsourcetype/dataDrivenMedia"
SUFFIX = ".c2pa"

_ALGORITHMS = {
    "p256": ("ES256", 32),
    "p384": ("ES384", 48),
    "p521": ("ES512", 66),
    "ed25519": ("ED25519", 0),
}


def sidecar(facts: Facts, file: Path, key: PrivateKey, certificates: str) -> bytes:
    """A signed C2PA manifest about a Parquet file of a run.

    Args:
        facts: What the store knows about the run.
        file: The Parquet file; it is not changed.
        key: The private key of the first certificate: P-256, P-384, P-521 or Ed25519.
        certificates: The chain in PEM, the signer's first.

    Returns:
        The manifest's bytes, to be kept beside the file.

    Raises:
        MissingExtra: `c2pa-python` is not installed.
        DeclarationError: C2PA knows no signature of this key's algorithm.
        TrustError: The certificates do not fit the key, or C2PA refuses them.

    Example:
        >>> key = PrivateKey.new("ml-dsa-65")
        >>> try:
        ...     sidecar(Facts("r1", {}), Path("rows.parquet"), key, "")
        ... except DeclarationError as error:
        ...     print(error.code)
        DP-...
    """
    try:
        import c2pa  # noqa: PLC0415 - only this export needs it
    except ImportError as error:
        raise MissingExtra(
            "a C2PA sidecar needs c2pa-python", hint="python -m pip install 'datapipe[c2pa]'"
        ) from error
    if key.algorithm not in _ALGORITHMS:
        raise DeclarationError(
            f"C2PA knows no signatures of {key.algorithm}",
            code="DP-USE-036",
            hint=f"use a key of {', '.join(_ALGORITHMS)}, with its X.509 certificate",
        )
    algorithm, _ = _ALGORITHMS[key.algorithm]
    told = json.dumps(manifest(facts, file.name))
    try:
        signer = c2pa.Signer.from_callback(
            _signs(key), c2pa.C2paSigningAlg[algorithm], certificates, None
        )
        settings = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
        context = c2pa.Context.from_dict({**settings, "builder": {"thumbnail": {"enabled": False}}})
        with c2pa.Builder(told, context) as builder, file.open("rb") as data:
            builder.set_no_embed()
            made: bytes = builder.sign(signer, PARQUET, data, io.BytesIO())
    except c2pa.C2paError as error:
        raise TrustError(
            f"C2PA refuses to sign {file.name}: {str(error).splitlines()[0][:200]}",
            code="DP-TRUST-120",
            hint="the chain must be the signer's certificate first, then who issued it; the "
            "signer's needs the key usage digitalSignature and an extended key usage",
        ) from error
    return made


def manifest(facts: Facts, name: str) -> dict[str, Any]:
    """What the manifest says before it is signed.

    Args:
        facts: What the store knows about the run.
        name: Name of the file.

    Returns:
        A C2PA manifest definition.

    Example:
        >>> from datetime import datetime
        >>> run = {"pipeline": "p", "started_at": datetime(2026, 1, 1)}
        >>> manifest(Facts("r1", {"run": [run]}), "a.parquet")["title"]
        'a.parquet'
    """
    created = {"action": "c2pa.created", "digitalSourceType": _source_type(facts)}
    lines = [
        {
            "name": s["name"],
            "sha256": s["digest"].removeprefix("sha256:"),
            "licence": s["licence"] or "not recorded",
            "consent": s["consent"] or "not recorded",
            "declaredSynthetic": "not recorded" if s["synthetic"] is None else s["synthetic"],
        }
        for s in facts["sources"]
    ]
    run = {"run": facts.run_id, "pipeline": facts.run["pipeline"], "sources": lines}
    return {
        "claim_generator_info": [{"name": "datapipe", "version": __version__}],
        "title": name,
        "format": PARQUET,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": "dev.datapipe.run", "data": run},
        ],
    }


def _source_type(facts: Facts) -> str:
    """The digital source type of the rows, which C2PA will not do without.

    `dataDrivenMedia` says that a program laid out data, and nothing about who wrote them: it stands
    wherever no source is declared to be synthetic. What each source declares, or that it declares
    nothing, is in our own assertion.
    """
    told = [s["synthetic"] for s in facts["sources"]]
    if told and all(told):
        return DATA
    return COMPOSITE if any(told) else DATA_DRIVEN


def _signs(key: PrivateKey) -> Callable[[bytes], bytes]:
    """The signature that COSE wants: r and s side by side, not DER."""
    _, width = _ALGORITHMS[key.algorithm]

    def sign(data: bytes) -> bytes:
        signature = key.sign(data)
        if not width:
            return signature
        r, s = decode_dss_signature(signature)
        return r.to_bytes(width, "big") + s.to_bytes(width, "big")

    return sign
