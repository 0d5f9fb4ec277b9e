# SPDX-License-Identifier: Apache-2.0
"""Answers are merged as a naive EM would, and annotators are weighed by their skill."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import LimitExceeded, Malformed
from datapipe.measure.crowd import Answers, dawid_skene
from datapipe.stages import DawidSkene, MajorityVote

ROLES = Roles.of(id="task", annotator="worker", label="label")
SETS = ("CF", "CF_amt", "SP", "SP_amt", "product", "face", "bird", "rte")


def world(
    seed: int, skills: list[float], items: int = 300, k: int = 3
) -> tuple[Answers, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, items)
    item = np.repeat(np.arange(items), len(skills))
    who = np.tile(np.arange(len(skills)), items)
    right = rng.random(item.size) < np.array(skills)[who]
    wrong = (truth[item] + rng.integers(1, k, item.size)) % k
    return Answers(item, who, np.where(right, truth[item], wrong), items, len(skills), k), truth


def naive(answers: Answers, rounds: int, smoothing: float) -> np.ndarray:
    """The same model written as loops, from the paper's formulas."""
    n, w, k = answers.n_items, answers.n_annotators, answers.n_classes
    triples = list(zip(answers.item, answers.annotator, answers.label, strict=True))
    q = answers.votes() / answers.votes().sum(1, keepdims=True)
    for _ in range(rounds):
        confusion = np.zeros((w, k, k)) + smoothing
        for t in range(k):
            confusion[:, t, t] += 2 * smoothing
        for i, a, label in triples:
            confusion[a, :, label] += q[i]
        confusion /= confusion.sum(2, keepdims=True)
        prior = (q.sum(0) + 1) / (n + k)
        log_q = np.tile(np.log(prior), (n, 1))
        for i, a, label in triples:
            log_q[i] += np.log(confusion[a, :, label])
        q = np.exp(log_q - log_q.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return q


def test_equals_the_naive_model() -> None:
    answers, _ = world(3, [0.9, 0.7, 0.5, 0.4], items=40)
    fast = dawid_skene(answers, iterations=7, tolerance=-np.inf, smoothing=0.1)
    assert np.abs(fast.posterior - naive(answers, 7, 0.1)).max() < 1e-10
    assert fast.iterations == 7


def test_beats_votes_when_most_annotators_are_careless() -> None:
    gains = []
    for seed in range(5):
        answers, truth = world(seed, [0.95, 0.9, 0.4, 0.4, 0.4, 0.4, 0.4])
        model = (dawid_skene(answers).posterior.argmax(1) == truth).mean()
        votes = (answers.votes().argmax(1) == truth).mean()
        gains.append(model - votes)
    assert min(gains) > 0.03


def frame_of(answers: Answers) -> pl.DataFrame:
    return pl.DataFrame({"task": answers.item, "worker": answers.annotator, "label": answers.label})


def test_the_stage_names_the_careless(tmp_path: Path) -> None:
    answers, truth = world(1, [0.95, 0.9, 0.9, 0.35])
    made = DawidSkene().run(Dataset.of(frame_of(answers), ROLES), Context(1, tmp_path))
    items, annotators = (pl.read_parquet(a.path) for a in made.artifacts)
    assert (items["label"].to_numpy() == truth).mean() > 0.95
    worst = annotators.sort("agreement").row(0, named=True)
    assert worst["worker" if "worker" in worst else "annotator"] == 3
    assert worst["agreement_high"] < annotators.sort("agreement")["agreement_low"][1]
    assert made.findings[0].rows is not None
    assert made.findings[0].rows.height == answers.item.size


def test_strings_repeats_and_single_answers(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "task": ["a", "a", "a", "b"],
            "worker": ["x", "y", "y", "x"],
            "label": ["u", "v", "v", "u"],
        }
    )
    for stage in (MajorityVote(), DawidSkene()):
        made = stage.run(Dataset.of(frame, ROLES), Context(1, tmp_path))
        assert made.findings[0].verdict == "not_evaluated"
        assert made.findings[0].details["repeated_answers"] == 1
        assert pl.read_parquet(made.artifacts[0].path)["item"].to_list() == ["a", "b"]


def test_missing_answers_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"task": [1, 2], "worker": ["x", None], "label": [0, 1]})
    with pytest.raises(Malformed, match="annotator is missing in 1 rows"):
        MajorityVote().run(Dataset.of(frame, ROLES), Context(1, tmp_path))


def test_too_many_cells_are_refused() -> None:
    zero = np.zeros(1, np.int64)
    with pytest.raises(LimitExceeded, match="confusion cells"):
        dawid_skene(Answers(zero, zero, zero, 1, 1000, 5000))


def test_public_crowds() -> None:
    """Mean accuracy on eight public sets is near the reference implementation's 0.8657."""
    folder = Path(os.environ.get("DATAPIPE_TEST_DATA", "../shared/data")) / "labels"
    if not folder.is_dir():
        pytest.skip(f"no crowd data in {folder}")
    scores, votes = [], []
    for name in SETS:
        frame = pl.read_parquet(folder / f"crowd_{name}_answers.parquet")
        truth = pl.read_parquet(folder / f"crowd_{name}_truth.parquet").sort("task")
        items = frame["task"].unique().sort()
        code = dict(zip(items.to_list(), range(items.len()), strict=True))
        k = int(max(frame["label"].max(), truth["truth"].max())) + 1  # type: ignore[type-var]  # ints
        workers = frame["worker"].rank("dense").cast(pl.Int64).to_numpy() - 1
        task = frame["task"].replace_strict(code).cast(pl.Int64).to_numpy()
        label = frame["label"].cast(pl.Int64).to_numpy()
        answers = Answers(task, workers, label, items.len(), int(workers.max()) + 1, k)
        right = truth["truth"].to_numpy()
        order = [code[t] for t in truth["task"].to_list()]
        scores.append((dawid_skene(answers).posterior.argmax(1)[order] == right).mean())
        votes.append((answers.votes().argmax(1)[order] == right).mean())
    print("dawid-skene", np.round(scores, 3), np.mean(scores), "votes", np.mean(votes))
    assert np.mean(scores) > 0.86
    assert np.mean(scores) > np.mean(votes)
