# SPDX-License-Identifier: Apache-2.0
"""A second verifier of our vectors: the standard library and cryptography, none of our code.

`python verify.py [FOLDER]` prints one line a file and exits 1 when a case comes out otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
from pathlib import Path, PurePosixPath

from signatures import b64, fits, keys_of, opened
from strict_json import canonical, need, strict


def sound(names):
    """The orders in which acceptable file names may stand."""
    need(names and len(set(names)) == len(names))
    for name in names:
        need(not re.search(r"^/|^[A-Za-z]:|\\|[\x00-\x1f\x7f]", name))
        need(not {"", ".", ".."} & set(name.split("/")))
    return sorted(names), sorted(names, key=lambda name: PurePosixPath(name).parts)


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(n):
    return 1 << (n - 1).bit_length() - 1


def tree_root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    return node(tree_root(leaves[: split(len(leaves))]), tree_root(leaves[split(len(leaves)) :]))


def included(leaf, i, n, proof):
    """RFC 6962, section 2.1.1, from the top: the root that the proof leads to."""
    if n == 1:
        return leaf
    k, other = split(n), proof.pop()
    if i < k:
        return node(included(leaf, i, k, proof), other)
    return node(other, included(leaf, i - k, n - k, proof))


def consistent(m, n, proof, old, *, whole=True):
    """RFC 6962, section 2.1.2, from the top: both roots that the proof leads to."""
    if m == n:
        return (old, old) if whole else (proof.pop(0),) * 2
    k = split(n)
    if m <= k:
        first, second = consistent(m, k, proof, old, whole=whole)
        return first, node(second, proof.pop(0))
    first, second = consistent(m - k, n - k, proof, old, whole=False)
    left = proof.pop(0)
    return node(left, first), node(left, second)


def check_canonical_json(t):
    need(canonical(strict(bytes.fromhex(t["input"]))) == t["expected"])


def check_key_id(t):
    need(list(keys_of(t["public"])) == [t["keyid"]] and t["public"].count("BEGIN") == 1)


def check_dsse(t):
    opened(strict(t["envelope"].encode()), keys_of(t["keys"]), t["threshold"])


def check_merkle_inclusion(t):
    leaf, root, *proof = map(bytes.fromhex, [t["leaf"], t["root"], *t["proof"]])
    need(0 <= t["index"] < t["size"] and all(len(h) == 32 for h in proof))
    need(included(leaf, t["index"], t["size"], proof) == root and not proof)


def check_merkle_consistency(t):
    old, new, *proof = map(bytes.fromhex, [t["earlierRoot"], t["laterRoot"], *t["proof"]])
    need(0 <= t["earlier"] <= t["later"])
    nothing = (tree_root([]), new)
    found = consistent(t["earlier"], t["later"], proof, old) if t["earlier"] else nothing
    need(found == (old, new) and not proof)


def check_checkpoint(t):
    form = r"(([^\s+]+)\n(0|[1-9]\d*)\n(\S{44})\n)\n((?:\u2014 [^\s+]+ \S+\n)*)"
    found, held = re.fullmatch(form, t["note"]), 0
    need(found and len(b64(found[4])) == 32)
    for line in found[5].splitlines():
        _, name, blob = line.split(" ")
        for key in keys_of(t["keys"]).values():
            public = name.encode() + b"\n\x01" + key.public_bytes_raw()
            if b64(blob)[:4] == hashlib.sha256(public).digest()[:4]:
                need(fits(key, b64(blob)[4:], found[1].encode()))
                held += 1
    need(held)


def check_tree(t):
    names = [file["name"] for file in t["files"]]
    need(names == sound(names)[0])
    leaves = [hashlib.sha256(b"\0" + canonical(file).encode()).digest() for file in t["files"]]
    need(tree_root(leaves).hex() == t["root"])


def check_openssf(t):
    form = strict(t["bundle"].encode())
    need(set(form) == {"mediaType", "verificationMaterial", "dsseEnvelope"})
    need(len(form["dsseEnvelope"]["signatures"]) == 1)
    said = strict(opened(form["dsseEnvelope"], keys_of(t["keys"])))
    need(said["predicateType"] == "https://model_signing/signature/v1.0")
    need(set(said["predicate"]) == {"resources", "serialization"} and len(said["subject"]) == 1)
    rules, listed = said["predicate"]["serialization"], said["predicate"]["resources"]
    need(rules["method"] == "files" and {item["algorithm"] for item in listed} == {"sha256"})
    names = [item["name"] for item in listed]
    need(names in sound(names))
    joined = b"".join(bytes.fromhex(item["digest"]) for item in listed)
    need(said["subject"][0]["digest"]["sha256"] == hashlib.sha256(joined).hexdigest())
    there = {n: hashlib.sha256(bytes.fromhex(c)).hexdigest() for n, c in t["files"].items()}
    need(there == {item["name"]: item["digest"] for item in listed})


def holds(kind, test):
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
        globals()[f"check_{kind}"](test)
        return True
    return False


def main(folder):
    wrong = 0
    for path in sorted(folder.glob("*.json")):
        form = json.loads(path.read_text(encoding="utf-8"))
        tests = [test for group in form["testGroups"] for test in group["tests"]]
        bad = [t["tcId"] for t in tests if holds(form["algorithm"], t) != (t["result"] == "valid")]
        print(f"{path.name}: {len(tests)} cases, disagreeing: {bad or 'none'}")
        wrong += len(bad)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
