# SPDX-License-Identifier: Apache-2.0
"""One side of a comparison of labels: reads the prepared arrays, computes, prints what came out."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np


class Meter:
    """CPU time and memory between two moments, what was loaded before left out."""

    def __init__(self) -> None:
        self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.start = time.process_time()

    def told(self, outcome: str) -> str:
        seconds = time.process_time() - self.start
        extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.peak
        return json.dumps(
            {"cpu_seconds": seconds, "peak_bytes": max(1, extra) * 1024, "outcome": outcome}
        )


def confident(role: str, folder: Path) -> str:
    labels, shares = np.load(folder / "labels.npy"), np.load(folder / "shares.npy")
    if role == "subject":
        from datapipe.measure.label_noise import prune_by_noise_rate

        meter = Meter()
        mask = prune_by_noise_rate(labels, shares)
    else:
        from cleanlab.filter import find_label_issues

        warnings.simplefilter("ignore")
        meter = Meter()
        mask = find_label_issues(labels, shares, n_jobs=1)
    places = np.flatnonzero(mask)
    return meter.told(f"{places.size} rows, sum of places {int(places.sum())}")


def demo(role: str, folder: Path) -> str:
    """Ours and cross-validated logistic regression with cleanlab's default, on damaged digits."""
    from datapipe.core.context import Context
    from datapipe.features.tables import features_of
    from datapipe.stages.labels.confident import ConfidentLearning
    from datapipe.testing.worlds import digits_world

    worlds = [digits_world(seed).dataset() for seed in range(6)]
    if role == "subject":
        meter = Meter()
        for seed, data in enumerate(worlds[1:]):
            ConfidentLearning().run(data, Context(seed, folder))
    else:
        from cleanlab.filter import find_label_issues
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_predict

        warnings.simplefilter("ignore")
        meter = Meter()
        for data in worlds[1:]:
            labels = data.values("label").cast(int)
            there = labels.is_not_null().to_numpy()
            values, given = features_of(data).values[there] / 16, labels.drop_nulls().to_numpy()
            model = LogisticRegression(max_iter=1000)
            shares = cross_val_predict(model, values, given, cv=5, method="predict_proba")
            find_label_issues(given, shares, n_jobs=1)
    return meter.told(f"{len(worlds) - 1} worlds judged")


def crowd(role: str, folder: Path) -> str:
    item, who, said = np.load(folder / "answers.npy")
    if role == "subject":
        from datapipe.measure.crowd import Answers
        from datapipe.measure.crowd_models import dawid_skene

        meter = Meter()
        items, people, classes = (int(x.max()) + 1 for x in (item, who, said))
        answers = Answers(item, who, said, items, people, classes)
        made = dawid_skene(answers, iterations=5, tolerance=0, smoothing=0).posterior
    else:
        import pandas as pd
        from crowdkit.aggregation import DawidSkene

        frame = pd.DataFrame({"task": item, "worker": who, "label": said})
        meter = Meter()
        table = DawidSkene(n_iter=5, tol=0).fit_predict_proba(frame).sort_index()
        made = table[sorted(table.columns)].to_numpy()
    digits = np.round(made, 5).sum()  # rounding would show a posterior that differs
    return meter.told(f"{len(made)} items, {float((made**2).mean()):.7f}, {float(digits):.3f}")


if __name__ == "__main__":
    which, side, place = sys.argv[1:]
    print({"confident": confident, "crowd": crowd, "demo": demo}[which](side, Path(place)))
