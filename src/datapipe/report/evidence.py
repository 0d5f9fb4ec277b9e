# SPDX-License-Identifier: Apache-2.0
"""What was measured about a stage: its evidence file, whether it holds, and whether it is stale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import datapipe
from datapipe.core.digest import digest_code
from datapipe.core.estimate import Estimate
from datapipe.errors import TrustError
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import Measure
from datapipe.manifest.keys import load_public_keys
from datapipe.manifest.predicates import EvaluationPredicate
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.verify import EVIDENCE_SUFFIX
from datapipe.report.cards import cards_folder

EVIDENCE_KEY = "evidence.pub.pem"
"""Public keys of the project's own evidence, beside its example policies."""


@dataclass(frozen=True)
class Evidence:
    """The evidence of a stage.

    Args:
        said: The figures, the seeds, the code and the data they rest on.
        signed: Whether a key of the project signed it, and nothing was changed since.
        stale: Whether the stage's code, or the floors it stands on, changed since.

    Example:
        >>> Evidence(EvaluationPredicate("dedup.exact"), signed=True, stale=True).mark
        'stale'
    """

    said: EvaluationPredicate
    signed: bool
    stale: bool

    @property
    def figures(self) -> dict[str, Estimate]:
        """The figures by name.

        Returns:
            Figure to its estimate.

        Example:
            >>> Evidence(EvaluationPredicate("dedup.exact"), signed=True, stale=False).figures
            {}
        """
        return {name: _estimate(measure) for name, measure in self.said.figures.items()}

    @property
    def mark(self) -> str:
        """What a reader must know before a figure is believed.

        Returns:
            `not as signed`, `stale` or `current`.

        Example:
            >>> Evidence(EvaluationPredicate("dedup.exact"), signed=False, stale=False).mark
            'not as signed'
        """
        if not self.signed:
            return "not as signed"
        return "stale" if self.stale else "current"


def evidence(key: str, *, cards: str | Path = "") -> Evidence | None:
    """Read the evidence of a stage.

    A file whose signature does not hold is read nevertheless, and says so.

    Args:
        key: Catalogue key, such as `dedup.minhash`.
        cards: The folder of the cards; empty for the one that belongs to this package.

    Returns:
        The evidence; None when nothing was measured.

    Raises:
        TrustError: The file holds no evaluation of this stage.

    Example:
        >>> evidence("no.stage") is None
        True
    """
    family, _, method = key.partition(".")
    path = (Path(cards) if cards else cards_folder()) / family / f"{method}{EVIDENCE_SUFFIX}"
    if not path.is_file():
        return None
    envelope = Envelope.load(path)
    statement = envelope.statement()
    said = EvaluationPredicate.from_json(dict(statement.predicate))
    if statement.predicate_type != EvaluationPredicate.uri or said.of != key:
        raise TrustError(
            f"{path.name} is about {said.of!r}, not about {key!r}",
            hint="write it again with `make evidence`",
        )
    return Evidence(said, signed=_holds(envelope), stale=_is_stale(said))


def evidence_table(found: Evidence) -> str:
    """The figures as Markdown, under a heading that says whether they are current.

    Args:
        found: The evidence of a stage.

    Returns:
        Markdown.

    Example:
        >>> said = EvaluationPredicate("a.b", {"recall": Measure.of(Estimate.rate(9, 10))}, (1, 2))
        >>> print(evidence_table(Evidence(said, signed=True, stale=False)).splitlines()[-1])
        | recall | 0.9 | 0.5958 to 0.9821 | 10 | wilson |
    """
    said = found.said
    warning = {
        "stale": "**stale**: the code changed since this was measured.",
        "not as signed": "**not as signed**: do not believe these figures.",
    }.get(found.mark, "")
    where = f"{len(said.seeds)} seeds, recorded {said.recorded_at or 'at no known time'}"
    lines = [f"## Evidence ({found.mark})", *([warning] if warning else []), ""]
    lines += [f"{where}; again with `{said.command}`.", ""]
    lines += ["| figure | value | interval | n | method |", "|---|---|---|---|---|"]
    return "\n".join(lines + [_row(name, estimate) for name, estimate in found.figures.items()])


def evidence_keys() -> tuple[PublicKey, ...]:
    """The keys that sign the project's own evidence.

    Returns:
        Public keys; none where the package came without them.

    Example:
        >>> all(key.algorithm for key in evidence_keys())
        True
    """
    package = Path(datapipe.__file__).resolve().parent
    for contract in (package / "contract", package.parents[1] / "manifests"):
        file = contract / "policies" / EVIDENCE_KEY
        if file.is_file():
            return load_public_keys(file)
    return ()


def _holds(envelope: Envelope) -> bool:
    try:
        envelope.verify(evidence_keys())
    except TrustError:
        return False
    return True


def _is_stale(said: EvaluationPredicate) -> bool:
    now = digest_code(f"datapipe.stages.{said.of}").removeprefix("sha256:")
    return said.code is None or said.code.digest != now


def _estimate(measure: Measure) -> Estimate:
    """The figure that a measure was made of: what is absent was not bounded."""
    return Estimate.from_json(
        {name: getattr(measure, name) for name in Estimate.__dataclass_fields__}
    )


def _row(name: str, estimate: Estimate) -> str:
    value = "unknown" if math.isnan(estimate.value) else f"{estimate.value:.4g}"
    unit = f" {estimate.unit}" if estimate.unit else ""
    bounds = f"{estimate.low:.4g} to {estimate.high:.4g}"
    return f"| {name} | {value}{unit} | {bounds} | {estimate.n} | {estimate.method} |"
