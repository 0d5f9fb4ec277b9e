# SPDX-License-Identifier: Apache-2.0
"""Roles say what a column is for; stages ask for roles, never for column names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from datapipe.errors import DeclarationError, SchemaMismatch, nearest

ROLES = (
    "id",
    "text",
    "image",
    "label",
    "annotator",
    "group",
    "subject",
    "source",
    "weight",
    "time",
)
ROW_ID = "_row_id"
"""The hidden column that names a row for ever: `source_no << 40 | ordinal`, uint64."""

ANCESTORS = "_row_ancestors"
"""The hidden column of data that were joined: ids of the other rows that a row was made from."""

HIDDEN = (ROW_ID, ANCESTORS)
"""Columns that no stage is shown and that no stage may lose."""

ORDINAL_BITS = 40


@dataclass(frozen=True)
class Roles:
    """Which columns play which role.

    A role may be played by several columns (`group`, `image`, `text`); a name with `*` stands for
    every column that it matches.

    Args:
        columns: Role name to the tuple of its columns.

    Raises:
        DeclarationError: A role has a name that is not in `ROLES`.

    Example:
        >>> r = Roles.of(label="stars", text="body")
        >>> r.one("label")
        'stars'
        >>> "image" in r
        False
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in self.columns:
            if role not in ROLES:
                raise DeclarationError(
                    f"there is no role {role!r}", code="DP-DECL-011", hint=nearest(role, ROLES)
                )
        kept = {r: self.columns[r] for r in ROLES if self.columns.get(r)}
        object.__setattr__(self, "columns", kept)

    def __hash__(self) -> int:
        return hash(tuple(self.columns.items()))

    @classmethod
    def of(
        cls,
        *,
        id: str = "",  # noqa: A002 - the role's public name
        text: str | tuple[str, ...] = (),
        image: str = "",
        label: str = "",
        annotator: str = "",
        group: str | tuple[str, ...] = (),
        subject: str = "",
        source: str = "",
        weight: str = "",
        time: str = "",
    ) -> Roles:
        """Roles from keyword arguments, empty ones left out.

        Args:
            id: The user's own row key.
            text: A text column; of several the first is a prompt, the second its response.
            image: A column of pixel lists or bytes, or a pattern such as `pixel_*`.
            label: The column to predict.
            annotator: Who gave the label.
            group: Columns whose groups must be treated alike.
            subject: The person a row is about.
            source: Where a row came from, inside one file.
            weight: A row's weight in training.
            time: When the row was made.

        Returns:
            The roles.

        Example:
            >>> Roles.of(label="y", group=("sex", "race")).all("group")
            ('sex', 'race')
        """
        given = {
            "id": id,
            "text": text,
            "image": image,
            "label": label,
            "annotator": annotator,
            "group": group,
            "subject": subject,
            "source": source,
            "weight": weight,
            "time": time,
        }
        return cls({r: (c,) if isinstance(c, str) else tuple(c) for r, c in given.items() if c})

    def __contains__(self, role: object) -> bool:
        return role in self.columns

    def all(self, role: str) -> tuple[str, ...]:
        """Every column that plays a role.

        Args:
            role: A name in `ROLES`.

        Returns:
            The columns, empty when none plays it.

        Example:
            >>> Roles.of(text="t").all("label")
            ()
        """
        return self.columns.get(role, ())

    def one(self, role: str) -> str:
        """The first column that plays a role.

        Args:
            role: A name in `ROLES`.

        Returns:
            The column's name.

        Raises:
            SchemaMismatch: No column plays the role.

        Example:
            >>> Roles.of(text="t").one("text")
            't'
        """
        names = self.all(role)
        if not names:
            raise SchemaMismatch(
                f"no column plays the role {role!r}", hint=f"name one with {role}=COLUMN"
            )
        return names[0]

    def resolved(self, schema: Iterable[str], *, where: str) -> Roles:
        """Check the columns against a schema and spell out patterns.

        Args:
            schema: The column names that exist.
            where: The file or stage, for the message.

        Returns:
            Roles whose columns all exist.

        Raises:
            SchemaMismatch: A column, or a pattern, matches nothing.

        Example:
            >>> Roles.of(image="p*").resolved(["p0", "p1", "y"], where="a.csv").all("image")
            ('p0', 'p1')
        """
        names = [n for n in schema if n not in HIDDEN]
        found: dict[str, tuple[str, ...]] = {}
        for role, columns in self.columns.items():
            hits: list[str] = []
            for column in columns:
                match = [column] if column in names else []
                match = match or [n for n in names if "*" in column and fnmatchcase(n, column)]
                if not match:
                    raise SchemaMismatch(
                        f"{where}: there is no column {column!r} for the role {role!r}",
                        hint=nearest(column, names),
                    )
                hits.extend(match)
            found[role] = tuple(hits)
        return Roles(found)

    def merged(self, other: Roles) -> Roles:
        """These roles with another set's added; the other wins where both name one.

        Args:
            other: The roles to add.

        Returns:
            The union.

        Example:
            >>> Roles.of(label="y").merged(Roles.of(text="t")).all("label")
            ('y',)
        """
        return Roles({**self.columns, **other.columns})

    def to_json(self) -> dict[str, list[str]]:
        """Role to its columns, as lists.

        Returns:
            A dictionary that `json` can write.

        Example:
            >>> Roles.of(label="y").to_json()
            {'label': ['y']}
        """
        return {role: list(columns) for role, columns in self.columns.items()}
