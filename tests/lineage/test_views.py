# SPDX-License-Identifier: Apache-2.0
"""The views say what a loop over every row says, on small worlds made at random."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field

import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from datapipe.lineage.store import Lineage

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
Row = tuple[int, int]


@dataclass
class World:
    """A store, and the plain Python truth about every row in it."""

    lineage: Lineage
    chance: random.Random
    sources: dict[int, int] = field(default_factory=dict)
    dropped: set[tuple] = field(default_factory=set)
    history: set[tuple] = field(default_factory=set)
    labels: set[tuple] = field(default_factory=set)
    trained: dict[str, set[Row]] = field(default_factory=dict)
    models: list[tuple[str, str, set[Row], list[int]]] = field(default_factory=list)
    left: dict[tuple[str, str], set[Row]] = field(default_factory=dict)
    impact: set[tuple] = field(default_factory=set)

    def table(self, rows: list[Row], **columns: list) -> str:
        folder = self.lineage.scratch()
        ids = pl.Series([s << 40 | o for s, o in rows], dtype=pl.UInt64)
        pl.DataFrame({"row_id": ids, **columns}).write_parquet(folder / "t")
        digest, _ = self.lineage.put_object(folder / "t", suffix=".parquet")
        folder.rmdir()
        return digest

    def some(self, rows: set[Row]) -> list[Row]:
        return sorted(r for r in rows if self.chance.random() < 0.3)


def step_effects(world: World, rows: set[Row], step_id: str, run: str) -> tuple[list, dict]:
    """One step of its own: records, and what it did to rows."""
    ids = {"step_id": step_id, "run_id": run}
    gone = world.some(rows)
    flagged = world.some(rows)
    changed = world.some(rows)
    reasons = [world.chance.choice(["short", "long"]) for _ in gone]
    actions = [world.chance.choice(["", "quarantine"]) for _ in flagged]
    records: list = []
    if gone:
        records.append(("row_drops", {**ids, "object": world.table(gone, reason=reasons)}))
    if flagged:
        table = world.table(
            [*flagged, *sorted(rows)],
            score=[0.5] * (len(flagged) + len(rows)),
            flagged=[True] * len(flagged) + [False] * len(rows),
            action=actions + [""] * len(rows),
            reason=[""] * (len(flagged) + len(rows)),
        )
        records.append(("row_findings", {**ids, "finding_id": "f", "kind": "a.b", "object": table}))
    if changed:
        n = len(changed)
        table = world.table(changed, before=["0"] * n, after=["1"] * n, why=["w"] * n)
        records.append(("label_changes", {**ids, "object": table}))
    effects = {
        "gone": list(zip(gone, reasons, strict=True)),
        "flagged": list(zip(flagged, actions, strict=True)),
        "changed": changed,
    }
    return records, effects


def note(world: World, run: str, step_id: str, position: int, effects: dict) -> None:
    """What the truth says about a step of a run, whether it ran or was reused."""
    stage = f"stage.{position}"
    for (s, o), reason in effects["gone"]:
        world.dropped.add((run, s << 40 | o, s, o, f"source {s}", step_id, stage, reason))
        world.history.add((s << 40 | o, s, o, run, position, stage, "set aside", reason, None))
    for (s, o), action in effects["flagged"]:
        event = action or "flagged"
        world.history.add((s << 40 | o, s, o, run, position, stage, event, "a.b", 0.5))
    for s, o in effects["changed"]:
        world.history.add((s << 40 | o, s, o, run, position, stage, "relabelled", "w", None))
        world.labels.add((s << 40 | o, run, position, stage, "0", "1", "w"))


def made(seed: int, folder: str) -> World:
    chance = random.Random(seed)
    world = World(Lineage(folder, create=True), chance)
    for n in range(chance.randint(1, 3)):
        rows = chance.randint(1, 8)
        number = world.lineage.source_number(f"sha256:{n}", f"source {n + 1}", rows)
        world.sources[number] = rows
    past: list[tuple[str, dict]] = []
    for r in range(chance.randint(1, 3)):
        past = one_run(world, f"r{r}", past)
    return world


def one_run(world: World, run: str, past: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
    """Record a run that reuses some steps of the one before and may train a model."""
    chance = world.chance
    rows = {(s, o) for s, n in world.sources.items() for o in range(n)}
    declared = {s: chance.choice([True, False, None]) for s in world.sources}
    records = [("sources", source_body(run, s, n, declared[s])) for s, n in world.sources.items()]
    ancestors: list[str] = []
    keep = chance.randint(0, len(past))
    kept, past = past[:keep], past[:keep]
    position = 0
    for group in [1] * keep + [chance.randint(1, 2) for _ in range(chance.randint(1, 3))]:
        before = set(rows)
        for _ in range(group):
            step_id = f"{run}/{position}"
            body = {"step_id": step_id, "run_id": run, "position": position}
            body["stage"] = f"stage.{position}"
            found: list = []
            if position < len(kept):
                origin, effects = kept[position]
                body["reused_from"] = origin
            else:
                origin = step_id
                found, effects = step_effects(world, before, step_id, run)
                past.append((origin, effects))
            records += [("steps", body), *found]
            ancestors.append(chance.choice([origin, step_id]))
            note(world, run, step_id, position, effects)
            rows -= {row for row, _ in effects["gone"]}
            position += 1
        digest = f"sha256:{hash(frozenset(rows)) & 0xFFFF:x}"
        world.left[digest, run] = set(rows)
        dataset = {"digest": digest, "run_id": run, "step_id": step_id, "rows": len(rows)}
        dataset |= {"source_nos": list(world.sources), "ancestor_steps": list(ancestors)}
        records.append(("datasets", dataset))
        world.impact |= {(s, "dataset", digest) for s, _ in rows}
    records += training(world, rows, digest, step_id)
    cut = chance.randint(0, len(records))
    world.lineage.append(records[:cut])
    if chance.random() < 0.5:
        world.lineage.index()
    world.lineage.append(records[cut:])
    check_share(world, run, declared)
    return past


def source_body(run: str, number: int, rows: int, synthetic: object) -> dict:
    body = {"run_id": run, "source_no": number, "name": f"source {number}", "rows": rows}
    return body | {"synthetic": synthetic, "licence": f"L{run[1:]}{number}"}


def training(world: World, rows: set[Row], digest: str, step_id: str) -> list:
    """A model of these rows less some held out, and an export of it."""
    run = step_id.partition("/")[0]
    held = world.some(rows)
    model = f"model {world.chance.randint(0, 2)} of {len(rows)}"
    if model in world.trained:
        return []
    used = rows - set(held)
    world.trained[model] = used
    body = {"model_id": model, "name": "m", "run_id": run, "step_id": step_id, "dataset": digest}
    body["held_out_object"] = world.table(held) if held else ""
    export = {"export_id": f"export of {run}", "run_id": run, "name": "e"}
    export["model"] = world.chance.choice([model, "m"])
    world.models.append((model, run, used, list(world.sources)))
    world.impact |= {(s, "model", model) for s, _ in used}
    world.impact |= {(s, "export", f"export of {run}") for s, _ in used}
    return [("models", body), ("exports", export)]


def check_share(world: World, run: str, declared: dict) -> None:
    found = world.lineage.sql("from synthetic_share where run_id = $run", run=run)
    for _, digest, rows, declared_rows, share in found.rows():
        left = world.left[digest, run]
        wanted = sum(1 for s, _ in left if declared[s])
        assert (rows, declared_rows) == (len(left), wanted)
        assert share == (wanted / len(left) if left else None)


@settings(max_examples=4, deadline=None, phases=QUICK)
@given(st.integers(0, 10**9))
def test_views_agree_with_a_loop_over_every_row(seed):
    with tempfile.TemporaryDirectory() as folder:
        world = made(seed, folder)
        sql = world.lineage.sql
        assert set(sql("from dropped_rows").rows()) == world.dropped
        assert sql("from dropped_rows").height == len(world.dropped)
        assert set(sql("from row_history").rows()) == world.history
        labels = 'select row_id, run_id, position, stage, "before", "after", why from label_history'
        assert set(sql(labels).rows()) == world.labels
        for model, run, used, sources in world.models:
            found = sql("select source_no, ordinal from model_rows where model_id = $m", m=model)
            assert sorted(found.rows()) == sorted(used)
            counts = sql("from model_sources where model_id = $m and run_id = $r", m=model, r=run)
            wanted = {
                (s, f"L{run[1]}{s}", sum(1 for source, _ in used if source == s)) for s in sources
            }
            assert set(counts.select("source_no", "licence", "rows").rows()) == wanted
        left = {
            (digest, run, s): sum(1 for source, _ in rows if source == s)
            for (digest, run), rows in world.left.items()
            for s in world.sources
        }
        shares = sql("select digest, run_id, source_no, rows from dataset_sources").rows()
        assert {(d, r, s): n for d, r, s, n in shares} == left
        assert set(sql("select source_no, kind, digest from source_impact").rows()) == world.impact
        check_every_row(world)
        world.lineage.close()


def check_every_row(world: World) -> None:
    for s, rows in world.sources.items():
        for o in range(rows):
            answer = world.lineage.why(f"{s}:{o}")
            assert {d["run_id"] for d in answer["dropped"]} == {
                d[0] for d in world.dropped if d[1] == s << 40 | o
            }
            assert len(answer["history"]) == sum(1 for h in world.history if h[0] == s << 40 | o)
            assert {m["digest"] for m in answer["models"]} == {
                m for m, _, used, _ in world.models if (s, o) in used
            }


def test_one_run_in_every_view(filled: Lineage):
    sql = filled.sql
    assert sql("select run_id, pipeline, state, verdict from run_status").rows() == [
        ("r1", "demo", "finished", "clean")
    ]
    assert sql("select rows, declared_rows, declared_share from synthetic_share").row(0) == (
        8,
        8,
        1.0,
    )
    assert sql("from unsigned_inputs").row(0) == ("r1", 1, "reviews", "reviews.csv", "unsigned")
    assert sql("select kind, name from source_impact order by kind").rows() == [
        ("dataset", "dedup.exact"),
        ("export", "int8"),
        ("model", "plain"),
    ]


def test_states_follow_from_events(lineage: Lineage):
    lineage.append([("runs", {"run_id": r}) for r in "abcd"])
    for run, event in [
        *zip("abc", ["started"] * 3, strict=True),
        ("b", "failed"),
        ("c", "stopped"),
    ]:
        lineage.append([("run_events", {"run_id": run, "event": event})])
    lineage.append([("findings", {"run_id": "b", "verdict": v}) for v in ("clean", "suspect")])
    found = lineage.sql(
        "select run_id, state, verdict, ended_at is null from run_status order by 1"
    )
    assert found.rows() == [
        ("a", "running", None, True),
        ("b", "failed", "suspect", False),
        ("c", "stopped", None, False),
        ("d", "running", None, True),
    ]


def test_a_budget_is_spent_once_however_often_its_step_is_reused(lineage: Lineage):
    event = {"dataset": "d", "unit": "row", "epsilon": 1.5, "delta": 1e-5}
    lineage.append(
        [
            ("steps", {"step_id": "a", "run_id": "r1"}),
            ("privacy_events", {**event, "step_id": "a"}),
            ("steps", {"step_id": "b", "run_id": "r2", "reused_from": "a"}),
            ("privacy_events", {**event, "step_id": "b"}),
            ("steps", {"step_id": "c", "run_id": "r2"}),
            ("privacy_events", {**event, "step_id": "c"}),
            ("privacy_events", {**event, "step_id": "c", "unit": "subject"}),
        ]
    )
    assert lineage.sql("from privacy_spend order by unit").rows() == [
        ("d", "row", 2e-5, 3.0, 2),
        ("d", "subject", 1e-5, 1.5, 1),
    ]


def test_columns_of_reused_steps(lineage: Lineage):
    edge = {"column_out": "y", "column_in": "x", "how": "derived"}
    lineage.append(
        [
            ("steps", {"step_id": "a", "run_id": "r1", "stage": "s.t"}),
            ("column_lineage_edges", {"step_id": "a", "run_id": "r1", **edge}),
            ("steps", {"step_id": "b", "run_id": "r2", "stage": "s.t", "reused_from": "a"}),
        ]
    )
    assert lineage.sql("from column_lineage order by run_id").rows() == [
        ("r1", "s.t", "y", "x", "derived"),
        ("r2", "s.t", "y", "x", "derived"),
    ]


def test_a_model_of_equal_bytes_counts_each_training_with_the_rows_it_held_out(lineage: Lineage):
    """Whoever trains the same bytes on other rows has seen those rows too: no row is lost by it."""
    world = World(lineage, random.Random(0))
    lineage.source_number("sha256:0", "a", 5)
    ids_of = [1 << 40 | o for o in range(5)]
    seen: set[Row] = set()
    held = {"r1": [(1, 0), (1, 4)], "r2": [(1, 1)], "r3": [(1, 0), (1, 4)], "r4": []}
    for run, rows in held.items():
        ids = {"run_id": run, "step_id": f"{run}/1"}
        dataset = {**ids, "digest": "sha256:d", "rows": 5, "source_nos": [1], "ancestor_steps": []}
        model = {**ids, "model_id": "sha256:m", "name": "m", "dataset": "sha256:d"}
        lineage.append(
            [
                ("sources", {"run_id": run, "source_no": 1, "name": "a", "rows": 5}),
                ("datasets", dataset),
                ("models", {**model, "held_out_object": world.table(rows) if rows else ""}),
            ]
        )
        seen = seen | {(1, o) for o in range(5)} - set(rows)
        wanted = sorted(o for _, o in seen)
        told = lineage.sql("select ordinal from model_rows where model_id = 'sha256:m'")
        assert sorted(told["ordinal"]) == wanted  # each row once, however often it trained
        asked = "select ordinal from model_rows_of($ids) order by all"
        assert lineage.sql(asked, ids=ids_of)["ordinal"].to_list() == wanted
    counts = lineage.sql("select run_id, rows from model_sources order by all").rows()
    assert counts == [(run, 5 - len(rows)) for run, rows in held.items()]
    for ordinal in range(5):
        runs = {m["run_id"] for m in lineage.why(f"1:{ordinal}")["models"]}
        assert runs == {run for run, rows in held.items() if (1, ordinal) not in rows}
    views = ("model_rows", "model_sources")
    before = [lineage.sql(f"from {view} order by all") for view in views]
    lineage.rebuild()
    after = [lineage.sql(f"from {view} order by all") for view in views]
    assert all(a.equals(b) for a, b in zip(after, before, strict=True))
