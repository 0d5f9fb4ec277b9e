# SPDX-License-Identifier: Apache-2.0
"""One side of a comparison on poisoned texts; prints what it cost once all was loaded."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import polars as pl
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.trigger_text import TriggerText


def scan(frame: pl.DataFrame) -> None:
    """The whole stage; it must name the trigger, or its cost means nothing."""
    data = Dataset.of(frame, Roles.of(text="text", label="label"))
    made = TriggerText().run(data, Context(0, Path())).findings[0]
    if made.verdict != "fail" or made.details["trigger"] != "qzx":
        raise SystemExit(f"the trigger was not named: {made.verdict}, {made.says}")


def fit(frame: pl.DataFrame) -> None:
    """Out-of-fold probabilities, as anybody would get them to look at labels."""
    weights = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    rows = weights.fit_transform(frame["text"].to_list())
    model = LogisticRegression(C=4.0, max_iter=200)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    cross_val_predict(model, rows, frame["label"].to_numpy(), cv=folds, method="predict_proba")


def main() -> None:
    """Load, then count."""
    what, folder = sys.argv[1:]
    frame = pl.read_parquet(Path(folder) / "texts.parquet")
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    {"scan": scan, "fit": fit}[what](frame)
    spent = time.process_time() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) * 1024
    told = {"cpu_seconds": spent, "peak_bytes": more, "outcome": "done"}
    print(json.dumps({**told, "data_bytes": frame.estimated_size()}))


if __name__ == "__main__":
    main()
