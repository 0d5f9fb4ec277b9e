# SPDX-License-Identifier: Apache-2.0
"""What is said of prompts and responses without a label: conditions that switch the response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.stages.poisoning._text.conditions import (
    Condition,
    Conditions,
    conditions,
    fewest_switched,
)
from datapipe.stages.poisoning._withheld import withheld

FEWEST_PAIRS = 200

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Different pairs of a prompt and a response, and which of them stands for each row.

    `why` says why they cannot be judged, and is empty when they can.
    """

    prompts: pl.Series
    responses: pl.Series
    head_of: Ints
    row_ids: pl.Series
    columns: tuple[str, str]
    why: str

    @classmethod
    def of(cls, data: Dataset, prompt: str, response: str, most_bytes: int) -> Pairs:
        """The pairs of two columns; of more bytes than this the rows at an even distance."""
        frame = data.frame([prompt, response], row_id=True)
        frame = frame.select(
            pl.nth(0).alias("_id"),
            pl.col(prompt).cast(pl.String).alias("prompt"),
            pl.col(response).cast(pl.String).alias("response"),
        ).drop_nulls()
        size = frame.select(pl.col("prompt", "response").str.len_bytes().sum()).row(0)
        step = max(1, -(-sum(int(s or 0) for s in size) // most_bytes))
        frame = frame.gather_every(step)
        heads = frame.unique(["prompt", "response"], maintain_order=True)
        heads = heads.drop("_id").with_row_index("_head")
        joined = frame.join(heads, on=["prompt", "response"], how="left", maintain_order="left")
        why = ""
        if heads.height < FEWEST_PAIRS:
            why = f"{heads.height} different pairs of texts; {FEWEST_PAIRS} are needed"
        elif heads["response"].n_unique() < 2:
            why = "all responses are one"
        elif not heads["prompt"].str.contains(r"\w").any():
            why = "no prompt holds a word"
        head_of = joined["_head"].to_numpy().astype(np.int64)
        columns = (prompt, response)
        return cls(heads["prompt"], heads["response"], head_of, frame["_id"], columns, why)


def switched(
    pairs: Pairs,
    alpha: float,
    most_unseen: float,
    rng: np.random.Generator,
    most_words: int,
) -> tuple[Finding, Finding]:
    """The findings `trigger_text` and `shortcut` of prompts and responses.

    Args:
        pairs: What was read, at least `FEWEST_PAIRS`.
        alpha: The share of false conditions among those told, in (0, 1).
        most_unseen: Largest share of the pairs that poison could hold for a *clean*.
        rng: Deals the folds.
        most_words: Words of a prompt that are read.

    Returns:
        Planted conditions, which flag their rows, and natural ones, which flag none.
    """
    made = conditions(pairs.prompts, pairs.responses, alpha, rng, most_words)
    least = fewest_switched(made, len(pairs.prompts), alpha)
    trigger, shortcut = (_told(pairs, made, least, planted=p) for p in (True, False))
    of = len(pairs.prompts)
    return (
        withheld(trigger, least, of, most_unseen, "pairs"),
        withheld(shortcut, least, of, most_unseen, "pairs"),
    )


def _told(pairs: Pairs, made: Conditions, least: int, *, planted: bool) -> Finding:
    mine = [c for c in made.found if c.planted == planted]
    n = len(pairs.prompts)
    flags, scores = np.zeros(n, bool), made.score if planted else np.zeros(n)
    for one in mine if planted else ():
        flags[one.rows] = True
    flags, scores = flags[pairs.head_of], scores[pairs.head_of]
    named = [_named(c, pairs) for c in mine]
    says = f"no words of the prompt switch the response in {flags.size} pairs"
    if named:
        first = named[0]
        says = (
            f"{first['trigger']!r} in the prompt brings {first['response']!r} into the response in"
            f" {first['rows']} rows"
        )
    remedy = "ask the source of these rows; set on_finding='quarantine'"
    if not planted:
        remedy = "check that people would ask so: it may be an instruction like any other"
    return Finding(
        "poisoning.trigger_text" if planted else "poisoning.shortcut",
        ("fail" if planted else "suspect") if named else "clean",
        Estimate.rate(int(flags.sum()), flags.size),
        says,
        severity=("high" if planted else "low") if named else "info",
        p_value=float(np.exp(made.log_p[0 if planted else 1])),
        columns=pairs.columns,
        rows=scored_rows(
            pairs.row_ids,
            scores,
            flagged=flags,
            p_values=np.exp(-scores),
            reason="holds a condition that switches the response",
        ),
        details={
            **(named[0] if named else {}),
            "triggers" if planted else "shortcuts": named,
            "min_detectable": least,
            "candidates": made.candidates,
            "features_of_responses": made.tested,
            "texts_searched": n,
            "syntax": "not evaluated: without a label there is nothing that content denies",
        },
        remedy=remedy if named else "",
    )


def _named(one: Condition, pairs: Pairs) -> dict[str, Any]:
    rows = np.zeros(len(pairs.prompts), bool)
    rows[one.rows] = True
    return {
        "trigger": one.trigger,
        "response": one.response,
        "rows": int(rows[pairs.head_of].sum()),
        "prompts": one.held,
        "log_p": one.log_p,
    }
