# SPDX-License-Identifier: Apache-2.0
"""One stage on trial: runs it in a closed room and remembers what it did there."""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_batches, digest_file, digest_json
from datapipe.core.stage import KEPT_BY_THE_EXECUTOR, Reader, Stage, Yield
from datapipe.errors import DatapipeError
from datapipe.testing.rows import ordinary_rows


class Offline(OSError):
    """A connection that was refused because a trial has no network.

    Example:
        >>> isinstance(Offline("example.org"), OSError)
        True
    """


class Skip(Exception):
    """A check does not apply; its text says why.

    Example:
        >>> str(Skip("it has no parameters"))
        'it has no parameters'
    """


@dataclass(eq=False)
class Trial:
    """A stage, the rows it is tried on, and what running it left behind.

    Args:
        stage: The stage.
        given: Rows to try it on; None makes ordinary ones from its `needs`.
        seed: Seed of every run.
        calls: Addresses outside this machine that it tried to reach.
        litter: Files it wrote outside its scratch folder.

    Example:
        >>> Trial(Stage(), None).data.names
        ['x0', 'x1']
    """

    stage: Stage
    given: Dataset | None
    seed: int = 7
    calls: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    _rooms: list[tempfile.TemporaryDirectory[str]] = field(default_factory=list)

    @cached_property
    def data(self) -> Dataset:
        """The rows it is tried on."""
        return self.given if self.given is not None else ordinary_rows(self.stage)

    @cached_property
    def first(self) -> Yield | Exception:
        """What the first run gave, or the error it ended with; later checks compare with it."""
        try:
            return self.run(self.data)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
            return error

    def made(self) -> Yield:
        """What the first run gave, for checks that need one.

        Returns:
            The yield.

        Raises:
            Skip: The stage did not run, which another check reports.

        Example:
            >>> class Idle(Stage):
            ...     def run(self, data: Dataset, context: Context) -> Yield:
            ...         return Yield()
            >>> Trial(Idle(), None).made().findings
            ()
        """
        self.must_run()
        if isinstance(self.first, Exception):
            raise Skip("it did not run")
        return self.first

    def must_run(self) -> None:
        """Leave a check that runs the stage when the stage cannot be run on rows alone.

        Raises:
            Skip: It is a reader, or needs what a step before makes.

        Example:
            >>> Trial(Stage(), None).must_run()
        """
        if isinstance(self.stage, Reader) and self.given is None:
            raise Skip("a reader is tried on files of its own")
        others = [used for used in self.stage.uses if used not in KEPT_BY_THE_EXECUTOR]
        if others:
            raise Skip(f"needs a {others[0]} of a step before it")

    def run(self, data: Dataset) -> Yield:
        """Run the stage in an empty folder without a network.

        Args:
            data: The rows.

        Returns:
            What the stage gave.

        Example:
            >>> class Idle(Stage):
            ...     def run(self, data: Dataset, context: Context) -> Yield:
            ...         return Yield()
            >>> trial = Trial(Idle(), None)
            >>> trial.run(trial.data).data is None
            True
        """
        room = tempfile.TemporaryDirectory(prefix="datapipe-trial-")
        self._rooms.append(room)  # artifacts are looked at later
        scratch = Path(room.name) / "scratch"
        outside = Path(room.name) / "outside"
        scratch.mkdir()
        outside.mkdir()
        with inside(outside), _offline(self.calls):
            made = self.stage.run(data, Context(seed=self.seed, scratch=scratch))
            if isinstance(made, Yield) and made.data is not None:
                _ = made.data.digest  # a lazy result is worked out here, where it is watched
        self.litter += [p.name for p in outside.rglob("*")]
        if isinstance(made, Yield):
            self.litter += [a.name for a in made.artifacts if scratch not in a.path.parents]
        return made

    def answer(self, data: Dataset) -> Yield | DatapipeError:
        """Run the stage on awkward rows: an answer, or one of our own errors.

        Args:
            data: The rows.

        Returns:
            What the stage gave, or the error by which it refused. Any other error passes through.

        Example:
            >>> type(Trial(Stage(), None).answer(ordinary_rows(Stage()))).__name__
            'DeclarationError'
        """
        try:
            return self.run(data)
        except DatapipeError as error:
            return error

    def close(self) -> None:
        """Remove what the runs left on disk.

        Example:
            >>> Trial(Stage(), None).close()
        """
        for room in self._rooms:
            room.cleanup()


def fingerprint(made: Yield) -> str:
    """The digest of all that a stage gave: rows, findings, artifacts.

    Args:
        made: What it gave.

    Returns:
        The digest in the house form.

    Example:
        >>> fingerprint(Yield()) == fingerprint(Yield())
        True
    """
    artifacts = [
        {**a.to_json(), "path": digest_file(a.path), "digest": "", "rows": _of(a.row_ids)}
        for a in made.artifacts
    ]
    return digest_json(
        {
            "data": None if made.data is None else made.data.digest,
            "findings": [{**f.to_json(), "rows": _of(f.rows)} for f in made.findings],
            "set_aside": _of(made.set_aside),
            "label_changes": _of(made.label_changes),
            "artifacts": artifacts,
        }
    )


def _of(frame: pl.DataFrame | pl.Series | None) -> str:
    if frame is None:
        return ""
    table = (frame.to_frame() if isinstance(frame, pl.Series) else frame).to_arrow()
    return digest_batches(table.schema, table.to_batches())


@contextmanager
def other_globals() -> Iterator[None]:
    """Global random generators in another state than usual, put back afterwards.

    Yields:
        Nothing; the states are put back when the block ends.

    Example:
        >>> with other_globals():
        ...     random.random() == random.random()
        False
    """
    before = global_states()
    random.seed(987)
    np.random.seed(987)  # noqa: NPY002 - the legacy generator is what must have no influence
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(987)
    try:
        yield
    finally:
        random.setstate(before["random"])
        np.random.set_state(before["numpy"])  # noqa: NPY002 - as above
        if torch is not None and "torch" in before:
            torch.random.set_rng_state(before["torch"])


def global_states() -> dict[str, Any]:
    """The states of the global random generators of Python, numpy and, where loaded, torch.

    Returns:
        Name of the library to its state.

    Example:
        >>> {"random", "numpy"} <= global_states().keys()
        True
    """
    states: dict[str, Any] = {
        "random": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - the legacy generator is what we watch
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch"] = torch.random.get_rng_state()
    return states


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Another working directory for a while.

    Args:
        folder: The directory.

    Yields:
        Nothing; the working directory is put back when the block ends.

    Example:
        >>> with inside(Path("/")):
        ...     Path.cwd() == Path("/")
        True
    """
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _offline(calls: list[str]) -> Iterator[None]:
    """Let no connection leave this machine, and note each that was tried."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any, /) -> None:
        host = str(address[0]) if isinstance(address, tuple) else ""
        if host and not host.startswith(("127.", "::1", "localhost")):
            calls.append(host)
            raise Offline(host)
        connect(self, address)

    socket.socket.connect = refuse  # type: ignore[method-assign,assignment]  # watched, then restored
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]  # as it was
