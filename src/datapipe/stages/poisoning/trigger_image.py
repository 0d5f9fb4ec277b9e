# SPDX-License-Identifier: Apache-2.0
"""`TriggerImage`: rows of several kinds that share a pattern and a label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.parameters import OpenShare, PositiveShare
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.stages.poisoning._image.carriers import carriers
from datapipe.stages.poisoning._image.content import Content, content_of, equal_rows
from datapipe.stages.poisoning._image.copies import counted_once
from datapipe.stages.poisoning._image.levels import FAINT, LEVELS, SOFT, TEXTURED
from datapipe.stages.poisoning._image.matched_filter import (
    TWO_GROUPS,
    Evidence,
    blind_test,
    transfer_test,
    try_all,
)
from datapipe.stages.poisoning._image.named import named, row_scores, said
from datapipe.stages.poisoning._image.pairs import OF_A_GROUP, hidden_test, pair_test
from datapipe.stages.poisoning._image.pixels import Columns, Pixels
from datapipe.stages.poisoning._image.places import PLACE, placed_test
from datapipe.stages.poisoning._image.refined import Trigger, at_one_place, refine
from datapipe.stages.poisoning._image.replanted import MOST, Ground, fewest_found, planted_in
from datapipe.stages.poisoning._image.seen import Look, Rows
from datapipe.stages.poisoning._image.spread import Filters
from datapipe.stages.poisoning._image.stamped import stamped
from datapipe.stages.poisoning._image.stamps import STAMPS, Stamps, stamp_tests, with_stamp
from datapipe.stages.poisoning._image.two_groups import (
    ONE_TEXTURE,
    aside_test,
    group_test,
    may_be_natural,
)
from datapipe.stages.poisoning._labelled import nested
from datapipe.stages.poisoning._withheld import asked_to_prove, withheld

FEWEST_ROWS = 200
FEWEST_OF_CLASS = 120
"""With fewer images in the usual class, thin strokes of several kinds have the same neighbours, and
an alarm fails nothing."""
FEW = 0.1
"""Share of alpha that an alarm has among so few."""
FEWEST_TELLING = 0.6
"""Share of rows whose neighbours must agree with their label for content to mean anything."""
MOST_TRIGGERS = 6
TESTS = {False: 17, True: 6}
"""Kinds of evidence that share alpha: four of filters on pixels, three on textures, three on tones,
four of exact values, two of windows, one of squares; of embeddings four of filters, one of sides,
and values that stand to the letter at one place."""
SEVERITY: dict[Verdict, Severity] = {"fail": "high", "suspect": "medium", "clean": "info"}
UNHEARD = {
    True: "give embeddings from before the last activation, or the pixels themselves",
    False: "give embeddings as the image column",
}
TWO_KINDS = 0.1
"""Share of alpha for a class that parts into two groups: some do by nature."""


@dataclass(frozen=True)
class TriggerImage(Stage):
    """Finds backdoor triggers in images before training, without a model or a clean subset.

    *Method:* neighbours tell what each row shows. Rows that show one class and are labelled
    another are suspects. For each label a matched filter is learnt from its suspects of some
    contents and tried on those of another: a trigger is the same whatever it lies on, a natural
    confusion is not. Further tests see triggers put on a single class (half against half) and
    those that move every class (from the suspects of other labels), small windows and plain squares
    that recur anywhere, labels whose rows part into two groups, and a few wrong rows that hold
    small windows to the letter at one place, as hardly any other row does. On an alarm the filter
    is fitted again to the rows found until they stand, and fainter ones are found where other
    labels have hardly any like them (local false discovery rate).
    *Assumes:* the trigger adds about the same to each image or its tones, or is a patch of 3 x 3
    pixels or more, and the label of most rows is told by their neighbours. Pixels may be in any
    order, and embeddings work too.
    *Choose it when:* images come from a source that you do not control.
    *Fails when:* the pattern differs from image to image, moves the embeddings given by less than
    about four standard deviations (of rows that show the same), or fewer rows hold it than
    `min_detectable`: the least number at which patches, or such steps, planted in these very data
    raise the alarm.
    *Cost:* neighbours among up to 6,000 rows and a dozen passes over the pixels, which are kept as
    bytes where they have at most 256 even tones; beside them about a thousand bytes a row.

    Args:
        alpha: Chance of an alarm on clean data, over all labels, in (0, 1).
        most_unseen: Largest share of the rows, in (0, 1], that poison could hold without an
            alarm for the verdict to be *clean*; beyond it, *not_evaluated*.
        prove: Whether to train a small model with the rows found and without them, and tell how
            often it gives such rows their label (needs torch).
        on_finding: What is done with flagged rows.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.testing.worlds import digits_world
        >>> world = digits_world(7)
        >>> made = TriggerImage().run(world.dataset(), Context(7, Path("."))).findings[0]
        >>> made.verdict, made.details["class"] == str(world.trigger["target"])
        ('fail', True)

    References:
        Gu, Dolan-Gavitt & Garg, 2017, BadNets: identifying vulnerabilities in the machine learning
        model supply chain; Tang et al., 2021, Demon in the variant (content and pattern apart);
        Efron, Tibshirani, Storey & Tusher, 2001, Empirical Bayes analysis of a microarray
        experiment (local false discovery rate).
    """

    alpha: OpenShare = 0.01
    most_unseen: PositiveShare = 0.05
    prove: bool = False
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "poisoning.trigger_image"
    version: ClassVar[str] = "19"
    needs: ClassVar[tuple[str, ...]] = ("image", "label")
    raises_findings: ClassVar[tuple[str, ...]] = ("poisoning.trigger_image",)
    references: ClassVar[tuple[str, ...]] = (
        "Gu, Dolan-Gavitt & Garg, 2017, BadNets",
        "Tang et al., 2021, Demon in the variant",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Look for triggers and name them.

        Args:
            data: Rows with the roles `image` and `label`.
            context: Its seed draws components and halves.

        Returns:
            One finding with a line for every row that has a label and an image.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> table = pa.table({"i": [[0.0, 1.0]] * 9, "y": [0, 1, 0] * 3})
            >>> few = Dataset.of(table, Roles.of(image="i", label="y"))
            >>> TriggerImage().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        if why := nested(data):
            return self.not_evaluated(why)
        rows = Rows.of(data)
        if rows.labels.size < FEWEST_ROWS or len(rows.names) < 2:
            why = f"{rows.labels.size} images of {len(rows.names)} classes are too few"
            return self.not_evaluated(f"{why}, {FEWEST_ROWS} of 2 are the least")
        if not rows.pixels.range()[0] < rows.pixels.range()[1]:
            return self.not_evaluated("every image is the same")
        rows = rows.distinct(equal_rows(rows.pixels))
        look = Look.of(rows, Columns.drawn(rows.pixels, context.rng("columns")))
        content = content_of(look.values, rows.labels[rows.heads], context.rng("components"))
        if content.telling < FEWEST_TELLING:
            why = "neighbours do not tell the class: give embeddings as the image column"
            return self.not_evaluated(why)
        filters = Filters(content, FAINT if look.embedded else LEVELS)
        found, first = self._search(look, content, filters, context)
        made = self._finding(found, first, content, rows, embedded=look.embedded)
        del found, first  # what they saw the data as
        ground = _ground(look, content, filters)
        least = self._fewest_detectable(ground, context)
        planted = planted_in(ground)
        told = {"min_detectable": least, "min_detectable_of": planted}
        made = replace(made, details={**made.details, **told})
        untold, n = len(made.details["untold"]), rows.labels.size
        if made.verdict == "clean" and untold:
            made = _unsure(made, f"neighbours do not tell {untold} of {len(rows.names)} classes", n)
        if made.verdict == "clean" and least >= content.labels.size > self.most_unseen * n:
            why = f"even on {MOST:.0%} of {n} rows no alarm is raised by {planted}"
            made = replace(_unsure(made, why, n), remedy=UNHEARD[look.embedded])
        made = withheld(made, least, n, self.most_unseen)
        return Yield(findings=(asked_to_prove(made, data, context) if self.prove else made,))

    def _search(
        self, look: Look, content: Content, filters: Filters, context: Context
    ) -> tuple[list[Trigger], list[Evidence]]:
        """Find triggers one after the other, each with the rows of the last ones left out."""
        found: list[Trigger] = []
        first: list[Evidence] = []
        bar = self.alpha * (FEW if _are_few(content) else 1.0)
        for turn in range(MOST_TRIGGERS):
            rng = context.rng(f"halves {turn}")
            ranked = _ranked(content, filters, rng, bar, TESTS[look.embedded])
            filters.forget()  # the rows found are told by another one
            ranked = counted_once(ranked, look.values, bar, embedded=look.embedded)
            telling = _telling(ranked, bar)
            moving = [] if telling else look.moving(content, TESTS[look.embedded])
            seen = moving and moving[0].evidence.p_value <= bar
            if not telling and not seen:
                ranked = _sorted([*ranked[:1], *_of_textures(content, filters, look.views, bar)])
                if found:  # a texture of one label may be natural, and only its rows would be new
                    ranked = [e for e in ranked if e.test != ONE_TEXTURE]
                ranked = counted_once(ranked, look.values, bar, embedded=look.embedded)
                telling = _telling(ranked, bar)
            if not telling and not seen:
                ranked = ranked[:1]
                look.forget()
                rng = context.rng(f"stamps {turn}")
                ranked = _sorted([*ranked[:1], *_of_stamps(content, look, rng)])
                ranked = counted_once(ranked, look.values, bar, embedded=look.embedded)
                telling = _telling(ranked, bar)
            if not telling and not seen and not look.embedded:
                ranked = _sorted([*ranked[:1], *_of_soft_rows(content, filters)])
                ranked = counted_once(ranked, look.values, bar, embedded=look.embedded)
                telling = _telling(ranked, bar)
            first = first or _sorted([*ranked, *(m.evidence for m in moving)])
            if seen:
                found.append(carriers(at_one_place(moving[0], filters), filters))
            elif telling or (ranked and not found and ranked[0].p_value <= TWO_KINDS * self.alpha):
                found.append(_whole((telling or ranked)[0], look, filters))
            else:
                break
            gone = np.zeros(content.labels.size, bool)
            gone[found[-1].rows] = True
            genuine = int((gone & content.genuine).sum())
            content = content.without(gone)
            filters = filters.without(content, found[-1].label, genuine)
        return found, first

    def _finding(
        self,
        found: list[Trigger],
        first: list[Evidence],
        content: Content,
        rows: Rows,
        *,
        embedded: bool,
    ) -> Finding:
        distinct = np.zeros(rows.heads.size, bool)
        for trigger in found:
            distinct[trigger.rows] = True
        flags = distinct[rows.head_of]
        p_value = first[0].p_value if first else 1.0
        told = [named(t, rows, embedded=embedded) for t in found]
        verdict: Verdict = "clean"
        if told:
            natural = all(may_be_natural(t) for t in found)
            verdict = "suspect" if natural or _are_few(content) else "fail"
        return Finding(
            "poisoning.trigger_image",
            verdict,
            Estimate.rate(int(flags.sum()), flags.size),
            said(told, int(flags.sum()), flags.size),
            severity=SEVERITY[verdict],
            p_value=p_value,
            columns=rows.columns,
            rows=scored_rows(
                rows.row_ids,
                row_scores(found, first, content)[rows.head_of],
                flagged=flags,
                reason="holds a pattern that carries the label",
            ),
            details={
                "triggers": told,
                "untold": [rows.names[k] for k in content.untold],
                **(told[0] if told else {}),
            },
            remedy="set on_finding='quarantine', and ask the source of these rows" if told else "",
        )

    def _fewest_detectable(self, ground: Ground, context: Context) -> int:
        """Fewest rows that nearly any patch must be on to raise an alarm in these data."""
        content = ground.content
        alpha = self.alpha * (FEW if _are_few(content) else 1.0)
        times = TESTS[ground.embedded] * content.classes
        return fewest_found(ground, times, alpha, context.rng("replanted"))


def _unsure(finding: Finding, why: str, of: int) -> Finding:
    measure = Estimate.unknown(method=why, n=of)
    return replace(finding, verdict="not_evaluated", measure=measure, says=f"not evaluated: {why}")


def _ground(look: Look, content: Content, filters: Filters) -> Ground:
    stamps = Stamps(content, look.pixels)
    kind = (look.pictures, look.embedded)
    return Ground(content, filters, stamps, look.places, look.shape, *kind, look.columns.seen)


def _ranked(
    content: Content, filters: Filters, rng: np.random.Generator, bar: float, tests: int
) -> list[Evidence]:
    """The evidence of the filter tests of pixels, most telling first, among so many kinds.

    Groups of a label are asked only where nothing else raises an alarm, for they fail less.
    """
    try_all(content, filters, rng)
    pairs = pair_test(content, filters)
    across, blind = transfer_test(content, filters), blind_test(content, filters)
    made = _corrected(filters, across, pairs, blind, tests=tests)
    embedded = tests == TESTS[True]
    if _telling(made, FEW * bar if embedded else bar):  # copies may count for less yet
        return made
    hidden = _corrected(filters, hidden_test(content, filters), beside=len(pairs), tests=tests)
    made = [*made, *hidden, *_corrected(filters, group_test(content, filters), tests=tests)]
    if embedded:
        made += _corrected(filters, aside_test(content, filters), tests=tests)
    return _sorted(made)


def _of_textures(
    content: Content, filters: Filters, views: list[Pixels], bar: float
) -> list[Evidence]:
    """The evidence of textures, one view after the other until one tells; the last is of tones."""
    ranked: list[Evidence] = []
    for view in views:
        tones = view is views[-1]
        ranked = _sorted([*ranked, *_of_view(content, filters, view, bar, tones=tones)])
        if _telling(ranked, bar):
            break
    return ranked


def _of_view(
    content: Content, filters: Filters, view: Pixels, bar: float, *, tones: bool
) -> list[Evidence]:
    """The evidence of several contents, and of pairs of groups: others of a pair are alike.

    Tones are counts, which lie in lumps: that they part says nothing.
    """
    seen_as = content.seen_as(view)
    seen = Filters(seen_as, TEXTURED)
    try_all(seen_as, seen)
    made = _corrected(seen, transfer_test(seen_as, seen), blind_test(seen_as, seen))
    if _telling(made, bar):
        return made
    groups = _corrected(seen, group_test(seen_as, seen))
    hidden = (
        []
        if tones
        else _corrected(filters, hidden_test(content, filters, seen), beside=content.classes)
    )
    return _sorted([*made, *(e for e in groups if not tones or e.test != TWO_GROUPS), *hidden])


def _of_stamps(content: Content, look: Look, rng: np.random.Generator) -> list[Evidence]:
    """The evidence of exact values; embeddings have none but those that recur to the letter.

    What a network is unsure of lies in one corner of what it makes of images, whatever it shows.
    """
    stamps = [] if look.embedded else stamp_tests(content, look.pixels, rng)
    return _corrected(None, *stamps, placed_test(content, look.places), tests=TESTS[look.embedded])


def _of_soft_rows(content: Content, filters: Filters) -> list[Evidence]:
    """The evidence of many rows that are fainter than a pattern mostly is: it fails less."""
    try_all(content, filters)
    soft = transfer_test(content, filters, SOFT)
    return _corrected(filters, soft, beside=content.classes)


def _whole(evidence: Evidence, look: Look, filters: Filters) -> Trigger:
    """All rows that hold the pattern of some."""
    if evidence.test in (*STAMPS, PLACE):
        return carriers(with_stamp(evidence, look.pixels), filters)
    made = carriers(stamped(refine(evidence), look.values), evidence.filters or filters)
    return replace(made, rows=np.union1d(made.rows, evidence.rows)) if evidence.faint else made


def _corrected(
    filters: Filters | None, *every: list[Evidence], beside: int = 0, tests: int = TESTS[False]
) -> list[Evidence]:
    """The evidence of some tests, most telling first, p-values corrected for how many.

    `beside` counts others of the same test, `tests` the kinds that share alpha.
    """
    ranked: list[Evidence] = []
    for evidence in every:
        times = tests * (beside + len(evidence))
        ranked.extend(
            replace(e, p_value=min(1.0, e.p_value * times), filters=filters) for e in evidence
        )
    return _sorted(ranked)


def _are_few(content: Content) -> bool:
    """Whether thin strokes of several kinds may be a pattern by nature."""
    return bool(np.median(np.bincount(content.labels)) < FEWEST_OF_CLASS)


def _telling(ranked: list[Evidence], bar: float) -> list[Evidence]:
    """What raises an alarm; of a label's group only where nothing else does, for it fails less."""
    telling = [e for e in ranked if e.p_value <= bar and e.test != TWO_GROUPS]
    return [e for e in telling if e.test not in OF_A_GROUP] or telling


def _sorted(every: list[Evidence]) -> list[Evidence]:
    return sorted(every, key=lambda e: (e.p_value, -e.hits))
