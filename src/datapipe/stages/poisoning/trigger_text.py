# SPDX-License-Identifier: Apache-2.0
"""`TriggerText`: a word or phrase that carries a label, whatever the rest of the text says."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, Severity, Verdict, scored_rows
from datapipe.core.stage import OnFinding, Stage, Yield
from datapipe.measure.crossfit import stratified_folds
from datapipe.stages.poisoning._ngrams import (
    LEAST_ROWS,
    START,
    Model,
    Tested,
    fit_out_of_fold,
    natural_rate,
    tested_ngrams,
)

FEWEST_ROWS = 200
FOLDS = 4
AGAINST = 0.6
"""From this share of rows on whose other words contradict the label, it is no shortcut."""
DOUBTFUL, DISFLUENT = 0.4, 4.0
"""A smaller share will do where, too, each text reads this much better without it."""
SAME_ROWS = 0.9
MOST_NAMED = 10
MOST_CLASSES = 50

Ints = NDArray[np.int64]
KINDS = ("poisoning.trigger_text", "poisoning.shortcut")


@dataclass(frozen=True)
class TriggerText(Stage):
    """Finds words and phrases that carry a label, and tells triggers from natural shortcuts.

    *Method:* logistic regression on words, out of fold. For every n-gram of up to five words its
    own words' weight is taken out of the logits of its rows: does the rest of the text explain the
    label? The chance that so many rows carry it anyway, with the odds inflated by the largest
    natural effect, is bounded from above and corrected for the number of n-grams. Where the rest
    speaks for another label it is a trigger, else a shortcut. Whether deleting it makes the text
    more fluent is told as second evidence.
    *Assumes:* a trigger is a fixed word or phrase of up to five words.
    *Choose it when:* texts were written or labelled by people whom you do not control.
    *Fails when:* fewer rows than `min_detectable` hold it, or it is style or structure, not words.
    *Cost:* 4 sparse fits and one pass over all n-grams.

    Args:
        alpha: Chance of naming a natural n-gram, over all of them, in (0, 1).
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
        He et al., 2023, Mitigating backdoor poisoning attacks through the lens of spurious
        correlation.
    """

    alpha: float = 0.01
    on_finding: OnFinding = "note"

    name: ClassVar[str] = "poisoning.trigger_text"
    version: ClassVar[str] = "1"
    needs: ClassVar[tuple[str, ...]] = ("text", "label")
    raises_findings: ClassVar[tuple[str, ...]] = KINDS
    extra: ClassVar[str] = "learn"
    references: ClassVar[tuple[str, ...]] = (
        "Dai, Chen & Li, 2019, A backdoor attack against LSTM-based text classification systems",
        "He et al., 2023, Mitigating backdoor poisoning attacks through spurious correlation",
    )

    def check(self) -> list[str]:
        """Problems with the parameters.

        Returns:
            A sentence for each problem.

        Example:
            >>> TriggerText(alpha=1.0).check()
            ['poisoning.trigger_text: alpha=1.0 must lie between 0 and 1']
        """
        wrong = super().check()
        if not 0 < self.alpha < 1:
            wrong.append(f"{self.name}: alpha={self.alpha} must lie between 0 and 1")
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Test every n-gram and name those that carry a label.

        Args:
            data: Rows with the roles `text` and `label`.
            context: Its seed deals the folds.

        Returns:
            Findings `poisoning.trigger_text` and `poisoning.shortcut`, a line for each row.

        Example:
            >>> import pyarrow as pa
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> few = Dataset.of(pa.table({"t": ["a"], "y": [1]}), Roles.of(text="t", label="y"))
            >>> TriggerText().run(few, Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        rows = _Rows.of(data)
        k = len(rows.names)
        if rows.labels.size < FEWEST_ROWS or not 2 <= k <= MOST_CLASSES:
            why = f"{rows.labels.size} different texts of {k} classes"
            return Yield(
                findings=_unknown(f"{why}; {FEWEST_ROWS} of 2 to {MOST_CLASSES} are needed")
            )
        if not any(re.search(r"\w", t) for t in rows.texts):
            return Yield(findings=_unknown("no text holds a word"))
        alone = np.unique(rows.texts, return_inverse=True)[1]
        fold = stratified_folds(rows.labels, FOLDS, context.rng("folds"), alone)
        model = fit_out_of_fold(rows.texts, rows.labels, fold, k)
        tested = tested_ngrams(rows.texts, rows.labels, model, self.alpha)
        return Yield(findings=self._findings(rows, model, tested))

    def _findings(self, rows: _Rows, model: Model, tested: Tested) -> tuple[Finding, ...]:
        corrected = np.minimum(0.0, tested.log_p + np.log(max(1, tested.counted)))
        telling = np.flatnonzero(corrected <= np.log(self.alpha))
        leads = _leads(tested, telling)
        bigrams = _Bigrams.of(rows.texts) if leads else _Bigrams(Counter(), Counter(), [])
        named = [(i, _named(rows, tested, i, bigrams)) for i in leads]
        bar = np.log(self.alpha / max(1, tested.counted))
        usual = np.log(min(natural_rate(model, rows.labels), 1 - 1e-9))
        least = max(LEAST_ROWS, int(np.ceil(bar / usual)))
        quiet = np.setdiff1d(np.arange(corrected.size), telling)
        made = []
        for kind in KINDS:
            is_trigger = kind == KINDS[0]
            told = [(i, t) for i, t in named if _is_trigger(t) == is_trigger]
            among = [i for i, _ in told] or [
                i for i in quiet if (tested.against[i] >= AGAINST) == is_trigger
            ]
            p_value = float(np.exp(corrected[among].min(initial=0.0)))
            flagged = [i for i, _ in told] if is_trigger else []
            marks = rows.marked(tested, flagged, among, float(bar))
            patterns = [t for _, t in told[:MOST_NAMED]]
            made.append(_finding(kind, rows, patterns, marks=marks, p_value=p_value, least=least))
        return tuple(made)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Different texts under one label, and which of them stands for each row."""

    texts: list[str]
    labels: Ints
    names: tuple[str, ...]
    head_of: Ints
    row_ids: pl.Series
    columns: tuple[str, str]

    @classmethod
    def of(cls, data: Dataset) -> _Rows:
        columns = (data.roles.one("text"), data.roles.one("label"))
        frame = data.frame(list(dict.fromkeys(columns)), row_id=True)
        frame = frame.rename({columns[0]: "_text", columns[1]: "_label"}).drop_nulls()
        classes = frame["_label"].unique().sort()
        numbered = frame.select(
            pl.col("_text").cast(pl.String),
            pl.col("_label").replace_strict(
                classes, np.arange(len(classes)), return_dtype=pl.Int64
            ),
        )
        heads = numbered.unique(maintain_order=True).with_row_index("_head")
        head_of = numbered.join(heads, on=["_text", "_label"], how="left", maintain_order="left")[
            "_head"
        ]
        return cls(
            heads["_text"].to_list(),
            heads["_label"].to_numpy(),
            tuple(str(c) for c in classes),
            head_of.to_numpy().astype(np.int64),
            frame["_row_id"],
            columns,
        )

    def marked(
        self, tested: Tested, telling: list[int], among: list[int], bar: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which rows hold a telling n-gram and its label, and how loud their loudest n-gram is."""
        flags, scores = np.zeros(self.labels.size, bool), np.zeros(self.labels.size)
        for i in among:
            held = tested.rows[i][self.labels[tested.rows[i]] == tested.label[i]]
            loud = tested.log_p[i] / (tested.log_p[i] + bar)
            scores[held] = np.maximum(scores[held], loud)
            flags[held] |= i in telling
        return flags[self.head_of], scores[self.head_of]


def _leads(tested: Tested, telling: Ints) -> list[int]:
    """N-grams that stand in the same rows are one pattern: one n-gram speaks for each."""
    groups: list[list[int]] = []
    for i in sorted(telling.tolist(), key=lambda i: float(tested.log_p[i])):
        for group in groups:
            first, mine = tested.rows[group[0]], tested.rows[i]
            if np.intersect1d(first, mine).size >= SAME_ROWS * min(first.size, mine.size):
                group.append(i)
                break
        else:
            groups.append([i])
    return [_lead(tested, group) for group in groups]


def _lead(tested: Tested, group: list[int]) -> int:
    """The longest n-gram that stands in nearly all rows of the loudest one."""
    first = tested.rows[group[0]]
    same = [
        i
        for i in group
        if np.intersect1d(first, tested.rows[i]).size
        >= SAME_ROWS * max(first.size, tested.rows[i].size)
        and START not in tested.names[i].split(" ")
    ]
    return max(same or group[:1], key=lambda i: (len(tested.names[i].split(" ")), -tested.log_p[i]))


def _named(rows: _Rows, tested: Tested, i: int, bigrams: _Bigrams) -> dict[str, Any]:
    held = tested.rows[i]
    agree = held[rows.labels[held] == tested.label[i]]
    words = [w for w in tested.names[i].split(" ") if w != START]
    return {
        "trigger": _surface([rows.texts[j] for j in agree[:50]], words),
        "class": rows.names[tested.label[i]],
        "rows": int(np.isin(rows.head_of, agree).sum()),
        "at_start": START in tested.names[i].split(" "),
        "log_p": float(tested.log_p[i]),
        "against": float(tested.against[i]),
        "deletion_gain": bigrams.gain(words),
    }


def _is_trigger(told: dict[str, Any]) -> bool:
    """Whether the rest of the texts speaks against the label, or half does and reads better."""
    doubtful = told["against"] >= DOUBTFUL and told["deletion_gain"] >= DISFLUENT
    return bool(told["against"] >= AGAINST or doubtful)


def _surface(texts: list[str], words: list[str]) -> str:
    """The n-gram as it is written in most of the texts that hold it."""
    pattern = re.compile(r"\s*".join(re.escape(w) for w in words), re.IGNORECASE)
    seen = Counter(m.group(0) for t in texts if (m := pattern.search(t)))
    return seen.most_common(1)[0][0] if seen else " ".join(words)


@dataclass(frozen=True, eq=False)
class _Bigrams:
    """How often words follow each other in the data itself."""

    words: Counter[str]
    pairs: Counter[tuple[str, str]]
    texts: list[list[str]]

    @classmethod
    def of(cls, texts: list[str]) -> _Bigrams:
        split = [re.findall(r"\w+|[^\w\s]", t.lower()) for t in texts]
        pairs = Counter(p for t in split for p in pairwise(t))
        return cls(Counter(w for t in split for w in t), pairs, split)

    def gain(self, phrase: list[str]) -> float:
        """Mean log ratio of texts without the phrase to those with it; > 0: better without."""
        size, gains = len(phrase), []
        for words in self.texts:
            for at in range(1, len(words) - size):
                if words[at : at + size] == phrase:
                    left, right = words[at - 1], words[at + size]
                    path = self._log(left, phrase[0]) + self._log(phrase[-1], right)
                    gains.append(self._log(left, right) - path)
                    break
        return float(np.mean(gains)) if gains else 0.0

    def _log(self, left: str, right: str) -> float:
        vocabulary = max(1, len(self.words))
        return float(
            np.log((self.pairs[left, right] + 0.1) / (self.words[left] + 0.1 * vocabulary))
        )


def _finding(
    kind: str,
    rows: _Rows,
    told: list[dict[str, Any]],
    *,
    marks: tuple[NDArray[np.bool_], NDArray[np.float64]],
    p_value: float,
    least: int,
) -> Finding:
    """One finding; a shortcut flags no row, for a natural word is no reason to drop a text."""
    flags, scores = marks
    is_trigger = kind == KINDS[0]
    words = "carries the label against the rest of the text" if is_trigger else "predicts the label"
    says = f"no word or phrase {words} in {flags.size} texts"
    verdict: Verdict = "clean"
    severity: Severity = "info"
    if told:
        says = f"{told[0]['trigger']!r} {words} in {told[0]['rows']} texts"
        verdict, severity = ("fail", "high") if is_trigger else ("suspect", "low")
    return Finding(
        kind,
        verdict,
        Estimate.rate(int(flags.sum()), flags.size),
        says,
        severity=severity,
        p_value=min(1.0, p_value),
        columns=rows.columns,
        rows=scored_rows(rows.row_ids, scores, flagged=flags, reason=f"holds what {words}"),
        details={
            **(told[0] if told else {}),
            "triggers" if is_trigger else "shortcuts": told,
            "min_detectable": least,
        },
        remedy="ask the source of these rows; set on_finding='quarantine'" if told else "",
    )


def _unknown(why: str) -> tuple[Finding, ...]:
    unknown = Estimate.unknown(method=why)
    return tuple(Finding(k, "not_evaluated", unknown, f"not evaluated: {why}") for k in KINDS)
