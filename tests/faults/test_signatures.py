# SPDX-License-Identifier: Apache-2.0
"""Attacks on signatures and keys, through the command line: refused, named, and nothing leaks."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe.cli.app import main
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.keys import load_key
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.statement import Subject

WORDS = "correct horse battery staple"


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A signed table and the key that signed it, made once; each test has a copy of its own."""
    folder = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        at_home(patch, folder.parent)
        patch.chdir(folder)
        write(TABLE)
        assert main(["keys", "new", "--algorithm", "ed25519", "--out", "k.pem"]) == 0
        assert main(["sign", "rows.parquet", "--key", "k.pem"]) == 0
    return folder


@pytest.fixture
def here(signed, tmp_path, monkeypatch):
    """A folder with a signed table and the key that signed it."""
    at_home(monkeypatch, tmp_path)
    folder = shutil.copytree(signed, tmp_path / "here")
    monkeypatch.chdir(folder)
    return folder


def at_home(patch: pytest.MonkeyPatch, place: Path) -> None:
    """Nothing of the user's."""
    for name in ("DATAPIPE_KEY", "DATAPIPE_KEYS", "DATAPIPE_WITNESS"):
        patch.delenv(name, raising=False)
    patch.setenv("HOME", str(place / "home"))
    patch.setenv("DATAPIPE_KEY_PASSPHRASE", WORDS)


TABLE = pa.table({"x": [float(i) for i in range(300)], "y": ["a", "b", "c"] * 100})


def write(table: pa.Table, **options) -> None:
    pq.write_table(table, "rows.parquet", **options)


def verified(capfd, *words: str) -> tuple[int, str, str]:
    """Exit code, the code of the first refusal, and everything that was said."""
    capfd.readouterr()
    code = main(["verify", *(words or ("rows.parquet",)), "--key", "k.pem", "--json"])
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    reports = json.loads(said.out)["reports"]
    failed = [c for report in reports for c in report["checks"] if not c["passed"]]
    return code, failed[0]["slug"] if failed else "", said.out + said.err


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        (lambda: write(TABLE.slice(1)), "changed"),
        (lambda: write(TABLE.take(pa.array([1, 0, *range(2, 300)]))), "changed"),
        (lambda: write(pa.concat_tables([TABLE, TABLE.slice(0, 1)])), "changed"),
        (lambda: write(TABLE, compression="zstd"), "reencoded"),
        (lambda: write(TABLE, row_group_size=50), "reencoded"),
        (lambda: Path("rows.parquet.dsse.json").unlink(), "unsigned"),
        (lambda: Path("rows.parquet").unlink(), "missing"),
    ],
)
def test_rows_deleted_swapped_doubled_or_encoded_anew(here, capfd, change, slug):
    assert verified(capfd)[0] == 0
    change()
    if slug == "missing":
        assert main(["verify", "rows.parquet", "--key", "k.pem"]) == 2  # no such file
        return
    code, found, said = verified(capfd)
    assert (code, found) == (4, slug)
    assert "rows.parquet" in said


def test_the_signature_of_another_data_set(here, capfd):
    pq.write_table(TABLE.slice(5), "other.parquet")
    assert main(["sign", "other.parquet", "--key", "k.pem"]) == 0
    Path("rows.parquet.dsse.json").write_bytes(Path("other.parquet.dsse.json").read_bytes())
    code, slug, _ = verified(capfd)
    assert (code, slug) == (4, "missing")


def test_after_a_rotation_old_statements_hold_until_the_overlap_ends(here, capfd):
    ring = ["--ring", "ring"]
    capfd.readouterr()
    assert main(["keys", "new", "--owner", "ada", *ring, "--json"]) == 0
    old = json.loads(capfd.readouterr().out)
    assert main(["sign", "rows.parquet", "--key", old["file"]]) == 0
    assert main(["keys", "rotate", old["keyids"][0], "--overlap", "7", *ring, "--json"]) == 0
    capfd.readouterr()
    assert main(["verify", "rows.parquet", *ring]) == 0
    write(TABLE.slice(3))
    capfd.readouterr()
    assert main(["keys", "list", *ring, "--json"]) == 0
    files = {k["valid_until"] is None for k in json.loads(capfd.readouterr().out)["keys"]}
    assert files == {True, False}
    new = max((p for p in Path("ring").glob("*.pem")), key=lambda p: p.stat().st_mtime_ns)
    assert main(["sign", "rows.parquet", "--key", str(new)]) == 0
    assert main(["verify", "rows.parquet", *ring]) == 0
    assert main(["keys", "revoke", old["keyids"][0], "--reason", "left", *ring]) == 0
    assert main(["verify", "rows.parquet", *ring]) == 0
    assert main(["sign", "rows.parquet", "--key", old["file"]]) == 0
    assert main(["verify", "rows.parquet", *ring]) == 4


OPENED: list[str] = []
WATCHED = False


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if WATCHED and event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        OPENED.append(os.fsdecode(arguments[0]))


NAMES = {
    "../secret": "parent_path",
    "a/../../secret": "parent_path",
    "/etc/passwd": "absolute_path",
    "C:/windows": "absolute_path",
    "..\\secret": "backslash",
    "a\x00b": "bad_name",
    "./rows": "bad_name",
    "%2e%2e/secret": "missing",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_statement_never_leads_outside(here, capfd, name):
    """The signature is good: it is the signer who lies. What was opened is watched."""
    global WATCHED  # noqa: PLW0603  # an audit hook cannot be taken away
    Path("../secret").write_text("nobody may read this")
    Path("d").mkdir()
    (Path("d") / "inside").write_text("x")
    key = load_key("k.pem", WORDS.encode())
    tree = {"rfc6962Sha256": "0" * 64}
    digest = {"sha256": "0" * 64}
    said = DatasetPredicate("d", tree="0" * 64, files=1).about(
        Subject(name, digest), Subject("d/", tree)
    )
    Path("d.dsse.json").write_bytes(Envelope.sign(said.to_bytes(), key).to_bytes())
    if not OPENED:
        sys.addaudithook(_watch)
    OPENED[:] = ["-"]
    WATCHED = True
    try:
        code, slug, _ = verified(capfd, "d")
    finally:
        WATCHED = False
    assert (code, slug) == (4 if NAMES[name] == "missing" else 7, NAMES[name])
    assert not [path for path in OPENED if "secret" in path or path.startswith("/etc/passwd")]


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "fifo", "device"])
def test_what_is_no_plain_file_is_neither_signed_nor_read(here, capfd, kind):
    folder, secret = Path("d"), Path("secret")
    folder.mkdir()
    secret.write_text("x")
    (folder / "a").write_text("a")
    assert main(["sign", "d", "--key", "k.pem"]) == 0
    (folder / "a").unlink()
    if kind == "symlink":
        (folder / "a").symlink_to(secret.absolute())
    elif kind == "hardlink":
        os.link(secret, folder / "a")  # its bytes are what counts, and they are others
    elif kind == "fifo":
        os.mkfifo(folder / "a")
    else:
        try:
            os.mknod(folder / "a", 0o20600, os.makedev(1, 5))
        except OSError:
            pytest.skip("devices cannot be made here")
    slug = {"symlink": "symlink", "hardlink": "changed"}.get(kind, "special_file")
    assert verified(capfd, "d")[:2] == (4 if kind == "hardlink" else 7, slug)
    if kind != "hardlink":
        assert main(["sign", "d", "--key", "k.pem"]) == 4


def test_nothing_is_not_signed(here):
    Path("empty").mkdir()
    assert main(["sign", "empty", "--key", "k.pem"]) == 4
    write(TABLE.slice(0, 0))
    before = Path("rows.parquet.dsse.json").read_bytes()
    assert main(["sign", "rows.parquet", "--key", "k.pem"]) == 4
    assert Path("rows.parquet.dsse.json").read_bytes() == before


def _signatures() -> bytes:
    head = b'{"payload":"e30=","payloadType":"a/b","signatures":['
    return head + b",".join([b'{"sig":"eA=="}'] * 10**6) + b"]}"


def _enveloped(payload: bytes) -> bytes:
    """Signed, so that the payload is looked at."""
    return Envelope.sign(payload, load_key("k.pem", WORDS.encode())).to_bytes()


HUGE = {
    "a statement of a gigabyte": None,
    "a million levels": lambda: b"[" * 10**6,
    "a million levels in the payload": lambda: _enveloped(b"[" * 10**6),
    "a million signatures": _signatures,
    "a million empty objects": lambda: b"[" + b"{}," * 10**6 + b"{}]",
}
CHILD = """
import json, os, resource, sys, time
from datapipe.cli.app import main
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
said = []
for name in sorted(os.listdir("huge")):
    os.replace("huge/" + name, "rows.parquet.dsse.json")
    before, start = peak(), time.process_time()
    code = main(["verify", "rows.parquet", "--key", "k.pub"])
    said.append([name, code, time.process_time() - start, peak() - before])
print(json.dumps(said), file=sys.stderr)
"""


def test_what_is_made_to_exhaust_is_refused_at_once(here, capfd):
    """Memory is that of the whole process, over what an honest one has loaded."""
    capfd.readouterr()
    assert main(["keys", "export", "k.pem"]) == 0
    Path("k.pub").write_text(capfd.readouterr().out)
    Path("huge").mkdir()
    for name, make in HUGE.items():
        path = Path("huge") / name
        path.write_bytes(make() if make else b"{")
        if make is None:
            os.truncate(path, 10**9)
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    told = json.loads(done.stderr.splitlines()[-1])
    assert [name for name, *_ in told] == sorted(HUGE)
    for name, code, seconds, megabytes in told:
        assert code == 7, name
        assert seconds < 10, (name, seconds)  # under load; alone it is below two
        assert megabytes < 300, (name, megabytes)


def test_a_private_key_is_nowhere_but_in_its_file(here, capfd, monkeypatch):
    Path("k.pem").chmod(0o644)
    assert main(["sign", "rows.parquet", "--key", "k.pem"]) == 4
    assert "chmod 600" in capfd.readouterr().err
    Path("k.pem").chmod(0o600)
    monkeypatch.setenv("DATAPIPE_KEY", "k.pem")
    Path("p.py").write_text(
        "from datapipe import Pipeline\nfrom datapipe.stages import ExactDuplicates, ReadParquet\n"
        'p = Pipeline("p", [ReadParquet("rows.parquet", label="y"), ExactDuplicates()])\n'
    )
    assert main(["run", "p.py", "--seed", "1"]) == 0
    assert main(["report", "-o", "r.html"]) == 0
    assert main(["verify", ".datapipe", "--key", "k.pem"]) == 0
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", WORDS + "wrong")
    assert main(["sign", "rows.parquet", "--key", "k.pem", "-vv"]) == 4
    said = capfd.readouterr()
    seed = load_key("k.pem", WORDS.encode()).raw.private_bytes_raw()
    needles = [seed, seed.hex().encode(), base64.b64encode(seed), WORDS.encode()]
    left = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert Path("k.pem").stat().st_mode & 0o777 == 0o600
    for needle in needles:
        assert needle not in (said.out + said.err).encode()
        assert not [path for path, data in left.items() if needle in data]


def test_a_verifier_that_breaks_never_passes(here, capfd, monkeypatch):
    import datapipe.manifest.attestation as module

    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "compare_files", broken)
    assert main(["verify", "rows.parquet", "--key", "k.pem"]) == 1
    said = capfd.readouterr()
    assert "trusted" not in said.out
    assert "Traceback" not in said.err


def test_a_signed_run_whose_detector_could_not_look_does_not_pass_a_gate(here):
    Path("p.py").write_text(
        "from datapipe import Gate, Pipeline, at_most\n"
        "from datapipe.stages import ReadParquet, VerifySources\n"
        'read = ReadParquet("rows.parquet", label="y")\n'
        'p = Pipeline("p", [read, VerifySources(), Gate({"provenance.*": at_most(1.0)})])\n'
    )
    assert main(["run", "p.py", "--seed", "1", "-q"]) == 3
