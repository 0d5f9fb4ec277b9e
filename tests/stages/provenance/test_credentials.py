# SPDX-License-Identifier: Apache-2.0
"""ContentCredentials: trusted, foreign, tampered and missing credentials of images."""

from __future__ import annotations

import importlib.util

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import DataError
from datapipe.testing import check_stage

pytest.importorskip("c2pa")

from datapipe.stages import ContentCredentials, DeclaredSynthetic


@pytest.fixture(scope="module")
def power(root):
    path = root / "tests" / "power" / "provenance" / "credentials.py"
    spec = importlib.util.spec_from_file_location("credentials_power", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(power, tmp_path_factory):
    """Images of every kind, and the file of the anchors that are believed."""
    rng = np.random.default_rng(7)
    ours, anchor = power.authority()
    foreign, _ = power.authority()
    anchors = tmp_path_factory.mktemp("anchors") / "anchors.pem"
    anchors.write_text(anchor)
    return power.world(rng, 18, ours=ours, foreign=foreign), anchors


def read(power, world, context, **parameters):
    images, anchors = world
    stage = ContentCredentials(**{"anchors": anchors, **parameters})
    return [kind for kind, _ in images], stage.run(power.rows(images), context)


def test_each_image_gets_what_its_credentials_are_worth(power, world, context):
    kinds, made = read(power, world, context)
    told = made.data.frame(["ai_generated"])["ai_generated"].to_list()
    worth = {"synthetic": True, "captured": False}
    assert told == [worth.get(kind) for kind in kinds]
    fit, source_type = made.findings
    assert fit.details["states"] == {
        "trusted": 9, "untrusted": 3, "invalid": 3, "none": 3, "unreadable": 0,
    }  # fmt: skip
    assert (fit.verdict, fit.flagged.height) == ("suspect", 3)
    assert source_type.details["synthetic"] == source_type.details["captured"] == 3


def test_what_it_declares_is_what_the_next_stage_counts(power, world, context):
    _, made = read(power, world, context)
    found = DeclaredSynthetic().run(made.data, context).findings[0]
    assert found.details["synthetic"] == 3
    assert found.details["human"] == 3


def test_without_anchors_nothing_is_trusted(power, world, context):
    _, made = read(power, world, context, anchors="")
    assert made.data.frame(["ai_generated"])["ai_generated"].null_count() == 18
    assert made.findings[1].verdict == "not_evaluated"


def test_what_is_no_image_is_not_evaluated(context):
    rows = pl.DataFrame({"i": [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", None, b"\xff\xd8\xff" * 9]})
    data = Dataset.of(rows.to_arrow(), Roles.of(image="i"))
    fit, source_type = ContentCredentials().run(data, context).findings
    assert source_type.verdict == "not_evaluated"
    assert sum(fit.details["states"].values()) == 5
    assert fit.details["states"]["trusted"] == 0


@pytest.mark.parametrize("text", ["", "no certificate", "\udcff"])
def test_anchors_that_are_none_are_refused(power, world, context, tmp_path, text):
    file = tmp_path / "anchors.pem"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError):
        read(power, world, context, anchors=file)


def test_images_must_be_files(context):
    data = Dataset.of(pl.DataFrame({"i": [[1, 2]]}).to_arrow(), Roles.of(image="i"))
    made = ContentCredentials().run(data, context)
    assert [f.verdict for f in made.findings] == ["not_evaluated", "not_evaluated"]
    assert made.data is None
    taken = Dataset.of(
        pl.DataFrame({"i": [b"x"], "ai_generated": [True]}).to_arrow(), Roles.of(image="i")
    )
    with pytest.raises(DataError, match="already"):
        ContentCredentials().run(taken, Context(0, context.scratch))


def test_conformance():
    report = check_stage(ContentCredentials())
    assert not report.failed, report
