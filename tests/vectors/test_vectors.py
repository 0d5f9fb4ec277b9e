# SPDX-License-Identifier: Apache-2.0
"""The published vectors: our code and the second verifier agree on every one of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from datapipe.errors import TrustError
from datapipe.manifest.attestation import attest, attested_files
from datapipe.manifest.canonical import canonical_json, parse_json
from datapipe.manifest.checks import Reason, Report
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.files import FileDigest, Tree
from datapipe.manifest.log import Checkpoint
from datapipe.manifest.merkle import verify_consistency, verify_inclusion
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.public_keys import PublicKey, read_public_keys
from datapipe.manifest.statement import Subject
from datapipe.manifest.verify import verify_bundle

KINDS = [
    "canonical_json",
    "checkpoint",
    "dsse",
    "key_id",
    "merkle_consistency",
    "merkle_inclusion",
    "openssf",
    "tree",
]
LONG = re.compile(r"[A-Za-z0-9+/]{4000,}=*")
"""An ML-DSA signature in base64, the only thing that differs between two runs."""


def cases_of(root, kind):
    path = root / "manifests" / "vectors" / f"{kind}.json"
    form = json.loads(path.read_text(encoding="utf-8"))
    tests = [test for group in form["testGroups"] for test in group["tests"]]
    assert form["numberOfTests"] == len(tests)
    return tests


def canonical(test, _):
    assert canonical_json(parse_json(bytes.fromhex(test["input"]))).decode() == test["expected"]


def key_id(test, _):
    if PublicKey.from_pem(test["public"]).keyid != test["keyid"]:
        raise TrustError("another id", code=Reason.KEY_FORM)


def dsse(test, _):
    keys = read_public_keys(test["keys"])
    Envelope.from_bytes(test["envelope"].encode()).verify(keys, threshold=test["threshold"])


def hashes(texts):
    return [bytes.fromhex(text) for text in texts]


def inclusion(test, _):
    leaf, tree = hashes([test["leaf"], test["root"]])
    verify_inclusion(leaf, test["index"], test["size"], hashes(test["proof"]), tree)


def consistency(test, _):
    old, new = hashes([test["earlierRoot"], test["laterRoot"]])
    verify_consistency(test["earlier"], old, test["later"], new, hashes(test["proof"]))


def checkpoint(test, _):
    Checkpoint.parse(test["note"]).verify(read_public_keys(test["keys"]))


def tree(test, _):
    """As part of an attestation, where a verifier meets it."""
    files = tuple(FileDigest(f["name"], f["size"], f["sha256"]) for f in test["files"])
    subjects = [Subject(file.name, {"sha256": file.digest}) for file in files]
    told = Subject("d/", {"rfc6962Sha256": test["root"]})
    said = DatasetPredicate("d", tree=test["root"], files=len(files)).about(*subjects, told)
    attested_files(said)
    assert [s.name for s in attest("d", Tree(files)).subjects[:-1]] == [f.name for f in files]
    if Tree(files).root != test["root"]:
        raise TrustError("another root", code=Reason.ROOT_MISMATCH)


def openssf(test, folder):
    """With real files."""
    for name, content in test["files"].items():
        path = folder / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes.fromhex(content))
    bundle = folder / "d.sig"
    bundle.write_bytes(test["bundle"].encode())
    report: Report = verify_bundle(folder / "d", bundle, keys=read_public_keys(test["keys"]))
    report.require()


JUDGES = dict(
    zip(
        KINDS,
        [canonical, checkpoint, dsse, key_id, consistency, inclusion, openssf, tree],
        strict=True,
    )
)


@pytest.mark.parametrize("kind", KINDS)
def test_our_code_agrees(root, tmp_path, kind):
    for test in cases_of(root, kind):
        folder = tmp_path / str(test["tcId"])
        folder.mkdir()
        if test["result"] == "valid":
            JUDGES[kind](test, folder)
            continue
        with pytest.raises(TrustError) as caught:
            JUDGES[kind](test, folder)
        assert Reason(caught.value.code).slug == test["reason"], (kind, test["tcId"])


def test_the_second_verifier_agrees(root):
    """In a process that cannot see our code."""
    script = root / "manifests" / "vectors" / "verify.py"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-B", "-s", str(script)],
        capture_output=True,
        text=True,
        env=clean,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("disagreeing: none") == len(KINDS)


def test_the_second_verifier_notices_a_wrong_answer(root, tmp_path):
    folder = root / "manifests" / "vectors"
    for kind in KINDS:
        form = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
        for test in form["testGroups"][0]["tests"]:
            test["result"] = "valid" if test["result"] == "invalid" else "invalid"
        (tmp_path / f"{kind}.json").write_text(json.dumps(form))
    command = [sys.executable, "-B", str(folder / "verify.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "none" not in done.stdout


def test_the_second_verifier_is_small_and_not_ours(root):
    folder = root / "manifests" / "vectors"
    for script in folder.glob("*.py"):
        text = script.read_text(encoding="utf-8")
        assert "import datapipe" not in text
        assert "from datapipe" not in text
    whole = (folder / "verify.py").read_text(encoding="utf-8")
    assert len(whole.splitlines()) <= 150
    named = re.findall(
        r"^\s*(?:import|from) ([\w., ]+?)(?: import .*)?(?:  #.*)?$", whole, re.MULTILINE
    )
    modules = {name.strip().split(".")[0] for names in named for name in names.split(",")}
    assert modules - sys.stdlib_module_names == {"cryptography"}  # everything stands in one file


def test_half_of_the_vectors_are_invalid_and_each_says_why(root):
    tests = [test for kind in KINDS for test in cases_of(root, kind)]
    results = Counter(test["result"] for test in tests)
    assert len(tests) >= 120
    assert results["invalid"] >= len(tests) / 2
    assert all(test["comment"] for test in tests)
    slugs = {reason.slug for reason in Reason}
    assert {test["reason"] for test in tests if test["result"] == "invalid"} <= slugs


def test_the_vectors_are_those_of_the_script(root, tmp_path):
    script = root / "tests" / "vectors" / "make_vectors.py"
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    subprocess.run([sys.executable, "-B", str(script), str(tmp_path)], check=True, env=environment)
    for kind in KINDS:
        fresh = LONG.sub("", (tmp_path / f"{kind}.json").read_text())
        published = LONG.sub("", (root / "manifests" / "vectors" / f"{kind}.json").read_text())
        assert fresh == published, f"{kind}: run python {script.relative_to(root)}"
