# SPDX-License-Identifier: Apache-2.0
"""`stage`: a plain function as a step of a pipeline."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import polars as pl

from datapipe.core.arrow_stream import as_any
from datapipe.core.authored import authored
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.digest import canonical, digest_json, is_exact
from datapipe.core.stage import Stage, Yield
from datapipe.errors import DeclarationError, SchemaMismatch

StageFunction = Callable[..., Any]


@dataclass(frozen=True)
class FunctionStage(Stage):
    """A plain function as a stage; made by `stage`, not by hand.

    Args:
        function: Takes a lazy frame (and keyword parameters), gives a frame, a `Yield` or None.
        key: The catalogue key.
        code_version: The author's version; empty when none was declared.
        arguments: Keyword arguments of the function.
        roles_needed: Roles without which it cannot run.

    Example:
        >>> @stage("text.lower", version="1")
        ... def lower(frame: pl.LazyFrame) -> pl.LazyFrame:
        ...     return frame.with_columns(pl.col("t").str.to_lowercase())
        >>> lower().name
        'text.lower'
    """

    function: StageFunction
    key: str
    code_version: str = ""
    arguments: tuple[tuple[str, Any], ...] = ()
    roles_needed: tuple[str, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:  # type: ignore[override]  # a value here, a class variable above
        """The key given to the decorator."""
        return self.key

    @property
    def version(self) -> str:  # type: ignore[override]  # as `name`
        """The version given to the decorator."""
        return self.code_version or "0"

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]  # as `name`
        """The roles given to the decorator."""
        return self.roles_needed

    def check(self) -> list[str]:
        """Arguments that the function does not take, or that cannot be written down.

        Returns:
            A sentence for each problem.

        Example:
            >>> stage("a.b")(lambda frame, n=1: frame)(m=2).check()
            ["a.b: got an unexpected keyword argument 'm'"]
        """
        told = super().check()
        given = dict(self.arguments)
        takes = inspect.signature(self.function)
        if "context" in takes.parameters:
            given["context"] = None
        try:
            takes.bind(None, **given)
        except TypeError as error:
            told.append(f"{self.key}: {error}")
        for name, value in self.arguments:
            try:
                canonical(value)
            except (TypeError, ValueError, RecursionError):
                kind = type(value).__name__
                told.append(f"{self.key}: {name} is of type {kind}, which has no JSON form")
        return told

    def run(self, data: Dataset, context: Context) -> Yield:
        """Call the function with the rows as a lazy frame, the hidden column included.

        Args:
            data: The rows.
            context: Passed on when the function has a parameter called `context`.

        Returns:
            What the function gave; rows that it left out are set aside.

        Raises:
            SchemaMismatch: The function repeated or invented rows, so that ids are not unique.

        Example:
            >>> from pathlib import Path
            >>> import pyarrow as pa
            >>> @stage("demo.big", version="1")
            ... def big(frame: pl.LazyFrame, *, over: int = 1) -> pl.LazyFrame:
            ...     return frame.filter(pl.col("a") > over)
            >>> made = big(over=2).run(Dataset.of(pa.table({"a": [1, 3]})), Context(0, Path(".")))
            >>> made.set_aside["reason"].to_list()
            ['left out by demo.big']
        """
        given = dict(self.arguments)
        if "context" in inspect.signature(self.function).parameters:
            given["context"] = context
        result = self.function(data.scan(row_id=True), **given)
        if result is None or isinstance(result, Yield):
            return result or Yield()
        made = data.with_frame(as_any(result))
        before, after = data.row_ids, made.row_ids
        if after.n_unique() != after.len() or not after.is_in(before.implode()).all():
            raise SchemaMismatch(
                f"{self.key} repeated or invented rows",
                hint="keep every row's _row_id, once",
            )
        gone = before.filter(~before.is_in(after.implode()))
        aside = pl.DataFrame({"row_id": gone}).with_columns(
            reason=pl.lit(f"left out by {self.key}")
        )
        return Yield(data=made, set_aside=aside)

    def params(self) -> dict[str, Any]:
        """The function's keyword arguments.

        Returns:
            Name to value.

        Example:
            >>> stage("a.b", version="1")(lambda frame, n=1: frame)(n=2).params()
            {'n': 2}
        """
        return dict(self.arguments)

    def code_digest(self) -> str:
        """The digest of the function's source text, and of what it closes over and uses.

        Returns:
            The digest in the house form.

        Example:
            >>> stage("a.b", version="1")(len)().code_digest().startswith("sha256:")
            True
        """
        try:
            text = inspect.getsource(self.function)
        except (OSError, TypeError):
            text = f"{self.key}/{self.code_version}"
        given = [v for v in self.params().values() if isinstance(v, (FunctionType, type))]
        return digest_json([text, *(authored(each).digest for each in (self.function, *given))])

    def cacheable(self) -> bool:
        """Whether a version was declared: a function may call code that no digest sees.

        Returns:
            False when the decorator got no version, or a parameter, or what the function closes
            over, has no digest of its own.

        Example:
            >>> stage("a.b")(len)().cacheable()
            False
        """
        exact = is_exact(self.params()) and authored(self.function).exact
        return bool(self.code_version) and exact


def stage(
    key: str, *, version: str = "", needs: str | tuple[str, ...] = ()
) -> Callable[[StageFunction], Callable[..., FunctionStage]]:
    """Make a stage of a plain function.

    The function takes a lazy polars frame that carries the hidden `_row_id`, and gives a frame
    that still carries it; rows it leaves out are set aside, never lost.

    Args:
        key: `family.method`.
        version: Raise it when the function or what it calls changes; without it nothing is reused.
        needs: Roles without which it cannot run, one or several.

    Returns:
        A decorator; the decorated name makes stages, its keyword arguments are their parameters.

    Raises:
        DeclarationError: The key is not of the form `family.method`, or was forgotten; the version
            is no text.

    Example:
        >>> @stage("text.strip", version="1", needs=("text",))
        ... def strip(frame: pl.LazyFrame, *, column: str = "t") -> pl.LazyFrame:
        ...     return frame.with_columns(pl.col(column).str.strip_chars())
        >>> strip(column="body").params()
        {'column': 'body'}
    """
    if not isinstance(key, str):  # a bare `@stage` hands the function over
        raise DeclarationError(
            "@stage was given no key",
            code="DP-DECL-016",
            hint="""write @stage("family.method", version="1") above the function""",
        )
    if not isinstance(version, str):
        raise DeclarationError(
            f"@stage({key!r}) was given version={version!r}; a text was expected",
            code="DP-DECL-016",
            hint=f'write version="{version}"',
        )
    roles = (needs,) if isinstance(needs, str) else tuple(needs)
    family, _, method = key.partition(".")
    if not (family.isidentifier() and method.replace(".", "_").isidentifier()):
        raise DeclarationError(
            f"{key!r} is no stage key",
            code="DP-DECL-016",
            hint="use family.method, such as text.lower",
        )

    def decorate(function: StageFunction) -> Callable[..., FunctionStage]:
        def make(**arguments: Any) -> FunctionStage:
            pairs = tuple(sorted(arguments.items()))
            return FunctionStage(function, key, version, pairs, roles)

        make.__name__ = getattr(function, "__name__", "stage")
        make.__doc__ = function.__doc__
        return make

    return decorate
