# SPDX-License-Identifier: Apache-2.0
"""Int8 exports: what the file holds, that it opens elsewhere, and that lies are found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

from datapipe.core.artifact import Artifact
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import Roles
from datapipe.errors import DeclarationError, ExecutionError
from datapipe.features.encoding import fit_encoding
from datapipe.features.networks import build, convolutional, perceptron, written_by_user
from datapipe.stages.export import _clean_process, _onnx, _reopen
from datapipe.stages.export._contents import contents
from datapipe.stages.export._int8 import int8_copy, int8_values, save_program
from datapipe.stages.export.quantized import ExportQuantized
from datapipe.stages.train.plain import TrainPlain


@pytest.fixture(scope="module")
def digits() -> Dataset:
    images, labels = load_digits(return_X_y=True)
    frame = pl.DataFrame({"image": images.astype(np.float32), "label": labels})
    return Dataset.of(frame, Roles.of(image="image", label="label"))


def trained(spec, module: nn.Module, data: Dataset, folder, *, held_out=True) -> Context:
    """A context that holds a model as a trainer leaves it, and its table of held-out rows."""
    path = folder / "plain.safetensors"
    save_file(module.state_dict(), path)
    encoding = fit_encoding(data)
    facts = {
        "architecture": spec,
        "encoding": encoding.to_json(),
        "classes": list(range(10)),
        "n_parameters": sum(p.numel() for p in module.parameters()),
        "evaluated_on": {"holdout": 0.2},
    }
    made = {"plain": Artifact("plain", "model", path, facts=facts)}
    if held_out:
        table = folder / "heldout.parquet"
        rows = data.frame(row_id=True)[-360:]
        pl.DataFrame(
            {"row_id": rows["_row_id"], "label": rows["label"].cast(pl.String)}
        ).write_parquet(table)
        made["plain.heldout"] = Artifact("plain.heldout", "table", table, parents=("plain",))
    return Context(seed=7, scratch=folder, artifacts=made)


def fitted(spec, data: Dataset, epochs: int = 6) -> nn.Module:
    torch.manual_seed(0)
    module = build(spec)
    x = torch.from_numpy(fit_encoding(data).encode(data.frame()).dense)[:-360]
    y = torch.tensor(data.frame()["label"].to_list())[:-360]
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(y)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x[index]), y[index]).backward()
            optimiser.step()
    return module.eval()


@pytest.fixture(scope="module")
def network(digits):
    spec = convolutional((1, 8, 8), 10)
    return spec, fitted(spec, digits)


@pytest.fixture(scope="module")
def program(network, tmp_path_factory) -> Path:
    """The network written as an int8 program."""
    path = tmp_path_factory.mktemp("program") / "m.pt2"
    save_program(int8_copy(network[1]), (1, 8, 8), path)
    return path


@pytest.fixture
def context(network, digits, tmp_path) -> Context:
    return trained(*network, digits, tmp_path)


def test_both_formats_are_int8_open_elsewhere_and_lose_nothing(digits, context, tmp_path) -> None:
    made = ExportQuantized("int8").run(digits, context)
    assert [f.kind for f in made.findings] == ["export.pt2", "export.onnx"]
    assert [f.verdict for f in made.findings] == ["clean", "clean"]
    for finding, artifact in zip(made.findings, made.artifacts, strict=True):
        assert finding.details["int8_share"] == 1.0
        assert finding.details["largest_difference"] <= 1e-5
        assert finding.measure.low <= 0.0 <= finding.measure.high
        assert finding.measure.n == 360
        assert artifact.measures["accuracy"].low > 0.8
        assert artifact.parents == ("plain",)
        held = finding.details["bytes_by_dtype"]
        assert held["int8"] > 10 * held["float32"]
        assert held["int8"] < 0.3 * finding.details["float32_bytes"]
        assert artifact.path.stat().st_size == finding.details["size_bytes"]
        json.dumps(dict(artifact.facts), allow_nan=False)
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"plain.safetensors", "heldout.parquet", "plain.int8.pt2", "plain.int8.onnx"}


def test_a_relative_scratch_folder_opens_elsewhere_too(network, digits, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    context = trained(*network, digits, Path())
    made = ExportQuantized(formats=("onnx",)).run(digits, replace(context, scratch=Path()))
    assert [f.verdict for f in made.findings] == ["clean"]


def test_nothing_about_the_user_is_kept_for_sending(tmp_path) -> None:
    program = (
        "import os; from datapipe.stages.export import _onnx;"
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import onnxruntime'])"
    )
    quiet = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    quiet |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], check=True, env=quiet)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_the_same_model_gives_the_same_files_which_name_no_machine(
    network, program, tmp_path
) -> None:
    spec, module = network
    again = tmp_path / "m.pt2"
    save_program(int8_copy(module), (1, 8, 8), again)
    assert again.read_bytes() == program.read_bytes()
    graphs = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for graph in graphs:
        _onnx.quantised(module, spec, graph, tmp_path)
    assert graphs[0].read_bytes() == graphs[1].read_bytes()
    with zipfile.ZipFile(program) as archive:
        held = [archive.read(n) for n in archive.namelist()]
    assert not any(b"site-packages" in raw for raw in (*held, graphs[0].read_bytes()))


def test_the_program_holds_no_pickle_and_a_pickle_is_refused(program, tmp_path) -> None:
    assert _reopen.pickled_entries(str(program)) == []
    loaded, rows = tmp_path / "pickled.pt2", (torch.zeros(2, 4),)
    torch.export.save(torch.export.export(nn.Linear(4, 2), rows), loaded)  # with example inputs
    assert _reopen.pickled_entries(str(loaded))
    tried = np.zeros((2, 1, 8, 8), np.float32)
    verdict = _clean_process.reopened("pt2", loaded, tried, lambda x: x, tmp_path)
    assert "holds pickled objects" in verdict.problem


def test_the_program_runs_where_neither_datapipe_nor_torchao_is_loaded(program) -> None:
    code = (
        "import sys, torch\n"
        f"made = torch.export.load({str(program)!r}).module()(torch.ones(3, 1, 8, 8))\n"
        "assert made.shape == (3, 10)\n"
        "sys.exit(any(m.split('.')[0] in ('torchao', 'datapipe') for m in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_answers_otherwise_is_found_out(network, tmp_path) -> None:
    path, rows = tmp_path / "m.onnx", np.random.default_rng(0).normal(size=(9, 1, 8, 8))
    rows = rows.astype(np.float32)
    _onnx.quantised(network[1], network[0], path, tmp_path)
    here = _onnx.session(path)
    assert _clean_process.reopened("onnx", path, rows, here, tmp_path).problem == ""
    off = _clean_process.reopened("onnx", path, rows, lambda x: here(x) + 1e-4, tmp_path)
    assert "answers differ" in off.problem
    assert off.difference == pytest.approx(1e-4, rel=0.1)
    path.write_bytes(path.read_bytes()[:-2000])
    assert "does not open" in _clean_process.reopened("onnx", path, rows, here, tmp_path).problem


def test_a_clean_process_that_is_killed_says_nothing_about_the_file(tmp_path, monkeypatch) -> None:
    """Else the verdict of a machine without memory would be kept and reused."""
    dies = tmp_path / "dies.py"
    dies.write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.setattr(_reopen, "__file__", str(dies))
    rows = np.zeros((2, 1, 8, 8), np.float32)
    with pytest.raises(ExecutionError, match=r"export\.quantized: .*killed by signal 9") as told:
        _clean_process.reopened("onnx", tmp_path / "m.onnx", rows, lambda x: x, tmp_path)
    assert told.value.exit_code == 6


def test_weights_that_stayed_float_are_counted_in_the_file(network, tmp_path) -> None:
    spec, module = network
    onnx.save(_onnx.graph_of(spec, module.state_dict()), tmp_path / "f.onnx")
    save_program(module, (1, 8, 8), tmp_path / "f.pt2")
    for name in ("f.onnx", "f.pt2"):
        held = contents(tmp_path / name)
        assert held.int8_share == 0.0
        assert held.bytes_by_dtype["float32"] == 4 * sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    "spec",
    [
        convolutional((1, 8, 8), 10),
        convolutional((3, 28, 20), 4, activation="tanh"),
        perceptron((1, 8, 8), 3, hidden=(9, 5)),
        perceptron((6,), 2, hidden=()),
    ],
    ids=["digits", "colour", "deep", "linear"],
)
def test_the_written_graph_is_the_network(spec, tmp_path) -> None:
    torch.manual_seed(3)
    module = build(spec).eval()
    path = tmp_path / "m.onnx"
    onnx.save(_onnx.graph_of(spec, module.state_dict()), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 5):
        rows = torch.randn(n, *spec["input"])
        said = session.run(["logits"], {"rows": rows.numpy()})[0]
        assert np.allclose(said, module(rows).detach().numpy(), atol=1e-5)


def test_rounding_is_as_good_as_torchaos_own() -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    torch.manual_seed(0)
    layer = nn.Linear(300, 40)
    ours = int8_copy(layer)
    theirs = nn.Sequential(nn.Linear(300, 40))
    theirs.load_state_dict({f"0.{k}": v for k, v in layer.state_dict().items()})
    quantize_(theirs, Int8WeightOnlyConfig(version=2))
    rows = torch.randn(50, 300)
    exact = layer(rows)
    assert (ours(rows) - exact).abs().max() <= 1.05 * (theirs(rows) - exact).abs().max()


@pytest.mark.parametrize("shape", [(7, 5), (4, 3, 3, 3), (1, 1)])
def test_a_rounded_weight_is_within_half_a_step(shape) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 10
    values, scale = int8_values(weight)
    back = values.float() * scale.view(-1, *[1] * (len(shape) - 1))
    assert values.dtype == torch.int8
    assert ((back - weight).abs().flatten(1).amax(1) <= 0.5001 * scale).all()


def test_embeddings_and_odd_convolutions_keep_their_answers() -> None:
    torch.manual_seed(0)
    words = nn.Embedding(50, 16)
    index = torch.tensor([[1, 2], [3, 49]])
    assert torch.allclose(int8_copy(words)(index), words(index), atol=0.02)
    odd = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2, groups=2), nn.ReLU())
    rows = torch.randn(2, 4, 9, 9)
    assert torch.allclose(int8_copy(odd)(rows), odd(rows), atol=0.02)
    shared = nn.Linear(4, 4)
    assert isinstance(shared.weight, nn.Parameter)
    int8_copy(shared)
    assert isinstance(shared.weight, nn.Parameter)  # the model itself is left alone


OWN = """
import torch
from torch import nn
def attentive(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3, padding=1), nn.GELU(), nn.Flatten(),
        nn.Linear(8 * shape[1] * shape[2], 24), nn.LayerNorm(24), nn.GELU(),
        nn.Linear(24, n_classes))
class Recurrent(nn.Module):
    def __init__(self, shape, n_classes):
        super().__init__()
        self.cell = nn.GRU(shape[2], 24, batch_first=True)
        self.head = nn.Linear(24, n_classes)
    def forward(self, x):
        return self.head(self.cell(x.squeeze(1))[0][:, -1])
def recurrent(shape, n_classes):
    return Recurrent(shape, n_classes)
class Branching(nn.Module):
    def __init__(self, shape, n_classes):
        super().__init__()
        self.head = nn.Linear(shape[1] * shape[2], n_classes)
    def forward(self, x):
        if x.sum() > 0:
            return self.head(x.flatten(1))
        return -self.head(x.flatten(1))
def branching(shape, n_classes):
    return Branching(shape, n_classes)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_exported.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import own_exported

    yield own_exported
    sys.modules.pop("own_exported")


def of_user(function, digits, tmp_path) -> Context:
    spec = written_by_user(function, (1, 8, 8), 10)
    torch.manual_seed(0)
    folder = tmp_path / "scratch"
    folder.mkdir()
    return trained(spec, build(spec), digits, folder)


@pytest.mark.parametrize("form", [pytest.param("pt2", marks=pytest.mark.power), "onnx"])
def test_a_users_network_is_exported(own, digits, tmp_path, form) -> None:
    made = ExportQuantized(formats=(form,)).run(digits, of_user(own.attentive, digits, tmp_path))
    assert [f.details["int8_share"] for f in made.findings] == [1.0]
    assert "fail" not in [f.verdict for f in made.findings]
    assert all(b"own_exported" not in a.path.read_bytes() for a in made.artifacts)


@pytest.mark.power
def test_weights_without_an_int8_form_fail(own, digits, tmp_path) -> None:
    context = of_user(own.recurrent, digits, tmp_path)
    finding = ExportQuantized(formats=("pt2",)).run(digits, context).findings[0]
    assert finding.verdict == "fail"
    assert "of its weights are int8" in finding.says


def test_a_network_that_cannot_be_written_fails_with_the_reason(own, digits, tmp_path) -> None:
    made = ExportQuantized(formats=("pt2",)).run(digits, of_user(own.branching, digits, tmp_path))
    assert (made.findings[0].verdict, made.artifacts) == ("fail", ())
    assert "cannot be written" in made.findings[0].says


def test_without_held_out_rows_the_loss_is_not_evaluated(network, digits, tmp_path) -> None:
    context = trained(*network, digits, tmp_path, held_out=False)
    finding = ExportQuantized(formats=("onnx",)).run(digits, context).findings[0]
    assert finding.verdict == "not_evaluated"
    assert finding.details["largest_difference"] <= 1e-5


def test_rounding_that_costs_accuracy_is_suspect(digits, tmp_path) -> None:
    """A huge weight, the same for all classes, changes no answer but leaves no room for others."""
    spec = perceptron((1, 8, 8), 10, hidden=())
    module = fitted(spec, digits, epochs=8)
    with torch.no_grad():
        module[1].weight[:, 0] = 3000.0
    context = trained(spec, module, digits, tmp_path)
    finding = ExportQuantized(formats=("onnx",)).run(digits, context).findings[0]
    assert finding.verdict == "suspect"
    assert finding.measure.high < -0.5
    assert finding.details["largest_difference"] <= 1e-5


def test_the_newest_model_is_exported_unless_one_is_named(digits, context) -> None:
    other = replace(context.artifacts["plain"], name="other")
    both = replace(context, artifacts={**context.artifacts, "other": other})
    stage = ExportQuantized(formats=("onnx",))
    assert stage.run(digits, both).artifacts[0].name == "other.int8.onnx"
    named = replace(stage, model="plain")
    assert named.run(digits, both).artifacts[0].name == "plain.int8.onnx"
    with pytest.raises(DeclarationError, match="'third'"):
        replace(stage, model="third").run(digits, both)


def test_rows_of_a_test_file_are_found_again(network, digits, tmp_path) -> None:
    context = trained(*network, digits, tmp_path)
    model = context.artifacts["plain"]
    test = tmp_path / "test.parquet"
    digits.frame()[:100].write_parquet(test)
    ids = pl.Series(range(100), dtype=pl.UInt64)
    labels = digits.frame()["label"][:100].cast(pl.String)
    pl.DataFrame({"row_id": ids, "label": labels}).write_parquet(tmp_path / "heldout.parquet")
    model = replace(model, facts={**model.facts, "evaluated_on": {"file": str(test)}})
    context = replace(context, artifacts={**context.artifacts, "plain": model})
    unrelated = Dataset.of(digits.frame()[200:300], digits.roles)
    finding = ExportQuantized(formats=("onnx",)).run(unrelated, context).findings[0]
    assert (finding.measure.n, finding.verdict) == (100, "clean")


def test_in_a_pipeline_the_newest_model_is_exported_and_reused(digits, tmp_path) -> None:
    stages = [TrainPlain(epochs=3), ExportQuantized(formats=("onnx",))]
    pipeline = Pipeline("small", stages)
    run = pipeline.run(digits, seed=1, store=tmp_path / "store")
    assert run.finding("export.onnx").verdict == "clean"
    assert run.finding("export.onnx").measure.n > 300
    assert run.artifacts["plain.int8.onnx"].path.is_file()
    again = pipeline.run(digits, seed=1, store=tmp_path / "store")
    assert all(step.reused for step in again.steps)
    with pytest.raises(DeclarationError, match="needs a model"):
        Pipeline("none", stages[1:]).plan(digits)


def test_wrong_parameters_are_told_in_the_plan() -> None:
    assert ExportQuantized(formats=()).check()
    assert ExportQuantized(formats="onnx").check()
    assert not ExportQuantized(formats=("onnx",)).check()
