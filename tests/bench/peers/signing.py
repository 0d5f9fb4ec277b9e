# SPDX-License-Identifier: Apache-2.0
"""One side of a comparison about signatures: `signing.py BENCH ROLE CASE`, in a prepared folder.

What it needs is loaded and warmed first; only the work itself is timed, as CPU time of all threads.
Printed is one JSON line: the CPU seconds and an outcome on which both sides must agree.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

DATA = Path("data")
CHANGED = "00007.bin"


def bundle_subject(path: Path) -> str:
    """What an OpenSSF bundle says the files are: equal for equal files."""
    form = json.loads(path.read_bytes())
    said = json.loads(base64.b64decode(form["dsseEnvelope"]["payload"]))
    return said["subject"][0]["digest"]["sha256"]


def ours(memory: Path | None = None):
    """Sign the folder with both of our artefacts."""
    from datapipe.manifest.bundle import sign_path
    from datapipe.manifest.signers import PrivateKey

    key = PrivateKey.new("p256")
    return lambda: bundle_subject(sign_path(DATA, key, memory=memory).openssf)


def theirs():
    """Sign the folder through the reference library's API, with the same hash."""
    from model_signing import signing

    config = signing.Config().use_elliptic_key_signer(private_key="key.pem")

    def work() -> str:
        config.sign(DATA, Path("theirs.sig"))
        return bundle_subject(Path("theirs.sig"))

    return work


def sign_large(role: str, case: str):
    return ours() if role == "subject" else theirs()


sign_many = sign_large


def resign(role: str, case: str):
    """One file changes; only the subject remembers the others."""
    global DATA  # noqa: PLW0603  # a script of one comparison
    DATA = Path("many") if case == "many" else DATA
    file = DATA / CHANGED
    before = file.read_bytes()
    if role == "subject":
        file.write_bytes(b"A" + before[1:])
        time.sleep(0.1)
        ours(Path("memory"))()
    file.write_bytes(b"B" + before[1:])
    if role == "subject":
        return ours(Path("memory"))
    return ours() if case == "full" else theirs()


def verify_before_train(role: str, case: str):
    import polars as pl

    from datapipe.manifest.public_keys import read_public_keys
    from datapipe.manifest.verify import verify_path

    keys = read_public_keys(Path("key.pub").read_text())
    if role == "peer":
        return lambda: "held" if pl.read_parquet("rows.parquet").height else "empty"
    return lambda: "held" if verify_path("rows.parquet", keys=keys).passed else "refused"


def sign_pipeline(role: str, case: str):
    """The same pipeline; the peer's executor leaves statement, parents and checkpoint out."""
    import datapipe.execute._recorder as recorder
    from datapipe import Pipeline
    from datapipe.stages import ExactDuplicates, ReadParquet

    if role == "peer":
        recorder.sign_run = lambda *_, **__: ""

    def work() -> str:
        stages = [ReadParquet("rows.parquet", label="label"), ExactDuplicates()]
        run = Pipeline("signed", stages).run(seed=1, store=f"{role}-{time.time_ns()}")
        return f"{len(run.data)} rows"

    return work


def hybrid_signature(role: str, case: str):
    from datapipe.manifest.envelope import Envelope
    from datapipe.manifest.signers import HybridKey, PrivateKey

    key = HybridKey.new() if role == "subject" else PrivateKey.new("ed25519")
    payload = b"x" * 4096
    count = int(Path("count").read_text())

    def work() -> str:
        made = [Envelope.sign(payload, key) for _ in range(count)]
        return f"{len(made)} manifests"

    return work


def merkle_root(role: str, case: str):
    from datapipe.core.merkle import leaf_hash, root
    from datapipe.manifest.signers import PrivateKey

    count = int(Path("count").read_text())
    rows = [b'{"id":%d,"text":"a row of some length, as rows are"}' % i for i in range(count)]
    if role == "peer":
        raw = PrivateKey.new("ed25519").raw
        return lambda: f"{len([raw.sign(row) for row in rows])} rows"

    def work() -> str:
        root([leaf_hash(row) for row in rows])
        return f"{count} rows"

    return work


def main(bench: str, role: str, case: str) -> None:
    work = globals()[bench](role, case)
    start = time.process_time()
    outcome = work()
    print(json.dumps({"cpu_seconds": time.process_time() - start, "outcome": outcome}))


if __name__ == "__main__":
    main(*sys.argv[1:])
