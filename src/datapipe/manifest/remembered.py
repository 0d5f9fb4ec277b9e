# SPDX-License-Identifier: Apache-2.0
"""Digests remembered from the last signing, so that signing again reads only what changed.

Only signing uses it, never verification: a wrong memory makes a signature that does not verify,
it can never make wrong bytes pass.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from datapipe.errors import TrustError
from datapipe.manifest.files import FileDigest, hash_files
from datapipe.manifest.listing import Found
from datapipe.manifest.plain import content

_Entry: TypeAlias = tuple[list[int], str]
_FORM = "datapipe-digests/1"
_SHA256 = re.compile("[0-9a-f]{64}")
_FINE_NS, _COARSE_NS = 50_000_000, 2_000_000_000


def remembered_digests(files: Sequence[Found], memory: str | Path) -> tuple[FileDigest, ...]:
    """Hash files, taking over the digests of those that were not touched since.

    A file is untouched when size, inode, modification and change time are those of last time,
    and it was quiet for a while before it was hashed then: within the clock's grain a second
    write leaves no trace.

    Args:
        files: What `list_files` found.
        memory: The file that remembers; made when missing, replaced whole.

    Returns:
        Digests in the order of `files`.

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.listing import list_files
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a").write_text("hi")
        >>> listed = list_files(folder).files
        >>> remembered_digests(listed, folder / "memory") == hash_files(listed)
        True
    """
    known = _read(Path(memory))
    now = time.time_ns()
    kept = {
        file.name: FileDigest(file.name, file.size, digest)
        for file in files
        if (digest := _untouched(known.get(file.name), file))
    }
    fresh = hash_files([file for file in files if file.name not in kept])
    found = {**kept, **{file.name: file for file in fresh}}
    entries = {
        file.name: ([file.size, *file.stamp], found[file.name].digest)
        for file in files
        if file.name in kept or _quiet(file, now)
    }
    if fresh or len(known) != len(entries):
        _write(Path(memory), entries)
    return tuple(found[file.name] for file in files)


def _quiet(file: Found, now: int) -> bool:
    modified, changed, _ = file.stamp
    coarse = modified % 1_000_000_000 == 0
    return max(modified, changed) < now - (_COARSE_NS if coarse else _FINE_NS)


def _untouched(entry: Any, file: Found) -> str:
    """The remembered digest of a file, empty when it has to be hashed."""
    if not isinstance(entry, list) or len(entry) != 2:
        return ""
    stamp, digest = entry
    same = stamp == [file.size, *file.stamp] and isinstance(digest, str)
    return digest if same and _SHA256.fullmatch(digest) else ""


def _read(memory: Path) -> dict[str, Any]:
    """What was remembered; a memory in another form is as good as none."""
    try:
        form = json.loads(content(memory))
    except (OSError, ValueError, TrustError):
        return {}
    known = form.get("files") if isinstance(form, dict) and form.get("form") == _FORM else None
    return known if isinstance(known, dict) else {}


def _write(memory: Path, entries: Mapping[str, _Entry]) -> None:
    draft = memory.with_name(f".{memory.name}.{os.getpid()}")
    draft.write_text(json.dumps({"form": _FORM, "files": entries}), encoding="utf-8")
    draft.replace(memory)
