# SPDX-License-Identifier: Apache-2.0
"""WatermarkKeys: exact under the null, strong at 200 tokens, deaf to repeats and prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.roles import Roles
from datapipe.errors import DeclarationError, SchemaMismatch
from datapipe.features.text import mixed
from datapipe.stages import WatermarkKeys
from datapipe.stages.synthetic._greenlist import ODD, green, tail, unique_pairs

CONTEXT = Context(0, Path())
KEY = b"a secret that nobody prints"
KINDS, GAMMA, DELTA = 2_000, 0.25, 2.0


def sampled(rng, n, length, *, key=None):
    """Tokens of a Zipf language whose order depends on the one before, marked or not."""
    ranks = np.arange(1, KINDS + 1) ** -1.0
    cumulated = np.cumsum(ranks) / ranks.sum()
    made = np.empty((n, length), np.int64)
    made[:, 0] = rng.integers(0, KINDS, n)
    for step in range(1, length):
        shift = made[:, step - 1] * 7919  # each token has successors of its own
        tries = 1 if key is None else 24
        drawn = np.searchsorted(cumulated, rng.random((n, tries)))
        token = (drawn + shift[:, None]) % KINDS
        if key is None:
            made[:, step] = token[:, 0]
            continue
        context = mixed(np.zeros(n, np.uint64) * ODD + made[:, step - 1].astype(np.uint64))
        good = green(
            key, np.repeat(context, tries).reshape(n, tries), token.astype(np.uint64), gamma=GAMMA
        )
        odds = np.where(good, np.exp(DELTA), 1.0)  # accept in proportion, as added logits do
        accepted = (rng.random((n, tries)) * np.exp(DELTA) < odds).argmax(1)
        made[:, step] = token[np.arange(n), accepted]
    return made


def judged(tokens, tmp_path, *, keys=(KEY,), **more):
    paths = []
    for i, key in enumerate(keys):
        paths.append(str(tmp_path / f"{i}.key"))
        Path(paths[-1]).write_bytes(key)
    frame = pl.DataFrame({"ids": [list(t) for t in tokens], **more.pop("columns", {})})
    return WatermarkKeys(paths, tokens="ids", **more).run(Dataset.of(frame), CONTEXT).findings[0]


@pytest.mark.power
def test_false_positives_over_twenty_thousand_sequences(tmp_path):
    found = judged(sampled(np.random.default_rng(0), 20_000, 200), tmp_path)
    p_values = found.rows["p_value"].to_numpy()
    assert found.rows.height == 20_000
    assert (p_values <= 1e-4).mean() <= 3e-4
    assert (p_values <= 0.05).mean() <= 0.06
    assert found.verdict == "clean"


def test_power_at_two_hundred_tokens(tmp_path):
    rng = np.random.default_rng(1)
    marked = sampled(rng, 300, 200, key=KEY)
    found = judged([*marked, *sampled(rng, 300, 200)], tmp_path, keys=(b"another", KEY))
    flagged = found.rows["flagged"].to_numpy()
    assert flagged[:300].mean() >= 0.99
    assert not flagged[300:].any()
    assert found.details["rows_by_key"][0] == 0
    assert judged(marked, tmp_path, keys=(b"the wrong one",)).verdict == "clean"


def test_repeats_are_no_evidence(tmp_path):
    rng = np.random.default_rng(2)
    loops = [list(t[:12]) * 40 for t in sampled(rng, 4_000, 12)]
    found = judged(loops, tmp_path)
    assert (found.rows["p_value"].to_numpy() <= 1e-4).mean() <= 3e-4
    same = [list(sampled(rng, 1, 200)[0])] * 500
    assert judged(same, tmp_path).verdict in ("clean", "not_evaluated")


def test_the_prompt_does_not_count(tmp_path):
    rng = np.random.default_rng(3)
    prompts, rest = sampled(rng, 100, 400, key=KEY), sampled(rng, 100, 50)
    whole = [[*a, *b] for a, b in zip(prompts, rest, strict=True)]
    assert judged(whole, tmp_path).verdict == "suspect"
    counted = {"columns": {"given": [400] * 100}, "prompt": "given"}
    assert judged(whole, tmp_path, **counted).verdict == "clean"


def test_words_of_texts_are_tokens_too(tmp_path):
    (tmp_path / "k").write_bytes(KEY)
    texts = pl.DataFrame(
        {"t": ["some plain words of people " * 9, "", None], "p": ["some", "", ""]}
    )
    data = Dataset.of(texts, Roles.of(text="t"))
    found = WatermarkKeys(str(tmp_path / "k"), prompt="p").run(data, CONTEXT).findings[0]
    assert found.verdict == "clean"
    assert found.rows["row_id"].to_list() == [0]


def test_pairs_are_counted_once():
    tokens = np.array([1, 2, 1, 2, 1, 2, 5, 6], np.uint64)
    rows = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    _, token, row = unique_pairs(tokens, rows, 1)
    assert token.tolist() == [2, 1, 6]
    assert row.tolist() == [0, 0, 1]
    assert tail(0, 9, 0.25) == 1.0
    assert tail(3, 3, 0.25) == pytest.approx(0.25**3)


def test_a_share_gamma_is_green():
    n = np.arange(40_000, dtype=np.uint64)
    for gamma in (0.1, 0.5):
        assert abs(green(KEY, mixed(n), n, gamma=gamma).mean() - gamma) < 0.01


def test_nothing_to_test_is_not_evaluated(tmp_path):
    data = Dataset.of(pl.DataFrame({"t": ["words"]}), Roles.of(text="t"))
    (tmp_path / "k").write_bytes(KEY)
    for rows, keys in ((data, ()), (empty(), str(tmp_path / "k")), (data, str(tmp_path / "k"))):
        assert WatermarkKeys(keys).run(rows, CONTEXT).findings[0].verdict == "not_evaluated"


def test_what_is_wrong_is_told(tmp_path):
    data = Dataset.of(pl.DataFrame({"t": ["words of a text"]}), Roles.of(text="t"))
    with pytest.raises(DeclarationError):
        WatermarkKeys(str(tmp_path / "none")).run(data, CONTEXT)
    (tmp_path / "k").write_bytes(KEY)
    with pytest.raises(SchemaMismatch):
        WatermarkKeys(str(tmp_path / "k"), tokens="ids").run(data, CONTEXT)
    with pytest.raises(SchemaMismatch, match="no lists"):
        WatermarkKeys(str(tmp_path / "k"), tokens="t").run(data, CONTEXT)
    (tmp_path / "k").write_bytes(b" ")
    with pytest.raises(DeclarationError, match="empty"):
        WatermarkKeys(str(tmp_path / "k")).run(data, CONTEXT)
    assert len(WatermarkKeys(gamma=0, alpha=2, width=9).check()) == 3
    assert WatermarkKeys().cacheable()
