# SPDX-License-Identifier: Apache-2.0
# Prints:
#     refused: …reviews.csv:4: 3 fields where the header has 2 …
#     hint: …
#     5 rows of reviews, licence CC-BY-4.0, roles {'text': ['body'], 'label': ['stars']}
#     1 row set aside: reviews.csv:4: 3 fields where the header has 2
"""A CSV file of your own: a broken line is refused by name, or set aside when you say so."""

from __future__ import annotations

import tempfile
from pathlib import Path

from datapipe import Pipeline
from datapipe.errors import Malformed
from datapipe.stages import ReadCSV

LINES = """\
body,stars
good,5
"fine, really",4
one comma, too many,3
bad,1
"says ""no"" twice",2
never again,1
"""

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "reviews.csv"
    file.write_text(LINES)
    store = Path(folder) / "store"

    try:
        Pipeline("reviews", [ReadCSV(file, text="body", label="stars")]).run(seed=7, store=store)
    except Malformed as refused:
        print("refused:", refused.message)
        print("hint:", refused.hint)

    reader = ReadCSV(file, text="body", label="stars", licence="CC-BY-4.0", on_error="quarantine")
    run = Pipeline("reviews", [reader]).run(seed=7, store=store)
    source = run.data.sources[0]
    roles = run.data.roles.to_json()
    print(f"{len(run.data)} rows of {source.name}, licence {source.licence}, roles {roles}")
    for reason in run.sql("select reason from dropped_rows")["reason"]:
        print(f"1 row set aside: {reason}")
