# SPDX-License-Identifier: Apache-2.0
"""A store rewritten whole, or cut: nothing in it tells, a checkpoint kept elsewhere does.

A plain run tries some; `make faults` tries a hundred of each.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datapipe.cli.app import main
from datapipe.core.merkle import root
from datapipe.errors import TrustError
from datapipe.lineage.journal import Journal
from datapipe.lineage.store import Lineage
from datapipe.manifest.checks import Reason
from datapipe.manifest.log import Checkpoint
from datapipe.manifest.signers import PrivateKey
from datapipe.manifest.witness import check_note, keep_note, note_path

KEY = PrivateKey.new("ed25519")
TRIALS = 100


def checkpointed(lineage: Lineage, key: PrivateKey = KEY) -> Checkpoint:
    """What a run does at its end."""
    size, top = lineage.root()
    point = Checkpoint("datapipe/store", size, top).sign(key)
    lineage.put_checkpoint(size, top, point.to_text())
    return point


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Forty records and two checkpoints inside; the newest is kept outside too."""
    home = tmp_path_factory.mktemp("witnessed")
    lineage = Lineage(home / "store", create=True)
    for run in range(20):
        body = {"run_id": f"r{run}", "pipeline": "reviews", "seed": run}
        lineage.append([("runs", body), ("run_events", {"run_id": f"r{run}", "event": "noted"})])
        if run == 9:
            checkpointed(lineage)
    point = checkpointed(lineage)
    (home / "outside.note").write_text(point.to_text(), encoding="utf-8")
    assert lineage.index()
    assert lineage.verify() == []
    lineage.close()
    return home / "store"


def judged(store: Path, note: Path) -> Reason:
    leaves = Lineage(store).leaves()
    return check_note(note, KEY.public_keys, len(leaves), lambda n: root(leaves[:n])).code


def rewritten(store: Path, target: Path, change: Callable[[list[Any]], None]) -> Lineage:
    """The store that somebody would have who held every key but ours and every tool of ours."""
    records = [(r.kind, dict(r.body)) for r in Journal(store / "journal").read()]
    kept = [(kind, body) for kind, body in records if kind != "log_checkpoints"]
    change(kept)
    forged = Lineage(target, create=True)
    for name in (store / "objects").iterdir():
        shutil.copy(name, target / "objects")
    half = len(kept) // 2
    for part in (kept[:half], kept[half:]):
        forged.append(part)
        checkpointed(forged, PrivateKey.new("ed25519"))
    return forged


def forge_all(store: Path, tmp_path: Path, trials: int) -> None:
    chance, note = random.Random(4), store.parent / "outside.note"
    assert judged(store, note) is Reason.HOLDS

    def change(records: list[Any]) -> None:
        at = chance.randrange(len(records))
        match chance.randrange(4):
            case 0:
                records[at][1]["run_id"] = "forged"
            case 1:
                del records[at]
            case 2:
                records.insert(at, ("runs", {"run_id": "slipped in"}))
            case _:
                records[at], records[at - 1] = records[at - 1], records[at]

    caught = 0
    for trial in range(trials):
        target = tmp_path / f"forged{trial}"
        forged = rewritten(store, target, change)
        if trial < 2:  # the forgery is complete: the store itself has nothing to object
            assert forged.index()
            assert forged.verify() == []
        forged.close()
        caught += judged(target, note) in (Reason.LOG_PROOF, Reason.LOG_SHRUNK)
        shutil.rmtree(target)
    assert caught == trials


def test_a_rewritten_store_is_caught_by_the_checkpoint_outside(store, tmp_path):
    forge_all(store, tmp_path, 8)


@pytest.mark.faults
def test_a_hundred_rewritten_stores_are_caught(store, tmp_path, sweeps):
    if not sweeps:
        pytest.skip("a hundred of each take long: `make faults`")
    forge_all(store, tmp_path, TRIALS)


def cut_all(store: Path, tmp_path: Path, trials: int) -> None:
    """Any number of bytes cut off the end: the head tells; without a head, the checkpoint."""
    chance, note = random.Random(5), store.parent / "outside.note"
    whole = (store / "journal" / "000001.log").read_bytes()
    covered = Checkpoint.load(note).size
    end = next(r for r in frames(store) if r.seq == covered).end
    told = hidden = 0
    for trial in range(trials):
        copy = tmp_path / f"cut{trial}"
        shutil.copytree(store, copy)
        segment = copy / "journal" / "000001.log"
        segment.write_bytes(whole[: chance.randrange(len(whole))])
        told += any(
            p.code == "DP-TRUST-702" or "cut short" in p.says for p in Lineage(copy).verify()
        )
        # whoever cuts may also take the head, the notes and the index away, and accept the loss
        segment.write_bytes(whole[: chance.randrange(end)])
        shutil.rmtree(copy / "log")
        (copy / "lineage.duckdb").unlink()
        Journal(copy / "journal").accept()
        hidden += judged(copy, note) is Reason.LOG_SHRUNK
        shutil.rmtree(copy)
    assert (told, hidden) == (trials, trials)


def frames(store: Path) -> list[Any]:
    """The records with where they end in the segment."""
    from dataclasses import dataclass

    from datapipe.lineage.frames import NO_CHAIN, batches

    @dataclass
    class Placed:
        seq: int
        end: int

    data = (store / "journal" / "000001.log").read_bytes()
    found = [frame for batch in batches(data, 0, NO_CHAIN) for frame in batch]
    return [Placed(seq, frame.end) for seq, frame in enumerate(found, 1)]


def test_a_cut_journal_is_noticed(store, tmp_path):
    cut_all(store, tmp_path, 8)


@pytest.mark.faults
def test_a_hundred_cut_journals_are_noticed(store, tmp_path, sweeps):
    if not sweeps:
        pytest.skip("a hundred of each take long: `make faults`")
    cut_all(store, tmp_path, TRIALS)


def test_a_witness_keeps_only_what_extends(store, tmp_path):
    folder, copy = tmp_path / "notes", tmp_path / "copy"
    shutil.copytree(store, copy)
    lineage = Lineage(copy)
    root_at = lambda n: lineage.root(n)[1]  # noqa: E731  # read in place
    first = checkpointed(lineage)
    path = keep_note(folder, copy, first, root_at)
    assert path == note_path(folder, copy)
    lineage.append([("runs", {"run_id": "one more"})])
    second = checkpointed(lineage)
    keep_note(folder, copy, second, root_at)
    assert Checkpoint.load(path) == second
    forged = rewritten(store, tmp_path / "forged", lambda records: records.reverse())
    fake = checkpointed(forged)
    with pytest.raises(TrustError) as caught:
        keep_note(folder, copy, fake, lambda n: forged.root(n)[1])
    assert caught.value.code in (Reason.LOG_PROOF, Reason.LOG_SHRUNK)
    assert Checkpoint.load(path) == second


PIPELINE = """
from datapipe import Pipeline
from datapipe.stages import ExactDuplicates, ReadCSV
p = Pipeline("witnessed", [ReadCSV("a.csv", label="y"), ExactDuplicates()])
"""


def test_runs_keep_their_checkpoint_outside_and_verify_asks_for_it(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATAPIPE_WITNESS", str(tmp_path / "notes"))
    monkeypatch.delenv("DATAPIPE_KEY", raising=False)
    Path("a.csv").write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    Path("p.py").write_text(PIPELINE)
    assert main(["run", "p.py", "--seed", "1", "-q"]) == 0
    (note,) = (tmp_path / "notes").iterdir()
    assert main(["verify", ".datapipe"]) == 0
    shutil.copy(note, "mailed.note")
    monkeypatch.delenv("DATAPIPE_WITNESS")
    assert main(["verify", ".datapipe", "--checkpoint", "mailed.note"]) == 0
    assert main(["verify", "a.csv", "--checkpoint", "mailed.note"]) == 2
    # the same pipeline in a fresh store in the old one's place, with the old one's key
    Path(".datapipe").rename("old")
    Path(".datapipe").mkdir()
    shutil.copytree("old/keys", ".datapipe/keys")
    assert main(["run", "p.py", "--seed", "1", "-q"]) == 0
    assert main(["verify", ".datapipe"]) == 0
    capfd.readouterr()
    assert main(["verify", ".datapipe", "--checkpoint", "mailed.note"]) == 4
    assert "outside checkpoint" in capfd.readouterr().err
    monkeypatch.setenv("DATAPIPE_WITNESS", str(tmp_path / "notes"))
    assert main(["verify", ".datapipe"]) == 4
    assert main(["run", "p.py", "--seed", "2", "-q"]) == 4
