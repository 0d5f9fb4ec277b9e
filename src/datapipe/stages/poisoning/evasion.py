# SPDX-License-Identifier: Apache-2.0
"""`EvasionAttacks`: how often a trained model stays right while its inputs are moved a little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.parameters import OpenShare, PositiveInt, Share
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import Stage, Yield
from datapipe.errors import DataError
from datapipe.features.encoding import Encoded, Encoding
from datapipe.features.held_out import HeldOut, held_out_rows
from datapipe.features.networks import last_hidden, load_model, torch_threads
from datapipe.measure.detection import beta_binomial_tail
from datapipe.measure.input_filter import InputFilter, Views
from datapipe.measure.intervals import paired_difference
from datapipe.stages.poisoning._attacks import (
    ATTACKS,
    Asked,
    Attacked,
    AttackName,
    Target,
    attacked,
    one_answer,
    right,
    target_of,
)

Norm = Literal["linf", "l2"]
FEWEST_ATTACKED = 30
"""Fewer rows than this tell nothing of a model's answers."""
BROKEN = 0.01
"""Below this chance of so many honest rows refused, they are not like those of the calibration."""
MOST_ROWS = 2000
"""More known rows, and more rows of calibration, are summarised by a sample."""
FEWEST_KNOWN = 50
"""Fewer known rows than this tell nothing of what is usual."""
KINDS = ("poisoning.evasion", "poisoning.input_filter")
SEVERITY: dict[Verdict, Severity] = {"fail": "high", "suspect": "medium"}

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class EvasionAttacks(Stage):
    """Attacks a trained model on rows it never saw, and calibrates a filter for its inputs.

    *Method:* every held-out row that is answered rightly is moved by one step along the slope of
    the loss, by many steps, and by random changes that ask for scores alone; a row stands where no
    attack changes its answer. The filter scores an input by its distance to rows that the model
    learnt from, before the network and behind it; its p-value is the rank of that score among half
    of the held-out rows, and the other half tells how often it is wrong.
    *Assumes:* an attacker knows the model and can move each value by `epsilon` of its range.
    *Choose it when:* people who gain by a wrong answer choose the inputs of the model.
    *Fails when:* a stronger attack exists: the figures are upper bounds of robustness, no proof.
    Words cannot be moved a little, so that a model of texts gets the filter only.
    *Cost:* about `steps` backward and `queries` forward passes over the rows, for each epsilon.

    Args:
        epsilons: How far values may be moved, each in (0, 1], in units of their range in the rows;
            for `l2` the length of the whole change.
        norm: `linf` or `l2`.
        floor: Share of rows, in [0, 1], that must stand at every epsilon.
        attacks: Some of `fgsm`, `pgd` and `query`.
        steps: Steps of `pgd`, >= 1.
        queries: Questions of `query`, >= 1.
        rows: Most rows that are attacked, >= 1.
        false_alarms: Share of honest inputs, in (0, 1), that the filter may refuse.
        model: Name of the model; empty for the newest.

    Example:
        >>> EvasionAttacks(norm="l1").check()
        ["poisoning.evasion: norm='l1' is none of linf, l2"]

    References:
        Goodfellow, Shlens & Szegedy, 2015, Explaining and harnessing adversarial examples; Madry et
        al., 2018, Towards deep learning models resistant to adversarial attacks; Andriushchenko et
        al., 2020, Square attack; Bates et al., 2023, Testing for outliers with conformal p-values.
    """

    epsilons: tuple[float, ...] = (0.01, 0.03)
    norm: Norm = "linf"
    floor: Share = 0.5
    attacks: tuple[AttackName, ...] = tuple(ATTACKS)
    steps: PositiveInt = 20
    queries: PositiveInt = 300
    rows: PositiveInt = 500
    false_alarms: OpenShare = 0.05
    model: str = ""

    name: ClassVar[str] = "poisoning.evasion"
    version: ClassVar[str] = "2"
    uses: ClassVar[tuple[str, ...]] = ("model",)
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    extra: ClassVar[str] = "train"
    references: ClassVar[tuple[str, ...]] = (
        "Goodfellow, Shlens & Szegedy, 2015, Explaining and harnessing adversarial examples",
        "Madry et al., 2018, Towards deep learning models resistant to adversarial attacks",
        "Andriushchenko et al., 2020, Square attack",
        "Bates et al., 2023, Testing for outliers with conformal p-values",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem, empty when there is none.

        Example:
            >>> EvasionAttacks(epsilons=(0.03, 0.01)).check()
            ['poisoning.evasion: epsilons=(0.03, 0.01) must rise, within (0, 1]']
        """
        if wrong := super().check():
            return wrong
        if not self.attacks:
            wrong.append(f"{self.name}: no attack is named; use some of {', '.join(ATTACKS)}")
        most = 1.0 if self.norm == "linf" else float("inf")
        rising = all(a < b for a, b in pairwise((0.0, *self.epsilons)))
        if not self.epsilons or not rising or self.epsilons[-1] > most:
            wrong.append(f"{self.name}: epsilons={self.epsilons} must rise, within (0, {most:g}]")
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Attack the model and calibrate the filter.

        Args:
            data: The rows that the model learnt from and those that it held out.
            context: Its models and their held-out tables are read; its seed draws the attacks.

        Returns:
            Findings `poisoning.evasion` (the share of rows that stand at the largest epsilon) and
            `poisoning.input_filter` (the share of honest rows that the filter refuses), and the
            filter, which `filter_of` opens.

        Raises:
            DeclarationError: No step before trained such a model.
            DataError: The model's file does not fit its facts.
            TrustError: The code of the user's network changed.

        Example:
            >>> import pyarrow as pa
            >>> EvasionAttacks().run(Dataset.of(pa.table({"a": [1]})), Context(1, Path(".")))
            Traceback (most recent call last):
            ...
            datapipe.errors.DeclarationError: no step before this one trained a model [DP-DECL-020]
            <BLANKLINE>
            hint: put a training stage such as TrainPlain() before it
        """
        chosen = context.model(self.model)
        module, encoding = load_model(chosen.path, chosen.facts)
        held = held_out_rows(chosen, encoding, data, context)
        with torch_threads():
            hit = self._attacked(module, encoding, held, context)
            known = _known_rows(chosen, encoding, data, context)
            screen = self._screen(module, known, held, context)
            caught = {} if isinstance(screen, str) else self._caught(module, screen, hit)
        ours = not chosen.facts["evaluated_on"].get("file")  # else ids are places in that file
        findings = (
            self._robust(hit, chosen.name, ours=ours),
            self._told(screen, caught, chosen, ours=ours),
        )
        if isinstance(screen, str):
            return Yield(findings=findings)
        return Yield(findings=findings, artifacts=(self._written(screen, chosen, context),))

    @staticmethod
    def filter_of(artifact: Artifact) -> InputFilter:
        """Open the filter that this stage left beside a model; rows erased since are left out.

        Args:
            artifact: `<model>.filter` of a run.

        Returns:
            The filter; `p_values(Views(values, last_hidden(module, rows)))` judges inputs.

        Raises:
            DataError: The file holds no filter.

        Example:
            >>> import tempfile
            >>> file = Path(tempfile.mkdtemp()) / "f.parquet"
            >>> _ = file.write_bytes(b"no")
            >>> EvasionAttacks.filter_of(Artifact("plain.filter", "table", file))
            Traceback (most recent call last):
            ...
            datapipe.errors.DataError: f.parquet holds no input filter [DP-NET-004]
            <BLANKLINE>
            hint: give the artifact '<model>.filter' of a run
        """
        try:
            held = pl.read_parquet(artifact.path, columns=["before", "behind"]).drop_nulls()
            known = Views(held["before"].to_numpy(), held["behind"].to_numpy())
            before, behind = (float(u) for u in artifact.facts["usual"])
            calibration = np.asarray(artifact.facts["calibration"], np.float32)
        except (pl.exceptions.PolarsError, KeyError, ValueError, OSError) as error:
            raise DataError(
                f"{artifact.path.name} holds no input filter",
                code="DP-NET-004",
                hint="give the artifact '<model>.filter' of a run",
            ) from error
        return InputFilter(known, (before, behind), calibration)

    def _attacked(
        self, module: nn.Module, encoding: Encoding, held: HeldOut, context: Context
    ) -> _Hit | str:
        """What the attacks did, or why there were none."""
        some = context.rng("rows").permutation(np.flatnonzero(held.y >= 0))[: self.rows]
        some = np.sort(some)
        if some.size < FEWEST_ATTACKED:
            return f"{some.size} held-out rows, {FEWEST_ATTACKED} are the least"
        aim = target_of(module, encoding, held.frame[some])
        if aim is None:
            return f"nothing that the model reads of a {encoding.kind} can be moved a little"
        target, start = aim
        target = replace(target, norm=self.norm, steps=self.steps, queries=self.queries)
        y, made = held.y[some], {}
        if np.unique(y).size > 1 and one_answer(target, start):
            return "the model gives every row the same answer: there is none that could change"
        for epsilon in self.epsilons:
            context.say(f"{self.name}: epsilon {epsilon:g}")
            asked = Asked(self.attacks, context.rng(f"epsilon {epsilon!r}"))
            made[epsilon] = attacked(target, start, y, epsilon, asked)
        return _Hit(target, held.row_ids.gather(some), right(target, start, y), made)

    def _robust(self, hit: _Hit | str, model: str, *, ours: bool) -> Finding:
        """The share of rows that stand, held against the floor."""
        if isinstance(hit, str):
            return Finding.not_evaluated(KINDS[0], hit)
        n = hit.right.size
        told, survived = [], hit.right.astype(np.int64)
        stands, rate = hit.right, Estimate.rate(int(hit.right.sum()), n)
        lowest = rate
        for epsilon, made in hit.attacked.items():
            stands = stands & made.all_stand  # what a small change breaks, a larger one may
            survived += stands
            rate = Estimate.rate(int(stands.sum()), n)
            lowest = rate
            told.append(
                {
                    "epsilon": epsilon,
                    "robust_accuracy": rate.to_json(),
                    **{k: Estimate.rate(int(v.sum()), n).to_json() for k, v in made.stands.items()},
                }
            )
        masked = _masked(hit)
        verdict, says = self._judged(lowest, masked=masked)
        largest = self.epsilons[-1]
        return Finding(
            KINDS[0],
            verdict,
            lowest,
            f"{model} is right on {hit.right.mean():.1%} of {n} held-out rows, and on"
            f" {lowest.value:.1%} whatever the attacks do within {largest:g} ({self.norm}){says}",
            severity=SEVERITY.get(verdict, "info"),
            rows=scored_rows(hit.row_ids, 1.0 - survived / (1 + len(told))) if ours else None,
            details={
                "model": model,
                "norm": self.norm,
                "floor": self.floor,
                "accuracy": Estimate.rate(int(hit.right.sum()), n).to_json(),
                "epsilons": told,
                "gradients_masked": masked,
            },
            remedy="train with attacked rows, or let the input filter refuse what is strange"
            if verdict in SEVERITY
            else "",
        )

    def _judged(self, rate: Estimate, *, masked: bool) -> tuple[Verdict, str]:
        if rate.high < self.floor:
            return "fail", ""
        if masked:
            return "suspect", "; questions alone do more than slopes: the network hides its slopes"
        if rate.low < self.floor:
            return "not_evaluated", f"; neither more nor less than {self.floor:.0%} is shown"
        return "clean", ""

    def _screen(
        self, module: nn.Module, known: HeldOut, held: HeldOut, context: Context
    ) -> _Screen | str:
        """The filter, calibrated on half of the held-out rows, and what it says of the others."""
        half = context.rng("halves").permutation(len(held))[: 2 * MOST_ROWS]
        first, second = np.sort(half[::2]), np.sort(half[1::2])
        least = int(np.ceil(1.0 / self.false_alarms)) - 1
        if len(known) < FEWEST_KNOWN:
            return f"{len(known)} rows that it learnt from are here, {FEWEST_KNOWN} are the least"
        if first.size < least or second.size < 1:
            return f"{len(held)} held-out rows; a rate of {self.false_alarms:g} takes {2 * least}"
        seen = _views(module, held.x)
        made = InputFilter.fitted(_views(module, known.x), seen.of(first))
        p_values = made.p_values(seen.of(second))
        return _Screen(made, known.row_ids, held.row_ids.gather(second), p_values)

    def _caught(
        self, module: nn.Module, screen: _Screen, hit: _Hit | str
    ) -> dict[str, dict[str, Any]]:
        """Of the rows that attacks broke, the share that the filter refuses."""
        told: dict[str, dict[str, Any]] = {}
        if isinstance(hit, str):
            return told
        for epsilon, made in hit.attacked.items():
            told[f"{epsilon:g}"] = {}
            for name, stands in made.stands.items():
                broke = np.flatnonzero(hit.right & ~stands)
                caught = Estimate.rate(0, 0)
                if broke.size:
                    with torch.no_grad():
                        rows = hit.target.inputs(made.moved[name][torch.from_numpy(broke)]).numpy()
                    p = screen.filter.p_values(_views(module, Encoded(rows.shape[1:], rows)))
                    caught = Estimate.rate(int((p <= self.false_alarms).sum()), broke.size)
                told[f"{epsilon:g}"][name] = caught.to_json()
        return told

    def _told(
        self, screen: _Screen | str, caught: dict[str, Any], model: Artifact, *, ours: bool
    ) -> Finding:
        if isinstance(screen, str):
            return Finding.not_evaluated(KINDS[1], screen)
        refused = screen.p_values <= self.false_alarms
        rate = Estimate.rate(int(refused.sum()), refused.size)
        m = screen.filter.calibration.size
        rank = int(self.false_alarms * (m + 1))  # so many of m + 1 fall under the level
        p_value = beta_binomial_tail(int(refused.sum()), refused.size, rank, m + 1 - rank)
        verdict: Verdict = "suspect" if p_value <= BROKEN else "clean"
        rows = None
        if ours:
            rows = scored_rows(
                screen.row_ids,
                1.0 - screen.p_values,
                flagged=refused,
                p_values=screen.p_values,
                reason="far from all that the model learnt from",
            )
        return Finding(
            KINDS[1],
            verdict,
            rate,
            f"the filter refuses {int(refused.sum())} of {refused.size} honest rows that it was not"
            f" calibrated on; {self.false_alarms:.1%} were asked for",
            severity=SEVERITY.get(verdict, "info"),
            p_value=p_value,
            rows=rows,
            details={
                "model": model.name,
                "false_alarms": self.false_alarms,
                "calibrated_on": int(screen.filter.calibration.size),
                "refused": caught,
            },
        )

    def _written(self, screen: _Screen, model: Artifact, context: Context) -> Artifact:
        name = f"{model.name}.filter"
        path = context.scratch / f"{name}.parquet"
        facts = {"model": model.name, "level": self.false_alarms}
        facts |= _saved(screen.filter, path, screen.known)
        return Artifact(
            name,
            "table",
            path,
            "application/vnd.apache.parquet",
            facts=facts,
            parents=(model.name,),
        )


@dataclass(frozen=True, eq=False)
class _Hit:
    """The rows attacked, which of them are answered rightly at rest, and what attacks did."""

    target: Target
    row_ids: pl.Series
    right: Bools
    attacked: Mapping[float, Attacked]


@dataclass(frozen=True, eq=False)
class _Screen:
    """A calibrated filter, and the p-values of honest rows that it was not calibrated on."""

    filter: InputFilter
    known: pl.Series
    row_ids: pl.Series
    p_values: NDArray[np.float64]


def _known_rows(model: Artifact, encoding: Encoding, data: Dataset, context: Context) -> HeldOut:
    """Some of the rows that the model learnt from, as it reads them."""
    frame = data.frame(encoding.columns, row_id=True)
    learnt = np.zeros(0, np.int64)
    if model.row_ids is not None:
        learnt = np.flatnonzero(frame[ROW_ID].is_in(model.row_ids.implode()).to_numpy())
    some = frame[np.sort(context.rng("known").permutation(learnt)[:MOST_ROWS])]
    none = np.full(some.height, -1)
    return HeldOut(encoding.encode(some), none, some, some[ROW_ID])


def _saved(made: InputFilter, path: Path, row_ids: pl.Series) -> dict[str, Any]:
    """Write the known rows, a line each so that one can be erased; the rest goes into facts."""
    sides = {"before": made.known.before, "behind": made.known.behind}
    columns = [
        pl.Series(name, side, dtype=pl.Array(pl.Float32, side.shape[1]))
        for name, side in sides.items()
    ]
    pl.DataFrame([row_ids.cast(pl.UInt64).alias("row_id"), *columns]).write_parquet(path)
    return {"usual": list(made.usual), "calibration": made.calibration.tolist()}


def _views(module: nn.Module, rows: Encoded) -> Views:
    """Rows before a network and at its last layer."""
    before = rows.take(np.arange(len(rows)))
    return Views(before.reshape(len(rows), -1), last_hidden(module, rows))


def _masked(hit: _Hit) -> bool:
    """Whether questions alone break more rows than slopes do, at any epsilon."""
    told = [made.stands for made in hit.attacked.values()]
    return any(
        paired_difference(s["query"], s["pgd"]).low > 0 for s in told if {"query", "pgd"} <= set(s)
    )
