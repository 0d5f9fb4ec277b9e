# SPDX-License-Identifier: Apache-2.0
"""Sources with true, foreign, unsigned and missing papers: what is taken over of each?"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID
from datapipe.core.source import Source
from datapipe.stages.provenance.declarations import SourceDeclarations

SEEDS = range(20)
SAMPLE = 2
FLOORS = {"declared synthetic taken over": 0.9, "papers of other bytes marked": 0.9}
CEILINGS = {"freed without a signed-off digest": 0.05, "sound sources marked": 0.05}
SOURCES, ROWS = 80, 3
KINDS = ("synthetic", "freed", "freed unsigned", "freed unbound", "other bytes", "none")


def trial(context):
    """Write files with papers of every kind, and see what becomes of the sources."""
    rng = np.random.default_rng(context.seed)
    folder = context.scratch / "sources"
    folder.mkdir(parents=True, exist_ok=True)
    kinds, sources = rng.choice(KINDS, SOURCES), []
    for i, kind in enumerate(kinds, start=1):
        file = folder / f"{context.seed}-{i}.csv"
        file.write_bytes(rng.bytes(40))
        told = papers(kind, file.read_bytes())
        if told:
            file.with_name(f"{file.name}.origin.json").write_text(json.dumps(told))
        facts = {"number": i, "rows": ROWS, "files": ((str(file), ROWS),)}
        sources.append(Source(file.name, str(file), **facts))
    ids = [(s.number << 40) + i for s in sources for i in range(ROWS)]
    frame = pl.DataFrame({ROW_ID: pl.Series(ids, dtype=pl.UInt64), "v": range(len(ids))})
    data = Dataset(frame.lazy(), sources=sources)
    made = SourceDeclarations().run(data, context)
    after = (made.data or data).sources
    marked = {i >> 40 for i in made.findings[0].flagged["row_id"]}
    of = {k: [s for s, kind in zip(after, kinds, strict=True) if kind == k] for k in KINDS}
    unfree = [*of["freed unsigned"], *of["freed unbound"], *of["other bytes"], *of["none"]]
    sound = [s for k in KINDS if k != "other bytes" for s in of[k]]
    return {
        "declared synthetic taken over": (
            sum(s.synthetic is True for s in of["synthetic"]),
            len(of["synthetic"]),
        ),
        "papers of other bytes marked": (
            sum(s.number in marked for s in of["other bytes"]),
            len(of["other bytes"]),
        ),
        "freed without a signed-off digest": (
            sum(s.synthetic is False or s.consent == "granted" for s in unfree),
            len(unfree),
        ),
        "sound sources marked": (sum(s.number in marked for s in sound), len(sound)),
    }, data


def papers(kind, data):
    """A sidecar of one kind."""
    bound = {"sha256": hashlib.sha256(data).hexdigest()}
    free = {"synthetic": False, "consent": "granted", "signed_off_by": "Ada <ada@example.org>"}
    return {
        "synthetic": {"synthetic": True, "generator": "some-model"},
        "freed": {**free, **bound},
        "freed unsigned": {**free, **bound, "signed_off_by": "somebody"},
        "freed unbound": free,
        "other bytes": {**free, "sha256": "0" * 64},
        "none": {},
    }[kind]
