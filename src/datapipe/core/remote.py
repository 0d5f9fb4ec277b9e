# SPDX-License-Identifier: Apache-2.0
"""Objects in S3-compatible and other stores: copied here before they are read.

Nothing is opened unless an address of the user's asks for it and its scheme was allowed: by default
none is.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from datapipe.errors import DeclarationError, ExecutionError

ALLOWED = "DATAPIPE_REMOTE"
"""Names the variable that lists the schemes that may be opened, such as `s3` or `s3,gs`."""
CACHE = "DATAPIPE_CACHE"
"""Names the variable with the folder where copies are kept; `~/.cache/datapipe` when unset."""
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")


def allowed(uri: str) -> bool:
    """Whether an address may be opened.

    Args:
        uri: Such as `s3://bucket/key`.

    Returns:
        Whether it is one of a store of objects, and the user has allowed its scheme.

    Example:
        >>> allowed("https://example.org/a.parquet")
        False
    """
    scheme = uri.partition("://")[0]
    told = os.environ.get(ALLOWED, "").replace(" ", "").split(",")
    return "://" in uri and scheme in SCHEMES and scheme in told


def bare(uri: str) -> str:
    """An address as it may be shown and recorded: without what stands before `@` and behind `?`.

    Args:
        uri: The address.

    Returns:
        The address without names, passwords and settings.

    Example:
        >>> bare("s3://key:secret@bucket/a.parquet?region=eu-west-1")
        's3://bucket/a.parquet'
    """
    scheme, there, rest = uri.partition("?")[0].partition("://")
    if not there:
        return uri
    server, slash, key = rest.partition("/")
    who, at, place = server.rpartition("@")
    named = f"{who}@{place}" if at and ":" not in who and scheme.startswith("abfs") else place
    return f"{scheme}://{named}{slash}{key}"


def has_password(uri: str) -> bool:
    """Whether an address holds a password: it would be recorded with the source.

    Args:
        uri: The address.

    Returns:
        Whether there is a colon before its `@`.

    Example:
        >>> has_password("s3://key:secret@bucket/a"), has_password("s3://bucket/a:b@c")
        (True, False)
    """
    return ":" in uri.partition("://")[2].partition("/")[0].rpartition("@")[0]


def permit(uri: str) -> None:
    """Refuse an address whose scheme the user has not allowed, or that holds a password.

    Args:
        uri: The address.

    Raises:
        DeclarationError: It may not be opened.

    Example:
        >>> permit("gs://bucket/a")
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: 'gs://bucket/a' may not be opened [DP-READ-040]
        <BLANKLINE>
        hint: set DATAPIPE_REMOTE=gs to allow it
    """
    if not allowed(uri):
        raise DeclarationError(
            f"{bare(uri)!r} may not be opened",
            code="DP-READ-040",
            hint=f"set {ALLOWED}={uri.partition('://')[0]} to allow it",
        )
    if has_password(uri):
        raise DeclarationError(
            f"{bare(uri)!r} was given with a password, which the store would keep for ever",
            code="DP-READ-042",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or their like, instead",
        )


def fetched(uri: str) -> tuple[Path, ...]:
    """Copies on this machine of the objects that an address means; a known one is not copied again.

    Args:
        uri: `s3://bucket/key`; `*` stands for any letters in the last part of the key. A query
            such as `?endpoint_override=127.0.0.1:9000&scheme=http` names another server.

    Returns:
        The copies, sorted by key.

    Raises:
        DeclarationError: No object has this address, or its scheme is not allowed.
        ExecutionError: The store cannot be reached, or refuses.

    Example:
        >>> fetched("s3://bucket/a.parquet")
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: 's3://bucket/a.parquet' may not be opened [DP-READ-040]
        <BLANKLINE>
        hint: set DATAPIPE_REMOTE=s3 to allow it
    """
    permit(uri)
    from pyarrow import fs  # noqa: PLC0415 - only where an address asks for it

    address, _, query = uri.partition("?")
    plain, pattern = address, PurePosixPath(address).name
    if any(sign in pattern for sign in "*["):
        plain = address.rpartition("/")[0]
    try:
        system, path = fs.FileSystem.from_uri(f"{plain}?{query}" if query else plain)
        found = (
            [i for i in system.get_file_info(fs.FileSelector(path)) if _fits(i.base_name, pattern)]
            if plain != address
            else [system.get_file_info(path)]
        )
        files = sorted((i for i in found if i.type == fs.FileType.File), key=lambda i: i.path)
        if not files:
            raise DeclarationError(
                f"{address}: there is no such object", code="DP-READ-041", hint="check the key"
            )
        return tuple(_copied(system, info, address.partition("://")[0]) for info in files)
    except OSError as error:
        raise ExecutionError(
            f"{address} cannot be read: {str(error).splitlines()[0][:200]}",
            code="DP-EXEC-083",
            hint="check the address, the endpoint and the credentials in the environment",
        ) from error


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


def _copied(system: Any, info: Any, scheme: str) -> Path:
    """One object as a file: its path changes when the object does, and sorts as its key does."""
    home = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "datapipe")
    stamp = f"{scheme}:{info.path}:{info.size}:{info.mtime_ns}"
    key = PurePosixPath(info.path)
    above = hashlib.sha256(f"{scheme}:{key.parent}".encode()).hexdigest()[:16]
    folder = home / "remote" / above / key.name / hashlib.sha256(stamp.encode()).hexdigest()[:16]
    target = folder / key.name
    if target.is_file() and target.stat().st_size == info.size:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{target.name}.{os.getpid()}"
    try:
        with system.open_input_stream(info.path) as source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        if partial.stat().st_size != info.size:
            raise ExecutionError(
                f"{scheme}://{info.path} changed while it was copied, or came short",
                code="DP-EXEC-085",
                hint="run again",
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
