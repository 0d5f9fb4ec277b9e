# SPDX-License-Identifier: Apache-2.0
"""Networks as descriptions: built from JSON, reloaded without a pickle, never by guessing."""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datapipe.errors import DataError, DeclarationError, TrustError
from datapipe.features.encoding import Encoded, Encoding
from datapipe.features.networks import (
    build,
    convolutional,
    load_model,
    logits,
    perceptron,
    torch_threads,
    written_by_user,
)

TEXT = Encoding("text", (6,), ("t",), {"buckets": 6}).to_json()


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (4, 4), (8, 8), (28, 28), (32, 20), (64, 64)])
def test_convolutions_fit_every_size(sides) -> None:
    spec = json.loads(json.dumps(convolutional((3, *sides), 5)))
    assert build(spec)(torch.zeros(2, 3, *sides)).shape == (2, 5)


def test_a_model_comes_back_from_its_file_and_facts(tmp_path) -> None:
    spec = perceptron((6,), 3)
    module = build(spec).eval()
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    again, _ = load_model(tmp_path / "m.safetensors", {"architecture": spec, "encoding": TEXT})
    rows = torch.randn(4, 6)
    assert torch.equal(again(rows), module(rows))


def test_a_file_that_does_not_fit_is_refused(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    facts = {"architecture": perceptron((6,), 3), "encoding": TEXT}
    save_file(build(perceptron((6,), 4)).state_dict(), path)
    with pytest.raises(DataError, match="does not hold the weights"):
        load_model(path, facts)
    path.write_bytes(b"\x80\x04\x95 a pickle is no model")
    with pytest.raises(DataError, match="does not hold the weights"):
        load_model(path, facts)


def test_code_that_changed_since_the_training_is_not_run(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_loaded.py").write_text(
        "from torch import nn\ndef make(shape, n):\n    return nn.Linear(shape[0], n)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import own_loaded

    spec = written_by_user(own_loaded.make, (6,), 3)
    save_file(build(spec).state_dict(), tmp_path / "m.safetensors")
    facts = {"architecture": spec, "encoding": TEXT}
    load_model(tmp_path / "m.safetensors", facts)
    facts["architecture"] = {**spec, "code": "sha256:" + "0" * 64}
    with pytest.raises(TrustError, match="own_loaded changed"):
        load_model(tmp_path / "m.safetensors", facts)
    sys.modules.pop("own_loaded")


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(DeclarationError, match="'attention'"):
        build({"kind": "layers", "layers": [{"op": "attention"}]})


def test_answers_do_not_depend_on_how_many_rows_are_asked_at_once(monkeypatch) -> None:
    module = build(perceptron((6,), 3))
    rows = Encoded((6,), np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32))
    at_once = logits(module, rows)
    monkeypatch.setattr("datapipe.features.networks.PREDICT_ROWS", 7)
    assert np.allclose(logits(module, rows), at_once, atol=1e-6)
    assert module.training


def test_torch_belongs_to_one_caller_at_a_time():
    """Its generator and determinism are the process's: steps of parallel branches take turns."""
    inside, most = [], []

    def caller():
        with torch_threads(1):
            inside.append(1)
            time.sleep(0.01)
            most.append(len(inside))
            inside.pop()

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert most == [1] * 4


def test_the_thread_count_comes_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
