# SPDX-License-Identifier: Apache-2.0
"""What comparisons about signatures are made on: files, tables and keys."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
from cryptography.hazmat.primitives import serialization

from datapipe.manifest.bundle import sign_path
from datapipe.manifest.signers import PrivateKey


def files(folder: Path, count: int, size: int, name: str = "data") -> None:
    """Random files in a folder, and a P-256 key that the reference tools can read."""
    (folder / name).mkdir()
    block = os.urandom(size)
    for number in range(count):
        content = number.to_bytes(8, "big") + block[8:]
        (folder / name / f"{number:05}.bin").write_bytes(content)
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    raw = PrivateKey.new("p256").raw
    (folder / "key.pem").write_bytes(raw.private_bytes(serialization.Encoding.PEM, form, plain))


def table(folder: Path, rows: int) -> None:
    """A Parquet file of texts, labels and figures, signed, with its public key."""
    rng = np.random.default_rng(1)
    words = np.array(["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"])
    texts = [" ".join(pick) for pick in words[rng.integers(0, 8, (rows, 12))]]
    figures = {f"x{i}": rng.normal(size=rows).astype(np.float32) for i in range(6)}
    frame = pl.DataFrame({"id": np.arange(rows), "text": texts, "label": rng.integers(0, 9, rows)})
    frame.with_columns(**{k: pl.Series(v) for k, v in figures.items()}).write_parquet(
        folder / "rows.parquet"
    )
    key = PrivateKey.new("p256")
    sign_path(folder / "rows.parquet", key)
    (folder / "key.pub").write_text(key.public_key.to_pem())
