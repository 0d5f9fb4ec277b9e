# SPDX-License-Identifier: Apache-2.0
"""How much of the data a machine made: what is declared is counted, the rest is estimated.

Expectations of a release, as limits for a gate:

    Gate({**expect_synthetic_share_upper_bound_below(0.1), **expect_tail_survival_above(0.8)})
"""

from __future__ import annotations

from datapipe.core.gate import Limit, at_least, at_most, not_failed


def expect_synthetic_share_upper_bound_below(bound: float) -> dict[str, Limit]:
    """The share of machine-made rows, declared or not, is below a bound at its upper end.

    Args:
        bound: In [0, 1].

    Returns:
        The limit for a gate; without an estimate the gate stays closed.

    Example:
        >>> {k: str(v) for k, v in expect_synthetic_share_upper_bound_below(0.1).items()}
        {'synthetic.prevalence': 'at most 0.1'}
    """
    return {"synthetic.prevalence": at_most(bound)}


def expect_tail_survival_above(bound: float) -> dict[str, Limit]:
    """What is forecast to be left of the tail is above a bound at its lower end.

    Args:
        bound: In [0, 1].

    Returns:
        The limit for a gate; without a plan or a share the gate stays closed.

    Example:
        >>> {k: str(v) for k, v in expect_tail_survival_above(0.8).items()}
        {'synthetic.collapse': 'at least 0.8'}
    """
    return {"synthetic.collapse": at_least(bound)}


def expect_no_undeclared_generator(bound: float = 0.05) -> dict[str, Limit]:
    """Something is declared about the rows, and few of the others are unlike what people write.

    Args:
        bound: Share of rows that may look machine-made, at its upper end, in [0, 1]; people's rows
            do at the rate of false alarms of `SyntheticScore`.

    Returns:
        The limits for a gate; where nothing is declared or scored the gate stays closed.

    Example:
        >>> {k: str(v) for k, v in expect_no_undeclared_generator().items()}
        {'synthetic.declared': 'not fail', 'synthetic.score': 'at most 0.05'}
    """
    return {"synthetic.declared": not_failed(), "synthetic.score": at_most(bound)}
