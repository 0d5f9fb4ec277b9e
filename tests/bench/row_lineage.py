# SPDX-License-Identifier: Apache-2.0
"""Why 200 rows of many millions left: from the store, against a scan of the same reasons.

`python tests/bench/row_lineage.py FOLDER ROWS` prints the latencies themselves as one JSON line:
bits a row of the sidecar, `why`, 1,000 rows backward, one source forward.
"""

from __future__ import annotations

import functools
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

SUBJECT = "Lineage.why of 200 rows, warm"
PEER = "polars: scan the list of dropped rows once for all 200"
CASES = ("why",)
ROWS = 10_000_000
REPEATS = 7

SOURCES = 8
SHARES = (0.77, 0.85, 0.92, 0.97)
REASONS = ("too short", "too long", "no label", "bad characters")
ASKED = 200

ASK = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import row_lineage
print(json.dumps(row_lineage.SIDES[sys.argv[2]](Path(sys.argv[3]))))
"""


def prepare(folder: Path, rows: int) -> None:
    """A store after one filter over eight sources, and the same drops as a plain list."""
    import numpy as np
    import polars as pl

    from datapipe.lineage import sidecars
    from datapipe.lineage.store import Lineage

    lineage = Lineage(folder / "store", create=True)
    each = rows // SOURCES
    chance = np.random.default_rng(7)
    parts, sources = [], []
    for n in range(SOURCES):
        number = lineage.source_number(f"sha256:{n:064x}", f"source {n}", each)
        codes = np.digitize(chance.random(each), SHARES)
        at = np.flatnonzero(codes)
        reason = pl.Series(codes[at].astype(np.uint8) - 1).replace_strict(
            dict(enumerate(REASONS)), return_dtype=pl.Enum(sorted(REASONS))
        )
        ids = pl.Series(at.astype(np.uint64) + np.uint64(number << 40))
        parts.append(pl.DataFrame({"row_id": ids, "reason": reason}))
        sources.append((number, each))
    left = pl.concat(parts)
    covered = sidecars.spans(left["row_id"], sources)
    assert sidecars.pays(left, covered)
    home = lineage.scratch()
    sidecars.write(home / "a.parquet", left, covered)
    digest, kept = lineage.put_object(home / "a.parquet", suffix=".parquet")
    home.rmdir()
    left.write_parquet(folder / "list.parquet", compression="zstd")
    (folder / "facts.json").write_text(
        json.dumps({"bits": kept.stat().st_size * 8 / rows, "left": left.height})
    )
    step = {"run_id": "r", "step_id": "r/1"}
    model, _ = lineage.put_bytes(b"weights", suffix=".bin")
    lineage.append(
        [
            ("runs", {"run_id": "r", "pipeline": "p"}),
            *(
                ("sources", {"run_id": "r", "source_no": n, "name": f"source {n}", "rows": r})
                for n, r in sources
            ),
            ("steps", {**step, "position": 1, "branch_group": 1, "stage": "test.filter"}),
            ("row_drops", {**step, "object": digest, "rows": left.height}),
            (
                "datasets",
                {
                    **step,
                    "digest": "sha256:" + "d" * 64,
                    "rows": rows - left.height,
                    "source_nos": [n for n, _ in sources],
                    "ancestor_steps": ["r/1"],
                },
            ),
            ("models", {**step, "model_id": model, "name": "m", "dataset": "sha256:" + "d" * 64}),
            ("run_events", {"run_id": "r", "event": "finished"}),
        ]
    )
    start = time.process_time()
    assert lineage.index()
    facts = json.loads((folder / "facts.json").read_text())
    facts["index_cpu_s"] = round(time.process_time() - start, 2)
    facts["index_bytes"] = (folder / "store" / "lineage.duckdb").stat().st_size
    (folder / "facts.json").write_text(json.dumps(facts))


def asked(folder: Path, count: int) -> list[int]:
    """Row ids spread over all sources, the same in both roles."""
    from datapipe.lineage.store import Lineage

    found = Lineage(folder / "store").sql("select source_no, rows from source_facts order by 1")
    sources = found.rows()
    each = count // len(sources)
    return [n << 40 | (rows // each * i + i % 7) for n, rows in sources for i in range(each)]


def ours(folder: Path) -> list[str]:
    """The reasons by `why`."""
    from datapipe.lineage.store import Lineage

    lineage = Lineage(folder / "store")
    told = [lineage.why(row)["dropped"] for row in asked(folder, ASKED)]
    return [d[0]["reason"] if d else "" for d in told]


def theirs(folder: Path) -> list[str]:
    """The reasons by one scan of the list."""
    import polars as pl

    rows = asked(folder, ASKED)
    left = pl.scan_parquet(folder / "list.parquet").filter(pl.col("row_id").is_in(rows)).collect()
    known = dict(zip(left["row_id"].to_list(), left["reason"].cast(pl.String), strict=True))
    return [known.get(row, "") for row in rows]


SIDES = {"subject": ours, "peer": theirs}


def command(role: str, case: str, folder: Path) -> list[str]:
    """A fresh process that asks, one way or the other."""
    return [sys.executable, "-c", ASK, str(Path(__file__).parent), role, str(folder)]


def latencies(folder: Path) -> dict[str, object]:
    """Milliseconds of each kind of question in one warm process, median and range: wall for
    `why`, CPU of all threads for questions in SQL."""
    from datapipe.lineage.store import Lineage

    lineage = Lineage(folder / "store")
    rows, many = asked(folder, ASKED), asked(folder, 1000)
    listed = ", ".join(map(str, many))
    model = "model_id = (select max(model_id) from models)"
    views = {
        "backward_dropped_rows_of_1000": "from dropped_rows_of($ids)",
        "backward_row_history_of_1000": "from row_history_of($ids)",
        "backward_model_rows_of_1000": f"from model_rows_of($ids) where {model}",
        "backward_dropped_rows_1000": f"from dropped_rows where row_id in ({listed})",
        "backward_row_history_1000": f"from row_history where row_id in ({listed})",
        "backward_model_rows_1000": f"from model_rows where {model} and row_id in ({listed})",
        "point_dropped_rows": f"from dropped_rows where row_id = {rows[5]}",
        "point_model_rows_of": f"from model_rows_of([{rows[5]}])",
        "point_model_rows": f"from model_rows where row_id = {rows[5]}",
        "forward_source_impact": "from source_impact where source_no = 3",
        "forward_model_sources": f"from model_sources where {model}",
        "forward_dataset_sources": "from dataset_sources",
    }
    found: dict[str, object] = json.loads((folder / "facts.json").read_text())
    lineage.why(rows[0])
    found["why_ms"] = timed([lambda row=row: lineage.why(row) for row in rows])
    for name, query in views.items():
        try:
            values = {"ids": many} if "$ids" in query else {}
            ask = functools.partial(lineage.sql, query, **values)
            found[name + "_ms"] = timed([ask] * 6, clock=time.process_time)
        except Exception as error:  # noqa: BLE001 - one that fails must not hide the others
            found[name + "_ms"] = str(error)[:80]
        print(name, found[name + "_ms"], file=sys.stderr, flush=True)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def timed(questions: list, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    taken = []
    for question in questions:
        start = clock()
        question()
        taken.append((clock() - start) * 1000)
    return [round(f(taken), 2) for f in (statistics.median, min, max)]


if __name__ == "__main__":
    home, size = Path(sys.argv[1]), int(sys.argv[2])
    if not (home / "facts.json").exists():
        home.mkdir(parents=True, exist_ok=True)
        prepare(home, size)
    print(json.dumps({"rows": size} | latencies(home)))
