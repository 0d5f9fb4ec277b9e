# SPDX-License-Identifier: Apache-2.0
"""One pass over the bytes of a CSV file: where its records end, and which of them are broken.

The dialect is RFC 4180 in UTF-8, pinned: a quote opens only at the start of a field and closes only
at its end. In this dialect all readers agree, so that the engine which reads the values later
cannot see other rows than the ones counted here.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datapipe.errors import Malformed
from datapipe.stages.ingest._lines import Broken, Survey, refuse, refuse_binary, too_long
from datapipe.stages.ingest._reading import repeated

WINDOW_BYTES = 1 << 23
QUOTE, CR, LF, NUL = 34, 13, 10, 0
Positions = npt.NDArray[np.int64]


@dataclass
class _Window:
    """Some whole records: bytes, where they lie in the file, and their structure."""

    raw: bytes
    offset: int
    separator: int
    bytes_: npt.NDArray[np.uint8] = field(init=False)
    quotes: Positions = field(init=False)

    def __post_init__(self) -> None:
        self.bytes_ = np.frombuffer(self.raw, np.uint8)
        self.quotes = np.flatnonzero(self.bytes_ == QUOTE)

    def outside(self, value: int) -> Positions:
        """Where a byte occurs outside of quotes: after an even number of them."""
        at = np.flatnonzero(self.bytes_ == value)
        if not self.quotes.size:
            return at
        kept: Positions = at[np.searchsorted(self.quotes, at) % 2 == 0]
        return kept

    def stray_quote(self) -> int:
        """Where the first quote stands that neither opens nor closes a field, or -1."""
        if not self.quotes.size:
            return -1
        edges = [self.separator, LF, CR, QUOTE]
        padded = np.concatenate(([LF], self.bytes_, [LF]))
        before, after = padded[self.quotes], padded[self.quotes + 2]
        opens = np.arange(self.quotes.size) % 2 == 0
        bad = np.where(opens, ~np.isin(before, edges), ~np.isin(after, edges))
        hits = np.flatnonzero(bad)
        return int(self.quotes[hits[0]]) if hits.size else -1


def header(path: Path, separator: str, most: int) -> tuple[list[str], int]:
    """The column names of a file and the byte at which its first record starts."""
    skip = refuse_binary(path, "a CSV file")
    window = next(_windows(path, skip, ord(separator), most), None)
    if window is None:
        raise _headless(path)
    stray = window.stray_quote()
    end = int(window.outside(LF)[0]) + 1 if window.outside(LF).size else len(window.raw)
    if 0 <= stray < end or (end == len(window.raw) and window.quotes.size % 2):
        raise Malformed(
            f"{path}:1: a quote in the header is out of place",
            code="DP-READ-014",
            hint='a quote opens and closes a whole name; inside it is written twice ("")',
        )
    line = window.raw[:end]
    try:
        text = codecs.decode(line, "utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, 1, error) from error
    if "\0" in text or "\r" in text.removesuffix("\r\n"):
        what = "NUL byte" if "\0" in text else "carriage return that ends no line"
        raise Malformed(
            f"{path}:1: a {what} in the header",
            code="DP-READ-012",
            hint="save it as UTF-8 text whose lines end in LF or CR LF",
        )
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
    return _named(names, path, separator), skip + end


def _named(names: list[str], path: Path, separator: str) -> list[str]:
    """The names, with the position for an empty one, as spreadsheets and indexes leave them."""
    filled = [n if n.strip() else f"column_{i + 1}" for i, n in enumerate(names)]
    if not filled:
        raise _headless(path)
    twice = repeated(filled)
    if twice:
        raise Malformed(
            f"{path}:1: the column name {twice[0]!r} occurs twice in the header",
            code="DP-READ-015",
            hint="give every column its own name",
        )
    if len(filled) == 1 and separator == ",":
        other = next((c for c in ";\t|" if c in filled[0]), "")
        if other:
            raise Malformed(
                f"{path}:1: the header has one field; its names seem to be parted by {other!r}",
                code="DP-READ-015",
                hint=f"read it with separator={other!r}",
            )
    return filled


def survey(path: Path, separator: str, most: int, *, go_on: bool) -> Survey:
    """Count the records of a file and find the broken ones.

    With `go_on` every broken record is listed, else the first one raises. A quote out of place
    always raises: after it nobody knows where a record ends.
    """
    names, start = header(path, separator, most)
    records, line = 0, 1 + _newlines_before(path, start)
    broken: list[Broken] = []
    blank: list[tuple[int, int]] = []
    for window in _windows(path, start, ord(separator), most):
        found, count, lines = _judge(window, path, (len(names), most), (records, line))
        for one in found:
            if not go_on and one.reason != BLANK:
                raise refuse(path, one)
        broken.extend(found)
        records, line = records + count, line + lines
    while broken and broken[-1].reason == BLANK and broken[-1].record == records - 1:
        last = broken.pop()
        blank.append((last.start, last.end))
        records -= 1
    if broken and not go_on:
        raise refuse(path, broken[0])
    return Survey(path, records, tuple(broken), tuple(blank))


BLANK = "a blank line"


def _judge(
    window: _Window, path: Path, limits: tuple[int, int], at: tuple[int, int]
) -> tuple[list[Broken], int, int]:
    """The broken records of a window, how many records and how many lines it has."""
    (width, most), (record, line) = limits, at
    ends = window.outside(LF)
    if not ends.size or ends[-1] != len(window.raw) - 1:
        ends = np.append(ends, len(window.raw) - 1)
    starts = np.concatenate(([0], ends[:-1] + 1))
    every = np.flatnonzero(window.bytes_ == LF)
    lines = line + np.searchsorted(every, starts)
    stray = window.stray_quote()
    if stray >= 0 or window.quotes.size % 2:
        spot = stray if stray >= 0 else int(window.quotes[-1])
        raise _stray(path, window, int(np.searchsorted(ends, spot)), record, lines)
    longest = int(np.argmax(ends - starts))
    if ends[longest] - starts[longest] > most:
        raise too_long(path, int(lines[longest]), most)
    reasons = dict[int, str]()
    fields = 1 + np.diff(np.searchsorted(window.outside(window.separator), ends), prepend=0)
    for i in np.flatnonzero(fields != width).tolist():
        words = "1 field" if fields[i] == 1 else f"{fields[i]} fields"
        reasons[i] = f"{words} where the header has {width}"
    for i in np.searchsorted(ends, np.flatnonzero(window.bytes_ == NUL)).tolist():
        reasons[i] = "a NUL byte"
    for i in _lone_returns(window, ends):
        reasons[i] = "a carriage return that ends no line"
    for i in _undecodable(window.raw, ends):
        reasons[i] = "bytes that are not UTF-8"
    body = ends - starts + (window.bytes_[ends] != LF)
    empty = (body == 0) | ((body == 1) & (window.bytes_[starts] == CR))
    reasons.update(dict.fromkeys(np.flatnonzero(empty).tolist(), BLANK))
    found = [
        Broken(
            record + i,
            int(lines[i]),
            window.offset + int(starts[i]),
            window.offset + int(ends[i]) + 1,
            reasons[i],
        )
        for i in sorted(reasons)
    ]
    return found, int(ends.size), int(every.size)


def _lone_returns(window: _Window, ends: Positions) -> list[int]:
    returns = window.outside(CR)
    after = np.append(window.bytes_, LF)[returns + 1]
    lone: list[int] = np.searchsorted(ends, returns[after != LF]).tolist()
    return lone


def _undecodable(raw: bytes, ends: Positions) -> Iterator[int]:
    """The records that are not UTF-8; decoding goes on after each of them."""
    at = 0
    while at < len(raw):
        try:
            codecs.decode(memoryview(raw)[at:], "utf-8")
        except UnicodeDecodeError as error:
            bad = int(np.searchsorted(ends, at + error.start))
            yield bad
            at = int(ends[bad]) + 1
        else:
            return


def _windows(path: Path, start: int, separator: int, most: int) -> Iterator[_Window]:
    """The file in windows of whole records; the last one may lack its line end."""
    carry, offset = b"", start
    with path.open("rb") as file:
        file.seek(start)
        while part := file.read(WINDOW_BYTES):
            window = _Window(carry + part, offset, separator)
            if window.stray_quote() >= 0:  # no record end after it can be trusted
                yield window
                return
            ends = window.outside(LF)
            if not ends.size:
                carry = window.raw
                if len(carry) > most:
                    raise too_long(path, _newlines_before(path, offset) + 1, most)
                continue
            cut = int(ends[-1]) + 1
            yield _Window(window.raw[:cut], offset, separator)
            carry, offset = window.raw[cut:], offset + cut
    if carry:
        yield _Window(carry, offset, separator)


def _newlines_before(path: Path, end: int) -> int:
    count, left = 0, end
    with path.open("rb") as file:
        while left > 0 and (part := file.read(min(left, WINDOW_BYTES))):
            count += part.count(b"\n")
            left -= len(part)
    return count


def _stray(path: Path, window: _Window, i: int, record: int, lines: Positions) -> Malformed:
    i = min(i, lines.size - 1)
    opened = window.quotes.size % 2 and window.stray_quote() < 0
    what = "a quote is opened and never closed" if opened else "a quote is out of place"
    return Malformed(
        f"{path}:{int(lines[i])}: {what} (row {record + i + 1})",
        code="DP-READ-014",
        hint='quote whole fields, and write a quote inside one twice ("")',
    )


def _headless(path: Path) -> Malformed:
    return Malformed(
        f"{path}:1: the header is blank",
        code="DP-READ-015",
        hint="name the columns in the first line",
    )


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> Malformed:
    return Malformed(
        f"{path}:{line}: byte {error.object[error.start]:#04x} is not UTF-8",
        code="DP-READ-011",
        hint=f"iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}",
    )
