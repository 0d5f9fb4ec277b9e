# SPDX-License-Identifier: Apache-2.0
"""Signing a folder or file: the OpenSSF bundle and our attestation, left beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from datapipe.errors import DeclarationError, ExecutionError, TrustError
from datapipe.manifest.attestation import attest, attested_files, check_attestation
from datapipe.manifest.checks import Reason, Report
from datapipe.manifest.content import content_of
from datapipe.manifest.envelope import LARGEST_ENVELOPE_BYTES, Envelope, read_limited
from datapipe.manifest.files import FileDigest, Tree, hash_files
from datapipe.manifest.listing import list_files, require_plain, whole_path
from datapipe.manifest.openssf import bundle_signer, write_bundle
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.manifest.remembered import remembered_digests
from datapipe.manifest.signers import AnySigner

OPENSSF_SUFFIX = ".oms.sigstore.json"
ATTESTATION_SUFFIX = ".dsse.json"
PARENTS_SUFFIX = ".intoto.jsonl"
MOST_PARENTS = 10_000
_NO_BUNDLE = "no OpenSSF bundle: it allows only p256, p384 and p521 keys; the attestation is signed"


@dataclass(frozen=True, slots=True)
class Signed:
    """What signing left behind.

    Args:
        path: What was signed.
        attestation: Our attestation.
        openssf: The OpenSSF bundle; None when no signer has a key that it allows.
        tree: The digest of the tree, 64 hex digits.
        files: How many files were signed.
        says: What a user should know, empty when there is nothing.

    Example:
        >>> Signed(Path("d"), Path("d.dsse.json"), None, "0" * 64, 1, "").files
        1
    """

    path: Path
    attestation: Path
    openssf: Path | None
    tree: str
    files: int
    says: str


def signature_paths(path: str | Path) -> tuple[Path, Path]:
    """Where the signatures of a folder or file lie.

    Args:
        path: The folder or file.

    Returns:
        The OpenSSF bundle and our attestation.

    Example:
        >>> [path.name for path in signature_paths("some/reviews")]
        ['reviews.oms.sigstore.json', 'reviews.dsse.json']
    """
    whole = whole_path(path)
    return (
        whole.with_name(whole.name + OPENSSF_SUFFIX),
        whole.with_name(whole.name + ATTESTATION_SUFFIX),
    )


def parents_path(path: str | Path) -> Path:
    """Where the statements about what a folder or file was made from may lie.

    Args:
        path: The folder or file.

    Returns:
        An in-toto bundle: one envelope a line.

    Example:
        >>> parents_path("some/reviews").name
        'reviews.intoto.jsonl'
    """
    whole = whole_path(path)
    return whole.with_name(whole.name + PARENTS_SUFFIX)


def read_parents(path: str | Path) -> tuple[Envelope, ...]:
    """The statements that lie beside a folder or file, of what it was made from; none is verified.

    Args:
        path: The folder or file.

    Returns:
        Envelopes; none when there is no such bundle.

    Raises:
        TrustError: The bundle is too large, or a line is no envelope of a statement.

    Example:
        >>> read_parents("no-such-folder")
        ()
    """
    bundle = parents_path(path)
    if not bundle.is_file():
        return ()
    lines = read_limited(bundle, LARGEST_ENVELOPE_BYTES).splitlines()
    if len(lines) > MOST_PARENTS:
        raise TrustError(
            f"{bundle} has more than {MOST_PARENTS} statements",
            code=Reason.TOO_LARGE.value,
            hint="ask for the statements that its materials name, and no more",
            path=str(bundle),
        )
    found = tuple(Envelope.from_bytes(line) for line in lines if line.strip())
    for envelope in found:
        envelope.statement()
    return found


def sign_path(
    path: str | Path,
    *signers: AnySigner,
    predicate: DatasetPredicate | None = None,
    memory: str | Path | None = None,
) -> Signed:
    """Sign a folder or file, with one key or several.

    The attestation carries a signature of every signer; of one Parquet or Arrow file it also tells
    the rows, apart from how they are encoded. The OpenSSF bundle allows exactly one, by
    a P-256, P-384 or P-521 key: the first such signer makes it, and when there is none it is not
    written and `says` tells so.

    Args:
        path: The folder or file.
        *signers: Keys, hardware signers or hybrid keys, at least one.
        predicate: What is known about the data set: origin, terms, synthetic share.
        memory: A file that remembers digests, so that signing again reads only what changed.

    Returns:
        Where the signatures lie.

    Raises:
        DeclarationError: No signer was given.
        TrustError: There is no file, or no row in the one table file.
        ExecutionError: A signature cannot be written.

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.keys import PrivateKey
        >>> folder = Path(tempfile.mkdtemp()) / "reviews"
        >>> folder.mkdir()
        >>> _ = (folder / "a.txt").write_text("hi")
        >>> sign_path(folder, PrivateKey.new("p256")).openssf.name
        'reviews.oms.sigstore.json'
    """
    if not signers:
        raise DeclarationError(
            f"{path} cannot be signed without a key",
            code="DP-DECL-033",
            hint="make a key with `datapipe keys new` and sign with it",
        )
    found = require_plain(path, list_files(path))
    tree = Tree(hash_files(found) if memory is None else remembered_digests(found, memory))
    bundle, attestation = signature_paths(path)
    name = whole_path(path).name
    said = _with_content(path, predicate or DatasetPredicate(name))
    envelope = Envelope.sign(attest(name, tree, said).to_bytes(), *signers)
    single = bundle_signer(signers)
    if single is not None:
        _replace(bundle, write_bundle(name, _openssf_files(path, tree), single))
    elif bundle.exists():
        bundle.unlink()  # it is about the old content and would contradict the new attestation
    _replace(attestation, envelope.to_bytes())
    return Signed(
        path=Path(path),
        attestation=attestation,
        openssf=bundle if single is not None else None,
        tree=tree.root,
        files=len(tree.files),
        says="" if single is not None else _NO_BUNDLE,
    )


def cosign_path(path: str | Path, *signers: AnySigner) -> Signed:
    """Add signatures to the attestation that somebody else left beside a folder or file.

    What is signed was held against the files first, so that nobody vouches for what is not there.
    The OpenSSF bundle stays as it is: its form allows one signature.

    Args:
        path: The folder or file.
        *signers: Keys, hardware signers or hybrid keys that have not signed it yet.

    Returns:
        Where the signatures lie.

    Raises:
        TrustError: There is no attestation, or the files are not what it says.
        ExecutionError: The signature cannot be written.

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.keys import PrivateKey
        >>> folder = Path(tempfile.mkdtemp()) / "reviews"
        >>> folder.mkdir()
        >>> _ = (folder / "a.txt").write_text("hi")
        >>> _ = sign_path(folder, PrivateKey.new("p256"))
        >>> signed = cosign_path(folder, PrivateKey.new("ed25519"))
        >>> len(Envelope.load(signed.attestation).signatures)
        2
    """
    bundle, attestation = signature_paths(path)
    envelope = Envelope.load(attestation)
    statement = envelope.statement()
    Report(str(path), check_attestation(statement, path, left_out=[str(attestation)])).require()
    for signer in signers:
        envelope = envelope.add(signer)
    _replace(attestation, envelope.to_bytes())
    files, tree = attested_files(statement)
    return Signed(
        path=Path(path),
        attestation=attestation,
        openssf=bundle if bundle.is_file() else None,
        tree=tree,
        files=len(files),
        says=f"{len(envelope.signatures)} signatures by now",
    )


def _with_content(path: str | Path, said: DatasetPredicate) -> DatasetPredicate:
    """The predicate with the rows of one table file, when they can be told."""
    content = content_of(path) if said.logical is None else None
    if content is None:
        return said
    if content.rows == 0:
        raise TrustError(
            f"{path} holds no row",
            code=Reason.EMPTY_SET.value,
            hint="a signature over nothing would vouch for whatever is added; sign rows",
            path=str(path),
        )
    return replace(said, rows=content.rows, schema=content.schema, logical=content.logical)


def _openssf_files(path: str | Path, tree: Tree) -> list[FileDigest]:
    """The reference tool names a single file by a dot."""
    if Path(path).is_dir():
        return list(tree.files)
    one = tree.files[0]
    return [FileDigest(".", one.size, one.digest)]


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ExecutionError(
            f"the signature cannot be written to {path}: {error.strerror}",
            hint="sign in a folder that you may write to",
        ) from error
