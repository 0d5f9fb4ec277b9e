# SPDX-License-Identifier: Apache-2.0
"""Many processes, kills at any moment, forks: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datapipe.errors import DeclarationError, ExecutionError
from datapipe.lineage.locks import locked
from datapipe.lineage.store import Lineage

APPEND = """
import sys
from datapipe.lineage.store import Lineage
lineage, me, times = Lineage(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for n in range(times):
    body = {"run_id": me, "event": "note", "detail": {"n": n}}
    lineage.append([("run_events", body), ("runs", {"run_id": f"{me}/{n}"})])
    if n % 5 == 0:
        lineage.index()
    lineage.source_number(f"sha256:{n}", "shared", 1)
"""
WRITE = """
import os, sys
from datapipe.lineage.store import Lineage
lineage = Lineage(sys.argv[1], create=True)
told = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
n = int(sys.argv[3])
while True:
    digest, _ = lineage.put_bytes(str(n).encode())
    records = [("run_events", {"run_id": str(n), "detail": {"i": i}}) for i in range(3)]
    lineage.append([*records, ("artifacts", {"digest": digest, "name": str(n)})])
    os.write(told, f"{n}\\n".encode())
    n += 1
    if n % 3 == 0:
        lineage.index()
"""


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def test_three_processes_append_while_others_ask(lineage: Lineage):
    times = 8
    writers = [start(APPEND, lineage.store, f"p{i}", times) for i in range(3)]
    asked, counts = 0, [0]
    while any(writer.poll() is None for writer in writers):
        counts.append(lineage.sql("select count(*) from log_entries").item())
        asked += 1
        time.sleep(0.02)
    errors = [writer.communicate()[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 3, errors
    assert asked > 0
    assert counts == sorted(counts)
    events = lineage.sql("select run_id, detail ->> 'n' as n from run_events order by seq")
    for i in range(3):
        mine = events.filter(run_id=f"p{i}")["n"].cast(int).to_list()
        assert mine == list(range(times))
    numbers = lineage.sql("select digest, source_no from source_numbers order by source_no")
    assert numbers["source_no"].to_list() == list(range(1, times + 1))
    assert numbers["digest"].n_unique() == times
    assert (
        lineage.sql("select count(*), max(seq) from log_entries").row(0)
        == (3 * times * 2 + times,) * 2
    )
    assert lineage.verify() == []


@pytest.mark.faults
def test_kills_at_any_moment_lose_nothing_that_was_acknowledged(tmp_path: Path):
    store, told = tmp_path / "store", tmp_path / "told"
    chance = random.Random(11)
    told.write_text("")
    for _ in range(4):
        before = told.read_text().split()
        first = int(before[-1]) + 1 if before else 0
        child = start(WRITE, store, told, first + 1000)
        end = time.monotonic() + 30
        while told.read_text().split() == before and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.15)
        child.kill()
        child.communicate()
        acknowledged = told.read_text().split()
        assert len(acknowledged) > len(before)
        lineage = Lineage(store)
        found = lineage.sql("select run_id, count(*) as n from run_events group by all")
        assert set(found["n"]) == {3}  # a batch is whole or not there
        assert set(acknowledged) <= set(found["run_id"])
        assert lineage.verify() == []
    assert lineage.sql("select count(*) = max(seq) from log_entries").item()


FILL = """
import sys
from pathlib import Path
from datapipe.errors import DatapipeError
from datapipe.lineage.store import Lineage
home = Path(sys.argv[1])
lineage, codes, n = Lineage(home / "store", create=True), [], 0
try:
    while True:
        lineage.append([("run_events", {"run_id": "r", "detail": {"text": "y" * 2000}})])
        n += 1
except DatapipeError as error:
    codes.append(error.code)
assert n > 50, n
for fails in (lambda: lineage.sql("from runs"), lambda: lineage.put_bytes(b"z" * 300_000)):
    try:
        fails()
    except DatapipeError as error:
        codes.append(error.code)
assert codes == ["DP-EXEC-028"] * 3, codes
(home / "ballast").unlink()
assert lineage.sql("select count(*) from run_events").item() == n == lineage.root()[0]
lineage.append([("runs", {"run_id": "after"})])
assert Lineage(home / "store").verify() == []
print("survived")
"""


@pytest.mark.faults
def test_a_full_disk_loses_nothing_and_mends_itself(tmp_path: Path):
    script = (
        f"mount -t tmpfs -o size=8m tmpfs {tmp_path} && "
        f"head -c 6800000 /dev/zero > {tmp_path}/ballast && "
        f"{sys.executable} -c '{FILL}' {tmp_path}"
    )
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here: a small disk cannot be made")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "survived\n", done.stderr


def test_a_child_of_a_fork_is_refused_and_told_what_to_do(filled: Lineage):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            filled.append([("runs", {"run_id": "child"})])
        except ExecutionError as error:
            again = Lineage(filled.store)
            again.append([("runs", {"run_id": "child, opened again"})])
            code = 0 if error.code == "DP-EXEC-057" and again.index() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert filled.sql("select run_id from runs order by seq")["run_id"].to_list() == [
        "r1",
        "child, opened again",
    ]


def test_threads_share_one_store(filled: Lineage):
    def work(name: int) -> int:
        for n in range(4):
            filled.append([("runs", {"run_id": f"{name}/{n}"})])
            assert filled.sql("select count(*) from runs").item() > n
        return name

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == list(range(4))
    assert filled.sql("select count(*) from runs").item() == 17


def test_a_wait_has_an_end_and_names_the_holder(tmp_path: Path):
    with locked(tmp_path / "lock"), pytest.raises(ExecutionError) as caught:  # noqa: SIM117 - order
        with locked(tmp_path / "lock", wait_s=0.05):
            pass
    assert f"process {os.getpid()} since" in caught.value.message
    assert caught.value.exit_code == 6


def test_stores_from_the_future_and_folders_that_are_none(tmp_path: Path):
    with pytest.raises(DeclarationError, match="there is no store"):
        Lineage(tmp_path)
    assert list(tmp_path.iterdir()) == []
    Lineage(tmp_path / "s", create=True)
    (tmp_path / "s" / "format").write_text("datapipe store 3\n")
    with pytest.raises(ExecutionError, match="has version 3"):
        Lineage(tmp_path / "s", create=True)
