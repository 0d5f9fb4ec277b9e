# SPDX-License-Identifier: Apache-2.0
"""`DeclaredSynthetic`: the share of rows that somebody declared to be machine-made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.parameters import AnyPath, Paths, Share, Texts
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.measure.detection import binomial_tail
from datapipe.stages.synthetic._attested import attested
from datapipe.stages.synthetic._declarations import declared, english, phrased

PEOPLE_RATE = 0.002
"""Share of people's texts with such a phrase, on the safe side: some are about assistants."""
ALPHA = 0.01


@dataclass(frozen=True)
class DeclaredSynthetic(Stage):
    """Counts the rows that are declared synthetic, by their source, a column or a data-set card.

    *Method:* columns that are flags, name the generator or hold the words of standards (C2PA's
    `digitalSourceType`, annotation fields, metadata) speak for their row, a source's `synthetic`
    and `generator` and a signed statement by a trusted key for its rows, a card
    (`annotations_creators: machine-generated`) for all; the narrower declaration counts. A row
    whose `derived_from` names a synthetic row is synthetic. The share is counted, not estimated.
    Texts with phrases that assistants leave behind are evidence of their own and never change the
    share.
    *Assumes:* declarations are true; whoever hides machine-made rows is not found here.
    *Choose it when:* always, before `SyntheticShare`: what is declared need not be estimated.
    *Fails when:* nobody declares anything; then it says so.
    *Cost:* one pass over the ids, one column and the texts.

    Args:
        column: Column with a flag or the generator's name; empty to look for the usual names.
        values: The column's values that mean synthetic; empty for true, non-zero or any name that
            does not stand for people.
        card: Path of a data-set card that speaks for all rows; empty for none.
        at_most: Largest declared share that is in order, in [0, 1]; rows are flagged above it.
        attestations: Paths of signed statements about upstream data (`*.dsse.json`); each speaks
            for the sources whose files it names.
        trusted: Paths of public keys; a statement that none of them signed declares nothing.
        on_finding: What becomes of flagged rows.

    Example:
        >>> from pathlib import Path
        >>> import pyarrow as pa
        >>> data = Dataset.of(pa.table({"generator": ["gpt-4", "human", "gpt-4", None]}))
        >>> found = DeclaredSynthetic().run(data, Context(0, Path("."))).findings[0]
        >>> found.measure.value, found.details["undeclared"]
        (0.5, 1)

    References:
        Gebru, Morgenstern, Vecchione et al., 2021, Datasheets for datasets.
    """

    column: str = ""
    values: Texts = ()
    card: AnyPath = ""
    at_most: Share = 1.0
    attestations: Paths = ()
    trusted: Paths = ()
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "synthetic.declared"
    raises_findings: ClassVar[tuple[str, ...]] = ("synthetic.declared", "synthetic.phrases")
    references: ClassVar[tuple[str, ...]] = (
        "Gebru, Morgenstern, Vecchione et al., 2021, Datasheets for datasets",
    )

    def cacheable(self) -> bool:
        """Whether nothing outside of the data is read: False with a card.

        Returns:
            True without a card.

        Example:
            >>> DeclaredSynthetic(card="README.md").cacheable()
            False
        """
        return not (self.card or self.attestations)

    def run(self, data: Dataset, context: Context) -> Yield:
        """Count the declared rows.

        Args:
            data: The rows.
            context: Not used.

        Returns:
            A finding on the declared share; for texts, one on phrases.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> DeclaredSynthetic().run(empty(), Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        signed: Any = self.attestations
        keys: Any = self.trusted
        told, refused = attested(data.sources, signed, keys)
        data = data if told == data.sources else data.with_sources(told)
        table = declared(data, self.column, tuple(self.values), card=str(self.card))
        findings = [self._declared(table, refused)]
        if "text" in data.roles and len(data):
            findings.append(_phrases(table["row_id"], data.values("text")))
        return Yield(findings=tuple(findings))

    def _declared(self, table: pl.DataFrame, refused: list[str]) -> Finding:
        synthetic = table["synthetic"].fill_null(value=False)
        n, hits = table.height, int(synthetic.sum())
        unknown = int(table["synthetic"].null_count())
        details: dict[str, Any] = {
            "synthetic": hits,
            "human": n - hits - unknown,
            "undeclared": unknown,
            "generators": _makers(table.filter(synthetic)),
            "statements_not_trusted": refused,
        }
        if unknown == n:
            return Finding.not_evaluated(
                "synthetic.declared",
                f"nothing is declared about any of {n} rows",
                measure=Estimate.unknown(method="nothing is declared", n=n),
                details=details,
                remedy="declare synthetic=True or False in the readers",
            )
        over = hits / n > self.at_most
        silent = f"; nothing is declared about {unknown}" if unknown else ""
        return Finding(
            "synthetic.declared",
            "suspect" if over else "clean",
            Estimate.exact(hits / n, n=n),
            f"{hits} of {n} rows are declared synthetic{silent}",
            "medium" if over else "info",
            rows=scored_rows(
                table["row_id"],
                synthetic.cast(pl.Float64),
                flagged=synthetic if over else None,
                reason="declared synthetic",
            ),
            details=details,
            remedy=f"keep at most a share of {self.at_most:g}" if over else "",
        )


def _makers(rows: pl.DataFrame) -> dict[str, int]:
    counts = rows.group_by("generator").len().sort(["len", "generator"], descending=[True, False])
    return {str(g or "not named"): int(k) for g, k in counts.head(50).iter_rows()}


def _phrases(row_ids: pl.Series, texts: pl.Series) -> Finding:
    """Texts that say of themselves who wrote them, against the rate among people's texts.

    The phrases are English: a corpus that is mostly something else is not cleared by their lack.
    """
    hit = phrased(texts)
    looked = hit | english(texts)
    n, hits = int(looked.sum()), int(hit.sum())
    details = {"texts": hits, "looked_at": n, "not_looked_at": len(texts) - n}
    p_value = float(binomial_tail(hits, n, PEOPLE_RATE)) if hits else 1.0
    suspect = p_value < ALPHA
    if not suspect and 2 * n < len(texts):
        return Finding.not_evaluated(
            "synthetic.phrases",
            f"{n} of {len(texts)} texts are English, as the phrases are",
            measure=Estimate.unknown(method="other languages", n=n),
            details=details,
        )
    return Finding(
        "synthetic.phrases",
        "suspect" if suspect else "clean",
        Estimate.rate(hits, n),
        f"{hits} of {n} texts carry a phrase that assistants leave behind",
        "low" if suspect else "info",
        p_value=min(1.0, p_value),
        rows=scored_rows(
            row_ids.filter(looked),
            hit.filter(looked).cast(pl.Float64),
            flagged=(hit & suspect).filter(looked),
            reason="a phrase of an assistant",
        ),
        details=details,
        remedy="ask the source how these texts were made" if suspect else "",
    )
