# SPDX-License-Identifier: Apache-2.0
"""`WatermarkKeys`: rows that carry the watermark of a key that you hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.parameters import OpenShare, Paths, Range
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.errors import DeclarationError, SchemaMismatch, nearest
from datapipe.manifest.plain import reading
from datapipe.measure.detection import benjamini_hochberg
from datapipe.stages.synthetic._greenlist import green, tail, unique_pairs
from datapipe.stages.synthetic._words import word_hashes

Floats = NDArray[np.float64]
MOST_KEY_BYTES = 1 << 16


@dataclass(frozen=True)
class WatermarkKeys(Stage):
    """Tests each row for the green-list watermark of keys that you hold, exactly.

    *Method:* after each context the key makes a share `gamma` of all tokens green, and a
    watermarking sampler prefers them. Counted are the distinct pairs of context and token of a row,
    because a repeated pair is no new evidence, without the prompt, which nobody watermarked. The
    p-value is the exact binomial tail; over rows and keys the false discovery rate is held. Pairs
    that many rows share are left out: they would move all counts together.
    *Assumes:* the tokens are those that the sampler saw: give its token numbers in a column, or
    let the words of the text be the tokens.
    *Choose it when:* your own models mark what they make, or their maker gave you the key.
    *Fails when:* the text was paraphrased, or is so predictable that the sampler had no choice.
    *Cost:* one pass over the tokens for each key.

    Args:
        keys: Paths of files that hold one key each; keys themselves never enter a parameter.
        tokens: Column with lists of token numbers; empty to take the words of the text.
        prompt: Column with the text (or the number of tokens) that each row begins with and that
            was given to the model; empty for none.
        gamma: Share of the vocabulary that is green, in (0, 1).
        width: Tokens in a context, 1..8.
        alpha: False discovery rate over rows and keys, in (0, 1).
        on_finding: What becomes of flagged rows.

    Example:
        >>> from pathlib import Path
        >>> import pyarrow as pa
        >>> data = Dataset.of(pa.table({"t": ["no key, no answer"]}))
        >>> WatermarkKeys().run(data, Context(0, Path("."))).findings[0].verdict
        'not_evaluated'

    References:
        Kirchenbauer et al., 2023, A watermark for large language models.
        Fernandez et al., 2023, Three bricks to consolidate watermarks (2308.00113)
        Benjamini & Hochberg, 1995, Controlling the false discovery rate.
    """

    keys: Paths = ()
    tokens: str = ""
    prompt: str = ""
    gamma: OpenShare = 0.25
    width: Annotated[int, Range(1, 8)] = 1
    alpha: OpenShare = 1e-4
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "synthetic.watermark"
    raises_findings: ClassVar[tuple[str, ...]] = ("synthetic.watermark",)
    references: ClassVar[tuple[str, ...]] = (
        "Kirchenbauer et al., 2023, A watermark for large language models",
        "Fernandez et al., 2023, Three bricks to consolidate watermarks (2308.00113)",
        "Benjamini & Hochberg, 1995, Controlling the false discovery rate",
    )

    def cacheable(self) -> bool:
        """Whether nothing outside of the data is read: False with keys.

        Returns:
            True without keys.

        Example:
            >>> WatermarkKeys("key.bin").cacheable()
            False
        """
        return not self.keys

    def run(self, data: Dataset, context: Context) -> Yield:
        """Test every row against every key.

        Args:
            data: Rows with a text, or with a column of token numbers.
            context: Not used.

        Returns:
            One finding; its rows are those with at least one pair that counts.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.dataset import empty
            >>> WatermarkKeys().run(empty(), Context(0, Path("."))).findings[0].verdict
            'not_evaluated'
        """
        held: Any = self.keys
        keys = [_key(path) for path in held]
        if not keys:
            return Yield(findings=(_silent("no key is given", len(data)),))
        if not self.tokens and "text" not in data.roles:
            return Yield(findings=(_silent("there is no text and no column of tokens", len(data)),))
        tokens, rows = self._tokens(data)
        context_, token, row = unique_pairs(tokens, rows, self.width)
        n = len(data)
        counted = np.bincount(row, minlength=n)
        if not counted.any():
            return Yield(findings=(_silent("no row has a pair of tokens that counts", n),))
        looked = np.flatnonzero(counted)
        p_values = np.ones((len(keys), looked.size))
        for k, key in enumerate(keys):
            hits = np.bincount(
                row[green(key, context_, token, gamma=self.gamma)], minlength=n
            )[looked]  # fmt: skip
            p_values[k] = [
                tail(int(h), int(m), self.gamma) for h, m in zip(hits, counted[looked], strict=True)
            ]
        return Yield(findings=(self._finding(data.row_ids.gather(looked), p_values, n),))

    def _tokens(self, data: Dataset) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashed tokens and their rows, what the prompt gave left out."""
        for column in filter(None, (self.tokens, self.prompt)):
            if column not in data.names:
                raise SchemaMismatch(
                    f"there is no column {column!r}", hint=nearest(column, data.names)
                )
        prompts = data.frame([self.prompt])[self.prompt] if self.prompt else None
        counted = prompts is not None and prompts.dtype.is_integer()
        if self.tokens:
            lists = data.frame([self.tokens])[self.tokens]
            if not isinstance(lists.dtype, (pl.List, pl.Array)):
                raise SchemaMismatch(
                    f"the column {self.tokens!r} holds no lists",
                    hint="give a column with the list of token numbers of each row",
                )
            frame = pl.DataFrame({"r": np.arange(len(lists)), "t": lists})
            frame = frame.explode("t", empty_as_null=True, keep_nulls=True).drop_nulls()
            tokens = frame["t"].cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
            hashes, rows = tokens.astype(np.uint64), frame["r"].to_numpy().astype(np.int64)
        else:
            texts = data.values("text").cast(pl.String).fill_null("")
            if prompts is not None and not counted:
                texts = _without(texts, prompts.cast(pl.String).fill_null(""))
            hashes, rows = word_hashes(texts)
        if prompts is None or not counted:
            return hashes, rows
        first = np.searchsorted(rows, rows)  # where each token's row begins
        place = np.arange(rows.size) - first
        kept = place >= prompts.fill_null(0).to_numpy()[rows]
        return hashes[kept], rows[kept]

    def _finding(self, row_ids: pl.Series, p_values: Floats, n: int) -> Finding:
        keys, looked = p_values.shape
        adjusted = benjamini_hochberg(p_values.ravel()).reshape(keys, looked)
        hit = (adjusted <= self.alpha).any(0)
        best = np.minimum(1.0, p_values.min(0) * keys)
        hits = int(hit.sum())
        by_key = [int((adjusted[k] <= self.alpha).sum()) for k in range(keys)]
        return Finding(
            "synthetic.watermark",
            "suspect" if hits else "clean",
            Estimate.rate(hits, looked),
            f"{hits} of {looked} rows carry the watermark of one of {keys} keys",
            "medium" if hits else "info",
            p_value=float(min(1.0, best.min() * looked)),
            rows=scored_rows(
                row_ids, -np.log10(np.maximum(best, 1e-300)), flagged=hit, p_values=best,
                reason="the watermark of a key that you hold",
            ),
            details={"keys": keys, "rows_by_key": by_key, "not_looked_at": n - looked},
            remedy="declare these rows synthetic" if hits else "",
        )  # fmt: skip


def _key(path: str) -> bytes:
    try:
        with reading(path) as file:
            key = file.read(MOST_KEY_BYTES)
    except OSError as error:
        raise DeclarationError(
            f"{path}: the key cannot be read: {error.strerror}",
            code="DP-SYN-006",
            hint="name a file that holds the key of the watermark",
        ) from error
    if not key.strip():
        raise DeclarationError(
            f"{path}: the key is empty", code="DP-SYN-006", hint="name a file that holds a key"
        )
    return key


def _without(texts: pl.Series, prompts: pl.Series) -> pl.Series:
    """Texts less the prompt that they begin with."""
    frame = pl.DataFrame({"t": texts, "p": prompts})
    begins = pl.col("t").str.starts_with(pl.col("p"))
    rest = pl.col("t").str.slice(pl.col("p").str.len_chars())
    return frame.select(pl.when(begins).then(rest).otherwise(pl.col("t"))).to_series()


def _silent(why: str, n: int) -> Finding:
    return Finding.not_evaluated(
        "synthetic.watermark",
        why,
        measure=Estimate.unknown(method="no test", n=n),
        details={"why": why},
        remedy="give keys='watermark.key' and a text or a column of tokens",
    )
