# SPDX-License-Identifier: Apache-2.0
"""The result of a run in a store of objects: content first, then the one record that names it.

Objects are named by their content, so that putting one twice changes nothing. A reader follows the
record, which is put last and only if there is none: what an interrupted upload has left behind is
named by nobody.
"""

from __future__ import annotations

from pathlib import Path

from datapipe.core.digest import canonical, digest_file
from datapipe.core.remote import permit
from datapipe.core.run import Run
from datapipe.errors import DeclarationError, TrustError
from datapipe.execute.bucket import Bucket


def publish(run: Run, uri: str) -> str:
    """Put the rows and artifacts of a run into a bucket, by conditional puts only.

    Args:
        run: A finished run.
        uri: `s3://bucket/prefix`, with the query that `fetched` takes.

    Returns:
        The address of the run's record.

    Raises:
        DeclarationError: The scheme is not allowed, or this run was published there before.
        TrustError: A file in the store is not as it was written, or what lies there under its name.
        ExecutionError: The store cannot be reached, or refuses.

    Example:
        >>> from datapipe.testing.small import small_run
        >>> publish(small_run(), "s3://shelf")
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: 's3://shelf' may not be opened [DP-READ-040]
        <BLANKLINE>
        hint: set DATAPIPE_REMOTE=s3 to allow it
    """
    shown = uri.partition("?")[0]
    permit(uri)
    bucket = Bucket.of(uri)
    named = {a.digest: a.path for a in run.artifacts.values()}
    if run.data.path is not None:
        named[run.data.digest] = run.data.path
    kept: dict[str, str] = {}
    for digest, path in named.items():
        kept[digest] = f"objects/{Path(path).name}"
        if digest_file(path) != digest:  # checksums do not tell a sound file in another's place
            raise TrustError(
                f"{path} does not have the digest it is named by",
                code="DP-TRUST-719",
                hint="move the file away and run again: what it held is made anew",
                path=str(path),
            )
        if not bucket.put(kept[digest], path) and not bucket.holds(kept[digest], path, whole=False):
            raise TrustError(
                f"{shown}/{kept[digest]} is there and has another size than what it is named by",
                code="DP-TRUST-714",
                hint="nothing was published: remove it if it is yours, or choose another prefix",
            )
    record = {**run.to_json(), "data": run.data.digest, "objects": kept}
    record.pop("store")
    record.pop("row_findings")
    key = f"runs/{run.run_id}.json"
    if not bucket.put(key, canonical(record)):
        raise DeclarationError(
            f"{shown}: run {run.run_id} was published there before",
            code="DP-USE-092",
            hint="nothing was changed; choose another prefix to publish it again",
        )
    return f"{shown.rstrip('/')}/{key}"
