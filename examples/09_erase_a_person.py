# SPDX-License-Identifier: Apache-2.0
# Prints:
#     dry run: 2 rows in 1 data set, nothing changed
#     erased: 2 rows, 1 data set rewritten
#     the receipt names nobody and is Ada's: True
#     ada in any file of the store: False
#     the store still verifies: True
"""Take a person's rows out of a store: a dry run, the erasure, its receipt, the proofs after."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from datapipe import Lineage, Manifest, Pipeline
from datapipe.execute.erase import erase
from datapipe.stages import ReadCSV

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "notes.csv"
    file.write_text("person,note\nada-byron,about engines\nbob,about cats\nada-byron,numbers\n")
    store = Path(folder) / "store"
    Pipeline("notes", [ReadCSV(file, subject="person", text="note")]).run(seed=7, store=store)
    lineage = Lineage(store)

    found = erase(lineage, "ada-byron")
    print(
        f"dry run: {found.reach.rows} rows in {len(found.reach.of('dataset'))} data set, ", end=""
    )
    print("nothing changed" if not found.done else "erased")

    done = erase(lineage, "ada-byron", carry_out=True)
    rewritten = [d for d in done.reach.of("dataset") if done.remedies[d.digest] == "rewritten"]
    print(f"erased: {done.reach.rows} rows, {len(rewritten)} data set rewritten")

    receipt = Manifest.open(lineage.object_path(done.receipt)).predicate
    hers = hashlib.sha256(bytes.fromhex(done.salt) + b"ada-byron").hexdigest()
    print(f"the receipt names nobody and is Ada's: {receipt.commitment == hers}")

    held = [p for p in store.rglob("*") if p.is_file() and b"ada-byron" in p.read_bytes()]
    print(f"ada in any file of the store: {bool(held)}")
    print(f"the store still verifies: {not lineage.verify()}")
