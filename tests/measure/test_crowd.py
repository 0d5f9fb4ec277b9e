# SPDX-License-Identifier: Apache-2.0
"""Joining answers: equal to plain loops, right on odd input, and `auto` the best on real crowds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datapipe.errors import DeclarationError, LimitExceeded
from datapipe.measure.calibration import calibration_error
from datapipe.measure.crowd import Answers, majority, wawa
from datapipe.measure.crowd_bayes import digamma, ebcc
from datapipe.measure.crowd_choice import METHODS, aggregate
from datapipe.measure.crowd_models import dawid_skene
from datapipe.measure.crowd_stream import RunningCrowd
from datapipe.measure.crowd_values import bradley_terry, joined_values
from datapipe.measure.incidence import Sums, grouped

SETS = ("CF", "CF_amt", "SP", "SP_amt", "product", "face", "bird", "rte")


def crowd(seed, *, skills, items=300, classes=3, each=5, gold=0):
    """Answers of annotators of known skill, and the true labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, items)
    who = np.concatenate([rng.choice(len(skills), each, replace=False) for _ in range(items)])
    item = np.repeat(np.arange(items), each)
    right = rng.random(item.size) < np.asarray(skills)[who]
    said = np.where(right, true[item], (true[item] + rng.integers(1, classes, item.size)) % classes)
    known = np.where(np.arange(items) < gold, true, -1) if gold else None
    return Answers(item, who, said, items, len(skills), classes, gold=known), true


def real(real_data, name):
    frame = pl.read_parquet(real_data(f"labels/crowd_{name}_answers.parquet"))
    truth = pl.read_parquet(real_data(f"labels/crowd_{name}_truth.parquet")).sort("task")
    coded = [
        np.unique(frame[c].to_numpy(), return_inverse=True) for c in ("task", "worker", "label")
    ]
    (items, item), (people, who), (labels, said) = coded
    answers = Answers(item, who, said, len(items), len(people), len(labels))
    return answers, np.searchsorted(labels, truth["truth"].to_numpy())


def accuracy(posterior, true):
    """Ties count by share."""
    top = posterior >= posterior.max(1, keepdims=True) - 1e-9
    return float((top[np.arange(true.size), true] / top.sum(1)).mean())


def test_sums_equal_a_loop_whatever_the_number_of_answers():
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (40, 3000), (70_000, 500), (500, 5)):
        targets = rng.integers(0, n, m) if n != 40 else np.minimum(rng.geometric(0.2, m), n) - 1
        sources, weight, table = rng.integers(0, 7, m), rng.random(m), rng.random((7, 3))
        for voice in (None, weight):
            plain = np.zeros((n, 3))
            np.add.at(plain, targets, table[sources] * (1.0 if voice is None else voice[:, None]))
            assert np.allclose(Sums(targets, sources, n, voice).of(table), plain)
        assert np.array_equal(grouped(targets, n), np.argsort(targets, kind="stable"))


def test_without_smoothing_it_is_the_method_of_1979():
    answers, _ = crowd(1, skills=[0.9, 0.8, 0.6, 0.5, 0.4, 0.7], items=50)
    q = majority(answers).posterior
    people, k = answers.n_annotators, answers.n_classes
    for _ in range(6):
        counts = np.zeros((people, k, k))
        for i, w, said in zip(answers.item, answers.annotator, answers.label, strict=True):
            counts[w, :, said] += q[i]
        counts = np.maximum(counts, 1e-10)
        counts /= counts.sum(2, keepdims=True)
        logs = np.tile(np.log(q.mean(0)), (answers.n_items, 1))
        for i, w, said in zip(answers.item, answers.annotator, answers.label, strict=True):
            logs[i] += np.log(counts[w, :, said])
        q = np.exp(logs - logs.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    ours = dawid_skene(answers, iterations=6, tolerance=0, smoothing=0).posterior
    assert np.abs(ours - q).max() < 1e-6


def test_digamma_is_right():
    special = pytest.importorskip("scipy.special")
    x = np.array([1e-3, 0.02, 0.5, 1.0, 7.5, 1e4])
    assert np.allclose(digamma(x), special.digamma(x), atol=1e-9)


@pytest.mark.parametrize("name", ["auto", *METHODS])
def test_every_method_finds_the_labels_of_a_mixed_crowd(name):
    answers, true = crowd(2, skills=[0.95, 0.9, 0.9, 0.8, 0.6, 0.5], items=200)
    made = aggregate(answers, name).consensus
    assert accuracy(made.posterior, true) > 0.85
    assert np.allclose(made.posterior.sum(1), 1.0)


@pytest.fixture(scope="module")
def judged(real_data):
    """Every real crowd joined by `auto` and by each single method."""
    made = {}
    for name in SETS:
        answers, true = real(real_data, name)
        made[name] = {
            m: (aggregate(answers, m).consensus.posterior, true) for m in ("auto", *METHODS)
        }
        classic = dawid_skene(answers, smoothing=0, tolerance=1e-5)
        made[name]["1979"] = (classic.posterior, true)
    return made


@pytest.mark.power
def test_auto_beats_every_single_method_and_never_falls_below_the_vote(judged):
    scores = {m: [accuracy(*judged[s][m]) for s in SETS] for m in judged["CF"]}
    means = {m: float(np.mean(v)) for m, v in scores.items()}
    assert means["auto"] > max(v for m, v in means.items() if m != "auto"), means
    assert means["auto"] > 0.8702  # the best published figure on these sets
    assert min(np.subtract(scores["auto"], scores["majority"])) >= -0.01


@pytest.mark.power
def test_posteriors_are_calibrated_twice_as_well_as_those_of_dawid_and_skene(judged):
    def even_width(sure, right, bins):
        place = np.minimum((sure * bins).astype(int), bins - 1)
        gap = np.bincount(place, right, minlength=bins) - np.bincount(place, sure, minlength=bins)
        return float(np.abs(gap).sum()) / sure.size

    def even_mass(sure, right, bins):
        return calibration_error(sure, right, bins=bins).value

    rng = np.random.default_rng(0)
    for error, bins in ((even_width, 10), (even_width, 15), (even_mass, 10)):
        told = []
        for name in SETS:
            sides = [judged[name][m] for m in ("auto", "1979")]
            sides = [(q.max(1), q.argmax(1) == true) for q, true in sides]
            sure = sides[0][0]
            chance = np.mean([error(sure, rng.random(sure.size) < sure, bins) for _ in range(20)])
            told.append([error(*side, bins) for side in sides] + [chance])
        ours, theirs, least = np.mean(told, axis=0)
        print(f"{error.__name__} {bins}: {ours:.4f}, of 1979 {theirs:.4f}, at least {least:.4f}")
        assert ours <= 0.5 * theirs, (error.__name__, bins)


def test_the_share_of_own_votes_follows_the_crowd():
    """Where errors are independent the models may be believed; own votes count for less."""
    answers, true = crowd(8, skills=[0.95, 0.9, 0.6, 0.5, 0.5, 0.45, 0.4], items=400, each=4)
    made = aggregate(answers)
    assert 0.2 <= made.own_voice < 0.4
    sure, right = made.consensus.posterior.max(1), made.consensus.posterior.argmax(1) == true
    assert abs(float(sure.mean()) - float(right.mean())) < 0.1  # 0.107 with two fifths of votes


def test_gold_questions_are_clamped_and_turn_a_hostile_crowd_round():
    skills = [0.15] * 6 + [0.85] * 4
    free, true = crowd(3, skills=skills, classes=2, items=400)
    told, _ = crowd(3, skills=skills, classes=2, items=400, gold=80)
    for fit in (dawid_skene, ebcc, lambda a: aggregate(a, "auto").consensus):
        made = fit(told).posterior
        assert np.array_equal(made[:80].argmax(1), true[:80])
        assert np.allclose(made[:80].max(1), 1.0)
    assert accuracy(dawid_skene(told).posterior[80:], true[80:]) > 0.9
    assert accuracy(majority(free).posterior, true) < 0.5


def test_an_annotator_who_repeats_himself_has_one_voice():
    item, who = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    said, weight = np.array([1, 1, 1, 0]), np.array([1 / 3, 1 / 3, 1 / 3, 1.0])
    made = majority(Answers(item, who, said, 1, 2, 2, weight=weight)).posterior
    assert np.allclose(made, 0.5)
    assert np.allclose(wawa(Answers(item, who, said, 1, 2, 2, weight=weight)).posterior.sum(1), 1)


def test_one_answer_an_item_keeps_the_answer():
    rng = np.random.default_rng(0)
    said = rng.integers(0, 4, 60)
    made = aggregate(Answers(np.arange(60), rng.integers(0, 5, 60), said, 60, 5, 4)).consensus
    assert np.array_equal(made.posterior.argmax(1), said)


def test_five_thousand_classes_are_joined_without_confusion_matrices():
    rng = np.random.default_rng(4)
    true = rng.integers(0, 5000, 100)
    item, who = np.repeat(np.arange(100), 5), np.tile(np.arange(20), 25)
    said = np.where(rng.random(500) < 0.7, true[item], rng.integers(0, 5000, 500))
    answers = Answers(item, who, said, 100, 20, 5000)
    made = aggregate(answers)
    assert accuracy(made.consensus.posterior, true) > 0.95
    assert "dawid_skene" in made.left_out
    with pytest.raises(LimitExceeded, match="confusion cells"):
        dawid_skene(answers)


def test_codes_that_do_not_fit_are_refused():
    one = np.zeros(2, np.int64)
    with pytest.raises(DeclarationError, match="codes for 2 items"):
        Answers(one, one[:1], one, 1, 1, 2)
    with pytest.raises(DeclarationError, match=r"label codes must lie in 0\.\.0"):
        Answers(one, one, one + 1, 1, 1, 1)
    with pytest.raises(DeclarationError, match="there is no method 'majorty'"):
        aggregate(Answers(one, one, one, 1, 1, 2), "majorty")


def test_a_stream_of_batches_ends_where_the_whole_ends():
    answers, true = crowd(5, skills=[0.95, 0.9, 0.9, 0.6, 0.55, 0.5, 0.45], items=600, classes=3)
    order = np.random.default_rng(0).permutation(answers.item.size)
    running = RunningCrowd(3)
    for part in np.array_split(order, 12):
        running.add(answers.item[part], answers.annotator[part], answers.label[part])
    streamed = running.consensus()
    whole = dawid_skene(answers)
    assert accuracy(streamed.posterior, true) >= accuracy(whole.posterior, true) - 0.01
    assert np.abs(streamed.confusion - whole.confusion).max() < 0.08


def test_numbers_are_joined_by_exactness_and_their_intervals_hold_the_truth():
    rng = np.random.default_rng(6)
    true, spread, bias = rng.normal(50, 10, 300), np.array([1, 2, 4, 12, 20]), rng.normal(0, 2, 5)
    item, who = np.repeat(np.arange(300), 5), np.tile(np.arange(5), 300)
    value = true[item] + bias[who] + rng.normal(0, 1, 1500) * spread[who]
    made = joined_values(item, who, value, n_items=300, n_annotators=5)
    offset = float((made.value - true).mean())  # a bias that all share cannot be told
    plain = np.bincount(item, value) / 5
    assert np.std(made.value - true) < 0.5 * np.std(plain - true)
    held = (made.low - offset <= true) & (true <= made.high - offset)
    assert 0.90 <= held.mean() <= 0.99
    assert np.argsort(made.spread).tolist() == [0, 1, 2, 3, 4]


def test_choices_between_two_are_ranked_and_a_backward_chooser_is_turned():
    rng = np.random.default_rng(7)
    strength = np.linspace(2, -2, 12)
    a, b = rng.integers(0, 12, 3000), rng.integers(0, 12, 3000)
    a, b = a[a != b], b[a != b]
    who = rng.integers(0, 5, a.size)
    first = rng.random(a.size) < 1 / (1 + np.exp(strength[b] - strength[a]))
    first ^= who == 4
    made = bradley_terry(np.where(first, a, b), np.where(first, b, a), who, n=12)
    assert np.corrcoef(made.strength, strength)[0, 1] > 0.98
    assert made.trust[4] < 0.2
    assert made.trust[:4].min() > 0.8
    plain = bradley_terry(np.where(first, a, b)[who < 4], np.where(first, b, a)[who < 4], n=12)
    held = (plain.low <= strength) & (strength <= plain.high)
    assert held.mean() >= 0.75
