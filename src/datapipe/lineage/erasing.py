# SPDX-License-Identifier: Apache-2.0
"""The one place where something leaves a store: objects go, records are redacted, proofs stay.

Nothing is taken out before the journal says that it will be: a crash in between leaves a store that
still holds some of it, and the same erasure asked for again goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datapipe.core.digest import PREFIX, canonical
from datapipe.errors import ExecutionError
from datapipe.lineage.durable import sync_folder
from datapipe.lineage.erasures import Erasures, was_erased
from datapipe.lineage.frames import LEAF_BYTES
from datapipe.lineage.index import Index
from datapipe.lineage.journal import Journal
from datapipe.lineage.leases import Leases
from datapipe.lineage.load import sound_object
from datapipe.lineage.locks import failed, locked
from datapipe.lineage.objects import Objects
from datapipe.lineage.records import Record
from datapipe.lineage.schema import FROM_OBJECT
from datapipe.lineage.stamp import ERASED, stamp


class Erasing:
    """A store opened for taking things out of it.

    Args:
        store: Its folder.
        journal: Its journal.
        objects: Its objects.
        index: Its index.

    Raises:
        TrustError: An object with rows that the index tells of is damaged, or was lost and nobody
            accepted that: when all is done the index could not be made anew, or would know less.

    Example:
        >>> import tempfile
        >>> from datapipe.lineage.store import Lineage
        >>> with Lineage(tempfile.mkdtemp(), create=True).erasing() as erasing:
        ...     len(list(erasing.records()))
        0
    """

    def __init__(self, store: Path, journal: Journal, objects: Objects, index: Index) -> None:
        self.store = store
        self._journal = journal
        self._objects = objects
        self._index = index
        self._refuse_losses()

    def records(self) -> Iterator[Record]:
        """Every record of the journal.

        Yields:
            Records in order.

        Example:
            >>> Erasing.records.__name__
            'records'
        """
        yield from self._journal.read(until=self._journal.tail().mark)

    def redact(self, left: Mapping[int, bytes]) -> None:
        """Put less in the place of some records, after a record of kind `erased` said so.

        Args:
            left: Number of a record to what `what_is_left` gave for it.

        Raises:
            ExecutionError: The disk is full or failed.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> with Lineage(tempfile.mkdtemp(), create=True).erasing() as erasing:
            ...     erasing.redact({})
        """
        stamp(self.store, ERASED)
        self._journal.redact(left)

    def remove(self, digest: str) -> None:
        """Remove an object, after a record of kind `erased` said so.

        Args:
            digest: Its digest; one that is not here is no error.

        Raises:
            ExecutionError: It cannot be removed.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> digest, path = lineage.put_bytes(b"abc")
            >>> with lineage.erasing() as erasing:
            ...     erasing.remove(digest)
            >>> path.exists()
            False
        """
        path = self._objects.find(digest)
        if path is None:
            return
        stamp(self.store, ERASED)
        try:
            path.unlink()
            sync_folder(path.parent)
        except OSError as error:
            raise failed(error, f"{path} cannot be removed") from error

    def clear(self) -> None:
        """Remove what only saves time or was never acknowledged, and make the index anew.

        The old index is a file of its own that goes as a whole, so that nothing is left in pages
        that a database would free and not overwrite.

        Raises:
            ExecutionError: The disk is full, or a reader holds the index.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> with Lineage(tempfile.mkdtemp(), create=True).erasing() as erasing:
            ...     erasing.clear()
        """
        for path in self._journal.torn():
            path.unlink(missing_ok=True)
        for name in ("cache", "partial", "damaged"):
            shutil.rmtree(self.store / name, ignore_errors=True)
        self._index.rebuild(accept_loss=True)  # what was lost before was accepted before
        self._index.path.with_suffix(".damaged").unlink(missing_ok=True)

    def _refuse_losses(self) -> None:
        erasures = Erasures(self.records()) if was_erased(self.store) else None
        for record in self.records():
            held_out = record.kind == "models"
            table = "model_held_out" if held_out else record.kind
            if not held_out and table not in FROM_OBJECT:
                continue
            named = str(record.body.get("held_out_object" if held_out else "object") or "")
            named = erasures.now(named, record.seq) if erasures and named else named
            lost = named and self._objects.find(named) is None
            if named and not (lost and self._knows_less(table, record.seq)):
                sound_object(self._objects, named, f"{table} of record {record.seq}")

    def _knows_less(self, table: str, seq: int) -> bool:
        """Whether the index was made without the rows of a record already."""
        from datapipe.lineage.console import opened  # noqa: PLC0415 - for the rare loss

        asked = f"select count(*) from {table} where seq = ?"  # noqa: S608 - our names
        if not self._index.path.is_file():
            return False
        with opened(self._index.path) as connection:
            return not connection.execute(asked, [seq]).fetchall()[0][0]


def what_is_left(record: Record, body: Mapping[str, Any]) -> tuple[bytes, str]:
    """What takes a record's place, and its digest.

    Args:
        record: The record as it is.
        body: What may stay of its columns.

    Returns:
        The payload, which fits into the record's frame, and the digest that `erased` commits to.

    Example:
        >>> payload = b'{"at":"t","blind":"' + b"0" * 32 + b'","body":{"a":"x"},"kind":"k","seq":1}'
        >>> what_is_left(Record(1, payload, b""), {"a": ""})[0]
        b'{"at":"t","body":{"a":""},"kind":"k","seq":1}'
    """
    form = {name: value for name, value in record.form.items() if name != "blind"}
    room = len(record.payload) - (0 if record.erased else LEAF_BYTES)
    payload = canonical({**form, "body": dict(body)})
    if len(payload) > room:
        payload = canonical({**form, "body": {}})
    return payload, PREFIX + hashlib.sha256(payload).hexdigest()


@contextlib.contextmanager
def alone(store: Path, leases: Leases) -> Iterator[None]:
    """Keep other erasures out, and refuse to begin while a run works on the store.

    Args:
        store: Its folder.
        leases: Its leases.

    Yields:
        Nothing.

    Raises:
        ExecutionError: A run is going on, or another erasure.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with alone(folder, Leases(folder / "leases")):
        ...     print("alone")
        alone
    """
    with locked(store / "erase.lock", wait_s=5.0):
        refuse_runs(store, leases)
        yield


def refuse_runs(store: Path, leases: Leases) -> None:
    """Refuse to go on while a run works on the store.

    Args:
        store: Its folder.
        leases: Its leases.

    Raises:
        ExecutionError: A run is going on.

    Example:
        >>> refuse_runs(Path("nowhere"), Leases(Path("nowhere/leases")))
    """
    running = leases.living()
    if running:
        raise ExecutionError(
            f"{len(running)} runs are going on in {store}: {', '.join(running[:3])}",
            code="DP-EXEC-058",
            hint="let them finish first: they may be reading what would go",
        )
