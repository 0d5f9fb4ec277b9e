# SPDX-License-Identifier: Apache-2.0
"""Items that were signed, some of which are served otherwise, and items as they were."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.keys import PrivateKey
from datapipe.stages.poisoning.split_view import SplitView

SEEDS, CLEAN_SEEDS = range(20), range(40)
FLOORS = {"power": 0.8, "recall": 0.9, "precision": 0.9}
CEILINGS = {"alarms": 0.1}
ITEMS, SERVED_OTHERWISE = 2000, 3
KEY = PrivateKey.new("p256")


def trial(context):
    """Serve three of two thousand items with one character more."""
    data, bad = served(context, SERVED_OTHERWISE)
    found = looked(data, context)
    marked = found.rows.sort("row_id")["flagged"].to_numpy()
    right = int((marked & bad).sum())
    return {
        "power": (int(found.verdict == "fail"), 1),
        "recall": (right, SERVED_OTHERWISE),
        "precision": (right, int(marked.sum())),
    }, data


def alarm(context):
    """Whether items as they were signed raised an alarm."""
    data, _ = served(context, 0)
    return looked(data, context).verdict != "clean"


def served(context, swapped):
    """The items as they are served, in another order, and which of them differ."""
    rng = np.random.default_rng(context.seed)
    texts = [" ".join(rng.choice(["sun", "rain", "wind"], 9)) for _ in range(ITEMS)]
    keys = [f"https://a.example/{i}" for i in range(ITEMS)]
    digests = [hashlib.sha256(t.encode()).hexdigest() for t in texts]
    snapshot = context.scratch / "snapshot.parquet"
    pl.DataFrame({"url": keys, "sha256": digests}).write_parquet(snapshot)
    sign_path(snapshot, KEY)
    bad = np.isin(np.arange(ITEMS), rng.permutation(ITEMS)[:swapped])
    order = rng.permutation(ITEMS)
    now = [f"{t}." if b else t for t, b in zip(texts, bad, strict=True)]
    frame = pl.DataFrame({"url": keys, "t": now})[order]
    return Dataset.of(frame, Roles.of(id="url", text="t")), bad[order]


def looked(data, context):
    """What the stage says of them."""
    key = context.scratch / "key.pem"
    key.write_text(KEY.public_key.to_pem())
    stage = SplitView(signed=context.scratch / "snapshot.parquet", trusted=key)
    return stage.run(data, context).findings[0]
