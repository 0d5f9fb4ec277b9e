# SPDX-License-Identifier: Apache-2.0
"""Rows of which a source, a column or nobody declares whether a machine made them."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.source import Source
from datapipe.stages.synthetic.declared import DeclaredSynthetic

SEEDS = range(20)
FLOORS = {"rows counted as declared": 0.99, "rows left undeclared": 0.99}
CEILINGS = {}
ROWS = 600
MAKERS = np.array(["gpt-4", "llama-3-8b", "human", ""])


def trial(context):
    """Compare what is said of each row with what was declared of it."""
    rng = np.random.default_rng(context.seed)
    of_source = rng.choice([True, False, None], 3)
    sources = [
        Source(f"s{i}", f"arrow:s{i}", number=i + 1, rows=ROWS // 3, synthetic=told)
        for i, told in enumerate(of_source.tolist())
    ]
    maker = rng.choice(MAKERS, ROWS)
    number = np.repeat([1, 2, 3], ROWS // 3)
    ids = (number.astype(np.uint64) << np.uint64(40)) + np.tile(np.arange(ROWS // 3), 3)
    frame = pl.DataFrame({ROW_ID: ids.astype(np.uint64), "generator": maker})
    frame = frame.with_columns(pl.col("generator").replace("", None))
    data = Dataset(frame.lazy(), Roles(), sources=sources)
    found = DeclaredSynthetic().run(data, context).findings[0]
    own = np.where(maker == "", None, maker != "human")
    truth = np.where(np.equal(own, None), of_source[number - 1], own)
    said = found.rows.sort("row_id")["score"].to_numpy() == 1
    silent = int(np.equal(truth, None).sum())
    return {
        "rows counted as declared": (int((said == np.equal(truth, True)).sum()), ROWS),
        "rows left undeclared": (min(found.details["undeclared"], silent), silent),
    }, data
