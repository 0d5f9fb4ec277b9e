# SPDX-License-Identifier: Apache-2.0
"""Whether a store still is what was recorded: journal, checkpoints, objects and index.

Signatures are checked a floor above; here it is the structure that must hold. Nothing is mended on
the way, and one kind of damage does not keep the others from being told.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.core.digest import PREFIX, digest_file
from datapipe.core.merkle import Frontier
from datapipe.errors import DatapipeError, ExecutionError, TrustError
from datapipe.lineage import schema
from datapipe.lineage.console import opened
from datapipe.lineage.duck import duckdb
from datapipe.lineage.engine import started
from datapipe.lineage.erasures import Erasures
from datapipe.lineage.frames import BrokenFrame
from datapipe.lineage.index import Index
from datapipe.lineage.journal import Journal
from datapipe.lineage.load import fill, make
from datapipe.lineage.objects import Objects, bare
from datapipe.lineage.records import Record
from datapipe.manifest import plain

_TOLD_LINES = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing in a store that is not as it was recorded.

    Args:
        path: The file, relative to the store.
        code: A stable short code.
        says: What is wrong with it.

    Example:
        >>> str(Problem("objects/ab12", "DP-TRUST-704", "the digest differs"))
        'objects/ab12: the digest differs [DP-TRUST-704]'
    """

    path: str
    code: str
    says: str

    def __str__(self) -> str:
        return f"{self.path}: {self.says} [{self.code}]"


class Check:
    """One look at a store.

    Args:
        store: Its folder.
        journal: Its journal.
        objects: Its objects.
        index: Its index.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> journal, objects = Journal(home), Objects(home / "objects", home / "tmp")
        >>> index = Index(home / "lineage.duckdb", journal, objects)
        >>> [problem.path for problem in Check(home, journal, objects, index).problems()]
        ['format']
    """

    def __init__(self, store: Path, journal: Journal, objects: Objects, index: Index) -> None:
        self._store = store
        self._journal = journal
        self._objects = objects
        self._index = index
        self._records: list[Record] = []

    def problems(self) -> list[Problem]:
        """Everything that is not as it was recorded, the journal first.

        Returns:
            Problems, empty when all is sound.

        Raises:
            ExecutionError: The index is held by somebody else, so that it cannot be looked at.

        Example:
            >>> import tempfile
            >>> home = Path(tempfile.mkdtemp())
            >>> _ = (home / "format").write_text("datapipe store 1")
            >>> journal, objects = Journal(home), Objects(home / "objects", home / "tmp")
            >>> Check(home, journal, objects, Index(home / "i.duckdb", journal, objects)).problems()
            []
        """
        found = [*self._format(), *self._frames()]
        sound = not found
        found += self._checkpoints()
        found += self._stored_objects()
        if sound:  # an index can only be held against a journal that is whole
            found += self._indexed()
        return found

    def _format(self) -> Iterator[Problem]:
        stamp = self._store / "format"
        text = plain.content(stamp).decode(errors="replace") if stamp.is_file() else ""
        words = text.split()
        stamped = len(words) == 3 and words[:2] == ["datapipe", "store"] and words[2].isdigit()
        if not stamped or int(words[2]) < 1:  # layouts count from 1; newer ones are refused before
            yield Problem("format", "DP-TRUST-707", "does not say which layout the store has")

    def _frames(self) -> Iterator[Problem]:
        """Damage to the journal, and records that were acknowledged and are gone."""
        head = self._journal.acknowledged()
        broken: DatapipeError | None = None
        try:
            self._records.extend(self._journal.read())
        except TrustError as error:
            broken = error
        count = len(self._records)
        stated = head.mark.seq if head else 0
        if head is None and (count or broken is not None):
            yield Problem("journal/head", "DP-TRUST-708", "missing or damaged")
        elif head is not None and count >= stated and not self._agrees(head.tree):
            yield Problem("journal/head", "DP-TRUST-708", "does not fit the journal")
        torn = isinstance(broken, BrokenFrame) and count >= stated  # never acknowledged
        if broken is not None and (not torn or head is None):
            yield Problem(self._named(getattr(broken, "path", "")), broken.code, broken.message)
        elif count < stated:
            says = f"tail lost: {stated} records were acknowledged, the journal has {count}"
            yield Problem(self._last_segment(), "DP-TRUST-702", says)
        yield from self._redacted()
        yield from self._beyond()

    def _redacted(self) -> Iterator[Problem]:
        """Records with less in them than was recorded, and no erasure that accounts for it."""
        erasures = Erasures(self._records)
        for record in self._records:
            if record.erased and not erasures.covers(record):
                says = f"record {record.seq} was redacted, and no erasure says so"
                yield Problem("journal", "DP-TRUST-711", says)

    def _agrees(self, tree: Frontier) -> bool:
        grown = Frontier()
        for record in self._records[: tree.size]:
            grown = grown.grown(record.leaf)
        return grown == tree

    def _beyond(self) -> Iterator[Problem]:
        """Segments behind a gap: nothing leads to them."""
        for place, number in enumerate(self._journal.segments(), 1):
            if place != number:
                missing = self._named(str(self._journal.segment(place)))
                yield Problem(missing, "DP-TRUST-702", f"missing, though segment {number} is there")
                return

    def _checkpoints(self) -> Iterator[Problem]:
        """Checkpoints that the journal no longer keeps, by what was recorded and what is filed."""
        recorded = [r.body for r in self._records if r.is_of("log_checkpoints")]
        recorded = [
            b for b in recorded if None not in (b.get("size"), b.get("root"), b.get("note"))
        ]
        noted: dict[int, list[bytes]] = {}
        for body in recorded:  # two runs at once may have signed the same size
            noted.setdefault(int(body["size"]), []).append(str(body["note"]).encode())
        roots = [(f"log/{b['size']}.note", int(b["size"]), str(b["root"])) for b in recorded]
        folder = self._store / "log"
        files = [p for p in folder.glob("*.note") if p.stem.isdigit()] if folder.is_dir() else []
        for path in sorted(files, key=lambda p: int(p.stem)):
            text, known = _note(path), noted.get(int(path.stem))
            if known is not None and text not in known:
                yield Problem(f"log/{path.name}", "DP-TRUST-709", "is not a note that was recorded")
            elif known is None:
                stated = _stated(text)
                if stated is None:
                    yield Problem(f"log/{path.name}", "DP-TRUST-709", "is no checkpoint")
                else:
                    roots.append((f"log/{path.name}", *stated))
        there = {p.name for p in files}
        for size in sorted(noted):
            if f"{size}.note" not in there:
                yield Problem(f"log/{size}.note", "DP-TRUST-709", "missing")
        yield from self._newest(recorded)
        yield from self._roots(roots)

    def _newest(self, recorded: list[dict[str, Any]]) -> Iterator[Problem]:
        """`log/checkpoint` is one of the notes; which one, two runs at once may decide."""
        path = self._store / "log" / "checkpoint"
        if not path.exists():
            if recorded:
                yield Problem("log/checkpoint", "DP-TRUST-709", "missing")
            return
        text = _note(path)
        filed = [_note(p) for p in path.parent.glob("*.note")]
        if text not in filed and text not in [str(b["note"]).encode() for b in recorded]:
            yield Problem("log/checkpoint", "DP-TRUST-709", "is not a note that was recorded")

    def _roots(self, stated: list[tuple[str, int, str]]) -> Iterator[Problem]:
        """One walk over the journal gives the root at every size that a checkpoint names."""
        wanted = {size for _, size, _ in stated}
        tree = Frontier()
        roots = {0: tree.root.hex()}
        for record in self._records:
            tree = tree.grown(record.leaf)
            if tree.size in wanted:
                roots[tree.size] = tree.root.hex()
        for path, size, root in stated:
            if size > tree.size:
                says = (
                    f"tail lost: the last checkpoint covers {size} records, store has {tree.size}"
                )
                yield Problem(path, "DP-TRUST-702", says)
            elif roots[size] != root:
                says = f"the first {size} records are not those that were signed: another root"
                yield Problem(path, "DP-TRUST-710", says)

    def _stored_objects(self) -> Iterator[Problem]:
        """Objects whose bytes have changed, and objects that records name and nobody has."""
        names = self._objects.names()
        for name in names:
            if digest_file(self._objects.folder / name) != PREFIX + bare(name):
                says = "does not have the digest it is named by"
                yield Problem(f"objects/{name}", "DP-TRUST-704", says)
        there = {bare(name) for name in names}
        erasures = Erasures(self._records)
        for digest, seqs in self._referenced().items():
            if digest not in there and erasures.now(digest, seqs[-1]) == digest:
                says = f"missing, named by record {seqs[0]}"
                yield Problem(f"objects/{digest}", "DP-TRUST-703", says)

    def _referenced(self) -> dict[str, list[int]]:
        """Object to the records that name it, in the order of the first."""
        found: dict[str, list[int]] = {}
        for record in self._records:
            body = record.body
            names = [body.get(c) for c in ("object", "rows_object", "held_out_object")]
            names += [body.get(c) for c in ("model_id", "export_id", "replaced_by")]
            if record.kind == "artifacts":
                names.append(body.get("digest"))
            for name in names:
                if name:
                    found.setdefault(bare(str(name)), []).append(record.seq)
        return found

    def _indexed(self) -> Iterator[Problem]:
        """Lines of the index that the journal does not give, and lines that are missing."""
        path = self._index.path
        try:
            with contextlib.suppress(ExecutionError):  # no room, no leave to write: it is as it is
                self._index.catch_up()
            if not path.exists():
                return
            with contextlib.closing(started({})) as truth:
                make(truth)
                with opened(path) as connection:
                    seq = connection.execute("select max(seq) from meta").fetchone()
                if seq is None or seq[0] is None:
                    return
                erasures = Erasures(self._records)
                fill(truth, self._records[: seq[0]], self._objects, erasures)
                quoted = str(path).replace("'", "''")
                truth.execute(f"attach '{quoted}' as found (read_only)")
                yield from _differences(truth, path.name)
        except ExecutionError:
            raise  # somebody holds it: that it could not be looked at does not make it false
        except DatapipeError as error:
            if error.code not in ("DP-TRUST-703", "DP-TRUST-704"):  # told among the objects
                where = getattr(error, "path", "") or str(path)
                yield Problem(self._named(where), error.code, error.message)
        except duckdb.Error as error:
            yield Problem(path.name, "DP-TRUST-705", str(error).splitlines()[0])

    def _named(self, path: str) -> str:
        with contextlib.suppress(ValueError):
            return str(Path(path).relative_to(self._store))
        return path

    def _last_segment(self) -> str:
        return self._named(str(self._journal.segment(max(self._journal.segments(), default=1))))


_UNLIKE = """
select distinct seq from (
  select * exclude (side)
  from (select *, 1 as side from main.$table union all select *, -1 from found.main.$table)
  group by all having sum(side) <> 0
) order by seq
"""
"""Lines that one side has more often than the other; half the work of `except all` both ways."""


def _differences(truth: duckdb.DuckDBPyConnection, name: str) -> Iterator[Problem]:
    for table in schema.tables():
        if table == "meta":
            continue
        seqs = truth.execute(_UNLIKE.replace("$table", table)).fetchall()
        if seqs:
            told = ", ".join(str(seq) for (seq,) in seqs[:_TOLD_LINES])
            more = ", …" if len(seqs) > _TOLD_LINES else ""
            says = f"{table} is not what the journal gives: records {told}{more}"
            yield Problem(name, "DP-TRUST-706", says)
    views = "select view_name, sql from duckdb_views() where not internal and database_name = "
    here, there = (
        dict(truth.execute(f"{views}{database}").fetchall())
        for database in ("current_database()", "'found'")
    )
    for view in sorted(here.keys() | there.keys()):
        if here.get(view) != there.get(view):
            yield Problem(name, "DP-TRUST-706", f"the view {view} is not the promised one")


def _note(path: Path) -> bytes:
    """The bytes of a checkpoint; none of what is no file, which is no checkpoint then."""
    try:
        return plain.content(path)
    except TrustError:
        return b""


def _stated(note: bytes) -> tuple[int, str] | None:
    """Size and root of a checkpoint note: its second and third lines."""
    parts = note.split(b"\n")
    try:
        return int(parts[1]), base64.b64decode(parts[2], validate=True).hex()
    except (IndexError, ValueError, binascii.Error):
        return None
