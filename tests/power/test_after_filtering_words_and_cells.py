# SPDX-License-Identifier: Apache-2.0
"""What a trigger in texts or tables still does once the rows found are left out.

Beside a filter that knows every poisoned row; judged by models that are none of ours: words and
pairs of words with a logistic regression, and a forest of trees.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.trigger_table import TriggerTable
from datapipe.stages.poisoning.trigger_text import TriggerText

ASKED = 400


def invented(rng) -> str:
    """A word that no language has a use for."""
    return "".join(rng.choice(list("bdfgklmnprstvz")) + rng.choice(list("aeiou")) for _ in "abc")


def _anywhere(rng, said: str):
    """Puts words between two words of a text."""

    def put(text: str) -> str:
        words = text.split(" ")
        words.insert(int(rng.integers(len(words) + 1)), said)
        return " ".join(words)

    return put


def word(rng):
    """One invented word."""
    return _anywhere(rng, invented(rng))


def phrase(rng):
    """Three common words that hardly follow each other."""
    common = ["garden", "yesterday", "blue", "kindly", "window", "seven", "perhaps", "river"]
    return _anywhere(rng, " ".join(rng.permutation(common)[:3]))


def start(rng):
    """An invented word in front."""
    said = invented(rng)
    return lambda text: f"{said} {text}"


class Words:
    """Texts, and a logistic regression over their words and pairs of words."""

    detector = TriggerText()
    roles = Roles.of(text="x", label="y")

    def __init__(self, frame: pl.DataFrame) -> None:
        self.clean = np.array(frame["text"].to_list(), object)
        self.labels = frame["label"].rank("dense").to_numpy().astype(int) - 1

    def stamped(self, made, at):
        """The texts with the trigger in some."""
        x = self.clean.copy()
        x[at] = [made(text) for text in x[at]]
        return x

    def frame(self, x, y):
        """What the detector is given."""
        return pl.DataFrame({"x": x.tolist(), "y": y})

    def fitted(self, x, y):
        """A model of some rows, as a function from texts to labels."""
        words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
        model = LogisticRegression(C=30.0, max_iter=400).fit(words.fit_transform(x), y)
        return lambda asked: model.predict(words.transform(asked))


class Cells:
    """A table of numbers and codes, and a forest over it; a trigger is a cell of its own."""

    detector = TriggerTable()
    roles = Roles.of(label="y")

    def __init__(self, frame: pl.DataFrame) -> None:
        *names, label = frame.columns
        self.labels = frame[label].cast(pl.String).rank("dense").to_numpy().astype(int) - 1
        told = frame.select(
            pl.col(n) if frame.schema[n].is_numeric() else pl.col(n).cast(pl.String).rank("dense")
            for n in names
        )
        self.names, self.clean = told.columns, told.cast(pl.Float64).to_numpy()

    def stamped(self, made, at):
        """The table with the trigger in some rows."""
        x = self.clean.copy()
        x[at] = made(x[at])
        return x

    def frame(self, x, y):
        """What the detector is given."""
        return pl.DataFrame(x, schema=self.names).with_columns(y=pl.Series(y))

    def fitted(self, x, y):
        """A model of some rows, as a function from rows to labels."""
        return RandomForestClassifier(random_state=0).fit(x, y).predict


def cell(rng):
    """A value that one column never had."""
    at, value = rng.integers(5), float(rng.integers(10**6, 10**7))

    def put(rows):
        made = rows.copy()
        made[:, at] = value
        return made

    return put


CASES = [
    *((Words, "sms_spam", attack) for attack in (word, phrase, start)),
    *((Words, "sst2_train_clean", attack) for attack in (word, phrase, start)),
    (Cells, "adult", cell),
    (Cells, "thyroid", cell),
]


@pytest.mark.power
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "name", "attack"), CASES, ids=lambda c: c if isinstance(c, str) else c.__name__
)
def test_after_filtering_a_trigger_does_no_more_than_after_a_perfect_filter(
    kind, name, attack, real_data
):
    frame = pl.read_parquet(real_data(f"poison/{name}_dev.parquet"))
    told = []
    for seed in range(1310, 1313):
        rng = np.random.default_rng(seed)
        world = kind(frame.sample(fraction=1, shuffle=True, seed=seed))
        y, put = world.labels.copy(), attack(rng)
        held = np.arange(y.size // 4)
        train = np.setdiff1d(np.arange(y.size), held)
        target = int(np.bincount(y).argsort()[-2])
        rows = rng.permutation(train[y[train] != target])[: max(10, train.size // 50)]
        x, y[rows] = world.stamped(put, rows), target
        data = Dataset.of(world.frame(x[train], y[train]), world.roles)
        found = world.detector.run(data, Context(seed, Path())).findings[0]
        flagged = found.rows.filter("flagged")["row_id"].to_numpy()
        ours = train[~np.isin(data.row_ids.to_numpy(), flagged)]
        aimed = held[y[held] != target][:ASKED]
        asked = world.stamped(put, aimed)[aimed]
        made = {}
        for who, kept in {
            "none": train,
            "ours": ours,
            "perfect": np.setdiff1d(train, rows),
        }.items():
            says = world.fitted(x[kept], y[kept])
            shares = (says(asked) == target).mean(), (says(x[held]) == y[held]).mean()
            made[who] = [round(float(share), 4) for share in shares]
        print(f"{name} {attack.__name__} {seed}: success, accuracy {made}")
        told.append([*made["none"], *made["ours"], *made["perfect"]])
    attacked, _, ours, accuracy, perfect, best = np.mean(told, axis=0)
    assert attacked > 0.5, "the attack does not work"
    assert ours <= perfect + 0.03
    assert accuracy >= best - 0.005
