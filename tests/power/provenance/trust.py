# SPDX-License-Identifier: Apache-2.0
"""Sources that break a policy in one way each: is every one refused, and no honest one?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.core.dataset import Dataset, empty
from datapipe.core.digest import digest_file
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.facts import Terms
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.stages.ingest.parquet import ReadParquet
from datapipe.stages.provenance.trust import RequireTrust

SEEDS = range(20)
FLOORS = {"breaking sources refused": 0.98}
CEILINGS = {"honest sources refused": 0.02}
EACH = 12
POLICY = """
name = "training"
version = 1
{keys}
[[rule]]
predicate = "dataset"
roles = ["source"]
licences = ["CC-BY-4.0"]
uses = ["ai_training"]
max_synthetic_share = 0.2
"""
KEY = '[[key]]\nowner = "{owner}"\nroles = ["{role}"]\npublic = """{public}"""\n{dates}\n'


def trial(context):
    """Sign with honest terms or with one that is not; judge each file by the same policy."""
    rng = np.random.default_rng(context.seed)
    keys = {name: PrivateKey.new("ed25519") for name in ("good", "old", "gone", "clerk", "eve")}
    dates = {
        "old": "valid_until = 2020-01-01T00:00:00Z",
        "gone": "revoked_at = 2026-01-01T00:00:00Z",
    }
    known = "".join(
        KEY.format(
            owner=name,
            role="auditor" if name == "clerk" else "source",
            public=key.public_key.to_pem(),
            dates=dates.get(name, ""),
        )
        for name, key in keys.items()
        if name != "eve"
    )
    policy = context.scratch / "trust.toml"
    policy.write_text(POLICY.format(keys=known))
    path = context.scratch / "rows.parquet"
    pq.write_table(pa.table({"v": rng.normal(size=50)}), path)
    refused = {True: 0, False: 0}
    for turn in range(2 * EACH):
        honest = turn % 2 == 0
        terms = {"licence": "CC-BY-4.0", "use": "allowed", "share": float(rng.uniform(0, 0.2))}
        signer = "good"
        if not honest:
            broken = ("licence", "use", "share", "old", "gone", "clerk", "eve")[turn // 2 % 7]
            signer = broken if broken in keys else "good"
            wrong = {"licence": "GPL-3.0-only", "use": "notAllowed", "share": rng.uniform(0.21, 1)}
            terms |= {broken: wrong[broken]} if broken in wrong else {}
        said = DatasetPredicate(
            "rows",
            terms=Terms((terms["licence"],), {"ai_training": terms["use"]}),
            declared_synthetic_share=float(terms["share"]),
        )
        sign_path(path, keys[signer], predicate=said)
        refused[honest] += judged(path, policy, context) == "fail"
    return {
        "breaking sources refused": (refused[False], EACH),
        "honest sources refused": (refused[True], EACH),
    }, Dataset.of(pa.table(pq.read_table(path)))


def judged(path, policy, context):
    """The verdict on the source, as the reader and the executor hand it over."""
    made = ReadParquet(path, named="rows").run(empty(), context)
    source = replace(made.data.sources[0], number=1, digest=digest_file(path))
    shifted = made.data.frame(row_id=True)
    ids = shifted["_row_id"] % 2**40 + 2**40
    data = Dataset(shifted.with_columns(ids.alias("_row_id")).lazy(), sources=[source])
    return RequireTrust(policy, on_finding="note").run(data, context).findings[0].verdict
