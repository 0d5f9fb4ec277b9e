# SPDX-License-Identifier: Apache-2.0
"""What a run must know of earlier runs before it starts: source numbers and finished steps.

Both are asked often and must never miss what another process has just recorded. So the bulk comes
from the index once, and everything behind it is read from the journal itself.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from datapipe.errors import DatapipeError, ExecutionError, TrustError
from datapipe.lineage import schema
from datapipe.lineage.index import Index
from datapipe.lineage.journal import Journal
from datapipe.lineage.records import START, Mark, Record

LARGEST_SOURCE_NUMBER = 2**24 - 1
FEW_RECORDS = 400
"""So many records are read from the journal in less time than DuckDB needs to start."""


class Recall:
    """The memory of one process over the journal of a store.

    Args:
        journal: The truth.
        index: A short cut over most of it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from datapipe.lineage.objects import Objects
        >>> home = Path(tempfile.mkdtemp())
        >>> journal = Journal(home)
        >>> recall = Recall(journal, Index(home / "i.duckdb", journal, Objects(home, home)))
        >>> recall.source_number("sha256:00", "a", 10), recall.source_number("sha256:01", "b", 5)
        (1, 2)
    """

    def __init__(self, journal: Journal, index: Index) -> None:
        self._journal = journal
        self._index = index
        self._alone = threading.RLock()
        self._mark: Mark | None = None
        self._numbers: dict[tuple[str, str], int] = {}
        self._indexed: dict[str, int] = {}
        self._steps: dict[str, dict[str, Any]] = {}

    def source_number(self, digest: str, name: str, rows: int) -> int:
        """The number of a source: the same content and name always get the same.

        Args:
            digest: Digest of its bytes.
            name: Its short name.
            rows: How many rows it has.

        Returns:
            1 .. 2**24 - 1.

        Raises:
            ExecutionError: All numbers are taken.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
            >>> [lineage.source_number("sha256:00", name, 9) for name in ("a", "b", "a")]
            [1, 2, 1]
        """
        with self._alone, self._journal.writing() as tail:
            self._read_on(tail.mark)
            known = self._numbers.get((digest, name))
            if known is not None:
                return known
            number = max(self._numbers.values(), default=0) + 1
            if number > LARGEST_SOURCE_NUMBER:
                raise ExecutionError(
                    f"this store has numbered {LARGEST_SOURCE_NUMBER} sources, no number is left",
                    code="DP-EXEC-056",
                    hint="begin a new store",
                )
            entry = {"source_no": number, "digest": digest, "name": name, "rows": rows}
            after = self._journal.extend(
                tail, [("source_numbers", schema.checked("source_numbers", entry))]
            )
            self._read_on(after.mark)
        return number

    def find_step(self, key: str) -> dict[str, Any] | None:
        """The newest step that ran with a reuse key.

        Args:
            key: The reuse key.

        Returns:
            Its columns by name, JSON ones parsed; None when no such step has finished.

        Example:
            >>> import tempfile
            >>> from datapipe.lineage.store import Lineage
            >>> Lineage(tempfile.mkdtemp(), create=True).find_step("sha256:00") is None
            True
        """
        with self._alone:
            self._read_on(self._journal.tail().mark)
            if key not in self._steps:
                seq = self._indexed.get(key)
                if seq is None:
                    return None
                self._fetch_run_of(seq)
            return dict(self._steps[key])

    def _read_on(self, until: Mark) -> None:
        if self._mark is None:
            self._mark = self._from_index(until)
        for record in self._journal.read(self._mark, until):
            self._take(record)
        self._mark = until

    def _take(self, record: Record) -> None:
        if record.is_of("source_numbers"):
            body = record.body
            self._numbers[body["digest"], body["name"]] = body["source_no"]
        elif record.is_of("steps"):
            body = record.body
            if body.get("key") and not body.get("reused_from"):
                columns = {c.name: body.get(c.name) for c in schema.tables()["steps"].columns}
                at = schema.moment(body.get("recorded_at") or record.recorded_at)
                self._steps[body["key"]] = columns | {"seq": record.seq, "recorded_at": at}

    def _from_index(self, until: Mark) -> Mark:
        """The bulk, when the index can be read and agrees with the journal; else nothing."""
        if until.seq <= FEW_RECORDS:
            return START
        from datapipe.lineage.console import Limits, opened  # noqa: PLC0415 - for few runs
        from datapipe.lineage.duck import duckdb  # noqa: PLC0415 - the same

        try:
            with opened(self._index.path, Limits(wait_s=1.0)) as connection:
                found = connection.execute(
                    'select seq, segment, "offset", chain from meta '
                    "where schema_version = ? order by seq desc limit 1",
                    [schema.VERSION],
                ).fetchone()
                if found is None or found[0] > until.seq:
                    return START
                numbers = connection.execute(
                    "select digest, name, source_no from source_numbers"
                ).fetchall()
                steps = connection.execute(
                    "select key, max(seq) from steps where reused_from is null "
                    "and key <> '' group by key"
                ).fetchall()
        except (DatapipeError, duckdb.Error):
            return START  # slower, and just as right: the journal is read from its start
        self._numbers = {(digest, name): number for digest, name, number in numbers}
        self._indexed = dict(steps)
        return Mark(found[1], found[2], found[0], bytes.fromhex(found[3]))

    def _fetch_run_of(self, seq: int) -> None:
        """Fetch every step of the run that a wanted one belongs to: its neighbours come next."""
        from datapipe.lineage.console import opened  # noqa: PLC0415 - see above

        wanted = list(self._indexed.values())
        with opened(self._index.path) as connection:
            answer = connection.execute(
                "from steps where run_id = (select run_id from steps where seq = $seq)",
                {"seq": seq},
            )
            names = [column[0] for column in answer.description or ()]
            lines = [dict(zip(names, line, strict=True)) for line in answer.fetchall()]
        types = {c.name: c.type for c in schema.tables()["steps"].columns}
        for line in lines:
            if line["seq"] not in wanted:
                continue
            for name, kind in types.items():
                if kind == "json" and line[name] is not None:
                    line[name] = json.loads(line[name])
            self._steps.setdefault(line["key"], line)
        if not any(line["seq"] == seq for line in lines):
            raise TrustError(
                f"{self._index.path}: record {seq} has gone",
                code="DP-TRUST-705",
                hint="make it again from the journal with `datapipe lineage rebuild`",
                path=str(self._index.path),
            )
