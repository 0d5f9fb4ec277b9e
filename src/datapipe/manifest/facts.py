# SPDX-License-Identifier: Apache-2.0
"""The records that predicates are made of: figures, findings, inputs, rows, terms, environments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from datapipe.core.parameters import Count, Range, Share
from datapipe.manifest.records import Pattern

if TYPE_CHECKING:
    from datapipe.core.estimate import Estimate

Sha256: TypeAlias = Annotated[str, Pattern("^[0-9a-f]{64}$", "a sha256 in lower-case hex")]
Hex: TypeAlias = Annotated[str, Pattern("^([0-9a-f]{2})+$", "a digest in lower-case hex")]
Moment: TypeAlias = Annotated[
    str,
    Pattern(
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$",
        "a UTC time such as 2026-01-31T12:00:00Z",
    ),
]
Verdict: TypeAlias = Literal["clean", "suspect", "fail", "not_evaluated"]
Permission: TypeAlias = Literal["allowed", "notAllowed", "constrained"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure with its uncertainty; the JSON form of `Estimate`.

    Args:
        method: How the interval was made.
        n: How many observations it rests on.
        value: The point; absent when it was not identifiable.
        low: Lower bound; absent when unbounded.
        high: Upper bound; absent when unbounded.
        level: Coverage of the interval, in (0, 1).
        unit: The unit, empty for a pure number.

    Example:
        >>> from datapipe.core.estimate import Estimate
        >>> Measure.of(Estimate.exact(3, n=3)).value
        3
    """

    method: str
    n: Count
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: Share = 0.95
    unit: str = ""

    @classmethod
    def of(cls, estimate: Estimate) -> Measure:
        """Take over an estimate.

        Args:
            estimate: The figure; NaN and infinities become absent.

        Returns:
            The measure.

        Example:
            >>> from datapipe.core.estimate import Estimate
            >>> Measure.of(Estimate.unknown(method="no reference")).value is None
            True
        """
        return cls(**estimate.to_json())


@dataclass(frozen=True, slots=True)
class FindingSummary:
    """One finding, without the rows it names.

    Args:
        kind: Its kind, such as `poisoning.trigger_text`.
        verdict: What it says about the data.
        severity: How bad, such as `high`.
        says: The finding in a sentence, without personal data.
        measure: The figure it rests on.
        remedy: What to do about it.

    Example:
        >>> FindingSummary("labels.noise", "clean").verdict
        'clean'
    """

    kind: str
    verdict: Verdict
    severity: str = ""
    says: str = ""
    measure: Measure | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Material:
    """Something that went in or came out: a data set, a file, a model.

    Args:
        name: Its name.
        digest: Algorithm to digest of its content.
        attestation: The digest of the statement about it, which links statements to a graph.
        rows: How many rows it has.
        media_type: Its media type.

    Example:
        >>> Material("a.csv", {"sha256": "0" * 64}).attestation is None
        True
    """

    name: str
    digest: Mapping[str, Hex] = field(hash=False)
    attestation: Sha256 | None = None
    rows: Count | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """What became of the rows.

    Args:
        taken: Rows that went in.
        given: Rows that came out.
        dropped: Reason to the number of rows set aside for it.

    Example:
        >>> Rows(10, 8, {"duplicate": 2}).given
        8
    """

    taken: Count
    given: Count
    dropped: Mapping[str, Count] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Code:
    """Which code ran.

    Args:
        stage: The catalogue key, such as `dedup.minhash`.
        version: Its declared version.
        digest: The sha256 of its source.

    Example:
        >>> Code("dedup.minhash", "1", "0" * 64).stage
        'dedup.minhash'
    """

    stage: str
    version: str
    digest: Sha256


@dataclass(frozen=True, slots=True)
class Environment:
    """Where it ran.

    Args:
        python: The version of Python.
        platform: Operating system and processor.
        packages: Package to version, those that may change the result.

    Example:
        >>> Environment("3.12.1", "Linux x86_64").packages
        {}
    """

    python: str
    platform: str
    packages: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the data may be used for.

    Args:
        licences: SPDX identifiers of all licences that apply.
        uses: Use, by its name in the CAWG training-and-data-mining assertion without the prefix
            (`ai_training`, `ai_generative_training`, `ai_inference`, `data_mining`), to whether
            it is allowed.
        consent: Where the consent of the people in it is recorded.

    Example:
        >>> Terms(("CC-BY-4.0",), {"ai_training": "allowed"}).licences
        ('CC-BY-4.0',)
    """

    licences: tuple[str, ...] = ()
    uses: Mapping[str, Permission] = field(default_factory=dict, hash=False)
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class LogPoint:
    """The state of the log when the statement was signed: what it says existed no later.

    Args:
        origin: The name of the log.
        size: How many entries it had.
        root: Its Merkle root.

    Example:
        >>> LogPoint("datapipe/reviews", 3, "0" * 64).size
        3
    """

    origin: str
    size: Count
    root: Sha256


@dataclass(frozen=True, slots=True)
class StepSummary:
    """One step of a run.

    Args:
        code: Which stage ran.
        params: Its parameters.
        rows: What became of the rows.
        inputs: What it read.
        outputs: What it wrote.
        findings: What it found.
        reused: Whether the result of an earlier run was taken over unchanged.

    Example:
        >>> StepSummary(Code("dedup.minhash", "1", "0" * 64)).reused
        False
    """

    code: Code
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rows: Rows | None = None
    inputs: tuple[Material, ...] = ()
    outputs: tuple[Material, ...] = ()
    findings: tuple[FindingSummary, ...] = ()
    reused: bool = False


@dataclass(frozen=True, slots=True)
class PrivacySpend:
    """What a training run cost the people in the data.

    Args:
        epsilon: The budget used, >= 0.
        delta: The probability that the bound fails, in [0, 1].
        accountant: How it was computed, such as `prv` or `rdp`.
        noise_multiplier: Noise over clipping norm, >= 0.
        sample_rate: Share of the rows in a batch, in [0, 1].
        steps: Optimizer steps taken.
        unit: Whom it protects: a row, or all rows of a person.

    Example:
        >>> PrivacySpend(3.0, 1e-5, "prv").unit
        'row'
    """

    epsilon: Annotated[float, Range(0)]
    delta: Share
    accountant: str
    noise_multiplier: Annotated[float, Range(0)] | None = None
    sample_rate: Share | None = None
    steps: Count | None = None
    unit: Literal["row", "subject"] = "row"


@dataclass(frozen=True, slots=True)
class PreRegistration:
    """Limits that were fixed before the figures were known.

    Args:
        limits: Figure to the limit it had to keep.
        statement: The digest of the statement that fixed them.
        log_index: Its index in the log, below that of the evaluation.

    Example:
        >>> PreRegistration({"accuracy": 0.9}, "0" * 64, 12).log_index
        12
    """

    limits: Mapping[str, float] = field(hash=False)
    statement: Sha256
    log_index: Count


@dataclass(frozen=True, slots=True)
class Reached:
    """A data set or model that held rows which were erased.

    Args:
        thing: The data set or model.
        rows: How many of the erased rows it held.
        remedy: What was done about it.
        replaced_by: The digest of what took its place.

    Example:
        >>> Reached(Material("m", {"sha256": "0" * 64}), 4, "retrained").rows
        4
    """

    thing: Material
    rows: Count
    remedy: Literal["rewritten", "retrained", "unlearned", "retired", "pending"]
    replaced_by: Sha256 | None = None
