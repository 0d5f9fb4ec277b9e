# SPDX-License-Identifier: Apache-2.0
"""`ActivationOutliers`: rows that a network learns otherwise than the rest of their class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context, derived_seed
from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_file, digest_json
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.parameters import OpenShare, PositiveShare
from datapipe.core.roles import Roles
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.errors import DataError, Malformed, SchemaMismatch, nearest
from datapipe.features.encoding import Encoded, fit_encoding
from datapipe.features.networks import torch_threads
from datapipe.measure.crossfit import out_of_fold, telling
from datapipe.stages.poisoning._accused import FEWEST_TRUSTED, Half, Verdicts, by_others, by_trust
from datapipe.stages.poisoning._labelled import UNREADABLE, Labelled, labelled, learner
from datapipe.stages.poisoning._small_network import Trainer
from datapipe.stages.poisoning._unseen import scores_of
from datapipe.stages.poisoning._withheld import withheld

FOLDS = 2
FEWEST_LABELS = 3
"""With fewer, other labels do not tell how a network treats odd rows by nature."""
SEVERITY: dict[Verdict, Severity] = {"fail": "high", "suspect": "medium", "clean": "info"}

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ActivationOutliers(Stage):
    """Trains a network on half of the rows and asks which of the others it treats as no other.

    *Method:* two networks, each on half of the rows, score the other half: how far out a row's
    activations lie in the directions in which its class spreads too much, where it lies on the line
    that best parts its class in two, and its loss after the first pass, of which both ends tell.
    With trusted rows, each row's p-value is its rank among those of its label (split conformal),
    and a label with more rows far out than chance allows (beta-binomial) is accused. Without, the
    rows whose features contradict their label are counted: a network that has not seen them gives
    them their label all the same only where something teaches it to, and a label where it does so
    oftener than in the others is *suspect*.
    *Assumes:* trusted rows are drawn as honest rows are; without them, three labels or more.
    *Choose it when:* you would train anyway, or have embeddings, and want a second opinion.
    *Fails when:* fewer rows than `min_detectable` are poisoned, or so many of their class that
    honest ones are the odd ones.
    *Cost:* two trainings of a small network.

    Args:
        embedding: A column of numbers, a list a row, to look at instead of the features.
        reference: A Parquet file of trusted rows with the same columns; empty for none.
        alpha: Chance of an alarm on honest data, in (0, 1).
        most_unseen: Largest share of the rows, in (0, 1], that poison could hold without an
            alarm for the verdict to be *clean*; beyond it, *not_evaluated*.
        on_finding: What is done with flagged rows.

    Example:
        >>> ActivationOutliers(alpha=2.0).check()
        ['poisoning.activations: alpha=2.0 must lie in (0, 1)']

    References:
        Hayase et al., 2021, SPECTRE: defending against backdoor attacks using robust statistics;
        Tang et al., 2021, Demon in the variant: statistical analysis of DNNs for robust backdoor
        contamination detection; Li et al., 2021, Anti-backdoor learning; Vovk, Gammerman & Shafer,
        2005, Algorithmic learning in a random world.
    """

    embedding: str = ""
    reference: str = ""
    alpha: OpenShare = 0.05
    most_unseen: PositiveShare = 0.05
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "poisoning.activations"
    version: ClassVar[str] = "3"
    needs: ClassVar[tuple[str, ...]] = ("label",)
    raises_findings: ClassVar[tuple[str, ...]] = ("poisoning.activations",)
    extra: ClassVar[str] = "train"
    references: ClassVar[tuple[str, ...]] = (
        "Hayase et al., 2021, SPECTRE",
        "Tang et al., 2021, Demon in the variant",
        "Li et al., 2021, Anti-backdoor learning",
        "Vovk, Gammerman & Shafer, 2005, Algorithmic learning in a random world",
    )

    def code_digest(self) -> str:
        """The digest of this module and of the trusted rows.

        Returns:
            The digest in the house form.

        Example:
            >>> ActivationOutliers().code_digest().startswith("sha256:")
            True
        """
        file = Path(self.reference) if self.reference else None
        trusted = digest_file(file) if file is not None and file.is_file() else ""
        return digest_json([super().code_digest(), trusted])

    def run(self, data: Dataset, context: Context) -> Yield:
        """Train, score, and judge every label.

        Args:
            data: Rows with the role `label`, and features by role or without one.
            context: Its seed deals the halves and draws the first weights.

        Returns:
            One finding with a line for every labelled row.

        Raises:
            Malformed: The trusted rows cannot be read.
            SchemaMismatch: They lack a column of the data.

        Example:
            >>> import pyarrow as pa
            >>> few = Dataset.of(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), Roles.of(label="y"))
            >>> ActivationOutliers().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        rows = labelled(data, FOLDS)
        if rows.why:
            return self.not_evaluated(rows.why)
        if not (self.reference or context.reference) and len(rows.names) < FEWEST_LABELS:
            return self.not_evaluated(
                f"{len(rows.names)} labels and no trusted rows: {FEWEST_LABELS} labels, or a"
                " reference, are the least"
            )
        seen = data
        if self.embedding:
            seen = data.with_roles(Roles.of(image=self.embedding, label=data.roles.one("label")))
        model = learner(seen, rows, FOLDS, context)
        if model is None:
            return self.not_evaluated(UNREADABLE)
        known = self._trusted(context)
        try:
            encoding = fit_encoding(seen)
            both = [seen.frame()[rows.place].select(encoding.columns)]
            numbers = rows.labels
            if known is not None:
                more = _numbered(known, data.roles.one("label"), rows.names)
                both.append(known.filter(pl.Series(more >= 0)).select(encoding.columns))
                numbers = np.concatenate([numbers, more[more >= 0]])
            encoded = encoding.encode(pl.concat(both, how="vertical_relaxed"))
        except DataError as error:
            return self.not_evaluated(f"rows cannot be learnt from: {error.args[0]}")
        if self.embedding:  # a list of numbers is no picture, whatever its length
            encoded = Encoded(
                (encoded.take(np.arange(1)).size,),
                encoded.take(np.arange(len(encoded))).reshape(len(encoded), -1),
            )
        trainer = Trainer(encoded, numbers, encoding.kind, derived_seed(context.seed, "network"))
        halves = _crossed(trainer, model.fold)
        told = known is not None
        if known is not None:
            judged = by_trust(halves, rows.labels, numbers[rows.labels.size :], self.alpha)
        else:
            keep = np.ones(rows.labels.size, bool)
            shares = out_of_fold(model.predict, model.fold, keep, len(rows.names))
            judged = by_others(halves, rows.labels, shares, self.alpha)
            told = telling(rows.labels, shares).low > 0
        found = self._finding(data, rows, judged, trusted=known is not None)
        why = _unjudged(rows, judged, told=told) if found.verdict == "clean" else ""
        if why:
            return self.not_evaluated(why)
        return Yield(findings=(withheld(found, judged.least, len(rows.labels), self.most_unseen),))

    def _trusted(self, context: Context) -> pl.DataFrame | None:
        """The trusted rows, where there are any."""
        if not self.reference:
            return None if context.reference is None else context.reference.frame()
        try:
            return pl.read_parquet(self.reference)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise Malformed(
                f"the trusted rows {self.reference} cannot be read: {type(error).__name__}",
                hint="give a Parquet file with the columns of the data",
            ) from error

    def _finding(
        self, data: Dataset, rows: Labelled, judged: Verdicts, *, trusted: bool
    ) -> Finding:
        worst = int(judged.p_values.argmin())
        p_value = float(judged.p_values[worst])
        n, flagged = judged.flags.size, int(judged.flags.sum())
        verdict: Verdict = "clean"
        says = f"no label of {len(rows.names)} is learnt otherwise than the rest, in {n} rows"
        if p_value <= self.alpha:
            verdict = "fail" if trusted else "suspect"
            says = f"a network treats {flagged} rows otherwise than the rest of their label"
        accused = np.flatnonzero(judged.p_values <= self.alpha)
        return Finding(
            self.name,
            verdict,
            Estimate.rate(flagged, n),
            says,
            severity=SEVERITY[verdict],
            p_value=p_value,
            columns=(data.roles.one("label"),),
            rows=scored_rows(
                data.row_ids.gather(rows.place),
                judged.score,
                flagged=judged.flags,
                p_values=judged.row_p_values,
                reason="a network treats it otherwise than the rest of its label",
            ),
            details={
                "class": rows.names[worst] if accused.size else "",
                "classes": [
                    {
                        "class": rows.names[k],
                        "by": judged.by[k],
                        "p_value": float(judged.p_values[k]),
                        "rows": int((judged.flags & (rows.labels == k)).sum()),
                    }
                    for k in accused
                ],
                "calibrated_on": "trusted rows" if trusted else "the other labels",
                "min_detectable": judged.least,
            },
            remedy="set on_finding='quarantine', and look at these rows" if accused.size else "",
        )


def _unjudged(rows: Labelled, judged: Verdicts, *, told: bool) -> str:
    """Why no label can be called clean, though none was accused; else empty."""
    if not told:
        return "features tell labels no better than chance, so that none is contradicted"
    names = ", ".join(repr(rows.names[k]) for k in judged.untested)
    return f"too few trusted rows of {names}: {FEWEST_TRUSTED} are the least" if names else ""


def _numbered(trusted: pl.DataFrame, label: str, names: tuple[str, ...]) -> Ints:
    """The class number of each trusted row, -1 for a label that the data does not have."""
    if label not in trusted.columns:
        raise SchemaMismatch(
            f"the trusted rows lack the column {label!r}", hint=nearest(label, trusted.columns)
        )
    told = trusted[label].cast(pl.String)
    made = told.replace_strict(names, range(len(names)), default=-1, return_dtype=pl.Int64)
    return made.fill_null(-1).to_numpy()


def _crossed(trainer: Trainer, fold: Ints) -> list[Half]:
    """Both halves, each scored by the network of the other, and the trusted rows by both."""
    trusted = np.arange(fold.size, trainer.labels.size)
    made = []
    with torch_threads():
        for number in range(FOLDS):
            asked, fitted = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            scores = scores_of(trainer, fitted, np.concatenate([asked, trusted]))
            made.append(Half(asked, scores.part(0, asked.size), scores.part(asked.size)))
    return made
