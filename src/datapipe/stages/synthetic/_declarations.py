# SPDX-License-Identifier: Apache-2.0
"""What sources, columns and data-set cards declare about each row; nothing is guessed here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ORDINAL_BITS, ROW_ID
from datapipe.core.source import Source
from datapipe.errors import DeclarationError, SchemaMismatch, nearest

FLAG_COLUMNS = (
    "synthetic", "is_synthetic", "machine_generated", "is_machine_generated", "ai_generated",
    "is_ai_generated", "generated", "is_generated",
)  # fmt: skip
GENERATOR_COLUMNS = (
    "generator", "generated_by", "source_model", "model_name", "gen_model", "llm", "model",
)  # fmt: skip
"""Columns looked for when none is named; one called `model` counts only with known model names."""
HUMAN = (
    "",
    "human",
    "people",
    "person",
    "real",
    "original",
    "authentic",
    "none",
    "no",
    "false",
    "0",
)
MODELS = (
    r"(?i)\b(gpt|chatgpt|davinci|curie|babbage|text-ada|llama|alpaca|vicuna|claude|palm|gemini|"
    r"gemma|bard|mistral|mixtral|opt-?\d|bloom|falcon|qwen|deepseek|phi-?\d|cohere|command-r|t5|"
    r"grok|yi-?\d|stable.?diffusion|midjourney|dall.?e|imagen|sdxl|flux)"
)
CARD_TAGS = re.compile(
    r"machine-generated|\bsynthetic\b|trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia"
    r"|algorithmicMedia",
    re.IGNORECASE,
)
CARD_KEYS = ("annotations_creators", "language_creators", "tags", "digitalsourcetype")
MOST_CARD_BYTES = 1 << 20

PHRASES = (
    "as an ai language model", "as a large language model", "i am an ai assistant",
    "i'm an ai language model", "my knowledge cutoff", "my training data only goes",
    "here is a revised version", "here's a revised version", "i cannot fulfill this request",
    "i can't fulfill that request", "as of my last update", "regenerate response",
    "certainly! here is", "sure! here is", "sure, here's a",
)  # fmt: skip


def declared(data: Dataset, column: str, values: Sequence[str], *, card: str) -> pl.DataFrame:
    """What is declared about every row.

    A column speaks for its row, a source for its rows, a card for all; the narrower one counts.

    Args:
        data: The rows.
        column: The column that names the generator or is a flag; empty to look for one.
        values: The column's values that mean synthetic; empty for the usual ones.
        card: Path of a data-set card; empty for none.

    Returns:
        `row_id`, `synthetic` (true, false, null where nothing is declared) and `generator`, in
        row order.
    """
    frame = data.frame([], row_id=True).rename({ROW_ID: "row_id"})
    owner = (pl.col("row_id") // 2**ORDINAL_BITS).cast(pl.Int64)
    told = {s.number: s.synthetic for s in data.sources}
    makers = {s.number: _maker(s) for s in data.sources}
    by_card = True if card and card_says_synthetic(card) else None
    frame = frame.with_columns(
        synthetic=owner.replace_strict(
            list(told), list(told.values()), default=None, return_dtype=pl.Boolean
        ),
        generator=owner.replace_strict(
            list(makers), list(makers.values()), default="", return_dtype=pl.String
        ),
    ).with_columns(pl.col("synthetic").fill_null(pl.lit(by_card, dtype=pl.Boolean)))
    named, known = _column_of(data, column)
    if not named:
        return frame
    return _with_column(frame, data.frame([named])[named], values, known=known)


def _maker(source: Source) -> str:
    return source.generator or (source.name if source.synthetic else "")


def _column_of(data: Dataset, column: str) -> tuple[str, bool]:
    """The column that declares, and whether only known model names count in it."""
    if column:
        if column not in data.names:
            raise SchemaMismatch(f"there is no column {column!r}", hint=nearest(column, data.names))
        return column, False
    lower = {n.lower(): n for n in data.names}
    taken = {c for columns in data.roles.columns.values() for c in columns}
    for name in FLAG_COLUMNS:
        found = lower.get(name, "")
        if found and found not in taken and _is_flag(data.frame([found])[found]):
            return found, False
    for name in GENERATOR_COLUMNS:
        found = lower.get(name, "")
        if not found or found in taken or data.types[found] != pl.String:
            continue
        if data.frame([found])[found].str.contains(MODELS).any():
            return found, True
    return "", False


def _is_flag(values: pl.Series) -> bool:
    """Whether a column only says yes or no."""
    if values.dtype == pl.Boolean:
        return True
    words = values.drop_nulls().cast(pl.String).str.to_lowercase().unique()
    return 0 < len(words) <= 2 and set(words) <= {
        "0",
        "1",
        "0.0",
        "1.0",
        "true",
        "false",
        "yes",
        "no",
    }


def _with_column(
    frame: pl.DataFrame, values: pl.Series, wanted: Sequence[str], *, known: bool
) -> pl.DataFrame:
    """Let a column speak for its rows; null says nothing."""
    text = values.cast(pl.String).str.strip_chars()
    lower = text.str.to_lowercase()
    if wanted:
        says = text.is_in(list(wanted))
    elif values.dtype.is_numeric():
        says = values.cast(pl.Float64, strict=False) != 0
    else:
        human = lower.is_in(list(HUMAN))
        says = text.str.contains(MODELS) if known else ~human
        if known:  # a name that is neither a model nor a word for people says nothing
            says = pl.select(pl.when(says | human).then(says)).to_series()
    flag = _is_flag(values)
    spoken = frame.with_columns(said=says, name=pl.lit("") if flag else text)
    return spoken.with_columns(
        generator=pl.when(pl.col("said") & (pl.col("name") != ""))
        .then(pl.col("name"))
        .otherwise(pl.col("generator")),
        synthetic=pl.coalesce("said", "synthetic"),
    ).drop("said", "name")


def card_says_synthetic(card: str) -> bool:
    """Whether the front matter of a data-set card declares machine-made content.

    Only the keys that declare it are read, line by line; a card is no program.
    """
    path = Path(card)
    try:
        with path.open("rb") as file:
            text = file.read(MOST_CARD_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise DeclarationError(
            f"{card}: the data-set card cannot be read: {error.strerror}",
            code="DP-SYN-001",
            hint="name the card's file, such as README.md",
        ) from error
    front = text.split("\n---", 1)[0] if text.startswith("---") else text
    key = ""
    for line in front.splitlines():
        head, colon, rest = line.partition(":")
        if colon and not line.startswith((" ", "-", "\t")):
            key = head.strip().strip('"').lower()
            line = rest  # noqa: PLW2901 - the rest of the line is the key's value
        if key in CARD_KEYS and CARD_TAGS.search(line):
            return True
        if key == "synthetic" and line.strip().lower() in ("true", "yes"):
            return True
    return False


def phrased(texts: pl.Series) -> pl.Series:
    """Which texts carry a phrase that assistants leave behind."""
    plain = texts.cast(pl.String).fill_null("").str.to_lowercase()
    plain = plain.str.replace_all("[‘’`]", "'").str.replace_all(r"\s+", " ")
    return plain.str.contains_any(list(PHRASES))
