# SPDX-License-Identifier: Apache-2.0
"""`SourceDeclarations`: what sidecars, Croissant files and cards say becomes facts of a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from datapipe.core.ancestry import origins
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.source import Source
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.stages.provenance._beside import Said, beside
from datapipe.stages.provenance._sources import present, rows_of, share

FIELDS = ("licence", "consent", "origin", "synthetic", "generator")


@dataclass(frozen=True)
class SourceDeclarations(Stage):
    """Takes over what is declared beside the files that the rows were read from.

    *Method:* beside each file of a source it looks for `NAME.origin.toml` (or `.json`), for a
    Croissant description that lists the file, and for a data-set card. What the reader declares
    counts first, then the sidecar, the description, the card. What restricts (synthetic, consent
    denied, a licence) is believed of anybody; what frees (made by people, consent granted) only of
    a sidecar that names the file's sha256 and is signed off by a person. A file whose sha256 is
    another's says nothing, and its rows are marked. Files of one source that disagree give the
    stricter word.
    *Assumes:* whoever signs off tells the truth; only a signature proves who did (`VerifySources`).
    *Choose it when:* sources come with papers, before `LicenceRule` and `DeclaredSynthetic`.
    *Fails when:* the papers are elsewhere: declare in the reader.
    *Cost:* small files are read, and a source's file once where a digest is named.

    Args:
        on_finding: What becomes of the rows of files whose papers are about other bytes.

    Example:
        >>> from datapipe.core.dataset import empty
        >>> SourceDeclarations().run(empty(), Context(0, Path("."))).findings[0].verdict
        'not_evaluated'

    References:
        Linux Foundation, 2004, Developer Certificate of Origin 1.1.
        MLCommons, 2025, Croissant Format Specification 1.1.
    """

    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "provenance.declarations"
    raises_findings: ClassVar[tuple[str, ...]] = ("provenance.declarations",)
    references: ClassVar[tuple[str, ...]] = (
        "Linux Foundation, 2004, Developer Certificate of Origin 1.1",
        "MLCommons, 2025, Croissant Format Specification 1.1",
    )

    def cacheable(self) -> bool:
        """Whether nothing outside of the data is read: papers may change, so it always is.

        Returns:
            False.

        Example:
            >>> SourceDeclarations().cacheable()
            False
        """
        return False

    def run(self, data: Dataset, context: Context) -> Yield:
        """Read the papers of every source.

        Args:
            data: Its sources are looked up; its rows are only counted.
            context: Not used.

        Returns:
            The same rows with fuller facts about their sources, and a finding.

        Example:
            >>> from datapipe.core.dataset import empty
            >>> SourceDeclarations().run(empty(), Context(0, Path("."))).data is None
            True
        """
        every = origins(data)
        said = {s.number: _said(s) for s in present(data.sources, every)}
        wrong = {n for n, papers in said.items() if any(p.wrong for p in papers)}
        sources = [_fuller(s, said.get(s.number, [])) for s in data.sources]
        details = {
            "sources": {
                s.name: {p.by: p.wrong or dict(p.facts) for p in said.get(s.number, [])}
                for s in data.sources
                if said.get(s.number)
            },
            "taken": {
                s.name: {f: getattr(s, f) for f in FIELDS if getattr(s, f) != getattr(old, f)}
                for s, old in zip(sources, data.sources, strict=True)
            },
        }
        finding = self._finding(
            wrong, said, details, rows_of(every, wrong, "papers of other bytes")
        )
        changed = tuple(sources) != data.sources
        return Yield(data.with_sources(sources) if changed else None, findings=(finding,))

    def _finding(
        self,
        wrong: set[int],
        said: Mapping[int, list[Said]],
        details: Mapping[str, Any],
        rows: Any,
    ) -> Finding:
        spoken = sum(bool(papers) for papers in said.values())
        if not spoken:
            return Finding.not_evaluated(
                self.name,
                f"nothing lies beside the files of {len(said)} sources",
                measure=Estimate.unknown(method="no papers"),
                details=details,
                remedy="declare in the reader, or put NAME.origin.toml beside the file",
            )
        return Finding(
            self.name,
            "suspect" if wrong else "clean",
            share(rows),
            f"{len(wrong)} of {spoken} sources with papers have some that are not theirs"
            if wrong
            else f"{spoken} of {len(said)} sources have papers, all of them theirs",
            "medium" if wrong else "info",
            rows=rows,
            details=details,
            remedy="ask the source for papers of these very files" if wrong else "",
        )


def _said(source: Source) -> list[Said]:
    """Everything that speaks of a source's files; nothing for objects in memory."""
    files = [Path(path) for path, _ in source.files] or [Path(source.uri)]
    return [said for file in files if file.is_file() for said in beside(file)]


def _fuller(source: Source, papers: list[Said]) -> Source:
    """A source with the fields that its reader left open, filled from its papers."""
    good = [p for p in papers if not p.wrong]
    taken: dict[str, Any] = {}
    for field in ("licence", "origin", "generator"):
        told = sorted({p.facts[field] for p in _narrowest(good, field)})
        if told and not getattr(source, field):
            taken[field] = " AND ".join(told) if field == "licence" else "; ".join(told)
    freed = [p for p in good if p.bound and p.signed_off]
    if not source.consent:
        if any(p.facts.get("consent") == "denied" for p in good):
            taken["consent"] = "denied"
        elif _all_say(source, freed, {"consent": "granted"}):
            taken["consent"] = "granted"
    if source.synthetic is None:
        if any(p.facts.get("synthetic") is True for p in good):
            taken["synthetic"] = True
        elif _all_say(source, freed, {"synthetic": False}):
            taken["synthetic"] = False
    return replace(source, **taken) if taken else source


def _narrowest(papers: list[Said], field: str) -> list[Said]:
    """Those that say a field, of the narrowest kind that does: sidecars, descriptions, cards."""
    for ends in (".origin.toml", ".origin.json"), ("croissant.json",), ("README.md",):
        found = [p for p in papers if field in p.facts and p.by.endswith(ends)]
        if found:
            return found
    return []


def _all_say(source: Source, freed: list[Said], words: Mapping[str, Any]) -> bool:
    """Whether as many signed-off sidecars say so as the source has files."""
    saying = [p for p in freed if words.items() <= p.facts.items()]
    return len(saying) >= max(1, len(source.files))
