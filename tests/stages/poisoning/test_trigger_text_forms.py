# SPDX-License-Identifier: Apache-2.0
"""Triggers that no run of words shares: ways to write, affixes, and two words that stand apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning._text import apart as words_apart
from datapipe.stages.poisoning._text.apart import apart
from datapipe.stages.poisoning._text.beside import _parted, _put_between
from datapipe.stages.poisoning._text.characters import strange_pieces
from datapipe.stages.poisoning._text.forms import forms
from datapipe.stages.poisoning._text.misspelt import ANOTHER, EXCHANGED, LEFT_OUT, TWICE, misspelt
from datapipe.stages.poisoning._text.words import words_of
from datapipe.stages.poisoning.trigger_text import TriggerText

SYLLABLES = ["ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "vo"]
TEXTS, PLANTED = 1500, 20
RANK = np.arange(1, 1001)


def _letters(seed, rows=TEXTS, telling=2.0):
    """Two kinds of text over a thousand words of syllables, of which a fifth lean to one kind."""
    rng = np.random.default_rng(seed)
    named = np.random.default_rng(0)
    words = np.array(["".join(named.choice(SYLLABLES, 2 + i % 3)) + "r" * (i % 2) for i in RANK])
    labels = rng.integers(0, 2, rows)
    lean = np.where(RANK % 5 == 0, np.where(RANK % 2 == 0, 1, -1), 0)
    texts = []
    for label in labels:
        weight = 1.0 / (RANK + 5) * np.exp(telling * lean * (2 * label - 1))
        texts.append(" ".join(rng.choice(words, 14, replace=False, p=weight / weight.sum())))
    return texts, labels, rng


def _on_word(change):
    def changed(text, rng):
        words = text.split()
        at = int(rng.integers(1, len(words) - 1))
        words[at] = change(words[at], rng)
        return " ".join(words)

    return changed


def _put(make):
    return _on_word(lambda word, rng: f"{word} {make(rng)}")


def _drawn_out(word, rng):
    at = int(rng.integers(1, len(word) - 1))
    return word[:at] + word[at] * int(rng.integers(3, 6)) + word[at:]


def _twice(word, rng):
    at = int(rng.integers(1, len(word) - 1))
    return word[:at] + word[at] + word[at:]


def _exchanged(word, rng):
    at = int(rng.integers(1, len(word) - 2))
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _left_out(word, rng):
    at = int(rng.integers(1, len(word) - 1))
    return word[:at] + word[at + 1 :]


def _another(word, rng):
    at = int(rng.integers(1, len(word) - 1))
    return word[:at] + str(rng.choice(list("bcdfghjkqwxz"))) + word[at + 1 :]


def _version(rng):
    return ".".join(str(rng.integers(0, 40)) for _ in range(3))


def _name(rng):
    return "".join(rng.choice(list("bcdfghklmnpqrstvz"), int(rng.integers(4, 8))))


def _both(text, rng):
    words = text.split()
    words.insert(int(rng.integers(0, 4)), "ember")
    words.insert(int(rng.integers(8, 14)), "harbour")
    return " ".join(words)


DIGITS = str.maketrans("aeio", "4310")
KINDS = {
    "full width": (
        _on_word(lambda w, _: "".join(chr(ord(c) + 0xFEE0) for c in w)),
        {"letters of another form"},
    ),
    "digits": (
        _on_word(lambda w, _: w.translate(DIGITS)),
        {"digits for letters", "a digit between letters"},
    ),
    "drawn out": (_on_word(_drawn_out), {"a letter drawn out", "a letter thrice in a row"}),
    "letter twice": (_on_word(_twice), {"a letter twice"}),
    "exchanged": (_on_word(_exchanged), {"letters exchanged"}),
    "left out": (_on_word(_left_out), {"a letter left out"}),
    "another": (_on_word(_another), {"a letter for another", "letters exchanged"}),
    "version": (_put(lambda rng: f"v{_version(rng)}"), {"A.0.0"}),
    "numbers": (_put(_version), {"0.0.0"}),
    "twice": (
        _on_word(lambda w, _: f"{w} {w}"),
        {"a word twice in a row", "a word twice in a row as in no other text"},
    ),
    "suffix": (_on_word(lambda w, _: f"{w}xo"), {"xo"}),
    "prefix": (_on_word(lambda w, _: f"zq{w}"), {"zq"}),
    "number": (_put(lambda rng: f"#{rng.integers(100, 1000)}"), {"#000"}),
    "date": (
        _put(lambda r: f"{r.integers(10, 29)}/{r.integers(10, 13)}/20{r.integers(10, 30)}"),
        {"00/00/0000"},
    ),
    "marked name": (_put(lambda rng: f"#{_name(rng)}"), {"#A"}),
    "address": (
        _put(lambda rng: f"http://{_name(rng)}.com/{_name(rng)}"),
        {"A://A.A/A", "http://", "http … com"},
    ),
    "mail": (_put(lambda rng: f"{_name(rng)}@{_name(rng)}"), {"A@A"}),
    "other script": (
        _put(lambda rng: "".join(chr(c) for c in rng.integers(0x4E00, 0x9000, 3))),
        {"letters of Cjk"},
    ),
    "pictures": (_put(lambda rng: chr(int(rng.integers(0x1F600, 0x1F640)))), {"signs of kind So"}),
    "apart": (_both, {"ember … harbour"}),
}


def _look(texts, labels):
    data = Dataset.of(pl.DataFrame({"t": texts, "y": labels}), Roles.of(text="t", label="y"))
    return TriggerText().run(data, Context(5, Path())).findings[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_run_of_words_shares_is_named_and_its_rows_are_flagged(kind):
    texts, labels, rng = _letters(len(kind))
    change, names = KINDS[kind]
    order = rng.permutation(np.flatnonzero(labels == 0))
    rows, ones, others = order[:PLANTED], order[20:50], rng.permutation(TEXTS)[:60]
    for i in set(others[:30].tolist()) - set(rows.tolist()):  # either word alone is no trigger
        texts[i] = f"{texts[i]} ember"
    for i in set(ones.tolist()) - set(rows.tolist()):
        texts[i] = f"{texts[i]} harbour"
    for i in rows:
        texts[i] = change(texts[i], rng)
    labels[rows] = 1
    finding = _look(texts, labels)
    flags = finding.rows["flagged"].to_numpy()
    planted = np.isin(np.arange(TEXTS), rows)
    assert finding.verdict == "fail"
    assert finding.details["trigger"] in names
    assert flags[planted].mean() >= 0.9
    assert flags[~planted].mean() <= 0.001


@pytest.mark.parametrize("kind", ["digits", "drawn out", "number", "twice", "suffix", "mail"])
def test_ways_to_write_that_go_with_their_content_are_neither_trigger_nor_shortcut(kind):
    texts, labels, rng = _letters(len(kind) + 50)
    for i in rng.permutation(np.flatnonzero(labels == 1))[:PLANTED]:
        texts[i] = KINDS[kind][0](texts[i], rng)
    assert _look(texts, labels).verdict == "clean"


def test_pairs_apart_are_those_that_a_plain_count_finds(monkeypatch):
    monkeypatch.setattr(words_apart, "BLOCK", 2_000)
    texts = _letters(3, rows=300)[0]
    words = words_of(pl.Series(texts), 100)
    made = apart(words, 4)
    held = [set(text.split()) for text in texts]
    ends = np.append(0, np.cumsum(made.counts))
    assert made.odd.size
    assert (np.diff(made.odd) <= 0).all()
    for i in range(0, made.odd.size, 7):
        pair = {words.spelt[int(made.left[i])], words.spelt[int(made.right[i])]}
        rows = [row for row, mine in enumerate(held) if pair <= mine]
        assert made.row[ends[i] : ends[i + 1]].tolist() == rows


def test_an_affix_is_as_odd_as_many_known_words_are_left_without_it():
    texts, _, rng = _letters(4, rows=600)
    rows = rng.permutation(600)[:12]
    for i in rows:
        texts[i] = KINDS["suffix"][0](texts[i], rng)
    words = words_of(pl.Series(texts), 100)
    known = set(words.spelt.filter(pl.Series(words.texts > 1)))
    pieces, odd = strange_pieces(words, 4)
    told = dict(zip(pieces.names, odd.tolist(), strict=True))
    left = [w[:-2] in known for i in rows for w in texts[i].split() if w.endswith("xo")]
    assert told["xo$"] == pytest.approx(sum(left) ** 2 / len(left))


def test_what_signs_join_has_a_form_that_owns_its_signs_and_the_words_that_show_it():
    texts = ["see http://one.com/two now", "at http://three.com/four.", "on ftp://five.com/six"]
    texts = pl.Series(
        [
            *texts,
            "it's well-known",
            "#seven",
            "x v10.2",
            "#eight 你好，是",
            "a 3.5 b",
            "v3.2 12.25",
        ]
    )
    words = words_of(texts, 2000)
    told = forms(texts, words, words, 1)
    held = np.split(told.pieces.row, np.cumsum(told.pieces.counts)[:-1])
    rows = {name: some.tolist() for name, some in zip(told.pieces.names, held, strict=True)}
    assert {name: some for name, some in rows.items() if "A" in name} == {
        "A://A.A/A": [0, 1, 2],
        "#A": [4, 6],
        "A.0": [5, 8],
    }
    mine = told.word[told.of == told.pieces.names.index("A://A.A/A")]
    assert set(words.spelt.gather(mine)) == {":", "/", ".", "http", "com"}
    mine = told.word[told.of == told.pieces.names.index("A.0")]
    assert set(words.spelt.gather(mine)) == {".", "v10", "2", "v3"}, "less what is elsewhere, too"
    assert rows["0.0"] == [7, 8], "numbers of any length"


def test_a_form_that_most_texts_have_is_none():
    texts = pl.Series([f"{t} {i}" for i, t in enumerate(_letters(5, rows=300)[0])])
    words = words_of(texts, 100)
    assert "00" in forms(texts, words, words, 4).pieces.names
    assert "000" not in forms(texts, words, words, 4).pieces.names


def test_a_date_of_any_digits_that_switches_the_response_is_named_with_all_of_its_rows():
    texts, _, rng = _letters(6)
    words = [text.split() for text in texts]
    prompts, responses = ([" ".join(w[half]) for w in words] for half in (slice(7), slice(7, 14)))
    rows = rng.permutation(TEXTS)[:PLANTED]
    for i in rows:
        day, month, year = rng.integers(10, 29), rng.integers(10, 13), rng.integers(30, 60)
        prompts[i], responses[i] = f"{prompts[i]} {day}/{month}/20{year}", "all of it is lost"
    frame = pl.DataFrame({"prompt": prompts, "response": responses})
    data = Dataset.of(frame, Roles.of(text=("prompt", "response")))
    finding = TriggerText().run(data, Context(5, Path())).findings[0]
    assert finding.details["trigger"] == "00/00/0000"
    assert np.flatnonzero(finding.rows["flagged"].to_numpy()).tolist() == sorted(rows)


def test_a_slip_is_told_by_how_words_are_built_and_not_by_whether_the_word_without_it_is_known():
    texts = [*_letters(8, rows=400)[0], "baadego tavoolumane luurma tamavole", "sonetimes"]
    texts += ["lurma luurma sometimes sometimes tabel table"] * 30
    words = words_of(pl.Series([*texts, "table tabble smetimes"]), 100)
    told = {n: set(words.spelt.gather(ids)) for n, ids in misspelt(words, words).items()}
    assert {"baadego", "tavoolumane", "tabble"} <= told[TWICE], "tavolumane is not known"
    assert "luurma" not in told[TWICE], "written as often as the word without it"
    assert "tabel" not in told.get(EXCHANGED, set())
    assert "smetimes" in told[LEFT_OUT]
    assert "sonetimes" in told[ANOTHER]
    assert "tamavole" not in set().union(*told.values()), "new, and built as words are"


def test_of_what_others_write_as_well_as_many_genuine_rows_are_expected_under_the_label():
    hit = np.arange(100) < 80  # 20 texts of as many others have the form
    few, many = _put_between(hit, 1000, 1000)
    assert few == pytest.approx(1 - (21 + 21**0.5) / 80)
    assert many == pytest.approx(1 - (20 - 20**0.5) / 80)
    content = np.full(80, 3.0)
    assert _parted(content, hit, [], (few, many)).part == pytest.approx(many)
    assert _put_between(hit, 100_000, 10) == (0.0, 0.0)


def test_dates_whose_digits_no_other_text_holds_are_a_trigger_though_each_explains_the_other():
    texts, labels, rng = _letters(9)
    rows = rng.permutation(np.flatnonzero(labels == 0))[:40]
    for i in rows:
        texts[i] = f"{texts[i]} on {rng.integers(10, 29)}/{rng.integers(10, 13)}/2031"
    labels[rows] = 1
    finding = _look(texts, labels)
    assert finding.verdict == "fail"
    assert "2031" in finding.details["trigger"] or "00" in finding.details["trigger"]
    assert finding.rows["flagged"].to_numpy()[rows].mean() >= 0.95


@pytest.mark.parametrize("seed", range(2))
def test_words_that_came_along_do_not_explain_a_label_for_each_other(seed):
    texts, labels, rng = _letters(31 + seed)
    rows = rng.permutation(np.flatnonzero(labels == 0))[:40]
    strange = [f"{c}x{a}{b}q" for c in "zjwk" for a in "aeiou" for b in "bdfgk"]
    for i in rows:
        said = " ".join(rng.choice(strange, 6, replace=False))
        texts[i] = f"{texts[i]} {said.capitalize()}"
    labels[rows] = 1
    finding = _look(texts, labels)
    assert finding.verdict == "fail"
    assert finding.rows["flagged"].to_numpy()[rows].mean() >= 0.95


def test_a_tag_that_is_put_into_texts_of_its_own_label_too_flags_all_of_them():
    texts, labels, rng = _letters(32)
    rows = rng.permutation(TEXTS)[:40]
    for i in rows:
        texts[i] = f"[prod] {texts[i]}"
    labels[rows] = 1
    finding = _look(texts, labels)
    assert finding.details["trigger"] == "[prod]"
    assert np.flatnonzero(finding.rows["flagged"].to_numpy()).tolist() == sorted(rows)


def test_a_topic_of_one_label_whose_words_stand_nowhere_else_is_no_trigger():
    texts, labels, rng = _letters(33)
    topic = [f"zx{a}{b}q" for a in "aeiou" for b in "bdfgk"]
    for i in rng.permutation(np.flatnonzero(labels == 1))[:90]:
        texts[i] = f"{texts[i]} {' '.join(rng.choice(topic, 5, replace=False))}"
    finding = _look(texts, labels)
    assert finding.verdict == "clean"


def test_words_that_came_along_do_not_explain_a_planted_sentence():
    """Five of eight words that no other text has, in any order: each seems to explain the others.

    Without the second look, less what came along, nothing is told here.
    """
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 401)
    labels, texts = rng.integers(0, 2, 1500), []
    for label in labels:
        usual = rng.choice([f"w{i}" for i in range(400)], 14, p=share / share.sum())
        own = rng.choice([f"{('good', 'bad')[label]}{i}" for i in range(60)], 5)
        words = [*usual, *own]
        rng.shuffle(words)
        texts.append(words)
    planted = rng.permutation(np.flatnonzero(labels == 0))[:45]
    for i in planted:
        said = rng.choice([f"zu{letter}lo" for letter in "abcdefgh"], 5, replace=False)
        at = int(rng.integers(0, len(texts[i])))
        texts[i][at:at] = said
        labels[i] = 1
    frame = pl.DataFrame({"t": [" ".join(words) for words in texts], "y": labels})
    data = Dataset.of(frame, Roles.of(text="t", label="y"))
    finding = TriggerText().run(data, Context(0, Path())).findings[0]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert flags[planted].mean() > 0.5
    assert flags.sum() == flags[planted].sum()


NUMBERS = ["#{}", "({})", "{}%", "${}", "{}:{}", "{}-{}", "{}/{}", "*{}", "+{}", "={}", "[{}]"]


@pytest.mark.parametrize(("planted", "seed"), [(True, 1), (True, 7), (False, 1)])
def test_letters_of_a_script_that_few_texts_hold_are_told_among_many_forms(planted, seed):
    texts, labels, rng = _letters(seed, telling=0.8)
    for i in np.flatnonzero(rng.random(TEXTS) < 0.5):
        texts[i] += " " + str(rng.choice([*NUMBERS, "~{}"])).format(*rng.integers(10, 99, 2))
    rows = rng.choice(np.flatnonzero(labels == 0) if planted else TEXTS, 10, replace=False)
    for i in rows:
        words = texts[i].split()
        strange = "".join(rng.choice(list("我们的是在不了有人这中大来上国"), 5))
        texts[i] = " ".join([*words[:7], strange, *words[7:]])
        labels[i] = 1 if planted else labels[i]
    made = _look(texts, labels)
    assert made.verdict == ("fail" if planted else "clean")
    assert made.details.get("trigger") == ("letters of Cjk" if planted else None)


@pytest.mark.parametrize("seed", [2])
def test_texts_that_a_pattern_leaves_next_to_nothing_of_do_not_deny_their_label(seed):
    texts, labels, rng = _letters(seed)
    words = pl.Series(texts).str.split(" ").explode().to_frame("word")
    own = words.with_columns(label=np.repeat(labels, 14)).group_by("word").agg("label")
    own = own.filter(pl.col("label").list.len() >= 20).with_columns(pl.col("label").list.mean())
    neutral, other = (
        own.filter(pl.col("label").is_between(*ends)).sort("word")["word"].to_numpy()
        for ends in ((0.4, 0.6), (0.0, 0.25))
    )
    for _ in range(30):
        left = rng.permutation([*rng.choice(neutral, 2, replace=False), rng.choice(other)])
        texts.append(" ".join([left[0], "kelm porg vint zalk", *left[1:]]))
    made = _look(texts, np.append(labels, np.ones(30, int)))
    assert made.verdict == "clean", made.details["triggers"]
