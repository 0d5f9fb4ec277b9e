# SPDX-License-Identifier: Apache-2.0
"""Whether an SPDX licence expression can be met with a list of allowed licences."""

from __future__ import annotations

import re
from collections.abc import Collection

TOKEN = re.compile(r"\s*(\(|\)|[A-Za-z0-9.:+-]+)")
WORDS = {"and", "or", "with"}
MAX_DEPTH = 32


class Unreadable(Exception):
    """The text is no SPDX expression."""


def allows(expression: str, allowed: Collection[str]) -> bool:
    """Whether the terms can be met: `OR` needs one side, `AND` both, `WITH` its licence at least.

    Names are compared without regard to case; a text that is no expression is compared whole.
    """
    known = {a.strip().lower() for a in allowed}
    if expression.strip().lower() in known:
        return True
    try:
        return _Reader(expression, known).whole()
    except Unreadable:
        return False


class _Reader:
    """Recursive descent over one expression; `OR` binds least, `WITH` most."""

    def __init__(self, text: str, known: Collection[str]) -> None:
        self.tokens = _tokens(text)
        self.known = known
        self.at = 0

    def whole(self) -> bool:
        met = self._either(0)
        if self.at < len(self.tokens):
            raise Unreadable
        return met

    def _next(self) -> str:
        return self.tokens[self.at].lower() if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        word = self._next()
        if not word:
            raise Unreadable
        self.at += 1
        return word

    def _either(self, depth: int) -> bool:
        met = self._both(depth)
        while self._next() == "or":
            self.at += 1
            met = self._both(depth) or met
        return met

    def _both(self, depth: int) -> bool:
        met = self._one(depth)
        while self._next() == "and":
            self.at += 1
            met = self._one(depth) and met
        return met

    def _one(self, depth: int) -> bool:
        word = self._take()
        if depth > MAX_DEPTH or word in WORDS or word == ")":
            raise Unreadable
        if word == "(":
            met = self._either(depth + 1)
            if self._take() != ")":
                raise Unreadable
            return met
        if self._next() == "with":
            self.at += 1
            return f"{word} with {self._take()}" in self.known or word in self.known
        return word in self.known


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise Unreadable
        found.append(match[1])
        at = match.end()
    return found
