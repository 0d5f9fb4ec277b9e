# SPDX-License-Identifier: Apache-2.0
"""kill -9 before, after and halfway through every call that changes a file of the store.

In a run on a new store, in a run on one that is in use, in one that goes through its input in
shards, in the committer that brings the index up to date and in the one that makes it anew; and,
several times in a row, in the run that resumes what was killed before. `make faults` goes through
all of them (`FAULTS_PART=k/n`, `FAULTS_SCENE=name` through some), `make test` through a seeded
sample. Workers of a cluster are killed in
`tests/execute/test_ray.py`. This is the death of a process, not the loss of power.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

COUNT, KILL_BEFORE, KILL_AFTER, TORN, FAIL_ONCE, FAIL_ON = range(6)
WRITES = ("write", "pwrite", "writev", "copy")
KILLED = -9
SAMPLE = 3
RANDOM_MOMENTS = 60
RESUMED_ROUNDS = 80
MOST_KILLS = 7
"""In a row on one store, before the run is left to end."""
SHARD_ROWS = 150


@dataclass
class Scene:
    """A store as it was before a job, the job, and what the job leads to when nothing happens."""

    name: str
    before: Path | None
    job: str
    source: Path
    how: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    truth: dict[str, Any] = field(default_factory=dict)


@dataclass
class World:
    """Everything the kills start from, made once."""

    home: Path
    worker: Any
    scenes: list[Scene]

    def fresh(self, scene: Scene) -> tuple[Path, Path]:
        """A copy of a scene's store to be killed on, and the list of what it acknowledged."""
        store, told = self.home / "store", self.home / "told"
        shutil.rmtree(store, ignore_errors=True)
        told.unlink(missing_ok=True)
        if scene.before is not None:
            shutil.copytree(scene.before, store)
            shutil.copyfile(scene.before.with_suffix(".told"), told)
        return store, told


def write_rows(path: Path, first: int) -> Path:
    rows = [f"{i * 37 % 100},{i},text {i % 700},{i % 3}" for i in range(first, first + 900)]
    path.write_text("\n".join(["a,b,t,y", *rows]) + "\n")
    return path


def counted(worker: Any, scene: Scene, store: Path) -> Scene:
    """Do the job of a scene unharmed; it says what calls it makes and what it leads to."""
    log = store.with_suffix(".log")
    log.unlink(missing_ok=True)  # of the scene before, whose calls are not those of this one
    how = {"source": scene.source, "told": store.with_suffix(".told"), **scene.how}
    scene.truth = worker.do(scene.job, store, action=COUNT, log=log, **how)
    assert scene.truth["rc"] == 0, scene.truth
    scene.calls = [line.split()[1] for line in log.read_text().splitlines()]
    return scene


@pytest.fixture(scope="module")
def world(worker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("kills")
    one, two = write_rows(home / "one.csv", 0), write_rows(home / "two.csv", 5000)
    used, behind, cut = home / "used", home / "behind", home / "cut"
    rows = pl.read_csv(one, schema_overrides={"y": pl.String})
    rows.write_parquet(home / "one.parquet", row_group_size=400)
    scenes = [
        counted(worker, Scene("run, new store", None, "run", one), used),
        Scene("run, store in use", used, "run", two),
        Scene("index", behind, "index", two),
        Scene("rebuild", behind, "rebuild", two),
        Scene("run in shards", None, "run", home / "one.parquet", {"shard_rows": SHARD_ROWS}),
    ]
    counted(worker, scenes[4], cut)
    shutil.copytree(used, behind)
    shutil.copyfile(used.with_suffix(".told"), behind.with_suffix(".told"))
    index = (behind / "lineage.duckdb").read_bytes()
    counted(worker, scenes[1], behind)
    (behind / "lineage.duckdb").write_bytes(index)
    made = World(home, worker, scenes)
    for scene in scenes[2:4]:
        counted(worker, scene, made.fresh(scene)[0])
        scene.truth = scenes[1].truth
    yield made
    shutil.rmtree(home, ignore_errors=True)


def moments(world: World) -> list[tuple[Scene, int, int]]:
    """Every call of every scene with every way to die at it."""
    found: list[tuple[Scene, int, int]] = []
    only = os.environ.get("FAULTS_SCENE", "")
    for scene in [s for s in world.scenes if s.name.startswith(only)]:
        for at, call in enumerate(scene.calls, 1):
            ways = (KILL_BEFORE, KILL_AFTER, TORN) if call in WRITES else (KILL_BEFORE, KILL_AFTER)
            found += [(scene, at, way) for way in ways]
    return found


def glance(world: World, store: Path, told: Path, where: str, *, quick: bool = True) -> None:
    """The oracle, part one: nothing acknowledged is lost, nothing torn, nothing half there."""
    if not (store / "format").exists():
        return
    found = world.worker.do("check", store, told=told, quick=quick)
    assert found["rc"] == 0, (where, found)
    assert found["problems"] == [], (where, found)
    assert (found["lost"], found["torn"]) == (0, 0), (where, found)
    assert set(found["states"].values()) <= {"finished", "abandoned"}, (where, found)
    ended = found["ended"]  # what told its end before it died stays what it said
    assert all(found["states"][run] == "finished" for run in ended), (where, found)


def inspect(world: World, scene: Scene, store: Path, told: Path, where: str) -> None:
    """The oracle: part one with all of `verify`, and the same output when it is resumed."""
    worker = world.worker
    glance(world, store, told, where, quick=False)
    again = worker.do("run", store, source=scene.source, told=told, **scene.how)
    assert again["rc"] == 0, (where, again)
    for name in ("data", "model", "dropped", "trained"):
        assert again[name] == scene.truth[name], (where, name)
    after = worker.do("check", store, told=told, quick=True)
    assert (after["lost"], after["torn"], after["left"]) == (0, 0, []), (where, after)
    assert after["states"][again["run_id"]] == "finished", (where, after)


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_kills_at_every_call_lose_nothing(world: World, sweeps):
    every = moments(world)
    assert len(every) >= 1000 or os.environ.get("FAULTS_SCENE")
    chosen = every if sweeps else random.Random(3).sample(every, SAMPLE)
    part, parts = (int(n) for n in os.environ.get("FAULTS_PART", "1/1").split("/"))
    killed = 0
    for scene, at, way in chosen[part - 1 :: parts]:
        store, told = world.fresh(scene)
        how = {"source": scene.source, "told": told, "at": at, "action": way, **scene.how}
        answer = world.worker.do(scene.job, store, **how)
        where = f"{scene.name}: call {at} ({scene.calls[at - 1]}), way {way}"
        killed += answer["rc"] == KILLED  # threads may need a call less than when they were counted
        inspect(world, scene, store, told, where)
        print(f"{killed} kills, the last at {where}", flush=True)
    assert killed >= 0.95 * len(chosen[part - 1 :: parts]) - 1  # of few, one may be the last call


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_kills_at_random_moments_lose_nothing(world: World, sweeps):
    chance = random.Random(5)
    store, told = world.fresh(world.scenes[1])
    killed = 0
    for i in range(RANDOM_MOMENTS if sweeps else 2):
        if i % 5 == 0:  # most follow an earlier kill on the same store
            store, told = world.fresh(world.scenes[1])
        scene = world.scenes[1]
        how = {"source": scene.source, "told": told, "after_s": chance.random() * 0.6}
        killed += world.worker.do("run", store, **how)["rc"] == KILLED
        inspect(world, scene, store, told, f"random moment {i}")
    assert killed


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_kills_of_what_resumes_lose_nothing(world: World, sweeps):
    """One kill after the other on one store, at calls drawn anew, until a run comes to its end."""
    part, parts = (int(n) for n in os.environ.get("FAULTS_PART", "1/1").split("/"))
    rounds = range(part - 1, RESUMED_ROUNDS, parts) if sweeps else (0,)
    killed = resumed = 0
    for number in rounds:
        chance = random.Random(f"resumed {number}")
        scene = world.scenes[(0, 1, 4)[number % 3]]
        store, told = world.fresh(scene)
        for kill in range(MOST_KILLS if sweeps else 2):
            at = 1 + int(len(scene.calls) * chance.random() ** 3)  # mostly early: there is a next
            way = chance.choice((KILL_BEFORE, KILL_AFTER, TORN))
            how = {"source": scene.source, "told": told, "at": at, "action": way, **scene.how}
            where = f"{scene.name}: round {number}, kill {kill} at call {at}, way {way}"
            if world.worker.do("run", store, **how)["rc"] != KILLED:
                break  # what was left to do took fewer calls
            killed, resumed = killed + 1, resumed + (kill > 0)
            glance(world, store, told, where)
        inspect(world, scene, store, told, f"{scene.name}: round {number}")
        print(f"{killed} kills, {resumed} of them of a run that resumed", flush=True)
    assert resumed
