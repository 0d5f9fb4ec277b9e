# SPDX-License-Identifier: Apache-2.0
"""`Stage`: one step of a pipeline. Row stages are expressions, whole stages see the data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar, Literal

import polars as pl

from datapipe.core.artifact import Artifact, PrivacyEvent
from datapipe.core.authored import authored
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.digest import digest_code, digest_json, is_exact
from datapipe.core.finding import Finding
from datapipe.core.locality import computed, filtered, free
from datapipe.core.parameters import keep, problems
from datapipe.core.roles import ROW_ID, Roles
from datapipe.errors import DeclarationError

OnFinding = Literal["note", "quarantine", "relabel", "weight", "stop"]
OnSuspect = Literal["note", "quarantine", "weight", "stop"]
"""What can be done with a row whose label is not what is wrong with it."""
KEPT_BY_THE_EXECUTOR = ("findings", "privacy")
"""What a stage may use though no step before it gives it."""


@dataclass(frozen=True, eq=False)
class Yield:
    """What a stage gives back.

    Args:
        data: The new rows; None when the rows pass unchanged.
        findings: What the stage thinks of the data it was given.
        set_aside: Rows to quarantine: columns `row_id` uint64 and `reason` string, or None.
        artifacts: Files it wrote under `context.scratch`.
        label_changes: Labels it changed: `row_id`, `before`, `after`, `why`, `posterior`, or None.
        privacy: Privacy budget it used.

    Example:
        >>> Yield().data is None
        True
    """

    data: Dataset | None = None
    findings: tuple[Finding, ...] = ()
    set_aside: pl.DataFrame | None = None
    artifacts: tuple[Artifact, ...] = ()
    label_changes: pl.DataFrame | None = None
    privacy: tuple[PrivacyEvent, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A whole stage: a pure function of data, parameters and seed.

    Subclass it as a frozen dataclass whose fields are its parameters. A stage never sees the store
    or the executor, so that resume, Ray and replay come free.

    Example:
        >>> @dataclass(frozen=True)
        ... class Count(Stage):
        ...     name: ClassVar[str] = "demo.count"
        ...     def run(self, data: Dataset, context: Context) -> Yield:
        ...         return Yield()
        >>> Count().params()
        {}
    """

    name: ClassVar[str] = ""
    """Catalogue key, `family.method`."""
    version: ClassVar[str] = "1"
    """Goes up when the same parameters would give other results."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Roles without which it cannot run; `a|b` asks for either."""
    gives: ClassVar[tuple[str, ...]] = ()
    """Roles and artifact kinds it makes, such as `model`."""
    uses: ClassVar[tuple[str, ...]] = ()
    """What it reads beside rows: `findings` or `model` of the steps before, `privacy` spent."""
    changes: ClassVar[tuple[str, ...]] = ()
    """Roles whose values it rewrites; two parallel branches may not change the same."""
    raises_findings: ClassVar[tuple[str, ...]] = ()
    """Kinds of finding it may yield."""
    extra: ClassVar[str] = ""
    """The optional dependency group its module needs."""
    references: ClassVar[tuple[str, ...]] = ()
    """Author, year, title of its method."""

    def __post_init__(self) -> None:
        keep(self)

    def run(self, data: Dataset, context: Context) -> Yield:
        """Look at the data set and say what should become of it.

        Args:
            data: The rows; their digest is known and their order is fixed.
            context: Seed, scratch folder, what came before.

        Returns:
            New rows, findings, rows to set aside and artifacts, each where there are any.

        Raises:
            DeclarationError: The subclass does not define it.

        Example:
            >>> issubclass(RowStage, Stage)
            True
        """
        raise DeclarationError(
            f"{type(self).__name__} has no run()",
            code="DP-DECL-013",
            hint="define run(self, data, context) -> Yield",
        )

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without data.

        What a parameter's type declares (`datapipe.core.parameters`) is checked here; a subclass
        adds what several parameters mean together.

        Returns:
            A sentence for each problem, empty when there is none.

        Example:
            >>> @dataclass(frozen=True)
            ... class Sample(Stage):
            ...     name: ClassVar[str] = "demo.sample"
            ...     rows: int = 100
            >>> Sample(rows="many").check()
            ["demo.sample: rows='many' must be a whole number"]
        """
        return [f"{self.name}: {problem}" for problem in problems(self)]

    def not_evaluated(self, why: str, columns: tuple[str, ...] = ()) -> Yield:
        """What a stage yields that cannot look at this data: all its findings, not evaluated.

        Args:
            why: What is missing, as half a sentence.
            columns: The columns it is about.

        Returns:
            A finding for each kind in `raises_findings`; the data goes on as it is.

        Example:
            >>> @dataclass(frozen=True)
            ... class Count(Stage):
            ...     name: ClassVar[str] = "demo.count"
            ...     raises_findings: ClassVar[tuple[str, ...]] = ("demo.count",)
            >>> Count().not_evaluated("there are no rows").findings[0].says
            'not evaluated: there are no rows'
        """
        kinds = self.raises_findings
        return Yield(findings=tuple(Finding.not_evaluated(k, why, columns=columns) for k in kinds))

    def params(self) -> dict[str, Any]:
        """The parameters by name.

        Returns:
            Field name to value, in the order of declaration.

        Example:
            >>> Stage().params()
            {}
        """
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def code_digest(self) -> str:
        """The digest of the code that runs: this stage's module and the floors below it.

        Of a class that is not ours, what it uses of its author's counts too, as it is in memory:
        helper modules, globals, what it closes over, what a notebook has defined anew.

        Returns:
            The digest in the house form.

        Example:
            >>> Stage().code_digest().startswith("sha256:")
            True
        """
        module = type(self).__module__
        used: list[type | FunctionType] = [] if module.startswith("datapipe.") else [type(self)]
        used += [v for v in self.params().values() if isinstance(v, (FunctionType, type))]
        told = [authored(each).digest for each in used]
        return digest_json([digest_code(module), *told]) if told else digest_code(module)

    def cacheable(self) -> bool:
        """Whether equal keys promise equal results; False for code that cannot be digested.

        Returns:
            True for every stage of the catalogue, unless a parameter, or what a class of somebody
            else's closes over, is an object or function whose digest would not tell it from others.

        Example:
            >>> Stage().cacheable()
            True
        """
        kind = type(self)
        ours = kind.__module__.startswith("datapipe.")
        return is_exact(self.params()) and (ours or authored(kind).exact)


@dataclass(frozen=True)
class RowStage(Stage):
    """A row stage: a polars expression plan, row-local and order-preserving.

    Consecutive row stages are fused into one streaming plan, so define `columns`, `set_aside` or
    both, and nothing that looks at more than one row.

    Example:
        >>> class Short(RowStage):
        ...     name = "demo.short"
        ...     def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        ...         return {"too short": pl.col("t").str.len_chars() < 2}
        >>> import pyarrow as pa
        >>> made = Short().run(Dataset.of(pa.table({"t": ["a", "abc"]})), Context(0, Path(".")))
        >>> made.data.frame()["t"].to_list(), made.set_aside["reason"].to_list()
        (['abc'], ['too short'])
    """

    def columns(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        """New or replaced columns.

        Args:
            roles: What the columns are for.
            types: Column name to polars type.

        Returns:
            Column name to expression.

        Example:
            >>> RowStage().columns(Roles(), pl.Schema())
            {}
        """
        return {}

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        """Which rows leave, and why; looked at before `columns` are made.

        Args:
            roles: What the columns are for.
            types: Column name to polars type.

        Returns:
            Reason to a boolean expression; the first true one sets the row aside, null keeps it.

        Example:
            >>> RowStage().set_aside(Roles(), pl.Schema())
            {}
        """
        return {}

    def run(self, data: Dataset, context: Context) -> Yield:
        """Run this stage alone; the executor fuses it with its neighbours instead.

        Args:
            data: The rows.
            context: Not used: row stages are pure.

        Returns:
            The rows that stay and those set aside.

        Example:
            >>> import pyarrow as pa
            >>> RowStage().run(Dataset.of(pa.table({"a": [1]})), Context(0, Path("."))).data
            Dataset(? rows x 1 columns; no roles)
        """
        reason = first_reason(self.set_aside(data.roles, data.types))
        rows = data.scan(row_id=True)
        told = free("reason", data.types)
        left = computed(rows, {told: reason}).filter(pl.col(told).is_not_null())
        aside = left.select(pl.col(ROW_ID).alias("row_id"), pl.col(told).alias("reason")).collect()
        kept = computed(filtered(rows, reason.is_null()), self.columns(data.roles, data.types))
        return Yield(data=data.with_frame(kept), set_aside=aside)


def first_reason(conditions: Mapping[str, pl.Expr]) -> pl.Expr:
    """One expression for the first condition that holds.

    Args:
        conditions: Reason to boolean expression.

    Returns:
        The reason as a string, null where none holds.

    Example:
        >>> reason = first_reason({"big": pl.col("a") > 3})
        >>> pl.DataFrame({"a": [1, 5]}).select(reason).to_series().to_list()
        [None, 'big']
    """
    expression: pl.Expr = pl.lit(None, dtype=pl.String)
    for reason, condition in reversed(list(conditions.items())):
        expression = pl.when(condition).then(pl.lit(reason)).otherwise(expression)
    return expression


@dataclass(frozen=True)
class Reader(Stage):
    """A whole stage that starts a pipeline: it reads a source and names its rows.

    A reader's `run` gives a lazy `Dataset` with exactly one unnumbered `Source`; the executor
    gives the source its number and the rows their ids.

    Example:
        >>> Reader().files()
        ()
    """

    def roles(self) -> Roles:
        """The roles it declares, before a byte is read.

        Returns:
            The roles.

        Example:
            >>> Reader().roles().to_json()
            {}
        """
        return Roles()

    def files(self) -> tuple[Path, ...]:
        """The files it reads, in reading order; empty for an object in memory.

        Returns:
            The paths.

        Example:
            >>> Reader().files()
            ()
        """
        return ()

    def content(self) -> str:
        """The digest of what it reads when that is not a file.

        Returns:
            A digest, empty for files.

        Example:
            >>> Reader().content()
            ''
        """
        return ""
