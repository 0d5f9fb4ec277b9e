# SPDX-License-Identifier: Apache-2.0
"""One look at all candidates: which carry a label, and which of these were put there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr  # type: ignore[import-untyped]  # scipy ships no types

from datapipe.stages.poisoning._tails import log_tails
from datapipe.stages.poisoning._text.alike import MOST_COMPARED, different, usual_likeness
from datapipe.stages.poisoning._text.along import with_company
from datapipe.stages.poisoning._text.association import (
    DENIED,
    DENYING,
    WHOLE,
    Tested,
    rest_of,
    tested,
)
from datapipe.stages.poisoning._text.beside import Beside, beside
from datapipe.stages.poisoning._text.candidates import LEAST_ROWS, PIECE, Candidates
from datapipe.stages.poisoning._text.characters import LONGEST_WORD
from datapipe.stages.poisoning._text.grams import Places
from datapipe.stages.poisoning._text.misplaced import Misplaced
from datapipe.stages.poisoning._text.shares import (
    NATURAL,
    Shares,
)
from datapipe.stages.poisoning._text.word_model import Model, class_shares
from datapipe.stages.poisoning._text.words import END

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PLANTED = 0.5
"""How much more a trigger's rows must contradict their label than it fits its neighbours."""
STRONGLY = 0.75
"""The same where what came along with it was taken out, which leaves less."""
TELLING = 0.2
"""How much likelier by their words a label must be in its own texts than in others, or texts do not
tell what they contradict."""
SHARED_OUT, ALONE = 0.5, 0.5
"""Texts of a label are made of templates where telling patterns hold more than this share of them,
and none of these more than this share of what they hold together."""
GENUINE = -2.0
"""Ln of the e-value against *all of them are genuine* below which this is likelier than not."""
WHOLE_RUN = 3
"""Words and signs of a run that is no text's own."""
SAME_ROWS = 0.9
MOST_PATTERNS = 12


@dataclass(frozen=True, eq=False)
class Pattern:
    """A candidate that carries a label.

    `rows` hold it and the label, `held` counts all rows that hold it. `log_p` is corrected for all
    tests; `against` is 0 where the rest of its rows speaks for the label as that of any row of it,
    1 where it speaks as rows of other labels do; `fit` in [0, 1] is the share of candidates that
    fit their neighbours worse; `gain` is what deleting it does to the log likelihood of its text.
    `planted` tells whether it was put there: its rows contradict their label and it fits badly, or
    some stand out. `likely` are all rows that hold it, and the chance that it was put into each.
    """

    candidate: int
    label: int
    rows: Ints
    held: int
    log_p: float
    against: float
    fit: float
    gain: float
    planted: bool
    likely: tuple[Ints, Floats]


@dataclass(frozen=True, eq=False)
class Asked:
    """The candidates that something could be told of, their shares of alpha and their tests.

    The others, of `candidates` in all, are no longer needed.
    """

    found: Candidates
    shares: Shares
    tests: Tested
    candidates: int

    @classmethod
    def of(cls, model: Model, labels: Ints, found: Candidates, shares: Shares) -> Asked:
        """Test all candidates."""
        tests = tested(model, labels, found, shares)
        which, tests.which = np.unique(tests.which, return_inverse=True)
        return cls(found.only(which), shares.only(which), tests, found.size.size)


@dataclass(frozen=True, eq=False)
class Ground:
    """What stays the same from round to round; `alike` is a cosine and `bar` is ln alpha.

    `means` are the mean chances of each label in its own texts and in others, each of shape (K,).
    `templates`, bool, shape (K,), tells of which labels the texts are made of templates, `many` of
    which so many patterns seem planted that none was.
    """

    found: Candidates
    model: Model
    labels: Ints
    shares: Shares
    means: tuple[Floats, Floats]
    alike: float
    bar: float
    templates: Bools
    many: Bools

    @classmethod
    def of(cls, asked: Asked, model: Model, labels: Ints, alpha: float) -> Ground:
        """Before a first round has told of templates and of many patterns: of no label."""
        none = np.zeros(model.logits.shape[1], bool)
        alike, bar = usual_likeness(model), float(np.log(alpha))
        means = _class_means(model, labels)
        return cls(asked.found, model, labels, asked.shares, means, alike, bar, none, none)


@dataclass(frozen=True, eq=False)
class Round:
    """One pass over all candidates: tests, corrected ln p, and what each says of its rows.

    Rows of `gone` are told of already, and those of `explained` hold a shortcut that is.
    """

    ground: Ground
    gone: Bools
    explained: Bools
    tests: Tested
    log_p: Floats
    against: Floats

    @classmethod
    def of(cls, ground: Ground, seen: tuple[Bools, Bools], tests: Tested) -> Round:
        own, other = ground.means
        hits, mean = np.zeros((2, tests.which.size))
        for span, told in tests.blocks():
            many = span.stop - span.start
            hits[span] = np.bincount(told.of, told.hit, minlength=many)
            mean[span] = np.bincount(told.of, told.rest * told.hit, minlength=many)
        mean /= np.maximum(hits, 1)
        mean = np.where(
            tests.over != DENYING, mean, tests.said
        )  # what is denied would say so by itself
        apart = np.maximum(own - other, 1e-3)[tests.label]
        against = np.clip((own[tests.label] - mean) / apart, 0.0, 1.0)
        log_p = np.minimum(0.0, tests.log_p - tests.log_share)
        return cls(ground, *seen, tests, log_p, against)

    @property
    def planted(self) -> Bools:
        """Which tests, if they told, would be called a trigger and not a shortcut."""
        fit = np.where(self.tests.over == WHOLE, self.ground.shares.fit[self.tests.which], 0.0)
        own, other = self.ground.means
        telling = ((own - other >= TELLING) & ~self.ground.many)[self.tests.label]
        return np.asarray((self.against - fit >= PLANTED) & telling, bool)

    def shared_out(self, which: Bools) -> Bools:
        """Of which labels some telling tests share out most of the texts: bool, shape (K,).

        A poisoner adds texts of few kinds to those that a label has. Where there are many kinds and
        little else, texts are made of templates, and what a pattern leaves of them tells little.
        """
        labels, counts = self.ground.labels, np.bincount(self.ground.labels)
        held, most = np.zeros(labels.size, bool), np.zeros(counts.size)
        some = (self.log_p <= self.ground.bar) & which & (self.tests.over != DENYING)
        for test in np.flatnonzero(some).tolist():
            told, label = self.tests.entries(test, test + 1), self.tests.label[test]
            held[told.row[told.hit]] = True
            most[label] = max(most[label], int(told.hit.sum()))
        total = np.bincount(labels[held], minlength=counts.size)
        return np.asarray((total > SHARED_OUT * counts) & (most <= ALONE * total), bool)

    def loudest(self, told: Bools) -> Pattern | None:
        """The most telling candidate that still tells when texts that are alike count once.

        Tests of `told` have been told of.
        """
        telling = np.flatnonzero((self.log_p <= self.ground.bar) & ~told)
        for test in telling[np.argsort(self.log_p[telling], kind="stable")]:
            self.log_p[test] = self._of_different_texts(int(test))
            if self.log_p[test] <= self.ground.bar:
                test = self._wider(int(test), telling)  # noqa: PLW2901 - the same, in more rows
                made = self._pattern(self._widest(test, telling), float(self.log_p[test]))
                small = self.ground.shares.small[made.candidate]
                # What people write, and not what they say, is no shortcut.
                if not self._is_part(made) and (made.planted or not small):
                    return made
                self.log_p[test] = 0.0
        return None

    def _is_part(self, made: Pattern) -> bool:
        """Whether it stands in texts of shortcuts: what is left of these contradicts its label.

        Most of its rows hold one, and more of them than of texts of other labels, or none is left.
        """
        inside, other = self.explained[made.rows], self.ground.labels != made.label
        if not inside.size or 2 * int(inside.sum()) < inside.size:
            return not inside.size
        usual = (self.explained[other].sum() + 1.0) / (other.sum() + 2.0)
        one, rate = np.zeros(inside.size, np.int64), np.full(inside.size, usual)
        return bool(log_tails(one, rate, inside, 1)[0] <= self.ground.bar)

    def _of_different_texts(self, test: int) -> float:
        """Corrected ln p where of rows with nearly the same other words only the mildest counts."""
        tests, ground = self.tests, self.ground
        g, told = int(tests.which[test]), tests.entries(test, test + 1)
        at = np.linspace(0, told.row.size - 1, min(told.row.size, MOST_COMPARED)).astype(np.int64)
        hit, rate = told.hit[at], told.rate[at]
        texts = ground.model.bag.take(told.row[at])
        counts = different(texts, ground.found.owns(g), (hit, rate), ground.alike)
        if int(hit[counts].sum()) < LEAST_ROWS:
            return 0.0
        one = np.zeros(int(counts.sum()), np.int64)
        log_p = log_tails(one, rate[counts], hit[counts], 1)[0]
        return float(min(0.0, log_p - tests.log_share[test]))

    def _shared(self, rows: Ints | Places) -> Ints:
        """How many of some rows each test is over."""
        inside = np.zeros(self.gone.size, bool)
        inside[rows] = True
        made = np.zeros(self.tests.which.size, np.int64)
        for span, told in self.tests.blocks():
            made[span] = np.bincount(told.of[inside[told.row]], minlength=span.stop - span.start)
        return made

    def _wider(self, test: int, telling: Ints) -> int:
        """The form that stands in a test's rows and in others that tell by themselves, if any.

        Some of the numbers of a form have digits in common, which tell less than the form.
        """
        tests, rows = self.tests, self.tests.entries(test, test + 1).row
        wider = (self._shared(rows) >= SAME_ROWS * rows.size) & (np.diff(tests.ends) > rows.size)
        wider &= self.ground.found.size[tests.which] == 0
        wider &= self.planted | ~self.ground.shares.small[tests.which]
        wider &= (tests.label == tests.label[test]) & (tests.over == WHOLE)
        for other in (some := telling[wider[telling]])[np.argsort(tests.log_p[some])].tolist():
            told = tests.entries(other, other + 1)
            more = ~np.isin(told.row, rows)
            one = np.zeros(int(more.sum()), np.int64)
            if log_tails(one, told.rate[more], told.hit[more], 1)[0] <= self.ground.bar:
                self.log_p[other] = self._of_different_texts(other)
                if self.log_p[other] <= self.ground.bar:
                    return int(other)
        return test

    def _widest(self, test: int, telling: Ints) -> int:
        """Of the telling tests that stand in nearly the same rows, the longest run or piece.

        It lacks none of the rows that carry the label although the rest denies it.
        """
        tests, found = self.tests, self.ground.found
        mine = tests.entries(test, test + 1)
        shared, total = self._shared(mine.row), np.diff(tests.ends)
        same = (shared >= SAME_ROWS * mine.row.size) & (shared >= SAME_ROWS * total)
        same &= tests.label == tests.label[test]
        near = telling[same[telling]]
        needed = mine.row[mine.hit & (mine.rest < DENIED)]
        near = near[[np.isin(needed, found.rows(g)).all() for g in tests.which[near].tolist()]]
        sizes = np.array([_length(found, g) for g in tests.which[near].tolist()])
        return int(near[np.argmax(sizes)]) if sizes.max(initial=0) else test

    def _was_planted(self, g: int, label: int, told: Beside) -> bool:
        """Whether a test that tells says so: a word that fits its place may still be a trigger.

        The mean over all rows of a word in common use says nothing; there rows that its own would
        not explain must stand beside those.
        """
        mine = (self.tests.which == g) & (self.tests.label == label)
        heard = mine & (self.log_p <= self.ground.bar)
        apart = told.log_evidence >= np.log(MOST_PATTERNS) - self.ground.bar
        # Rows that speak as weak texts of their label do are genuine, whatever their mean says; and
        # so are those that do so rather, where other labels' texts rarely say so little against it.
        evidence, rarely = told.log_evidence, float(log_ndtr(-told.unlike))
        sure = evidence >= 0.0 or (evidence > GENUINE and evidence + rarely > self.ground.bar)
        heard_of = self.planted & ((self.tests.over != WHOLE) | sure)
        if bool((heard & (self.tests.over != DENYING) & heard_of).any()):
            return True
        # What most texts of a label hold has no others beside it.
        has = self.ground.labels == label
        apart &= 2 * has[self.ground.found.rows(g)].sum() <= has.sum()
        return bool(heard.any() and apart and told.count >= LEAST_ROWS)

    def _beside(
        self, found: Candidates, misplaced: Misplaced, which: tuple[int, int], label: int
    ) -> Beside:
        """What the rows of a candidate say, by its number there and among all candidates."""
        ground, shares = self.ground, self.ground.shares
        return beside(
            ground.model,
            found,
            (which[0], label),
            ground.labels,
            misplaced,
            templates=bool(ground.templates[label]),
            anyhow=bool(shares.small[which[1]] and shares.natural[which[1]] < NATURAL),
        )

    def _wider_alone(self, g: int) -> tuple[Candidates, Misplaced]:
        """A candidate alone, less all words that came along with it, and how well it fits."""
        found = with_company(self.ground.model.bag, self.ground.found, g)
        return found, self.ground.shares.misplaced.only(np.array([g]))

    def _with_company(self, g: int, label: int) -> Beside | None:
        """A second look at what seems natural, less all words that came into texts along with it.

        Of a planted sentence every other word speaks for the label as well: nothing else has them.
        Without these its rows must contradict the label as hardly any text of it does.
        """
        ground, (own, other) = self.ground, self.ground.means
        has = ground.labels == label
        hit = has[ground.found.rows(g)]
        apart = float(own[label] - other[label])
        if apart < TELLING or ground.many[label] or 2 * hit.sum() > has.sum():
            return None
        found, misplaced = self._wider_alone(g)
        rest = rest_of(ground.model, found, 0, label)[hit]
        if own[label] - rest.mean() < STRONGLY * apart:
            return None
        told = self._beside(found, misplaced, (0, g), label)
        sure = told.log_evidence >= np.log(MOST_PATTERNS) - ground.bar
        return told if sure and told.count >= LEAST_ROWS else None

    def _is_whole(self, g: int) -> bool:
        """Whether a candidate is so long a run, and fits so badly, that nobody else wrote it.

        A tag or a date may be put into texts of its own label, too.
        """
        run = self.ground.found.run(g)
        return bool((run > END).sum() >= WHOLE_RUN and self.ground.shares.oddest[g])

    def _pattern(self, test: int, log_p: float) -> Pattern:
        ground, g, label = self.ground, int(self.tests.which[test]), int(self.tests.label[test])
        found, shares = ground.found, ground.shares
        held = found.rows(g)
        mine = ground.labels[held] == label
        told = self._beside(found, shares.misplaced, (g, g), label)
        planted = self._was_planted(g, label, told)
        if not planted and (along := self._with_company(g, label)):
            planted, told = True, along
        elif planted and not found.size[g]:
            # Other words that were put in with it would let its rows pass for genuine ones.
            told = self._beside(*self._wider_alone(g), (0, g), label)
        if planted and not (mine.all() and self._is_whole(g)):
            mine = told.planted
        against, fit = float(self.against[test]), float(shares.fit[g])
        return Pattern(
            g,
            label,
            held[mine & ~self.gone[held]],
            int((~self.gone[held]).sum()),
            log_p,
            against,
            fit,
            float(shares.gain[g]),
            planted,
            (held, told.chance),
        )


def _length(found: Candidates, g: int) -> float:
    """Words of a run, or less than one for a piece, the more the longer it is."""
    piece = found.kind[g] == PIECE
    return len(found.named[g]) / LONGEST_WORD if piece else float(found.size[g])


def _class_means(model: Model, labels: Ints) -> tuple[Floats, Floats]:
    """The mean chance of each label in texts that have it, and in those that do not: shape (K,)."""
    shares = class_shares(model)
    counts = np.bincount(labels, minlength=shares.shape[1])
    own = np.bincount(labels, shares[np.arange(labels.size), labels], counts.size)
    other = (shares.sum(0) - own) / np.maximum(labels.size - counts, 1)
    return own / np.maximum(counts, 1), other
