# SPDX-License-Identifier: Apache-2.0
"""What a verb prints: data on stdout, everything else on stderr, colours only where seen."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datapipe.core.run import Run

STDOUT, STDERR = 1, 2
_COLOURS = {"clean": "32", "not_evaluated": "36", "suspect": "33", "fail": "1;31", "dim": "2"}
_colour: dict[str, bool | None] = {"on": None}


def set_colour(*, on: bool | None) -> None:
    """Force colours on or off.

    Args:
        on: None to decide by terminal and `NO_COLOR`.

    Example:
        >>> set_colour(on=False)
    """
    _colour["on"] = on


def painted(text: str, paint: str) -> str:
    """Text in the colour of a verdict, where stdout shows colours.

    Args:
        text: What to paint.
        paint: A verdict, or `dim`.

    Returns:
        The text, with escape codes or without.

    Example:
        >>> set_colour(on=False); painted("fail", "fail")
        'fail'
    """
    on = _colour["on"]
    if on is None:
        on = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[{_COLOURS[paint]}m{text}\x1b[0m" if on and paint in _COLOURS else text


def out(text: str) -> None:
    """Write a line of data to stdout.

    Args:
        text: The line, or several.

    Example:
        >>> out("42")
        42
    """
    sys.stdout.write(text + "\n")


@contextmanager
def strangers_at_work() -> Iterator[None]:
    """Let what other people's code prints go to stderr: stdout carries data only.

    Stages, the packages they call and the programs they start write to the file behind stdout, so
    it is turned over as well as `sys.stdout`.

    Yields:
        Nothing; stdout is as before when the block ends.

    Example:
        >>> with strangers_at_work():
        ...     print("not data")
    """
    sys.stdout.flush()
    try:
        kept = os.dup(STDOUT)
        os.dup2(STDERR, STDOUT)
    except OSError:  # one of them was closed by who called
        kept = None
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, STDOUT)
            os.close(kept)


def out_json(value: Any) -> None:
    """Write one JSON value to stdout; what JSON cannot say becomes text or null.

    Args:
        value: The value.

    Example:
        >>> out_json({"rate": float("nan"), "n": 3})
        {"rate": null, "n": 3}
    """
    unicode = "utf" in (sys.stdout.encoding or "utf").lower()  # else JSON's own escapes
    out(json.dumps(_jsonable(value), ensure_ascii=not unicode, allow_nan=False))


def note(text: str, *, level: int = logging.WARNING) -> None:
    """Write to stderr, unless `-q` asked for less.

    Args:
        text: What to say to the person, not to the pipe.
        level: A level of `logging`.

    Example:
        >>> note("3 rows set aside", level=logging.DEBUG)
    """
    if level >= logging.ERROR or logging.getLogger("datapipe").isEnabledFor(level):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def plain(text: str) -> str:
    r"""Text of the data made harmless for a terminal: one line, no escape codes.

    Args:
        text: Any text.

    Returns:
        The text, its control characters shown as escapes.

    Example:
        >>> print(plain("a\x1b[31m\nb"))
        a\x1b[31m\nb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(text: str, width: int) -> str:
    """Text that fits a width.

    Args:
        text: One line.
        width: Characters it may have, >= 1.

    Returns:
        The text, its end replaced by an ellipsis where it was too long.

    Example:
        >>> cut("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def shown(value: Any) -> str:
    """One cell as text for people.

    Args:
        value: Any value.

    Returns:
        Text; empty for null.

    Example:
        >>> shown(None), shown(0.123456), shown(3)
        ('', '0.1235', '3')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (dict, list, bytes)):
        told = _jsonable(value)
        return told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    return str(value)


class StatusLine(logging.Handler):
    """Shows the log on stderr: one event a line, or one moving line on a terminal.

    Args:
        level: The lowest level shown.
        moving: Whether events below a warning overwrite one line instead of adding one.

    Example:
        >>> StatusLine(logging.INFO, moving=False).level == logging.INFO
        True
    """

    def __init__(self, level: int, *, moving: bool) -> None:
        super().__init__(logging.INFO if moving else level)
        self.moving = moving
        self.open = False

    def emit(self, record: logging.LogRecord) -> None:
        """Show one event.

        Args:
            record: The event.

        Example:
            >>> handler = StatusLine(logging.ERROR, moving=False)
            >>> handler.emit(logging.makeLogRecord({"msg": "x", "levelno": logging.INFO}))
        """
        if record.levelno < self.level:
            return
        text = plain(record.getMessage())
        if self.moving and record.levelno < logging.WARNING:
            columns = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[2K{text[: columns - 1]}")
            self.open = True
        else:
            self.clear()
            word = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
            sys.stderr.write(f"{word}{text}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Wipe the moving line, so that what follows starts on a clean one.

        Example:
            >>> StatusLine(logging.INFO, moving=False).clear()
        """
        if self.open:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self.open = False


def settle(run: Run | None = None) -> None:
    """End the moving line of progress before the answer is printed.

    Args:
        run: What the answer is about; its store's index is brought up to date, for other programs.

    Example:
        >>> settle()
    """
    for handler in logging.getLogger("datapipe").handlers:
        if isinstance(handler, StatusLine):
            handler.clear()
    if run is not None:
        run.lineage.index()


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(v) for v in value]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float)):
        return value
    form = next((f for f in ("to_json", "to_dicts", "isoformat") if hasattr(value, f)), "")
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)  # never as 1E+25
    return _jsonable(getattr(value, form)()) if form else text
