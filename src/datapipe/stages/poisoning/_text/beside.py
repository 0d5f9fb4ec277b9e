# SPDX-License-Identifier: Apache-2.0
"""Which rows of a pattern were put there, beside those that hold it by nature.

A word in use stands in genuine texts of its label, too, and these speak for the label; the mean
over all of its rows then says nothing. Two groups show in how the rest of each row speaks, and in
how well the word fits where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.association import rest_of
from datapipe.stages.poisoning._text.candidates import Candidates
from datapipe.stages.poisoning._text.grams import spread
from datapipe.stages.poisoning._text.misplaced import Misplaced
from datapipe.stages.poisoning._text.word_model import Model, class_shares

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BINS, BIN_ROWS = 12, 8
"""Most intervals of the chance of a label, and texts of a side for which there is another one."""
HARDER = 0.75
"""Log odds by which the content of texts that hold a word may speak less for their label by nature,
or by as much as the word itself says, where as many words of a text without it say as much."""
MOST_READ = 2_000
"""Texts of a label that are read for what their own words say."""
TAKEN = (np.arange(16) + 0.5) / 16
"""Quantiles of what a word says in the texts that hold it."""
PARTS = np.linspace(0.0, 0.999, 40)
"""Shares of the rows that may have been put there."""
STEPS, CLOSE = 200, 1e-12
"""Steps at most in which rows are parted, and the change of their chances at which that ends."""
PUT_THERE, MOST_FALSE, OF_FLAGGED = 0.5, 0.001, 0.1
"""A row whose chance is this was put there, if at most so large a share of all texts, or of those
that were put there, is expected to be genuine and have such a chance."""
SPACED = (np.arange(200) + 0.5) / 200
"""Quantiles that tell how genuine texts speak."""
MISFITS, UNSURE = 8, 1.0
"""Intervals of how badly a word fits, of as many rows each, and rows that each group has in each
before one is seen."""
NEIGHBOURS, EXPECTED, ROUNDS = 500, 100.0, 3
"""Neighbours that are told apart, the commonest words, how many of all words stand beside genuine
ones before one is seen, and how often these are read anew with what is genuine."""
DOUBTED = 5.0
"""By how much ln likelihood must rise before some of the rows are taken for a word's own."""


@dataclass(frozen=True, eq=False)
class Beside:
    """What the rows of a candidate that carry a label say of how they came by it.

    `log_evidence` is the ln of an e-value against *all of them are texts of the label*, whose
    content may speak less for it by `HARDER`, or by what the candidate says where as many words of
    theirs say as much, in templates wherever: by chance it exceeds ln(1 / a) with a probability of
    at most a. `unlike` is how many standard deviations more their content speaks for the label than
    that of texts of any one other label. `count` is how many were put there, and `planted`, bool of
    the length of the candidate, which: all that carry the label where nothing speaks against that,
    else those whose chance is `PUT_THERE`. `chance` in [0, 1] is that of each, 0 where the label is
    another.
    """

    log_evidence: float
    unlike: float
    count: float
    planted: Bools
    chance: Floats


def beside(
    model: Model,
    found: Candidates,
    asked: tuple[int, int],
    labels: Ints,
    misplaced: Misplaced,
    *,
    templates: bool,
    anyhow: bool = False,
) -> Beside:
    """Part the rows of a candidate that carry a label into genuine and planted ones.

    The rest of a genuine row speaks as other texts of its label do, that of a planted one as texts
    of other labels do. Texts that hold the candidate are left out of both. How badly single words
    fit in either group is read from the rows themselves; those with other labels are genuine.

    Args:
        model: What texts say.
        found: The candidates.
        asked: The one that is asked about, and the label.
        labels: int, shape (n,).
        misplaced: How badly single words fit.
        templates: Whether texts of the label are made of templates, of which a pattern leaves less.
        anyhow: Whether people write the candidate so whatever they say: then as many genuine rows
            carry the label as those of other labels foretell, and say as much for it as any.

    Returns:
        The evidence, and which rows were put there.

    References:
        Vovk & Wang, 2021, E-values: calibration, combination and applications;
        Mann & Whitney, 1947, On a test of whether one of two random variables is larger.
    """
    g, label = asked
    row = found.rows(g)
    hit = labels[row] == label
    shares = class_shares(model)[:, label]
    outside = np.ones(labels.size, bool)
    outside[row] = False
    own, other = (_logit(shares[outside & mine]) for mine in (labels == label, labels != label))
    if not own.size or not other.size or not hit.any():
        return Beside(0.0, 0.0, float(hit.sum()), hit, hit.astype(np.float64))
    rest = _logit(rest_of(model, found, g, label)[hit])
    genuine = np.flatnonzero(outside & (labels == label))
    genuine = genuine[
        np.linspace(0, genuine.size - 1, min(genuine.size, MOST_READ)).astype(np.int64)
    ]
    genuine = genuine[np.argsort(shares[genuine], kind="stable")]
    taken = np.quantile(_logit(shares[row[hit]]) - rest, TAKEN)
    taken = taken[np.arange(genuine.size) % TAKEN.size]
    if not templates:
        taken = np.minimum(taken, _best(model, genuine, label, _owned(model, row[hit], found, g)))
    lowered = _ratio(_logit(shares[genuine]) - np.maximum(taken, HARDER), other, rest)
    each = [np.log1p(part * (lowered - 1.0)).sum() for part in PARTS]
    evidence = float(np.logaddexp.reduce(each) - np.log(len(each)))
    foreign = labels[outside & (labels != label)]
    unlike = min(_beyond(rest, other[foreign == k]) for k in np.unique(foreign))
    seen, content = _Seen.of(found, misplaced, g), _ratio(own, other, rest)
    bounds = _put_between(hit, own.size, other.size) if anyhow else (0.0, 1.0)
    made = _parted(content, hit, seen.traits(np.zeros(row.size)), bounds)
    for _ in range(ROUNDS if seen.place.size else 0):
        made = _parted(content, hit, seen.traits(made.chance), bounds)
    most = max(MOST_FALSE * labels.size, OF_FLAGGED * float(made.chance.sum()))
    by_nature = made.beyond(hit, _ratio(own, other, own - (0.0 if anyhow else HARDER)), most)
    doubted = made.doubted or bounds[1] < 1.0
    planted = (made.chance >= PUT_THERE) & (made.chance > by_nature) if doubted else hit
    return Beside(evidence, unlike, float(made.chance.sum()), planted, made.chance)


def _beyond(values: Floats, others: Floats) -> float:
    """By how many standard deviations values outrank others (Mann & Whitney, 1947).

    The others are taken for all that there are: values are few beside them.
    """
    others = np.sort(others)
    rank = np.searchsorted(others, values) + np.searchsorted(others, values, "right")
    return float((rank.mean() / (2 * others.size) - 0.5) * np.sqrt(12.0 * values.size))


@dataclass(frozen=True, eq=False)
class _Parted:
    """Texts in two groups: `part` of those that have the label were put there, each by `chance`.

    `place` is how much likelier what each text shows of a word's place is among these, `ratio` that
    and what the content of those that have the label says.
    """

    chance: Floats
    part: float
    place: Floats
    ratio: Floats

    @property
    def doubted(self) -> bool:
        """Whether some of the texts that have the label are a word's own."""
        all_but = np.log1p(self.part * (self.ratio - 1.0)).sum() - np.log(self.ratio).sum()
        return bool(all_but > DOUBTED)

    def beyond(self, hit: Bools, content: Floats, most: float) -> float:
        """The chance beyond which so many genuine texts are expected, and no more.

        Their content says what that of others of their label does, and their places what those of
        texts with other labels do.
        """
        places = np.quantile(self.place[~hit], SPACED) if not hit.all() else np.ones(1)
        ratio = np.multiply.outer(places, np.quantile(content, SPACED)).ravel()
        genuine = max((1.0 - self.part) * float(hit.sum()), 1e-9)
        by_nature = np.sort(self.part * ratio / (self.part * ratio + 1.0 - self.part))
        at = by_nature.size - 1 - int(min(most / genuine, 1.0) * by_nature.size)
        return float(by_nature[at]) if at >= 0 else 0.0


def _put_between(hit: Bools, own: int, other: int) -> tuple[float, float]:
    """The shares that may have been put there of the rows with a label, by how many others have.

    As many of each label's texts are genuine, give or take a standard error.
    """
    others = float((~hit).sum())
    few, many = others - np.sqrt(others), others + 1.0 + np.sqrt(others + 1.0)
    scale = own / max(other, 1) / float(hit.sum())
    return max(0.0, 1.0 - float(many * scale)), min(1.0, max(0.0, 1.0 - float(few * scale)))


def _parted(
    content: Floats,
    hit: Bools,
    traits: list[Ints],
    bounds: tuple[float, float] = (0.0, 1.0),
) -> _Parted:
    """Part texts by what the content of those that have the label says, and by numbers of traits.

    A larger number can only speak for a word being put there; the share of those that were is
    within `bounds`.
    """
    chance, part, place, ratio = np.zeros(hit.size), 0.5, np.ones(hit.size), content
    for _ in range(STEPS):
        mine = part * ratio / (part * ratio + 1.0 - part)
        if np.abs(mine - chance[hit]).max() < CLOSE:
            break
        chance[hit] = mine
        part, place = float(np.clip(mine.mean(), *bounds)), np.ones(hit.size)
        for shown in traits:
            own, other = (
                np.bincount(shown, w, shown.max() + 1) + UNSURE for w in (1.0 - chance, chance)
            )
            likelier = np.maximum.accumulate(other / other.sum() * own.sum() / own)
            place *= likelier[shown]
        ratio = content * place[hit]
    return _Parted(chance, part, place, ratio)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Where a single word stands, how badly it fits there, and what is near; nothing if not told.

    `near` (4, n) numbers the two words on either side, `usual` how often each number is anywhere.
    """

    place: Ints
    gain: Floats
    near: Ints
    usual: Floats

    @classmethod
    def of(cls, found: Candidates, misplaced: Misplaced, g: int) -> _Seen:
        counts, gain = misplaced.of(np.array([g]))
        if not counts[0] or not np.isfinite(misplaced.log_share[g]):
            return cls(np.empty(0, np.int64), np.empty(0), np.empty((4, 0), np.int64), np.ones(1))
        words, often = found.words, found.words.counts().astype(np.float64)
        number = np.full(often.size, min(NEIGHBOURS, often.size))
        number[np.argsort(-often, kind="stable")[:NEIGHBOURS]] = np.arange(number[0])
        place = found.entries(np.array([g]))[2]
        beside = np.array([[-2], [-1], [found.size[g]], [found.size[g] + 1]])
        near = number[words.ids[np.clip(place + beside, 0, words.ids.size - 1)]]
        usual = np.bincount(number, often)
        return cls(place, gain, near, usual / usual.sum())

    def traits(self, chance: Floats) -> list[Ints]:
        """How badly the word fits, and how strange its neighbours are, as numbers of intervals."""
        if not self.place.size:
            return []
        made = [_interval(self.gain)]
        return [*made, _interval(self._strange(chance))] if chance.any() else made

    def _strange(self, chance: Floats) -> Floats:
        """How much likelier neighbours are at any place than at a genuine one, by the other texts.

        What is put anywhere stands beside any.
        """
        genuine, made = 1.0 - chance, np.zeros(chance.size)
        for near in self.near:
            others = np.bincount(near, genuine, self.usual.size)[near] - genuine
            anywhere = self.usual[near]
            share = (others + EXPECTED * anywhere) / (genuine.sum() - genuine + EXPECTED)
            made += np.log(anywhere) - np.log(share)
        return made


def _interval(values: Floats) -> Ints:
    """The interval that each value is in, of some that have as many each."""
    edges = np.unique(np.quantile(values, np.arange(1, MISFITS) / MISFITS))
    return np.searchsorted(edges, values)


def _owned(model: Model, rows: Ints, found: Candidates, g: int) -> int:
    """How many of a candidate's words a text of it has in the mean: few of a form's hundreds."""
    owns = np.zeros(model.bag.idf.size, bool)
    owns[found.owns(g)] = True
    held = model.bag.words[spread(model.bag.ends[rows], np.diff(model.bag.ends)[rows])]
    return int(np.ceil(owns[held].sum() / rows.size))


def _best(model: Model, rows: Ints, label: int, many: int) -> Floats:
    """How much log odds the words of each text that say most for a label, so many, add to them."""
    others = np.delete(np.arange(model.coef.shape[1]), label)
    says = model.slope * (model.coef[:, label] - model.coef[:, others].mean(1))
    table = model.bag.take(rows)
    of = np.repeat(np.arange(rows.size), np.diff(table.indptr))
    part = table.data * says[model.fold[rows[of]], table.indices]
    part = part[np.lexsort((-part, of))]
    heard = (np.arange(of.size) - table.indptr[of] < many) & (part > 0)
    return np.asarray(np.bincount(of[heard], part[heard], rows.size), np.float64)


def _ratio(own: Floats, other: Floats, asked: Floats) -> Floats:
    """How much likelier some values are among others than among a label's own: never rising."""
    values = np.concatenate([own, other])
    weight = np.concatenate([np.full(x.size, 0.5 / x.size) for x in (own, other)])
    order = np.argsort(values, kind="stable")
    bins = int(np.clip(min(own.size, other.size) // BIN_ROWS, 2, BINS))
    cuts = np.searchsorted(np.cumsum(weight[order]), np.arange(1, bins) / bins)
    edges = np.unique(values[order][cuts])
    shares = []
    for side in (own, other):
        counts = np.bincount(np.searchsorted(edges, side), minlength=edges.size + 1) + 0.5
        shares.append(counts / counts.sum())
    ratio = np.minimum.accumulate(shares[1] / shares[0])
    return np.asarray(ratio[np.searchsorted(edges, asked)], np.float64)


def _logit(share: Floats) -> Floats:
    kept = np.clip(share, 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(kept) - np.log1p(-kept), np.float64)
