# SPDX-License-Identifier: Apache-2.0
"""Stores in bad company: logs of other programs, stale locks, Ctrl-C, odd and read-only folders."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import duckdb
import pytest

from datapipe.cli.app import main
from datapipe.lineage import schema
from datapipe.lineage.index import Index
from datapipe.lineage.locks import locked
from datapipe.lineage.store import Lineage

PIPELINE = """
import time
from datapipe import Dataset, Pipeline, Stage, Yield
from datapipe.core.context import Context
from datapipe.stages import ExactDuplicates, ReadCSV
import polars as pl
from pathlib import Path
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Slow(Stage):
    how: str = "none"
    name: ClassVar[str] = "test.slow"
    def run(self, data: Dataset, context: Context) -> Yield:
        Path("started").touch()
        if self.how == "python":
            time.sleep(600)
        if self.how == "polars":
            many = pl.LazyFrame({"a": range(60_000)})
            text = (pl.col("a") * pl.col("a_right")).cast(pl.String)
            pairs = many.join(many, how="cross").filter(text.str.contains("77"))
            pairs.select(pl.len()).collect(engine="streaming")
        return Yield()

read = ReadCSV("a.csv", label="y")
quick = Pipeline("p", [read, ExactDuplicates()])
python = Pipeline("p", [read, ExactDuplicates(), Slow("python")])
polars = Pipeline("p", [read, ExactDuplicates(), Slow("polars")])
"""
REFUSES = {"python": 1, "polars": 1, "twice": 2}
STORES = Path(__file__).parent / "stores"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder with a pipeline and its input."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DATAPIPE_KEY", raising=False)
    rows = "".join(f"{i % 17},{i % 13},{'xz'[i % 17 > 8]}\n" for i in range(240))
    Path("a.csv").write_text("a,b,y\n" + rows)
    Path("p.py").write_text(PIPELINE)
    return tmp_path


def run_quick(store: str = ".datapipe") -> int:
    return main(["run", "p.py:quick", "--seed", "1", "-q", "--store", store])


def cli(*words: str, **how: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "datapipe", *words]
    return subprocess.Popen(  # type: ignore[call-overload]  # its options come as a dict
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C counts even where the tests themselves run in the background, which ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads
        **how,
    )


def test_a_log_beside_the_index_is_not_ours_and_changes_no_answer(here: Path):
    """ST6, ST8: there is no write-ahead log to cut or delete; one of another program is nothing."""
    assert run_quick() == 0
    lineage = Lineage(".datapipe")
    wal, index = here / ".datapipe/lineage.duckdb.wal", here / ".datapipe/lineage.duckdb"
    assert not wal.exists()
    before = lineage.sql("from dropped_rows order by row_id")
    lineage.close()
    code = (
        "import duckdb, os\n"
        f"c = duckdb.connect({str(index)!r})\n"
        "c.execute('begin'); c.execute('delete from row_drops'); c.execute('commit')\n"
        "os._exit(0)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert wal.stat().st_size
    whole, chance = wal.read_bytes(), random.Random(1)
    for cut in [None, *(chance.randrange(len(whole)) for _ in range(4))]:
        if cut is None:
            wal.write_bytes(whole)
        else:
            wal.write_bytes(whole[:cut])
        Lineage(".datapipe").append([("run_events", {"run_id": "x", "event": "note"})])
        again = Lineage(".datapipe")
        assert again.sql("from dropped_rows order by row_id").equals(before)
        assert again.verify() == []
        assert not wal.exists()


def test_a_lock_whose_holder_was_killed_is_taken_over_at_once(here: Path):
    """ST11."""
    assert run_quick() == 0
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from datapipe.lineage.locks import locked\n"
        "with locked(Path('.datapipe/journal/lock')), locked(Path('.datapipe/lineage.lock')):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.communicate()
    assert run_quick() == 0
    assert Lineage(".datapipe").sql("select count(*) from runs").item() == 2


def test_a_question_that_cannot_wait_says_how_old_its_snapshot_is(here: Path, capfd, monkeypatch):
    """ST10: while another process makes the index, and in a store that cannot be written."""
    assert run_quick() == 0
    monkeypatch.setitem(Index.catch_up.__kwdefaults__, "wait_s", 0.05)
    capfd.readouterr()
    with locked(here / ".datapipe/lineage.lock"):
        Lineage(".datapipe").append([("runs", {"run_id": "x"})])
        assert main(["sql", "select count(*) as n from runs"]) == 0
    said = capfd.readouterr()
    assert said.out.split() == ["n", "1"]
    told = r"lineage.duckdb is a snapshot of .* UTC, \d+ s old; records it does not know yet: 1"
    assert re.search(told, said.err)
    assert main(["sql", "select count(*) as n from runs"]) == 0
    said = capfd.readouterr()
    assert (said.out.split(), "snapshot" in said.err) == (["n", "2"], False)


@pytest.mark.parametrize("how", sorted(REFUSES))
def test_ctrl_c_ends_a_run_soon_with_130_and_rolls_its_last_step_back(here: Path, how: str):
    """ST12: in Python, in an engine of native threads, and pressed twice."""
    name = "python" if how == "twice" else how
    child = cli("run", f"p.py:{name}", "--seed", "1")
    end = time.monotonic() + 120
    while not Path("started").exists():
        assert time.monotonic() < end
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    time.sleep(0.3)
    start = time.monotonic()
    for _ in range(REFUSES[how]):
        child.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, told = child.communicate(timeout=60)
    print(f"{how}: {time.monotonic() - start:.2f} s")
    assert child.returncode == 130, told
    assert "Traceback" not in told
    lineage = Lineage(".datapipe")
    assert lineage.sql("select stage from steps order by position")["stage"].to_list() == [
        "ingest.csv",
        "dedup.exact",
    ]
    states = lineage.sql("select state from run_status")["state"].to_list()
    assert states[0] in ("failed", "abandoned")
    assert lineage.verify() == []
    assert run_quick() == 0
    again = lineage.sql("select reused_from from steps where run_id <> '' order by seq")
    assert again["reused_from"].null_count() == 2  # what had finished was not done again


def test_odd_folders_work(here: Path):
    """ST14: spaces, letters of other scripts, quotes, a long name and a symlink on one path."""
    (here / "far away").mkdir()
    (here / "link").symlink_to(here / "far away", target_is_directory=True)
    store = f'link/naïve – 数据 🙂/it\'s "quoted" % $x/{"n" * 250}/dots..x/store'
    assert run_quick(store) == 0
    assert run_quick(store) == 0
    assert (here / "far away" / "naïve – 数据 🙂").is_dir()
    lineage = Lineage(store)
    assert lineage.sql("select count(*) as n from dropped_rows").item() > 0
    assert lineage.why("1:239")["dropped"]
    assert lineage.verify() == []
    lineage.rebuild()


READ_ONLY = """
mount --bind {store} {store} && mount -o remount,ro,bind {store} &&
{python} -m datapipe sql 'select count(*) as n from dropped_rows' --store {store} && echo "rc $?"
{python} -m datapipe why 1:239 --store {store} > /dev/null; echo "rc $?"
{python} -m datapipe run p.py:quick --seed 2 --store {store}; echo "rc $?"
"""


def test_a_read_only_store_answers_and_says_that_it_cannot_be_written(here: Path):
    """ST13."""
    assert run_quick() == 0
    lineage = Lineage(".datapipe")
    n = lineage.sql("select count(*) from dropped_rows").item()
    lineage.close()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here: a read-only folder cannot be made")
    script = READ_ONLY.format(store=here / ".datapipe", python=sys.executable)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    words = done.stdout.split()
    assert words == ["n", str(n), "rc", "0", "rc", "0", "rc", "6"], done
    assert "Traceback" not in done.stderr
    assert "Read-only file system" in done.stderr


def test_no_home_is_no_matter(here: Path):
    """ST13: an empty environment."""
    done = cli("run", "p.py:quick", "--seed", "1", env={"PATH": os.environ["PATH"]})
    _, told = done.communicate(timeout=120)
    assert done.returncode == 0, told
    assert "Traceback" not in told


def test_a_store_of_the_first_version_is_read_extended_and_made_anew(here: Path):
    """ST15: forward; the index of another version is made again from the journal, which stays."""
    with tarfile.open(STORES / "version1.tgz") as archive:
        archive.extractall(here)  # a file of our own; Python 3.11.3 knows no filter yet
    store = here / "store"
    with duckdb.connect(str(store / "lineage.duckdb"), read_only=True) as old:
        before = {
            name: old.execute(f"select {columns} from {name} order by all").fetchall()
            for name, columns in {
                "dropped_rows": "row_id, step_id, stage, reason",
                "run_status": "run_id, state, verdict",
                "dataset_sources": "digest, source_no, rows",
                "log_entries": "seq, leaf",
            }.items()
        }
        assert old.execute("select max(schema_version) from meta").fetchone() == (1,)
    journal = (store / "journal/000001.log").read_bytes()
    lineage = Lineage(store)
    for name, rows in before.items():
        columns = {
            "dropped_rows": "row_id, step_id, stage, reason",
            "run_status": "run_id, state, verdict",
            "dataset_sources": "digest, source_no, rows",
            "log_entries": "seq, leaf",
        }[name]
        assert lineage.sql(f"select {columns} from {name} order by all").rows() == rows, name
    assert lineage.sql("select max(schema_version) from meta").item() == schema.VERSION
    assert lineage.verify() == []
    assert run_quick("store") == 0
    assert (store / "journal/000001.log").read_bytes().startswith(journal)
    assert Lineage(store).verify() == []
    assert lineage.sql("select count(*) from dropped_rows where stage = 'test.third'").item() == 20


def test_a_store_of_a_later_version_is_refused_in_clear_words(here: Path, capfd):
    """ST15: backward."""
    assert run_quick() == 0
    (here / ".datapipe/format").write_text("datapipe store 99\n")
    capfd.readouterr()
    assert run_quick() == 6
    told = capfd.readouterr().err
    assert "has version 99" in told
    assert "use the datapipe that wrote it" in told


def test_a_changed_input_is_never_taken_for_the_old_one(here: Path):
    """ST16: even where size and time of change are those of before."""
    assert run_quick() == 0
    path = here / "a.csv"
    before = path.stat()
    path.write_text(path.read_text().replace("3,3,x", "4,3,x", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert run_quick() == 0
    found = Lineage(".datapipe").sql("select reused_from, rows_in from steps order by seq")
    assert found["reused_from"].to_list() == [None] * 4


def test_a_runaway_question_exits_6(here: Path):
    """IN16."""
    assert run_quick() == 0
    from datapipe.lineage import console

    many = "select sum(a.range * b.range) from range(10000000) a, range(10000000) b"
    quick = console.Limits(seconds=1.0)
    with pytest.raises(Exception, match="took longer than 1 s") as caught:
        console.ask(here / ".datapipe/lineage.duckdb", many, {}, quick)
    assert caught.value.exit_code == 6
    large = "select list(a.range order by -a.range) from range(1000000000) a"
    with pytest.raises(Exception, match="needs more than 100MB of memory") as caught:
        console.ask(here / ".datapipe/lineage.duckdb", large, {}, console.Limits(memory="100MB"))
    assert caught.value.exit_code == 6


WORKER = """
from datapipe import Pipeline
from datapipe.stages import ExportQuantized, ReadCSV, TrainPlain
read = ReadCSV("a.csv", label="y")
p = Pipeline("p", [read, TrainPlain(epochs=1, named="m"), ExportQuantized(model="m")])
"""


@pytest.mark.faults
def test_a_worker_child_that_is_killed_fails_the_run_and_is_resumed(here: Path, sweeps):
    """ST2: the process that opens an export elsewhere; workers on a cluster: tests/execute."""
    if not sweeps:
        pytest.skip("torch is loaded four times: `make faults`")
    Path("w.py").write_text(WORKER)
    run = cli("run", "w.py", "--seed", "1")
    struck = False
    while not struck and run.poll() is None:
        for pid in children_of(run.pid, b"_reopen.py"):
            os.kill(pid, signal.SIGKILL)
            struck, computed = True, cpu_s(run.pid)
        time.sleep(0.05)
    assert struck, run.communicate()[1]
    told, computed = ended(run, computed)
    print(f"{computed:.1f} s of computing after the kill: exit {run.returncode}")
    assert computed < 10
    assert run.returncode in (1, 6), told
    assert "export.quantized" in told
    assert "Traceback" not in told
    lineage = Lineage(".datapipe")
    assert lineage.sql("select state from run_status")["state"].to_list() == ["failed"]
    assert lineage.verify() == []
    again = cli("run", "w.py", "--seed", "1")
    _, told = again.communicate()
    assert again.returncode == 0, told
    reused = lineage.sql("select reused_from is not null from steps order by seq")
    assert reused.to_series().to_list() == [False, False, True, True, False]


def ended(run: subprocess.Popen[str], computed: float) -> tuple[str, float]:
    """Wait for a program's end; what it told, and the CPU seconds it used beyond those before.

    The wall says nothing where the machine is busy: a program that waits for ever uses none.
    """
    last = computed
    while run.poll() is None:
        last = cpu_s(run.pid) or last
        time.sleep(0.05)
    return run.communicate()[1], last - computed


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, its threads among them; 0 when it is gone."""
    with contextlib.suppress(OSError, IndexError):
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def children_of(parent: int, named: bytes) -> list[int]:
    """Process ids of the children whose command line holds a name."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            mine = int(status.read_text().rpartition(")")[2].split()[1]) == parent
            if mine and named in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found
