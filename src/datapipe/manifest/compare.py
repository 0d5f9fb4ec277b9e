# SPDX-License-Identifier: Apache-2.0
"""What was signed against what lies on the disk: changed, missing, added, renamed, hidden."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from datapipe.errors import DatapipeError, TrustError
from datapipe.manifest.checks import Check, Reason
from datapipe.manifest.files import FileDigest, hash_file, hash_files
from datapipe.manifest.listing import LEFT_OUT, Found, list_files

_SHOWN = 100
Digests: TypeAlias = dict[tuple[str, str], str]
"""Path and algorithm to digest, within one verification."""


def compare_files(
    signed: Sequence[FileDigest],
    path: str | Path,
    *,
    left_out: Iterable[str] = (),
    ignored: Iterable[str] = (),
    known: Digests | None = None,
) -> tuple[Check, ...]:
    """Compare signed files with a folder, or with one file.

    Args:
        signed: The files that a verified signature names.
        path: The folder or file.
        left_out: Absolute paths that are no content, such as the signature itself.
        ignored: Relative paths that the signer passed over. They hide nothing here: a file
            under one of them that was not signed is refused.
        known: Digests that this verification has made already, added to; so that two signatures
            on one folder read its files once.

    Returns:
        One check for all files together when they agree, else one for each that does not (the
        first 100 of a kind).

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.files import hash_tree
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("hi")
        >>> tree = hash_tree(folder)
        >>> compare_files(tree.files, folder)[0].reason
        '1 file is what was signed'
        >>> _ = (folder / "a.txt").write_text("ho")
        >>> compare_files(tree.files, folder)[0].code.slug
        'changed'
    """
    try:
        listing = list_files(path, left_out=left_out)
    except TrustError as error:
        return (Check.refused(f"file {str(path)!r}", error.message, Reason(error.code)),)
    wanted = {file.name: file for file in signed}
    there = {file.name: file for file in listing.files}
    if set(wanted) == {"."} and len(there) == 1 and not Path(path).is_dir():
        there = {".": next(iter(there.values()))}
    refused_names = {check.name for check in listing.refused}
    missing = [n for n in wanted if n not in there and f"file {n!r}" not in refused_names]
    added = [name for name in there if name not in wanted]
    checks = list(listing.refused)
    pairs = [(wanted[name], there[name]) for name in wanted if name in there]
    checks += _changed(pairs, {} if known is None else known)
    checks += _moved(missing, added, wanted, there)
    checks += _strangers(added, {check.name for check in checks}, ignored)
    if checks:
        return tuple(checks)
    count = "1 file is" if len(signed) == 1 else f"{len(signed)} files are"
    return (Check.held("files", f"{count} what was signed"),)


def _changed(pairs: list[tuple[FileDigest, Found]], known: Digests) -> list[Check]:
    """Hash what is there; a file whose size differs is refused before it is read."""
    checks: list[Check] = []
    for file, found in pairs:
        if file.size >= 0 and file.size != found.size:
            what = f"has {found.size} bytes, {file.size} were signed"
            checks.append(Check.refused(f"file {file.name!r}", what, Reason.CHANGED))
    checks += _hash_into(known, [(f, d) for f, d in pairs if f.size in (-1, d.size)])
    for file, found in pairs:
        digest = known.get((found.path, file.algorithm), file.digest)
        if digest != file.digest and file.size in (-1, found.size):
            what = f"has other content than was signed{_where(Path(found.path))}"
            checks.append(Check.refused(f"file {file.name!r}", what, Reason.CHANGED))
    return checks[:_SHOWN]


def _where(path: Path) -> str:
    """Where a Parquet file breaks its own checksums: one that was written anew breaks none."""
    if path.suffix != ".parquet":
        return ""
    soundness = import_module(
        "datapipe.core.soundness"
    )  # it brings Arrow along: only for a damaged table
    try:
        soundness.sound(path)
    except (DatapipeError, OSError) as error:
        return f": {error.message if isinstance(error, DatapipeError) else error.strerror}"
    return ""


def _hash_into(known: Digests, pairs: list[tuple[FileDigest, Found]]) -> list[Check]:
    """Hash all at once; when one cannot be read, one by one, so that each is told."""
    checks: list[Check] = []
    for algorithm in sorted({file.algorithm for file, _ in pairs}):
        fresh = [
            found
            for file, found in pairs
            if file.algorithm == algorithm and (found.path, algorithm) not in known
        ]
        try:
            made = hash_files(fresh, algorithm)
            known.update({(f.path, algorithm): d.digest for f, d in zip(fresh, made, strict=True)})
        except TrustError:
            for found in fresh:
                try:
                    known[found.path, algorithm] = hash_file(found.path, algorithm)[0]
                except TrustError as error:
                    name = f"file {found.name!r}"
                    checks.append(Check.refused(name, error.message, Reason(error.code)))
    return checks


def _moved(
    missing: list[str], added: list[str], wanted: dict[str, FileDigest], there: dict[str, Found]
) -> list[Check]:
    """Missing files; those whose content lies under another name are told as renamed."""
    contents: dict[str, str] = {}
    if missing and added:
        algorithm = wanted[missing[0]].algorithm
        contents = {hash_file(there[name].path, algorithm)[0]: name for name in added[:_SHOWN]}
    checks: list[Check] = []
    for name in missing[:_SHOWN]:
        other = contents.get(wanted[name].digest)
        if other is None:
            checks.append(Check.refused(f"file {name!r}", "is missing", Reason.MISSING))
        else:
            what = f"was signed as {name!r}"
            checks.append(Check.refused(f"file {other!r}", what, Reason.RENAMED))
    return checks


def _strangers(added: list[str], told: set[str], ignored: Iterable[str]) -> list[Check]:
    hiding = tuple(path.rstrip("/") for path in ignored if path not in LEFT_OUT)
    checks: list[Check] = []
    for name in added[:_SHOWN]:
        if f"file {name!r}" in told:
            continue
        rule = next((p for p in hiding if name == p or name.startswith(p + "/") or p == "."), None)
        if rule is None:
            checks.append(Check.refused(f"file {name!r}", "was not signed", Reason.ADDED))
        else:
            what = f"was not signed and is hidden by the ignore rule {rule!r}"
            checks.append(Check.refused(f"file {name!r}", what, Reason.HIDDEN_FILE))
    return checks
