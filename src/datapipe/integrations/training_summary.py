# SPDX-License-Identifier: Apache-2.0
"""The public summary of training content that the EU AI Act asks for, of one run.

Every figure stands beside the question in SQL that gave it, so that anybody with the store can ask
again. What the store has no fact about says "not recorded"; nothing is invented and nothing is
left blank.

References:
    Regulation (EU) 2024/1689 (AI Act), article 53(1)(d); European Commission, 2025, Template for
    the public summary of training content for general-purpose AI models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datapipe.errors import DeclarationError
from datapipe.lineage.store import Lineage

NOT_RECORDED = "not recorded"
FORM = "https://datapipe.dev/training-summary/v1"


@dataclass(frozen=True)
class Field:
    """One field of the template and the question that fills it.

    Args:
        key: Its name in JSON.
        title: What a person reads.
        sql: The question; empty when no store can know.

    Example:
        >>> SECTIONS["general"][0].key
        'model'
    """

    key: str
    title: str
    sql: str = ""


_SOURCES = "(select distinct on (source_no) * from sources where run_id = $run order by seq desc)"
_ROWS = "sum(m.rows)::bigint as rows"
_OF_MODEL = "from model_sources m where m.run_id = $run and m.model_id = $model"
_JOINED = f"from model_sources m left join {_SOURCES} s using (source_no) "
_WHERE = "where m.run_id = $run and m.model_id = $model"

SECTIONS: Mapping[str, tuple[Field, ...]] = {
    "general": (
        Field(
            "model",
            "Model, and digest of its file",
            "select distinct name, model_id from models where run_id = $run and model_id = $model",
        ),
        Field("provider", "Provider, and authorised representative"),
        Field("placed_on_market", "Date of placing on the Union market"),
        Field("knowledge_cut_off", "Latest date of the data"),
        Field(
            "size",
            "Rows that trained the model",
            "select count(*)::bigint as rows from model_rows where model_id = $model",
        ),
        Field(
            "modalities",
            "Roles of the columns it was trained on",
            "select distinct d.roles from datasets d join models m on m.dataset = d.digest "
            "where m.model_id = $model and m.run_id = $run",
        ),
        Field("languages", "Languages"),
    ),
    "sources": (
        Field(
            "all_sources",
            "Every source, with the rows that trained the model",
            f"select m.source, s.origin, s.licence, s.uri, m.rows {_JOINED}{_WHERE} order by all",
        ),
        Field("public", "Publicly available data sets"),
        Field(
            "licensed",
            "Rows by licence",
            f"select m.licence, {_ROWS} {_OF_MODEL} and coalesce(m.licence, '') <> '' "
            "group by all order by all",
        ),
        Field(
            "licence_not_declared",
            "Rows whose licence nobody declared",
            f"select {_ROWS} {_OF_MODEL} and coalesce(m.licence, '') = ''",
        ),
        Field("crawled", "Crawled content, with the most relevant domain names"),
        Field("user_data", "Data of the provider's users"),
        Field(
            "consent",
            "Rows by declared consent",
            f"select s.consent, {_ROWS} {_JOINED}{_WHERE} and coalesce(s.consent, '') <> '' "
            "group by all order by all",
        ),
        Field(
            "synthetic",
            "Rows declared to be synthetic, by the model that made them",
            f"select s.generator, {_ROWS} {_JOINED}{_WHERE} and s.synthetic group by all "
            "order by all",
        ),
        Field(
            "synthetic_not_declared",
            "Rows of sources that say neither way",
            f"select {_ROWS} {_JOINED}{_WHERE} and s.synthetic is null",
        ),
    ),
    "processing": (
        Field(
            "steps",
            "Steps before training",
            "select position, stage, version, rows_in, rows_out, rows_aside from steps "
            "where run_id = $run order by position",
        ),
        Field(
            "set_aside",
            "Rows set aside, by step and reason",
            "select stage, reason, count(*) as rows from dropped_rows where run_id = $run "
            "group by all order by all",
        ),
        Field("opt_outs", "Reservations of rights that were respected"),
        Field("illegal_content", "Measures against illegal content"),
        Field(
            "findings",
            "What was found in the data",
            "select kind, verdict, value, low, high, n, method from findings "
            "where run_id = $run order by seq",
        ),
        Field(
            "erased",
            "Rows erased after training, on request",
            "select erasure_id, rows, remedy from erased_models where digest = $model order by all",
        ),
        Field(
            "unsigned",
            "Sources that nobody vouched for",
            "select name, trust from unsigned_inputs where run_id = $run order by all",
        ),
    ),
}


def summary(lineage: Lineage, run_id: str, model: str = "") -> dict[str, Any]:
    """The summary of one model of a run.

    Args:
        lineage: The store.
        run_id: The run.
        model: Digest of the model; empty for the first that the run trained.

    Returns:
        `form`, `run`, `model`, and the sections, each field with `title`, `sql` and `answer`: lines
        of the answer, or the text "not recorded".

    Raises:
        DeclarationError: The run trained no such model.

    Example:
        >>> import tempfile
        >>> lineage = Lineage(tempfile.mkdtemp(), create=True)
        >>> lineage.append([("models", {"model_id": "sha256:ab", "run_id": "r", "name": "plain"})])
        >>> told = summary(lineage, "r")["sections"]["general"]
        >>> told["model"]["answer"], told["provider"]["answer"]
        ([{'name': 'plain', 'model_id': 'sha256:ab'}], 'not recorded')
    """
    known = lineage.sql(
        "select model_id from models where run_id = $run and starts_with(model_id, $model) "
        "order by seq limit 1",
        run=run_id,
        model=model,
    )
    if not known.height:
        raise DeclarationError(
            f"run {run_id} trained no such model",
            code="DP-USE-035",
            hint="datapipe sql 'select run_id, name, model_id from models' lists them",
        )
    digest = str(known["model_id"][0])
    sections = {
        name: {f.key: _answer(lineage, f, run_id, digest) for f in fields}
        for name, fields in SECTIONS.items()
    }
    return {"form": FORM, "run": run_id, "model": digest, "sections": sections}


def page(told: Mapping[str, Any]) -> str:
    """The same as Markdown, each answer above its question.

    Args:
        told: What `summary` gave.

    Returns:
        Text with a final newline.

    Example:
        >>> field = {"title": "Languages", "sql": "", "answer": NOT_RECORDED}
        >>> made = {"run": "r", "model": "sha256:ab", "sections": {"general": {"l": field}}}
        >>> page(made).splitlines()[-1]
        'not recorded'
    """
    lines = [f"# Training content of {told['model']}", "", f"Run {told['run']}."]
    for name, fields in told["sections"].items():
        lines += ["", f"## {name.capitalize()}"]
        for field in fields.values():
            lines += ["", f"### {field['title']}", "", *_shown(field["answer"])]
            if field["sql"]:
                lines += ["", "```sql", field["sql"], "```"]
    return "\n".join(lines) + "\n"


def _answer(lineage: Lineage, field: Field, run: str, model: str) -> dict[str, Any]:
    told: dict[str, Any] = {"title": field.title, "sql": field.sql, "answer": NOT_RECORDED}
    if field.sql:
        given = {"run": run, "model": model}
        values = {name: value for name, value in given.items() if f"${name}" in field.sql}
        lines = lineage.sql(field.sql, **values).to_dicts()
        if lines and any(v is not None for line in lines for v in line.values()):
            told |= {"parameters": values, "answer": lines}
        else:
            told |= {"parameters": values}
    return told


def _shown(answer: Any) -> list[str]:
    if isinstance(answer, str):
        return [answer]
    names = list(answer[0])
    rows = [
        [NOT_RECORDED if line[n] in (None, "") else _cell(line[n]) for n in names]
        for line in answer
    ]
    head = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
