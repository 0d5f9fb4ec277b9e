# SPDX-License-Identifier: Apache-2.0
"""Federated training: clients keep their rows, and a server averages what they learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.parameters import Positive, PositiveInt, PositiveShare, Range
from datapipe.core.roles import Roles
from datapipe.core.stage import Yield
from datapipe.errors import DataError, DeclarationError
from datapipe.stages.train._clients import Clients, by_column, by_dirichlet, local_plan
from datapipe.stages.train._rounds import Aggregate, aggregated, bounded, local_updates, moved_by
from datapipe.stages.train._rows import Prepared, prepare
from datapipe.stages.train._training import (
    Trained,
    Training,
    architecture,
    chosen_device,
    diverged,
    fitting,
    handed_over,
    repeatable,
)

FACTS_ROUNDS_MOST = 200


@dataclass(frozen=True)
class TrainFederated(Training):
    """Train a classifier by federated averaging, all clients simulated in one process.

    Each round some clients start from the server's weights, take a few steps of SGD on their own
    rows and hand back how their weights moved; the server adds an aggregate of these moves. The
    local steps of all clients are one vectorised computation, which gives what training them one
    by one gives and is several times faster for small networks.

    Method: FedAvg; clients are the values of a column, or a Dirichlet split by label. Ragged
        clients are padded with rows of weight 0. Updates that are not finite are left out and
        counted. Which client took part in which round is a table beside the model.
    Assumes: Sums over clients may be pooled: columns of tables are standardised by pooled means.
        The network holds no running statistics.
    Choose it when: You want to know what training across owners would cost in accuracy, or how far
        a few bad clients could move a model, before anybody deploys anything.
    Fails when: Clients differ so much that their moves cancel (small alpha, many local epochs).
        With aggregate="mean" one client that scales its update decides the model: use `median` or
        `trimmed`, or bound updates with `clip`. Nothing here hides an update from the server.
    Cost: rounds x local epochs passes over the participants' rows; memory bounded by groups.

    Args:
        clients: Number of clients of the Dirichlet split, >= 2; not used with a column.
        by: The column whose values are the clients. Empty for the columns of the role `group`, and
            for a Dirichlet split where no column has it.
        rounds: Rounds of the server, >= 1.
        local_epochs: Passes of a client over its rows in a round, >= 1.
        learning_rate: Step size of the clients' SGD, > 0.
        batch_size: Rows of a local step, >= 1.
        participation: Share of the clients that take part in a round, in (0, 1].
        alpha: Concentration of the Dirichlet split, > 0; small is uneven.
        aggregate: `mean` (by rows), `median` or `trimmed` (by coordinate, one vote per client).
        trim: Share cut off on each side by `trimmed`, in [0, 0.5).
        clip: Bound of an update's norm, > 0; None does not bound it.
        model: A function `model(shape, n_classes)` that makes a torch.nn.Module; importable by
            name. None chooses by role.
        holdout: Share of rows held out for the evaluation, in [0, 1).
        test: A Parquet file to evaluate on instead; then nothing is held out.
        split_seed: Seed of the split, shared by the models of a run.
        device: `auto` (cuda when there is one), `cpu` or `cuda`.
        threads: CPU threads; part of the result.
        named: The artifact's name and the finding's kind, `federated` when empty.

    Example:
        >>> TrainFederated(aggregate="krum").check()
        ["train.federated: aggregate='krum' is none of mean, median, trimmed"]

    References:
        McMahan et al., 2017, Communication-efficient learning of deep networks from decentralized
        data.
        Yin et al., 2018, Byzantine-robust distributed learning: towards optimal statistical rates.
    """

    name: ClassVar[str] = "train.federated"
    raises_findings: ClassVar[tuple[str, ...]] = ("train.federated",)
    references: ClassVar[tuple[str, ...]] = (
        "McMahan et al., 2017, Communication-efficient learning of deep networks.",
        "Yin et al., 2018, Byzantine-robust distributed learning.",
    )

    clients: Annotated[int, Range(2)] = 10
    by: str = ""
    rounds: PositiveInt = 20
    local_epochs: PositiveInt = 1
    learning_rate: Positive = 0.1
    batch_size: PositiveInt = 16
    participation: PositiveShare = 1.0
    alpha: Positive = 1.0
    aggregate: Aggregate = "mean"
    trim: Annotated[float, Range(0, 0.5, "[)")] = 0.1
    clip: Positive | None = None

    def run(self, data: Dataset, context: Context) -> Yield:
        """Split the rows into clients, run the rounds, evaluate the server's model.

        Args:
            data: Rows with labels.
            context: Its seed decides first weights, split, participants and the order of rows.

        Returns:
            The model, tables of held-out answers and of participation, the finding
            `train.federated`.

        Raises:
            DataError: Labels or features are missing, there is one class or one client, too few
                rows, or no client ever gave a finite update.
            DeclarationError: The user's network does not fit, or holds running statistics.

        Example:
            >>> import tempfile, polars as pl
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> rows = pl.DataFrame({"a": [float(i % 2) for i in range(100)], "i": range(100)})
            >>> data = Dataset.of(rows.with_columns(y=pl.col("i") % 2), Roles.of(label="y"))
            >>> scratch = Path(tempfile.mkdtemp())
            >>> made = TrainFederated(clients=3, rounds=9).run(data, Context(1, scratch))
            >>> made.findings[0].measure.value
            1.0
        """
        ready = prepare(
            self._owned(data), holdout=self.holdout, split_seed=self.split_seed, test=self.test
        )
        clients = self._clients(data, ready, context)
        device = chosen_device(self.device)
        spec = architecture(self.model, ready)
        with repeatable(context.seed, self.threads):
            module = fitting(spec, ready.train, device)
            if any(True for _ in module.buffers()):
                raise DeclarationError(
                    "the network holds running statistics, which averaging would mix",
                    code="DP-TRAIN-013",
                    hint="use GroupNorm or LayerNorm instead of batch normalisation",
                )
            took_part = pl.concat(list(self._rounds(module, ready, clients, context)))
            diverged(module)
            made = Trained(
                module,
                spec,
                device,
                self._facts(clients, took_part),
                says=self._says(clients, took_part),
                tables={"participation": took_part},
            )
            return handed_over(self, made, ready, data, context)

    def _owned(self, data: Dataset) -> Dataset:
        """The same rows, where the column that names the client is no feature."""
        if not self.by:
            return data
        roles = data.roles.merged(Roles({"group": (*data.roles.all("group"), self.by)}))
        return data.with_roles(roles)

    def _clients(self, data: Dataset, ready: Prepared, context: Context) -> Clients:
        columns = (self.by,) if self.by else data.roles.all("group")
        if columns:
            return by_column(data, columns, ready.numbers)
        return by_dirichlet(ready.train.y, self.clients, self.alpha, context.rng("clients"))

    def _rounds(
        self, module: nn.Module, ready: Prepared, clients: Clients, context: Context
    ) -> Iterator[pl.DataFrame]:
        """Run every round; give a line per participant."""
        rng = context.rng("rounds")
        there = np.flatnonzero(clients.sizes > 0)
        many = max(1, round(self.participation * len(there)))
        module.train()
        for number in range(1, self.rounds + 1):
            chosen = np.sort(rng.choice(there, many, replace=False))
            plan = local_plan(clients.of_row, chosen, self.batch_size, self.local_epochs, rng)
            moved = local_updates(module, ready.train, plan, self.learning_rate)
            norms = moved.norm(dim=1).cpu().numpy()
            moved, finite = bounded(moved, self.clip)
            sizes = clients.sizes[chosen]
            if bool(finite.any()):
                votes = torch.from_numpy(sizes).to(moved)[finite]
                moved_by(module, aggregated(moved[finite], votes, self.aggregate, self.trim))
            context.say(f"{self.artifact_name}: round {number} of {self.rounds}")
            yield _participation(number, chosen, clients, norms, finite.cpu().numpy())

    def _facts(self, clients: Clients, took_part: pl.DataFrame) -> dict[str, Any]:
        by_round = took_part.group_by("round", maintain_order=True).agg(
            pl.len().alias("participants"),
            pl.col("rows").sum(),
            (~pl.col("kept")).sum().alias("left_out"),
            pl.col("update_norm").filter(pl.col("kept")).mean().alias("mean_update_norm"),
        )
        if not took_part["kept"].any():
            raise DataError(
                "no client gave a finite update in any round",
                code="DP-TRAIN-002",
                hint="lower learning_rate, or scale the features",
            )
        return {
            "epochs": self.rounds * self.local_epochs,
            "rounds": self.rounds,
            "clients": len(clients.names),
            "split": clients.split,
            "rows_by_client": {
                "least": int(clients.sizes.min()),
                "median": float(np.median(clients.sizes)),
                "most": int(clients.sizes.max()),
            },
            "aggregate": self.aggregate,
            "by_round": by_round.head(FACTS_ROUNDS_MOST).to_dicts(),
        }

    def _says(self, clients: Clients, took_part: pl.DataFrame) -> str:
        lost = int((~took_part["kept"]).sum())
        said = f"{len(clients.names)} clients took part in {self.rounds} rounds"
        return said + (f"; {lost} updates were not finite and left out." if lost else ".")


def _participation(
    number: int,
    chosen: NDArray[np.int64],
    clients: Clients,
    norms: NDArray[np.float32],
    finite: NDArray[np.bool_],
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "round": np.full(len(chosen), number, np.int32),
            "client": chosen,
            "name": [clients.names[k] for k in chosen],
            "rows": clients.sizes[chosen],
            "update_norm": norms.astype(np.float64),
            "kept": finite,
        }
    )
