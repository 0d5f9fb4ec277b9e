# SPDX-License-Identifier: Apache-2.0
# Prints:
#     openlineage.ndjson: 4 events
#     croissant.json: 3 rows as CC-BY-4.0
#     bom.cdx.json: 2 components
#     prov.json: 2 entities
#     slsa.intoto.json: https://slsa.dev/provenance/v1
#     row 1:2 stands in the published table: True
"""Hand a run over in other tools' forms, and prove one row to somebody who has only the proof."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from datapipe import Pipeline
from datapipe.cli.app import main
from datapipe.stages import ReadCSV


def datapipe(*words: object) -> int:
    """The command line, without what it says."""
    return main([*map(str, words), "--quiet", "--json"])


with tempfile.TemporaryDirectory() as folder:
    place = Path(folder)
    (place / "texts.csv").write_text("text\none\ntwo\nthree\n")
    reader = ReadCSV(place / "texts.csv", text="text", licence="CC-BY-4.0", origin="a lab")
    run = Pipeline("texts", [reader]).run(seed=7, store=place / "store")

    told = {}
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        for form in ("openlineage", "croissant", "cyclonedx", "prov", "slsa"):
            target = place / form
            datapipe("lineage", "export", target, "--format", form, "--store", place / "store")
            told[form] = next(p for p in target.iterdir() if p.suffix != ".parquet")
        (place / "words").write_text("correct horse battery")
        words = ("--passphrase-file", place / "words")
        datapipe("keys", "new", "--algorithm", "p256", "--out", place / "key.pem", *words)
        datapipe("publish", run.data.digest, place / "out", "--key", place / "key.pem",
                 *words, "--store", place / "store")  # fmt: skip
        table = next((place / "out").glob("*.parquet"))
        datapipe("why", "1:2", "--in", table, "--proof", place / "row")
        held = datapipe("verify", place / "row.row.json", "--key", place / "key.pem", *words) == 0

    events = told["openlineage"].read_text().splitlines()
    print(f"{told['openlineage'].name}: {len(events)} events")
    forms = {
        name: json.loads(file.read_text()) for name, file in told.items() if name != "openlineage"
    }
    licence = forms["croissant"]["license"][0].rpartition("/")[2]
    print(f"croissant.json: {len(run.data)} rows as {licence}")
    print(f"bom.cdx.json: {len(forms['cyclonedx']['components'])} components")
    print(f"prov.json: {len(forms['prov']['entity'])} entities")
    print(f"slsa.intoto.json: {forms['slsa']['predicateType']}")
    print(f"row 1:2 stands in the published table: {held}")
