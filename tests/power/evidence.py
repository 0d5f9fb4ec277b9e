# SPDX-License-Identifier: Apache-2.0
"""Measure stages on seeded worlds and write signed evidence beside their cards.

    python tests/power/evidence.py --only dedup.minhash

What is measured for `family.method` stands in `tests/power/<family>/<method>.py`: `SEEDS` and
`trial(seed)`, which gives counts (hits, of how many) by the name of the figure, and the data. The
counts of all seeds are pooled into rates with Wilson's interval.

A key made for this run signs every evidence file and is thrown away; its public half goes to
`manifests/policies/evidence.pub.pem`. Evidence that was not measured anew is signed again only
after its old signature has held.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from datapipe import __version__
from datapipe.core.digest import digest_file
from datapipe.core.estimate import Estimate
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import Code, Environment, Material, Measure
from datapipe.manifest.keys import PrivateKey, load_public_keys
from datapipe.manifest.manifest import Manifest
from datapipe.manifest.predicates import EvaluationPredicate
from datapipe.manifest.statement import Subject
from datapipe.stages import CATALOGUE, find

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CARDS = ROOT / "stages"
PUBLIC = ROOT / "manifests" / "policies" / "evidence.pub.pem"
PACKAGES = ("numpy", "polars", "pyarrow")
Counts = Mapping[str, tuple[int, int]]


def module_of(key: str) -> ModuleType | None:
    """What is measured for a stage; None where nothing is yet."""
    path = HERE / f"{key.replace('.', '/')}.py"
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(f"power_{key.replace('.', '_')}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pooled(counts: list[Counts]) -> dict[str, Estimate]:
    """Rates over all seeds."""
    return {
        name: Estimate.rate(sum(c[name][0] for c in counts), sum(c[name][1] for c in counts))
        for name in counts[0]
    }


def measured(key: str, module: ModuleType, seeds: list[int]) -> tuple[dict[str, Estimate], list]:
    """The figures of a stage, and the data sets they rest on."""
    counts, data = [], []
    for seed in seeds:
        told, used = module.trial(seed)
        counts.append(told)
        data += used
    return pooled(counts), data


def statement(key: str, module: ModuleType) -> Manifest:
    """Measure a stage and say so, not signed yet."""
    stage = find(key)
    seeds = list(module.SEEDS)
    figures, data = measured(key, module, seeds)
    source = ROOT / "src" / "datapipe" / "stages" / f"{key.replace('.', '/')}.py"
    digest = digest_file(source).removeprefix("sha256:")
    predicate = EvaluationPredicate(
        of=key,
        figures={name: Measure.of(estimate) for name, estimate in figures.items()},
        seeds=tuple(seeds),
        command=f"make evidence ONLY={key}",
        code=Code(key, stage.version, digest),
        data=tuple(
            Material(name, {"sha256": d.digest.removeprefix("sha256:")}, rows=len(d))
            for name, d in data
        ),
        recorded_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        environment=Environment(
            platform.python_version(),
            f"{platform.system()} {platform.machine()}",
            {"datapipe": __version__, **{name: version(name) for name in PACKAGES}},
        ),
    )
    return Manifest.about(predicate, Subject(f"{key.replace('.', '/')}.py", {"sha256": digest}))


def main() -> None:
    """Measure what the command line asks for, and sign all there is."""
    parser = argparse.ArgumentParser(description="Measure stages and write signed evidence.")
    parser.add_argument("--only", choices=CATALOGUE, help="one stage")
    options = parser.parse_args()
    key = PrivateKey.new("ed25519")
    believed = load_public_keys(PUBLIC) if PUBLIC.is_file() else ()
    made: dict[Path, Envelope] = {}
    for name in [options.only] if options.only else CATALOGUE:
        module = module_of(name)
        if module is None:
            sys.stderr.write(f"{name}: nothing is measured\n")
            continue
        said = statement(name, module)
        family, _, method = name.partition(".")
        made[CARDS / family / f"{method}.evidence.json"] = said.sign(key)
        for figure, measure in said.predicate.figures.items():
            print(f"{name} {figure}: {measure.value:.4g} [{measure.low:.4g}, {measure.high:.4g}]")
    for path in sorted(CARDS.rglob("*.evidence.json")):
        if path not in made:
            old = Manifest.open(path)
            old.verify(*believed).require()
            made[path] = Manifest(old.statement).sign(key)
    for path, envelope in made.items():
        path.write_bytes(envelope.to_bytes() + b"\n")
    if made:
        PUBLIC.parent.mkdir(parents=True, exist_ok=True)
        PUBLIC.write_text(key.public_key.to_pem())


if __name__ == "__main__":
    main()
