# SPDX-License-Identifier: Apache-2.0
"""A small network trained for five epochs, and ART's activation clustering of what it saw.

Runs in an environment of its own, without ours; prints what it cost once all was loaded. Pages of
program files are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from art.defences.detector.poison import ActivationDefence
from art.estimators.classification import PyTorchClassifier

EPOCHS, BATCH = 5, 64
LEAST_ACCURACY = 0.9


def network() -> torch.nn.Module:
    """Two convolutions and two dense layers, as in the first lesson of any course."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(800, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 10),
    )


def main() -> None:
    """Load, then count: training and detection both belong to the price of this defence."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = Path(sys.argv[1])
    images = (np.load(folder / "images.npy").reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    labels = np.load(folder / "labels.npy")
    held = most_held()
    start = time.process_time()
    model = network()
    made = PyTorchClassifier(
        model,
        torch.nn.CrossEntropyLoss(),
        (1, 28, 28),
        10,
        torch.optim.Adam(model.parameters(), 1e-3),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    made.fit(images, labels, batch_size=BATCH, nb_epochs=EPOCHS)
    trained = time.process_time()
    defence = ActivationDefence(made, images, np.eye(10, dtype=np.float32)[labels])
    _, told = defence.detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA")
    spent = time.process_time() - start
    more = most_held() - held
    right = (made.predict(images[:2000]).argmax(1) == labels[:2000]).mean()
    if right < LEAST_ACCURACY:
        raise SystemExit(f"the network did not learn: {right:.3f}")
    form = {"cpu_seconds": spent, "peak_bytes": more, "outcome": "done"}
    form |= {"trained": trained - start, "accused": 1 - float(np.mean(told))}
    print(json.dumps(form))


def most_held() -> int:
    """The most bytes of its own that the process has held at once."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = [line.split() for line in lines if line.startswith(("VmHWM:", "RssFile:"))]
    most, files = (1024 * int(size) for _, size, _ in sizes)
    return most - files


if __name__ == "__main__":
    main()
