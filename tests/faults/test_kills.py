# SPDX-License-Identifier: Apache-2.0
"""kill -9 before, after and halfway through the calls that change files of the store.

In a run on a new store, in a run on one that is in use, in one that goes through its input in
shards, in the committer that brings the index up to date and in the one that makes it anew. The
kills come in chains: the first at a chosen call, the next at random moments and calls of the runs
and committers that resume what was killed, with nothing mended in between; then one is left to end.
After each kill the files are held against what was acknowledged, after each chain the store's
answers and the output that was resumed; every few chains all of `verify` has its say first.

`make faults` starts a chain at every step of a run and of both committers (a kind of call on a kind
of file), `make test` a seeded sample. `FAULTS_EVERY=1` takes every call of every scene instead of
one for each step, `FAULTS_PART=k/n` and `FAULTS_SCENE=name` a part of them. The driver of a cluster
is killed here as well, its workers and nodes in `tests/execute/test_ray.py`: `make faults ARGS='-k
kill'` does all, tells how many kills hit which step, and keeps the counts with
`FAULTS_KEEP=folder`. This is the death of a process, not the loss of power.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

COUNT, KILL_BEFORE, KILL_AFTER, TORN = range(4)
WAYS = {COUNT: "at a random moment", KILL_BEFORE: "before", KILL_AFTER: "after", TORN: "halfway"}
WRITES = ("write", "pwrite", "writev", "copy")
KILLED = -9
SAMPLE = 3
KILLS = 6
"""In a row on one store, before a run is left to end."""
VERIFIED = 4
"""One chain of so many has all of `verify` before it is resumed, in a sweep."""
RUNS = 0.7
"""Part of the kills of what resumes that hit a run; the others hit a committer."""
SHARD_ROWS = 150
DRIVERS = 24
"""Chains of kills of a driver: each run joins the cluster and starts its workers anew."""


@dataclass
class Scene:
    """A store as it was before a job, the job, and what the job leads to when nothing happens."""

    name: str
    before: Path | None
    job: str
    source: Path
    how: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
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
            shutil.copyfile(told_of(scene.before), told)
        return store, told


def told_of(store: Path) -> Path:
    """The list of what a store acknowledged; beside it, so that its writes are not counted."""
    return store.with_name(f"told-{store.name}")


def write_rows(path: Path, first: int) -> Path:
    rows = [f"{i * 37 % 100},{i},text {i % 700},{i % 3}" for i in range(first, first + 900)]
    path.write_text("\n".join(["a,b,t,y", *rows]) + "\n")
    return path


def counted(worker: Any, scene: Scene, store: Path) -> Scene:
    """Do the job of a scene unharmed; it says what calls it makes and what it leads to."""
    log = store.with_suffix(".log")
    log.unlink(missing_ok=True)  # of the scene before, whose calls are not those of this one
    how = {"source": scene.source, "told": told_of(store), **scene.how}
    scene.truth = worker.do(scene.job, store, action=COUNT, log=log, **how)
    assert scene.truth["rc"] == 0, scene.truth
    scene.cpu_s, scene.wall_s = scene.truth["cpu_s"], scene.truth["wall_s"]
    lines = log.read_text().splitlines()
    scene.calls, scene.steps = [line.split()[1] for line in lines], [worker.step(x) for x in lines]
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
    shutil.copyfile(told_of(used), told_of(behind))
    index = (behind / "lineage.duckdb").read_bytes()
    counted(worker, scenes[1], behind)
    (behind / "lineage.duckdb").write_bytes(index)
    made = World(home, worker, scenes)
    for scene in scenes[2:4]:
        counted(worker, scene, made.fresh(scene)[0])
        scene.truth = scenes[1].truth
    yield made
    shutil.rmtree(home, ignore_errors=True)


Moment = tuple[Scene, int, int]


def moments(world: World) -> list[Moment]:
    """Every call of every scene with every way to die at it."""
    only = os.environ.get("FAULTS_SCENE", "")
    return [m for s in world.scenes if s.name.startswith(only) for m in moments_of(s)]


def moments_of(scene: Scene) -> list[Moment]:
    found: list[Moment] = []
    for at, call in enumerate(scene.calls, 1):
        ways = (KILL_BEFORE, KILL_AFTER, TORN) if call in WRITES else (KILL_BEFORE, KILL_AFTER)
        found += [(scene, at, way) for way in ways]
    return found


def one_a_step(every: list[Moment], chance: random.Random) -> list[Moment]:
    """One call of each step of each job, in any of its scenes, for each way to die at it."""
    of: dict[tuple[str, str, int], list[Moment]] = {}
    for scene, at, way in every:
        of.setdefault((scene.job, scene.steps[at - 1], way), []).append((scene, at, way))
    return [chance.choice(calls) for calls in of.values()]


def strike(world: World, job: str, scene: Scene, store: Path, told: Path, **how: Any) -> str:
    """Do a job that is to die; where it did, or nothing when it came to its end first."""
    log = world.home / "struck"
    log.unlink(missing_ok=True)
    how = {"source": scene.source, "told": told, "log": log, **scene.how, **how}
    answer = world.worker.do(job, store, **how)
    assert answer["rc"] in (0, KILLED), (scene.name, how, answer)
    if answer["rc"] == 0:
        return ""
    lines = log.read_text().splitlines() if log.exists() else []
    at = how.get("at", len(lines))  # of a random moment, the last call that had begun
    step, way = world.worker.step(lines[at - 1]) if lines else "nothing yet", how["action"]
    step = how.get("step", step)
    if way == TORN and step.split()[0] not in WRITES:
        way = KILL_BEFORE  # no half of a call that is no write
    return f"{step}, {WAYS[way]}"


def glance(world: World, store: Path, told: Path, where: list[str]) -> None:
    """The oracle after a kill: nothing acknowledged is lost, no object is half there."""
    if not (store / "format").exists():
        return
    found = world.worker.do("glance", store, told=told)
    assert found["rc"] == 0, (where, found)
    assert (found["problems"], found["lost"]) == ([], 0), (where, found)


def look(world: World, store: Path, told: Path, where: list[str], *, quick: bool) -> Any:
    """What the store answers: all of that, nothing torn, and no run is still said to be running."""
    if not (store / "format").exists():
        return None
    found = world.worker.do("check", store, told=told, quick=quick)
    assert found["rc"] == 0, (where, found)
    assert (found["problems"], found["lost"], found["torn"]) == ([], 0, 0), (where, found)
    assert set(found["states"].values()) <= {"finished", "abandoned"}, (where, found)
    ended = found["ended"]  # what told its end before it died stays what it said
    assert all(found["states"][run] == "finished" for run in ended), (where, found)
    return found


def inspect(
    world: World, scene: Scene, store: Path, told: Path, where: list[str], *, verify: bool
) -> None:
    """The oracle after a chain: the answers, and the same output when it is resumed."""
    if verify:
        look(world, store, told, where, quick=False)
    again = world.worker.do("run", store, source=scene.source, told=told, **scene.how)
    assert again["rc"] == 0, (where, again)
    for name in ("data", "model", "dropped", "trained"):
        assert again[name] == scene.truth[name], (where, name)
    after = look(world, store, told, where, quick=True)
    assert after["left"] == [], (where, after)
    assert after["states"][again["run_id"]] == "finished", (where, after)


def resumed_at(world: World, scene: Scene, chance: random.Random) -> tuple[str, dict[str, Any]]:
    """What goes on after a kill, and where it dies: at a call or at a moment, drawn anew."""
    job, like = "run", scene if scene.job == "run" else world.scenes[1]
    if chance.random() > RUNS:
        like = chance.choice(world.scenes[2:4])
        job = like.job
    if job == "run" and "address" in like.how:  # it mostly waits, and that is the time to hit it
        return job, {"action": COUNT, "after_s": chance.random() * like.wall_s}
    if chance.random() < 0.5:
        return job, {"action": COUNT, "after_cpu_s": chance.random() * like.cpu_s}
    at = 1 + int(len(like.calls) * chance.random() ** 2)  # rather early: most of it may be done
    return job, {"action": chance.choice((KILL_BEFORE, KILL_AFTER, TORN)), "at": at}


def aimed_at(scene: Scene, at: int) -> dict[str, Any]:
    """A call told by its step and which one of that step it is: DuckDB's calls vary by a few."""
    step = scene.steps[at - 1]
    nth = scene.steps[:at].count(step)
    return {
        "step": step,
        "only": step.removesuffix("/") if step.endswith(" /") else step,
        "at": nth,
    }


def chain(world: World, first: Moment, kills: int, *, verify: bool) -> list[str]:
    """Kill at a call, then what resumes, and again, on one store; where the kills were."""
    scene, at, way = first
    chance = random.Random(f"{scene.name} {at} {way}")
    store, told = world.fresh(scene)
    where: list[str] = []
    job, how = scene.job, {"action": way, **aimed_at(scene, at)}
    for _ in range(kills):
        died = strike(world, job, scene, store, told, **how)
        if died:
            where.append(f"{scene.name}: {job}: {died}")
            glance(world, store, told, where)
        job, how = resumed_at(world, scene, chance)
        if job != "run" and not (store / "format").exists():
            job = "run"
    inspect(world, scene, store, told, [*where, f"call {at}"], verify=verify)
    return where


def killed_in(world: World, chosen: list[Moment], kills: int, verified: int) -> list[str]:
    """A chain from each moment; where all the kills were."""
    killed: list[str] = []
    missed = 0
    for number, first in enumerate(chosen):
        where = chain(world, first, kills, verify=number % verified == 0)
        missed += not where
        killed += where
        print(f"{len(killed)} kills, chain {number + 1} of {len(chosen)}:", *where, sep="\n  ")
    assert missed <= 0.05 * len(chosen) + 1  # threads may need a call less than when counted
    # what resumed was killed as well; by chance, so that a sample may have no such kill
    assert len(killed) > len(chosen) or len(chosen) <= SAMPLE
    return killed


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_kills_at_every_step_lose_nothing(
    world: World, sweeps, part: slice, record_property: Callable[[str, object], None]
):
    every = moments(world)
    assert len(every) >= 2000 or os.environ.get("FAULTS_SCENE")
    if not sweeps:
        killed_in(world, random.Random(3).sample(every, SAMPLE)[part], 2, 1)
        return
    if not os.environ.get("FAULTS_EVERY"):
        every = one_a_step(every, random.Random(3))
    record_property("kills", dict(Counter(killed_in(world, every[part], KILLS, VERIFIED))))


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_kills_of_the_driver_of_a_cluster_lose_nothing(
    world: World, cluster: Any, sweeps, part: slice, record_property: Callable[[str, object], None]
):
    """As above for a run whose shards are tasks on two nodes, which outlive it.

    What is resumed gives what one process gives that nothing happens to.
    """
    if not sweeps:
        pytest.skip("each run starts new workers on the nodes: `make faults`")
    here = world.scenes[4]
    how = {**here.how, "address": cluster.address}
    scene = Scene("run on Ray", None, "run", here.source, how)
    counted(world.worker, scene, world.home / "on-ray")
    for name in ("data", "model", "dropped", "trained"):
        assert scene.truth[name] == here.truth[name], name
    chance = random.Random(5)
    every = moments_of(scene)
    amid = [m for m in every if "/partial/" in scene.steps[m[1] - 1]]  # shards come back
    chosen = chance.sample(amid, DRIVERS // 2) + chance.sample(
        one_a_step(every, chance), DRIVERS // 2
    )
    chosen = chosen[part]
    record_property("kills", dict(Counter(killed_in(world, chosen, KILLS, VERIFIED))))
    assert [pid for node in cluster.nodes for pid in cluster.at_work(node)] == []
