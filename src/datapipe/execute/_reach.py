# SPDX-License-Identifier: Apache-2.0
"""Where a person's rows are: every data set, batch, table, model and export they reached."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401 - puts relations around the engine
import polars as pl

from datapipe.core.digest import CHUNK_ROWS, PREFIX, digest_file
from datapipe.core.roles import ANCESTORS, ORDINAL_BITS, ROW_ID
from datapipe.errors import DeclarationError, TrustError
from datapipe.lineage import sidecars
from datapipe.lineage.engine import started
from datapipe.lineage.objects import bare
from datapipe.lineage.store import Lineage


@dataclass(frozen=True)
class Held:
    """One thing that holds a person's rows, or was made from them.

    Args:
        kind: `dataset`, `table`, `model`, `export`, or `file` for rows that no record names.
        digest: Its digest.
        name: A short name.
        rows: How many of the rows it holds, or was trained on.
        batches: Which batches of a data set they lie in, from 0, in steps of `CHUNK_ROWS` rows.
        run_ids: The runs it belongs to.

    Example:
        >>> Held("model", "sha256:ab", "plain", 3).rows
        3
    """

    kind: str
    digest: str
    name: str
    rows: int
    batches: tuple[int, ...] = ()
    run_ids: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values.

        Returns:
            A dictionary.

        Example:
            >>> Held("table", "sha256:ab", "", 3).to_json()["rows"]
            3
        """
        form: dict[str, Any] = {
            "kind": self.kind,
            "digest": self.digest,
            "name": self.name,
            "rows": self.rows,
            "run_ids": list(self.run_ids),
        }
        return form | ({"batches": list(self.batches)} if self.kind == "dataset" else {})


@dataclass(frozen=True, eq=False)
class Reach:
    """Everything a person's rows reached.

    Args:
        row_ids: Ids of the rows, ascending.
        held: What holds them or was made from them, data sets first.
        sources: Files outside the store that they were read from: `source_no name uri rows`.
        not_looked: Data sets in which nothing names a person, so that only ids could be followed.

    Example:
        >>> Reach(pl.Series([], dtype=pl.UInt64)).rows
        0
    """

    row_ids: pl.Series
    held: tuple[Held, ...] = ()
    sources: tuple[Mapping[str, Any], ...] = ()
    not_looked: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows of their sources are about the person."""
        return len(self.row_ids)

    def of(self, kind: str) -> list[Held]:
        """What is held, of one kind.

        Args:
            kind: `dataset`, `table`, `model` or `export`.

        Returns:
            It, in the order of the store.

        Example:
            >>> Reach(pl.Series([], dtype=pl.UInt64)).of("model")
            []
        """
        return [h for h in self.held if h.kind == kind]


class Stored:
    """The tables of a store, looked at for one person after another.

    Args:
        lineage: The store.

    Raises:
        DeclarationError: No data set of the store names a column for the role `subject`.
        TrustError: A table is not as it was written: nobody can say whose rows were in it, and
            what would take its place would look sound.

    Example:
        >>> Stored.__name__
        'Stored'
    """

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage
        log = lineage.sql("from erased order by seq").to_dicts()
        self._replaced = {
            bare(e["digest"]): e["replaced_by"]
            for e in log
            if e["kind"] == "dataset" and e["remedy"] != "pending"
        }
        self.datasets = self._datasets()
        for digest, path in self._files():
            _refuse_changed(path, digest)
        self.schemas = {name: pl.read_parquet_schema(path) for name, path in self._files()}
        self.positions = {
            digest: covered
            for digest, path in self._files()
            if list(self.schemas[digest]) == ["reason"]
            and (covered := sidecars.covered_by(path)) is not None
        }
        self.columns = self._subject_columns()
        if not self.columns:
            raise DeclarationError(
                f"no data set of {lineage.store} names a column for the role 'subject'",
                code="DP-DECL-070",
                hint="name the person's column with subject=COLUMN where the data are read, and "
                "run the pipeline once more; until then nobody can say whose rows these are",
            )

    def reach(self, subject: str) -> Reach:
        """Everything that a person's rows reached.

        Args:
            subject: The person's id, as it stands in the column of the role `subject`.

        Returns:
            What was found; no rows when the store knows nobody of that id.

        Raises:
            DeclarationError: The id is empty.

        Example:
            >>> Stored.reach.__name__
            'reach'
        """
        if not subject:
            raise DeclarationError(
                "the person's id is empty", code="DP-DECL-071", hint="give it with --subject"
            )
        ids = self._rows_of(subject)
        held = [*self._datasets_with(ids, subject), *self._tables_with(ids)]
        models = list(self._models_with({h.digest for h in held}, ids, subject))
        held += [*models, *self._exports_of(models)]
        looked = {d for d in self.datasets if d in self.columns}
        return Reach(
            ids,
            tuple(held),
            tuple(self._sources_of(ids)),
            tuple(sorted(set(self.datasets) - looked - {h.digest for h in held})),
            self.columns,
        )

    def scan(self, digest: str) -> pl.LazyFrame:
        """A data set or table as a lazy plan.

        Args:
            digest: Its digest.

        Returns:
            The plan, hidden columns included.

        Raises:
            TrustError: Its file has gone since the store was looked at.

        Example:
            >>> Stored.scan.__name__
            'scan'
        """
        path = self.lineage.object_path(digest)
        if path is None:
            raise TrustError(
                f"objects/{bare(digest)} went while the store was read",
                code="DP-TRUST-713",
                hint="`datapipe verify` on the store says what is missing",
                path=str(self.lineage.objects),
            )
        return pl.scan_parquet(path, glob=False)

    def table(self, digest: str) -> pl.LazyFrame:
        """A table of lines about rows, also one that tells of them by position.

        Args:
            digest: Its digest.

        Returns:
            The plan, `row_id` among its columns.

        Example:
            >>> Stored.table.__name__
            'table'
        """
        path, covered = self.lineage.object_path(digest), self.positions.get(digest)
        if path is None or covered is None:
            return self.scan(digest)
        with contextlib.closing(started({})) as connection:
            lines: pl.DataFrame = connection.sql(sidecars.as_list(path, covered)).pl()
        return lines.lazy()

    def mine(self, digest: str, ids: pl.Series, subject: str | None = None) -> pl.Expr:
        """Which lines of a data set are about a person, or were made from a row that is.

        Args:
            digest: The data set.
            ids: Ids of the person's rows.
            subject: The person's id; None where only the ids of the rows are known.

        Returns:
            A boolean expression, never null.

        Example:
            >>> Stored.mine.__name__
            'mine'
        """
        known = ids.implode()
        tests = [pl.col(ROW_ID).is_in(known)]
        if ANCESTORS in self.schemas.get(digest, {}):
            among = pl.col(ANCESTORS).list.eval(pl.element().is_in(known)).list.any()
            tests.append(among.fill_null(value=False))
        tests += [
            pl.col(c).cast(pl.String).eq_missing(pl.lit(subject))
            for c in self.columns.get(digest, ())
            if subject is not None
        ]
        return pl.any_horizontal(tests)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.lineage.objects.glob("*.parquet")):
            yield PREFIX + path.stem, path

    def _datasets(self) -> dict[str, dict[str, Any]]:
        """Data sets whose file is still here, by digest, the newest record of each."""
        lines = self.lineage.sql("from datasets order by seq").to_dicts()
        found: dict[str, dict[str, Any]] = {}
        for line in lines:
            if self.lineage.object_path(line["digest"]) is None:
                continue
            known = found.setdefault(
                line["digest"], {"records": [], "roles": {}, "source_nos": set()}
            )
            known["records"].append(line)
            known["roles"].update(json.loads(line["roles"] or "{}"))
            known["source_nos"].update(json.loads(line["source_nos"] or "[]"))
        return found

    def _subject_columns(self) -> dict[str, tuple[str, ...]]:
        """Columns that name a person: by their role here, or in a data set of the same sources."""
        told: dict[int, set[str]] = {}
        for known in self.datasets.values():
            for number in known["source_nos"]:
                told.setdefault(number, set()).update(known["roles"].get("subject", ()))
        found: dict[str, tuple[str, ...]] = {}
        for digest, known in self.datasets.items():
            names = set(known["roles"].get("subject", ()))
            names.update(*(told[n] for n in known["source_nos"]))
            here = tuple(sorted(names & set(self.schemas.get(digest, {}))))
            if here:
                found[digest] = here
        return found

    def _rows_of(self, subject: str) -> pl.Series:
        none = pl.Series(ROW_ID, [], dtype=pl.UInt64)
        parts = []
        for digest in self.columns:
            test = self.mine(digest, none, subject)
            scan = self.scan(digest)
            parts.append(scan.filter(test).select(ROW_ID))
        found = pl.concat(pl.collect_all(parts)) if parts else pl.DataFrame(none)
        return found[ROW_ID].unique().sort()

    def _datasets_with(self, ids: pl.Series, subject: str) -> Iterator[Held]:
        digests = [d for d, schema in self.schemas.items() if ROW_ID in schema]
        scans = [
            self.scan(d)
            .with_row_index("_place")
            .filter(self.mine(d, ids, subject))
            .select("_place")
            for d in digests
        ]
        for digest, places in zip(digests, pl.collect_all(scans), strict=True):
            if places.height and digest not in self.datasets:  # a crash kept it from being recorded
                yield Held("file", digest, bare(digest)[:12], places.height)
            elif places.height:
                records = self.datasets[digest]["records"]
                yield Held(
                    "dataset",
                    digest,
                    records[-1]["object"] or bare(digest),
                    places.height,
                    tuple((places["_place"] // CHUNK_ROWS).unique().sort().to_list()),
                    tuple(dict.fromkeys(r["run_id"] for r in records)),
                )

    def _tables_with(self, ids: pl.Series) -> Iterator[Held]:
        """Tables of scores, reasons, labels and weights with a line for one of the rows.

        Lists of ids alone tell nothing of anybody and stay.
        """
        digests = [
            d for d, s in self.schemas.items() if "row_id" in s and len(s) > 1 and ROW_ID not in s
        ]
        digests += self.positions
        scans = [
            self.table(d)
            .filter(pl.col("row_id").cast(pl.UInt64).is_in(ids.implode()))
            .select(pl.len())
            for d in digests
        ]
        for digest, found in zip(digests, pl.collect_all(scans), strict=True):
            if found.item():
                yield Held("table", digest, bare(digest)[:12], found.item())

    def _models_with(self, datasets: set[str], ids: pl.Series, subject: str) -> Iterator[Held]:
        """Models whose training rows hold one of the ids; held-out rows trained nothing."""
        lines = self.lineage.sql("from models order by seq").to_dicts()
        counts: dict[str, int] = {}
        runs: dict[str, list[str]] = {}
        names: dict[str, str] = {}
        for line in lines:
            dataset = self._now(line["dataset"])
            if dataset in datasets and (rows := self.trained_on(line, ids, subject)):
                model = line["model_id"]
                counts[model] = max(rows, counts.get(model, 0))
                runs.setdefault(model, []).append(line["run_id"])
                names[model] = line["name"]
        for model, rows in counts.items():
            yield Held("model", model, names[model], rows, (), tuple(dict.fromkeys(runs[model])))

    def trained_on(
        self, model: Mapping[str, Any], ids: pl.Series, subject: str | None = None
    ) -> int:
        """How many lines about a person trained a model; held-out rows trained nothing.

        Args:
            model: Its record.
            ids: Ids of the person's rows.
            subject: The person's id; None where only the ids are known.

        Returns:
            A count.

        Raises:
            TrustError: The data set is not here.

        Example:
            >>> Stored.trained_on.__name__
            'trained_on'
        """
        dataset, held_out = self._now(model["dataset"]), model["held_out_object"]
        scan = self.scan(dataset).filter(self.mine(dataset, ids, subject)).select(ROW_ID)
        path = self.lineage.object_path(held_out) if held_out else None
        if path is not None:
            left_out = pl.scan_parquet(path, glob=False).select(pl.col("row_id").alias(ROW_ID))
            scan = scan.join(left_out, on=ROW_ID, how="anti")
        return int(scan.select(pl.len()).collect().item())

    def _exports_of(self, models: Sequence[Held]) -> Iterator[Held]:
        for line in self.lineage.sql("from exports order by seq").to_dicts():
            for model in models:
                by_name = line["model"] == model.name and line["run_id"] in model.run_ids
                if line["model"] == model.digest or by_name:
                    yield Held(
                        "export", line["export_id"], line["name"], model.rows, (), (line["run_id"],)
                    )
                    break

    def _sources_of(self, ids: pl.Series) -> Iterator[Mapping[str, Any]]:
        numbers = (ids // (1 << ORDINAL_BITS)).value_counts().sort(ids.name).rows()
        facts = self.lineage.sql(
            "select source_no, arg_max(name, seq) as name, arg_max(uri, seq) as uri from sources "
            "group by all"
        )
        known = {line["source_no"]: line for line in facts.to_dicts()}
        for number, rows in numbers:
            if number in known:
                yield {**known[number], "rows": rows}

    def _now(self, dataset: str | None) -> str:
        """A data set as it is after the erasures so far."""
        seen: set[str] = set()
        while dataset and dataset not in self.datasets and dataset not in seen:
            seen.add(dataset)
            dataset = self._replaced.get(bare(dataset), dataset)
        return dataset or ""


def _refuse_changed(path: Path, digest: str) -> None:
    try:
        changed = digest_file(path) != digest
    except OSError:  # no file, or a disk that does not give it back
        changed = True
    if changed:
        raise TrustError(
            f"{path} does not have the digest it is named by",
            code="DP-TRUST-715",
            hint="restore it from a copy of the store, or go on without it: "
            "`datapipe lineage rebuild --accept-loss`",
            path=str(path),
        )
