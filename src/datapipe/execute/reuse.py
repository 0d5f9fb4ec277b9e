# SPDX-License-Identifier: Apache-2.0
"""Keys of reuse: when a step need not run again, and how to know without reading the data.

A key is the digest of the stage's code, version and parameters, the digests of what goes in, the
schema with types, the engine versions and the seed. Nothing else can change a result.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from datapipe.core.artifact import Artifact
from datapipe.core.dataset import Dataset
from datapipe.core.digest import canonical, digest_file, digest_json
from datapipe.core.finding import Finding
from datapipe.core.stage import Reader, Stage
from datapipe.errors import TrustError
from datapipe.manifest.plain import content

ENGINES = (pl, pa, np)
"""Packages that every step runs on; they tell their own version, sooner than their metadata."""

BEHIND = {
    "learn": ("scikit-learn",),
    "train": ("torch", "opacus", "safetensors"),
    "validate": ("great-expectations",),
    "export": ("torch", "torchao", "onnx", "onnxruntime"),
    "federated": ("flwr",),
    "encrypted": ("tenseal",),
}
"""Extra to the packages whose version can change a result of its stages."""


@functools.lru_cache(maxsize=64)
def engine_versions(extra: str = "") -> tuple[tuple[str, str], ...]:
    """Installed versions of the engines and of the packages behind an extra.

    Args:
        extra: A stage's extra, or empty.

    Returns:
        (package, version) pairs; `absent` where it is not installed.

    Example:
        >>> dict(engine_versions())["polars"].count(".") >= 1
        True
    """
    told = ((module.__name__, str(module.__version__)) for module in ENGINES)
    return (*told, *((name, _version(name)) for name in BEHIND.get(extra, ())))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def step_key(
    stage: Stage,
    *,
    inputs: Sequence[str],
    seed: int,
    findings: Sequence[Finding] = (),
    artifacts: Mapping[str, Artifact] | None = None,
) -> str:
    """The key under which a step's result can be found again.

    Args:
        stage: The stage.
        inputs: Digests of what goes in: data sets with their roles, sources or files.
        seed: The step's own seed.
        findings: Findings it reads, when it declares that it does.
        artifacts: Artifacts it reads, when it declares that it does.

    Returns:
        A digest.

    Example:
        >>> step_key(Stage(), inputs=["sha256:ab"], seed=1) == step_key(
        ...     Stage(), inputs=["sha256:ab"], seed=2)
        False
    """
    return digest_json(
        {
            "stage": stage.name,
            "version": stage.version,
            "code": stage.code_digest(),
            "params": json.loads(canonical(stage.params())),
            "inputs": list(inputs),
            "engines": engine_versions(stage.extra),
            "seed": seed,
            "findings": [f.to_json() for f in findings],
            "artifacts": sorted(a.digest for a in (artifacts or {}).values()),
        }
    )


def dataset_key(data: Dataset) -> str:
    """What a step can see of its input: bytes, schema with types, roles and source facts.

    Args:
        data: The input.

    Returns:
        A digest.

    Example:
        >>> import pyarrow as pa
        >>> a = Dataset.of(pa.table({"a": pa.array([1], pa.int64())}))
        >>> b = Dataset.of(pa.table({"a": pa.array([1], pa.int32())}))
        >>> dataset_key(a) == dataset_key(b)
        False
    """
    return digest_json(
        {
            "digest": data.digest,
            "types": {name: str(kind) for name, kind in data.types.items()},
            "roles": data.roles.to_json(),
            "sources": [s.to_json() for s in data.sources],
        }
    )


class FileDigests:
    """Digests of files by (path, size, times, inode), so that an unchanged file is not read again.

    It is a cache beside the journal: losing it costs time, never truth.

    Args:
        path: Where the cache is kept.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a").write_text("x")
        >>> cache = FileDigests(folder / "files.json")
        >>> cache.of(folder / "a")[:10], cache.reads
        ('sha256:2d7', 1)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reads = 0
        self._fresh: set[str] = set()
        self._known: dict[str, list[Any]] = {}
        try:
            kept = json.loads(content(path))
            if kept["digest"] == digest_json(kept["files"]):  # a flipped bit must not become truth
                self._known = kept["files"]
        except (OSError, ValueError, KeyError, TypeError, TrustError):
            self._known = {}

    def of(self, file: Path) -> str:
        """The digest of a file's bytes.

        Args:
            file: A regular file.

        Returns:
            The digest, from the cache when the file has not changed.

        Example:
            >>> import tempfile
            >>> FileDigests(Path(tempfile.mkdtemp()) / "files.json").of(Path(__file__))[:7]
            'sha256:'
        """
        stamp = _stamp(file)
        name = str(file.resolve())
        held = self._known.get(name)
        if held is not None and held[:4] == stamp:
            return str(held[4])
        self.reads += 1
        digest = digest_file(file)
        self._known[name] = [*stamp, digest]
        self._fresh.add(name)
        return digest

    def confirm(self, file: Path) -> None:
        """Hash a file again whose digest was only remembered, as its rows are about to be read.

        Args:
            file: A file that `of` was asked about.

        Raises:
            TrustError: Its bytes are others than those that were digested, though size, time and
                inode are the same: a disk that forgets, or somebody who hides a change.

        Example:
            >>> import tempfile
            >>> cache = FileDigests(Path(tempfile.mkdtemp()) / "files.json")
            >>> _ = cache.of(Path(__file__))
            >>> cache.confirm(Path(__file__))
        """
        name = str(file.resolve())
        if name in self._fresh or name not in self._known:
            return
        if digest_file(file) != self._known[name][-1]:
            raise TrustError(
                f"{file}: its bytes have changed, but neither its size nor its time",
                code="DP-TRUST-712",
                hint="copy it again from where it was made; `touch` it if it was meant to change",
                path=str(file),
            )
        self._fresh.add(name)

    def knows(self, file: Path) -> bool:
        """Whether a file's digest is known without reading it.

        Args:
            file: A regular file.

        Returns:
            True when the file has not changed since it was read.

        Example:
            >>> import tempfile
            >>> FileDigests(Path(tempfile.mkdtemp()) / "files.json").knows(Path(__file__))
            False
        """
        held = self._known.get(str(file.resolve()))
        return held is not None and held[:4] == _stamp(file)

    def save(self) -> None:
        """Keep the cache for the next run; a failure to do so is not an error.

        Example:
            >>> import tempfile
            >>> FileDigests(Path(tempfile.mkdtemp()) / "files.json").save()
        """
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = {"files": self._known, "digest": digest_json(self._known)}
            partial.write_bytes(canonical(kept))
            partial.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def source_digest(reader: Reader, digests: FileDigests) -> str:
    """The digest of everything a reader will read.

    Args:
        reader: The reader.
        digests: Cache of file digests.

    Returns:
        A digest over the files' digests in reading order, or of the object in memory.

    Example:
        >>> source_digest(Reader(), FileDigests(Path("none"))).startswith("sha256:")
        True
    """
    files = reader.files()
    if not files:
        return reader.content() or digest_json([])
    if len(files) == 1:
        return digests.of(files[0])
    return digest_json([digests.of(f) for f in files])
