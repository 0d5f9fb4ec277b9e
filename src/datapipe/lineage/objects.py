# SPDX-License-Identifier: Apache-2.0
"""Files by content: a name is the digest of the bytes, so that equal files are one file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from pathlib import Path

from datapipe.core.digest import PREFIX, digest_file
from datapipe.errors import ExecutionError
from datapipe.lineage.durable import sync_folder
from datapipe.lineage.locks import failed, locked
from datapipe.manifest.plain import reading


class Objects:
    """The folder of objects and the scratch space they are written in.

    An object appears under its name only when it is whole and durable: it is written elsewhere on
    the same file system, synced, hashed, renamed, and the folder is synced.

    Args:
        folder: Where objects are kept.
        scratch: Where temporary folders are made; on the same file system.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> objects = Objects(home / "objects", home / "tmp")
        >>> digest, path = objects.put_bytes(b"abc", suffix=".txt")
        >>> objects.find(digest) == path, path.suffix
        (True, '.txt')
    """

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder = folder
        self._scratch = scratch
        self._names: dict[str, str] = {}
        self._held: dict[Path, int] = {}

    def put(self, path: Path, *, suffix: str = "", digest: str = "") -> tuple[str, Path]:
        """Move a file into the store; when its content is there already, drop the new one.

        Args:
            path: A finished file; it is gone afterwards.
            suffix: Ending of the object's name, such as `.parquet`.
            digest: Its digest where whoever wrote it hashed on the way; empty to hash it here.

        Returns:
            The digest in the house form, and where the object is.

        Raises:
            ExecutionError: The disk is full or failed.
            TrustError: It is no file.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> _ = (home / "a").write_bytes(b"abc")
            >>> Objects(home / "objects", home / "tmp").put(home / "a")[0][:14]
            'sha256:ba7816b'
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with reading(path) as file:
                os.fsync(file.fileno())
            digest = digest or digest_file(path)
            target = self.folder / (digest.removeprefix(PREFIX) + suffix)
            if target.is_file() and target.stat().st_size == path.stat().st_size:
                path.unlink()
            else:
                self._move(path, target)
                sync_folder(self.folder)
        except OSError as error:
            raise failed(error, f"{path} could not be moved to {self.folder}") from error
        self._names[bare(digest)] = target.name
        return digest, target

    def put_bytes(self, data: bytes, *, suffix: str = "") -> tuple[str, Path]:
        """Write some bytes as an object.

        Args:
            data: The bytes.
            suffix: Ending of the object's name.

        Returns:
            The digest in the house form, and where the object is.

        Raises:
            ExecutionError: The disk is full or failed.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> Objects(home / "objects", home / "tmp").put_bytes(b"")[1].name[:7]
            'e3b0c44'
        """
        folder = self.scratch()
        try:
            path = folder / "object"
            try:
                path.write_bytes(data)
            except OSError as error:
                what = f"{len(data)} bytes could not be written to {self.folder}"
                raise failed(error, what) from error
            return self.put(path, suffix=suffix)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def find(self, digest: str) -> Path | None:
        """Where an object is.

        Args:
            digest: Its digest, with or without the prefix, or its file name.

        Returns:
            Its path, or None when it is not here.

        Example:
            >>> Objects(Path("nowhere"), Path("nowhere")).find("sha256:00") is None
            True
        """
        key = bare(digest)
        name = self._names.get(key)
        if name is None or not (self.folder / name).is_file():
            self._names = {bare(n): n for n in self.names()}
            name = self._names.get(key)
        return self.folder / name if name else None

    def names(self) -> list[str]:
        """The file names of all objects.

        Returns:
            Names, sorted.

        Example:
            >>> Objects(Path("nowhere"), Path("nowhere")).names()
            []
        """
        try:
            return sorted(e.name for e in os.scandir(self.folder) if e.is_file())
        except FileNotFoundError:
            return []

    def set_aside_damaged(self, folder: Path) -> list[str]:
        """Move objects whose bytes have changed out of the way; a later run can make them again.

        Args:
            folder: Where they go; made when there are some.

        Returns:
            Their file names.

        Raises:
            ExecutionError: One cannot be moved.

        Example:
            >>> Objects(Path("nowhere"), Path("nowhere")).set_aside_damaged(Path("damaged"))
            []
        """
        found = [n for n in self.names() if digest_file(self.folder / n) != PREFIX + bare(n)]
        try:
            for name in found:
                folder.mkdir(exist_ok=True)
                (self.folder / name).replace(folder / name)
            if found:
                sync_folder(self.folder)
        except OSError as error:
            raise failed(error, f"a damaged object cannot be moved to {folder}") from error
        self._names = {}
        return found

    def scratch(self) -> Path:
        """A fresh temporary folder that the caller removes.

        It is locked for as long as this process lives; folders whose process is gone are removed
        here, whatever ended it.

        Returns:
            An empty folder.

        Raises:
            ExecutionError: It cannot be made.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> Objects(home / "objects", home / "tmp").scratch().is_dir()
            True
        """
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            with locked(self._scratch / "lock"):
                self._let_go()
                self._sweep()
                folder = self._scratch / f"{os.getpid()}-{secrets.token_hex(6)}"
                folder.mkdir()
                self._held[folder] = _hold(folder)
        except OSError as error:
            raise failed(error, f"no temporary folder can be made in {self._scratch}") from error
        return folder

    def close(self) -> None:
        """Let go of the temporary folders of this process.

        Example:
            >>> Objects(Path("nowhere"), Path("nowhere")).close()
        """
        for folder in list(self._held):
            os.close(self._held.pop(folder))

    def _let_go(self) -> None:
        for folder in [f for f in self._held if not f.exists()]:
            os.close(self._held.pop(folder))

    def _sweep(self) -> None:
        """Remove folders that no living process holds; only under the lock."""
        for folder in self._scratch.iterdir():
            if folder in self._held or not folder.is_dir():
                continue
            try:
                descriptor = _hold(folder)
            except OSError:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def _move(self, path: Path, target: Path) -> None:
        try:
            path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            folder = self.scratch()
            near = folder / target.name
            shutil.copyfile(path, near)
            if digest_file(near) != PREFIX + bare(target.name):
                raise ExecutionError(
                    f"{path} changed while it was copied", code="DP-EXEC-052", hint="run again"
                ) from None
            with near.open("rb") as file:
                os.fsync(file.fileno())
            near.replace(target)
            path.unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()


def bare(digest: str) -> str:
    """What names an object, without prefix and ending.

    Args:
        digest: A digest in the house form, or an object's file name.

    Returns:
        Its hexadecimal digits.

    Example:
        >>> bare("sha256:ab12"), bare("ab12.parquet")
        ('ab12', 'ab12')
    """
    return digest.removeprefix(PREFIX).partition(".")[0]


def _hold(folder: Path) -> int:
    """Lock a folder; the lock goes with the process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
