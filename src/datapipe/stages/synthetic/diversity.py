# SPDX-License-Identifier: Apache-2.0
"""`CorpusDiversity`: whether a corpus still holds the rare words of people, and what repeats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.parameters import AnyPath
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.features.text import mixed, word_shingles
from datapipe.features.text import normalise as normal
from datapipe.stages.synthetic._coverage import Coverage, coverage
from datapipe.stages.synthetic._distance import lacked
from datapipe.stages.synthetic._gathering import feature_columns, opened
from datapipe.stages.synthetic._sketch import Reservoir, Sketch
from datapipe.stages.synthetic._style import prompt_groups
from datapipe.stages.synthetic._tokens import tokens_of
from datapipe.stages.synthetic._words import RADIX, word_hashes

Hashes = NDArray[np.uint64]

BATCH_ROWS = 4_096
EMPTY = np.uint64(0)
GROWTH_STEPS = 4
LEAST_PEOPLE, LEAST_ROWS, LEAST_WORDS = 40, 20, 1_500
MOST_ROWS = 4_000
ALPHA = 0.01
NOTABLE = 0.97
"""A corpus that holds less than this share of what people's text would hold is suspect."""
FOREIGN = 0.5
"""A corpus that lacks so many of the reference's common words lost them to no model."""
MARGIN = 0.01
SHINGLE, SHARED = 8, 3
"""Runs of words that a row must share with evaluation rows, and how many, to be called a leak."""


@dataclass(frozen=True)
class CorpusDiversity(Stage):
    """Measures whether the rare words of people are still there, what repeats, and what leaks.

    *Method:* half of a human reference asks which of its rare words (at most three occurrences)
    stand in as many words of the corpus as the other half has; the halves are the null, and
    shuffles of whole texts give the p-value. The damage to a model's fit is the excess of bits that
    the asked half costs an n-gram model of the corpus. Beside them, in one streaming pass over all
    rows with a bounded sketch: Good-Turing's unseen mass, the growth of the vocabulary, distinct
    words, pairs and triples, exact copies, and rows that share prompts or runs of words with
    evaluation rows. Copies are left out of the comparison: they are duplicates and no sign of
    machines.
    *Assumes:* the reference is of the corpus's domain; another topic lacks its words too.
    *Choose it when:* you want to know what a corpus will do to a model: coverage tells it better
    than the true share of machine rows does.
    *Fails when:* there is no reference, or one of another language; then it reports figures
    without a verdict.
    *Cost:* one pass over the words, memory bounded by the sketch and a few thousand texts that
    are compared; a row leaves its id and a hash.

    Args:
        reference: Parquet file of rows that people made; empty for the run's reference.
        evaluation: Parquet file of rows that models will be evaluated on; empty for none.
        on_finding: What becomes of rows that leak or repeat.

    Example:
        >>> from pathlib import Path
        >>> import pyarrow as pa
        >>> data = Dataset.of(pa.table({"x": [1.0]}))
        >>> CorpusDiversity().run(data, Context(0, Path("."))).findings[0].verdict
        'not_evaluated'

    References:
        Good, 1953, The population frequencies of species and the estimation of parameters.
        Heaps, 1978, Information retrieval: computational and theoretical aspects.
        Li et al., 2016, A diversity-promoting objective function for conversation models.
    """

    reference: AnyPath = ""
    evaluation: AnyPath = ""
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "synthetic.diversity"
    version: ClassVar[str] = "2"
    raises_findings: ClassVar[tuple[str, ...]] = (
        "synthetic.diversity", "synthetic.duplicates", "synthetic.leak",
    )  # fmt: skip
    references: ClassVar[tuple[str, ...]] = (
        "Good, 1953, The population frequencies of species and the estimation of parameters",
        "Heaps, 1978, Information retrieval: computational and theoretical aspects",
        "Li et al., 2016, A diversity-promoting objective function for conversation models",
    )

    def cacheable(self) -> bool:
        """Whether nothing outside of the data is read: False with files of its own.

        Returns:
            True without a reference or evaluation file.

        Example:
            >>> CorpusDiversity(reference="human.parquet").cacheable()
            False
        """
        return not (self.reference or self.evaluation)

    def run(self, data: Dataset, context: Context) -> Yield:
        """Measure the corpus.

        Args:
            data: Rows with a text.
            context: Its reference is used when the parameter names none; seeds the splits.

        Returns:
            A finding on rare words, one on copies, and one on leaks where evaluation rows are.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> CorpusDiversity().run(empty(), Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        people = opened(self.reference) or context.reference
        asked = opened(self.evaluation)
        if "text" not in data.roles or not len(data):
            return Yield(findings=(_silent("there is no text", len(data), {}),))
        column = feature_columns(data)[0] if "image" not in data.roles else data.roles.one("text")
        seen = _Pass(_leaks(asked, column) if asked is not None else None, context.rng("rows"))
        for batch in _batches(data, column):
            seen.add(batch, column)
        findings = [self._rare(data, people, column, seen, context), _copies(seen)]
        if asked is not None:
            findings.append(_leaked(seen))
        return Yield(findings=tuple(findings))

    def _rare(
        self, data: Dataset, people: Dataset | None, column: str, seen: _Pass, context: Context
    ) -> Finding:
        figures = seen.figures()
        if people is None:
            return _silent(
                "without rows that people surely made nothing tells what should be there",
                len(data), figures,
            )  # fmt: skip
        if column not in people.names:
            return _silent(f"the reference lacks the column {column!r}", len(data), figures)
        held_back = Reservoir(MOST_ROWS, context.rng("people"))
        for batch in _batches(people, column):
            held_back.add(*_told_apart(batch[column]))
        theirs, ours = held_back.texts(), seen.sample.texts()
        tokens = tokens_of(pl.concat([theirs, ours]))
        cut = len(theirs)
        sizes = np.bincount(tokens.rows, minlength=cut + len(ours))
        held, corpus = np.flatnonzero(sizes[:cut]), cut + np.flatnonzero(sizes[cut:])
        enough = held.size >= LEAST_PEOPLE and corpus.size >= LEAST_ROWS
        if not enough or min(sizes[held].sum(), sizes[corpus].sum()) < LEAST_WORDS:
            return _silent(
                f"{held.size} distinct reference texts and {corpus.size} of the corpus; at least"
                f" {LEAST_PEOPLE} and {LEAST_ROWS} with {LEAST_WORDS} words are needed",
                len(data), figures,
            )  # fmt: skip
        place = np.arange(cut + len(ours))
        known, asked = np.isin(place, held), np.isin(place, corpus)
        if lacked(tokens.ids, tokens.rows, known, asked) > FOREIGN:
            return _silent(
                "the corpus lacks most of the reference's common words: another topic or language",
                len(data), figures,
            )  # fmt: skip
        found = coverage(tokens, held, corpus, context.rng("splits"))
        if not found.people.any():  # a share of nothing would read as 0 %
            return _silent(
                "no half of the reference holds a rare word of the other", len(data), figures
            )
        return _judged(found, corpus.size, figures)


class _Pass:
    """What one pass over the rows counts.

    The sketches and the sample are bounded; beside them a text leaves its hash and its id.
    """

    def __init__(self, leaks: tuple[set[str], Hashes] | None, rng: np.random.Generator) -> None:
        self.words, self.pairs, self.triples = Sketch(), Sketch(), Sketch()
        self.sample = Reservoir(MOST_ROWS, rng)
        self.growth: list[tuple[int, float]] = []
        self.prompts, self.shingles = leaks or (set(), np.empty(0, np.uint64))
        self.texts: list[Hashes] = []
        self.rows: list[pl.DataFrame] = []

    def add(self, batch: pl.DataFrame, column: str) -> None:
        texts = batch[column].cast(pl.String).fill_null("")
        hashes, rows = word_hashes(texts)
        for part in np.array_split(hashes, GROWTH_STEPS):
            self.words.add(part)
            self.growth.append((self.words.tokens, self.words.kinds))
        run = hashes
        for size, sketch in ((2, self.pairs), (3, self.triples)):
            last = max(0, hashes.size - size + 1)
            run = mixed(run[:last] * RADIX + hashes[size - 1 :]) if last else hashes[:0]
            sketch.add(run[rows[:last] == rows[size - 1 :]])
        plain = normal(texts)
        text = _whole(plain)
        self.texts.append(text)
        self.sample.add(texts, text)
        leak = self._leak(texts, plain) if self.prompts else np.zeros(len(texts), np.bool_)
        self.rows.append(pl.DataFrame({"row_id": batch[ROW_ID], "leak": leak}))

    def _leak(self, texts: pl.Series, plain: pl.Series) -> NDArray[np.bool_]:
        starts = prompt_groups(texts).is_in(list(self.prompts)).to_numpy()
        made = word_shingles(plain, size=SHINGLE)
        shared = np.isin(made.hashes, self.shingles)
        row = np.repeat(np.arange(len(texts)), made.counts)
        found: NDArray[np.bool_] = starts | (
            np.bincount(row, shared, minlength=len(texts)) >= SHARED
        )
        return found

    def table(self) -> pl.DataFrame:
        """Every row: its id, whether it has words, repeats an earlier text, and leaks."""
        text = np.concatenate(self.texts)
        _, first = np.unique(text, return_index=True)
        copy = text != EMPTY
        copy[first] = False
        return pl.concat(self.rows).with_columns(
            copy=pl.Series(copy), worded=pl.Series(text != EMPTY)
        )

    def figures(self) -> dict[str, Any]:
        """Figures that need no reference."""
        n = self.words.tokens
        if not n:
            return {"tokens": 0}
        once = self.words.occurring(1)
        half = min(self.growth, key=lambda g: abs(g[0] - n / 2))
        grown = math.log(max(self.words.kinds / max(half[1], 1.0), 1e-9))
        return {
            "tokens": n,
            "kinds": round(self.words.kinds),
            "unseen_mass": min(1.0, once / n),
            "vocabulary_growth": grown / math.log(n / half[0]) if half[0] < n else None,
            "distinct_1": min(1.0, self.words.kinds / n),
            "distinct_2": min(1.0, self.pairs.kinds / max(self.pairs.tokens, 1)),
            "distinct_3": min(1.0, self.triples.kinds / max(self.triples.tokens, 1)),
            "kinds_once": round(once),
            "kinds_twice": round(self.words.occurring(2)),
            "sketch_share": self.words.share,
        }


def _batches(data: Dataset, column: str) -> Iterator[pl.DataFrame]:
    """A column and its ids, some rows at a time."""
    plan = data.scan(row_id=True).select(ROW_ID, column)
    for start in range(0, len(data), BATCH_ROWS):
        yield plan.slice(start, BATCH_ROWS).collect(engine="streaming")


def _told_apart(texts: pl.Series) -> tuple[pl.Series, Hashes]:
    """Texts and what tells them apart, layout aside."""
    plain = texts.cast(pl.String).fill_null("")
    return plain, _whole(normal(plain))


def _whole(plain: pl.Series) -> Hashes:
    """One hash for each text, `EMPTY` for those without words."""
    made = word_shingles(plain, size=1 << 20)  # one shingle: the whole text
    text = np.full(len(plain), EMPTY)
    text[made.counts > 0] = made.hashes
    return text


def _judged(found: Coverage, n: int, figures: dict[str, Any]) -> Finding:
    ratio = found.corpus / np.maximum(found.people, 1e-9)
    value = float(ratio.mean())
    low, high = (float(q) for q in np.quantile(ratio, [0.025, 0.975]))
    excess = found.fit_corpus - found.fit_people
    suspect = found.p_value < ALPHA and high < 1.0 and value <= NOTABLE
    return Finding(
        "synthetic.diversity",
        "suspect" if suspect else "clean",
        Estimate(value, min(low, value), max(high, value), n=n, method="split halves"),
        f"the corpus holds {value:.0%} of the rare words that as much of people's text holds",
        "medium" if suspect else "info",
        p_value=found.p_value,
        details={
            "coverage": float(found.corpus.mean()),
            "coverage_of_people": float(found.people.mean()),
            "tail_loss": 1.0 - value,
            "fit_loss": float(excess.mean()),
            "fit_loss_low": float(np.quantile(excess, 0.025)),
            "fit_loss_high": float(np.quantile(excess, 0.975)),
            "words_compared": found.words,
            **figures,
        },
        remedy="add people's rows of this domain; see synthetic.collapse" if suspect else "",
    )


def _copies(seen: _Pass) -> Finding:
    table = seen.table().filter("worded")
    n, hits = table.height, int(table["copy"].sum())
    if not n:
        return Finding.not_evaluated(
            "synthetic.duplicates", "no text has a word", details={"duplicates": 0}
        )
    measure = Estimate.rate(hits, n)
    many = measure.low > MARGIN
    return Finding(
        "synthetic.duplicates",
        "suspect" if many else "clean",
        measure,
        f"{hits} of {n} texts repeat an earlier one: duplicates, whoever wrote them",
        "low" if many else "info",
        rows=scored_rows(
            table["row_id"], table["copy"].cast(pl.Float64),
            flagged=table["copy"] if many else None, reason="a duplicate of an earlier text",
        ),
        details={"duplicates": hits},
        remedy="put ExactDuplicates() or MinHash() before it" if many else "",
    )  # fmt: skip


def _leaks(asked: Dataset, column: str) -> tuple[set[str], Hashes]:
    """How the evaluation rows begin, and their runs of words."""
    if column not in asked.names:
        return set(), np.empty(0, np.uint64)
    texts = asked.frame([column])[column].cast(pl.String).fill_null("")
    long = texts.filter(normal(texts).str.len_chars() > 0)
    return set(prompt_groups(long)), np.unique(word_shingles(normal(long), size=SHINGLE).hashes)


def _leaked(seen: _Pass) -> Finding:
    table = seen.table()
    n, hits = table.height, int(table["leak"].sum())
    if not seen.prompts:
        unknown = Estimate.unknown(method="no evaluation rows", n=n)
        why = "the evaluation rows have no such text"
        return Finding.not_evaluated("synthetic.leak", why, measure=unknown)
    return Finding(
        "synthetic.leak",
        "suspect" if hits else "clean",
        Estimate.rate(hits, n),
        f"{hits} of {n} texts share a prompt or runs of words with evaluation rows",
        "high" if hits else "info",
        rows=scored_rows(
            table["row_id"], table["leak"].cast(pl.Float64), flagged=table["leak"],
            reason="it shares a prompt or runs of words with an evaluation row",
        ),
        details={"leaks": hits},
        remedy="leave these rows out: they make generated data look good" if hits else "",
    )  # fmt: skip


def _silent(why: str, n: int, figures: dict[str, Any]) -> Finding:
    return Finding.not_evaluated(
        "synthetic.diversity",
        why,
        measure=Estimate.unknown(method="no comparison", n=n),
        details={"why": why, **figures},
        remedy="give reference='human.parquet': rows of this domain that people made",
    )
