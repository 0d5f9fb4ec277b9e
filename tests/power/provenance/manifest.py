# SPDX-License-Identifier: Apache-2.0
"""Signed, unsigned and forged files: is each source told apart?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datapipe.core.dataset import Dataset, empty
from datapipe.core.digest import digest_file
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.keys import PrivateKey
from datapipe.stages.ingest.parquet import ReadParquet
from datapipe.stages.provenance.manifest import VerifySources

SEEDS = range(20)
FLOORS = {"forged sources refused": 0.97, "unsigned sources told": 0.97, "signed verified": 0.97}
CEILINGS = {}
EACH = 10


def trial(context):
    """Sign files; change a byte of the file or of its signature, or sign with another key."""
    rng = np.random.default_rng(context.seed)
    key, other = PrivateKey.new("ed25519"), PrivateKey.new("p256")
    trusted = context.scratch / "trusted.pem"
    trusted.write_text(key.public_key.to_pem())
    path = context.scratch / "rows.parquet"
    pq.write_table(pa.table({"v": rng.normal(size=50)}), path)
    raw = path.read_bytes()
    unsigned = sum(judged(path, trusted, context) == "unsigned" for _ in range(EACH))
    attestation = sign_path(path, key).attestation
    verified = sum(judged(path, trusted, context) == "verified" for _ in range(EACH))
    refused = 0
    for turn in range(EACH):
        sign_path(path, other if turn % 3 == 2 else key)
        if turn % 3 == 0:
            path.write_bytes(raw + b"x")
        if turn % 3 == 1:
            attestation.write_bytes(changed(attestation.read_bytes(), rng))
        refused += judged(path, trusted, context, digest=raw) == "invalid"
        path.write_bytes(raw)
    return {
        "forged sources refused": (refused, EACH),
        "unsigned sources told": (unsigned, EACH),
        "signed verified": (verified, EACH),
    }, Dataset.of(pa.table(pq.read_table(path)))


def judged(path, trusted, context, *, digest=None):
    """What is said of the source, read before its file was touched."""
    now = path.read_bytes()
    path.write_bytes(digest or now)
    made = ReadParquet(path, named="rows").run(empty(), context)
    source = replace(made.data.sources[0], number=1, digest=digest_file(path))
    path.write_bytes(now)
    data = Dataset(made.data.scan(row_id=True), sources=[source])
    return VerifySources(trusted=trusted).run(data, context).data.sources[0].trust


def changed(raw, rng):
    """The text with one letter or digit changed."""
    places = [i for i, byte in enumerate(raw) if chr(byte).isalnum()]
    at = int(rng.choice(places))
    return raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]
