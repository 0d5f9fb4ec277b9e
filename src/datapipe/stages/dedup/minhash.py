# SPDX-License-Identifier: Apache-2.0
"""Texts that are nearly equal: MinHash finds candidates, the exact resemblance decides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.parameters import PositiveInt, PositiveShare, Range
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.features.text import (
    Indices,
    character_shingles,
    normalise,
    word_counts,
    word_shingles,
)
from datapipe.stages.dedup._clusters import Clusters, components, repeats_found
from datapipe.stages.dedup._signatures import band_keys, banding, candidates, resemblance

KIND = "dedup.minhash"
LONGEST_SHORT = 20
"""A text of this many shingles' words is compared by words, however high the threshold."""


@dataclass(frozen=True)
class MinHash(Stage):
    """Marks texts that are nearly equal to an earlier one; the first of each cluster stays.

    *Method:* Texts in normal form are cut into shingles of words. MinHash signatures, cut into
    bands, propose pairs; for each pair the exact Jaccard resemblance of the two shingle sets is
    computed, so what is marked resembles an earlier text by at least `threshold`. Clusters are
    the connected components. Texts so short that one replaced word would end the resemblance are
    compared by characters instead.
    *Assumes:* Copies share most of their wording, in the same order.
    *Choose it when:* Text was crawled, or merged from several exports.
    *Fails when:* Texts are paraphrased or translated; when one short text is contained in a long
    one; when an attacker changes a word in every sentence, which moves the resemblance under the
    threshold. A long chain of small changes joins texts that differ much at its ends.
    *Cost:* One pass; O(permutations x shingles) time, 8 bytes a band and text in memory.

    Args:
        threshold: Resemblance from which texts count as nearly equal, in (0, 1].
        permutations: Length of a signature, >= 16.
        shingle: Words in a shingle (characters for short texts), >= 1.
        on_finding: What is done with the repeated rows.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> words = [f"w{i}" for i in range(80)]
        >>> texts = [" ".join(words), "something else", " ".join([*words[:-1], "end"])]
        >>> data = Dataset.of(pl.DataFrame({"t": texts}), Roles.of(text="t"))
        >>> MinHash().run(data, Context(0, Path("."))).findings[0].flagged["reason"].to_list()
        ['near-duplicate of 0:0']

    References:
        Broder, 1997, On the resemblance and containment of documents.
        Leskovec, Rajaraman & Ullman, 2014, Mining of massive datasets, chapter 3.
    """

    threshold: PositiveShare = 0.8
    permutations: Annotated[int, Range(16)] = 128
    shingle: PositiveInt = 5
    on_finding: OnSuspect = "quarantine"

    name: ClassVar[str] = "dedup.minhash"
    version: ClassVar[str] = "2"
    needs: ClassVar[tuple[str, ...]] = ("text",)
    raises_findings: ClassVar[tuple[str, ...]] = (KIND,)
    references: ClassVar[tuple[str, ...]] = (
        "Broder, 1997, On the resemblance and containment of documents",
        "Leskovec, Rajaraman & Ullman, 2014, Mining of massive datasets, chapter 3",
    )

    def run(self, data: Dataset, context: Context) -> Yield:
        """Find the texts that nearly repeat an earlier one.

        Args:
            data: Rows with the role `text`; several text columns are compared as one.
            context: Its seed draws the permutations.

        Returns:
            One finding of kind `dedup.minhash`; a row's score is the exact resemblance to the
            earlier text that it resembles most, 0 where none came near.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> data = Dataset.of(pl.DataFrame({"t": ["a", "b"]}), Roles.of(text="t"))
            >>> MinHash().run(data, Context(0, Path("."))).findings[0].verdict
            'clean'
        """
        texts, same = _distinct(data)
        words = word_counts(texts)
        if not (words > 0).any():
            return self.not_evaluated("there is no text to compare")
        left, right, likeness = self._pairs(texts, np.where(_originals(same), words, 0), context)
        copies = np.flatnonzero(~_originals(same) & (words > 0))
        near = likeness >= self.threshold
        first = components(
            same.size, np.append(left[near], same[copies]), np.append(right[near], copies)
        )
        clusters = Clusters(data.row_ids, first)
        scores = _scores(clusters.repeated, left, right, likeness)
        scores[copies] = 1.0
        table = clusters.rows(scores, "near-duplicate")
        more = {"threshold": self.threshold, "pairs_compared": int(left.size)}
        share = self._share(clusters)
        return Yield(findings=(repeats_found(KIND, share, clusters, table, more),))

    def _share(self, clusters: Clusters) -> Estimate:
        """The share of repeated rows; its upper end counts what the bands may have missed."""
        bands, rows = banding(self.threshold, self.permutations)
        missed = (1 - self.threshold**rows) ** bands
        share = float(clusters.repeated.mean())
        high = min(1.0, share / (1 - missed))
        return Estimate(share, share, high, clusters.first.size, "exact jaccard of candidates")

    def _pairs(
        self, texts: pl.Series, words: Indices, context: Context
    ) -> tuple[Indices, Indices, NDArray[np.float64]]:
        """Candidate pairs, smaller position first, and their resemblance; 0 words: left out."""
        least = self._shortest_long()
        long, short = words >= least, (words > 0) & (words * self.threshold < least)
        found = []
        for chosen, shingles in ((long, word_shingles), (short, character_shingles)):
            rows, cut = np.flatnonzero(chosen), partial(shingles, size=self.shingle)
            shape = banding(self.threshold, self.permutations)
            keys = band_keys(texts.gather(rows), cut, shape, context.rng("permutations"))
            left, right = (rows[side] for side in candidates(keys))
            if chosen is short:  # two long texts have been compared by words
                some_short = ~(long[left] & long[right])
                left, right = left[some_short], right[some_short]
            found.append((left, right, resemblance(texts, left, right, cut)))
        left, right, likeness = (np.concatenate(part) for part in zip(*found, strict=True))
        return left, right, likeness

    def _shortest_long(self) -> float:
        """Words from which one replaced word leaves the resemblance above the threshold."""
        longest = LONGEST_SHORT * self.shingle
        if self.threshold >= 1:
            return longest
        needed = (2 * self.shingle - 1 + self.threshold) / (1 - self.threshold)
        return min(needed, longest)


def _distinct(data: Dataset) -> tuple[pl.Series, Indices]:
    """The texts in normal form, and for each the position of the first equal one."""
    columns = data.roles.all("text") or (data.roles.one("text"),)
    joined = pl.concat_str(pl.col(columns).cast(pl.String), separator="\n", ignore_nulls=True)
    texts = normalise(data.frame(columns).select(joined.alias("text"))["text"])
    numbered = pl.DataFrame({"text": texts}).with_row_index("at")
    same = numbered.select(pl.col("at").min().over("text"))["at"]
    return texts, same.to_numpy().astype(np.int64)


def _originals(same: Indices) -> NDArray[np.bool_]:
    return np.asarray(same == np.arange(same.size))


def _scores(
    repeated: NDArray[np.bool_], left: Indices, right: Indices, likeness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The best resemblance to an earlier text; for a repeated row to any text of its cluster."""
    scores = np.zeros(repeated.size)
    np.maximum.at(scores, right, likeness)
    fallback = np.zeros(repeated.size)
    np.maximum.at(fallback, left, likeness)
    return np.where(repeated, np.maximum(scores, fallback), scores)
