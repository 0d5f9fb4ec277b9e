# SPDX-License-Identifier: Apache-2.0
"""Which kinds of finding a gate can meet: a misspelt one is told before the first row is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from datapipe.core.gate import Gate
from datapipe.core.stage import RowStage, Stage
from datapipe.errors import closest

_MAGIC = "*?["


def unraised(groups: Sequence[Sequence[Stage]]) -> list[str]:
    """Limits of gates that are misspelt, or met by a later stage only: the gate could only close.

    A limit of another name altogether asks for a look that nobody takes: it is not told here and
    closes the gate. A stage that declares no kinds (`raises_findings`), as a plain function does
    not, may raise any: behind one of those nothing is told. Nor are optional limits.

    Args:
        groups: The stages of a pipeline, group by group.

    Returns:
        A sentence for each such limit, with the closest kinds that are raised.

    Example:
        >>> from datapipe.core.gate import at_most
        >>> class Copies(Stage):
        ...     raises_findings = ("dedup.exact",)
        >>> unraised([[Copies()], [Gate({"dedupe.*": at_most(0.01)})]])
        ["gate: no stage before it raises 'dedupe.*'; did you mean 'dedup.*' or 'dedup.exact'?"]
    """
    told: list[str] = []
    met: set[str] = set()
    for number, group in enumerate(groups):
        if any(_raises_any(stage) for stage in group):
            return told
        beside = [stage for stage in group if not isinstance(stage, Gate)]
        met.update(kind for stage in beside for kind in stage.raises_findings)
        later = [stage for after in groups[number + 1 :] for stage in after]
        for gate in (s for s in group if isinstance(s, Gate) and not s.check()):
            missed = [
                pattern
                for pattern, limit in gate.limits.items()
                if not limit.optional and not _meets(pattern, met)
            ]
            told.extend(filter(None, (_say(gate, pattern, met, later) for pattern in missed)))
        met.update(kind for stage in group for kind in stage.raises_findings)
    return told


def _raises_any(stage: Stage) -> bool:
    """Whether it may raise what it likes; a row stage, fused into one plan, raises nothing."""
    fused = isinstance(stage, RowStage) and type(stage).run is RowStage.run
    return not stage.raises_findings and not fused


def _meets(pattern: str, kinds: Iterable[str]) -> bool:
    """Whether a limit's pattern may match a finding; what is declared may be a pattern as well."""
    return any(
        fnmatchcase(kind, pattern) if not _is_pattern(kind) else _overlap(kind, pattern)
        for kind in kinds
    )


def _overlap(one: str, other: str) -> bool:
    """Whether one name could match both patterns, as far as the letters before the first sign."""
    first, second = (_literal(p) for p in (one, other))
    return first.startswith(second) or second.startswith(first)


def _literal(pattern: str) -> str:
    return pattern[: min((i for i in map(pattern.find, _MAGIC) if i >= 0), default=len(pattern))]


def _is_pattern(kind: str) -> bool:
    return any(sign in kind for sign in _MAGIC)


def _say(gate: Stage, pattern: str, met: set[str], later: Sequence[Stage]) -> str:
    for stage in later:
        if _meets(pattern, stage.raises_findings):
            return f"{gate.name}: {pattern!r} is raised by {stage.name}, which comes after it"
    families = {f"{kind.partition('.')[0]}.*" for kind in met if "." in kind}
    close = closest(pattern, families | met if _is_pattern(pattern) else met)
    return f"{gate.name}: no stage before it raises {pattern!r}; {close}" if close else ""
