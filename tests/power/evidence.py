# SPDX-License-Identifier: Apache-2.0
"""Measure stages on seeded worlds and write signed evidence beside their cards.

    python tests/power/evidence.py --only dedup.minhash
    python tests/power/evidence.py --stale

What is measured for `family.method` stands in `tests/power/<family>/<method>.py`:

- `trial(context)` plants faults with the context's seed, runs the stage, and gives its figures and
  the data set they rest on. A figure is `(hits, of how many)`, or a float;
- `SEEDS` are the seeds of the evidence; `FLOORS` and `CEILINGS` what the bounds must keep to;
- optional: `SAMPLE`, how many seeds the suite has time for; `alarm(context)` tells whether
  sound data was doubted, for each of `CLEAN_SEEDS`; its figure is called `alarms`.

Counts of rows are pooled with an interval that respects that rows of one seed are alike
(Korn-Graubard), one event a seed with the exact binomial interval, floats with Student's.

A key made for this run signs what was measured and is thrown away (`DATAPIPE_KEY` names one to use
instead); its public half joins `manifests/policies/evidence.pub.pem`, where only keys stay that
still sign something.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from datapipe import __version__
from datapipe.core.context import Context
from datapipe.core.digest import digest_code, digest_file, digest_json
from datapipe.core.estimate import Estimate
from datapipe.errors import MissingExtra
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import Code, Environment, Material, Measure
from datapipe.manifest.keys import AnySigner, PrivateKey, find_passphrase, load_key
from datapipe.manifest.manifest import Manifest
from datapipe.manifest.predicates import EvaluationPredicate
from datapipe.manifest.statement import Subject
from datapipe.measure.clusters import clustered_rate
from datapipe.measure.intervals import clopper_pearson, mean
from datapipe.report.evidence import EVIDENCE_KEY, evidence, evidence_keys
from datapipe.stages import CATALOGUE, find

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CARDS = ROOT / "stages"
SOURCES = ROOT / "src" / "datapipe" / "stages"
PUBLIC = ROOT / "manifests" / "policies" / EVIDENCE_KEY
PACKAGES = ("numpy", "polars", "pyarrow", "scikit-learn", "torch", "great-expectations")
MOST_PROCESSES = 4

Figure = tuple[int, int] | float
Told = tuple[Mapping[str, Figure], str, int]
"""The figures of one seed, the digest of the data they rest on, and its rows."""


def place(key: str) -> str:
    """Where a stage lies in each of its rooms, such as `dedup/minhash.py`."""
    return f"{key.replace('.', '/')}.py"


def module_of(key: str) -> ModuleType:
    """What is measured for a stage."""
    spec = importlib.util.spec_from_file_location(
        f"power_{key.replace('.', '_')}", HERE / place(key)
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def why_not(key: str) -> str:
    """Why a stage cannot be measured here; empty when it can."""
    if not (HERE / place(key)).is_file():
        return "nothing says how to measure it"
    if not (SOURCES / place(key)).is_file():
        return "the stage is not there yet"
    try:
        find(key)
    except MissingExtra as error:
        return error.message
    return ""


def tried(key: str, seed: int) -> Told:
    """Run a trial with one seed, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        figures, data = module_of(key).trial(Context(seed, Path(folder)))
        return figures, data.digest, len(data)


def doubted(key: str, seed: int) -> bool:
    """Whether sound data of one seed was doubted."""
    with tempfile.TemporaryDirectory() as folder:
        return bool(module_of(key).alarm(Context(seed, Path(folder))))


def pooled(of_seeds: Sequence[Mapping[str, Figure]]) -> dict[str, Estimate]:
    """Every figure over all seeds."""
    return {name: _pooled([figures[name] for figures in of_seeds]) for name in of_seeds[0]}


def _pooled(values: Sequence[Figure]) -> Estimate:
    if not isinstance(values[0], tuple):
        return mean(values)
    hits, sizes = (list(column) for column in zip(*values, strict=True))
    if max(sizes) <= 1:
        return clopper_pearson(sum(hits), sum(sizes))
    return clustered_rate(hits, sizes)


def limits_broken(module: ModuleType, figures: Mapping[str, Estimate]) -> list[str]:
    """The figures whose bound is beyond what the module declares."""
    low = [f"{k}: {figures[k]}, floor {v}" for k, v in module.FLOORS.items() if figures[k].low < v]
    high = [
        f"{k}: {figures[k]}, ceiling {v}" for k, v in module.CEILINGS.items() if figures[k].high > v
    ]
    return low + high


def measured(key: str, pool: ProcessPoolExecutor) -> tuple[dict[str, Estimate], Material]:
    """The figures of a stage over all its seeds, and the data they rest on.

    The digest of the data is that of the list of the worlds' digests, in the order of the seeds.
    """
    module = module_of(key)
    clean = list(getattr(module, "CLEAN_SEEDS", ()))
    alarms = [pool.submit(doubted, key, seed) for seed in clean]
    told = [job.result() for job in [pool.submit(tried, key, seed) for seed in module.SEEDS]]
    figures = pooled([seed for seed, _, _ in told])
    if clean:
        figures["alarms"] = clopper_pearson(sum(job.result() for job in alarms), len(clean))
    digest = digest_json([digest for _, digest, _ in told]).removeprefix("sha256:")
    rows = sum(rows for _, _, rows in told)
    return figures, Material(f"worlds of {len(told)} seeds", {"sha256": digest}, rows=rows)


def statement(key: str, figures: Mapping[str, Estimate], worlds: Material) -> Manifest:
    """What was measured, not signed yet; it is about the stage's source."""
    module = module_of(key)
    trial = Material(
        f"tests/power/{place(key)}", {"sha256": _sha256(HERE / place(key))}, media_type="text/plain"
    )
    predicate = EvaluationPredicate(
        of=key,
        figures={name: Measure.of(estimate) for name, estimate in figures.items()},
        seeds=tuple(sorted({*module.SEEDS, *getattr(module, "CLEAN_SEEDS", ())})),
        command=f"make evidence ONLY={key}",
        code=Code(
            key,
            find(key).version,
            digest_code(f"datapipe.stages.{key}").removeprefix("sha256:"),
        ),
        data=(trial, worlds),
        recorded_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        environment=Environment(
            platform.python_version(),
            f"{platform.system()} {platform.machine()}",
            {"datapipe": __version__, **_versions()},
        ),
    )
    return Manifest.about(predicate, Subject(place(key), {"sha256": _sha256(SOURCES / place(key))}))


def _sha256(path: Path) -> str:
    return digest_file(path).removeprefix("sha256:")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def signer() -> AnySigner:
    """The key that `DATAPIPE_KEY` names, or one that lives for this run."""
    named = os.environ.get("DATAPIPE_KEY", "")
    return load_key(named, find_passphrase()) if named else PrivateKey.new("ed25519")


def write(name: str, said: Manifest, key: AnySigner) -> None:
    """Sign what was measured, and keep the public keys that still sign something."""
    believed = {k.keyid: k for k in (*evidence_keys(), *key.public_keys)}
    path = CARDS / place(name).replace(".py", ".evidence.json")
    path.write_bytes(said.sign(key).to_bytes() + b"\n")
    used = {
        k.keyid: k
        for path in sorted(CARDS.rglob("*.evidence.json"))
        for k in Envelope.load(path).verify(believed.values())
    }
    PUBLIC.parent.mkdir(parents=True, exist_ok=True)
    PUBLIC.write_text("".join(k.to_pem() for k in used.values()))


def main() -> int:
    """Measure what the command line asks for; 1 when a figure is beyond its limit."""
    parser = argparse.ArgumentParser(description="Measure stages and write signed evidence.")
    parser.add_argument("--only", choices=CATALOGUE, action="append", help="a stage; repeatable")
    parser.add_argument("--stale", action="store_true", help="only where code or trial changed")
    options = parser.parse_args()
    broken, key = [], signer()
    with ProcessPoolExecutor(
        min(MOST_PROCESSES, os.cpu_count() or 1), multiprocessing.get_context("spawn")
    ) as pool:
        for name in options.only or CATALOGUE:
            why = why_not(name)
            if why or (options.stale and is_current(name)):
                print(f"{name}: {why or 'its evidence is current'}", flush=True)
                continue
            figures, worlds = measured(name, pool)
            write(name, statement(name, figures, worlds), key)
            print(*(f"{name} {k}: {e}" for k, e in figures.items()), sep="\n", flush=True)
            broken += [f"{name} {line}" for line in limits_broken(module_of(name), figures)]
    for line in broken:
        sys.stderr.write(f"beyond its limit: {line}\n")
    return 1 if broken else 0


def is_current(key: str) -> bool:
    """Whether neither the stage nor its trial changed since they were measured."""
    found = evidence(key)
    if found is None or found.stale or not found.signed:
        return False
    digest = {"sha256": _sha256(HERE / place(key))}
    return any(item.digest == digest for item in found.said.data)


if __name__ == "__main__":
    sys.exit(main())
