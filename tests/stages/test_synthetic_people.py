# SPDX-License-Identifier: Apache-2.0
"""Ten corpora of people: no stage of the family raises an alarm, and copies are only copies."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages import CorpusDiversity, DeclaredSynthetic, SyntheticScore, SyntheticShare

SHARED = Path(os.environ.get("DATAPIPE_TEST_DATA", "../shared/data")) / "synthetic"
CORPUS, PEOPLE, COPIES, ANCHORS = 110, 130, 30, 120


@lru_cache(maxsize=1)
def real_texts():
    if not SHARED.is_dir():
        return None
    return pl.read_parquet(SHARED / "detectrl.parquet").select(
        "text", "domain", "source_model", machine=pl.col("label") == 1
    )


def corpus(domain, seed):
    """Texts of people, a reference of others, and machine texts of the same domain."""
    rows = real_texts().filter(pl.col("domain") == domain)
    own = rows.filter(~pl.col("machine"))["text"]
    order = np.random.default_rng(seed).permutation(len(own))
    machine = rows.filter("machine").head(ANCHORS)
    return own.gather(order[:CORPUS]), own.gather(order[CORPUS : CORPUS + PEOPLE]), machine


def findings(texts, people, anchors, seed):
    data = Dataset.of(pl.DataFrame({"text": texts}), Roles.of(text="text"))
    context = Context(seed, Path(), reference=Dataset.of(pl.DataFrame({"text": people})))
    stages = (
        DeclaredSynthetic(), SyntheticScore(), SyntheticShare(anchors=anchors), CorpusDiversity(),
    )  # fmt: skip
    return {f.kind: f for s in stages for f in s.run(data, context).findings}


@pytest.mark.skipif(real_texts() is None, reason=f"no real texts under {SHARED}")
@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(s, marks=pytest.mark.power) for s in range(10, 20))]
)
def test_a_corpus_of_people_raises_no_alarm_and_its_copies_are_copies(seed, tmp_path):
    domain = ("writing", "xsum", "arxiv")[seed % 3]
    texts, people, machine = corpus(domain, seed)
    anchors = tmp_path / "anchors.parquet"
    machine.select("text", "source_model").write_parquet(anchors)
    found = findings(texts, people, anchors, seed)
    alarms = [k for k, f in found.items() if f.verdict in ("suspect", "fail")]
    assert alarms == []
    if seed % 5:
        return
    twice = findings(pl.concat([texts, texts.head(COPIES)]), people, anchors, seed)
    alarms = [k for k, f in twice.items() if f.verdict in ("suspect", "fail")]
    assert alarms == ["synthetic.duplicates"]
    assert twice["synthetic.duplicates"].flagged.height == COPIES
