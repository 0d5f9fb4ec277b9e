# SPDX-License-Identifier: Apache-2.0
"""Objects are named by content, appear whole, and scratch space outlives nobody."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from datapipe.lineage.objects import Objects
from datapipe.lineage.store import Lineage


def test_one_content_is_one_object(lineage: Lineage):
    digests = []
    for _ in range(2):
        path = lineage.scratch() / "a"
        path.write_bytes(b"abc")
        digests.append(lineage.put_object(path, suffix=".bin")[0])
        assert not path.exists()
    digests.append(lineage.put_bytes(b"abc", suffix=".bin")[0])
    assert set(digests) == {"sha256:" + hashlib.sha256(b"abc").hexdigest()}
    assert len(list(lineage.objects.iterdir())) == 1
    found = lineage.object_path(digests[0])
    assert found == lineage.object_path(digests[0].removeprefix("sha256:"))
    assert found == lineage.object_path(found.name)
    assert found.read_bytes() == b"abc"


def test_objects_of_another_process_are_found(lineage: Lineage):
    assert lineage.object_path("sha256:" + hashlib.sha256(b"x").hexdigest()) is None
    digest, path = Lineage(lineage.store).put_bytes(b"x")
    assert lineage.object_path(digest) == path
    path.unlink()
    assert lineage.object_path(digest) is None


def test_a_cut_object_is_replaced_by_a_whole_one(lineage: Lineage):
    digest, path = lineage.put_bytes(b"whole")
    path.write_bytes(b"who")
    lineage.put_bytes(b"whole")
    assert lineage.object_path(digest).read_bytes() == b"whole"


def test_scratch_of_a_dead_process_is_swept_and_that_of_a_living_one_is_not(lineage: Lineage):
    mine = lineage.scratch()
    code = (
        "import os\nfrom datapipe.lineage.store import Lineage\n"
        f"print(Lineage({str(lineage.store)!r}).scratch(), flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    theirs = Path(made.stdout.strip())
    assert theirs.is_dir()
    Objects(lineage.objects, lineage.store / "tmp").scratch()
    assert mine.is_dir()
    assert not theirs.exists()
