# SPDX-License-Identifier: Apache-2.0
"""The sections of the report about the run as a whole: verdict, tiles, provenance, steps, gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from datapipe.core.estimate import Estimate
from datapipe.report.facts import COUNTS, Facts, estimate_of, measure_of
from datapipe.report.markup import Html, code, join, table, tag
from datapipe.report.wording import said

SAYS = {
    "clean": "Nothing stands against using these rows.",
    "not_evaluated": "Something that matters could not be evaluated; that is not a pass.",
    "suspect": "Usable with care: read the findings below.",
    "fail": "Do not train on these rows as they are.",
}
WORDS = {
    "clean": "PASS",
    "suspect": "SUSPECT",
    "fail": "FAIL",
    "not_evaluated": "NOT EVALUATED",
}
FAMILIES = {
    "provenance": "who answers for the sources",
    "validate": "whether the rows keep to what is expected of them",
    "dedup": "rows that repeat others",
    "synthetic": "rows that a model wrote, and the risk of collapse",
    "poisoning": "rows that were planted to steer a model",
    "balance": "classes and groups that are too thin",
    "labels": "labels that are wrong",
}


def banner(facts: Facts) -> Html:
    """The verdict, and why in a few lines.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "NOT EVALUATED" in banner(gather(small_run().store))
        True
    """
    run = facts.run
    name = str(run["verdict"] or "not_evaluated")
    state = (
        f"run {run['run_id']} · seed {run['seed']} · {run['state']} · {run['started_at'][:19]} UTC"
    )
    says = tag("div", *(tag("p", w, kind=k) for w, k in _reasons(facts, name)))
    head = [tag("h1", run["pipeline"]), tag("p", state, kind="soft")]
    return join([*head, tag("div", tag("strong", WORDS[name]), says, kind=f"banner {name}")])


def tiles(facts: Facts) -> Html:
    """The handful of figures people look for first.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "rows left of 3 read" in tiles(gather(small_run().store))
        True
    """
    read = sum(int(s["rows"]) for s in facts.sources)
    last = facts.steps[-1] if facts.steps else None
    left = int(last["rows_in"] if facts.closed else last["rows_out"]) if last else read
    what = "rows came to the closed gate" if facts.closed else "rows left"
    aside = sum(int(s["rows_aside"]) for s in facts.steps)
    made = [_tile(f"{left:,}", f"{what} of {read:,} read", f"{aside:,} set aside")]
    for kind, name in (("labels.noise", "label noise"), ("synthetic.declared", "synthetic rows")):
        looks = [f for f in facts.findings if f["kind"] == kind]
        if looks:
            was = f"at first {said(estimate_of(looks[0]))}" if len(looks) > 1 else ""
            made.append(_tile(_figure(estimate_of(looks[-1])), name, was))
    made += _accuracy_tile(facts)
    made += [
        _tile(
            f"ε {float(m['facts']['epsilon']):.2f}",
            f"privacy spent by {m['name']}",
            f"at δ = {float(m['facts'].get('delta') or math.nan):g}, an upper bound",
        )
        for m in facts.tables["models"][-4:]
        if _is_number(m["facts"].get("epsilon"))
    ][-1:]
    signed = len([s for s in facts.sources if s["trust"] == "verified"])
    broken = len([s for s in facts.sources if s["trust"] == "invalid"])
    note = f"{broken} signatures are broken" if broken else ""
    made.append(_tile(f"{signed} of {len(facts.sources)}", "sources verified by signature", note))
    return tag("div", *made, kind="tiles")


def provenance(facts: Facts) -> Html:
    """Sources and who answers for them.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "Provenance" in provenance(gather(small_run().store))
        True
    """
    head = ["no", "source", "origin", "licence", "consent", "rows", "synthetic", "signature"]
    declared = {True: "declared", False: "declared not", None: "not recorded"}
    rows = [
        [
            s["source_no"],
            join([s["name"], tag("div", tag("code", s["digest"][7:19]), kind="soft")]),
            *(s[k] or "not recorded" for k in ("origin", "licence", "consent")),
            f"{int(s['rows']):,}",
            declared[s["synthetic"]],
            join([s["trust"], tag("div", tag("code", str(s["signer"] or "")[:12]), kind="soft")]),
        ]
        for s in facts.sources[:200]
    ]
    signed = [
        [
            str(a["predicate_type"]).split("/attestation/")[-1],
            f"{len(a['subjects'] or []):,}",
            tag("code", ", ".join(str(k)[:16] for k in a["keyids"] or [])),
            tag("code", str(a["digest"])[7:23]),
        ]
        for a in facts.tables["attestations"]
    ]
    return join(
        [
            tag("h2", "Provenance"),
            table(head, rows, numbers=(0, 5), anchors=[f"source-{int(r[0])}" for r in rows]),
            tag("h3", "Signed statements"),
            table(["says", "about files", "key ids", "sha256"], signed, numbers=(1,)),
            tag("p", "Check all of them: ", tag("code", "datapipe verify STORE"), kind="soft"),
        ]
    )


def steps(facts: Facts) -> Html:
    """What each step did, with which code, and how to do it again.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "--seed 7" in steps(gather(small_run().store))
        True
    """
    rows = [
        [
            s["position"],
            code(str(s["stage"])),
            s["version"],
            *(f"{int(s[k]):,}" for k in COUNTS),
            "reused" if s["reused_from"] else f"{float(s['seconds']):.2f} s",
            tag("code", str(s["dataset_out"] or "")[7:15] or "–"),
            tag("code", str(s["code_digest"])[7:15]),
        ]
        for s in facts.steps
    ]
    head = ["", "stage", "version", "rows in", "rows out", "set aside", "time", "rows", "code"]
    anchors = [f"step-{int(s['position'])}" for s in facts.steps]
    return join(
        [
            tag("h2", "Steps"),
            table(head, rows, numbers=(0, 3, 4, 5, 6), anchors=anchors),
            tag("h2", "Environment, and how to do it again"),
            _again(facts),
        ]
    )


def unchecked(facts: Facts) -> Html:
    """What was not evaluated, and why.

    Args:
        facts: The run.

    Returns:
        The markup.

    Example:
        >>> from datapipe.report.facts import gather
        >>> from datapipe.testing.small import small_run
        >>> "no step of the family" in unchecked(gather(small_run().store))
        True
    """
    rows: list[list[object]] = [
        [code(f["kind"]), f["says"], f["remedy"]]
        for f in facts.standing
        if f["verdict"] == "not_evaluated"
    ]
    for stage in facts.not_run:
        why = "the gate closed before it" if facts.closed else f"the run is {facts.run['state']}"
        rows.append([code(stage), f"it was planned and did not run: {why}", ""])
    ran = {str(s["stage"]).partition(".")[0] for s in facts.steps}
    rows += [
        [code(f"{family}.*"), f"no step of the family looked at {words}", "add one to the pipeline"]
        for family, words in FAMILIES.items()
        if family not in ran
    ]
    return join([tag("h2", "Not checked, and why"), table(["what", "why", "remedy"], rows)])


def _reasons(facts: Facts, name: str) -> list[tuple[str, str]]:
    """(sentence, CSS class): the standing findings that have the verdict, or why the run ended."""
    if facts.closed:
        why = [(w, "soft") for w in str(facts.closed["says"]).split("; ")]
        return [("The gate is closed: no row passed it.", ""), *_first(why, 4)]
    if facts.run["state"] not in ("finished", "stopped"):
        details = [dict(e["detail"] or {}) for e in facts.tables["run_events"]]
        error = next((str(d["code"]) for d in reversed(details) if d.get("code")), "")
        told = f"The run is {facts.run['state']}" + (f" with {error}." if error else ".")
        return [(told, ""), ("What it found before that is below.", "soft")]
    if name == "clean":
        return [(SAYS[name], "")]
    if not facts.findings:
        return [("No step of this pipeline looks for anything; that is not a pass.", "")]
    why = [(str(f["says"]), "soft") for f in facts.standing if f["verdict"] == name]
    return [(SAYS[name], ""), *_first(why, 3)]


def _first(lines: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    more = [(f"and {len(lines) - most} more", "soft")] if len(lines) > most else []
    return [*lines[:most], *more]


def _tile(shown: str, name: str, note: str = "") -> Html:
    """A figure in large type, its interval in smaller type, what it is, and a note."""
    point, bracket, bounds = shown.partition(" [")
    large = tag("b", point, *([tag("i", f"[{bounds}")] if bracket else ()))
    return tag(
        "div", large, tag("span", name), *([tag("small", note)] if note else ()), kind="tile"
    )


def _figure(e: Estimate) -> str:
    return "not identified" if math.isnan(e.value) else said(e)


def _accuracy_tile(facts: Facts) -> list[Html]:
    """The newest plain model's accuracy, with the first model of its stage beside it."""
    stage = {s["step_id"]: s["stage"] for s in facts.steps}
    measured = [
        (m, e)
        for m in facts.tables["models"]
        if (e := measure_of(m, "accuracy")) is not None and stage.get(m["step_id"]) == "train.plain"
    ]
    if not measured:
        return []
    model, accuracy = measured[-1]
    was = f"{measured[0][0]['name']}: {said(measured[0][1])}" if len(measured) > 1 else ""
    return [_tile(said(accuracy), f"accuracy of {model['name']}", was)]


def _again(facts: Facts) -> Html:
    """Versions, the plan with its parameters, and what to type."""
    told = sorted(dict(facts.run["environment"] or {}).items())
    plan = [
        [i, code(str(p.get("stage", ""))), _parameters(p)]
        for i, p in enumerate(facts.run["params"] or [])
    ]
    lines = [
        f"datapipe run PIPELINE.py --seed {facts.run['seed']}",
        "datapipe verify STORE",
        f"datapipe sql \"from steps where run_id = '{facts.run['run_id']}'\"",
    ]
    return join(
        [
            tag("p", "Versions: ", ", ".join(f"{k} {v}" for k, v in told)),
            tag("p", "Code of all steps: ", tag("code", str(facts.run["code_digest"])[7:23])),
            tag("p", "The same sources, versions, plan and seed give the same rows and models:"),
            tag("pre", "\n".join(lines)),
            tag(
                "details",
                tag("summary", f"the plan, {len(plan)} steps with all their parameters"),
                table(["", "stage", "parameters"], plan, numbers=(0,)),
            ),
        ]
    )


def _parameters(plan: Mapping[str, object]) -> str:
    """Parameters that are set, as `name = value`; long values are cut."""
    told = [f"{k} = {v!r}" for k, v in plan.items() if k != "stage" and v not in ("", None, [])]
    return ", ".join(t if len(t) <= 160 else t[:159] + "…" for t in told)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
