# SPDX-License-Identifier: Apache-2.0
"""One side of a comparison on poisoned texts; prints what it cost once all was loaded.

`search` tells the memory of a scan as the search in images tells its own: the peak with the texts,
less what the process had when all was imported and nothing read, and no pages of program files.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import polars as pl
from image_scan import forget_peak, held, peak_held
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning.trigger_text import TriggerText

FEW = 1_000


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


def search(frame: pl.DataFrame) -> int:
    """The scan once its code is loaded, and the most that the process held meanwhile."""
    few = Dataset.of(frame.head(FEW), Roles.of(text="text", label="label"))
    TriggerText().run(few, Context(0, Path()))
    forget_peak()
    scan(frame)
    return peak_held()


def main() -> None:
    """Load, then count."""
    what, folder = sys.argv[1:]
    imported = held()
    frame = pl.read_parquet(Path(folder) / "texts.parquet")
    size = frame.estimated_size()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    if what == "size":
        more = size
    elif what == "search":
        more = search(frame) - imported
    else:
        {"scan": scan, "fit": fit}[what](frame)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    spent = max(time.process_time() - start, 1e-6)
    told = {"cpu_seconds": spent, "peak_bytes": more, "outcome": "done"}
    print(json.dumps({**told, "data_bytes": size}))


if __name__ == "__main__":
    main()
