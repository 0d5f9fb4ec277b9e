# SPDX-License-Identifier: Apache-2.0
"""The forms of other tools that one run can be written in, each with the files it leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from datapipe.cli.options import existing
from datapipe.cli.signing import signer
from datapipe.core.digest import digest_file
from datapipe.errors import DeclarationError, TrustError
from datapipe.integrations import (
    c2pa,
    croissant,
    cyclonedx,
    openlineage,
    prov,
    slsa,
    training_summary,
)
from datapipe.integrations.facts import Facts, bare
from datapipe.lineage.store import Lineage
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.plain import content
from datapipe.manifest.signers import PrivateKey


@dataclass(frozen=True)
class Credentials:
    """What a form is signed with.

    Args:
        key: What `--key` named, or None.
        passphrase_file: Where its passphrase is, or None.
        certificate: What `--certificate` named, or None.

    Example:
        >>> Credentials(None, None, None).key is None
        True
    """

    key: Path | None
    passphrase_file: Path | None
    certificate: Path | None

    def check(self, form: str) -> None:
        """Refuse a form that needs credentials which were not given, before anything is written.

        Args:
            form: Name of the form.

        Raises:
            DeclarationError: C2PA was asked for without key or certificate.

        Example:
            >>> Credentials(None, None, None).check("prov")
        """
        if form == "c2pa" and (self.key is None or self.certificate is None):
            raise DeclarationError(
                "a C2PA manifest is signed with a key and its X.509 certificate",
                code="DP-USE-037",
                hint="give --key FILE and --certificate FILE (PEM, the signer's first)",
            )


Form: TypeAlias = Callable[[Lineage, Facts, Path, Credentials], list[Path]]


def _openlineage(_: Lineage, facts: Facts, folder: Path, __: Credentials) -> list[Path]:
    lines = [json.dumps(event, ensure_ascii=False) for event in openlineage.events(facts)]
    return [_written(folder / "openlineage.ndjson", "\n".join(lines) + "\n")]


def _croissant(lineage: Lineage, facts: Facts, folder: Path, _: Credentials) -> list[Path]:
    dataset = _last(facts)
    copy = _copied(lineage, dataset, folder)
    told = croissant.metadata(facts, dataset, copy.name, bare(digest_file(copy)))
    return [_as_json(folder / "croissant.json", told), copy]


def _prov(_: Lineage, facts: Facts, folder: Path, __: Credentials) -> list[Path]:
    return [_as_json(folder / "prov.json", prov.document(facts))]


def _cyclonedx(_: Lineage, facts: Facts, folder: Path, __: Credentials) -> list[Path]:
    return [_as_json(folder / "bom.cdx.json", cyclonedx.bom(facts))]


def _slsa(_: Lineage, facts: Facts, folder: Path, credentials: Credentials) -> list[Path]:
    statement = slsa.provenance(facts)
    if credentials.key is None:
        return [_written(folder / "slsa.intoto.json", statement.to_bytes().decode() + "\n")]
    signs = signer(credentials.key, credentials.passphrase_file)
    envelope = Envelope.sign(statement.to_bytes(), signs)
    return [_written(folder / "slsa.dsse.json", envelope.to_bytes().decode())]


def _c2pa(lineage: Lineage, facts: Facts, folder: Path, credentials: Credentials) -> list[Path]:
    key = signer(credentials.key, credentials.passphrase_file)
    if not isinstance(key, PrivateKey):
        raise DeclarationError(
            "C2PA knows no hybrid signatures",
            code="DP-USE-044",
            hint="use a key of p256, p384, p521 or ed25519, with its X.509 certificate",
        )
    chain = content(existing(str(credentials.certificate))).decode()
    copy = _copied(lineage, _last(facts), folder)
    beside = copy.with_name(copy.name + c2pa.SUFFIX)
    beside.write_bytes(c2pa.sidecar(facts, copy, key, chain))
    return [copy, beside]


def _summary(lineage: Lineage, facts: Facts, folder: Path, _: Credentials) -> list[Path]:
    told = training_summary.summary(lineage, facts.run_id)
    return [
        _as_json(folder / "training-summary.json", told),
        _written(folder / "training-summary.md", training_summary.page(told)),
    ]


FORMS: Mapping[str, Form] = {
    "openlineage": _openlineage,
    "croissant": _croissant,
    "prov": _prov,
    "cyclonedx": _cyclonedx,
    "slsa": _slsa,
    "c2pa": _c2pa,
    "eu-summary": _summary,
}
"""Name of a form to what writes it."""


def _last(facts: Facts) -> dict[str, Any]:
    """The data set that a run ended with."""
    if facts.final is None:
        raise DeclarationError(
            f"run {facts.run_id} stored no data set",
            code="DP-USE-043",
            hint="choose a finished run: datapipe sql 'from run_status'",
        )
    return facts.final


def _copied(lineage: Lineage, dataset: Mapping[str, Any], folder: Path) -> Path:
    """A copy of a data set with the bytes that the store signed."""
    source = lineage.object_path(dataset["digest"])
    if source is None:
        raise TrustError(
            f"the store has no object {dataset['digest']}",
            code=Reason.MISSING.value,
            hint="it may have been erased; datapipe verify on the store says what is missing",
            path=str(lineage.objects),
        )
    target = folder / f"{bare(dataset['digest'])[:12]}{source.suffix}"
    shutil.copyfile(source, target)
    if digest_file(target) != dataset["digest"]:
        target.unlink()
        raise TrustError(
            f"the object {source} has other content than its digest says",
            code=Reason.CHANGED.value,
            hint="do not use this store; run the pipeline again in another one",
            path=str(source),
        )
    return target


def _as_json(path: Path, told: Any) -> Path:
    return _written(path, json.dumps(told, indent=2, ensure_ascii=False, default=str) + "\n")


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
