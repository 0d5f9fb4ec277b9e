# SPDX-License-Identifier: Apache-2.0
"""One flipped bit in any file of a store, or beside a signed file: exit 4, and the file is named.

A plain run flips a few bits of every file; `make faults` flips more.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from datapipe.cli.app import main
from datapipe.lineage.store import Lineage

PIPELINE = """
from datapipe import Pipeline
from datapipe.stages import ExactDuplicates, ReadCSV, TrainPlain
read = ReadCSV("a.csv", label="y", licence="CC0-1.0")
p = Pipeline("flips", [read, ExactDuplicates(), TrainPlain(epochs=1)])
"""
INDEX = "lineage.duckdb"
NO_EVIDENCE = ("*lock", "cache/*")
"""Locks, and caches of digests that are checked before they are used: nothing rests on them."""
QUESTIONS = (
    "select * exclude (started_at, ended_at) from run_status",
    "from dropped_rows",
    "from model_sources",
    "select count(*), sum(ordinal) from model_rows",
    "from source_impact order by all",
    "from findings",
    "from log_root",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    """A folder with a signed file, a key and the store of a run that trained a model."""
    folder = tmp_path_factory.mktemp("flips")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse")
        patch.delenv("DATAPIPE_KEY", raising=False)
        rows = "".join(f"{i % 17},{i % 13},{'xz'[i % 17 > 8]}\n" for i in range(240))
        Path("a.csv").write_text("a,b,y\n" + rows)
        Path("p.py").write_text(PIPELINE)
        assert main(["keys", "new", "--out", "k.pem"]) == 0
        assert main(["sign", "a.csv", "--key", "k.pem"]) == 0
        assert main(["run", "p.py", "--seed", "1", "-q"]) == 0
        yield folder


@pytest.fixture
def public(home: Path, capfd) -> Path:
    capfd.readouterr()
    assert main(["keys", "export", "k.pem"]) == 0
    path = home / "k.pub"
    path.write_text(capfd.readouterr().out)
    return path


def flips(path: Path, times: int, seed: int = 0) -> Iterator[tuple[int, int]]:
    """Flip one bit at a time; the file is whole again after each."""
    raw = path.read_bytes()
    chance = random.Random(f"{path.suffix}{len(raw)}{seed}")
    for _ in range(times):
        place, bit = chance.randrange(len(raw)), chance.randrange(8)
        changed = bytearray(raw)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        try:
            yield place, bit
        finally:
            path.write_bytes(raw)


def verified(capfd, *words: object) -> tuple[int, str]:
    capfd.readouterr()
    code = main(["verify", *map(str, words)])
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


def files(store: Path) -> list[Path]:
    found = (p for p in store.rglob("*") if p.is_file() and p.name != INDEX and p.stat().st_size)
    return sorted(p for p in found if not any(p.match(n) for n in NO_EVIDENCE))


def every_flip_is_named(store: Path, capfd, times: int, seed: int) -> None:
    """One file after the other; objects all at once, for each is looked at whatever the others."""
    assert verified(capfd, store)[0] == 0
    silent = []
    groups = [[p] for p in files(store) if p.parent.name != "objects"]
    for group in [*groups, [p for p in files(store) if p.parent.name == "objects"]]:
        for flipped in zip(*(flips(path, times, seed) for path in group), strict=True):
            code, said = verified(capfd, store)
            for path, (place, bit) in zip(group, flipped, strict=True):
                # of a damaged key nothing can be told but that it is not the one that signed
                named = path.parent.name == "keys" or str(path.relative_to(store)) in said
                later = code == 6 and path.name == "format"  # the layout of a newer version
                if not (named and (code == 4 or later)):
                    silent.append((str(path.relative_to(store)), place, bit, code, said[:300]))
    assert not silent, silent
    assert verified(capfd, store)[0] == 0


def test_a_run_leaves_files_of_every_kind(home: Path):
    folders = {p.relative_to(home / ".datapipe").parts[0] for p in files(home / ".datapipe")}
    assert {"format", "journal", "keys", "log", "objects"} <= folders
    suffixes = {p.suffix for p in (home / ".datapipe" / "objects").iterdir()}
    assert {".parquet", ".safetensors", ".json"} <= suffixes


def test_a_flip_in_every_file_of_a_store_exits_4_and_names_it(home: Path, capfd):
    every_flip_is_named(home / ".datapipe", capfd, times=1, seed=0)


@pytest.mark.faults
def test_many_flips_in_every_file_of_a_store(home: Path, capfd, sweeps):
    if not sweeps:
        pytest.skip("many flips take minutes: `make faults`")
    every_flip_is_named(home / ".datapipe", capfd, times=4, seed=1)


def index_is_named_or_harmless(home: Path, capfd, times: int, seed: int) -> None:
    store = home / ".datapipe"
    lineage = Lineage(store)
    assert lineage.index()
    before = [lineage.sql(q).rows() for q in QUESTIONS]
    lineage.close()
    for place, bit in flips(store / INDEX, times, seed):
        code, said = verified(capfd, store)
        if code == 0:
            asked = Lineage(store)
            assert [asked.sql(q).rows() for q in QUESTIONS] == before, (place, bit)
            asked.close()
        else:
            assert (code, INDEX in said) == (4, True), (place, bit, said[:300])


def test_a_flip_in_the_index_is_named_or_changes_no_answer(home: Path, capfd):
    index_is_named_or_harmless(home, capfd, times=6, seed=0)


@pytest.mark.faults
def test_many_flips_in_the_index(home: Path, capfd, sweeps):
    if not sweeps:
        pytest.skip("many flips take minutes: `make faults`")
    index_is_named_or_harmless(home, capfd, times=24, seed=1)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.dsse.json", "a.csv.oms.sigstore.json"])
def test_a_flip_in_a_signed_file_or_its_signature_exits_4(home: Path, public, capfd, name: str):
    assert verified(capfd, "a.csv", "--key", public)[0] == 0
    for place, bit in flips(home / name, 12):
        code, said = verified(capfd, "a.csv", "--key", public)
        assert (code, "a.csv" in said) == (4, True), (place, bit, said[:300])


def test_a_flip_in_a_cache_changes_no_answer(home: Path, capfd):
    def again() -> tuple[list[tuple[object, ...]], bytes]:
        capfd.readouterr()
        assert main(["run", "p.py", "--seed", "1", "--json"]) == 0
        told = json.loads(capfd.readouterr().out)
        sources = Lineage(home / ".datapipe").sql("select distinct name, digest from sources")
        return sources.rows(), Path(told["row_findings"]).read_bytes()

    before = again()
    caches = [p for p in (home / ".datapipe" / "cache").iterdir() if p.is_file()]
    assert {p.name.partition("-")[0] for p in caches} == {"files.json", "row_findings"}
    for path in caches:
        for place, bit in flips(path, 2):
            assert again() == before, (path.name, place, bit)
    assert verified(capfd, home / ".datapipe")[0] == 0
