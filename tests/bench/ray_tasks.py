# SPDX-License-Identifier: Apache-2.0
"""The CPU of the same shards on a Ray cluster of two nodes and in one process with two threads."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

from lineage_overhead import prepare as prepared
from lineage_overhead import stages

SUBJECT = "RayExecutor on two local nodes of one CPU each, the cluster already up"
PEER = "LocalExecutor in one process with two threads"
CASES = ("corpus",)
ROWS = 10_000_000
REPEATS = 5
TELLS_ITS_COST = CASES


def prepare(folder: Path, rows: int) -> None:
    """The input of `lineage_overhead`."""
    prepared(folder, rows)


def command(role: str, case: str, folder: Path) -> list[str]:
    """The cluster is started by the measured process, which tells the cost of the run alone."""
    return [sys.executable, str(Path(__file__).resolve()), role, str(folder / case)]


def run(place: Path, executor: object) -> str:
    """Run in a fresh store; the digest of the rows that are left."""
    from datapipe.core.pipeline import Pipeline

    shutil.rmtree(place / "store", ignore_errors=True)
    run = Pipeline("sales", stages(place)).run(seed=7, store=place / "store", executor=executor)
    return run.data.digest


def on_ray(place: Path) -> dict[str, object]:
    """Two nodes of one CPU, each a raylet with a store of its own; the driver is on the first."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    from datapipe.execute.ray import RayExecutor

    node = {"num_cpus": 1, "object_store_memory": 300_000_000}
    head = {"include_dashboard": False, **node}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(**node)
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        before = cpu_seconds()
        digest = run(place, RayExecutor())
        return {"cpu_seconds": cpu_seconds() - before, "outcome": digest}
    finally:
        ray.shutdown()
        cluster.shutdown()


def cpu_seconds() -> float:
    """CPU time of this process and of all that descend from it, as far as they are alive."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(status.parent.name)
        parents[pid], used[pid] = int(words[1]), (int(words[11]) + int(words[12])) / 100
    mine = {os.getpid()}
    while more := {p for p, up in parents.items() if up in mine and p not in mine}:
        mine |= more
    return sum(used[p] for p in mine)


def main(role: str, place: Path) -> None:
    """Run, and print what the run alone has cost."""
    import json

    from datapipe.execute.local import LocalExecutor

    if role == "subject":
        figures = on_ray(place)
    else:
        before = cpu_seconds()
        digest = run(place, LocalExecutor())
        figures = {"cpu_seconds": cpu_seconds() - before, "outcome": digest}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak, **figures}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
