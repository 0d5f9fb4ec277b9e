# SPDX-License-Identifier: Apache-2.0
"""What our statements say: the six predicate types and their URIs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, TypeAlias

from datapipe.core.parameters import Count, Share
from datapipe.errors import DeclarationError, TrustError, nearest
from datapipe.manifest.checks import Reason
from datapipe.manifest.facts import (
    Code,
    Environment,
    FindingSummary,
    LogPoint,
    Material,
    Measure,
    Moment,
    PreRegistration,
    PrivacySpend,
    Reached,
    Rows,
    Sha256,
    StepSummary,
    Terms,
    Verdict,
)
from datapipe.manifest.records import from_form, to_form
from datapipe.manifest.statement import Statement, Subject

_HOME = "https://datapipe.dev/attestation"


class Predicate:
    """What all predicates share: a type URI, a strict JSON form and a statement around it.

    Example:
        >>> RunPredicate.uri
        'https://datapipe.dev/attestation/run/v1'
    """

    __slots__ = ()
    name_of_type: ClassVar[str]
    uri: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The predicate as it stands in a statement.

        Returns:
            A JSON object; absent facts are left out, never invented.

        Example:
            >>> DatasetPredicate("reviews").to_json()["name"]
            'reviews'
        """
        form: dict[str, Any] = to_form(self)
        return form

    @classmethod
    def from_json(cls, form: Any) -> Self:
        """Read a predicate that somebody else wrote.

        Args:
            form: The parsed JSON object.

        Returns:
            The predicate, every field checked.

        Example:
            >>> DatasetPredicate.from_json({"name": "reviews"}).name
            'reviews'
        """
        return from_form(cls, form, cls.name_of_type)

    def about(self, *subjects: Subject) -> Statement:
        """Say it about something.

        Args:
            *subjects: What it is about, at least one.

        Returns:
            The statement to sign.

        Example:
            >>> DatasetPredicate("reviews").about(Subject("a", {"sha256": "0" * 64})).predicate
            {'name': 'reviews', 'files': 0, 'sizeBytes': 0, 'materials': [], 'findings': []}
        """
        return Statement(subjects, self.uri, self.to_json())


@dataclass(frozen=True, slots=True)
class DatasetPredicate(Predicate):
    """What a set of files is: how much, from where, under which terms, how much of it synthetic.

    Args:
        name: The name of the data set, which policies match.
        recorded_at: When the statement was made, by the signer's clock.
        tree: RFC 6962 root over name, size and sha256 of every file in code-point order; unlike
            a hash over hashes it changes when a file is renamed.
        files: How many files.
        size_bytes: Their total size.
        rows: How many rows, when it is a table.
        schema: Digest of the columns and their types.
        logical: Digest of the rows, independent of how the file encodes them.
        row_tree: RFC 6962 root over the rows as canonical JSON, in order: what a proof for one row
            leads to.
        origin: Where it came from, in the words of the source.
        description: What it holds.
        materials: What it was made from.
        terms: What it may be used for.
        declared_synthetic_share: Share of rows whose source says that they are synthetic; absent
            when nobody said.
        findings: What was found in it.
        log: State of the log at signing.

    Example:
        >>> DatasetPredicate("reviews", declared_synthetic_share=0.1).declared_synthetic_share
        0.1
    """

    name_of_type: ClassVar[str] = "dataset"
    uri: ClassVar[str] = f"{_HOME}/dataset/v1"

    name: str
    recorded_at: Moment | None = None
    tree: Sha256 | None = None
    files: Count = 0
    size_bytes: Count = 0
    rows: Count | None = None
    schema: Sha256 | None = None
    logical: Sha256 | None = None
    row_tree: Sha256 | None = None
    origin: str | None = None
    description: str | None = None
    materials: tuple[Material, ...] = ()
    terms: Terms | None = None
    declared_synthetic_share: Share | None = None
    findings: tuple[FindingSummary, ...] = ()
    log: LogPoint | None = None


@dataclass(frozen=True, slots=True)
class StepPredicate(Predicate):
    """What one stage did: which code, on what, with which parameters, and what came of it.

    Args:
        run_id: The run it belongs to.
        code: Which code ran.
        seed: The seed of all its randomness.
        params: Its parameters.
        environment: Where it ran.
        started_at: When it began.
        finished_at: When it ended.
        materials: What it read, with the statements about them.
        rows: What became of the rows.
        findings: What it found.
        artifacts: What it wrote beside the data.
        terms: What its output may be used for.
        declared_synthetic_share: Share of its output that is declared synthetic.
        log: State of the log at signing.

    Example:
        >>> StepPredicate("r1", Code("dedup.minhash", "1", "0" * 64), 7).seed
        7
    """

    name_of_type: ClassVar[str] = "step"
    uri: ClassVar[str] = f"{_HOME}/step/v1"

    run_id: str
    code: Code
    seed: Count
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    environment: Environment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    materials: tuple[Material, ...] = ()
    rows: Rows | None = None
    findings: tuple[FindingSummary, ...] = ()
    artifacts: tuple[Material, ...] = ()
    terms: Terms | None = None
    declared_synthetic_share: Share | None = None
    log: LogPoint | None = None


@dataclass(frozen=True, slots=True)
class RunPredicate(Predicate):
    """What a whole pipeline run did, step by step, and how it ended.

    Args:
        run_id: The run's name in the store.
        pipeline: The pipeline's name.
        seed: The seed of the run.
        verdict: The worst verdict among its findings.
        steps: The steps in the order they ran.
        materials: What the run read.
        outputs: What it left behind; also the subjects of the statement.
        findings: What it found.
        environment: Where it ran.
        started_at: When it began.
        finished_at: When it ended.
        terms: What its outputs may be used for.
        declared_synthetic_share: Share of its output that is declared synthetic.
        log: State of the log at signing.

    Example:
        >>> RunPredicate("r1", "reviews", 7, "clean").to_json()["verdict"]
        'clean'
    """

    name_of_type: ClassVar[str] = "run"
    uri: ClassVar[str] = f"{_HOME}/run/v1"

    run_id: str
    pipeline: str
    seed: Count
    verdict: Verdict
    steps: tuple[StepSummary, ...] = ()
    materials: tuple[Material, ...] = ()
    outputs: tuple[Material, ...] = ()
    findings: tuple[FindingSummary, ...] = ()
    environment: Environment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    terms: Terms | None = None
    declared_synthetic_share: Share | None = None
    log: LogPoint | None = None


@dataclass(frozen=True, slots=True)
class EvaluationPredicate(Predicate):
    """Figures about a stage or a model, each with its uncertainty, and how to obtain them again.

    Args:
        of: What was evaluated: a catalogue key or a model's name.
        figures: Figure to its value with interval.
        seeds: The seeds of the repeats.
        command: The command that repeats it.
        code: The code that was evaluated; when its digest changes the figures are stale.
        data: What it was evaluated on.
        recorded_at: When.
        environment: Where.
        registered: Limits that were fixed beforehand.
        log: State of the log at signing.

    Raises:
        TrustError: The limits are said to be registered, and their place in the log is not
            before the evaluation.

    Example:
        >>> EvaluationPredicate("dedup.minhash").figures
        {}
    """

    name_of_type: ClassVar[str] = "evaluation"
    uri: ClassVar[str] = f"{_HOME}/evaluation/v1"

    of: str
    figures: Mapping[str, Measure] = field(default_factory=dict, hash=False)
    seeds: tuple[Count, ...] = ()
    command: str = ""
    code: Code | None = None
    data: tuple[Material, ...] = ()
    recorded_at: Moment | None = None
    environment: Environment | None = None
    registered: PreRegistration | None = None
    log: LogPoint | None = None

    def __post_init__(self) -> None:
        limits = self.registered
        if limits is not None and (self.log is None or limits.log_index >= self.log.size):
            raise TrustError(
                f"the limits for {self.of!r} are not in the log before the evaluation",
                code=Reason.BAD_FORM.value,
                hint="register limits first, and state the log's checkpoint with the evaluation",
            )


@dataclass(frozen=True, slots=True)
class TrainingPredicate(Predicate):
    """What a model was trained on, how, and at which cost in privacy.

    Args:
        run_id: The run it belongs to.
        code: Which code trained it.
        seed: The seed.
        method: Plain, differentially private or federated training.
        materials: The data it was trained on, with the statements about them.
        rows: How many rows it saw.
        params: Parameters of the training.
        privacy: The privacy spent; required when the method is `dp-sgd`.
        figures: Figures of the model, each with its uncertainty.
        derived_from: The models it was made from, as by quantization.
        environment: Where it ran.
        started_at: When it began.
        finished_at: When it ended.
        terms: What the model may be used for.
        declared_synthetic_share: Share of the training rows that is declared synthetic.
        log: State of the log at signing.

    Raises:
        TrustError: The method is `dp-sgd` and no privacy is stated.

    Example:
        >>> TrainingPredicate("r1", Code("train.plain", "1", "0" * 64), 7, "plain").method
        'plain'
    """

    name_of_type: ClassVar[str] = "training"
    uri: ClassVar[str] = f"{_HOME}/training/v1"

    run_id: str
    code: Code
    seed: Count
    method: Literal["plain", "dp-sgd", "federated", "federated-dp"]
    materials: tuple[Material, ...] = ()
    rows: Count | None = None
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    privacy: PrivacySpend | None = None
    figures: Mapping[str, Measure] = field(default_factory=dict, hash=False)
    derived_from: tuple[Material, ...] = ()
    environment: Environment | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    terms: Terms | None = None
    declared_synthetic_share: Share | None = None
    log: LogPoint | None = None

    def __post_init__(self) -> None:
        if self.method in ("dp-sgd", "federated-dp") and self.privacy is None:
            raise TrustError(
                f"training {self.run_id!r} is called {self.method} and states no privacy budget",
                code=Reason.BAD_FORM.value,
                hint="state epsilon and delta, or call it plain",
            )


@dataclass(frozen=True, slots=True)
class ErasurePredicate(Predicate):
    """What was erased for a person, where it had reached, and what was done there.

    The person is named by a salted commitment only: whoever holds the salt can show that the
    receipt is theirs, and after the salt is deleted nobody can.

    Args:
        request_id: The request's name.
        commitment: sha256 of salt and subject id.
        requested_at: When it was asked for.
        completed_at: When it was done.
        rows: How many rows were erased.
        reached: Data sets and models that held them.
        log: State of the log at signing.

    Raises:
        TrustError: It is said to be completed while something it reached is pending.

    Example:
        >>> ErasurePredicate("e1", "0" * 64, "2026-01-01T00:00:00Z").rows
        0
    """

    name_of_type: ClassVar[str] = "erasure"
    uri: ClassVar[str] = f"{_HOME}/erasure/v1"

    request_id: str
    commitment: Sha256
    requested_at: Moment
    completed_at: Moment | None = None
    rows: Count = 0
    reached: tuple[Reached, ...] = ()
    log: LogPoint | None = None

    def __post_init__(self) -> None:
        pending = [item.thing.name for item in self.reached if item.remedy == "pending"]
        if pending and self.completed_at is not None:
            raise TrustError(
                f"erasure {self.request_id!r} is not completed: {pending} are pending",
                code=Reason.BAD_FORM.value,
                hint="leave out the time of completion until every remedy is done",
            )


AnyPredicate: TypeAlias = (
    DatasetPredicate
    | StepPredicate
    | RunPredicate
    | EvaluationPredicate
    | TrainingPredicate
    | ErasurePredicate
)
PREDICATES: dict[str, type[AnyPredicate]] = {
    "dataset": DatasetPredicate,
    "step": StepPredicate,
    "run": RunPredicate,
    "evaluation": EvaluationPredicate,
    "training": TrainingPredicate,
    "erasure": ErasurePredicate,
}


def predicate_uri(name: str) -> str:
    """The type URI of a predicate, given its short name or the URI itself.

    Args:
        name: `dataset`, `step`, `run`, `evaluation`, `training`, `erasure`, or a URI.

    Returns:
        The URI.

    Raises:
        DeclarationError: It is neither.

    Example:
        >>> predicate_uri("run")
        'https://datapipe.dev/attestation/run/v1'
    """
    if name in PREDICATES:
        return PREDICATES[name].uri
    if ":" in name:
        return name
    raise DeclarationError(
        f"no predicate {name!r}", code="DP-DECL-037", hint=nearest(name, PREDICATES)
    )


def read_predicate(statement: Statement) -> AnyPredicate:
    """The typed predicate of one of our statements.

    Args:
        statement: A statement whose envelope was verified.

    Returns:
        The predicate.

    Raises:
        TrustError: The statement is of a type that is not ours, or does not fit its type.

    Example:
        >>> said = DatasetPredicate("reviews").about(Subject("a", {"sha256": "0" * 64}))
        >>> read_predicate(said).name
        'reviews'
    """
    for cls in PREDICATES.values():
        if cls.uri == statement.predicate_type:
            return cls.from_json(dict(statement.predicate))
    raise TrustError(
        f"the predicate type {statement.predicate_type!r} is not known here",
        code=Reason.WRONG_PREDICATE.value,
        hint=f"known types: {', '.join(PREDICATES)}",
    )
