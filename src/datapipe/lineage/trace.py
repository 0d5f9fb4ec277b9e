# SPDX-License-Identifier: Apache-2.0
"""The way back from an object to its sources, and forward to what was made of it."""

from __future__ import annotations

import json
from typing import Any

from datapipe.errors import DeclarationError
from datapipe.lineage.console import lines
from datapipe.lineage.duck import duckdb
from datapipe.lineage.objects import bare

SHORTEST_PREFIX = 8

_KNOWN = """
with known as (
  select digest, 'dataset' as kind, '' as name, run_id, step_id, digest as dataset, seq
  from datasets
  union all
  select model_id, 'model', name, run_id, step_id, dataset, seq from models
  union all
  select e.export_id, 'export', e.name, e.run_id, e.step_id, m.dataset, e.seq
  from exports e
  left join models m on m.run_id = e.run_id and e.model in (m.model_id, m.name)
  union all
  select digest, kind, name, run_id, step_id, null, seq from artifacts
  union all
  select digest, 'source', name, run_id, null, null, seq from sources
  union all
  select digest, 'attestation', predicate_type, run_id, null, null, seq from attestations
)
select * exclude (seq) from known
where starts_with(replace(digest, 'sha256:', ''), $digits)
order by seq desc
"""
_STEPS = """
select distinct s.step_id, s.run_id, s.position, s.stage, s.version, s.rows_in, s.rows_out,
       s.rows_aside, s.key, s.code_digest, s.params
from steps s
where s.step_id in (
  select step_id from dataset_ancestors where digest = $dataset and run_id = (
    select run_id from datasets where digest = $dataset
    order by run_id is distinct from $run, seq limit 1))
  or s.step_id in (select origin from step_origins where step_id = $step)
order by s.position, s.run_id, s.step_id
"""
_SOURCES = """
select d.source_no, d.source as name, s.uri, s.origin, s.licence, s.consent, s.synthetic, s.trust,
       s.digest, d.rows
from dataset_sources d
left join (
  from sources qualify row_number() over (partition by run_id, source_no order by seq desc) = 1
) s on s.source_no = d.source_no and s.run_id = d.run_id
where d.digest = $dataset and d.run_id = (
  select run_id from datasets where digest = $dataset
  order by run_id is distinct from $run, seq limit 1)
order by d.source_no
"""
_MODEL_SOURCES = """
select m.source_no, m.source as name, s.uri, m.origin, m.licence, s.consent, s.synthetic, s.trust,
       s.digest, m.rows
from model_sources m
left join (
  from sources qualify row_number() over (partition by run_id, source_no order by seq desc) = 1
) s on s.source_no = m.source_no and s.run_id = m.run_id
where m.model_id = $digest and m.run_id = $run
order by m.source_no
"""
_MADE = """
select distinct kind, digest, name from (
  select 'model' as kind, model_id as digest, name from models where dataset = $digest
  union all
  select 'export', e.export_id, e.name from exports e join models m
    on m.run_id = e.run_id and e.model in (m.model_id, m.name)
  where $digest in (m.model_id, m.dataset)
  union all
  select i.kind, i.digest, i.name from source_impact i
  join source_numbers n using (source_no) where n.digest = $digest
) order by all
"""
_SIGNED = """
select distinct digest, predicate_type, keyids from attestations
where contains(subjects::varchar, $digits) order by all
"""
_SPENT = """
select unit, epsilon_sum_bound, delta, events from privacy_spend where dataset = $dataset
order by all
"""


def trace(connection: duckdb.DuckDBPyConnection, digest: str) -> dict[str, Any]:
    """The way back from an object to its sources, and forward to what was made of it.

    Args:
        connection: An opened index.
        digest: A digest or its first eight or more digits, with or without `sha256:`.

    Returns:
        `digest kind name run_id dataset steps sources made attestations privacy`.

    Raises:
        DeclarationError: No object has this digest, or several begin with these digits.

    Example:
        >>> from datapipe.lineage.load import make
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     _ = connection.execute("insert into datasets (digest) values ('sha256:ab12cd34ef')")
        ...     trace(connection, "ab12cd34")["kind"]
        'dataset'
    """
    found = _the_one(connection, digest)
    dataset, run = found["dataset"], found["run_id"]
    if found["kind"] == "model":
        sources = lines(connection, _MODEL_SOURCES, digest=found["digest"], run=run)
    else:
        sources = lines(connection, _SOURCES, dataset=dataset, run=run)
    steps = lines(connection, _STEPS, dataset=dataset, run=run, step=found["step_id"])
    signed = lines(connection, _SIGNED, digits=bare(found["digest"]))
    for line, column in [*((s, "params") for s in steps), *((s, "keyids") for s in signed)]:
        line[column] = json.loads(line[column] or "null")
    return {
        **found,
        "steps": steps,
        "sources": sources,
        "made": lines(connection, _MADE, digest=found["digest"]),
        "attestations": signed,
        "privacy": lines(connection, _SPENT, dataset=dataset),
    }


def _the_one(connection: duckdb.DuckDBPyConnection, digest: str) -> dict[str, Any]:
    """The newest record of the one object that some digits name."""
    digits = bare(digest.strip()).lower()
    if len(digits) < SHORTEST_PREFIX:
        raise DeclarationError(
            f"{digest!r} is too short to name an object",
            code="DP-DECL-058",
            hint=f"give {SHORTEST_PREFIX} digits or more",
        )
    known = lines(connection, _KNOWN, digits=digits)
    names = sorted({line["digest"] for line in known})
    if not names:
        raise DeclarationError(
            f"no object has a digest that begins with {digits}",
            code="DP-DECL-058",
            hint="datapipe sql 'select digest, rows from datasets' lists the data sets",
        )
    if len(names) > 1:
        told = ", ".join(bare(name)[: len(digits) + 8] for name in names[:5])
        raise DeclarationError(
            f"{len(names)} objects have a digest that begins with {digits}",
            code="DP-DECL-058",
            hint=f"give more digits: {told}",
        )
    return known[0]
