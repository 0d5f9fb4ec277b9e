# SPDX-License-Identifier: Apache-2.0
"""Which local files a path means, and whether they may be opened at all."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from datapipe.core.remote import ALLOWED, SCHEMES, allowed, bare, fetched, has_password
from datapipe.errors import DeclarationError, ExecutionError, Malformed, nearest

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
SCHEME = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]+:|[\\/]{2}[^\\/])")
"""`http://`, `hf:`, `file:///` and network shares; one letter and a colon is a drive."""

LOOKS = (
    (b"PAR1", "a Parquet file", "ReadParquet"),
    (b"PARE", "an encrypted Parquet file", ""),
    (b"ARROW1", "an Arrow IPC file", "ReadArrow"),
    (b"\xff\xff\xff\xff", "an Arrow IPC stream", "ReadArrow"),
    (b"FEA1", "a Feather V1 file", ""),
    (b"\x93NUMPY", "a numpy array", ""),
    (b"\x1f\x8b", "a gzip archive", ""),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", ""),
    (b"BZh", "a bzip2 archive", ""),
    (b"\xfd7zXZ", "an xz archive", ""),
    (b"PK\x03\x04", "a zip archive (a spreadsheet, or saved weights)", ""),
    (b"\x89HDF", "an HDF5 file", ""),
    (b"SQLite format 3", "an SQLite database", ""),
    (b"\xff\xfe", "UTF-16 text", ""),
    (b"\xfe\xff", "UTF-16 text", ""),
)


ENDINGS = {"ReadParquet": ".parquet", "ReadArrow": ".arrow"}
"""What the names of a reader's files end in."""


def spelled(path: Paths) -> str | tuple[str, ...]:
    """A path or several in a form that is hashable and that JSON can write."""
    if isinstance(path, (str, os.PathLike)):
        return os.fspath(path)
    return tuple(os.fspath(p) for p in path)


def each(path: str | tuple[str, ...]) -> tuple[str, ...]:
    """The paths one by one."""
    return (path,) if isinstance(path, str) else path


def scheme_problem(path: str) -> str:
    """A sentence when a path is not a local one, else nothing."""
    if SCHEME.match(path) and not allowed(path):
        scheme = path.partition("://")[0]
        unless = f" unless {ALLOWED}={scheme}" if scheme in SCHEMES else ""
        return f"{bare(path)!r} is not a local path; nothing is fetched from a network{unless}"
    if SCHEME.match(path) and has_password(path):
        return f"{bare(path)!r} was given with a password, which the store would keep for ever"
    if not path.strip() or "\0" in path:
        return "a path is empty"
    return _unwritable(path)


def expand(path: str | tuple[str, ...]) -> tuple[Path, ...]:
    """The files a path or glob means, sorted, each once; all of them exist and are regular."""
    found: set[Path] = set()
    for one in each(path):
        problem = scheme_problem(one)
        if not problem and SCHEME.match(one):
            found.update(fetched(one))
            continue
        if problem:
            raise DeclarationError(
                problem, code="DP-READ-002", hint="download the file first and give its local path"
            )
        found.update(_matches(one))
    files = tuple(sorted(found))
    if not files:
        raise DeclarationError("no path was given", code="DP-READ-001", hint="name a file")
    for file in files:
        if problem := _unwritable(str(file)):  # a glob finds what nobody typed
            raise DeclarationError(problem, code="DP-READ-001", hint="rename the file")
        _regular(file)
    return files


def _unwritable(path: str) -> str:
    """A sentence when a path's bytes are not UTF-8: the journal could not name the file."""
    spelt = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return (
        "" if spelt == path else f"the path '{spelt}' is not UTF-8, so that nothing could name it"
    )


def _matches(path: str) -> list[Path]:
    plain = Path(path).expanduser()
    try:
        if plain.is_dir():
            raise DeclarationError(
                f"{path} is a folder",
                code="DP-READ-001",
                hint=f"name its files, as in {path}/*.parquet",
            )
        if plain.exists():
            return [plain]
        hits = _globbed(str(plain))
    except OSError as error:  # a name that is too long, a loop of links
        raise DeclarationError(
            f"{path}: {error.strerror}", code="DP-READ-001", hint="check the path"
        ) from error
    if not hits:
        raise DeclarationError(
            f"{path}: there is no such file", code="DP-READ-001", hint=_beside(plain)
        )
    return hits


def _globbed(pattern: str) -> list[Path]:
    if not glob.has_magic(pattern):
        return []
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [p for p in map(Path, names) if not p.is_dir()]


def _beside(path: Path) -> str:
    """The closest names in the folder, or in the nearest folder that exists."""
    folder = path.parent
    while not folder.is_dir():
        if folder == folder.parent:
            break
        folder = folder.parent
    try:
        names = [entry.name for entry in islice(os.scandir(folder), 5000)]
    except OSError:
        return f"{folder} cannot be listed"
    if folder != path.parent:
        return f"the folder {path.parent} does not exist; {folder} does"
    return f"in {folder}: {nearest(path.name, names)}"


def _regular(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise Malformed(
            f"{path} is a device, pipe or socket; a regular file was expected",
            code="DP-READ-003",
            hint="save the rows to a file first",
        )
    if status.st_size == 0:
        raise Malformed(
            f"{path} is empty (0 bytes)", code="DP-READ-004", hint="give a file that holds rows"
        )


def head(path: Path, size: int = 16) -> bytes:
    """The first bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ExecutionError:
    return ExecutionError(
        f"{path}: {error.strerror}", code="DP-READ-022", hint="check the file's permissions"
    )


def looks_like(start: bytes) -> tuple[str, str]:
    """What the first bytes of a file say it is, and its reader; empty when they say nothing."""
    for magic, words, reader in LOOKS:
        if start.startswith(magic):
            return words, reader
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle, which can run code and is never opened", ""
    return "", ""


def wrong_kind(path: Path, wanted: str, start: bytes) -> Malformed:
    """The refusal of a file whose first bytes are not those of the wanted format."""
    words, reader = looks_like(start)
    return Malformed(
        f"{path} is not {wanted}{_seems(words)}",
        code="DP-READ-005",
        hint=_instead(words, reader, wanted),
    )


def _seems(words: str) -> str:
    if "encrypted" in words:
        return f" that can be read: it looks like {words}, and no key of its writer's is taken"
    return f": it looks like {words}" if words else ""


def _instead(words: str, reader: str, wanted: str) -> str:
    """What to do with a file that is no file of the wanted format."""
    if reader:
        return f"read it with {reader}; a command goes by the name: let it end in {ENDINGS[reader]}"
    first = "decrypt it, and " if "encrypted" in words else ""
    return f"{first}save the rows as {wanted}"
