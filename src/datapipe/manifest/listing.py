# SPDX-License-Identifier: Apache-2.0
"""What lies in a folder, links not followed: plain files of portable names, and what is refused."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from datapipe.errors import TrustError
from datapipe.manifest.checks import Check, Reason

LEFT_OUT = frozenset({".git", ".gitattributes", ".github", ".gitignore"})

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Found:
    """A plain file of a folder, listed and not yet read.

    Args:
        name: Its path relative to the folder, with `/`.
        path: Where it lies.
        size: Its size in bytes.
        stamp: Modification and change time in nanoseconds, and inode: equal stamps and sizes
            mean an untouched file.

    Example:
        >>> Found("a", "/d/a", 3, (0, 0, 0)).size
        3
    """

    name: str
    path: str
    size: int
    stamp: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a folder: plain files, and what is refused.

    Args:
        files: Plain files in code-point order of their names.
        refused: A check for each link, device, pipe and unusable name.

    Example:
        >>> Listing((), ()).files
        ()
    """

    files: tuple[Found, ...]
    refused: tuple[Check, ...]


def list_files(path: str | Path, *, left_out: Iterable[str] = ()) -> Listing:
    """List a folder, or one file, without following links.

    Args:
        path: The folder, or a file: its listing is that file under its own name.
        left_out: Absolute paths to pass over, such as a signature that lies inside.

    Returns:
        The listing; the git files at the top of the folder are passed over, as the OpenSSF
        bundle asks.

    Raises:
        TrustError: There is nothing at the path.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("hi")
        >>> [file.name for file in list_files(folder).files]
        ['a.txt']
    """
    top = str(whole_path(path))
    try:
        if not Path(top).is_dir():
            return _single(top)
        skipped = {str(whole_path(item)) for item in left_out}
        skipped |= {f"{top}/{name}" for name in LEFT_OUT}
        entries = list(_walk(top, "", skipped))
    except OSError as error:
        raise TrustError(
            f"{path} cannot be read: {error.strerror}",
            code=Reason.MISSING.value,
            hint="check the path and its permissions",
            path=str(path),
        ) from error
    files = [entry for entry in entries if isinstance(entry, Found)]
    files.sort(key=attrgetter("name"))
    return Listing(tuple(files), tuple(e for e in entries if isinstance(e, Check)))


def whole_path(path: str | Path) -> Path:
    """The absolute path without `.` and `..`, links not followed.

    Args:
        path: Any path, such as `.`.

    Returns:
        A path whose last part is the name of the folder or file.

    Example:
        >>> whole_path("/data/reviews/sub/..").name
        'reviews'
    """
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow a link


def require_plain(path: str | Path, listing: Listing) -> tuple[Found, ...]:
    """Stop unless a folder holds plain files only, and at least one.

    Args:
        path: The folder, for the message.
        listing: What `list_files` found in it.

    Returns:
        The files.

    Raises:
        TrustError: Something was refused, or there is no file.

    Example:
        >>> require_plain("d", Listing((Found("a", "/d/a", 3, (0, 0, 0)),), ()))[0].name
        'a'
    """
    for check in listing.refused:
        raise refused(path, f"holds {check.name}, which {check.reason}", check.code)
    if not listing.files:
        raise refused(path, "holds no file", Reason.EMPTY_SET)
    return listing.files


def name_problem(name: str) -> Reason | None:
    """Tell what is wrong with the name of a file in a signature.

    Args:
        name: A path relative to the signed folder.

    Returns:
        The reason to refuse it, or None.

    Example:
        >>> name_problem("../a").slug, name_problem("a/b")
        ('parent_path', None)
    """
    if "\\" in name:
        return Reason.BACKSLASH
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        return Reason.ABSOLUTE_PATH
    parts = name.split("/")
    if ".." in parts:
        return Reason.PARENT_PATH
    if "" in parts or "." in parts or _CONTROL.search(name):
        return Reason.BAD_NAME
    try:
        name.encode()
    except UnicodeEncodeError:
        return Reason.BAD_NAME
    return None


def _walk(folder: str, prefix: str, skipped: set[str]) -> Iterator[Found | Check]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.path in skipped:
                continue
            name = prefix + entry.name
            if entry.is_file(follow_symlinks=False) and _PLAIN_NAME.fullmatch(entry.name):
                yield _found(name, entry.path, entry.stat(follow_symlinks=False))
                continue
            problem = None if _PLAIN_NAME.fullmatch(entry.name) else name_problem(entry.name)
            if entry.is_symlink():
                yield Check.refused(f"file {name!r}", "is a symbolic link", Reason.SYMLINK)
            elif problem:
                yield Check.refused(f"file {name!r}", "has a name that is not portable", problem)
            elif entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, name + "/", skipped)
            elif entry.is_file(follow_symlinks=False):
                yield _found(name, entry.path, entry.stat(follow_symlinks=False))
            else:
                yield Check.refused(f"file {name!r}", "is no plain file", Reason.SPECIAL_FILE)


def _single(path: str) -> Listing:
    status = os.lstat(path)
    name = Path(path).name
    if stat.S_ISREG(status.st_mode):
        return Listing((_found(name, path, status),), ())
    link = stat.S_ISLNK(status.st_mode)
    code, what = (
        (Reason.SYMLINK, "is a symbolic link")
        if link
        else (Reason.SPECIAL_FILE, "is no plain file")
    )
    return Listing((), (Check.refused(f"file {name!r}", what, code),))


def _found(name: str, path: str, status: os.stat_result) -> Found:
    return Found(
        name, path, status.st_size, (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    )


def refused(path: str | Path, what: str, reason: Reason) -> TrustError:
    """What is raised about a file or folder that cannot be signed or verified.

    Args:
        path: Where it lies.
        what: What is wrong, as the end of a sentence.
        reason: The same as a code.

    Returns:
        The error.

    Example:
        >>> refused("a", "is a symbolic link", Reason.SYMLINK).message
        'a is a symbolic link'
    """
    return TrustError(
        f"{path} {what}",
        code=reason.value,
        hint="sign and verify folders of plain files",
        path=str(path),
    )
