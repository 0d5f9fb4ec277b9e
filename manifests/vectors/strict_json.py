# SPDX-License-Identifier: Apache-2.0
"""JSON for a second implementation: read without guessing, written as RFC 8785 says."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal


def need(condition):
    if not condition:
        raise ValueError("refused")


def strict(data):
    def once(items):
        need(len(dict(items)) == len(items))
        return dict(items)

    def number(text):
        value, whole = float(text), re.fullmatch(r"-?\d+", text)
        need(math.isfinite(value))
        need(not whole or abs(value) < 2**53 or ecmascript(value) == text)
        return int(text) if whole and abs(value) < 2**53 else value

    def shallow(value, level=0):
        need(level <= 65)
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                shallow(item, level + 1)

    hooks = {"parse_float": number, "parse_int": number, "parse_constant": lambda _: need(False)}
    found = json.loads(data.decode(), object_pairs_hook=once, **hooks)
    json.dumps(found, ensure_ascii=False).encode()
    shallow(found)
    return found


def ecmascript(x):
    if x == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(x)).as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    n, text = len(text) + exponent, text.rstrip("0")
    if len(text) <= n <= 21:
        return "-" * sign + text + "0" * (n - len(text))
    if -6 < n <= 21:
        return "-" * sign + (text[:n] + "." + text[n:] if n > 0 else "0." + "0" * -n + text)
    return "-" * sign + text[0] + ("." + text[1:] if text[1:] else "") + f"e{n - 1:+d}"


def canonical(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(canonical(key) + ":" + canonical(value[key]) for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return ecmascript(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
