# SPDX-License-Identifier: Apache-2.0
"""What every reader shares: its parameters, the facts of its source, and missing labels."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import pyarrow as pa

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, Piece
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.parameters import AnyPath, Kept, PositiveInt, Texts, as_texts
from datapipe.core.roles import HIDDEN, ORDINAL_BITS, ROLES, ROW_ID, Roles
from datapipe.core.source import Source
from datapipe.core.stage import Reader, Yield
from datapipe.errors import LimitExceeded, Malformed, SchemaMismatch, in_a_line
from datapipe.stages.ingest import _files

OnMissing = Literal["refuse", "quarantine"]
_FEATURES = ("text", "image", "weight", "annotator", "id")
_ONE_VALUE = ("text", "id", "annotator", "group", "subject", "source", "weight", "time")
"""Roles whose column holds one value a row; labels may be sets of classes, images lists."""
"""Roles that cannot be played by the column that is to be predicted."""
ASIDE_SCHEMA = {"row_id": pl.UInt64, "reason": pl.String}
MAX_ROWS = 2**32 - 2
"""Rows of one source: what a polars row index can count; the id itself has room for 2**40."""
MOST_DIGITS = 38
"""Of a decimal that polars holds."""
_UNHELD = (
    pa.types.is_union,
    pa.types.is_run_end_encoded,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
    pa.types.is_interval,
)


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read: a lazy frame with row ordinals, and what was left out.

    Args:
        frame: The rows with `_row_id` = 0-based ordinal of the record, uint64.
        counts: Records of each file in reading order, those set aside included.
        aside: Records that were set aside: `row_id`, `reason`.
        findings: What the reader says of the records.
        pieces: The same rows file by file, where a slice can be read on its own.
    """

    frame: pl.LazyFrame
    counts: tuple[int, ...]
    aside: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ASIDE_SCHEMA))
    findings: tuple[Finding, ...] = ()
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True)
class SourceReader(Reader):
    """The parameters that name columns and declare facts; what they are read from comes below.

    A label that is missing (null, NaN, an empty text) stops the run, because every later stage
    would have to guess; `missing_labels="quarantine"` sets these rows aside instead. A source may
    well hold one class of several; `fewest_classes=2` refuses one that should hold them all.
    """

    _: KW_ONLY
    id: str = ""
    text: Texts = ""
    image: str = ""
    label: str = ""
    annotator: str = ""
    group: Texts = ()
    subject: str = ""
    source: str = ""
    weight: str = ""
    time: str = ""
    named: str = ""
    origin: str = ""
    licence: str = ""
    consent: Literal["", "granted", "denied"] = ""
    synthetic: bool | None = None
    generator: str = ""
    manifest: AnyPath = ""
    missing_labels: OnMissing = "refuse"
    fewest_classes: PositiveInt = 1

    def roles(self) -> Roles:
        """The roles it declares, before a byte is read."""
        return Roles.of(**{role: getattr(self, role) for role in ROLES})

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without reading."""
        if wrong := super().check():
            return wrong
        twice = [r for r in _FEATURES if self.label and self.label in as_texts(getattr(self, r))]
        wrong.extend(
            f"{self.name}: the column {self.label!r} is named as {role} and as label"
            for role in twice
        )
        return wrong

    def run(self, data: Dataset, context: Context) -> Yield:
        """Read the source; nothing is read before this."""
        made = self._read(context)
        where, total = self._uri(), sum(made.counts)
        frame, names = made.frame, made.frame.collect_schema().names()
        roles = self.roles().resolved(names, where=where)
        if total == 0:
            raise Malformed(
                f"{where} has no rows", code="DP-READ-007", hint="give a file that holds rows"
            )
        if total > min(MAX_ROWS, 2**ORDINAL_BITS - 1):
            raise LimitExceeded(
                f"{where} has {total} rows; one source may have {MAX_ROWS}",
                code="DP-READ-021",
                hint="split it into several readers",
            )
        self._playable(frame, roles, made)
        findings, aside = list(made.findings), made.aside
        if "label" in roles:
            without, finding = self._without_label(frame, roles.one("label"), made)
            findings.append(finding)
            aside = aside.vstack(without)
            if without.height:
                frame = frame.filter(~_missing(roles.one("label"), frame.collect_schema()))
            self._enough_classes(frame, roles.one("label"))
        if aside.height >= total:
            raise Malformed(
                f"{where}: all {total} rows would be set aside",
                code="DP-READ-007",
                hint="mend the file; the reasons of the first rows are the place to start",
            )
        rows = total - aside.height
        pieces = () if aside.height else made.pieces
        kept = Dataset(frame, roles, sources=(self._facts(made),), rows=rows, pieces=pieces)
        return Yield(data=kept, set_aside=aside if aside.height else None, findings=tuple(findings))

    @abstractmethod
    def _read(self, context: Context) -> Reading:
        """Read the rows; records that cannot be read without guessing are refused or set aside."""

    @abstractmethod
    def _uri(self) -> str:
        """What is read, as the user named it."""

    def _default_name(self) -> str:
        return self._uri()

    def _paths(self) -> tuple[Path, ...]:
        return self.files()

    def _facts(self, made: Reading) -> Source:
        paths = self._paths()
        return Source(
            name=self.named or self._default_name(),
            uri=self._uri(),
            origin=self.origin,
            licence=self.licence,
            consent=self.consent,
            synthetic=self.synthetic,
            generator=self.generator,
            manifest=str(self.manifest),
            rows=sum(made.counts),
            files=tuple((str(p), n) for p, n in zip(paths, made.counts, strict=bool(paths))),
        )

    def _without_label(
        self, frame: pl.LazyFrame, label: str, made: Reading
    ) -> tuple[pl.DataFrame, Finding]:
        """The rows whose label is missing, or the refusal that names the first of them."""
        gone = frame.filter(_missing(label, frame.collect_schema())).select(ROW_ID)
        try:
            ids = gone.collect(engine="streaming")[ROW_ID]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise Malformed(
                f"{self._uri()}: the column {label!r} cannot be read to its end",
                code="DP-READ-006",
                hint="copy the file again from where it was made",
            ) from error
        total = sum(made.counts) - made.aside.height
        words = f"labels are missing in {ids.len()} of {total} rows"
        if ids.len() and self.missing_labels == "refuse":
            file, row = self._place(int(ids.sort()[0]), made)
            raise Malformed(
                f"{file}:{row}:{label}: {words}, first at row {row}",
                code="DP-READ-010",
                hint="mend the file, or set these rows aside with missing_labels='quarantine'",
            )
        reasons = ["label is missing"] * ids.len()
        aside = pl.DataFrame({"row_id": ids, "reason": reasons}, ASIDE_SCHEMA)
        return aside, Finding(
            "ingest.missing_labels",
            "suspect" if ids.len() else "clean",
            Estimate.exact(ids.len() / total if total else 0.0, n=total),
            words,
            "low" if ids.len() else "info",
            columns=(label,),
            details={"missing": ids.len(), "rows": total},
            remedy="label these rows" if ids.len() else "",
        )

    def _playable(self, frame: pl.LazyFrame, roles: Roles, made: Reading) -> None:
        """Refuse what cannot play its role: lists, structures, text that is not UTF-8."""
        types = frame.collect_schema()
        for role, name in ((r, n) for r in _ONE_VALUE for n in roles.all(r)):
            if types[name].is_nested():
                raise SchemaMismatch(
                    f"{self._uri()}: the column {name!r}, named as {role}, holds {types[name]}",
                    code="DP-READ-026",
                    hint="name a column of one value a row: take the field or the items out first",
                )
        for name in roles.all("label"):
            if types[name] == pl.Duration:
                raise SchemaMismatch(
                    f"{self._uri()}: the column {name!r}, named as label, holds {types[name]}",
                    code="DP-READ-026",
                    hint="write the spans of time as numbers, such as seconds",
                )
        for name in roles.all("text"):
            if types[name] != pl.Binary:
                continue
            with contextlib.suppress(pl.exceptions.PolarsError):
                frame.select(pl.col(name).cast(pl.String)).collect(engine="streaming")
                continue
            ids, values = frame.select(ROW_ID, name).collect(engine="streaming")
            first = next((i for i, v in zip(ids, values, strict=True) if not _is_text(v)), 0)
            file, row = self._place(first, made)
            raise Malformed(
                f"{file}:{row}:{name}: named as text, and its bytes are not UTF-8",
                code="DP-READ-013",
                hint="decode the column when the file is made, or name another one as text",
            )

    def _enough_classes(self, frame: pl.LazyFrame, label: str) -> None:
        """Refuse labels of which nothing can be learnt or judged."""
        if self.fewest_classes < 2:  # then it need not be read
            return
        found = frame.select(pl.col(label)).unique().collect(engine="streaming").height
        if 0 < found < self.fewest_classes:
            classes = "one class only" if found == 1 else f"{found} classes"
            raise Malformed(
                f"{self._uri()}: the column {label!r} holds {classes};"
                f" at least {self.fewest_classes} were expected",
                code="DP-READ-025",
                hint="name another label column, or leave it out",
            )

    def _place(self, ordinal: int, made: Reading) -> tuple[str, int]:
        """The file of a record and its 1-based number in that file."""
        for path, count in zip(self._paths(), made.counts, strict=False):
            if ordinal < count:
                return str(path), ordinal + 1
            ordinal -= count
        return self._uri(), ordinal + 1


@dataclass(frozen=True)
class FileReader(SourceReader):
    """A reader of local files, in sorted order."""

    path: Annotated[_files.Paths, Kept(_files.spelled)] = field(kw_only=False)

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without reading."""
        if wrong := super().check():
            return wrong
        paths = self._spelled()
        told = [_files.scheme_problem(p) for p in paths] if paths else ["no path was given"]
        return [f"{self.name}: {problem}" for problem in told if problem]

    def files(self) -> tuple[Path, ...]:
        """The files it reads, sorted."""
        return _files.expand(self._spelled())

    def _spelled(self) -> tuple[str, ...]:
        return _files.each(_files.spelled(self.path))

    def _uri(self) -> str:
        return ",".join(self._spelled())

    def _default_name(self) -> str:
        """The file's stem; for a glob over files, the folder's name."""
        first = Path(self._spelled()[0])
        stem = first.stem.strip("*?[]-_. ")
        return stem or first.parent.name or "source"


def _is_text(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _missing(label: str, types: pl.Schema) -> pl.Expr:
    """Whether a label is null, NaN, an empty text or the text NaN."""
    column = pl.col(label)
    if types[label].is_float():
        return column.is_null() | column.is_nan()
    if types[label] == pl.String:
        return column.is_null() | column.str.strip_chars().is_in(["", "nan", "NaN"])
    return column.is_null()


def refuse_reserved(names: Sequence[str], where: str) -> None:
    """Refuse columns that the house needs for itself, patterns, and names that occur twice."""
    taken = [name for name in HIDDEN if name in names]
    if taken:
        raise SchemaMismatch(
            f"{where} has a column called {taken[0]!r}, which names rows in the store",
            code="DP-READ-008",
            hint="rename the column, then read it with id= if it is your own row key",
        )
    patterns = [n for n in names if n == "*" or (n.startswith("^") and n.endswith("$"))]
    if patterns:  # polars would take other columns for it
        raise SchemaMismatch(
            f"{where} has a column called {patterns[0]!r}, which reads as a pattern of names",
            code="DP-READ-008",
            hint="rename the column",
        )
    twice = repeated(names)
    if twice:
        raise Malformed(
            f"{where}: the column name {twice[0]!r} occurs twice",
            code="DP-READ-015",
            hint="give every column its own name",
        )


def refuse_types(schema: pa.Schema, where: str) -> None:
    """Refuse columns of types that polars cannot hold: it would fail in the midst of a run."""
    for column in schema:
        odd = _unheld(column.type)
        if odd is not None:
            raise SchemaMismatch(
                f"{where}: the column {column.name!r} holds {odd}, which cannot be computed with",
                code="DP-READ-027",
                hint="write the times in UTC"
                if pa.types.is_timestamp(odd)
                else "write it as plain numbers, texts or lists, or leave it out",
            )


def _unheld(kind: pa.DataType) -> pa.DataType | None:
    """The type, or the part of it, that polars cannot hold; None where it holds all."""
    if isinstance(kind, pa.BaseExtensionType):
        return _unheld(kind.storage_type)
    if pa.types.is_timestamp(kind) and not _is_zone(kind.tz):
        return kind
    if pa.types.is_decimal(kind):
        return kind if kind.precision > MOST_DIGITS else None
    if any(test(kind) for test in _UNHELD):
        return kind
    parts = [kind.field(i).type for i in range(kind.num_fields)]
    if pa.types.is_dictionary(kind):
        parts = [kind.value_type]
    return next((odd for part in parts if (odd := _unheld(part)) is not None), None)


def _is_zone(name: str | None) -> bool:
    """Whether polars knows a time zone; it ends the process over one that it does not."""
    if name is None:
        return True
    try:
        pl.Series([0]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").dt.convert_time_zone(
            name
        )
    except pl.exceptions.PolarsError:
        return False
    return True


def repeated(names: Sequence[str]) -> list[str]:
    """The names that occur more than once, sorted."""
    if len(set(names)) == len(names):
        return []
    return sorted(n for n, count in Counter(names).items() if count > 1)


def scanned(frame: pl.LazyFrame, where: str) -> pl.LazyFrame:
    """A scanned frame with uint64 ordinals first and extension types replaced by their storage."""
    try:
        types = frame.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise Malformed(
            f"{where}: its schema cannot be read: {in_a_line(error)}",
            code="DP-READ-006",
            hint="write the file again with a current Parquet or Arrow library",
        ) from error
    bare = [pl.col(n).ext.storage() for n, t in types.items() if isinstance(t, pl.Extension)]
    return frame.with_columns(pl.col(ROW_ID).cast(pl.UInt64), *bare)


def pieced(
    scan: Callable[[Path, int], pl.LazyFrame],
    files: Sequence[Path],
    counts: Sequence[int],
    stored: Sequence[tuple[int, int]],
) -> tuple[Piece, ...]:
    """The files one by one, their rows numbered on; `stored` tells of each its bytes and groups."""
    before, found = 0, []
    for path, count, told in zip(files, counts, stored, strict=True):
        found.append(Piece(scanned(scan(path, before), str(path)), count, *told))
        before += count
    return tuple(found)
