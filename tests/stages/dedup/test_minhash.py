# SPDX-License-Identifier: Apache-2.0
"""Near-duplicate texts: recall and precision against the exact resemblance of all pairs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.core.roles import Roles
from datapipe.measure.intervals import precision_recall
from datapipe.stages.dedup import _signatures
from datapipe.stages.dedup._clusters import components
from datapipe.stages.dedup.minhash import MinHash

THRESHOLDS = (0.5, 0.7, 0.8, 0.9)


def look(texts: list[str | None], context: Context, stage: MinHash | None = None) -> Finding:
    data = Dataset.of(pl.DataFrame({"t": pl.Series(texts, dtype=pl.String)}), Roles.of(text="t"))
    return (stage or MinHash()).run(data, context).findings[0]


def edited(rng: np.random.Generator, n: int, length: int) -> list[list[str]]:
    """Distinct texts, then copies of half of them with none to eight words replaced."""
    words = np.array([f"w{i:x}" for i in range(5000)])
    rows = [list(r) for r in words[rng.integers(0, words.size, (n, length))]]
    for source in rng.integers(0, n, n // 2):
        copy = list(rows[source])
        for place in rng.integers(0, length, rng.integers(0, 9)):
            copy[place] = str(rng.choice(words))
        rows.append(copy)
    return rows


def resemblances(sets: list[set[object]]) -> np.ndarray:
    """Jaccard of all pairs, the slow way; only pairs that share a shingle are looked at."""
    n = len(sets)
    shared = np.zeros((n, n))
    owners: dict[object, list[int]] = {}
    for i, pieces in enumerate(sets):
        for piece in pieces:
            owners.setdefault(piece, []).append(i)
    for members in owners.values():
        shared[np.ix_(members, members)] += 1
    sizes = np.array([len(s) for s in sets])
    return shared / np.maximum(sizes[:, None] + sizes - shared, 1)


def repeats(near: np.ndarray) -> np.ndarray:
    left, right = np.nonzero(np.triu(near, 1))
    return components(len(near), left, right) != np.arange(len(near))


@pytest.mark.parametrize(
    "threshold",
    [t if t == THRESHOLDS[-1] else pytest.param(t, marks=pytest.mark.power) for t in THRESHOLDS],
)
def test_recall_and_precision_against_all_pairs_of_long_texts(threshold, context) -> None:
    rng = np.random.default_rng(round(100 * threshold))
    rows = edited(rng, 1000, 120)
    sets = [{tuple(r[i : i + 5]) for i in range(len(r) - 4)} for r in rows]
    found = look([" ".join(r) for r in rows], context, MinHash(threshold=threshold))
    precision, recall = precision_recall(
        found.rows["flagged"], repeats(resemblances(sets) >= threshold)
    )
    assert precision.value == 1.0
    assert recall.low >= 0.95


def test_short_texts_are_compared_by_characters(context) -> None:
    rng = np.random.default_rng(3)
    texts = [" ".join(r) for r in edited(rng, 1200, 40)]
    sets = [{t[i : i + 5] for i in range(len(t) - 4)} for t in texts]
    found = look(texts, context)
    precision, recall = precision_recall(found.rows["flagged"], repeats(resemblances(sets) >= 0.8))
    assert precision.value == 1.0
    assert recall.low >= 0.95


def test_one_replaced_word_is_found_in_texts_of_every_length(context) -> None:
    rng = np.random.default_rng(4)
    words = np.array([f"word{i}" for i in range(3000)])
    pairs = []
    for length in range(20, 120, 5):
        row = list(words[rng.integers(0, 3000, length)])
        other = list(row)
        other[length // 2] = "other"
        pairs += [" ".join(row), " ".join(other)]
    assert look(pairs, context).rows["flagged"].to_list() == [False, True] * (len(pairs) // 2)


def test_unlike_texts_are_clean(context) -> None:
    rng = np.random.default_rng(5)
    words = np.array([f"w{i}" for i in range(400)])
    texts = [" ".join(r) for r in words[rng.integers(0, 400, (2000, 40))]]
    found = look(texts, context)
    assert (found.verdict, found.details["rows_removed"]) == ("clean", 0)
    assert len(found.rows) == 2000


def test_scores_are_the_exact_resemblance(context) -> None:
    row = [f"w{i}" for i in range(100)]
    found = look([" ".join(row), " ".join([*row[:-1], "z"]), "far off"], context)
    assert found.rows["score"].to_list() == pytest.approx([0.0, 95 / 97, 0.0])


def test_its_findings_are_told_from_those_of_images_and_tables(context) -> None:
    assert look(["a", "b"], context).kind == look([""], context).kind == MinHash.name


def test_case_quotes_and_spaces_do_not_make_a_new_text(context) -> None:
    found = look(["It’s  a “fine” Day\n", 'it\'s a "fine" day', None, "", "  "], context)
    assert found.rows["flagged"].to_list() == [False, True, False, False, False]
    assert found.flagged["score"].to_list() == [1.0]


def test_a_huge_cluster_stays_linear_and_whole(context) -> None:
    row = [f"w{i}" for i in range(400)]
    texts = [" ".join([*row[:i], f"n{i}", *row[i + 1 :]]) for i in range(300)]
    found = look(texts, context)
    assert found.details["largest_cluster"] == 300
    assert found.details["clusters"] == 1


def test_row_order_decides_only_who_is_kept(context) -> None:
    rng = np.random.default_rng(6)
    texts = [" ".join(r) for r in edited(rng, 200, 80)]
    forth, back = look(texts, context), look(texts[::-1], context)
    assert forth.details["rows_removed"] == back.details["rows_removed"]
    assert forth.details["clusters"] == back.details["clusters"]


def test_same_seed_same_answer(context) -> None:
    texts = [" ".join(r) for r in edited(np.random.default_rng(7), 100, 60)]
    assert look(texts, context).rows.equals(look(texts, context).rows)


def test_several_text_columns_are_one_text(context) -> None:
    frame = pl.DataFrame({"q": ["who", "who", "who"], "a": ["me", "you", "me"]})
    data = Dataset.of(frame, Roles({"text": ("q", "a")}))
    found = MinHash().run(data, context).findings[0]
    assert found.rows["flagged"].to_list() == [False, False, True]


def test_real_repeats(context, real_data) -> None:
    frame = pl.read_parquet(real_data("poison/sms_spam_dev.parquet"))
    found = look(frame["text"].to_list(), context)
    assert found.details["rows_removed"] >= len(frame) - 2585
    assert found.details["rows_removed"] <= 0.2 * len(frame)


@pytest.mark.parametrize("texts", [[], [None, "", " "]])
def test_no_text_is_not_evaluated(texts, context) -> None:
    assert look(texts, context).verdict == "not_evaluated"


def test_wrong_parameters_are_told() -> None:
    assert len(MinHash(threshold=0, permutations=3, shingle=0).check()) == 3
    assert MinHash().check() == []


def test_bands_keep_their_promise() -> None:
    for threshold in (0.3, *THRESHOLDS, 0.99):
        bands, rows = _signatures.banding(threshold, 128)
        assert bands * rows <= 128
        assert 1 - (1 - threshold**rows) ** bands >= 0.995


def test_signatures_agree_as_often_as_sets_do() -> None:
    rng = np.random.default_rng(8)
    common, own = (
        rng.integers(0, 2**64, 600, np.uint64),
        rng.integers(0, 2**64, (2, 200), np.uint64),
    )
    both = [np.concatenate([common, o]) for o in own]
    shingles = _signatures.Shingles(np.concatenate(both), np.array([0, 800, 1600]))
    draws = rng.integers(0, 2**32, (2, 4096), np.uint32)
    made = _signatures._signatures(shingles, draws[0] | np.uint32(1), draws[1])
    assert (made[0] == made[1]).mean() == pytest.approx(600 / 1000, abs=0.04)


def test_components_equal_a_slow_union() -> None:
    rng = np.random.default_rng(9)
    for _ in range(30):
        n = int(rng.integers(1, 40))
        left, right = rng.integers(0, n, (2, int(rng.integers(0, 50))))
        label = list(range(n))
        for a, b in zip(left, right, strict=True):
            old, new = sorted((label[a], label[b]), reverse=True)
            label = [new if x == old else x for x in label]
        assert components(n, left, right).tolist() == label
