# SPDX-License-Identifier: Apache-2.0
"""CorpusDiversity: people raise no alarm, lost tails do, copies are copies, leaks are told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.roles import Roles
from datapipe.stages import CorpusDiversity
from datapipe.stages.synthetic._sketch import Sketch

VOCABULARY = np.array(
    [a + b + c + d for a in "bdfgklmnpr" for b in "aeiou" for c in "lmnrst" for d in "aeiouy"]
)


def texts(rng, n, *, kinds=VOCABULARY.size, words=120):
    use = np.arange(1, kinds + 1) ** -1.0
    drawn = rng.choice(VOCABULARY[:kinds], (n, words), p=use / use.sum())
    return [" ".join(row) for row in drawn]


def judged(rows, people, tmp_path=None, evaluation=None):
    data = Dataset.of(pl.DataFrame({"t": rows}, schema={"t": pl.String}), Roles.of(text="t"))
    reference = None if people is None else Dataset.of(pl.DataFrame({"t": people}))
    path = ""
    if evaluation is not None:
        path = tmp_path / "eval.parquet"
        pl.DataFrame({"t": evaluation}).write_parquet(path)
    context = Context(1, Path(), reference=reference)
    made = CorpusDiversity(evaluation=path).run(data, context).findings
    return {f.kind.removeprefix("synthetic."): f for f in made}


def test_ten_corpora_of_people_raise_no_alarm():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        found = judged(texts(rng, 120), texts(rng, 120))
        assert {f.verdict for f in found.values()} == {"clean"}
        assert abs(found["diversity"].measure.value - 1) < 0.12


def test_a_corpus_that_lost_its_tail_is_suspect():
    rng = np.random.default_rng(20)
    found = judged(texts(rng, 120, kinds=500), texts(rng, 120))["diversity"]
    assert found.verdict == "suspect"
    assert found.measure.high < 0.9
    assert found.details["tail_loss"] > 0.1
    assert found.details["fit_loss"] > 0


def test_copies_are_duplicates_and_nothing_else():
    rng = np.random.default_rng(21)
    own = texts(rng, 100)
    found = judged([*own, *own[:40]], texts(rng, 120))
    assert found["duplicates"].verdict == "suspect"
    assert found["duplicates"].flagged["row_id"].to_list() == list(range(100, 140))
    assert found["diversity"].verdict == "clean"


def test_leaks_of_evaluation_rows_are_told(tmp_path):
    rng = np.random.default_rng(22)
    asked = texts(rng, 30)
    rows = texts(rng, 60)
    rows[3] = asked[0][:50] + " and then it goes on in another way"
    rows[5] = "first of all " + " ".join(asked[1].split()[40:70])
    found = judged(rows, None, tmp_path, asked)["leak"]
    assert found.verdict == "suspect"
    assert found.flagged["row_id"].to_list() == [3, 5]
    assert judged(texts(rng, 60), None, tmp_path, asked)["leak"].verdict == "clean"


def test_without_a_reference_there_are_figures_and_no_verdict():
    rng = np.random.default_rng(23)
    found = judged(texts(rng, 50), None)["diversity"]
    assert found.verdict == "not_evaluated"
    assert 0 < found.details["unseen_mass"] < 0.3
    assert 0 < found.details["vocabulary_growth"] < 1
    assert found.details["distinct_1"] < found.details["distinct_2"] <= 1
    assert judged(texts(rng, 5), texts(rng, 120))["diversity"].verdict == "not_evaluated"


@pytest.mark.parametrize(
    "rows", [["", " "] * 30, ["🙂🙃"] * 60, ["\x00\x01"] * 60, ["word " * 400_000], [None] * 40]
)
def test_bad_rows_earn_no_verdict(rows):
    rng = np.random.default_rng(24)
    found = judged(rows, texts(rng, 120))
    assert found["diversity"].verdict == "not_evaluated"


def test_nothing_at_all_is_not_evaluated():
    found = CorpusDiversity().run(empty(), Context(0, Path())).findings
    assert [f.verdict for f in found] == ["not_evaluated"]


def test_the_sketch_is_exact_while_small_and_fair_when_full():
    rng = np.random.default_rng(25)
    tokens = rng.zipf(1.3, 200_000).astype(np.uint64)
    full, small = Sketch(), Sketch(most=2_000)
    for part in np.array_split(tokens, 13):
        full.add(part)
        small.add(part)
    kinds, times = np.unique(tokens, return_counts=True)
    assert full.kinds == kinds.size
    assert full.occurring(1) == (times == 1).sum()
    assert small.hashes.size == 2_000
    assert math.isclose(small.kinds, kinds.size, rel_tol=0.08)
    assert math.isclose(small.occurring(1), (times == 1).sum(), rel_tol=0.12)
    assert small.tokens == 200_000
