# SPDX-License-Identifier: Apache-2.0
"""What is a person's own among the bytes of a store, and what is left when it is taken out.

Rows go whole. Beside them a store holds words about rows: findings name triggers and values, files
of models may hold a vocabulary. A text there is the person's own when it is their id, or when it is
a value (or a word) of their rows that no other row of the store has.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from datapipe.lineage.records import Record

SHORTEST_VALUE = 4
"""Values shorter than this (`yes`, `m`) name nobody."""
SHORTEST_BYTES = 6
"""A shorter run of bytes turns up in the weights of a model by chance."""

_WORD = re.compile(r"\w+")
_FREE_TEXT: Mapping[str, tuple[str, ...]] = {
    "findings": ("says", "details", "remedy"),
    "models": ("facts",),
    "exports": ("facts",),
    "artifacts": ("facts",),
    "run_events": ("detail",),
}
"""Columns of records in which a stage may tell of values; all others hold names and figures."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "runs": ("pipeline", "params"),
    "steps": ("params", "result"),
    "step_io": ("name",),
    "sources": ("name", "uri", "origin", "files"),
    "source_numbers": ("name",),
    "models": ("name",),
    "exports": ("name",),
    "artifacts": ("name",),
}
"""Columns whose texts a user chose, such as a file's name: a person's id may stand there."""


@dataclass(frozen=True)
class Own:
    """Texts that are a person's own.

    Args:
        subject: The person's id.
        values: Whole values of their rows.
        words: Words of their texts.

    Example:
        >>> own = Own("ada-17", frozenset({"my red bicycle"}), frozenset({"bicycle"}))
        >>> own.in_text("rows of ada-17"), own.in_text("about a BICYCLE"), own.in_text("17")
        (True, False, False)
    """

    subject: str
    values: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()

    def in_text(self, text: str) -> bool:
        """Whether a text holds the id or a whole value.

        Args:
            text: Any text.

        Returns:
            True when it does.

        Example:
            >>> Own("7").in_text("7"), Own("7").in_text("0.7"), Own("7").in_text("row 7")
            (True, False, False)
        """
        if text == self.subject or text in self.values:
            return True
        if len(self.subject) >= SHORTEST_VALUE and self.subject in text:
            bounded = rf"(?<!\w){re.escape(self.subject)}(?!\w)"
            if re.search(bounded, text):
                return True
        return any(value in text for value in self.values)

    def in_words(self, text: str) -> bool:
        """Whether a text that names something (a trigger, a term) has a word of theirs.

        Args:
            text: Any text.

        Returns:
            True when it does.

        Example:
            >>> Own("ada-17", words=frozenset({"bicycle"})).in_words("red bicycle")
            True
        """
        return self.in_text(text) or not self.words.isdisjoint(_WORD.findall(text))


def own_texts(
    subject: str, mine: Sequence[pl.LazyFrame], others: Sequence[pl.LazyFrame], asked: Iterable[str]
) -> Own:
    """The texts of a person's rows that no other row has, as far as they turn up elsewhere.

    Args:
        subject: The person's id.
        mine: Their rows, a frame a data set.
        others: All other rows, a frame a data set.
        asked: The texts in which content may be found.

    Returns:
        The texts that are their own.

    Example:
        >>> mine = pl.LazyFrame({"t": ["my red bicycle", "shared words"]})
        >>> others = pl.LazyFrame({"t": ["shared words", "a red car"]})
        >>> own = own_texts("ada", [mine], [others], ["bicycle red", "my red bicycle"])
        >>> sorted(own.values), sorted(own.words)
        (['my red bicycle'], ['bicycle'])
    """
    values = {v for v in _texts(mine) if len(v) >= SHORTEST_VALUE}
    words = {w for v in values for w in _WORD.findall(v) if len(w) >= SHORTEST_VALUE}
    told = list(asked)
    told_words = {w for text in told for w in _WORD.findall(text)}
    suspect_words = words & told_words
    joined = "\x00".join(told)
    suspect_values = {v for v in values if v in joined}
    return Own(
        subject,
        frozenset(suspect_values - _held(others, suspect_values)),
        frozenset(suspect_words - _held_words(others, suspect_words)),
    )


def own_values(mine: Sequence[pl.LazyFrame], others: Sequence[pl.LazyFrame]) -> frozenset[str]:
    """Every value of a person's rows that no other row has.

    Args:
        mine: Their rows, a frame a data set.
        others: All other rows, a frame a data set.

    Returns:
        Texts of `SHORTEST_VALUE` signs or more.

    Example:
        >>> mine, others = pl.LazyFrame({"a": ["mine", "ours"]}), pl.LazyFrame({"a": ["ours"]})
        >>> sorted(own_values([mine], [others]))
        ['mine']
    """
    values = {v for v in _texts(mine) if len(v) >= SHORTEST_VALUE}
    sought = pl.Series("t", sorted(values), dtype=pl.String)
    for frame in others:
        for column in _text_columns(frame):
            kept = frame.select(column.alias("t").unique()).filter(
                pl.col("t").is_in(sought.implode())
            )
            values -= set(kept.collect()["t"].to_list())
    return frozenset(values)


def free_texts(record: Record) -> Iterator[str]:
    """The texts of a record in which content may stand.

    Args:
        record: A journal record.

    Yields:
        Texts, names of JSON members included.

    Example:
        >>> payload = b'{"at":"","body":{"kind":"a.b","says":"x"},"kind":"findings","seq":1}'
        >>> list(free_texts(Record(1, payload, b"")))
        ['x']
    """
    for part in _free_parts(record.kind, record.body):
        yield from _leaves(part)


def redacted_body(record: Record, own: Own) -> dict[str, Any] | None:
    """A record's columns without what is a person's own.

    Args:
        record: A journal record.
        own: Their texts.

    Returns:
        The columns; None when nothing had to go.

    Example:
        >>> payload = b'{"at":"","body":{"says":"saw ada-17"},"kind":"findings","seq":1}'
        >>> redacted_body(Record(1, payload, b""), Own("ada-17"))
        {'says': ''}
    """
    body = record.body
    after = dict(body)
    for name in _FREE_TEXT.get(record.kind, ()):
        if name in after:
            after[name] = _cleaned(after[name], own, words=True)
    if record.kind == "steps" and isinstance(after.get("result"), dict):
        result = dict(after["result"])
        result["findings"] = [_cleaned_finding(f, own) for f in result.get("findings", [])]
        result["artifacts"] = [
            {**a, "facts": _cleaned(a.get("facts"), own, words=True)}
            for a in result.get("artifacts", [])
        ]
        after["result"] = result
    for name in (*_NAMES.get(record.kind, ()), *_FREE_TEXT.get(record.kind, ())):
        if name in after:
            after[name] = _cleaned(after[name], Own(own.subject), words=False)
    return None if after == body else after


def statement_holds(data: bytes, own: Own) -> bool:
    """Whether a signed statement tells of a person; it cannot be redacted, only taken out.

    Args:
        data: The envelope's bytes.
        own: Their texts.

    Returns:
        True when it does.

    Example:
        >>> statement_holds(b"no envelope about ada-17", Own("ada-17"))
        True
    """
    text = data.decode("utf-8", errors="replace")
    try:
        payload = base64.b64decode(json.loads(text)["payload"], validate=True)
        form = json.loads(payload)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return own.in_text(text)
    predicate = form.get("predicate", {}) if isinstance(form, dict) else {}
    told = [predicate.get("findings", [])] if isinstance(predicate, dict) else []
    steps = predicate.get("steps", []) if isinstance(predicate, dict) else []
    told += [s.get("findings", []) for s in steps if isinstance(s, dict)]
    says = [f.get("says", "") for part in told for f in part if isinstance(f, dict)]
    return any(own.in_text(t) for t in _leaves(form)) or any(own.in_words(str(s)) for s in says)


def file_holds(path: Path, own: Own) -> bool:
    """Whether a file that is no table holds a person's id or a value of theirs as bytes.

    Args:
        path: The file, such as a model.
        own: Their texts, all values of their rows.

    Returns:
        True when it does.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "vocabulary.json"
        >>> _ = file.write_text('["of", "ada-17"]')
        >>> file_holds(file, Own("ada-17"))
        True
    """
    sought = [t.encode() for t in (own.subject, *own.values)]
    data = path.read_bytes()
    return any(len(t) >= SHORTEST_BYTES and t in data for t in sought)


def skeleton(frame: pl.LazyFrame, mine: pl.Series) -> pl.LazyFrame:
    """A table of rows where only the ids of a person's rows are left.

    The ids stay because the rows of others are counted with them: a row that a step set aside did
    not train a model, whoever it was about.

    Args:
        frame: A table with the column `row_id`.
        mine: Ids of the person's rows.

    Returns:
        The same lines; in theirs everything else is null, false or the word `erased`.

    Example:
        >>> table = pl.LazyFrame({"row_id": [1, 2], "reason": ["a", "b"], "score": [1.0, 0.5]})
        >>> skeleton(table, pl.Series([1])).collect().rows()
        [(1, 'erased', None), (2, 'b', 0.5)]
    """
    about = pl.col("row_id").cast(pl.UInt64).is_in(mine.cast(pl.UInt64).implode())
    columns = []
    for name, kind in frame.collect_schema().items():
        if name == "row_id":
            continue
        kept, empty = pl.col(name), pl.lit(None, dtype=kind)
        if name == "reason":
            kept, empty = kept.cast(pl.String), pl.lit("erased")
        elif kind == pl.Boolean:
            empty = pl.lit(value=False)
        columns.append(pl.when(about).then(empty).otherwise(kept).alias(name))
    return frame.with_columns(columns)


def _free_parts(kind: str, body: Mapping[str, Any]) -> Iterator[Any]:
    for name in _FREE_TEXT.get(kind, ()):
        yield body.get(name)
    result = body.get("result") if kind == "steps" else None
    if isinstance(result, dict):
        for finding in result.get("findings", []):
            yield from (finding.get(name) for name in ("says", "details", "remedy"))
        for artifact in result.get("artifacts", []):
            yield artifact.get("facts")


def _leaves(form: Any) -> Iterator[str]:
    if isinstance(form, str):
        yield form
    elif isinstance(form, Mapping):
        for key, value in form.items():
            yield str(key)
            yield from _leaves(value)
    elif isinstance(form, list):
        for value in form:
            yield from _leaves(value)


def _cleaned(form: Any, own: Own, *, words: bool) -> Any:
    """The same form with every text that is the person's own emptied."""
    if isinstance(form, str):
        return "" if (own.in_words(form) if words else own.in_text(form)) else form
    if isinstance(form, Mapping):
        return {
            _cleaned(key, own, words=words): _cleaned(value, own, words=words)
            for key, value in form.items()
        }
    if isinstance(form, list):
        return [_cleaned(value, own, words=words) for value in form]
    return form


def _cleaned_finding(finding: Mapping[str, Any], own: Own) -> dict[str, Any]:
    told = {n: _cleaned(finding.get(n), own, words=True) for n in ("says", "details", "remedy")}
    return {**finding, **told}


def _texts(frames: Sequence[pl.LazyFrame]) -> Iterator[str]:
    for frame in frames:
        columns = list(_text_columns(frame))
        for found in pl.collect_all([frame.select(c.alias("t").unique()) for c in columns]):
            yield from found["t"].drop_nulls().to_list()


def _text_columns(frame: pl.LazyFrame) -> Iterator[pl.Expr]:
    """Every column that holds texts, as texts."""
    for name, kind in frame.collect_schema().items():
        column = pl.col(name)
        if kind == pl.String:
            yield column
        elif isinstance(kind, (pl.Categorical, pl.Enum)):
            yield column.cast(pl.String)
        elif kind == pl.Binary:
            yield column.cast(pl.String, strict=False)
        elif kind == pl.List(pl.String):
            yield column.explode()


def _held(frames: Sequence[pl.LazyFrame], sought: set[str]) -> set[str]:
    """Which of some values other rows hold too, alone or within a longer text."""
    found: set[str] = set()
    for frame in frames:
        for column in _text_columns(frame):
            left = sorted(sought - found)
            if left:
                tests = [
                    column.str.contains(v, literal=True).any().alias(str(i))
                    for i, v in enumerate(left)
                ]
                row = frame.select(tests).collect().row(0)
                found |= {v for v, there in zip(left, row, strict=True) if there}
    return found


def _held_words(frames: Sequence[pl.LazyFrame], sought: set[str]) -> set[str]:
    found: set[str] = set()
    for frame in frames:
        for column in _text_columns(frame):
            left = sorted(sought - found)
            if left:
                tests = [
                    column.str.contains(rf"\b{re.escape(w)}\b").any().alias(str(i))
                    for i, w in enumerate(left)
                ]
                row = frame.select(tests).collect().row(0)
                found |= {w for w, there in zip(left, row, strict=True) if there}
    return found
