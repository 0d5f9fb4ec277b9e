# SPDX-License-Identifier: Apache-2.0
"""Pipes, sockets, devices and folders where a file was expected: told at once, never waited for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datapipe.cli.app import main
from datapipe.errors import TrustError
from datapipe.manifest.keys import PASSPHRASE_VARIABLE
from datapipe.stages.provenance.credentials import _anchors
from datapipe.stages.synthetic._declarations import card_says_synthetic
from datapipe.stages.synthetic.watermark import _key
from datapipe.stages.validate._suite import _load

PIPELINE = """
from datapipe import Pipeline
from datapipe.stages import ExactDuplicates, ReadCSV
clean = Pipeline("reviews", [ReadCSV("r.csv", text="body", subject="who"), ExactDuplicates()])
"""
WORKER = """
import json, os, shutil, signal, socket, sys, time
from pathlib import Path
from datapipe.cli import erase, lineage, run, sign, sql, verify  # noqa: F401 - once for all forks
from datapipe.cli.app import main
import datapipe.execute.local, datapipe.lineage.check

LIMIT_S = 20


def put(path, kind):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.chdir(path.parent)  # names of sockets are short
        socket.socket(socket.AF_UNIX).bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


for line in sys.stdin:
    folder, place, kind, words = json.loads(line)
    put(Path(folder, place), kind)
    said = os.memfd_create("said")
    child = os.fork()
    if not child:
        os.chdir(folder)
        for stream in (1, 2):
            os.dup2(said, stream)
        sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))
        code = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    end = time.monotonic() + LIMIT_S
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.005)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    text = os.pread(said, 1 << 20, 0).decode(errors="replace")
    os.close(said)
    answer = [os.waitstatus_to_exitcode(ended[1]), text]
    print(json.dumps(answer), flush=True)
"""
STORE = {
    "sql": ["sql", "select count(*) from dropped_rows"],
    "verify": ["verify", ".datapipe", "--key", "k.pub"],
    "run": ["run", "p.py", "--seed", "1"],
    "rebuild": ["lineage", "rebuild"],
    "gc": ["lineage", "gc", "--remove", "--older-than", "0"],
    "erase": ["erase", "--subject", "ada", "--yes"],
}
REFUSED = {
    "journal/000001.log": dict.fromkeys(STORE, 4),
    "journal/000002.log": dict.fromkeys(STORE, 4),
    "journal/lock": dict.fromkeys(STORE, 4),
    "lineage.lock": dict.fromkeys(STORE, 4),
    "lineage.duckdb": {"sql": 4, "verify": 4, "run": 4, "erase": 4},
    "journal/head": {"verify": 4},
    "format": {"verify": 4},
    "log/checkpoint": {"verify": 4},
    "log/NOTE": {"verify": 4},
    "objects/ROWS": {"verify": 4},
}
"""What is no file where, and which verbs say so; the others do without it, or make it again."""
MENDED = ("cache/files.json", "cache/FINDINGS", "leases/abc", "lineage.duckdb.wal")
NAMED = [
    ("k.pub", ["verify", "r.csv", "--key", "k.pub"], 4),
    ("k.pem", ["sign", "p.py", "--key", "k.pem"], 4),
    ("r.csv.dsse.json", ["verify", "r.csv", "--key", "k.pub"], 4),
    ("r.csv", ["verify", "r.csv", "--key", "k.pub"], 7),
    ("r.csv", ["run", "p.py", "--seed", "1"], 7),
    ("p.py", ["run", "p.py", "--seed", "1"], 2),
    ("policy.toml", ["verify", "r.csv", "--policy", "policy.toml"], 4),
    ("who", ["erase", "--subject-file", "who", "--yes"], 4),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A folder with a key, a signed file and a store after one signed run."""
    folder = tmp_path_factory.mktemp("sound")
    rows = [f"the {n}th of the things they said,{('ada', 'bob')[n % 2]}" for n in range(40)]
    (folder / "r.csv").write_text("\n".join(["body,who", *rows, *rows[:3]]) + "\n")
    (folder / "p.py").write_text(PIPELINE)
    before, kept = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.update({PASSPHRASE_VARIABLE: "correct horse battery", "DATAPIPE_KEY": "k.pem"})
    try:
        for words in (
            ["keys", "new", "--algorithm", "ed25519", "--out", "k.pem"],
            ["run", "p.py", "--seed", "1", "-q"],
            ["sign", "r.csv", "-q"],
        ):
            assert main(words) == 0
        made = subprocess.run(
            [sys.executable, "-m", "datapipe", "keys", "export", "k.pem"],
            check=True,
            capture_output=True,
        )
        (folder / "k.pub").write_bytes(made.stdout)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)
    return folder


@pytest.fixture(scope="module")
def told(sound, tmp_path_factory):
    """What a verb says, and how it ends, where a place holds something that is no file."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DATAPIPE_")}
    environment |= {PASSPHRASE_VARIABLE: "correct horse battery", "DATAPIPE_KEY": "k.pem"}
    with subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"HOME": str(sound)},
    ) as worker:

        def ask(place: str, kind: str, words: list[str]) -> tuple[int, str]:
            copy = tmp_path_factory.mktemp("copy") / "c"
            shutil.copytree(sound, copy)
            worker.stdin.write(json.dumps([str(copy), place, kind, words]) + "\n")
            worker.stdin.flush()
            code, said = json.loads(worker.stdout.readline())
            shutil.rmtree(copy)
            return code, said

        yield ask
        worker.stdin.close()


def place_in(sound: Path, name: str) -> str:
    """The place a name stands for in this store."""
    store = sound / ".datapipe"
    if name == "log/NOTE":
        return str(next(store.glob("log/*.note")).relative_to(sound))
    if name == "objects/ROWS":
        return str(max(store.glob("objects/*.parquet")).relative_to(sound))
    if name == "cache/FINDINGS":
        return str(next(store.glob("cache/row_findings-*")).relative_to(sound))
    return f".datapipe/{name}"


@pytest.mark.parametrize("name", REFUSED)
def test_a_pipe_in_a_store_is_told_and_not_waited_for(sound, told, name):
    place = place_in(sound, name)
    for verb, words in STORE.items():
        if name.startswith("objects/") and verb not in ("sql", "verify"):
            continue  # whether it is needed depends on which it is
        code, said = told(place, "pipe", words)
        assert code == REFUSED[name].get(verb, 0), (verb, said)
        if code:
            assert Path(place).name.partition(".")[0] in said


@pytest.mark.parametrize("name", MENDED)
def test_what_can_be_done_without_is_done_without(sound, told, name):
    for verb in ("sql", "verify", "run"):
        code, said = told(place_in(sound, name), "pipe", STORE[verb])
        assert code == 0, (verb, said)


@pytest.mark.parametrize(("place", "words", "expected"), NAMED)
def test_a_pipe_that_the_user_names_is_refused(told, place, words, expected):
    code, said = told(place, "pipe", words)
    assert code == expected, said
    assert place in said


@pytest.mark.parametrize("kind", ["socket", "device", "folder"])
def test_other_things_that_are_no_files(told, kind):
    for name in ("lineage.duckdb", "journal/000001.log", "journal/lock"):
        for verb in ("sql", "verify", "run"):
            code, said = told(f".datapipe/{name}", kind, STORE[verb])
            assert (code, f"{name} is a {kind}, not a file" in said) == (4, True), (
                name,
                verb,
                said,
            )
    for place, words, expected in NAMED[:2]:
        assert told(place, kind, words)[0] == expected


def test_a_pipe_that_a_shell_made_is_read(sound):
    words = f"{sys.executable} -m datapipe verify r.csv --policy <(cat policy.toml)"
    (sound / "policy.toml").write_text("not = [toml")
    done = subprocess.run(
        ["bash", "-c", words], cwd=sound, capture_output=True, text=True, check=False
    )
    assert "not TOML" in done.stderr


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [_load, _key, card_says_synthetic, _anchors])
def test_a_file_that_a_stage_is_told_of_is_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "named")
    with pytest.raises(TrustError, match="is a pipe, not a file"):
        read(str(tmp_path / "named"))
