# SPDX-License-Identifier: Apache-2.0
"""Our attestation of a folder: a `dataset` statement that names every file and the whole tree.

The subjects are the files in code-point order and, last, the folder itself (its name with a final
`/`) with the digest of the tree, which binds names and sizes too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Check, Reason
from datapipe.manifest.compare import Digests, compare_files
from datapipe.manifest.content import content_of
from datapipe.manifest.files import FileDigest, Tree
from datapipe.manifest.listing import name_problem
from datapipe.manifest.predicates import DatasetPredicate, read_predicate
from datapipe.manifest.statement import Statement, Subject

TREE_DIGEST = "rfc6962Sha256"


def attest(name: str, tree: Tree, predicate: DatasetPredicate | None = None) -> Statement:
    """Make the statement about a folder or file.

    Args:
        name: The name of the folder or file.
        tree: Its files with sha256 digests.
        predicate: What else is known about it; its tree, files and size are filled in.

    Returns:
        The statement to sign.

    Raises:
        DeclarationError: There is no file.

    Example:
        >>> tree = Tree((FileDigest("a", 0, "0" * 64),))
        >>> [subject.name for subject in attest("d", tree).subjects]
        ['a', 'd/']
    """
    if not tree.files:
        raise DeclarationError(
            f"{name!r} holds no file to attest",
            code="DP-DECL-038",
            hint="sign a folder with at least one file",
        )
    said = replace(
        predicate or DatasetPredicate(name),
        tree=tree.root,
        files=len(tree.files),
        size_bytes=tree.size_bytes,
    )
    files = (Subject(file.name, {"sha256": file.digest}) for file in tree.files)
    return said.about(*files, Subject(f"{name}/", {TREE_DIGEST: tree.root}))


def attested_files(statement: Statement) -> tuple[tuple[FileDigest, ...], str]:
    """The files that a `dataset` statement names, its form checked.

    Args:
        statement: A statement whose envelope was verified.

    Returns:
        The files (sizes unknown: -1), and the digest of the tree.

    Raises:
        TrustError: A name leaves the folder or stands twice, the order is not that of code
            points, there is no file, or the tree's digest is missing.

    Example:
        >>> said = attest("d", Tree((FileDigest("a", 0, "0" * 64),)))
        >>> attested_files(said)[0][0].name
        'a'
    """
    predicate = read_predicate(statement)
    trees = [s for s in statement.subjects if TREE_DIGEST in s.digests]
    files = [s for s in statement.subjects if TREE_DIGEST not in s.digests]
    if not isinstance(predicate, DatasetPredicate) or len(trees) != 1:
        raise _refused("a data set has one subject for its tree", Reason.SUBJECT_COUNT)
    if not files:
        raise _refused("no file is signed", Reason.EMPTY_SET)
    names = [subject.name for subject in files]
    for name in names:
        problem = name_problem(name)
        if problem:
            raise _refused(f"the file name {name!r}", problem)
    if len(set(names)) != len(names):
        raise _refused("a file name stands twice", Reason.DUPLICATE_NAME)
    if names != sorted(names):
        raise _refused("the files are not sorted by name", Reason.UNSORTED)
    tree = trees[0].digests[TREE_DIGEST]
    if predicate.tree != tree or predicate.files != len(files):
        raise _refused("subjects and predicate name two trees", Reason.ROOT_MISMATCH)
    if any("sha256" not in subject.digests for subject in files):
        raise _refused("a file without a sha256", Reason.UNKNOWN_HASH)
    return tuple(FileDigest(s.name, -1, s.digests["sha256"]) for s in files), tree


def check_attestation(
    statement: Statement,
    path: str | Path,
    *,
    left_out: Iterable[str] = (),
    known: Digests | None = None,
) -> tuple[Check, ...]:
    """Compare a `dataset` statement with what lies on the disk.

    Args:
        statement: A statement whose envelope was verified.
        path: The folder or file.
        left_out: Absolute paths that are no content.
        known: Digests that this verification has made already, added to.

    Returns:
        The checks of its files and of its tree.

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.files import hash_tree
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("hi")
        >>> checks = check_attestation(attest("d", hash_tree(folder)), folder)
        >>> [check.name for check in checks]
        ['files', 'tree']
    """
    try:
        files, tree = attested_files(statement)
    except TrustError as error:
        return (Check.refused("statement", error.message, Reason(error.code)),)
    checks = compare_files(files, path, left_out=left_out, known=known)
    if not all(check.passed for check in checks):
        return tuple(_reencoded(check, statement, path) for check in checks)
    return (*checks, _check_tree(files, tree, path))


def _reencoded(check: Check, statement: Statement, path: str | Path) -> Check:
    """Other bytes may still be the same rows: refused all the same, but said."""
    said = read_predicate(statement)
    if check.code is not Reason.CHANGED or not isinstance(said, DatasetPredicate):
        return check
    content = content_of(path) if said.logical and Path(path).is_file() else None
    if content is None or (content.logical, content.rows) != (said.logical, said.rows):
        return check
    what = f"was written anew: other bytes, the same {content.rows:,} rows as were signed"
    return Check.refused(check.name, what, Reason.REENCODED)


def _check_tree(files: tuple[FileDigest, ...], tree: str, path: str | Path) -> Check:
    """The contents are known to be those signed; the tree adds their sizes."""
    top = Path(path)
    folder = top.is_dir()
    sized = tuple(
        replace(file, size=(top / file.name if folder else top).stat().st_size) for file in files
    )
    if Tree(sized).root != tree:
        return Check.refused("tree", "its digest is not that of the files", Reason.ROOT_MISMATCH)
    return Check.held("tree", f"names, sizes and contents give {tree[:12]}")


def _refused(what: str, reason: Reason) -> TrustError:
    return TrustError(f"attestation: {what}", code=reason.value, hint="sign it anew")
