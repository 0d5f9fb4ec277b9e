# SPDX-License-Identifier: Apache-2.0
"""Which reader and which detectors fit a file and the roles that its columns were given.

Nothing is guessed: a column without a role is a feature, and without `--text` and `--image` the
file is a table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from datapipe.cli.options import STORE, existing, refuse_uri, remote
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.digest import PREFIX, digest_file
from datapipe.core.pipeline import Pipeline
from datapipe.core.remote import bare
from datapipe.core.roles import Roles
from datapipe.core.stage import Reader, Stage
from datapipe.errors import DeclarationError
from datapipe.features.tables import single_valued
from datapipe.manifest.bundle import signature_paths
from datapipe.stages import find
from datapipe.stages.ingest import reader_key

_MAGIC = ((b"PAR1", "ingest.parquet"), (b"ARROW1", "ingest.ipc"), (b"{", "ingest.jsonl"))

DETECTORS = (
    ("provenance.manifest", ("key|signature",)),
    ("dedup.exact", ("one answer a row",)),
    ("dedup.minhash", ("text", "one answer a row")),
    ("dedup.near", ("image|table", "one answer a row")),
    ("synthetic.declared", ("text|source|reference",)),
    ("synthetic.score", ("reference|anchors",)),
    ("synthetic.prevalence", ("reference|anchors",)),
    ("synthetic.diversity", ("text", "reference", "one answer a row")),
    ("synthetic.collapse", ("text", "reference", "one answer a row")),
    ("poisoning.flips", ("label", "one answer a row")),
    ("poisoning.source_shift", ("label", "source|annotator", "text|image|one answer a row")),
    ("poisoning.split_view", ("id", "snapshot")),
    ("poisoning.trigger_image", ("image", "label", "one answer a row")),
    ("poisoning.trigger_table", ("table", "label", "one answer a row")),
    ("poisoning.trigger_text", ("text", "label|response", "one answer a row")),
    ("balance.classes", ("label",)),
    ("balance.groups", ("label", "group")),
    ("labels.confident", ("label", "one answer a row")),
    ("labels.dawid_skene", ("label", "id", "annotator")),
)
"""Catalogue key to what it needs: a role or something `Beside`; `a|b` asks for either.

With an item and an annotator each row is one of several answers: rows repeat on purpose,
so that copies and odd labels are not looked for. Whose answers are odd is: by what the others
said of the same text or picture."""

ALONE = ("provenance.manifest", "poisoning.split_view")
"""Detectors in a step of their own: signatures are checked anew in every run, while those that go
together are reused together."""


@dataclass(frozen=True)
class Beside:
    """What an audit is given beside the file.

    Args:
        reference: Trusted rows to compare with.
        anchors: Rows known to be machine-made; rows that the file declares human teach too.
        keys: Public keys of signers that are trusted.
        on_error: What becomes of records that cannot be read: `refuse` or `quarantine`.
        missing_labels: What becomes of rows without a label: `refuse` or `quarantine`.
        store: Folder of the store, where rows beside the file, in other formats, are kept as
            Parquet.
        snapshot: Signed table of the items as they were.
        prove: Whether detectors of triggers train a small model with what they find and without.
        separator: What stands between the fields of CSV files; empty for the format's own.

    Example:
        >>> Beside(Path("good.csv")).names("a.csv")
        {'reference'}
    """

    reference: Path | None = None
    anchors: Path | None = None
    keys: tuple[Path, ...] = ()
    on_error: str = "refuse"
    missing_labels: str = "refuse"
    store: Path = STORE
    snapshot: Path | None = None
    prove: bool = False
    separator: str = ""

    def tables(self) -> list[Path]:
        """The tables of rows beside the file.

        Returns:
            Those that were given.

        Example:
            >>> Beside(Path("good.csv")).tables()
            [PosixPath('good.csv')]
        """
        return [path for path in (self.reference, self.anchors) if path is not None]

    def names(self, path: str) -> set[str]:
        """What there is, by the names that `DETECTORS` uses.

        Args:
            path: The file that is looked at.

        Returns:
            Some of `reference`, `anchors`, `snapshot`, `key` and `signature` (one lies beside the
            file).

        Example:
            >>> Beside(keys=(Path("k.pub"),)).names("a.csv")
            {'key'}
        """
        signed = not has_magic(path) and any(p.is_file() for p in signature_paths(path))
        there = {
            "reference": self.reference, "anchors": self.anchors, "snapshot": self.snapshot,
            "key": self.keys, "signature": signed,
        }  # fmt: skip
        return {name for name, is_there in there.items() if is_there}


def audit_pipeline(path: str, roles: Roles, *, beside: Beside) -> Pipeline:
    r"""The pipeline of an audit: read, then every detector that fits, each of them only noting.

    Args:
        path: A file, or a glob of files of one format.
        roles: What the columns are for.
        beside: Trusted rows and keys, and how strictly to read.

    Returns:
        The pipeline; nothing was read.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = file.write_text("x,y\n1,a\n")
        >>> made = audit_pipeline(str(file), Roles.of(label="y"), beside=Beside())
        >>> [group[0].name for group in made.stages]
        ['ingest.csv', 'dedup.exact']
    """
    keys = fitting(roles, beside.names(path))
    alone = [_detector(key, beside) for key in keys if key in ALONE]
    together = [_detector(key, beside) for key in keys if key not in ALONE]
    reader = reader_of(path, roles, beside)
    _no_option_in_vain(reader, [*alone, *together], beside)
    return Pipeline(Path(bare(path)).name, [reader, *alone, together])


def _no_option_in_vain(reader: Reader, detectors: Sequence[Stage], beside: Beside) -> None:
    """Refuse an option that nothing of this audit takes: it would be passed over in silence."""
    files = [reader, *(reader_of(str(p), Roles(), beside) for p in beside.tables())]
    taken = {f.name for stage in (*files, *detectors) for f in fields(stage)}
    asked = {
        "separator": (beside.separator, "no CSV file is read"),
        "on_error": (beside.on_error == "quarantine", "such files are read whole or not at all"),
        "prove": (beside.prove, "no trigger is looked for with these options"),
    }
    for name, (given, why) in asked.items():
        if given and name not in taken:
            raise DeclarationError(
                f"--{name.replace('_', '-')} is of no use here: {why}",
                code="DP-USE-098",
                hint="leave it out",
            )


def is_table(roles: Roles) -> bool:
    """Whether columns without a role are what is looked at: there is neither text nor image.

    Args:
        roles: What the columns are for.

    Returns:
        False where a column plays the role text or image.

    Example:
        >>> is_table(Roles.of(label="y"))
        True
    """
    return not {"text", "image"} & set(roles.columns)


def unseen(data: Dataset) -> list[str]:
    """The columns that no detector of an audit looks into, though copies of whole rows count.

    Args:
        data: The rows that were audited.

    Returns:
        Beside texts and images every column without a role; of a table those that hold lists,
        maps, structs or bytes.

    Example:
        >>> import pyarrow as pa
        >>> unseen(Dataset.of(pa.table({"x": [1], "tags": [["a"]]})))
        ['tags']
    """
    if not is_table(data.roles):
        return data.features
    return [name for name in data.features if not single_valued(data.types[name])]


def fitting(roles: Roles, beside: set[str]) -> list[str]:
    """The keys of the detectors that fit.

    Args:
        roles: What the columns are for.
        beside: What `Beside.names` gave.

    Returns:
        Catalogue keys in the order of the pipeline.

    Example:
        >>> fitting(Roles.of(text="t"), set())[:2]
        ['dedup.exact', 'dedup.minhash']
    """
    has = set(roles.columns) | beside
    if is_table(roles):
        has.add("table")
    if len(roles.all("text")) > 1:
        has.add("response")
    if not {"id", "annotator"} <= has:
        has.add("one answer a row")
    return [
        key
        for key, needs in DETECTORS
        if all(any(option in has for option in need.split("|")) for need in needs)
    ]


def _detector(key: str, beside: Beside) -> Stage:
    """The stage with its defaults, except that it only notes: an audit changes nothing."""
    stage: Any = find(key)
    arguments: dict[str, Any] = {}
    if "on_finding" in {f.name for f in fields(stage)}:
        arguments["on_finding"] = "note"
    if beside.prove and "prove" in {f.name for f in fields(stage)}:
        arguments["prove"] = True
    taken = {f.name for f in fields(stage)} if key.startswith("synthetic.") else set()
    for name in sorted({"reference", "anchors"} & taken):
        given: Path | None = getattr(beside, name)
        if given is not None:
            arguments[name] = str(_as_parquet(given, beside))
    if key == "poisoning.split_view":
        arguments["signed"] = str(beside.snapshot)
    if key in ("provenance.manifest", "poisoning.split_view"):
        arguments["trusted"] = tuple(str(k) for k in beside.keys)
    made: Stage = stage(**arguments)
    return made


def _as_parquet(given: Path, beside: Beside) -> Path:
    """Rows beside the file as Parquet; other formats are read strictly and kept in the store."""
    if given.suffix.lower() in (".parquet", ".pq"):
        return given
    digest = digest_file(given).removeprefix(PREFIX)[:16]
    kept = beside.store / "cache" / f"beside-{digest}.parquet"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as scratch:
            made = reader_of(str(given), Roles(), beside).run(empty(), Context(0, Path(scratch)))
            if made.data is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                made.data.save(kept)
    return kept


def reader_of(path: str, roles: Roles, beside: Beside) -> Reader:
    """The reader of a file's format: by suffix, else by its first bytes.

    Args:
        path: A file, or a glob of files of one format.
        roles: What the columns are for.
        beside: How strictly to read.

    Returns:
        The reader.

    Raises:
        DeclarationError: Nothing is there, or the format is not known.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.jsonl"
        >>> _ = file.write_text("{}")
        >>> reader_of(str(file), Roles(), Beside()).name
        'ingest.jsonl'
    """
    file = Path(bare(path)) if remote(path) else _first_file(refuse_uri(path))
    if file.is_dir():
        raise DeclarationError(
            f"{path} is a folder",
            code="DP-USE-006",
            hint=f"name its files, such as '{path}/*.parquet'",
        )
    stage: Any = find(_reader_key(file))
    arguments: dict[str, Any] = {r: c[0] if len(c) == 1 else c for r, c in roles.columns.items()}
    for name in {"on_error", "missing_labels", "separator"} & {f.name for f in fields(stage)}:
        arguments[name] = getattr(beside, name)
    arguments["fewest_classes"] = 2 if "label" in roles else 1
    reader: Reader = stage(path, **arguments)
    return reader


def _first_file(path: str) -> Path:
    """The file itself, or the first one that a pattern matches."""
    if not has_magic(path) or Path(path).exists():
        return existing(path)
    found = sorted(glob(path))  # noqa: PTH207 - the pattern may be absolute
    if not found:
        raise DeclarationError(
            f"{path} matches no file", code="DP-USE-004", hint="check the pattern and the folder"
        )
    return Path(found[0])


def _reader_key(file: Path) -> str:
    """The reader that the name asks for, else the one that the first bytes ask for."""
    try:
        return reader_key(file)
    except DeclarationError:
        if not file.is_file():  # an address, whose name must tell
            raise
        with file.open("rb") as opened:
            head = opened.read(16).lstrip()
        for magic, key in _MAGIC:
            if head.startswith(magic):
                return key
        raise
