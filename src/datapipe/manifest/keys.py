# SPDX-License-Identifier: Apache-2.0
"""Key files: always encrypted, for their owner only, passphrases never on a command line."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives import serialization

from datapipe.errors import DeclarationError, ExecutionError, TrustError
from datapipe.manifest.algorithms import ALGORITHMS, HYBRID, RawPrivateKey
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import read_limited
from datapipe.manifest.pkcs8 import ROUNDS, encrypted_pem
from datapipe.manifest.plain import reading
from datapipe.manifest.public_keys import PublicKey, read_public_keys
from datapipe.manifest.signers import AnySigner, HybridKey, PrivateKey, Signer

PASSPHRASE_VARIABLE = "DATAPIPE_KEY_PASSPHRASE"  # noqa: S105  # the name of a variable
DEMO_PASSPHRASE = b"datapipe-demo"
DEMO_FILE = "demo-key.pem"

_LARGEST_KEY_FILE_BYTES = 64 * 1024
_BLOCK = re.compile(
    rb"-----BEGIN ENCRYPTED PRIVATE KEY-----[^-]+-----END ENCRYPTED PRIVATE KEY-----\n?"
)

__all__ = [
    "ALGORITHMS",
    "HYBRID",
    "AnySigner",
    "HybridKey",
    "PrivateKey",
    "PublicKey",
    "Signer",
    "demo_key",
    "find_passphrase",
    "load_key",
    "load_public_keys",
    "new_key",
    "read_public_keys",
]


def new_key(
    algorithm: str, path: str | Path, passphrase: bytes, *, rounds: int = ROUNDS
) -> PrivateKey | HybridKey:
    """Make a key and write it, encrypted and with mode 0600, to a new file.

    Args:
        algorithm: `ed25519`, `p256`, `p384`, `p521`, `ml-dsa-65` or `hybrid`.
        path: The file to write; it must not exist.
        passphrase: What encrypts it, not empty.
        rounds: Rounds of PBKDF2-HMAC-SHA512 that each guess of the passphrase costs, >= 1.

    Returns:
        The key, ready to sign.

    Raises:
        DeclarationError: The file exists, or the passphrase is empty.
        ExecutionError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "key.pem"
        >>> key = new_key("ed25519", path, b"correct horse", rounds=1000)
        >>> load_key(path, b"correct horse").keyid == key.keyid
        True
    """
    if not passphrase:
        raise DeclarationError(
            "a private key is never written without a passphrase",
            code="DP-DECL-034",
            hint=f"set {PASSPHRASE_VARIABLE} or give --passphrase-file",
        )
    key = HybridKey.new() if algorithm == HYBRID else PrivateKey.new(algorithm)
    text = b"".join(encrypted_pem(part.raw, passphrase, rounds=rounds) for part in key.parts)
    try:
        _write_private(Path(path), text)
    except FileExistsError as error:
        raise DeclarationError(
            f"{path} exists; a key is never overwritten",
            code="DP-DECL-034",
            hint="choose another file, or move the old key away",
        ) from error
    except OSError as error:
        raise ExecutionError(
            f"the key cannot be written to {path}: {error.strerror}",
            hint="choose a folder that you may write to",
        ) from error
    return key


def load_key(path: str | Path, passphrase: bytes) -> PrivateKey | HybridKey:
    """Read an encrypted private key that only its owner may read.

    Args:
        path: The PEM file; several blocks make a hybrid key.
        passphrase: What decrypts it.

    Returns:
        The key.

    Raises:
        TrustError: The file is missing, readable by others, not encrypted, not a key, or the
            passphrase is wrong; each with its own code.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "key.pem"
        >>> _ = new_key("hybrid", path, b"correct horse", rounds=1000)
        >>> load_key(path, b"correct horse").algorithm
        'hybrid'
    """
    text = _read_private(Path(path))
    if b"PRIVATE KEY-----" in text and b"BEGIN ENCRYPTED PRIVATE KEY" not in text:
        raise _refused(
            path,
            "is not encrypted",
            Reason.KEY_NOT_ENCRYPTED,
            "encrypt it: openssl pkcs8 -topk8 -v2 aes-256-cbc",
        )
    blocks = _BLOCK.findall(text)
    if not blocks or text.count(b"-----BEGIN") != len(blocks):
        raise _refused(
            path,
            "holds no encrypted private key",
            Reason.KEY_FORM,
            "make one with `datapipe keys new`",
        )
    keys = tuple(_decrypted(path, block, passphrase) for block in blocks)
    return keys[0] if len(keys) == 1 else HybridKey(keys)


def load_public_keys(path: str | Path) -> tuple[PublicKey, ...]:
    """Read the public keys of a PEM file.

    Args:
        path: A file such as `datapipe keys export` prints.

    Returns:
        The keys: three for a hybrid key.

    Raises:
        TrustError: The file holds something else.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "key.pub"
        >>> _ = path.write_text(PrivateKey.new("p256").public_key.to_pem())
        >>> load_public_keys(path)[0].algorithm
        'p256'
    """
    try:
        return read_public_keys(read_limited(path, _LARGEST_KEY_FILE_BYTES))
    except TrustError as error:
        raise TrustError(
            f"{path}: {error.message}", code=error.code, hint=error.hint, path=str(path)
        ) from error


def find_passphrase(
    *, file: str | Path | None = None, prompt: Callable[[], str] | None = None
) -> bytes:
    """Find the passphrase: in a file when one is named, else in the environment, else by asking.

    It is never taken from a command line, where every user of the machine can read it.

    Args:
        file: A file whose content is the passphrase; one final newline is left out.
        prompt: Asks the user without echo; only called when nothing else gave it.

    Returns:
        The passphrase, not empty.

    Raises:
        TrustError: There is none.

    Example:
        >>> find_passphrase(prompt=lambda: "correct horse") if not os.environ.get(
        ...     PASSPHRASE_VARIABLE) else b"correct horse"
        b'correct horse'
    """
    if file is not None:
        found = read_limited(file, _LARGEST_KEY_FILE_BYTES)
        found = found[:-1] if found.endswith(b"\n") else found
    else:
        found = os.environ.get(PASSPHRASE_VARIABLE, "").encode()
        if not found and prompt is not None:
            found = prompt().encode()
    if not found:
        raise TrustError(
            "no passphrase for the private key",
            code=Reason.KEY_PASSPHRASE.value,
            hint=f"set {PASSPHRASE_VARIABLE}, give --passphrase-file or use a terminal",
        )
    return found


def demo_key(folder: str | Path) -> tuple[PrivateKey, bool]:
    """The key that signs when the user has none yet.

    Its passphrase is public (`datapipe-demo`), so its signatures prove **integrity, not
    identity**: that nothing changed since, not who made it. Reports say so.

    Args:
        folder: Where it lives; made when missing.

    Returns:
        The Ed25519 key, and whether it was made just now.

    Raises:
        TrustError: The file there is not this key.
        ExecutionError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> demo_key(folder)[1], demo_key(folder)[1]
        (True, False)
    """
    path = Path(folder) / DEMO_FILE
    created = False
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = encrypted_pem(PrivateKey.new("ed25519").raw, DEMO_PASSPHRASE, rounds=2048)
            _write_private(path, text)
            created = True
        except FileExistsError:
            created = False  # another process was faster: both use its key
        except OSError as error:
            raise ExecutionError(
                f"the demo key cannot be written to {path}: {error.strerror}",
                hint="choose a store in a folder that you may write to",
            ) from error
    key = load_key(path, DEMO_PASSPHRASE)
    if not isinstance(key, PrivateKey):
        raise _refused(path, "is not a demo key", Reason.KEY_FORM, "move it away")
    return key, created


def _write_private(path: Path, text: bytes) -> None:
    """Write a new file whole or not at all; a reader never sees half a key."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()


def _read_private(path: Path) -> bytes:
    try:
        with reading(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LARGEST_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise _refused(
            path,
            f"cannot be read: {error.strerror}",
            Reason.KEY_MISSING,
            "make one with `datapipe keys new`",
        ) from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise _refused(
            path,
            f"may be read or written by others (mode {stat.S_IMODE(mode):04o})",
            Reason.KEY_MODE,
            f"chmod 600 {path}, and make a new key if others could have read it",
        )
    if len(text) > _LARGEST_KEY_FILE_BYTES:
        raise _refused(path, "is too large for a key", Reason.KEY_FORM, "name the key file")
    return text


def _decrypted(path: str | Path, block: bytes, passphrase: bytes) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(block, passphrase or b"\0")
    except Exception as error:  # OpenSSL raises several types for one wrong passphrase
        raise _refused(
            path,
            "cannot be decrypted: wrong passphrase or damaged file",
            Reason.KEY_PASSPHRASE,
            f"check {PASSPHRASE_VARIABLE} or --passphrase-file",
        ) from error
    return PrivateKey(cast("RawPrivateKey", key))


def _refused(path: str | Path, what: str, reason: Reason, hint: str) -> TrustError:
    return TrustError(f"the key {path} {what}", code=reason.value, hint=hint, path=str(path))
