# SPDX-License-Identifier: Apache-2.0
"""A row's proof from `publish` to `verify`, on the command line."""

from __future__ import annotations

import polars as pl

from datapipe import Pipeline
from datapipe.stages import ReadParquet


def test_from_publish_to_verify(datapipe, here, monkeypatch):
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse battery")
    pl.DataFrame({"t": ["a", "b", "c"]}).write_parquet("rows.parquet")
    run = Pipeline("p", [ReadParquet("rows.parquet", text="t")]).run(seed=1, store=".datapipe")
    assert datapipe("keys", "new", "--algorithm", "ed25519", "--out", "key.pem").code == 0
    (here / "key.pub").write_text(datapipe("keys", "export", "key.pem").out)
    published = datapipe("publish", run.data.digest, "out", "--key", "key.pem", "--json").json
    words = ["--in", published["path"], "--proof", "b.row.json"]
    answer = datapipe("why", "1:1", *words, "--json")
    assert (answer.code, answer.json["row"]["t"], answer.json["size"]) == (0, "b", 3)
    assert datapipe("verify", "b.row.json", "--key", "key.pub").code == 0
    proof = here / "b.row.json"
    proof.write_text(proof.read_text().replace('\\"b\\"', '\\"x\\"'))
    assert datapipe("verify", "b.row.json", "--key", "key.pub").code == 4
    assert datapipe("why", "1:9", *words).code == 2
    assert datapipe("why", "1:1", "--proof", "x").code == 2
