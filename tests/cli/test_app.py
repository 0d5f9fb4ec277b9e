# SPDX-License-Identifier: Apache-2.0
"""Every way out of a command line has its code and says what to do."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest

from datapipe.cli.app import VERBS
from datapipe.lineage.store import Lineage


def test_help_lists_every_verb_and_the_exit_codes(datapipe):
    answer = datapipe("--help")
    assert answer.code == 0
    assert all(f"  {verb} " in answer.out for verb in VERBS)
    assert "7 untrusted" in answer.out


def test_every_verb_has_a_module_and_a_help_page(datapipe):
    for verb, (module, line) in VERBS.items():
        assert importlib.util.find_spec(f"datapipe.cli.{module}"), verb
        answer = datapipe(verb, "--help")
        assert (answer.code, answer.err) == (0, ""), verb
        assert line.split(";")[0].split(",")[0] in " ".join(answer.out.split())


@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        (["adit", "a.csv"], "there is no verb 'adit' [DP-USE-001]", "did you mean 'audit'?"),
        (["audit"], "missing argument 'FILE' [DP-USE-002]", "datapipe audit --help"),
        (["audit", "a.csv", "--lable", "y"], "no such option '--lable'", "--help"),
        (["audit", "a.csv", "--seed", "x"], "'--seed'", "--help"),
        (["audit", "a.csv", "--store", ""], "--store '' names no folder", "such as .datapipe"),
        (["sql", "from runs", "--store", "s3://b/s"], "--store 's3://b/s' names no", "such as"),
        (["sql", "from runs"], "there is no store in .datapipe [DP-USE-005]", "--store DIR"),
        (["card", "dedup.minhas"], "no stage 'dedup.minhas'", "did you mean 'dedup.minhash'"),
        (["keys", "nwe"], "no such command 'nwe'", "--help"),
    ],
)
def test_a_wrong_command_line_exits_2_with_what_where_and_a_hint(datapipe, words, told, hint):
    answer = datapipe(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert told in answer.message
    lines = answer.err.splitlines()
    assert lines[1] == ""
    assert lines[2].startswith("hint: ")
    assert hint in lines[2]
    assert "Traceback" not in answer.err


def test_a_root_logger_of_another_package_says_nothing_again(here):
    code = (
        "import logging, sys; logging.basicConfig(stream=sys.stderr)\n"
        "from datapipe.cli.app import main; assert main(['run', 'p.py', '--seed', '7']) == 0\n"
        "assert logging.getLogger('datapipe').propagate"
    )
    (here / "a.csv").write_text("a,y\n1,x\n2,z\n")
    (here / "p.py").write_text(
        "from datapipe import Pipeline\n"
        "from datapipe.stages import ReadCSV\n"
        "p = Pipeline('p', [ReadCSV('a.csv')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("made a demo key") == 1


def test_nothing_asked_shows_the_help_on_stderr(datapipe):
    answer = datapipe()
    assert (answer.code, answer.out) == (2, "")
    assert "Verbs:" in answer.err


def test_an_error_is_one_json_object_on_stderr_with_json(datapipe):
    import json

    answer = datapipe("sql", "from runs", "--json")
    assert (answer.code, answer.out) == (2, "")
    told = json.loads(answer.err)["error"]
    assert told["code"] == "DP-USE-005"
    assert told["exit_code"] == 2
    assert told["hint"].startswith("name one with --store")


def test_the_traceback_comes_only_with_vv(datapipe):
    assert "Traceback" not in datapipe("sql", "from runs", "-v").err
    assert "Traceback" in datapipe("sql", "from runs", "-vv").err


@pytest.mark.parametrize(
    ("line", "prints"), [("card", "dedup.minhash"), ("sql 'select 7' --store s", "7")]
)
def test_it_runs_as_a_module_and_prints_no_colour_into_a_pipe(line, prints, tmp_path):
    (tmp_path / "s" / "journal").mkdir(parents=True)
    words = [sys.executable, "-m", "datapipe", *shlex.split(line)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert prints in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""  # a library that counts what it leaks would print here, too


def test_a_link_that_leads_nowhere_is_told_where_it_leads(datapipe, here):
    (here / "a.csv").symlink_to("gone.csv")
    answer = datapipe("audit", "a.csv")
    assert (answer.code, answer.message) == (2, "a.csv is a link that leads nowhere [DP-USE-004]")
    assert "hint: it points to gone.csv" in answer.err


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_an_stdout_that_only_takes_ascii_gets_escapes(here, form):
    Lineage(".datapipe", create=True)
    line = [sys.executable, "-m", "datapipe", "sql", "select 'ünï' as x", form]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    if form == "--json":
        assert json.loads(done.stdout) == [{"x": "ünï"}]
    else:
        assert done.stdout == "x\n\\xfcn\\xef\n"


@pytest.mark.parametrize(("stdout", "code"), [("/dev/full", 6), ("&-", 0), ("/dev/null", 0)])
def test_an_stdout_that_is_full_or_closed(stdout, code):
    line = f"{sys.executable} -m datapipe card >{stdout}"
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # as at a user's
    done = subprocess.run(
        line, shell=True, capture_output=True, text=True, check=False, env=buffered
    )
    assert done.returncode == code, done.stderr
    assert ("disk full" in done.stderr) == (code == 6)
    assert "Traceback" not in done.stderr


SLOW = """
import time
from datapipe import Pipeline, stage
from datapipe.stages import ReadCSV
@stage("slow.wait", version="1")
def wait(frame):
    print("waiting", flush=True)
    time.sleep(60)
p = Pipeline("slow", [ReadCSV("a.csv", label="y"), wait()])
"""


def test_ctrl_c_exits_130_and_leaves_a_store_that_answers(datapipe, here):
    (here / "a.csv").write_text("x,y\n1,a\n2,b\n")
    (here / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "datapipe", "run", "slow.py", "--seed", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stderr.readline() == "waiting\n"  # stdout is for data
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted [DP-EXEC-130]" in err
    assert "Traceback" not in err
    assert datapipe("sql", "select state from run_status", "--json").json == [{"state": "failed"}]
    sound = datapipe("verify", ".datapipe")
    assert sound.code == 0
    assert "sound, with nothing to sign yet" in sound.out
    assert "trusted" not in sound.out


def test_a_run_that_is_ended_before_anything_is_signed_leaves_a_sound_store(datapipe, here):
    (here / "a.csv").write_text("x,y\n1,a\n2,b\n")
    (here / "slow.py").write_text(SLOW)
    (here / "hello.py").write_text(SLOW.replace("time.sleep(60)", "pass"))
    command = [sys.executable, "-m", "datapipe", "run", "slow.py", "--seed", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr.readline() == "waiting\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == -signal.SIGTERM
    assert datapipe("verify", ".datapipe").code == 0
    assert datapipe("run", "hello.py", "--seed", "1").code == 0
    shutil.rmtree(here / ".datapipe" / "log")  # a run has ended here: now it must be signed
    told = datapipe("verify", ".datapipe")
    assert (told.code, "NOT trusted" in told.out) == (4, True)


def test_whoever_names_a_key_is_told_that_nothing_is_signed_yet(datapipe, here, monkeypatch):
    Lineage(here / ".datapipe", create=True)
    assert datapipe("verify", ".datapipe").code == 0
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "a good one")
    assert datapipe("keys", "new", "--out", "mine.pem").code == 0
    told = datapipe("verify", ".datapipe", "--key", "mine.pem")
    assert told.code == 4
    assert "nothing in this store is signed" in told.err


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m datapipe card | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_the_command_loads_is_told_without_a_traceback():
    code = (
        "import sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'datapipe.cli.app':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from datapipe.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("interrupted [DP-EXEC-130]")
