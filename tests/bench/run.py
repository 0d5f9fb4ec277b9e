# SPDX-License-Identifier: Apache-2.0
"""Run comparisons: subject and peer turn by turn in fresh processes, one JSON line each."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from datapipe import __version__

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PACKAGES = ("polars", "pyarrow", "duckdb", "numpy")
ROLES = ("subject", "peer")

METER = """
import os, sys, time
begun = time.monotonic()
child = os.fork()
if not child:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(child, 0)
waited = time.monotonic() - begun
with open(sys.argv[1], "w") as out:
    print(used.ru_utime + used.ru_stime, waited, used.ru_maxrss, file=out)
sys.exit(os.waitstatus_to_exitcode(status) and 1)
"""
"""A small process that starts the measured one: Linux counts the memory a process had before it
became the program, so a large parent would hide the peak of a small child."""


@dataclass(frozen=True)
class Cost:
    """What one process used, and what it answered."""

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    outcome: str


def measured(command: list[str], folder: Path) -> Cost:
    """Run a command and ask the kernel what it used."""
    figures = folder / "figures.txt"
    meter = [sys.executable, "-S", "-E", "-c", METER, str(figures), *command]
    # The shell forks once more, so that nothing of this process's size is inherited.
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *meter]
    done = subprocess.run(shell, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed\n{done.stderr[-2000:]}")
    seconds, waited, peak = figures.read_text().split()
    scale = 1 if sys.platform == "darwin" else 1024  # kilobytes everywhere else
    said = done.stdout.strip().splitlines()  # a peer may log above its answer
    return Cost(float(seconds), float(waited), int(peak) * scale, said[-1] if said else "")


def told(cost: Cost) -> Cost:
    """What a process says it cost, in JSON: once all it needs was loaded, or with its children."""
    form = json.loads(cost.outcome)
    peak = int(form.get("peak_bytes", cost.peak_bytes))
    return Cost(form["cpu_seconds"], cost.wall_seconds, peak, str(form["outcome"]))


def spread(ratios: list[float]) -> dict[str, float | int | str]:
    """The median of some ratios, between the smallest and the largest of them."""
    n = len(ratios)
    return {
        "median": round(statistics.median(ratios), 4),
        "low": round(min(ratios), 4),
        "high": round(max(ratios), 4),
        "n": n,
        "method": "range of interleaved pairs",
        "level": round(1 - 2.0 ** (1 - n), 4),
    }


def compared(module: ModuleType, case: str, folder: Path, repeats: int) -> dict[str, object]:
    """One comparison: a pair that is thrown away, then the pairs that count."""
    tells = getattr(module, "TELLS_ITS_COST", ())  # such a process knows its CPU, not the wait
    pairs: list[tuple[Cost, Cost]] = []
    for number in range(repeats + 1):
        order = ROLES if number % 2 else ROLES[::-1]
        costs = {role: measured(module.command(role, case, folder), folder) for role in order}
        if case in tells:
            costs = {role: told(cost) for role, cost in costs.items()}
        subject, peer = costs["subject"], costs["peer"]
        if subject.outcome != peer.outcome:
            raise SystemExit(f"they disagree: {subject.outcome!r} and {peer.outcome!r}")
        pairs += [(subject, peer)] if number else []
    wall = spread([s.wall_seconds / p.wall_seconds for s, p in pairs])
    return {
        "cpu_ratio": spread([s.cpu_seconds / p.cpu_seconds for s, p in pairs]),
        **({"wall_ratio": wall} if case not in tells else {}),
        "memory_ratio": spread([s.peak_bytes / p.peak_bytes for s, p in pairs]),
        "cpu_seconds": {
            "subject": round(statistics.median(s.cpu_seconds for s, _ in pairs), 3),
            "peer": round(statistics.median(p.cpu_seconds for _, p in pairs), 3),
        },
        "outcome": pairs[0][0].outcome,
        "n": repeats,
    }


def load(name: str) -> ModuleType:
    """The module of a comparison."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"there is no comparison {name!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run what the command line asks for."""
    known = sorted(p.stem for p in HERE.glob("*.py") if p.stem != "run")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=known, help="one comparison")
    parser.add_argument("--case", help="one case of it, printed and not kept")
    parser.add_argument("--rows", type=int, help="rows of the input, where there is one")
    parser.add_argument("--repeats", type=int, help="pairs that count")
    parser.add_argument("--keep", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    for name in [options.only] if options.only else known:
        module = load(name)
        rows = options.rows or module.ROWS
        repeats = options.repeats or module.REPEATS
        lines = []
        for case in [c for c in module.CASES if options.case in (None, c)]:
            with tempfile.TemporaryDirectory(prefix="datapipe-bench-") as place:
                module.prepare(Path(place), rows)
                figures = compared(module, case, Path(place), repeats)
            told = {"name": name, **({"case": case} if case else {})}
            told |= {"subject": module.SUBJECT, "peer": module.PEER, "rows": rows, **figures}
            told["command"] = f"make bench ONLY={name} ROWS={rows} REPEATS={repeats}"
            lines.append(json.dumps(told))
            print(lines[-1], flush=True)
        if options.case and not lines:
            parser.error(f"{name} has no case {options.case!r}; it has {module.CASES}")
        if options.keep and not options.case:
            keep(name, lines)


def keep(name: str, lines: list[str]) -> None:
    """Store the lines with what they depend on."""
    RESULTS.mkdir(exist_ok=True)
    about = {
        "versions": {"datapipe": __version__, **{name: version(name) for name in PACKAGES}},
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    kept = {**about, "results": [json.loads(line) for line in lines]}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
