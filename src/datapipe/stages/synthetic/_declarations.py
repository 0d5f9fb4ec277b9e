# SPDX-License-Identifier: Apache-2.0
"""What sources, columns and data-set cards declare about each row; nothing is guessed here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from datapipe.core.ancestry import labels
from datapipe.core.dataset import Dataset
from datapipe.core.source import Source
from datapipe.errors import DeclarationError, SchemaMismatch, nearest
from datapipe.manifest.plain import reading
from datapipe.stages.synthetic._style import FUNCTION_WORDS

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
MARKED_COLUMNS = (
    "annotationscreators", "languagecreators", "digitalsourcetype", "c2pa", "tags",
)  # fmt: skip
METADATA_COLUMNS = ("metadata", "meta", "provenance", "generationconfig", "generationparams")
METADATA = (
    r"(?i)\"(generator|generated_by|generation_model|source_model|model|model_name|model_id|llm)\""
    r"\s*:\s*\"[^\"]*\b(gpt|chatgpt|davinci|llama|alpaca|vicuna|claude|palm|gemini|gemma|mistral|"
    r"mixtral|opt-?\d|bloom|falcon|qwen|deepseek|phi-?\d|command-r|t5|grok|stable.?diffusion)"
    r"|\"(is_)?(synthetic|machine_generated|ai_generated)\"\s*:\s*true"
    r"|(trainedAlgorithmicMedia|compositeWithTrainedAlgorithmicMedia|machine-generated)"
)
PARENT_COLUMNS = ("derived_from", "parent_id", "parent", "source_row", "translated_from")
MOST_STEPS = 64
CARD_KEYS = ("annotations_creators", "language_creators", "tags", "digitalsourcetype")
MOST_CARD_BYTES = 1 << 20

PHRASES = (
    "as an ai language model", "as a large language model", "i am an ai assistant",
    "i'm an ai language model", "my knowledge cutoff", "my training data only goes",
    "here is a revised version", "here's a revised version", "i cannot fulfill this request",
    "i can't fulfill that request", "as of my last update", "regenerate response",
    "certainly! here is", "sure! here is", "sure, here's a",
)  # fmt: skip
BEGINNING = 2_000
"""Characters that tell the language of a text."""
ENGLISH = 0.2
"""Nearly half of the words of English texts are among its commonest, one in twenty to ten of other
languages'."""


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
    spoken = [replace(s, synthetic=_told(s), generator=_maker(s)) for s in data.sources]
    known = labels(Dataset(data.scan(row_id=True), sources=spoken))
    by_card = True if card and card_says_synthetic(card) else None
    frame = known.select(
        "row_id",
        pl.col("synthetic").fill_null(pl.lit(by_card, dtype=pl.Boolean)),
        generator=pl.col("generators").list.first().fill_null(""),
    )
    if column:
        if column not in data.names:
            raise SchemaMismatch(f"there is no column {column!r}", hint=nearest(column, data.names))
        return _with_column(frame, data.frame([column])[column], values, known=False)
    said = [_with_column(_blank(frame), v, values, known=k) for v, k in _columns_of(data)]
    said += [_blank(frame).with_columns(synthetic=v) for v in _marked(data)]
    return _inherited(_joined(frame, said), data)


def _blank(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(synthetic=pl.lit(None, dtype=pl.Boolean), generator=pl.lit(""))


def _joined(frame: pl.DataFrame, said: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """What any column declares: one that says synthetic counts, whatever the others say."""
    if not said:
        return frame
    votes = pl.DataFrame({str(i): f["synthetic"] for i, f in enumerate(said)})
    yes, no = pl.any_horizontal(pl.all().fill_null(value=False)), pl.any_horizontal(~pl.all())
    spoken = votes.select(
        s=pl.when(yes)
        .then(pl.lit(value=True))
        .when(no.fill_null(value=False))
        .then(pl.lit(value=False))
    )
    names = pl.DataFrame({str(i): f["generator"].replace("", None) for i, f in enumerate(said)})
    maker = names.select(g=pl.coalesce(pl.all()))["g"]
    return frame.with_columns(
        synthetic=pl.select(pl.coalesce(spoken["s"], frame["synthetic"])).to_series(),
        generator=pl.select(pl.coalesce(maker, frame["generator"])).to_series(),
    )


def _told(source: Source) -> bool | None:
    """What a source declares; one that names a generator and nothing else declares that too."""
    if source.synthetic is None and source.generator.strip():
        return source.generator.strip().lower() not in HUMAN
    return source.synthetic


def _maker(source: Source) -> str:
    return source.generator or (source.name if source.synthetic else "")


def _columns_of(data: Dataset) -> list[tuple[pl.Series, bool]]:
    """Every column that declares, and whether only known model names count in it."""
    lower = {n.lower(): n for n in data.names}
    taken = {c for columns in data.roles.columns.values() for c in columns}
    made: list[tuple[pl.Series, bool]] = []
    for name in FLAG_COLUMNS:
        found = lower.get(name, "")
        if found and found not in taken and _is_flag(data.frame([found])[found]):
            made.append((data.frame([found])[found], False))
    for name in GENERATOR_COLUMNS:
        found = lower.get(name, "")
        if not found or found in taken or data.types[found] != pl.String:
            continue
        values = data.frame([found])[found]
        people = values.str.strip_chars().str.to_lowercase().is_in(HUMAN[1:]).any()
        known = values.str.contains(MODELS).any()
        if known or (people and name not in ("model", "generator")):
            made.append((values, not people or name == "model"))
    return made


def _marked(data: Dataset) -> list[pl.Series]:
    """Columns with the words of standards: annotation fields, C2PA source types, metadata."""
    made = []
    for name in data.names:
        plain = name.lower().replace("_", "").replace("-", "")
        if plain not in MARKED_COLUMNS and plain not in METADATA_COLUMNS:
            continue
        values = data.frame([name])[name]
        text = _as_text(values)
        if plain in METADATA_COLUMNS:
            hit = text.str.contains(METADATA).fill_null(value=False)
        else:
            hit = text.str.contains(f"(?i){CARD_TAGS.pattern}").fill_null(value=False)
        made.append(pl.select(pl.when(hit).then(pl.lit(value=True))).to_series())
    return made


def _as_text(values: pl.Series) -> pl.Series:
    """A column's values as text: strings as they are, lists and records as JSON."""
    if values.dtype == pl.String:
        return values
    if isinstance(values.dtype, pl.List) and values.dtype.inner == pl.String:
        return values.list.join(" ")
    if isinstance(values.dtype, pl.Struct):
        return values.struct.json_encode()
    return pl.Series(values.name, [None] * len(values), dtype=pl.String)


def _inherited(frame: pl.DataFrame, data: Dataset) -> pl.DataFrame:
    """A row derived from a declared-synthetic row is synthetic, over any number of steps."""
    parent = next((n for n in data.names if n.lower() in PARENT_COLUMNS), "")
    if not parent or "id" not in data.roles:
        return frame
    own = data.frame([data.roles.one("id")]).to_series().cast(pl.String)
    above = _as_text(data.frame([parent])[parent].cast(pl.String, strict=False))
    synthetic = frame["synthetic"]
    for _ in range(MOST_STEPS):
        bad = own.filter(synthetic.fill_null(value=False)).drop_nulls()
        hit = above.is_in(bad.implode()).fill_null(value=False)
        grown = pl.select(pl.when(hit).then(pl.lit(value=True)).otherwise(synthetic)).to_series()
        if grown.equals(synthetic, null_equal=True):
            break
        synthetic = grown
    return frame.with_columns(synthetic=synthetic.alias("synthetic"))


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
        with reading(path) as file:
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


def english(texts: pl.Series) -> pl.Series:
    """Which texts are in the language of the phrases, by the share of its commonest words."""
    start = texts.cast(pl.String).fill_null("").str.head(BEGINNING).str.to_lowercase()
    common = start.str.count_matches(rf"\b(?:{'|'.join(FUNCTION_WORDS)})\b")
    return (common > 0) & (common >= ENGLISH * start.str.count_matches(r"[\p{L}\p{M}']+"))
