# SPDX-License-Identifier: Apache-2.0
"""`Lineage`: the store of what ran on what; writes go to the journal, questions to the index."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from datapipe.core.merkle import root as root_of
from datapipe.errors import DeclarationError, ExecutionError
from datapipe.lineage import checkpoints, home, later, schema
from datapipe.lineage.asking import Asking
from datapipe.lineage.burial import bury
from datapipe.lineage.erasing import Erasing, alone, refuse_runs
from datapipe.lineage.garbage import Garbage, garbage, refuse_links, removed
from datapipe.lineage.index import Index
from datapipe.lineage.journal import Journal
from datapipe.lineage.leases import Leases
from datapipe.lineage.load import check_named
from datapipe.lineage.locks import failed, locked
from datapipe.lineage.objects import Objects
from datapipe.lineage.recall import Recall
from datapipe.lineage.records import Entry
from datapipe.lineage.stamp import WOVEN, stamp

if TYPE_CHECKING:
    from datapipe.lineage.check import Problem

log = logging.getLogger("datapipe.lineage")
GC_WAIT_S = 5.0
"""How long `gc` waits for whoever is naming an object or making an index."""


class Lineage:
    """One store: a folder that answers for every row and every figure.

    Any number of processes may write and ask at once. A record is durable when `append` returns;
    the index follows later and can always be made again.

    Args:
        store: The store's folder.
        create: Whether to make it when it is not there.

    Raises:
        DeclarationError: There is no store in that folder.
        ExecutionError: It cannot be made, or a newer datapipe wrote it.

    Example:
        >>> import tempfile
        >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
        >>> lineage.append([("runs", {"run_id": "r1", "pipeline": "demo"})])
        >>> lineage.sql("select run_id, state from run_status").row(0)
        ('r1', 'running')
    """

    def __init__(self, store: Path | str = ".datapipe", *, create: bool = False) -> None:
        self.store = Path(store)
        self.objects = self.store / "objects"
        self._log = self.store / "log"
        self._naming = self.store / "naming.lock"
        self._process = os.getpid()
        if create:
            home.make(self.store)
        home.check(self.store)
        self._journal = Journal(self.store / "journal")
        self._objects = Objects(self.objects, self.store / "tmp")
        self._index = Index(self.store / "lineage.duckdb", self._journal, self._objects)
        self._recall = Recall(self._journal, self._index)
        self._leases = Leases(self.store / "leases")
        self._bury = partial(bury, self._leases, self._journal)
        self._asking = Asking(self._index, self._bury)

    def append(self, records: Sequence[Entry]) -> None:
        """Record what happened, all of it or nothing; it is durable when this returns.

        Args:
            records: (kind, body) pairs; a kind is the name of a promised table, a body holds
                its columns.

        Raises:
            DeclarationError: A kind, a column or a type is wrong, or a named object is not here.
            ExecutionError: The disk is full or failed; nothing was recorded.
            TrustError: The journal has lost records, so that nothing may be added.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> lineage.append([("run_events", {"run_id": "r1", "event": "started"})])
            >>> len(lineage.leaves())
            1
        """
        self._own()
        entries = [(kind, schema.checked(kind, body)) for kind, body in records]
        for kind, body in entries:
            check_named(self._objects, kind, body)
        ids = [(str(b.get("run_id")), b.get("event")) for k, b in entries if k == "run_events"]
        for run_id in [r for r, event in ids if event == "started"]:
            self._hold(run_id)
        if any(kind == "row_edges" for kind, _ in entries):
            stamp(self.store, WOVEN)
        self._journal.append(entries)
        for run_id in [r for r, event in ids if event != "started"]:
            self._leases.let_go(run_id)

    def index(self) -> bool:
        """Bring `lineage.duckdb` up to date with the journal.

        Returns:
            False when another process is bringing it up to date and this one did not wait longer.

        Raises:
            TrustError: Journal, index or a recorded object is damaged.
            ExecutionError: The disk is full.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).index()
            True
        """
        self._own()
        self._bury()
        later.done(self.store)
        return self._index.catch_up()

    def index_later(self) -> None:
        """Leave the index to the next question, or to the end of this program, whichever is first.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).index_later()
        """
        later.at_exit(self.store, self.index)

    def put_object(self, path: Path, *, suffix: str = "", digest: str = "") -> tuple[str, Path]:
        """Move a finished file into the store under the digest of its bytes.

        Args:
            path: The file; it is gone afterwards.
            suffix: Ending of the object's name, such as `.parquet`.
            digest: Its digest where whoever wrote it hashed on the way; empty to hash it here.

        Returns:
            Its digest, and where it is now.

        Raises:
            ExecutionError: The disk is full or failed.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> made = lineage.scratch() / "a"
            >>> _ = made.write_bytes(b"abc")
            >>> lineage.put_object(made, suffix=".bin")[1].suffix
            '.bin'
        """
        self._own()
        return self._objects.put(Path(path), suffix=suffix, digest=digest)

    def put_bytes(self, data: bytes, *, suffix: str = "") -> tuple[str, Path]:
        """Keep some bytes under their digest.

        Args:
            data: The bytes.
            suffix: Ending of the object's name.

        Returns:
            Their digest, and where they are.

        Raises:
            ExecutionError: The disk is full or failed.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).put_bytes(b"")[0][:14]
            'sha256:e3b0c44'
        """
        self._own()
        return self._objects.put_bytes(data, suffix=suffix)

    def object_path(self, digest: str) -> Path | None:
        """Where an object is.

        Args:
            digest: Its digest, with or without `sha256:`.

        Returns:
            Its path, or None when it is not here.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).object_path("sha256:00") is None
            True
        """
        return self._objects.find(digest)

    def scratch(self) -> Path:
        """A fresh folder on the store's file system, which the caller removes.

        Returns:
            An empty folder; those of dead processes are swept on the way.

        Raises:
            ExecutionError: It cannot be made.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).scratch().is_dir()
            True
        """
        self._own()
        return self._objects.scratch()

    def source_number(self, digest: str, name: str, rows: int) -> int:
        """The number of a source in this store: the same content and name always get the same.

        Args:
            digest: Digest of its bytes.
            name: Its short name.
            rows: How many rows it has.

        Returns:
            1 .. 2**24 - 1, durable when this returns.

        Raises:
            ExecutionError: All numbers are taken, or the disk is full.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> [lineage.source_number(d, "a", 9) for d in ("sha256:00", "sha256:01", "sha256:00")]
            [1, 2, 1]
        """
        self._own()
        return self._recall.source_number(digest, name, rows)

    def find_step(self, key: str) -> dict[str, Any] | None:
        """The newest step that ran with a reuse key, whichever process recorded it.

        Steps that were themselves reused are passed over, so that `step_id` is always the one that
        did the work.

        Args:
            key: The reuse key.

        Returns:
            Its columns by name, `params` and `result` parsed; None when there is none.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> lineage.append([("steps", {"step_id": "s1", "key": "k", "result": {"rows": 3}})])
            >>> lineage.find_step("k")["result"]
            {'rows': 3}
        """
        self._own()
        return self._recall.find_step(key)

    def leaves(self) -> list[bytes]:
        """The leaf of every journal record, in order (RFC 6962).

        Returns:
            Hashes of 32 bytes.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).leaves()
            []
        """
        self._own()
        return [record.leaf for record in self._journal.read(until=self._journal.tail().mark)]

    def root(self, size: int | None = None) -> tuple[int, bytes]:
        """The Merkle root over the journal, for a checkpoint.

        Args:
            size: Over how many records; None for all there are.

        Returns:
            How many records it covers, and the root of 32 bytes.

        Raises:
            DeclarationError: The journal has fewer records.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).root()[0]
            0
        """
        self._own()
        tree = self._journal.tail().tree
        if size is None or size == tree.size:
            return tree.size, tree.root
        if not 0 <= size < tree.size:
            raise DeclarationError(
                f"the journal has {tree.size} records, not {size}",
                code="DP-DECL-053",
                hint=f"give a size within 0..{tree.size}",
            )
        return size, root_of(self.leaves()[:size])

    def put_checkpoint(self, size: int, root: bytes | str, note: str) -> None:
        r"""Keep a signed checkpoint beside the journal, and record that it was given out.

        Args:
            size: How many records it covers.
            root: Their Merkle root: 32 bytes, or hexadecimal or base64 text.
            note: The signed note.

        Raises:
            ExecutionError: The disk is full or failed.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> lineage.put_checkpoint(*lineage.root(), "datapipe\n0\n")
            >>> (lineage.store / "log" / "checkpoint").read_text()
            'datapipe\n0\n'
        """
        self._own()
        told = {"size": size, "root": checkpoints.hexadecimal(root), "note": note}
        checkpoints.keep(self._log, size, note)
        self.append([("log_checkpoints", told)])

    def sql(self, query: str, **values: object) -> pl.DataFrame:
        """Ask in SQL over the promised tables and views; nothing can be changed or leaked by it.

        Args:
            query: One question, such as `from dropped_rows where run_id = $run`.
            values: Values of its `$name` parameters.

        Returns:
            The rows; a column of what a frame cannot hold (intervals, a date of infinity) as text.

        Raises:
            DeclarationError: It is not one question, or SQL that cannot be understood.
            ExecutionError: It took too long or too much, or the index is held by a writer.
            TrustError: Journal, index or a recorded object is damaged.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).sql("from dropped_rows").height
            0
        """
        self._own()
        from datapipe.lineage.console import answered  # noqa: PLC0415 - DuckDB is for who asks

        with self._asking.guarded() as connection:
            return answered(connection, self._index.path, query, values)

    def why(self, row: int | str) -> dict[str, Any]:
        """Where a row came from, what was thought of it and where it went.

        Args:
            row: A row id, or `source:ordinal` such as `1:1429`.

        Returns:
            `row_id source_no ordinal source file dropped history labels models exports`, JSON
            values only.

        Raises:
            DeclarationError: The store has no such row.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> lineage.append([("sources", {"source_no": 1, "name": "reviews", "rows": 2000})])
            >>> lineage.why("1:1429")["dropped"]
            []
        """
        self._own()
        from datapipe.lineage.known import Known  # noqa: PLC0415 - DuckDB is for who asks
        from datapipe.lineage.rows import why  # noqa: PLC0415 - the same

        with self._asking.connection() as connection:
            return why(connection, row, self._asking.kept(lambda: Known.read(connection)))

    def trace(self, digest: str) -> dict[str, Any]:
        """The way back from an object to its sources, and forward to what was made of it.

        Args:
            digest: A digest or its first eight or more digits, with or without `sha256:`.

        Returns:
            `digest kind name run_id dataset steps sources made attestations privacy`, JSON values
            only.

        Raises:
            DeclarationError: No object has this digest, or several begin with these digits.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> lineage.append([("datasets", {"digest": "sha256:ab12cd34ef", "run_id": "r1"})])
            >>> lineage.trace("ab12cd34")["digest"]
            'sha256:ab12cd34ef'
        """
        self._own()
        from datapipe.lineage.trace import trace  # noqa: PLC0415 - DuckDB is for who asks

        with self._asking.connection() as connection:
            return trace(connection, digest)

    def verify(self) -> list[Problem]:
        """Whether everything in the store is as it was recorded.

        Looks at every frame of the journal, every checkpoint's root, every object's digest and
        every line of the index. Who signed a checkpoint is not looked at here.

        Returns:
            What is wrong, each with the file's name; empty when nothing is.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).verify()
            []
        """
        from datapipe.lineage.check import Check  # noqa: PLC0415 - DuckDB is for who asks

        self._own()
        return Check(self.store, self._journal, self._objects, self._index).problems()

    def rebuild(self, *, accept_loss: bool = False) -> None:
        """Make the index anew from the journal alone.

        Args:
            accept_loss: Whether to go on when the journal or objects have lost or damaged parts.
                What cannot be read is moved aside; older checkpoints may no longer hold. A run
                makes lost objects again, and the next rebuild takes them in.

        Raises:
            TrustError: The journal or a recorded object is damaged.
            ExecutionError: The disk is full, or another process is making the index all the time.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).rebuild()
        """
        self._own()
        if accept_loss:
            self._journal.accept()
            for name in self._objects.set_aside_damaged(self.store / "damaged"):
                log.warning("objects/%s was damaged and is now in damaged/", name)
        self._index.rebuild(accept_loss=accept_loss)

    @contextlib.contextmanager
    def erasing(self) -> Iterator[Erasing]:
        """Open the store for taking something out of it: `datapipe.execute.erase` does.

        Yields:
            What objects are removed and records are redacted with.

        Raises:
            ExecutionError: A run is going on, or another erasure.

        Example:
            >>> import tempfile
            >>> with Lineage(tempfile.mkdtemp(), create=True).erasing() as erasing:
            ...     erasing.remove("sha256:00")
        """
        self._own()
        self._bury()
        with alone(self.store, self._leases):
            yield Erasing(self.store, self._journal, self._objects, self._index)
        self._asking.close()  # it still holds the index as it was

    def gc(self, *, dry_run: bool = True, older_than_s: float = 3600.0) -> list[Garbage]:
        """Find files that nothing needs, and remove them when told to.

        Args:
            dry_run: Whether only to look.
            older_than_s: Younger files are left alone, in seconds.

        Returns:
            What is, or was, in the way.

        Raises:
            ExecutionError: A run is going on, a folder of the store is a link to somewhere else, or
                a file cannot be removed.
            TrustError: The journal is damaged, so that nobody can say what is needed.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> _ = lineage.put_bytes(b"left by a crash")
            >>> [g.size_bytes for g in lineage.gc(older_than_s=0)]
            [15]
        """
        self._own()
        self._bury()
        if dry_run:
            return self._garbage(older_than_s)
        with alone(self.store, self._leases):
            refuse_links(self.store)
            with locked(self._naming, wait_s=GC_WAIT_S), locked(self._index.lock, wait_s=GC_WAIT_S):
                refuse_runs(self.store, self._leases)
                found = self._garbage(older_than_s)
                removed(found)
        return found

    def _garbage(self, older_than_s: float) -> list[Garbage]:
        records = self._journal.read(until=self._journal.tail().mark)
        return garbage(self.store, records, older_than_s=older_than_s)

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Keep `gc` out between putting an object and recording its name, outside of a run.

        Yields:
            Nothing.

        Raises:
            ExecutionError: `gc` is at work and does not come to an end.

        Example:
            >>> import tempfile
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> with lineage.naming():
            ...     lineage.put_bytes(b"a statement")[0][:7]
            'sha256:'
        """
        self._own()
        with locked(self._naming, shared=True):
            yield

    def close(self) -> None:
        """Let go of what this process holds: its temporary folders and the leases of its runs.

        Example:
            >>> import tempfile
            >>> Lineage(tempfile.mkdtemp(), create=True).close()
        """
        if os.getpid() == self._process:
            self._objects.close()
            self._leases.close()
            self._asking.close()

    def _hold(self, run_id: str) -> None:
        try:
            with self.naming():  # either `gc` sees the lease, or the run begins after it
                self._leases.hold(run_id)
        except OSError as error:
            raise failed(error, f"run {run_id} cannot be leased in {self.store}") from error

    def _own(self) -> None:
        """A store opened before a fork would write with its parent's idea of where the end is."""
        if os.getpid() != self._process:
            raise ExecutionError(
                f"{self.store} was opened by process {self._process}, this is its child "
                f"{os.getpid()}",
                code="DP-EXEC-057",
                hint="open the store again in the child: Lineage(store)",
            )
