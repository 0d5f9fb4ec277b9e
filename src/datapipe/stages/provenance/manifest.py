# SPDX-License-Identifier: Apache-2.0
"""`VerifySources`: is every source what a trusted signer signed?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from datapipe.core.ancestry import origins
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding, Verdict
from datapipe.core.parameters import Paths
from datapipe.core.source import Source
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.errors import TrustError
from datapipe.manifest.keys import load_public_keys
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.verify import verify_path
from datapipe.stages.provenance._signatures import digest_of, signed_paths, signer_of
from datapipe.stages.provenance._sources import named, present, rows_of, share


@dataclass(frozen=True)
class VerifySources(Stage):
    """Verifies the signature of every source against keys that you trust, and marks the rest.

    *Method:* for each source the signature it declares, or the one beside its files or beside
    their folder (`<name>.dsse.json`, `<name>.oms.sigstore.json`), is verified: signed by a trusted
    key, every signed file unchanged, none added or missing, and about the very bytes that were
    read. One file without a signature makes its whole source unsigned; one that does not hold
    makes it invalid. The sources carry the answer (`trust`, `signer`) through all later steps.
    *Assumes:* the trusted keys reached you by another way than the data.
    *Choose it when:* data comes from others; `on_finding="stop"` ends the run on a bad signature,
    `"quarantine"` sets the rows of unsigned and invalid sources aside.
    *Fails when:* the signer signed bad data, or the signer's key was stolen and not revoked.
    *Cost:* one SHA-256 pass over the files of signed sources; rows are not read.

    Args:
        trusted: Paths of public keys (PEM); without any, nothing can be evaluated.
        on_finding: What becomes of rows of unsigned and invalid sources.

    Example:
        >>> from datapipe.core.dataset import empty
        >>> made = VerifySources().run(empty(), Context(0, Path(".")))
        >>> [f.verdict for f in made.findings]
        ['not_evaluated', 'not_evaluated']

    References:
        Torres-Arias, Afzali, Kuppusamy, Curtmola & Cappos, 2019, in-toto: providing farm-to-table
        guarantees for bits and bytes.
    """

    trusted: Paths = ()
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "provenance.manifest"
    raises_findings: ClassVar[tuple[str, ...]] = ("provenance.unsigned", "provenance.invalid")
    references: ClassVar[tuple[str, ...]] = (
        "Torres-Arias, Afzali, Kuppusamy, Curtmola & Cappos, 2019, in-toto",
    )

    def cacheable(self) -> bool:
        """False: keys and signatures lie outside of the data, so an earlier answer may be stale.

        Returns:
            False.

        Example:
            >>> VerifySources().cacheable()
            False
        """
        return False

    def run(self, data: Dataset, context: Context) -> Yield:
        """Verify every source.

        Args:
            data: Its sources are verified; its rows are only counted.
            context: Not used.

        Returns:
            The same rows with the sources' new trust, and the two findings.

        Example:
            >>> from datapipe.core.dataset import empty
            >>> VerifySources().run(empty(), Context(0, Path("."))).data.sources
            ()
        """
        paths: tuple[str, ...] = tuple(self.trusted)  # type: ignore[arg-type]  # made so above
        keys = tuple(key for path in paths for key in load_public_keys(path))
        answers = [_Answer(s) if not keys else _verified(s, keys) for s in data.sources]
        known = data.with_sources([a.source for a in answers])
        every = origins(data)
        left = {s.number for s in present(data.sources, every)}
        judged = [a for a in answers if a.source.number in left]
        findings = _findings(judged, every, trusts=bool(keys))
        return Yield(data=known, findings=findings)


@dataclass(frozen=True)
class _Answer:
    """A source with its trust, and why."""

    source: Source
    why: str = "no trusted keys were given"
    looked: bool = field(default=False)

    def told(self) -> dict[str, Any]:
        source = self.source
        return {
            "source": source.name, "source_no": source.number, "trust": source.trust,
            "signer": source.signer, "why": self.why,
        }  # fmt: skip


def _verified(source: Source, keys: tuple[PublicKey, ...]) -> _Answer:
    """What the signatures of a source say; anything that is not right makes it invalid."""
    files = [Path(path).absolute() for path, _ in source.files]
    if not files:
        return _unsigned(source, "an object in memory has no signature")
    try:
        signed = signed_paths(source, files)
    except TrustError as error:
        return _invalid(source, error.message)
    lacking = [f for f in files if f not in signed]
    if lacking and not source.manifest:
        return _unsigned(source, f"no signature beside {lacking[0].name}")
    if lacking:
        return _invalid(source, f"{lacking[0].name} is not among what its manifest signed")
    why = _broken(source, files, set(signed.values()), keys)
    if why:
        return _invalid(source, why)
    signer = signer_of(min(signed.values()), keys)
    trusted = replace(source, trust="verified", signer=signer)
    return _Answer(trusted, f"signed by {signer[:12]}", looked=True)


def _broken(
    source: Source, files: Sequence[Path], targets: Collection[Path], keys: tuple[PublicKey, ...]
) -> str:
    """Why the signatures about these files or folders do not hold, empty when they do."""
    for target in sorted(targets):
        report = verify_path(target, keys=keys)
        if not report.passed:
            first = report.failed[0] if report.failed else None
            return f"{first.name}: {first.reason}" if first else "nothing held"
    if source.digest and source.digest != digest_of(files):
        return "its files changed after they were read"
    return ""


def _unsigned(source: Source, why: str) -> _Answer:
    return _Answer(replace(source, trust="unsigned", signer=""), why)


def _invalid(source: Source, why: str) -> _Answer:
    return _Answer(replace(source, trust="invalid", signer=""), why, looked=True)


def _findings(
    answers: Sequence[_Answer], every: pl.DataFrame, *, trusts: bool
) -> tuple[Finding, ...]:
    unsigned = [a.source for a in answers if a.source.trust == "unsigned"]
    invalid = [a for a in answers if a.source.trust == "invalid"]
    told = {"sources": [a.told() for a in answers]}
    if not trusts or not answers:
        why = "no trusted keys were given" if answers else "the rows name no source"
        every_row = share(rows_of(every, (), ""))
        remedy = "name the public keys you trust: trusted=('supplier.pem',)"
        return tuple(
            Finding.not_evaluated(kind, why, measure=every_row, details=told, remedy=remedy)
            for kind in VerifySources.raises_findings
        )
    rows = rows_of(every, [s.number for s in unsigned], "its source is not signed")
    words = f"{len(unsigned)} of {len(answers)} sources are not signed"
    first = Finding(
        "provenance.unsigned",
        "suspect" if unsigned else "clean",
        share(rows),
        words + (f": {named(unsigned)}" if unsigned else ""),
        "medium" if unsigned else "info",
        rows=rows,
        details=told,
        remedy="ask the supplier to sign (datapipe sign PATH)" if unsigned else "",
    )
    return first, _invalid_finding(answers, invalid, every)


def _invalid_finding(
    answers: Sequence[_Answer], invalid: Sequence[_Answer], every: pl.DataFrame
) -> Finding:
    looked = sum(a.looked for a in answers)
    verdict: Verdict = "fail" if invalid else ("clean" if looked else "not_evaluated")
    rows = rows_of(every, [a.source.number for a in invalid], "its source's signature is bad")
    if invalid:
        names = named([a.source for a in invalid])
        says = f"{len(invalid)} of {looked} signatures do not hold: {names}; {invalid[0].why}"
    else:
        says = f"{looked} of {looked} signatures hold" if looked else "no source has a signature"
    return Finding(
        "provenance.invalid",
        verdict,
        share(rows),
        says,
        "high" if invalid else "info",
        rows=rows if looked else None,
        details={"sources": [a.told() for a in answers if a.looked]},
        remedy="do not use these files; get them again from their signer" if invalid else "",
    )
