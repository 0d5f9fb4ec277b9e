# SPDX-License-Identifier: Apache-2.0
"""Plain training: accuracy, the split, repeatability, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.pipeline import Pipeline
from datapipe.core.roles import Roles
from datapipe.errors import DataError, DeclarationError, Malformed, SchemaMismatch
from datapipe.features.networks import load_model, logits
from datapipe.stages import ReadParquet
from datapipe.stages.train._rows import held_out, prepare, related_rows
from datapipe.stages.train.plain import TrainPlain


def heldout(made):
    return pl.read_parquet(made.artifacts[1].path)


def test_digits_are_learned(digits, context) -> None:
    made = TrainPlain().run(digits, context)
    assert made.findings[0].verdict == "clean"
    assert made.findings[0].measure.low > 0.95
    model = made.artifacts[0]
    assert (model.name, model.kind, made.findings[0].kind) == ("plain", "model", "train.plain")
    assert len(model.row_ids) + heldout(made).height == len(digits)
    assert not model.row_ids.is_in(heldout(made)["row_id"].implode()).any()
    assert model.measures["accuracy"] == made.findings[0].measure
    classes = [model.measures[f"accuracy.{k}"] for k in range(10)]
    assert sum(c.n for c in classes) == model.measures["accuracy"].n
    json.dumps(dict(model.facts), allow_nan=False)


def test_the_file_and_the_facts_are_all_that_is_needed(digits, context) -> None:
    made = TrainPlain(epochs=3).run(digits, context)
    model = made.artifacts[0]
    network, encoding = load_model(model.path, json.loads(json.dumps(dict(model.facts))))
    table = heldout(made)
    rows = digits.frame(["image"], row_id=True).join(
        table, left_on="_row_id", right_on="row_id", maintain_order="right"
    )
    said = logits(network, encoding.encode(rows)).argmax(axis=1)
    assert np.array_equal(said == table["label"].cast(pl.Int64).to_numpy(), table["correct"])


def test_weights_are_no_pickle(digits, context) -> None:
    made = TrainPlain(epochs=1).run(digits, context)
    raw = made.artifacts[0].path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert (
        sum(np.prod(t["shape"]) for k, t in header.items() if k != "__metadata__")
        == (made.artifacts[0].facts["n_parameters"])
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_one_seed_gives_one_file_and_leaves_torch_as_it_was(threads, digits, tmp_path) -> None:
    files, digits = [], Dataset.of(digits.frame()[:400], digits.roles)
    for i, outside in enumerate((1, 4)):
        scratch = tmp_path / str(i)
        scratch.mkdir()
        torch.manual_seed(outside)
        before = (torch.get_rng_state(), torch.get_num_threads())
        stage = TrainPlain(epochs=1, threads=threads)
        files.append(stage.run(digits, Context(5, scratch)).artifacts[0].path.read_bytes())
        assert torch.equal(torch.get_rng_state(), before[0])
        assert torch.get_num_threads() == before[1]
        assert not torch.are_deterministic_algorithms_enabled()
    assert files[0] == files[1]
    other = tmp_path / "other"
    other.mkdir()
    assert (
        TrainPlain(epochs=1).run(digits, Context(6, other)).artifacts[0].path.read_bytes()
        != files[0]
    )


def test_tables_are_standardised_by_the_training_rows(table, context) -> None:
    made = TrainPlain(epochs=40).run(table, context)
    rules = {r["name"]: r for r in made.artifacts[0].facts["encoding"]["settings"]["columns"]}
    assert set(rules) == {"a", "b", "c"}  # the subject and the label are no features
    trained = table.frame(row_id=True).filter(
        pl.col("_row_id").is_in(made.artifacts[0].row_ids.implode())
    )
    assert rules["b"]["mean"] == pytest.approx(trained["b"].mean())
    assert rules["c"]["values"] == ["x", "y", "z"]
    assert made.findings[0].verdict == "clean"


def test_text_is_about_as_good_as_logistic_regression_on_counts(real_data, context) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    frame = pl.read_parquet(real_data("poison/sms_spam_dev.parquet"))
    data = Dataset.of(frame, Roles.of(text="text", label="label"))
    made = TrainPlain(epochs=8).run(data, context)
    test = heldout(made)["row_id"].to_numpy().astype(int)
    train = np.setdiff1d(np.arange(len(frame)), test)
    words = TfidfVectorizer()
    peer = LogisticRegression(max_iter=1000).fit(
        words.fit_transform(frame["text"][train]), frame["label"][train]
    )
    right = peer.predict(words.transform(frame["text"][test])) == frame["label"][test].to_numpy()
    assert made.findings[0].measure.value > right.mean() - 0.02


def test_related_rows_stay_on_one_side(table) -> None:
    ready = prepare(table, holdout=0.3, split_seed=0)
    frame = table.frame(row_id=True)
    held = frame.filter(pl.col("_row_id").is_in(ready.held_out.row_ids.implode()))["who"]
    trained = frame.filter(pl.col("_row_id").is_in(ready.train.row_ids.implode()))["who"]
    assert not set(held) & set(trained)
    assert 0.2 < len(held) / len(frame) < 0.4


def test_copies_are_related_through_each_other() -> None:
    frame = pl.DataFrame({"x": [1, 1, 2, 3, 9], "who": [7, 8, 8, None, None], "y": [0, 1, 0, 1, 0]})
    groups = related_rows(Dataset.of(frame, Roles.of(label="y", subject="who")))
    assert groups.tolist() == [0, 0, 0, 3, 4]


@given(st.integers(0, 2**20), st.floats(0, 0.9), st.integers(20, 300))
def test_the_split_is_stratified_and_hardly_moves_when_rows_go(seed, share, n) -> None:
    rng = np.random.default_rng(seed)
    y, ids = rng.integers(0, 3, n), np.arange(n, dtype=np.uint64)
    held = held_out(np.arange(n), y, ids, share, seed)
    for k in range(3):
        assert abs(held[y == k].sum() - share * (y == k).sum()) <= 1
    kept = rng.random(n) > 0.1
    again = held_out(np.arange(n)[kept], y[kept], ids[kept], share, seed)
    assert (again != held[kept]).mean() <= 0.15 + 3 / n


def test_a_test_file_makes_two_models_comparable_row_by_row(digits, tmp_path) -> None:
    frame = digits.frame()
    frame[:300].write_parquet(tmp_path / "test.parquet")
    data = Dataset.of(frame[300:], digits.roles)
    answers = []
    for name in ("before", "after"):
        scratch = tmp_path / name
        scratch.mkdir()
        stage = TrainPlain(epochs=2, named=name, test=str(tmp_path / "test.parquet"))
        made = stage.run(data, Context(1, scratch))
        assert [a.name for a in made.artifacts] == [name, f"{name}.heldout"]
        assert made.findings[0].kind == f"train.{name}"
        assert len(made.artifacts[0].row_ids) == len(data)
        answers.append(heldout(made))
    assert answers[0]["row_id"].to_list() == answers[1]["row_id"].to_list() == list(range(300))


def test_other_bytes_in_the_test_file_are_another_step(digits, tmp_path) -> None:
    path = tmp_path / "test.parquet"
    stage = TrainPlain(test=str(path))
    digits.frame()[:30].write_parquet(path)
    before = stage.code_digest()
    digits.frame()[:40].write_parquet(path)
    assert stage.code_digest() != before


def test_weights_of_rows_count(digits, context) -> None:
    """Rows of weight 0 teach nothing, so their wrong labels do no harm."""
    rng = np.random.default_rng(0)
    wrong = rng.random(len(digits)) < 0.6
    frame = digits.frame().with_columns(
        label=pl.when(pl.Series(wrong)).then((pl.col("label") + 3) % 10).otherwise(pl.col("label")),
        w=pl.Series(np.where(wrong, 0.0, 1.0)),
    )
    roles = replace(digits.roles, columns={**digits.roles.columns, "weight": ("w",)})
    frame.filter(~pl.Series(wrong))[:300].write_parquet(context.scratch / "test.parquet")
    stage = TrainPlain(epochs=10, test=str(context.scratch / "test.parquet"))
    assert stage.run(Dataset.of(frame, roles), context).findings[0].measure.value > 0.9
    deaf = Dataset.of(frame, digits.roles)
    assert stage.run(deaf, context).findings[0].measure.value < 0.5


def test_weights_that_cannot_be_summed_are_refused(table, context) -> None:
    for wrong in (-1.0, float("nan"), 1e7, 0.0):
        frame = table.frame().with_columns(w=pl.lit(wrong))
        with pytest.raises(DataError, match="'w': weights must lie in"):
            TrainPlain().run(Dataset.of(frame, Roles.of(label="y", weight="w")), context)


def test_noise_is_suspect_and_nothing_held_out_is_not_evaluated(table, context) -> None:
    rng = np.random.default_rng(1)
    noise = Dataset.of(table.frame().with_columns(a=pl.Series(rng.normal(size=400))), table.roles)
    assert TrainPlain(epochs=3).run(noise, context).findings[0].verdict == "suspect"
    blind = TrainPlain(epochs=1, holdout=0.0).run(table, context).findings[0]
    unknown = Estimate.unknown(method="no held-out rows")
    assert blind.verdict == "not_evaluated"
    assert repr(blind.measure) == repr(unknown)  # nan equals nan up to Python 3.12 alone


def test_own_network(digits, context, own_module) -> None:
    made = TrainPlain(model=own_module.gelu, epochs=8).run(digits, context)
    assert made.findings[0].measure.value > 0.9
    facts = dict(made.artifacts[0].facts)
    assert facts["architecture"]["function"] == "own_networks:gelu"
    load_model(made.artifacts[0].path, facts)


@pytest.mark.parametrize("name", ["narrow", "number"])
def test_networks_that_do_not_fit_are_refused(name, digits, context, own_module) -> None:
    with pytest.raises(DeclarationError, match=r"network gave|gave int"):
        TrainPlain(model=getattr(own_module, name)).run(digits, context)


def test_a_network_nobody_can_import_is_refused_in_the_plan() -> None:
    assert "cannot be imported by name" in TrainPlain(model=lambda *_: None).check()[0]


BAD = {
    "one class": ({"y": ["no"] * 400}, "one class"),
    "no label": ({"y": [None, *["no", "yes"] * 199, "no"]}, "1 labels are missing"),
    "NaN": ({"a": [float("nan")] * 3 + [0.0] * 397}, "'a': 3 of 400 values"),
    "null": ({"b": [None, *[0.0] * 399]}, "'b': 1 of 400 values"),
    "fractions": ({"y": [i / 7 for i in range(400)]}, "fractions"),
    "a key as label": ({"y": list(range(400))}, "400 classes"),
}


@pytest.mark.parametrize(("columns", "says"), BAD.values(), ids=BAD)
def test_bad_rows_are_refused_before_the_first_batch(columns, says, table, context) -> None:
    frame = table.frame().with_columns(pl.Series(k, v) for k, v in columns.items())
    with pytest.raises(DataError, match=says):
        TrainPlain(holdout=0.0).run(Dataset.of(frame, table.roles), context)
    assert not list(context.scratch.iterdir())


def test_missing_pixels_few_rows_and_no_features_are_refused(digits, context) -> None:
    frame = digits.frame()[:50].with_columns(
        image=pl.concat(
            [
                pl.Series([[None] * 64], dtype=pl.Array(pl.Float32, 64)),
                digits.frame()["image"][1:50],
            ]
        )
    )
    with pytest.raises(DataError, match="1 of"):
        TrainPlain().run(Dataset.of(frame, digits.roles), context)
    with pytest.raises(DataError, match="too few"):
        TrainPlain().run(Dataset.of(digits.frame()[:9], digits.roles), context)
    bare = Dataset.of(pl.DataFrame({"y": [0, 1] * 20, "l": [[1]] * 40}), Roles.of(label="y"))
    with pytest.raises(SchemaMismatch, match="no column can be learned from"):
        TrainPlain().run(bare, context)


def test_bad_test_files_are_refused(digits, context, tmp_path) -> None:
    path = tmp_path / "test.parquet"
    path.write_text("no parquet")
    with pytest.raises(Malformed, match="cannot be read"):
        TrainPlain(test=str(path)).run(digits, context)
    pl.DataFrame({"label": [1]}).write_parquet(path)
    with pytest.raises(SchemaMismatch, match="'image'"):
        TrainPlain(test=str(path)).run(digits, context)


def test_training_that_diverges_is_refused(table, context) -> None:
    with pytest.raises(DataError, match="diverged"):
        TrainPlain(epochs=5, learning_rate=1e30).run(table, context)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda(digits, context) -> None:
    made = TrainPlain(device="cuda").run(digits, context)
    assert made.artifacts[0].facts["device"] == "cuda"
    assert made.findings[0].measure.low > 0.95


def test_cuda_is_not_replaced_silently(digits, context) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeclarationError, match="no CUDA device"):
        TrainPlain(device="cuda").run(digits, context)


def test_a_seed_gives_one_model_whatever_the_store_met_before(tmp_path) -> None:
    rng = np.random.default_rng(4)
    readers = []
    for name in ("a", "b"):
        x, y = rng.normal(size=(150, 3)), rng.integers(0, 2, 150)
        frame = pl.DataFrame(x + y[:, None], schema=["p", "q", "r"]).with_columns(y=pl.Series(y))
        frame.write_parquet(tmp_path / f"{name}.parquet")
        readers.append(ReadParquet(tmp_path / f"{name}.parquet", label="y"))
    train = TrainPlain(epochs=1, named="m")
    models = []
    for store, before in (("fresh", []), ("used", [readers[1]])):
        for reader in before:
            Pipeline("before", [reader]).run(seed=1, store=tmp_path / store)
        run = Pipeline("p", [readers, train]).run(seed=7, store=tmp_path / store)
        models.append((run.artifacts["m"].digest, [s.number for s in run.data.sources]))
    assert [numbers for _, numbers in models] == [[1, 2], [2, 1]]
    assert models[0][0] == models[1][0]
