# SPDX-License-Identifier: Apache-2.0
"""Puts into a bucket of an S3-compatible store, each only once.

An object that was not there is put by one conditional request and is whole or absent; stores of
objects have no rename to publish by.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import os
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from datapipe.errors import DeclarationError, ExecutionError

LARGEST_PUT_BYTES = 5 << 30
"""What one request may carry (5 GiB)."""
PATIENCE_S = 60.0
ATTEMPTS = 5
ALREADY_THERE = 412
"""HTTP status of a conditional put: there is such an object."""
AGAIN = (409, 429, 500, 502, 503, 504)
"""Another put of the key is under way; too many requests; the store asks for a moment."""
NOT_THERE, SERVER_ERROR = 404, 500
DIGEST_OF_NOTHING = hashlib.sha256(b"").hexdigest()


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

        A request that had no answer, or that the store could not take at the moment, is made again;
        what such a request had put all the same is found and counts as put.

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
        size = _size(body)
        if size > LARGEST_PUT_BYTES:
            raise DeclarationError(
                f"{key}: {size} bytes are more than one conditional request carries",
                code="DP-USE-091",
                hint="write the result as several data sets",
            )
        full = self._full(key)
        status, told, unsure = 0, "", False
        for attempt in range(ATTEMPTS):
            time.sleep(0.1 * 2**attempt if attempt else 0)
            try:
                with self._asked("PUT", full, body) as answer:
                    status, told = answer.status, answer.read(2000).decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS - 1 or isinstance(error, ConnectionRefusedError):
                    raise self._failed(full, str(error) or type(error).__name__) from error
                unsure = True  # it may have been put, and only the answer was lost
                continue
            unsure = unsure or status >= SERVER_ERROR
            if status not in AGAIN:
                break
        if status == ALREADY_THERE:
            return unsure and self.holds(key, body)
        if status not in (200, 201):
            raise self._failed(full, f"status {status} {told[:120]!r}")
        return True

    def holds(self, key: str, body: bytes | Path, *, whole: bool = True) -> bool:
        """Whether the object at a key is these bytes.

        Args:
            key: Its key below the prefix.
            body: The bytes, or the file that holds them.
            whole: Whether to read it all; else its size tells.

        Returns:
            False as well when there is none.

        Raises:
            ExecutionError: The store cannot be reached, or refuses.

        Example:
            >>> Bucket.holds.__name__
            'holds'
        """
        full = self._full(key)
        try:
            with self._asked("GET" if whole else "HEAD", full) as answer:
                if answer.status not in (200, NOT_THERE):
                    raise self._failed(full, f"status {answer.status}", "looked at")
                if answer.status == NOT_THERE:
                    return False
                if not whole:
                    return int(answer.headers.get("content-length") or -1) == _size(body)
                return hashlib.file_digest(answer, "sha256").hexdigest() == _digest(body)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(full, str(error) or type(error).__name__, "looked at") from error

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    @contextlib.contextmanager
    def _asked(
        self, method: str, key: str, body: bytes | Path | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """One signed request; a put is made on the condition that nothing is there."""
        host, path, secure = self._place(key)
        digest = DIGEST_OF_NOTHING if body is None else _digest(body)
        headers = {
            "host": host,
            "x-amz-content-sha256": digest,
            "x-amz-date": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        }
        headers |= {} if body is None else {"if-none-match": "*"}
        token = os.environ.get("AWS_SESSION_TOKEN", "")
        headers |= {"x-amz-security-token": token} if token else {}
        headers["authorization"] = signature(method, path, headers, digest, self.region)
        headers |= {} if body is None else {"content-length": str(_size(body))}
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        with contextlib.closing(connect(host, timeout=PATIENCE_S)) as connection:
            if isinstance(body, Path):
                with body.open("rb") as file:
                    connection.request(method, path, file, headers)
            else:
                connection.request(method, path, body, headers)
            yield connection.getresponse()

    def _place(self, key: str) -> tuple[str, str, bool]:
        """Host, path and whether the connection is encrypted."""
        quoted = urllib.parse.quote(key, safe="/-_.~")
        if not self.endpoint:
            return f"{self.name}.s3.{self.region}.amazonaws.com", f"/{quoted}", True
        parts = urllib.parse.urlsplit(self.endpoint)
        return parts.netloc, f"/{self.name}/{quoted}", parts.scheme != "http"

    def _failed(self, key: str, why: str, done: str = "put") -> ExecutionError:
        return ExecutionError(
            f"s3://{self.name}/{key} could not be {done}: {why}",
            code="DP-EXEC-084",
            hint="check the address, the endpoint and the credentials in the environment",
        )


def _size(body: bytes | Path) -> int:
    return body.stat().st_size if isinstance(body, Path) else len(body)


def _digest(body: bytes | Path) -> str:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
