# SPDX-License-Identifier: Apache-2.0
"""The unfinished output of a fused group, kept in the store so that a later run can go on with it.

Beside the file lies a list with a line for each shard that is in it. A line counts only when it is
whole and the bytes it tells of match their checksums, so that nothing has to be synced on the way:
what a power cut has taken is noticed and made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from datapipe.core.digest import canonical
from datapipe.core.seal import Mark, SealedFile
from datapipe.errors import TrustError
from datapipe.lineage.garbage import FORGOTTEN_S
from datapipe.manifest.plain import content


class Partial:
    """One unfinished output.

    Args:
        folder: Where it lies.

    Example:
        >>> import io, tempfile
        >>> import polars as pl
        >>> made = io.BytesIO()
        >>> pl.DataFrame({"a": [1]}).write_parquet(made)
        >>> folder = Path(tempfile.mkdtemp())
        >>> first = Partial(folder)
        >>> first.add(made.getvalue())
        >>> first.close()
        >>> second = Partial(folder)
        >>> second.done
        1
        >>> second.close()
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "rows.parquet"
        self._list = folder / "shards.jsonl"
        lines = _lines(self._list)
        self._file = SealedFile(self.path, afresh=not lines)
        self.done = self._file.go_on([mark for mark, _ in lines])
        self._told = self._list.open("ab")
        self._told.truncate(lines[self.done - 1][1] if self.done else 0)

    def add(self, raw: bytes | memoryview) -> None:
        """Add the rows of the next shard.

        Args:
            raw: They, as a Parquet file.

        Raises:
            OSError: The disk is full or failed.

        Example:
            >>> import io, tempfile
            >>> import polars as pl
            >>> made = io.BytesIO()
            >>> pl.DataFrame({"a": [1]}).write_parquet(made)
            >>> found = Partial(Path(tempfile.mkdtemp()))
            >>> found.add(made.getvalue())
            >>> found.close()
        """
        line = canonical(self._file.append(raw).to_json())
        self._told.write(b"%08x %s\n" % (zlib.crc32(line), line))
        self._told.flush()

    def finish(self) -> str:
        """Make the file whole.

        Returns:
            Its digest.

        Raises:
            OSError: The disk is full or failed.

        Example:
            >>> import io, tempfile
            >>> import polars as pl
            >>> made = io.BytesIO()
            >>> pl.DataFrame({"a": [1]}).write_parquet(made)
            >>> found = Partial(Path(tempfile.mkdtemp()))
            >>> found.add(made.getvalue())
            >>> found.finish()[:7]
            'sha256:'
            >>> found.close()
        """
        with self._file:
            pass
        self._told.close()
        return self._file.digest

    def close(self) -> None:
        """Leave it as it is, for a later run.

        Example:
            >>> import tempfile
            >>> Partial(Path(tempfile.mkdtemp())).close()
        """
        self._file.leave()
        self._told.close()


@contextlib.contextmanager
def partial(store: Path, key: str, scratch: Path) -> Iterator[Partial]:
    """The unfinished output for a key; it is gone afterwards when its file was taken away.

    Args:
        store: Folder of the store.
        key: What the output depends on; empty when that is not known, then nothing is kept.
        scratch: A folder of this run, used when nothing is kept or another process is at it.

    Yields:
        The unfinished output.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> with partial(home, "ab12", home / "scratch") as found:
        ...     found.done
        0
    """
    folder = store / "partial" / key if key else scratch / "partial"
    with contextlib.ExitStack() as stack:
        if key:
            _sweep(store / "partial")
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                folder = scratch / "partial"
        found = Partial(folder)
        try:
            yield found
        finally:
            found.close()
            if not found.path.exists():
                shutil.rmtree(folder, ignore_errors=True)


def _lines(path: Path) -> list[tuple[Mark, int]]:
    """The lines of a list that are whole, each with where it ends."""
    found: list[tuple[Mark, int]] = []
    end = 0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, TrustError):
        for line in content(path).splitlines(keepends=True):
            crc, body = line[:8], line[9:-1]
            if line[-1:] != b"\n" or b"%08x" % zlib.crc32(body) != crc:
                break
            end += len(line)
            found.append((Mark.from_json(json.loads(body)), end))
    return found


def _sweep(home: Path) -> None:
    """Remove outputs that nobody holds and nobody went on with for a week."""
    with contextlib.suppress(OSError):
        for folder in home.iterdir():
            if time.time() - folder.stat().st_mtime > FORGOTTEN_S:
                with (folder / "lock").open("ab") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
