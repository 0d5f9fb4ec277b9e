# SPDX-License-Identifier: Apache-2.0
"""`Source`: where rows come from and what is declared about them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

TrustState = Literal["unsigned", "verified", "invalid"]


@dataclass(frozen=True)
class Source:
    """One source of rows: a read of one file or one glob, or an Arrow object.

    Its facts hold for every row whose id carries its number, through every later step.

    Args:
        name: A short name, unique in a pipeline.
        uri: The file, glob or `arrow:` object.
        origin: Who made or sold it.
        licence: An SPDX expression or a licence's name; empty when not declared.
        consent: `granted`, `denied` or empty when not declared.
        synthetic: True or False when declared, None when not.
        generator: The model that made it, when declared.
        manifest: Path of a signed manifest beside it; empty when there is none.
        number: 1 .. 2**24 - 1, given by the store; 0 before.
        digest: Digest of its bytes (files) or rows (objects).
        rows: How many rows it has.
        trust: `unsigned`, `verified` or `invalid`.
        signer: Key id that signed the manifest, when verified.
        files: (path, rows) of every file in reading order.

    Example:
        >>> Source("a", "a.csv", licence="CC-BY-4.0").trust
        'unsigned'
    """

    name: str
    uri: str
    origin: str = ""
    licence: str = ""
    consent: str = ""
    synthetic: bool | None = None
    generator: str = ""
    manifest: str = ""
    number: int = 0
    digest: str = ""
    rows: int = 0
    trust: TrustState = "unsigned"
    signer: str = ""
    files: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON values.

        Returns:
            A dictionary that `json` can write.

        Example:
            >>> Source("a", "a.csv").to_json()["name"]
            'a'
        """
        return asdict(self)

    @classmethod
    def from_json(cls, form: dict[str, Any]) -> Source:
        """Read the form that `to_json` wrote.

        Args:
            form: The dictionary.

        Returns:
            The source.

        Example:
            >>> Source.from_json(Source("a", "a.csv").to_json()).uri
            'a.csv'
        """
        files = tuple((str(p), int(n)) for p, n in form.get("files", ()))
        return cls(**{**form, "files": files})
