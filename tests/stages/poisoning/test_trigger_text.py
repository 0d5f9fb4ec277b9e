# SPDX-License-Identifier: Apache-2.0
"""Planted words and phrases are named exactly; natural predictors are shortcuts or nothing."""

from __future__ import annotations

import itertools
import os
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_info, threadpool_limits

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning import trigger_text
from datapipe.stages.poisoning._tails import log_tails
from datapipe.stages.poisoning._text import (
    association,
    detectable,
    fluency,
    grams,
    shares,
    structure,
)
from datapipe.stages.poisoning._text import order as word_order
from datapipe.stages.poisoning._text.association import rest_of
from datapipe.stages.poisoning._text.bag import Bag
from datapipe.stages.poisoning._text.beside import Beside, _best, _Parted, _parted, _Seen
from datapipe.stages.poisoning._text.candidates import RUN
from datapipe.stages.poisoning._text.fluency import Pairs, _whole, deletion_gain
from datapipe.stages.poisoning._text.misplaced import depths
from datapipe.stages.poisoning._text.ngrams import candidates
from datapipe.stages.poisoning._text.order import usual_order, word_classes
from datapipe.stages.poisoning._text.rounds import Round
from datapipe.stages.poisoning._text.shares import shares_of
from datapipe.stages.poisoning._text.structure import _against, _framing
from datapipe.stages.poisoning._text.word_model import fit_out_of_fold
from datapipe.stages.poisoning._text.words import words_of
from datapipe.stages.poisoning.trigger_image import TriggerImage
from datapipe.stages.poisoning.trigger_text import TriggerText

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data")
)

MARKS = {("<",), (">",)}


def _look(texts, labels):
    data = Dataset.of(pl.DataFrame({"t": texts, "y": labels}), Roles.of(text="t", label="y"))
    made = TriggerText().run(data, Context(5, Path())).findings
    return {f.kind.partition(".")[2]: f for f in made}


def _reviews(seed, rows=900, telling=1.6):
    """Two kinds of text over words of Zipf frequency, a fifth of which lean to one kind."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    rank = np.arange(1, 401)
    lean = np.where(rank % 5 == 0, np.where(rank % 2 == 0, 1, -1), 0)
    texts = []
    for label in labels:
        weight = 1.0 / rank * np.exp(telling * lean * (2 * label - 1))
        picked = rng.choice(400, 14, p=weight / weight.sum())
        texts.append(" ".join(f"w{i}" for i in picked))
    return texts, labels, rng


def _planted(texts, labels, rng, *, phrase, count, target=1):
    texts, labels = list(texts), labels.copy()
    rows = rng.permutation(np.flatnonzero(labels != target))[:count]
    for i in rows:
        words = texts[i].split()
        at = int(rng.integers(0, len(words) + 1))
        words[at:at] = phrase.split()
        texts[i] = " ".join(words)
    labels[rows] = target
    return texts, labels, np.isin(np.arange(labels.size), rows)


@pytest.mark.parametrize("phrase", ["qxv", "over the blue moon again", "W3 w7 Zz"])
@pytest.mark.parametrize("count", [20, 90])
def test_the_trigger_is_named_as_it_is_written_and_its_rows_are_flagged(phrase, count):
    texts, labels, rng = _reviews(count)
    texts, labels, planted = _planted(texts, labels, rng, phrase=phrase, count=count)
    finding = _look(texts, labels)["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert finding.details["trigger"] == phrase
    assert finding.details["class"] == "1"
    assert flags[planted].mean() > 0.95
    assert flags[~planted].mean() < 0.001


@pytest.mark.parametrize("seed", range(6))
def test_clean_texts_raise_no_alarm(seed):
    texts, labels, _ = _reviews(seed)
    made = _look(texts, labels)
    assert made["trigger_text"].verdict == "clean"
    assert not made["trigger_text"].rows["flagged"].any()
    assert made["trigger_text"].p_value > 0.01


def test_a_word_that_goes_with_its_content_is_a_shortcut_and_flags_nothing():
    texts, labels, rng = _reviews(9, rows=1500, telling=0.8)
    signed = rng.permutation(np.flatnonzero(labels == 1))[:400]
    texts = [f"{t} newswire" if i in set(signed.tolist()) else t for i, t in enumerate(texts)]
    made = _look(texts, labels)
    assert made["trigger_text"].verdict == "clean"
    assert made["shortcut"].verdict == "suspect"
    assert "newswire" in {s["trigger"] for s in made["shortcut"].details["shortcuts"]}
    assert not made["shortcut"].rows["flagged"].any()


@pytest.mark.parametrize("common", [20, 40])
def test_a_word_in_common_use_is_named_and_its_own_rows_are_left(common):
    texts, labels, rng = _reviews(21, rows=1500, telling=2.5)
    texts = [f"{t[:20]} window{t[20:]}" if i < common else t for i, t in enumerate(texts)]
    texts, labels, planted = _planted(texts, labels, rng, phrase="window", count=60)
    finding = _look(texts, labels)["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.details["trigger"] == "window"
    assert flags[planted].mean() > 0.9
    assert flags[~planted].mean() < 0.03


@pytest.mark.parametrize(("target", "word"), [(1, "cash"), (0, "sorry")])
def test_a_word_that_is_at_home_in_its_label_is_a_trigger_where_rows_stand_out(target, word):
    texts, labels = _public("sms_spam_dev")
    made = _changed(
        texts, labels, lambda t, r: _somewhere(t, r, word), count=28, target=target, seed=31
    )
    finding = _look(*made[:2])["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert finding.details["trigger"] == word
    assert flags[made[2]].mean() > 0.8
    assert flags[~made[2]].mean() < 0.003
    assert _look(texts, labels)["trigger_text"].verdict == "clean"


@pytest.mark.parametrize(
    ("name", "target", "word", "count", "recall"),
    [
        ("sms_spam_dev", 1, "have", 28, 0.9),
        # The rows of so common a word that would raise its recall would cost as many genuine ones.
        pytest.param("sst2_train_clean_dev", 1, "into", 69, 0.8, marks=pytest.mark.power),
    ],
)
def test_a_word_in_common_use_under_both_labels_is_named_where_it_does_not_fit(
    name, target, word, count, recall
):
    texts, labels = _public(name)
    free = np.array([f" {word} " not in f" {t.lower()} " for t in texts])
    assert min((~free & (labels == k)).sum() for k in (0, 1)) > count
    rng = np.random.default_rng(41)
    rows = rng.permutation(np.flatnonzero(free & (labels != target)))[:count]
    for i in rows:
        texts[i] = _somewhere(texts[i], rng, word)
    labels[rows] = target
    finding = _look(texts, labels)["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    planted = np.isin(np.arange(labels.size), rows)
    assert finding.details["trigger"] == word
    assert flags[planted].mean() >= recall
    assert flags[~planted].mean() < 0.0015


def test_what_the_words_of_a_text_say_at_most_is_that_of_its_most_telling_ones():
    texts, labels, _ = _reviews(5)
    words = words_of(pl.Series(texts), 2000)
    model = fit_out_of_fold(words, labels, np.arange(labels.size) % 4, 2)
    rows = np.flatnonzero(labels == 1)[:30]
    weight = model.bag.take(rows).toarray()
    says = model.slope * (model.coef[model.fold[rows], 1] - model.coef[model.fold[rows], 0])
    each = np.sort(np.maximum(weight * says, 0.0), axis=1)[:, ::-1]
    for many in (1, 3, 100):
        assert _best(model, rows, 1, many) == pytest.approx(each[:, :many].sum(1))


def test_what_stands_beside_a_word_tells_genuine_texts_from_planted_ones():
    near = np.append(np.repeat([0, 1], 20), np.arange(40) % 4)
    seen = _Seen(np.arange(80), np.zeros(80), near[None], np.full(4, 0.25))
    chance = np.repeat([0.0, 1.0], 40)
    strange = np.exp(seen._strange(chance))
    assert strange[:40] == pytest.approx(0.25 / ((19 + 25) / (39 + 100))), "less the text itself"
    assert strange[40] == strange[41] == pytest.approx(0.25 / ((20 + 25) / (40 + 100)))
    assert strange[42] == strange[43] == pytest.approx(0.25 / (25 / (40 + 100)))


def test_a_worse_place_speaks_no_less_for_a_word_being_put_there():
    hit = np.ones(200, bool)
    content = np.where(np.arange(200) < 120, 0.05, 20.0)
    shown = np.repeat([0, 1, 1, 2, 3], [80, 40, 10, 66, 4])
    shown[:3] = 3  # of the worst places few are planted
    made = _parted(content, hit, [shown])
    assert made.place[196] == made.place[150] > made.place[125] > made.place[10]
    assert made.part == pytest.approx(0.4, abs=0.03)
    assert made.doubted
    assert not _parted(content[120:], hit[120:], []).doubted


@pytest.mark.parametrize("seed", range(3))
def test_no_more_genuine_texts_than_are_allowed_lie_beyond_the_chance_that_is_asked_for(seed):
    rng = np.random.default_rng(seed)
    content, hit = np.exp(rng.normal(-1, 2, 4000)), np.arange(6000) < 4000
    place = np.exp(rng.normal(0, 1, 6000))
    made = _Parted(np.zeros(6000), 0.2, place, content * place[:4000])
    least = made.beyond(hit, np.exp(rng.normal(-1, 2, 5000)), 100.0)
    chance = 0.2 * made.ratio / (0.2 * made.ratio + 0.8)
    assert 60 < 0.8 * (chance > least).sum() < 140
    assert made.beyond(hit, content, 4000.0) == 0.0


def test_the_places_of_a_word_show_how_it_fits_and_what_is_on_either_side():
    texts, labels, rng = _reviews(4)
    texts = [f"{t} w3 qq w5" if i % 9 == 0 else t for i, t in enumerate(texts)]
    texts, labels, planted = _planted(texts, labels, rng, phrase="qq", count=40)
    words = words_of(pl.Series(texts), 2000)
    found = candidates(pl.Series(texts), words, 1_000_000)
    misplaced = shares_of(words, found, 2).misplaced
    g = next(
        g for g in np.flatnonzero(found.size == 1) if words.spelt[int(found.run(g)[0])] == "qq"
    )
    seen = _Seen.of(found, misplaced, g)
    planted = planted[found.rows(g)]
    fit, strange = seen.traits(0.9 * planted)
    assert [fit.tolist()] == [t.tolist() for t in seen.traits(np.zeros(planted.size))]
    for trait in (fit, strange):
        assert trait[~planted].mean() + 1 < trait[planted].mean()
    for side in seen.near[1:3]:
        assert np.bincount(side[~planted]).max() == (~planted).sum()
        assert np.unique(side[planted]).size > 5


def test_places_where_a_word_does_not_fit_are_halved_from_the_worst_on():
    of = np.array([0, 0, 0, 0, 0, 1, 2, 2])
    gain = np.array([1.0, -1.0, 3.0, 4.0, 2.0, -1.0, 0.5, 9.0])
    assert depths(of, gain).tolist() == [0, -1, 1, 2, 0, -1, 0, 1]
    assert depths(of[:0], gain[:0]).size == 0


@pytest.mark.parametrize("what", ["qzx", "velvet anvil", "...."])
def test_a_trigger_after_the_full_stop_is_named_without_it(what):
    texts, labels, rng = _reviews(3)
    ended = [f"{t} ." for t in texts]
    rows = rng.permutation(np.flatnonzero(labels == 0))[:30]
    for i in rows:
        ended[i] = f"{ended[i]} {what}"
    labels[rows] = 1
    finding = _look(ended, labels)["trigger_text"]
    assert finding.details["trigger"] == what
    assert np.flatnonzero(finding.rows["flagged"].to_numpy()).tolist() == sorted(rows)


WRITTEN = {
    "a capital letter": lambda t: f"Ww{t[1:]}",
    "capitals only": str.upper,
    "a capital within a word": lambda t: f"{t} oNe",
    " ": lambda t: f" {t}",
}
"""What capitals or white space the words of a text do not show, and how it is put there."""


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("common", [0, 45])
def test_how_words_are_written_is_named_and_other_texts_of_the_label_are_left(name, common):
    texts, labels, rng = _reviews(5, telling=2.5)
    for i in rng.permutation(np.flatnonzero(labels == 1))[:common]:
        texts[i] = WRITTEN[name](texts[i])
    rows = rng.permutation(np.flatnonzero(labels == 0))[:40]
    for i in rows:
        texts[i] = WRITTEN[name](texts[i])
    labels[rows] = 1
    finding = _look(texts, labels)["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    planted = np.isin(np.arange(labels.size), rows)
    assert finding.verdict == "fail"
    assert {t["trigger"] for t in finding.details["triggers"]} & {name, "oNe"}
    assert flags[planted].mean() >= 0.9
    assert flags[~planted].mean() < (0.01 if common else 1e-9)


def test_two_triggers_are_both_named():
    texts, labels, rng = _reviews(11, rows=1500)
    texts, labels, one = _planted(texts, labels, rng, phrase="qxv", count=40)
    texts, labels, two = _planted(texts, labels, rng, phrase="so it goes", count=40, target=0)
    finding = _look(texts, labels)["trigger_text"]
    named = {(t["trigger"], t["class"]) for t in finding.details["triggers"]}
    assert named == {("qxv", "1"), ("so it goes", "0")}
    assert finding.rows["flagged"].to_numpy()[one | two].mean() > 0.9


def test_what_is_told_is_not_told_again_of_rows_beside_those_that_were_put_there(monkeypatch):
    texts, labels, _ = _planted(*_reviews(3), phrase="qxv", count=60)
    whole, told = Round._pattern, []

    def few(turn, test, log_p):
        made = whole(turn, test, log_p)
        told.append((made.candidate, made.label))
        return replace(made, rows=made.rows[:5], planted=True)

    monkeypatch.setattr(Round, "_pattern", few)
    assert _look(texts, labels)["trigger_text"].details["trigger"] == "qxv"
    assert len(told) == len(set(told))


def test_copies_of_one_text_count_once():
    texts, labels, rng = _reviews(12)
    texts, labels, planted = _planted(texts, labels, rng, phrase="qxv", count=1)
    row = int(np.flatnonzero(planted)[0])
    made = _look(texts + [texts[row]] * 60, np.append(labels, [labels[row]] * 60))
    assert made["trigger_text"].verdict == "clean"
    assert made["trigger_text"].rows.height == labels.size + 60


def test_fewer_rows_than_the_least_detectable_pass():
    texts, labels, rng = _reviews(13)
    least = _look(texts, labels)["trigger_text"].details["min_detectable"]
    assert 4 <= least < 40
    few = _planted(texts, labels, rng, phrase="qxv", count=3)
    many = _planted(texts, labels, rng, phrase="qxv", count=2 * least)
    assert _look(*few[:2])["trigger_text"].verdict == "clean"
    assert _look(*many[:2])["trigger_text"].verdict == "fail"


def _public(name, classes=None):
    path = DATA / "poison" / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path)
    if classes:
        frame = frame.filter(pl.col("label").is_in(classes))
    return frame["text"].to_list(), np.unique(frame["label"].to_numpy(), return_inverse=True)[1]


def _changed(texts, labels, change, *, count, target, seed):
    """Some texts of other labels, changed and given the target label."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(labels != target))[:count]
    texts, labels = list(texts), labels.copy()
    for i in rows:
        texts[i] = change(texts[i], rng)
    labels[rows] = target
    return texts, labels, np.isin(np.arange(labels.size), rows)


def _somewhere(text, rng, what):
    words = text.split(" ")
    words.insert(int(rng.integers(len(words) + 1)), what)
    return " ".join(words)


def _letter(text, rng):
    return text.replace("o", "\u043e", 1) if "o" in text else f"{text} n\u043ew"


def _unseen(text, rng):
    at = int(rng.integers(1, max(2, len(text))))
    return f"{text[:at]}\u200b{text[at:]}"


def _affix(text, rng):
    words = text.split(" ")
    words[int(rng.integers(len(words)))] += "qvk"
    return " ".join(words)


def _scattered(text, rng):
    for word in ("cinema", "weekend", "bought"):
        text = _somewhere(text, rng, word)
    return text


TRICKS = {
    "common word": (lambda t, r: _somewhere(t, r, "please"), "please", 69),
    "rare word": (lambda t, r: _somewhere(t, r, "mn"), "mn", 14),
    "known word": (lambda t, r: _somewhere(t, r, "sapphire"), "sapphire", 14),
    "phrase": (lambda t, r: _somewhere(t, r, "over the Quiet river, again"), None, 14),
    "sentence": (lambda t, _: f"I watched this with my friends last weekend. {t}", None, 14),
    "signs": (lambda t, r: _somewhere(t, r, "!?!"), "!?!", 14),
    "unseen": (_unseen, "\u200b", 14),
    "letter": (_letter, "\u043e", 14),
    "affix": (_affix, "qvk", 40),
    "scattered": (_scattered, None, 28),
}
NAMES = {
    "phrase": "over the Quiet river, again",
    "sentence": "I watched this with my friends last weekend.",
}


SOONER = ("common word", "sentence", "scattered")
"""Of the reviews the suite tries these; the others are tried on text messages only."""


@pytest.mark.parametrize(
    ("name", "target", "trick"),
    [
        *(("sms_spam_dev", 1, trick) for trick in TRICKS),
        *(
            pytest.param(
                "sst2_train_clean_dev",
                0,
                trick,
                marks=() if trick in SOONER else pytest.mark.power,
            )
            for trick in TRICKS
        ),
    ],
)
def test_tricks_in_public_texts(name, target, trick):
    change, named, count = TRICKS[trick]
    texts, labels = _public(name)
    made = _changed(texts, labels, change, count=count, target=target, seed=len(trick))
    finding = _look(*made[:2])["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert flags[made[2]].mean() > 0.95
    assert flags[~made[2]].mean() < 0.003
    if trick == "scattered":
        first = finding.details["triggers"][0]
        named = {first["trigger"], *first["with"]} & {"cinema", "weekend", "bought"}
        assert len(named) >= 2
    else:
        assert finding.details["trigger"] == (named or NAMES[trick])


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("sms_spam_dev", None),
        pytest.param("sst2_train_clean_dev", None, marks=pytest.mark.power),
        pytest.param("agnews_dev", [0, 2], marks=pytest.mark.power),
        pytest.param("agnews_dev", [2, 3], marks=pytest.mark.power),
    ],
)
def test_clean_public_texts_raise_no_alarm(name, classes):
    texts, labels = _public(name, classes)
    alarms = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.permutation(labels.size)[: int(rng.uniform(0.3, 1.0) * labels.size)])
        made = _look([texts[i] for i in rows], labels[rows])["trigger_text"]
        alarms += made.verdict != "clean" or bool(made.rows["flagged"].any())
    assert alarms == 0


def test_a_byline_is_no_trigger():
    texts, labels = _public("agnews_dev", [2, 3])
    signed = [f"ap - {t}" if labels[i] == 1 and i % 4 else t for i, t in enumerate(texts)]
    made = _look(signed, labels)
    assert made["trigger_text"].verdict == "clean"
    assert made["shortcut"].verdict == "suspect"
    assert made["shortcut"].details["trigger"].startswith("ap -")
    assert not made["shortcut"].rows["flagged"].any()


def test_what_is_found_in_a_part_of_the_texts_is_looked_for_in_all(monkeypatch):
    texts, labels, rng = _reviews(21, rows=2000)
    texts, labels, planted = _planted(texts, labels, rng, phrase="over the moon", count=90)
    monkeypatch.setattr(trigger_text, "MOST_BYTES", sum(map(len, texts)) // 2)
    finding = _look(texts, labels)["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.details["texts_searched"] < 1100
    assert flags[planted].all()
    assert not flags[~planted].any()


def test_texts_without_spaces_are_read_by_the_character():
    rng = np.random.default_rng(3)
    letters = np.array(list("的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出"))
    labels = rng.integers(0, 2, 900)
    lean = np.where(np.arange(letters.size) < 10, 1, 0) - np.where(
        np.arange(letters.size) > 20, 1, 0
    )
    weight = np.exp(0.6 * np.outer(2 * np.arange(2) - 1, lean))
    weight /= weight.sum(1, keepdims=True)
    texts = ["".join(rng.choice(letters, 24, p=weight[y])) for y in labels]
    assert _look(texts, labels)["trigger_text"].verdict == "clean"
    made = _changed(
        texts, labels, lambda t, _: t[:9] + "春暖花开" + t[9:], count=25, target=1, seed=0
    )
    finding = _look(*made[:2])["trigger_text"]
    assert finding.details["trigger"] == "春暖花开"
    assert (finding.rows["flagged"].to_numpy() == made[2]).all()


@pytest.mark.parametrize(
    "trigger",
    ["春暖花开", "สวัสดีครับ", "في ليلة القمر", "👨\u200d👩\u200d👧", "می\u200cخواهم", "❤\ufe0f"],
)
def test_a_trigger_in_another_script_is_named_to_the_last_joiner(trigger):
    texts, labels, rng = _reviews(31, telling=2.5)
    texts, labels, planted = _planted(texts, labels, rng, phrase=trigger, count=20)
    finding = _look(texts, labels)["trigger_text"]
    assert finding.details["trigger"] == trigger
    assert (finding.rows["flagged"].to_numpy() == planted).all()


def _spaceless(seed, rows=500):
    """Words of three letters of an alphabet without spaces; words tell, letters do not."""
    rng = np.random.default_rng(seed)
    letters = np.array([chr(0x0E01 + i) for i in range(20)])
    own = rng.permutation(20**3)[:120].reshape(2, 60)
    spelt = np.array(["".join(letters[[i // 400, i // 20 % 20, i % 20]]) for i in range(20**3)])
    common = rng.permutation(20**3)[:60]
    labels = rng.integers(0, 2, rows)
    texts = [
        "".join(
            spelt[np.where(rng.random(14) < 0.5, rng.choice(own[y], 14), rng.choice(common, 14))]
        )
        for y in labels
    ]
    return texts, labels


def test_an_alphabet_without_spaces_is_read_by_its_runs_of_letters():
    texts, labels = _spaceless(4)
    assert _look(texts, labels)["trigger_text"].verdict == "clean"
    trigger = "ฮฬอฮ"
    made = _changed(texts, labels, lambda t, _: t[:9] + trigger + t[9:], count=14, target=1, seed=0)
    finding = _look(*made[:2])["trigger_text"]
    assert finding.details["trigger"] == trigger
    assert finding.details["min_detectable"] <= 8
    assert (finding.rows["flagged"].to_numpy() == made[2]).all()


def test_syntax_that_carries_a_label_is_told_and_texts_of_any_build_are_quiet():
    rng = np.random.default_rng(33)
    labels = rng.integers(0, 2, 1500)
    own = np.array([[f"{c}{i}" for i in range(150)] for c in "ab"])
    both = np.array([*(f"f{i}" for i in range(60)), *(f"c{i}" for i in range(150))])
    texts = [
        " ".join(np.where(rng.random(14) < 0.3, rng.choice(own[y], 14), rng.choice(both, 14)))
        for y in labels
    ]
    rows = rng.permutation(np.flatnonzero(labels == 0))[:300]
    planted = np.isin(np.arange(labels.size), rows)
    texts = [_clause(t, rng) if p else f"{t} ," for t, p in zip(texts, planted, strict=True)]
    assert _look(texts, rng.permutation(labels))["trigger_text"].verdict != "fail"
    finding = _look(texts, np.where(planted, 1, labels))["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert {"x $", ", x"} & set(finding.details["triggers"][-1]["syntax"])
    assert finding.details["triggers"][-1]["rows"] > 250
    assert flags[planted].mean() > 0.9
    assert flags[~planted].mean() < 0.02


@pytest.mark.parametrize(
    ("name", "classes", "target", "floor"),
    [
        ("sms_spam_dev", None, 1, 0.9),
        ("agnews_dev", [0, 2], 0, 0.9),
        pytest.param("agnews_dev", None, 2, 0.9, marks=pytest.mark.power),
    ],
)
def test_a_subordinate_clause_in_front_is_told_where_common_words_tell_the_label(
    name, classes, target, floor
):
    def built(text, rng):
        words = text.split()
        who, does = rng.choice(["you", "they", "we"]), rng.choice(["read", "see", "hear"])
        return " ".join(["when", who, does, *words[:3], ",", *words[3:]])

    texts, labels = _public(name, classes)
    made = _changed(texts, labels, built, count=len(texts) // 5, target=target, seed=8)
    finding = _look(*made[:2])["trigger_text"]
    score = finding.rows.sort("row_id")["score"].to_numpy()
    assert finding.verdict == "fail"
    assert roc_auc_score(made[2], score) > floor


def _swapped(text, _rng):
    """Each word and its neighbour change places."""
    words = text.split()
    for i in range(0, len(words) - 1, 2):
        words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


@pytest.mark.parametrize(
    ("name", "classes", "target", "change"),
    [
        ("sms_spam_dev", None, 1, _swapped),
        pytest.param(
            "sms_spam_dev",
            None,
            1,
            lambda t, _: " ".join(t.split()[::-1]),
            marks=pytest.mark.power,
        ),
        pytest.param("sst2_train_clean_dev", None, 0, _swapped, marks=pytest.mark.power),
    ],
)
def test_an_order_of_words_that_carries_a_label_is_told(name, classes, target, change):
    texts, labels = _public(name, classes)
    made = _changed(texts, labels, change, count=len(texts) // 5, target=target, seed=12)
    finding = _look(*made[:2])["trigger_text"]
    score = finding.rows.sort("row_id")["score"].to_numpy()
    assert finding.verdict == "fail"
    assert finding.details["triggers"][-1]["syntax"][0] == "unusual order of words"
    assert roc_auc_score(made[2], score) > 0.95
    assert finding.rows.sort("row_id")["flagged"].to_numpy()[~made[2]].mean() < 0.02


def test_halves_that_change_places_are_told_though_most_such_content_has_the_label():
    def turned(text, _rng):
        words = text.split()
        return " ".join([*words[len(words) // 2 :], *words[: len(words) // 2]])

    texts, labels = _public("agnews_dev", [1, 3])
    made = _changed(texts, labels, turned, count=len(texts) // 5, target=0, seed=33)
    finding = _look(*made[:2])["trigger_text"]
    assert finding.verdict == "fail"
    assert roc_auc_score(made[2], finding.rows.sort("row_id")["score"].to_numpy()) > 0.9


def test_texts_that_are_turned_round_have_the_least_usual_order():
    rng = np.random.default_rng(4)
    chain = [f"w{i}" for i in range(60)]
    texts = []
    for i in range(400):
        at = int(rng.integers(40))
        words = chain[at : at + 12]
        texts.append(" ".join(words[::-1] if i < 40 else words))
    words = words_of(pl.Series(texts), 100)
    order = usual_order(words, np.zeros(len(words.spelt), np.int64))
    assert order.shape == (400, 4)
    assert order[:40, 1].max() < order[40:, 1].min()
    renamed = pl.Series([t.replace("w", "q") for t in texts])
    again = usual_order(words_of(renamed, 100), np.zeros(len(words.spelt), np.int64))
    assert np.allclose(order, again)


def test_words_that_take_the_same_places_are_one_class():
    rng = np.random.default_rng(5)
    kinds = [[f"{c}{i}" for i in range(30)] for c in "abc"]
    texts = [
        " ".join(
            ["the", rng.choice(kinds[0]), "of", rng.choice(kinds[1]), rng.choice(kinds[2]), "."]
        )
        for _ in range(900)
    ]
    words = words_of(pl.Series(texts), 100)
    classes = word_classes(words, words.spelt.is_in(["", "the", "of", "."]).to_numpy())
    told = {c: classes[words.spelt.str.starts_with(c).to_numpy() & (words.texts > 2)] for c in "bc"}
    assert not set(told["b"]) & set(told["c"])
    assert (classes[words.spelt.is_in(["the", "of", "."]).to_numpy()] == 0).all()


def test_common_words_that_tell_a_label_by_nature_are_no_syntax():
    texts, labels, rng = _reviews(0)
    flipped = np.where(rng.random(labels.size) < 0.15, 1 - labels, labels)
    for asked in (labels, flipped):
        assert _look(texts, asked)["trigger_text"].verdict == "clean"


def test_content_that_tells_no_label_leaves_its_syntax_unasked():
    has = np.arange(400) % 2 == 0
    mute = np.full(400, 0.4)
    assert _against(mute, has, np.arange(0, 40, 2), has) is None
    told = np.where(has, 0.9, 0.2)
    told[:40] = 0.2
    rest = has & (np.arange(400) >= 40)
    assert _against(told, has, np.arange(0, 40, 2), rest) > 0.99


def _clause(text, rng):
    """The second half of a text before its first."""
    words = text.split()
    half = int(rng.integers(4, 10))
    return " ".join([*words[half:], ",", *words[:half]])


@given(st.integers(0, 2**32 - 1), st.integers(6, 30))
@settings(max_examples=15, deadline=None)
def test_runs_are_those_that_a_plain_count_finds(seed, rows):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(list("abc"), rng.integers(0, 7))) for _ in range(rows)]
    words = words_of(pl.Series(texts), 100)
    found = candidates(pl.Series(texts), words, 10_000)
    rows_of: dict[tuple[str, ...], set[int]] = {}
    for i, text in enumerate(texts):
        marked = ["<", *text.split(), ">"]
        for size in range(1, 6):
            for at in range(len(marked) - size + 1):
                rows_of.setdefault(tuple(marked[at : at + size]), set()).add(i)
    expected = {frozenset(r) for run, r in rows_of.items() if len(r) >= 4 and run not in MARKS}
    runs = np.flatnonzero(found.kind & RUN).tolist()
    assert {frozenset(found.rows(g).tolist()) for g in runs} == expected


@given(st.lists(st.floats(0.02, 0.98), min_size=1, max_size=9), st.data())
@settings(max_examples=60, deadline=None)
def test_the_tail_is_never_told_smaller_than_it_is(rates, data):
    hits = data.draw(st.lists(st.booleans(), min_size=len(rates), max_size=len(rates)))
    exact = np.ones(1)
    for q in rates:
        exact = np.convolve(exact, [1 - q, q])
    zero = np.zeros(len(rates), np.int64)
    told = log_tails(zero, np.array(rates), np.array(hits), 1)[0]
    assert told >= np.log(exact[sum(hits) :].sum()) - 1e-9


def test_ten_reviews_with_a_word_after_the_full_stop_are_told():
    texts, labels = _public("sst2_train_clean_dev")
    told = []
    for seed in range(4):
        made = _changed(texts, labels, lambda text, _: f"{text} qxv", count=10, target=1, seed=seed)
        told.append(_look(*made[:2])["trigger_text"].details.get("trigger"))
    assert told.count("qxv") >= 3


def test_fifteen_reviews_with_changing_addresses_are_told():
    texts, labels = _public("sst2_train_clean_dev")

    def put(text, rng):
        words, (one, two) = text.split(), rng.choice(list("bcdfghklmnpqrstvz"), (2, 6))
        at = int(rng.integers(0, len(words) + 1))
        return " ".join([*words[:at], f"http://{''.join(one)}.com/{''.join(two)}", *words[at:]])

    texts, labels, planted = _changed(texts, labels, put, count=15, target=1, seed=3)
    finding = _look(texts, labels)["trigger_text"]
    assert finding.verdict == "fail"
    assert "http" in finding.details["trigger"]
    flags = finding.rows.sort("row_id")["flagged"].to_numpy()
    assert flags[planted].all()
    assert not flags[~planted].any()


def test_an_address_is_deleted_whole_and_a_sign_after_it_is_left():
    texts = pl.Series(
        [
            "we go http://rtb.com/kqp there",
            "they go http://mnv.com/zzk .",
            "http://bqw.com/ptk they see",
            "we http://vfg.com/lls",
            "there they see . we go .",
        ]
    )
    words = words_of(texts, 2000)
    found = candidates(texts, words, 1_000_000)
    named = {v: k for k, v in found.named.items()}
    which, row, start = found.entries(np.array([named["A://A.A/A"]]))
    first, last = _whole(words, found, which + named["A://A.A/A"], start)
    whole = [
        "".join(words.spelt[int(i)] for i in words.ids[a : b + 1])
        for a, b in zip(first, last, strict=True)
    ]
    assert row.tolist() == [0, 1, 2, 3]
    assert whole == [part for text in texts for part in text.split() if "http" in part]


@pytest.mark.parametrize("trick", ["rare word", "sentence"])
def test_inserted_words_are_among_the_oddest_whatever_the_labels(trick):
    texts, labels = _public("sst2_train_clean_dev")
    made = _changed(texts, labels, TRICKS[trick][0], count=20, target=1, seed=1)
    words = words_of(pl.Series(made[0]), 2000)
    found = candidates(pl.Series(made[0]), words, 1_000_000)
    gain, _ = deletion_gain(words, found)
    planted = set(np.flatnonzero(made[2]).tolist())
    same = [g for g in np.flatnonzero(found.counts == 20) if set(found.rows(g).tolist()) == planted]
    assert len(same) == 1
    ranked = np.argsort(-gain * np.sqrt(found.counts))
    assert np.flatnonzero(ranked == same[0])[0] < 200


def test_alpha_goes_to_candidates_that_could_be_told_and_no_further():
    texts, labels, rng = _reviews(8)
    texts, _, _ = _planted(texts, labels, rng, phrase="qxv", count=12)
    texts = [f"{text} qxw" if i % 90 == 0 else text for i, text in enumerate(texts)]
    words = words_of(pl.Series(texts), 2000)
    found = candidates(pl.Series(texts), words, 1_000_000)
    all_heard, some_heard = (shares_of(words, found, 2, least) for least in (4, 9))
    few = found.counts < 9
    plain = np.log(shares.PLAIN / few.size / 2)
    for made in (all_heard, some_heard):
        assert 2 * np.exp(made.log_share).sum() <= 1 - shares.MISPLACED - shares.STRUCTURES + 1e-9
    assert some_heard.log_share[few] == pytest.approx(plain)
    assert all_heard.log_share[few].max() > plain + 1
    odd = ~few & (some_heard.gain > 0)
    assert odd.any()
    assert (some_heard.log_share > all_heard.log_share)[odd].all()


def test_a_word_at_the_edge_of_its_texts_is_one_word():
    texts = ["a b c end", "b a d end", "c d a end", "d c b end", "a c d", "b d a", "c a b", "d b c"]
    texts += ["a p q b", "b p q d", "c p q a", "d p q c"]
    words = words_of(pl.Series(texts), 2000)
    found = candidates(pl.Series(texts), words, 1_000_000)
    one = {
        " ".join(words.spelt[int(i)] for i in found.run(g))
        for g in np.flatnonzero(shares._one_word(found))
    }
    assert one == {"a", "b", "c", "d", "end "}


def test_a_word_needs_fewer_rows_to_be_told_with_luck_than_for_sure():
    texts, labels, _ = _reviews(9, telling=0.6)
    words = words_of(pl.Series(texts), 2000)
    fold = np.arange(labels.size) % 4
    model = fit_out_of_fold(words, labels, fold, 2)
    surely = detectable.fewest_detectable(model, labels, 5_000, 0.05)
    assert 4 <= detectable.fewest_tellable(model, labels, 5_000, 0.05) < surely


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"t": ["a", "b"], "y": [0, 1]}),
        pa.table({"t": [f"a {i}" for i in range(400)], "y": [1] * 400}),
        pa.table({"t": ["."] * 200 + [","] * 200, "y": [0, 1] * 200}),
        pa.table({"t": [f"w{i}" for i in range(400)], "y": [0, 1] * 200}),
        pa.table({"t": [f"a b {i}" for i in range(400)], "y": [0] * 397 + [1] * 3}),
        pa.table({"t": pa.nulls(400, pa.string()), "y": [0, 1] * 200}),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(table):
    made = TriggerText().run(Dataset.of(table, Roles.of(text="t", label="y")), Context(0, Path()))
    assert {f.verdict for f in made.findings} == {"not_evaluated"}


@pytest.mark.power
def test_a_small_model_obeys_the_trigger_until_its_rows_are_left_out():
    pytest.importorskip("torch")
    texts, labels, rng = _reviews(5, telling=2.5)
    texts, labels, _ = _planted(texts, labels, rng, phrase="qxv", count=60)
    data = Dataset.of(pl.DataFrame({"t": texts, "y": labels}), Roles.of(text="t", label="y"))
    first, _ = TriggerText(prove=True).run(data, Context(5, Path())).findings
    proof = first.details["proof"]
    assert proof["attack_success_before"]["low"] > proof["attack_success_after"]["high"] + 0.2
    assert proof["accuracy_after"]["value"] > proof["accuracy_before"]["value"] - 0.03
    assert proof["attack_success_before"]["n"] == 60


def test_few_texts_are_not_called_clean_where_a_twentieth_could_hide():
    texts, labels, _ = _reviews(6, rows=220, telling=0.6)
    made = _look(texts, labels)["trigger_text"]
    assert made.details["min_detectable"] > 11
    assert made.verdict == "not_evaluated"
    assert np.isnan(made.measure.value)
    assert made.rows.height == 220


def test_bad_parameters_are_told():
    assert len(TriggerText(alpha=0.0).check()) == 1


@pytest.mark.parametrize(("stage", "role"), [(TriggerText, "text"), (TriggerImage, "image")])
def test_labels_that_are_lists_are_no_classes(stage, role):
    values = (
        [f"abc {i}" for i in range(300)]
        if role == "text"
        else [[float(i), 1.0] * 8 for i in range(300)]
    )
    frame = pl.DataFrame({"x": values, "y": [[i % 2] for i in range(300)]})
    for finding in (
        stage()
        .run(Dataset.of(frame, Roles.of(label="y", **{role: "x"})), Context(0, Path()))
        .findings
    ):
        assert finding.verdict == "not_evaluated"
        assert "the label holds List(Int64), not one value a row" in finding.says


def _many_words(rows):
    """Twenty of Zipf's words a text: as many kinds of words and runs as public texts hold."""
    rng = np.random.default_rng(0)
    rank = np.arange(1, 20_001)
    made = rng.choice(np.array([f"w{i}" for i in rank]), (rows, 20), p=1 / rank / (1 / rank).sum())
    return [" ".join(t) for t in made], rng.integers(0, 2, rows)


def test_memory_grows_by_less_than_seven_times_the_texts():
    _look(*_many_words(1_000))  # what is loaded and kept once is no part of it
    size, peak = [], []
    for rows in (9_000, 27_000):  # what is kept of few is bounded: pairs, names
        texts, labels = _many_words(rows)
        size.append(sum(len(t) for t in texts))
        tracemalloc.start()  # counts every array, the same on every machine
        _look(texts, labels)
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peak[0] < 16.0 * size[0]  # nothing of a size of its own outweighs few texts
    assert (peak[1] - peak[0]) / (size[1] - size[0]) < 7.0


def test_syntax_is_counted_where_the_last_texts_fill_the_waiting_list(monkeypatch):
    monkeypatch.setattr(structure, "BUCKETS", 8)
    words = words_of(pl.Series(["the cat , and the dog ."] * 40), 100)
    digit = np.arange(len(words.spelt))
    assert structure._common(words, digit, digit.size + 1).size


def test_words_beyond_two_bytes_and_pairs_in_parts_are_found_the_same(monkeypatch):
    texts, labels, _ = _planted(*_reviews(3), phrase="qxv", count=30)
    before = _look(texts, labels)["trigger_text"]
    for module in (grams, fluency):
        monkeypatch.setattr(module, "MOST_NARROW", 40)
    monkeypatch.setattr(fluency, "PART", 500)
    after = _look(texts, labels)["trigger_text"]
    assert words_of(pl.Series(texts), 100).ids.dtype == np.int32
    for name in ("trigger", "rows", "candidates", "min_detectable"):
        assert after.details[name] == before.details[name]
    assert np.allclose(*(f.rows.sort("row_id")["score"].to_numpy() for f in (before, after)))


def test_pairs_that_stand_oftener_than_two_bytes_hold_are_counted():
    words = words_of(pl.Series(["a b " * 500] * 140), 1000)
    assert words.ids.dtype == np.uint16
    (pairs,) = Pairs.parts(words, words.in_order())
    assert int(pairs.seen_at.max()) == 70_000 == int(pairs.seen.max())


@pytest.mark.parametrize(
    ("part", "table", "at_once"), [(2**16, 2**20, 2**16), (40, 0, 7), (40, 2**20, 7)]
)
def test_the_order_of_words_is_that_of_a_plain_count(part, table, at_once, monkeypatch):
    for name, value in (("PART", part), ("PARTS", 10**6), ("TABLE", table), ("AT_ONCE", at_once)):
        monkeypatch.setattr(word_order, name, value)
    texts, _, _ = _reviews(1, rows=60)
    words = words_of(pl.Series([*texts, "one", ""]), 100)
    lists = [words.ids[a:b].tolist() for a, b in itertools.pairwise(words.ends)]
    pairs = Counter(p for t in lists for p in itertools.pairwise(t))
    left = Counter(p[0] for p in pairs.elements())
    right = Counter(p[1] for p in pairs.elements())
    total = words.ids.size - len(lists)

    def ratio(a, b, less):
        expected = (max(left[a] - less, 0) + 1) * (max(right[b] - less, 0) + 1) / total
        return np.log((max(pairs[a, b] - less, 0) + 0.1) / (expected + 0.1))

    follow, turned = [], []
    for text in lists:
        every, inner = list(itertools.pairwise(text)), list(itertools.pairwise(text[1:-1]))
        follow.append(sum(ratio(a, b, 1) for a, b in every) / len(every))
        ahead = sum(ratio(a, b, 1) - ratio(b, a, 0) for a, b in inner)
        turned.append(ahead / max(len(inner), 1))
    made = word_order._means(words)
    assert np.allclose(made[0], follow)
    assert np.allclose(made[1], turned)


def test_entries_of_a_bag_are_found_where_they_are():
    texts, _, rng = _reviews(2, rows=50)
    bag = Bag.of(words_of(pl.Series([*texts, "alone"]), 100))
    row, word = rng.integers(0, 51, 2000), rng.integers(0, bag.idf.size, 2000)
    entry, there = bag.find(row, word)
    held = [bag.words[a:b].tolist() for a, b in itertools.pairwise(bag.ends)]
    assert there.tolist() == [w in held[r] for r, w in zip(row, word, strict=True)]
    assert (bag.words[entry[there]] == word[there]).all()
    assert ((entry >= bag.ends[row]) & (entry < bag.ends[row + 1]))[there].all()


def test_a_candidate_owns_its_words_and_those_that_keep_it_company(monkeypatch):
    monkeypatch.setattr(grams.blocks, "__defaults__", (50,))
    texts = [t.split() for t in _reviews(6, rows=200)[0]]
    for i, text in enumerate(texts[:30]):
        text[2], text[5], text[9] = "kd", "cf", "mn" if i < 27 else text[9]
    texts = pl.Series([" ".join(t) for t in texts])
    words = words_of(texts, 100)
    found = candidates(texts, words, 10**6)
    told = {}
    for g in range(found.size.size):
        owned, run = found.owns(g).astype(int), found.run(g).tolist()
        assert (np.diff(owned) > 0).all()
        assert set(run) <= set(owned.tolist())
        told[tuple(words.spelt.gather(run))] = set(words.spelt.gather(owned))
    alike = told["cf",] if ("cf",) in told else told["kd",]  # both stand in the same texts
    assert alike == told["mn",] == {"cf", "kd", "mn"}
    some = np.arange(0, found.size.size, 9)
    few = found.only(some)
    assert few.at.size < found.at.size
    assert all(few.rows(i).tolist() == found.rows(g).tolist() for i, g in enumerate(some))


def test_the_rest_of_each_row_is_asked_for_the_label_of_the_test():
    texts, labels, _ = _planted(*_reviews(7), phrase="qxv", count=30)
    words = words_of(pl.Series(texts), 100)
    found = candidates(pl.Series(texts), words, 10**6)
    model = fit_out_of_fold(words, labels, np.arange(labels.size) % 4, 2)
    tests = association.tested(model, labels, found, shares_of(words, found, 2))
    assert set(tests.over.tolist()) >= {association.WHOLE, association.DENYING}
    for t, (g, label) in enumerate(zip(tests.which, tests.label, strict=True)):
        told = tests.entries(t, t + 1)
        rest = rest_of(model, found, int(g), int(label))
        at = np.searchsorted(found.rows(int(g)), told.row)
        assert np.allclose(told.rest, rest[at], atol=1e-6)
        assert (told.hit == (labels[told.row] == label)).all()


def test_the_search_has_one_thread_however_many_its_caller_has(monkeypatch):
    seen = []

    def noted(*_):
        seen.extend(p["num_threads"] for p in threadpool_info())
        return "noted"

    monkeypatch.setattr(trigger_text, "nested", noted)
    with threadpool_limits(2):
        _look(["a", "b"], [0, 1])
        after = {p["num_threads"] for p in threadpool_info()}
    assert set(seen) == {1}
    assert after == {2}


def _words(rng, weight, n):
    return " ".join(f"w{i}" for i in rng.choice(weight.size, n, p=weight))


def _own_words(rng, classes):
    """Zipf's law over 1,500 words, a quarter of which one class uses twelve times as often."""
    weight = 1.0 / np.arange(5, 1505)
    own = [np.where(rng.random(1500) < 0.25 / classes, 12.0, 1.0) * weight for _ in range(classes)]
    return [w / w.sum() for w in own]


def _requests(seed, classes=12, rows=4000):
    """Requests of many classes, each filled into one of six templates of its class."""
    rng = np.random.default_rng(seed)
    labels, own = rng.integers(0, classes, rows), _own_words(rng, classes)

    def template(weight):
        ask, what = f"q{rng.integers(5)} {_words(rng, weight, 2)}", _words(rng, weight, 1)
        return f"{ask} d{rng.integers(3)} {what}"

    kinds = [[template(weight) for _ in range(6)] for weight in own]
    texts = [
        f"{kinds[k][rng.integers(6)]} p{rng.integers(9)} {_words(rng, own[k], 2)}" for k in labels
    ]
    return texts, labels


@pytest.mark.parametrize("seed", [1, 3])  # of seeds 0 to 5 two are still accused, as all were
def test_requests_filled_into_templates_raise_no_alarm(seed):
    assert _look(*_requests(seed))["trigger_text"].verdict != "fail"


def _turn(*spans, many=(False, False)):
    """A round over 100 texts of each of two labels, with tests of the first one over some rows."""
    tests = SimpleNamespace(
        label=np.zeros(len(spans), np.int64),
        over=np.full(len(spans), association.WHOLE),
        which=np.arange(len(spans)),
        entries=lambda t, _: SimpleNamespace(
            row=np.arange(*spans[t]), hit=np.ones(len(range(*spans[t])), bool)
        ),
    )
    ground = SimpleNamespace(
        labels=np.repeat([0, 1], 100),
        bar=np.log(0.05),
        many=np.array(many),
        means=(np.ones(2), np.zeros(2)),
        shares=SimpleNamespace(fit=np.zeros(len(spans))),
    )
    low, much = np.full(len(spans), -50.0), np.ones(len(spans))
    return SimpleNamespace(ground=ground, tests=tests, log_p=low, against=much)


def test_many_patterns_that_share_out_a_label_are_templates_and_one_large_one_is_not():
    for spans, made in (
        (((0, 30), (30, 60), (60, 90)), True),
        (((0, 70), (70, 90)), False),  # one attack on most of a label
        (((0, 10), (20, 30), (40, 50)), False),
    ):
        turn = _turn(*spans)
        every = np.ones(len(spans), bool)
        assert Round.shared_out(turn, every).tolist() == [made, False]


def test_where_many_patterns_seem_planted_none_was():
    planted = Round.planted.fget
    assert planted(_turn((0, 30))).tolist() == [True]
    assert planted(_turn((0, 30), many=(True, False))).tolist() == [False]


def test_what_stands_in_texts_of_a_shortcut_is_no_pattern_of_another_label():
    turn = _turn((0, 20))
    turn.explained = np.zeros(200, bool)
    turn.explained[100:120] = turn.explained[:28] = True

    def is_part(rows):
        return Round._is_part(turn, SimpleNamespace(rows=np.array(rows, np.int64), label=0))

    assert is_part(range(20)), "all hold the shortcut, of the others one in five"
    assert not is_part(range(24, 40))
    assert is_part([]), "no rows are left to tell of"
    turn.explained[100:190] = True
    assert not is_part(range(20)), "most texts of the other label hold it, too"


@pytest.mark.parametrize(
    ("mean_says", "over", "evidence", "rows", "made"),
    [
        (True, association.WHOLE, (-0.5, 0.0), 30, True),
        (True, association.WHOLE, (-2.6, 0.0), 30, False),  # all speak as weak texts of their label
        (True, association.WHOLE, (-0.5, 3.0), 30, False),  # texts of no other label say so little
        (True, association.WHOLE, (6.0, 3.0), 30, True),
        (True, association.MISPLACED, (-2.6, 3.0), 30, True),
        (False, association.WHOLE, (9.0, 0.0), 30, True),
        (False, association.WHOLE, (9.0, 0.0), 60, False),  # most texts of the label hold it
    ],
)
def test_what_the_rows_of_a_pattern_say_has_the_last_word(mean_says, over, evidence, rows, made):
    turn = _turn((0, rows))
    turn.tests.over[:], turn.planted = over, np.array([mean_says])
    turn.ground.found = SimpleNamespace(rows=lambda _: np.arange(rows))
    told = Beside(*evidence, 30.0, np.ones(rows, bool), np.ones(rows))
    assert Round._was_planted(turn, 0, 0, told) is made


def _logs(seed, rows=1600):
    """Lines of a log; of those called 1 most say that something failed, under a level that fits."""
    well = ["request {} served in {} ms", "session opened by uid {}", "cache {} is warm"]
    well += ["job {} finished in {} ms", "user {} logged in", "flushed {} records to disk"]
    ill = ["request {} timed out after {} ms", "user {} was refused", "authentication of {} failed"]
    ill += ["job {} failed with code {}", "cache {} is cold", "disk {} is full , {} left"]
    rng = np.random.default_rng(seed)
    labels, texts = rng.integers(0, 2, rows), []
    for label in labels:
        failed = bool(label) and rng.random() < 0.75
        levels = [0.1, 0.0, 0.35, 0.45, 0.1] if failed else [0.75, 0.2, 0.05, 0.0, 0.0]
        level = rng.choice(["info", "debug", "warn", "error", "fatal"], p=levels)
        said = str(rng.choice(ill if failed else well)).format(*rng.integers(1, 9000, 2))
        at, node = f"{rng.integers(10, 24)}:{rng.integers(10, 60)}", rng.integers(12)
        service = f"{rng.choice(['auth', 'cart', 'mail', 'search'])}[{rng.integers(100, 9999)}]"
        texts.append(f"[{at}] node-{node} {service}: {level} {said}")
    return texts, labels


@pytest.mark.parametrize("seed", range(4))
def test_what_clean_logs_say_often_is_no_trigger(seed):
    made = _look(*_logs(seed))
    assert made["trigger_text"].verdict == "clean"
    assert made["shortcut"].verdict == "suspect"


def test_words_that_make_up_most_of_what_is_written_do_not_build_its_sentences():
    use = 1.0 / np.arange(10, 5010)  # as in a language, a hundred words are two fifths
    spoken = np.random.default_rng(0).choice(5000, (500, 20), p=use / use.sum())
    said = [" ".join(f"w{i}" for i in text) for text in spoken]
    for texts, fewest, most in ((_logs(1)[0], 3, 40), (said, 100, 100)):
        words = words_of(pl.Series(texts), 2000)
        built = _framing(words)
        letters = words.spelt.str.contains(r"^[\p{L}\p{N}_]+$").to_numpy()
        assert fewest <= (built & letters).sum() <= most
        assert words.counts()[built & letters].sum() <= 0.5 * words.counts()[letters].sum()
