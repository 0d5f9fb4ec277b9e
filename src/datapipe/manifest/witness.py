# SPDX-License-Identifier: Apache-2.0
"""A store's checkpoints kept outside of it, where whoever rewrites the store does not reach.

A store that was rewritten whole, hashes and all, is consistent with itself. What shows it is a
signed checkpoint that its writer could not change: in another folder, on another machine, in a
mail. A note is replaced only by one that extends it, as a witness of a transparency log does.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from datapipe.core.merkle import EMPTY_ROOT
from datapipe.errors import ExecutionError, TrustError
from datapipe.manifest.checks import Check, Reason
from datapipe.manifest.log import Checkpoint
from datapipe.manifest.public_keys import PublicKey

WITNESS_VARIABLE = "DATAPIPE_WITNESS"


def note_path(folder: str | Path, store: str | Path) -> Path:
    """Where the newest checkpoint of a store lies in a folder of witnessed notes.

    It is named by the store's path, not by anything in it: a store that was replaced is then
    compared with what stood there before.

    Args:
        folder: The folder of notes.
        store: The store's folder.

    Returns:
        A path that ends in `.note`; it need not exist.

    Example:
        >>> note_path("notes", "rows/.datapipe").name.startswith("rows-.datapipe-")
        True
    """
    whole = Path(os.path.realpath(store))
    name = re.sub(r"[^\w.-]", "_", "-".join(whole.parts[-2:]))
    return Path(folder) / f"{name}-{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}.note"


def check_extends(point: Checkpoint, size: int, root_at: Callable[[int], bytes]) -> Check:
    """Whether a log, as it stands, begins with what an earlier checkpoint covers.

    Args:
        point: A checkpoint whose signature was verified.
        size: How many entries the log has now.
        root_at: The log's root over its first entries, by their number.

    Returns:
        One check, named `outside checkpoint`.

    Example:
        >>> check_extends(Checkpoint("logs/a", 3, EMPTY_ROOT), 2, lambda _: EMPTY_ROOT).code.slug
        'log_shrunk'
    """
    name = "outside checkpoint"
    if size < point.size:
        what = f"it covers {point.size:,} records, the store has {size:,}"
        return Check.refused(name, what, Reason.LOG_SHRUNK)
    if (root_at(point.size) if point.size else EMPTY_ROOT) != point.root:
        what = f"the first {point.size:,} records are not those that it covers"
        return Check.refused(name, what, Reason.LOG_PROOF)
    return Check.held(name, f"the first {point.size:,} records are those that it covers")


def check_note(
    path: str | Path, keys: Iterable[PublicKey], size: int, root_at: Callable[[int], bytes]
) -> Check:
    """Compare a log with a checkpoint file that was kept outside.

    Args:
        path: The note.
        keys: The keys that are believed.
        size: How many entries the log has now.
        root_at: The log's root over its first entries, by their number.

    Returns:
        One check, named `outside checkpoint`.

    Example:
        >>> check_note("no-such.note", (), 0, lambda _: EMPTY_ROOT).code.slug
        'missing'
    """
    try:
        point = Checkpoint.load(path).verify(keys)
    except TrustError as error:
        return Check.refused("outside checkpoint", error.message, Reason(error.code))
    return check_extends(point, size, root_at)


def keep_note(
    folder: str | Path, store: str | Path, point: Checkpoint, root_at: Callable[[int], bytes]
) -> Path:
    """Keep a store's newest checkpoint outside of it, if it extends the one kept before.

    Args:
        folder: The folder of notes; made when missing.
        store: The store's folder.
        point: The new checkpoint, signed.
        root_at: The log's root over its first entries, by their number.

    Returns:
        The note's file.

    Raises:
        TrustError: The log does not begin with what the kept note covers: it was rewritten or cut.
        ExecutionError: The note cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> point = Checkpoint("logs/a", 0, EMPTY_ROOT)
        >>> keep_note(folder, "store", point, lambda _: EMPTY_ROOT).read_text() == point.to_text()
        True
    """
    path = note_path(folder, store)
    if path.exists():
        check = check_extends(Checkpoint.load(path), point.size, root_at)
        if not check.passed:
            raise TrustError(
                f"the log of {store} was rewritten: {check.reason} ({path})",
                code=check.code.value,
                hint="keep both and find out who wrote to the store; if you made it anew "
                "yourself, move the old note away",
                path=str(path),
            )
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(point.to_text(), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise ExecutionError(
            f"the checkpoint cannot be kept in {folder}: {error.strerror}",
            hint=f"let {WITNESS_VARIABLE} name a folder that you may write to",
        ) from error
    return path
