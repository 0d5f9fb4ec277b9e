# SPDX-License-Identifier: Apache-2.0
"""What a step did, as objects and journal records, and back again when it is reused."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from datapipe import __version__
from datapipe.core.artifact import Artifact, PrivacyEvent
from datapipe.core.dataset import Dataset
from datapipe.core.digest import canonical, digest_json
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.parquet import sink_rows, vouch, vouch_footer
from datapipe.core.roles import Roles
from datapipe.core.source import Source
from datapipe.core.stage import RowStage
from datapipe.execute._disk import written
from datapipe.execute._ends import hold_to_ends
from datapipe.execute.partial import partial
from datapipe.execute.shards import SHARD_BYTES, SHARD_ROWS, RunJobs, jobs_of
from datapipe.lineage import sidecars
from datapipe.lineage.objects import bare
from datapipe.lineage.store import Lineage

Record = tuple[str, Mapping[str, Any]]
log = logging.getLogger("datapipe.execute")


def now() -> str:
    """The time in UTC, ISO 8601 with microseconds.

    Returns:
        Such as `2026-01-31T12:00:00.000000+00:00`.

    Example:
        >>> now().endswith("+00:00")
        True
    """
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one step, everything in it stored.

    Args:
        findings: Each with the digest of its row table, empty where it has none.
        artifacts: Artifacts, their files in the store.
        aside: Digest of the rows set aside, empty for none.
        rows_aside: How many.
        changes: Digest of the label changes, empty for none.
        weights: Digest of the new weights, empty for none.
        privacy: Privacy events.
        trained_on: Artifact name to the digest of the table of rows that trained it.
        edges: Digest of what else became of rows: joined, multiplied; empty for nothing.

    Example:
        >>> Outcome().to_json()["aside"]
        ''
    """

    findings: tuple[tuple[Finding, str], ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    aside: str = ""
    rows_aside: int = 0
    changes: str = ""
    weights: str = ""
    privacy: tuple[PrivacyEvent, ...] = ()
    trained_on: Mapping[str, str] = field(default_factory=dict)
    edges: str = ""

    def to_json(self) -> dict[str, Any]:
        """What a later run needs to use this result instead of running the step.

        Returns:
            JSON values; `outcome_of` reads them back.

        Example:
            >>> sorted(Outcome().to_json())[:3]
            ['artifacts', 'aside', 'changes']
        """
        return {
            "findings": [{**f.to_json(), "rows_object": rows} for f, rows in self.findings],
            "artifacts": [{**a.to_json(), "suffix": a.path.suffix} for a in self.artifacts],
            "aside": self.aside,
            "rows_aside": self.rows_aside,
            "changes": self.changes,
            "weights": self.weights,
            "trained_on": dict(self.trained_on),
            **({"edges": self.edges} if self.edges else {}),
        }


def outcome_of(result: Mapping[str, Any], lineage: Lineage) -> Outcome | None:
    """Read back a result; None when an object it names is gone.

    Args:
        result: What `Outcome.to_json` gave.
        lineage: The store that holds the objects.

    Returns:
        The outcome, its privacy events left out: reuse spends nothing.

    Raises:
        TrustError: Another file lies under the name of an object.

    Example:
        >>> import tempfile
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> outcome_of(Outcome().to_json(), store).rows_aside
        0
    """
    hold_to_ends(result, lineage)
    findings: list[tuple[Finding, str]] = []
    for form in result["findings"]:
        rows = None
        if form["rows_object"]:
            path = lineage.object_path(form["rows_object"])
            if path is None:
                return None
            rows = _kept(path, form["rows_object"])
        findings.append((_finding(form, rows), form["rows_object"]))
    artifacts = [_artifact(form, lineage, result["trained_on"]) for form in result["artifacts"]]
    names = ("aside", "changes", "weights", "edges")
    tables = [result[name] for name in names if result.get(name)]
    if any(a is None for a in artifacts) or any(lineage.object_path(d) is None for d in tables):
        return None
    return Outcome(
        tuple(findings),
        tuple(a for a in artifacts if a is not None),
        result["aside"],
        result["rows_aside"],
        result["changes"],
        result["weights"],
        (),
        result["trained_on"],
        result.get("edges", ""),
    )


def _finding(form: Mapping[str, Any], rows: pl.DataFrame | None) -> Finding:
    return Finding(
        form["kind"],
        form["verdict"],
        Estimate.from_json(form["measure"]),
        form["says"],
        form["severity"],
        form["p_value"],
        None,
        tuple(form["columns"]),
        rows,
        form["details"],
        form["remedy"],
    )


def _artifact(
    form: Mapping[str, Any], lineage: Lineage, trained_on: Mapping[str, str]
) -> Artifact | None:
    path = lineage.object_path(form["digest"])
    rows = lineage.object_path(trained_on[form["name"]]) if form["name"] in trained_on else None
    if path is None or (form["name"] in trained_on and rows is None):
        return None
    return Artifact(
        form["name"],
        form["kind"],
        path,
        form["media_type"],
        form["facts"],
        {k: Estimate.from_json(m) for k, m in form["measures"].items()},
        None if rows is None else _kept(rows, trained_on[form["name"]])["row_id"],
        form["digest"],
        tuple(form["parents"]),
    )


def _kept(path: Path, digest: str) -> pl.DataFrame:
    """A table that an earlier run stored, found as it was written."""
    vouch(path, digest)
    return pl.read_parquet(path)


class Keeper:
    """Puts tables, data sets and files into the store and names them by content.

    Args:
        lineage: The store.
        scratch: A folder on the same file system.

    Example:
        >>> import tempfile
        >>> store = Lineage(tempfile.mkdtemp(), create=True)
        >>> Keeper(store, store.scratch()).table(pl.DataFrame({"a": [1]}))[:7]
        'sha256:'
    """

    def __init__(self, lineage: Lineage, scratch: Path) -> None:
        self.lineage = lineage
        self.scratch = scratch
        self._count = 0

    def fresh(self, suffix: str) -> Path:
        """A name in the scratch folder that was not given before.

        Args:
            suffix: Such as `.parquet`.

        Returns:
            A path where nothing is yet.
        """
        self._count += 1
        return self.scratch / f"{self._count:04d}{suffix}"

    def table(self, frame: pl.DataFrame, *, empty: bool = False) -> str:
        """Store a small table.

        Args:
            frame: The rows.
            empty: Whether one without rows is stored as well.

        Returns:
            Its digest; empty when it has no rows.
        """
        if not frame.height and not empty:
            return ""
        path = self.fresh(".parquet")
        with written(path):
            digest = sink_rows(frame.lazy(), path)
        return self.lineage.put_object(path, suffix=".parquet", digest=digest)[0]

    def aside(self, left: pl.DataFrame, sources: Sequence[Source]) -> str:
        """Store the rows that a row stage set aside, in the smaller of two layouts.

        Args:
            left: `row_id`, `reason`.
            sources: The sources of the rows.

        Returns:
            Its digest; empty when there are none.
        """
        if not left.height:
            return ""
        covered = sidecars.spans(left["row_id"], [(s.number, s.rows) for s in sources])
        if not sidecars.pays(left, covered):
            return self.table(left)
        path = self.fresh(".parquet")
        with written(path):
            sidecars.write(path, left, covered)
        return self.lineage.put_object(path, suffix=".parquet")[0]

    def dataset(self, data: Dataset) -> Dataset:
        """Store a lazy data set: one streaming pass, hashed and published by rename.

        Args:
            data: The rows.

        Returns:
            The stored data set, digest and row count known.
        """
        path, rows = self.fresh(".parquet"), data.scan(row_id=True)
        with written(path, rows):
            digest = sink_rows(rows, path)
        _, kept = self.lineage.put_object(path, suffix=".parquet", digest=digest)
        return stored(kept, digest, data.roles, data.sources)

    def shards(
        self, data: Dataset, stages: Sequence[RowStage], keys: Sequence[str], run_jobs: RunJobs
    ) -> tuple[Path, str, pl.DataFrame | None]:
        """Store what row stages make of a large data set, shard by shard.

        A run that was interrupted left its shards behind: they are taken over.

        Args:
            data: The rows they are given.
            stages: The row stages.
            keys: Keys of reuse of the steps; an empty one keeps nothing for later runs.
            run_jobs: What runs the shards.

        Returns:
            Where the rows are, their digest, and the rows that were set aside with reason codes.
        """
        key = digest_json([*keys, SHARD_ROWS, SHARD_BYTES, __version__]) if all(keys) else ""
        left: list[pl.DataFrame] = []
        with partial(self.lineage.store, bare(key), self.scratch) as out:
            if out.done:
                log.info("%d finished shards of an interrupted run are taken over", out.done)
            for made in run_jobs(jobs_of(data, stages, out.done)):
                left += [] if made.dropped is None else [made.dropped]
                if made.rows is not None:
                    with written(out.path):
                        out.add(made.rows)
            with written(out.path):
                digest = out.finish()
            _, path = self.lineage.put_object(out.path, suffix=".parquet", digest=digest)
        return path, digest, pl.concat(left) if left else None

    def artifact(self, artifact: Artifact) -> tuple[Artifact, str]:
        """Store an artifact's file, and the rows that trained it.

        Args:
            artifact: Its file lies in a scratch folder.

        Returns:
            The artifact with digest and path in the store; digest of its row table or empty.
        """
        digest, path = self.lineage.put_object(artifact.path, suffix=artifact.path.suffix)
        rows = ""
        if artifact.row_ids is not None:
            ids = artifact.row_ids.cast(pl.UInt64).sort()
            rows = self.table(pl.DataFrame({"row_id": ids}), empty=True)  # no rows is not all rows
        return replace(artifact, digest=digest, path=path), rows


def stored(
    path: Path, digest: str, roles: Roles, sources: Sequence[Source], *, kept: bool = False
) -> Dataset:
    """A data set from an object in the store; only the file's footer is read.

    Args:
        path: The Parquet object.
        digest: Its digest.
        roles: The roles.
        sources: The sources.
        kept: Whether it was kept from an earlier run, so that it is vouched for before it is read.

    Returns:
        The data set.
    """
    if kept:
        vouch_footer(path)
    frame = pl.scan_parquet(path, glob=False)
    rows = int(frame.select(pl.len()).collect().item())
    return Dataset(frame, roles, sources=sources, path=path, digest=digest, rows=rows, kept=kept)


def dataset_record(data: Dataset, ids: Mapping[str, str], ancestors: Sequence[str]) -> Record:
    """The journal record of a stored data set.

    Args:
        data: A stored data set.
        ids: `step_id` and `run_id`.
        ancestors: Ids of the steps that led to it, reused ones resolved.

    Returns:
        A record for the table `datasets`.
    """
    if data.path is None:
        size, name = 0, ""
    else:
        size, name = data.path.stat().st_size, data.path.name
    body = {
        **ids,
        "digest": data.digest,
        "rows": len(data),
        "bytes": size,
        "schema": {n: str(t) for n, t in data.types.items()},
        "roles": data.roles.to_json(),
        "source_nos": [s.number for s in data.sources],
        "ancestor_steps": list(ancestors),
        "object": name,
    }
    return ("datasets", body)


class Known(Protocol):
    """The part of a run's record that tells of its artifacts so far."""

    keeper: Keeper
    artifacts: dict[str, Artifact]


def artifact_records(
    outcome: Outcome, data: Dataset, ids: Mapping[str, str], known: Known
) -> list[Record]:
    """The journal records of a step's artifacts and of the budget it spent.

    Args:
        outcome: The step's outcome.
        data: The rows it was given.
        ids: `step_id` and `run_id`.
        known: Stores the rows a model did not train on, and knows the artifacts by name.

    Returns:
        Records for `models`, `exports`, `artifacts` and `privacy_events`.
    """
    records: list[Record] = []
    for artifact in outcome.artifacts:
        form = artifact.to_json()
        body = {
            **ids,
            **{k: form[k] for k in ("name", "media_type", "facts", "measures")},
            "bytes": artifact.path.stat().st_size,
        }
        if artifact.kind == "model":
            held = ""
            if artifact.row_ids is not None:
                ids_in = data.row_ids
                left = ids_in.filter(~ids_in.is_in(artifact.row_ids.implode())).unique().sort()
                held = known.keeper.table(pl.DataFrame({"row_id": left}))
            extra = {"model_id": artifact.digest, "dataset": data.digest, "held_out_object": held}
            records.append(("models", {**body, **extra}))
        elif artifact.kind == "export":
            parents = [known.artifacts[p].digest for p in artifact.parents if p in known.artifacts]
            parent = parents[0] if parents else ""
            records.append(("exports", {**body, "export_id": artifact.digest, "model": parent}))
        else:
            body.update({"digest": artifact.digest, "kind": artifact.kind})
            records.append(("artifacts", body))
    for event in outcome.privacy:
        spent = json.loads(canonical(event.__dict__))
        records.append(
            ("privacy_events", {**ids, "dataset": data.digest, "recorded_at": now(), **spent})
        )
    return records


def finding_record(finding: Finding, rows: str, ids: Mapping[str, str], number: int) -> Record:
    """The journal record of a finding, q-value filled in.

    Args:
        finding: The finding.
        rows: Digest of its row table, or empty.
        ids: `step_id` and `run_id`.
        number: 0-based place among the findings of its run.

    Returns:
        A record for the table `findings`.
    """
    form = finding.to_json()
    measure = form.pop("measure")
    body = {
        **ids,
        "finding_id": f"{ids['run_id']}/{number}",
        **form,
        **measure,
        "rows_object": rows,
    }
    return ("findings", body)
