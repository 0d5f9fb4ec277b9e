# SPDX-License-Identifier: Apache-2.0
"""Digests of files and folders.

Every file is opened without following links, and one that changes while it is read is refused: a
signature must be about bytes that existed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from datapipe.core.merkle import leaf_hash, root
from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.canonical import quoted
from datapipe.manifest.checks import Reason
from datapipe.manifest.listing import Found, list_files, refused, require_plain

HASH_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64, "blake2b": 64, "blake3": 32}

_LARGE_FILE_BYTES = 1 << 20
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A file and what fixes its content.

    Args:
        name: Its path relative to the folder, with `/`.
        size: Its size in bytes.
        digest: Its digest in lower-case hex.
        algorithm: How the digest was made.

    Example:
        >>> FileDigest("a", 0, hashlib.sha256(b"").hexdigest()).algorithm
        'sha256'
    """

    name: str
    size: int
    digest: str
    algorithm: str = "sha256"


@dataclass(frozen=True)
class Tree:
    """All files of a folder, in code-point order of their names.

    Args:
        files: The files with their digests.

    Example:
        >>> Tree((FileDigest("a", 1, "0" * 64),)).size_bytes
        1
    """

    files: tuple[FileDigest, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files together.

        Returns:
            Bytes.

        Example:
            >>> Tree(()).size_bytes
            0
        """
        return sum(file.size for file in self.files)

    @cached_property
    def root(self) -> str:
        """One digest for names, sizes and contents.

        An RFC 6962 root over the canonical JSON of each file's name, sha256 and size. The root of
        OpenSSF bundles hashes the digests only, so that a renamed file leaves it unchanged; this
        one changes.

        Returns:
            64 hex digits.

        Example:
            >>> one = Tree((FileDigest("a", 1, "0" * 64),))
            >>> one.root == Tree((FileDigest("b", 1, "0" * 64),)).root
            False
        """
        return root(leaf_hash(_leaf(file)) for file in self.files).hex()


def hash_file(path: str | Path, algorithm: str = "sha256") -> tuple[str, int]:
    """Hash one plain file.

    Args:
        path: The file; a link is not followed.
        algorithm: One of `HASH_BYTES`; `blake3` needs its package.

    Returns:
        The digest in lower-case hex, and the number of bytes read.

    Raises:
        TrustError: It is missing, not a plain file, or changed while it was read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a"
        >>> _ = path.write_bytes(b"")
        >>> hash_file(path)[0][:8]
        'e3b0c442'
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    except OSError as error:
        link = Path(path).is_symlink()
        raise refused(
            path,
            "is a symbolic link" if link else f"cannot be read: {error.strerror}",
            Reason.SYMLINK if link else Reason.MISSING,
        ) from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise refused(path, "is not a plain file", Reason.SPECIAL_FILE)
        digest = _digest(descriptor, before.st_size, algorithm)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise refused(path, "changed while it was read", Reason.CHANGED)
    return digest, before.st_size


def hash_files(files: Sequence[Found], algorithm: str = "sha256") -> tuple[FileDigest, ...]:
    """Hash many files, large ones in parallel.

    Small files are hashed in turn: opening them costs more than hashing, and threads would only
    wait for each other.

    Args:
        files: What `list_files` found.
        algorithm: One of `HASH_BYTES`.

    Returns:
        Their digests in the same order.

    Example:
        >>> hash_files(())
        ()
    """

    def one(file: Found) -> FileDigest:
        digest, size = hash_file(file.path, algorithm)
        return FileDigest(file.name, size, digest, algorithm)

    large = [file for file in files if file.size >= _LARGE_FILE_BYTES]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashed = {
            file.name: digest for file, digest in zip(large, pool.map(one, large), strict=True)
        }
    new = hasher(algorithm)
    return tuple(
        hashed.get(file.name) or FileDigest(file.name, file.size, _hash_small(file, new), algorithm)
        for file in files
    )


def _hash_small(file: Found, new: Callable[[bytes], Any]) -> str:
    """Hash a file that was listed a moment ago, in as few system calls as it takes."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | _NO_FOLLOW)
    except OSError:
        return hash_file(file.path)[0]  # which says what is wrong
    try:
        data = os.read(descriptor, file.size + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    same = len(data) == after.st_size == file.size and after.st_mtime_ns == file.stamp[0]
    if not same or not stat.S_ISREG(after.st_mode):
        raise refused(file.path, "changed while it was read", Reason.CHANGED)
    return str(new(data).hexdigest())


def hash_tree(path: str | Path) -> Tree:
    """List and hash a folder, or one file, refusing whatever is not plain.

    Args:
        path: The folder or file.

    Returns:
        Its files with sha256 digests.

    Raises:
        TrustError: It holds a link, device, pipe, or unusable name, or no file at all.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("hi")
        >>> len(hash_tree(folder).root)
        64
    """
    return Tree(hash_files(require_plain(path, list_files(path))))


def hasher(algorithm: str) -> Callable[..., Any]:
    """The constructor of a hash.

    Args:
        algorithm: One of `HASH_BYTES`.

    Returns:
        Something to call, with the first bytes or none, for a hash with `update` and `hexdigest`.

    Raises:
        TrustError: The hash is not known, or its package is not installed.

    Example:
        >>> hasher("sha256")().hexdigest()[:8]
        'e3b0c442'
    """
    if algorithm == "blake3" and find_spec("blake3") is not None:
        blake3 = import_module("blake3").blake3  # loaded only for bundles that use it
        return lambda data=b"": blake3(data, max_threads=blake3.AUTO)
    if algorithm not in HASH_BYTES or algorithm == "blake3":
        missing = "needs the package blake3" if algorithm == "blake3" else "is not known"
        raise TrustError(
            f"the hash {algorithm!r} {missing}",
            code=Reason.UNKNOWN_HASH.value,
            hint="pip install blake3" if algorithm == "blake3" else "sign it anew with sha256",
        )
    return getattr(hashlib, algorithm)  # type: ignore[no-any-return]  # a constructor by name


def _digest(descriptor: int, size: int, algorithm: str) -> str:
    new = hasher(algorithm)
    made = new()
    if size < _LARGE_FILE_BYTES:
        left = size
        while chunk := os.read(descriptor, left + 1):
            made.update(chunk)
            left -= len(chunk)
            if left <= 0:  # a file that grew shows in its size afterwards
                break
    else:
        buffer = bytearray(_LARGE_FILE_BYTES)
        view = memoryview(buffer)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            while count := file.readinto(buffer):
                made.update(view[:count])
    return str(made.hexdigest())


def _leaf(file: FileDigest) -> bytes:
    """Canonical JSON of one file, written directly: folders may hold very many."""
    if file.algorithm != "sha256":
        raise DeclarationError(
            f"a tree digest is made of sha256, not of {file.algorithm}",
            code="DP-DECL-038",
            hint="hash the files with sha256",
        )
    return f'{{"name":{quoted(file.name)},"sha256":"{file.digest}","size":{file.size}}}'.encode()
