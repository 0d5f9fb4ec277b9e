# SPDX-License-Identifier: Apache-2.0
"""What lies beside a source's file and speaks of it: sidecars, Croissant, data-set cards."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datapipe.core.digest import digest_file
from datapipe.errors import Malformed

MOST_BYTES = 1 << 20
SIDECARS = (".origin.toml", ".origin.json")
"""Endings of a file's own sidecar, after the whole name of the file."""
MEMBERS = ("licence", "consent", "origin", "synthetic", "generator", "sha256", "signed_off_by")

_PERSON = re.compile(r"[^<>\r\n]+ <[^<>@\s]+@[^<>@\s]+>")
_TRUE, _FALSE = {"true", "yes", "1"}, {"false", "no", "0"}
_MACHINE = ("machine-generated", "synthetic")


@dataclass(frozen=True)
class Said:
    """What one file says about a source.

    Args:
        by: Name of the file that says it.
        facts: Field of a source to its value.
        bound: Whether it names the digest of the source's file, and the digest is right.
        signed_off: Whether a person certifies it, in the words of the developer's certificate of
            origin: `Name <address>`.
        wrong: What is wrong with it; nothing that it says counts then.
    """

    by: str
    facts: Mapping[str, Any]
    bound: bool = False
    signed_off: bool = False
    wrong: str = ""


def beside(file: Path) -> Iterator[Said]:
    """Everything that speaks of a file, the narrowest first."""
    for ending in SIDECARS:
        sidecar = file.with_name(file.name + ending)
        if sidecar.is_file():
            yield _guarded(sidecar, file, _sidecar)
    for name in ("croissant.json", f"{file.name}.croissant.json"):
        described = file.with_name(name)
        if described.is_file():
            found = _guarded(described, file, _croissant)
            if found.facts or found.wrong:
                yield found
    card = file.with_name("README.md")
    if card.is_file():
        found = _guarded(card, file, _card)
        if found.facts:
            yield found


def _guarded(path: Path, file: Path, read: Any) -> Said:
    """A file that cannot be read says nothing, and that is told."""
    try:
        with path.open("rb") as handle:
            data = handle.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            return Said(path.name, {}, wrong="is larger than 1 MiB")
        said: Said = read(path.name, data.decode("utf-8"), file)
    except (OSError, ValueError, RecursionError, Malformed) as error:
        return Said(path.name, {}, wrong=f"cannot be read: {type(error).__name__}")
    return said


def _sidecar(name: str, text: str, file: Path) -> Said:
    form = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
    unknown = sorted(set(form) - set(MEMBERS)) if isinstance(form, dict) else ["(no table)"]
    if unknown:
        return Said(name, {}, wrong=f"has members that nobody knows: {', '.join(unknown[:5])}")
    facts = _facts(form)
    if facts is None:
        return Said(name, {}, wrong="has a member of another type or value")
    stated = form.get("sha256")
    if stated is not None and f"sha256:{stated}" != digest_file(file):
        return Said(name, {}, wrong="is about other bytes: its sha256 is not that of the file")
    person = str(form.get("signed_off_by", ""))
    return Said(name, facts, stated is not None, bool(_PERSON.fullmatch(person)))


def _facts(form: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of a source, each of its type; None when one is not."""
    facts: dict[str, Any] = {}
    for member in ("licence", "consent", "origin", "generator"):
        value = form.get(member, "")
        if not isinstance(value, str) or (member == "consent" and value not in _CONSENTS):
            return None
        if value:
            facts[member] = value
    synthetic = form.get("synthetic")
    if synthetic is not None:
        if not isinstance(synthetic, bool):
            return None
        facts["synthetic"] = synthetic
    return facts


_CONSENTS = ("", "granted", "denied")


def _croissant(name: str, text: str, file: Path) -> Said:
    """The description's own words, when one of its files is this one by name."""
    form = json.loads(text)
    if not isinstance(form, dict):
        return Said(name, {}, wrong="is no JSON object")
    listed = form.get("distribution") or []
    mine = [
        f
        for f in (listed if isinstance(listed, list) else [listed])
        if isinstance(f, dict) and Path(str(f.get("contentUrl", ""))).name == file.name
    ]
    if not mine:
        return Said(name, {})
    digests = {str(f["sha256"]) for f in mine if f.get("sha256")}
    if digests and digests != {digest_file(file).removeprefix("sha256:")}:
        return Said(name, {}, wrong="is about other bytes: its sha256 is not that of the file")
    facts: dict[str, Any] = {}
    licences = form.get("license") or []
    names = sorted({_spdx(v) for v in (licences if isinstance(licences, list) else [licences])})
    if names and all(names):
        facts["licence"] = " AND ".join(names)
    flag = str(form.get("rai:hasSyntheticData", form.get("hasSyntheticData", ""))).lower()
    if flag in _TRUE | _FALSE:
        facts["synthetic"] = flag in _TRUE
    creator = form.get("creator")
    if isinstance(creator, dict) and creator.get("name"):
        facts["origin"] = str(creator["name"])
    return Said(name, facts, bool(digests))


def _spdx(value: Any) -> str:
    """A licence by its SPDX id where the address is one of SPDX."""
    text = (
        str(value.get("name") or value.get("url") or "") if isinstance(value, dict) else str(value)
    )
    return re.sub(r"^https?://spdx\.org/licenses/([\w.+-]+?)(\.html)?$", r"\1", text)


def _card(name: str, text: str, _: Path) -> Said:
    """The front matter of a data-set card; it speaks of the folder and names no digest."""
    head = re.match(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", text, re.DOTALL)
    if head is None:
        return Said(name, {})
    told = _front(head[1])
    facts: dict[str, Any] = {}
    licences = [v for v in told.get("license", []) if v not in ("", "unknown", "other")]
    if licences:
        facts["licence"] = " AND ".join(_ID.get(v.lower(), v) for v in licences)
    makers = [*told.get("annotations_creators", []), *told.get("language_creators", []),
              *told.get("tags", [])]  # fmt: skip
    if any(m.lower() in _MACHINE for m in makers):
        facts["synthetic"] = True
    return Said(name, facts)


def _front(text: str) -> dict[str, list[str]]:
    """The plain part of YAML that cards use: `key: value`, and lists of one value a line."""
    told: dict[str, list[str]] = {}
    key = ""
    for line in text.splitlines():
        if match := re.match(r"^([A-Za-z_]+):\s*(.*)$", line):
            key, value = match.groups()
            items = value.strip("[] ").split(",") if value.strip() else []
            told[key] = [i.strip(" '\"") for i in items]
        elif key and (match := re.match(r"^\s*-\s+(.*)$", line)):
            told[key].append(match[1].strip(" '\""))
    return told


_ID = {
    "cc0-1.0": "CC0-1.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "mit": "MIT",
    "apache-2.0": "Apache-2.0",
}
"""Licences as cards write them, in SPDX's letters."""
