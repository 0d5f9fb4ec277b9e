# SPDX-License-Identifier: Apache-2.0
"""`LicenceRule`: may the rows be used, by their sources' declared licence and consent?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from datapipe.core.ancestry import origins
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.core.parameters import Texts
from datapipe.core.source import Source
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.stages.provenance._sources import named, present, rows_of, share
from datapipe.stages.provenance._spdx import allows


@dataclass(frozen=True)
class LicenceRule(Stage):
    """Marks the rows whose source's licence is not allowed, or whose consent is missing.

    *Method:* each source's declared licence is read as an SPDX expression and held against the
    allowed ones (`OR` needs one side, `AND` both); what is not declared is not allowed. A source
    whose consent was denied is marked always, one that does not say so when consent is required.
    *Assumes:* the declarations are true: sign them (`VerifySources`).
    *Choose it when:* the model or the data set will be passed on.
    *Fails when:* a source mixes rows under several terms; read them as several sources.
    *Cost:* rows are not read, only counted.

    Args:
        allowed: SPDX identifiers or whole expressions, such as `("CC0-1.0", "CC-BY-4.0")`.
        consent: Whether consent must be declared as granted.
        on_finding: What becomes of the rows of sources that may not be used.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.core.dataset import Dataset
        >>> rows = pl.DataFrame({"_row_id": pl.Series([1 << 40], dtype=pl.UInt64), "t": ["a"]})
        >>> data = Dataset(rows.lazy(), sources=[Source("s", "s.csv", licence="MIT", number=1)])
        >>> made = LicenceRule(allowed=("Apache-2.0", "MIT")).run(data, Context(0, Path(".")))
        >>> [f.verdict for f in made.findings]
        ['clean', 'clean']

    References:
        SPDX Workgroup, 2024, SPDX specification 3.0, annex on licence expressions.
    """

    allowed: Texts = ()
    consent: bool = False
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "provenance.licence"
    raises_findings: ClassVar[tuple[str, ...]] = ("provenance.licence", "provenance.consent")
    references: ClassVar[tuple[str, ...]] = (
        "SPDX Workgroup, 2024, SPDX specification 3.0, annex on licence expressions",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> LicenceRule().check()[0]
            'provenance.licence: no licence is allowed; name some, as in allowed=("CC-BY-4.0",)'
        """
        wrong = super().check()
        if not self.allowed:
            wrong.append(
                f'{self.name}: no licence is allowed; name some, as in allowed=("CC-BY-4.0",)'
            )
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Hold every source against the rule.

        Args:
            data: Its sources are judged; its rows are only counted.
            context: Not used.

        Returns:
            A finding on licences and one on consent.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> made = LicenceRule(allowed="MIT").run(empty(), Context(0, Path(".")))
            >>> made.findings[0].verdict
            'not_evaluated'
        """
        rows = origins(data)
        sources = present(data.sources, rows)
        undeclared = [s for s in sources if not s.licence.strip()]
        refused = [s for s in sources if s.licence.strip() and not allows(s.licence, self.allowed)]
        denied = [s for s in sources if s.consent == "denied"]
        silent = [s for s in sources if self.consent and not s.consent]
        licence = _Judged("licence", sources, refused, undeclared)
        consent = _Judged("consent", sources, denied, silent)
        return Yield(findings=(licence.finding(rows), consent.finding(rows)))


WORDS = {
    "licence": ("under a licence that is not allowed", "without a declared licence"),
    "consent": ("whose consent was denied", "without declared consent"),
}


@dataclass(frozen=True)
class _Judged:
    """Sources that break a rule, and those that do not say whether they do."""

    rule: str
    sources: Sequence[Source]
    broken: Sequence[Source]
    silent: Sequence[Source]

    def finding(self, every: pl.DataFrame) -> Finding:
        marked = [*self.broken, *self.silent]
        rows = rows_of(every, [s.number for s in marked], f"its source's {self.rule}")
        told = [
            {"source": s.name, "source_no": s.number, "licence": s.licence, "consent": s.consent}
            for s in marked
        ]
        if not self.sources:
            why = "the rows name no source"
            return Finding.not_evaluated(f"provenance.{self.rule}", why, measure=share(rows))
        return Finding(
            f"provenance.{self.rule}",
            "fail" if self.broken else ("suspect" if self.silent else "clean"),
            share(rows),
            self._says(),
            "high" if self.broken else ("medium" if self.silent else "info"),
            rows=rows,
            details={"sources": told},
            remedy=f"declare the {self.rule} in the reader, or leave the source out"
            if marked
            else "",
        )

    def _says(self) -> str:
        parts = [
            f"{len(hit)} of {len(self.sources)} sources {words}: {named(hit)}"
            for hit, words in zip((self.broken, self.silent), WORDS[self.rule], strict=True)
            if hit
        ]
        return (
            "; ".join(parts) or f"none of {len(self.sources)} sources breaks the {self.rule} rule"
        )
