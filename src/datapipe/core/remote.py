# SPDX-License-Identifier: Apache-2.0
"""Objects in S3-compatible and other stores: copied here before they are read, put there only once.

Nothing is opened unless an address of the user's asks for it and its scheme was allowed: by default
none is. An object that was not there is put by one conditional request and is whole or absent;
stores of objects have no rename to publish by.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import http.client
import os
import shutil
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from datapipe.errors import DeclarationError, ExecutionError

ALLOWED = "DATAPIPE_REMOTE"
"""Names the variable that lists the schemes that may be opened, such as `s3` or `s3,gs`."""
CACHE = "DATAPIPE_CACHE"
"""Names the variable with the folder where copies are kept; `~/.cache/datapipe` when unset."""
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
LARGEST_PUT_BYTES = 5 << 30
"""What one request may carry (5 GiB)."""
PATIENCE_S = 60.0
ATTEMPTS = 5
CONFLICT, ALREADY_THERE = 409, 412
"""HTTP status of a conditional put: another one is under way; there is such an object."""
DIGEST_OF_NOTHING = hashlib.sha256(b"").hexdigest()


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


def permit(uri: str) -> None:
    """Refuse an address whose scheme the user has not allowed.

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
            f"{uri.partition('?')[0]!r} may not be opened",
            code="DP-READ-040",
            hint=f"set {ALLOWED}={uri.partition('://')[0]} to allow it",
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


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3-compatible store, for puts; credentials come from `AWS_*` variables.

    Args:
        name: Its name.
        prefix: What every key begins with.
        endpoint: `http://host:port`; empty for AWS.
        region: Such as `eu-central-1`.

    Example:
        >>> Bucket.of("s3://shelf/runs?endpoint_override=127.0.0.1:9000&scheme=http").endpoint
        'http://127.0.0.1:9000'
    """

    name: str
    prefix: str
    endpoint: str
    region: str

    @classmethod
    def of(cls, uri: str) -> Bucket:
        """The bucket of an address.

        Args:
            uri: `s3://bucket/prefix`, with the query that `fetched` takes.

        Returns:
            The bucket.

        Raises:
            DeclarationError: It is no address of an S3-compatible store.

        Example:
            >>> Bucket.of("s3://shelf").name
            'shelf'
        """
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme != "s3" or not parts.netloc:
            raise DeclarationError(
                f"{uri.partition('?')[0]!r} is no bucket of an S3-compatible store",
                code="DP-USE-090",
                hint="give s3://bucket/prefix",
            )
        told = dict(urllib.parse.parse_qsl(parts.query))
        host = told.get("endpoint_override", "")
        endpoint = f"{told.get('scheme', 'https')}://{host}" if host else ""
        region = told.get("region") or os.environ.get("AWS_REGION") or "us-east-1"
        endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
        return cls(parts.netloc, parts.path.strip("/"), endpoint, region)

    def put(self, key: str, body: bytes | Path) -> bool:
        """Put an object unless there is one: whole in one request, or not at all.

        Args:
            key: Its key below the prefix.
            body: Its bytes, or the file that holds them; at most 5 GiB.

        Returns:
            True when it was put, False when there was one already, which is left as it is.

        Raises:
            DeclarationError: It is larger than one request may be.
            ExecutionError: The store cannot be reached, or refuses.

        Example:
            >>> Bucket("shelf", "", "http://127.0.0.1:1", "x").put("a", b"1")
            Traceback (most recent call last):
            ...
            datapipe.errors.ExecutionError: s3://shelf/a could not be put: ...
        """
        size = body.stat().st_size if isinstance(body, Path) else len(body)
        if size > LARGEST_PUT_BYTES:
            raise DeclarationError(
                f"{key}: {size} bytes are more than one conditional request carries",
                code="DP-USE-091",
                hint="write the result as several data sets",
            )
        full = f"{self.prefix}/{key}" if self.prefix else key
        status, told = 0, ""
        for attempt in range(ATTEMPTS):
            try:
                status, told = self._request(full, body, size)
            except (OSError, http.client.HTTPException) as error:
                raise self._failed(full, str(error)) from error
            if status != CONFLICT:  # else somebody puts the same key at this moment: ask again
                break
            time.sleep(0.1 * 2**attempt)
        if status == ALREADY_THERE:
            return False
        if status not in (200, 201):
            raise self._failed(full, f"status {status} {told[:120]!r}")
        return True

    def _request(self, key: str, body: bytes | Path, size: int) -> tuple[int, str]:
        host, path, secure = self._place(key)
        if isinstance(body, Path):
            with body.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            digest = hashlib.sha256(body).hexdigest()
        headers = {
            "host": host,
            "if-none-match": "*",
            "x-amz-content-sha256": digest,
            "x-amz-date": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        }
        token = os.environ.get("AWS_SESSION_TOKEN", "")
        headers |= {"x-amz-security-token": token} if token else {}
        signed = signature("PUT", path, headers, digest, self.region)
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(host, timeout=PATIENCE_S)
        try:
            full = {**headers, "authorization": signed, "content-length": str(size)}
            if isinstance(body, Path):
                with body.open("rb") as file:
                    connection.request("PUT", path, file, full)
            else:
                connection.request("PUT", path, body, full)
            answer = connection.getresponse()
            return answer.status, answer.read(2000).decode(errors="replace")
        finally:
            connection.close()

    def _place(self, key: str) -> tuple[str, str, bool]:
        """Host, path and whether the connection is encrypted."""
        quoted = urllib.parse.quote(key, safe="/-_.~")
        if not self.endpoint:
            return f"{self.name}.s3.{self.region}.amazonaws.com", f"/{quoted}", True
        parts = urllib.parse.urlsplit(self.endpoint)
        return parts.netloc, f"/{self.name}/{quoted}", parts.scheme != "http"

    def _failed(self, key: str, why: str) -> ExecutionError:
        return ExecutionError(
            f"s3://{self.name}/{key} could not be put: {why}",
            code="DP-EXEC-084",
            hint="check the address, the endpoint and the credentials in the environment",
        )


def signature(method: str, path: str, headers: Mapping[str, str], digest: str, region: str) -> str:
    """The `authorization` header of AWS Signature Version 4, from the `AWS_*` variables.

    Args:
        method: Of the request.
        path: Quoted path, without a query.
        headers: The headers that are signed, lower case, `x-amz-date` among them.
        digest: SHA-256 of the body, hexadecimal.
        region: The region.

    Returns:
        The header's value.

    Example:
        >>> dated = {"host": "h", "x-amz-date": "20260101T000000Z"}
        >>> signature("PUT", "/a", dated, DIGEST_OF_NOTHING, "us-east-1")[:16]
        'AWS4-HMAC-SHA256'
    """
    moment = headers["x-amz-date"]
    names = ";".join(sorted(headers))
    lines = [f"{name}:{headers[name].strip()}" for name in sorted(headers)]
    request = "\n".join([method, path, "", *lines, "", names, digest])
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    hashed = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
    key = b"AWS4" + os.environ.get("AWS_SECRET_ACCESS_KEY", "").encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    sign = hmac.digest(key, text.encode(), "sha256").hex()
    who = os.environ.get("AWS_ACCESS_KEY_ID", "")
    return f"AWS4-HMAC-SHA256 Credential={who}/{scope},SignedHeaders={names},Signature={sign}"
