# SPDX-License-Identifier: Apache-2.0
"""What a verification says: one `Check` per question, each refusal with its own reason code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from datapipe.errors import TrustError


class Reason(StrEnum):
    """Why something is not trusted; the value is the code that users and scripts see.

    The name in lower case (`Reason.ADDED.slug`) is what the published vectors use, so that other
    implementations can agree with us on reasons without knowing our numbers.

    Example:
        >>> Reason.ADDED.value, Reason.ADDED.slug
        ('DP-TRUST-203', 'added')
    """

    HOLDS = "DP-TRUST-100"
    BAD_SIGNATURE = "DP-TRUST-101"
    WRONG_KEY = "DP-TRUST-102"
    UNKNOWN_SIGNER = "DP-TRUST-103"
    GARBAGE_SIGNATURE = "DP-TRUST-104"
    DUPLICATE_SIGNATURE = "DP-TRUST-105"
    UNSIGNED = "DP-TRUST-106"
    THRESHOLD = "DP-TRUST-107"
    NO_KEYS = "DP-TRUST-108"
    HYBRID_PART = "DP-TRUST-109"

    CHANGED = "DP-TRUST-201"
    MISSING = "DP-TRUST-202"
    ADDED = "DP-TRUST-203"
    RENAMED = "DP-TRUST-204"
    UNSORTED = "DP-TRUST-205"
    DUPLICATE_NAME = "DP-TRUST-206"
    PARENT_PATH = "DP-TRUST-207"
    ABSOLUTE_PATH = "DP-TRUST-208"
    BACKSLASH = "DP-TRUST-209"
    SYMLINK = "DP-TRUST-210"
    SPECIAL_FILE = "DP-TRUST-211"
    EMPTY_SET = "DP-TRUST-212"
    UNKNOWN_HASH = "DP-TRUST-213"
    HIDDEN_FILE = "DP-TRUST-214"
    ROOT_MISMATCH = "DP-TRUST-215"
    BAD_NAME = "DP-TRUST-216"
    REENCODED = "DP-TRUST-217"

    DUPLICATE_JSON_KEY = "DP-TRUST-301"
    TOO_LARGE = "DP-TRUST-302"
    TOO_DEEP = "DP-TRUST-303"
    NOT_JSON = "DP-TRUST-304"
    BAD_NUMBER = "DP-TRUST-305"
    BAD_FORM = "DP-TRUST-306"
    UNKNOWN_FIELD = "DP-TRUST-307"
    LEGACY_PREDICATE = "DP-TRUST-308"
    WRONG_PREDICATE = "DP-TRUST-309"
    SUBJECT_COUNT = "DP-TRUST-310"
    SERIALIZATION = "DP-TRUST-311"

    KEY_NOT_ENCRYPTED = "DP-TRUST-401"
    KEY_MODE = "DP-TRUST-402"
    KEY_PASSPHRASE = "DP-TRUST-403"  # noqa: S105  # a code, no secret
    KEY_FORM = "DP-TRUST-404"
    KEY_MISSING = "DP-TRUST-405"

    NO_RULE = "DP-TRUST-501"
    TOO_FEW_OWNERS = "DP-TRUST-502"
    WRONG_ROLE = "DP-TRUST-503"
    KEY_NOT_YET_VALID = "DP-TRUST-504"
    KEY_EXPIRED = "DP-TRUST-505"
    KEY_REVOKED = "DP-TRUST-506"
    ALGORITHM_CLASS = "DP-TRUST-507"
    PARENT_MISSING = "DP-TRUST-508"
    PARENT_REFUSED = "DP-TRUST-509"
    LICENCE = "DP-TRUST-510"
    USE = "DP-TRUST-511"
    SYNTHETIC_SHARE = "DP-TRUST-512"
    SYNTHETIC_UNKNOWN = "DP-TRUST-513"
    TOO_OLD = "DP-TRUST-514"
    POLICY_ROLLBACK = "DP-TRUST-515"
    POLICY_UNSIGNED = "DP-TRUST-516"
    POLICY_FORKED = "DP-TRUST-517"
    POLICY_EXPIRED = "DP-TRUST-518"
    CONSENT = "DP-TRUST-519"

    LOG_PROOF = "DP-TRUST-601"
    LOG_CHECKPOINT = "DP-TRUST-602"
    LOG_SHRUNK = "DP-TRUST-603"

    @property
    def slug(self) -> str:
        """The reason in words that do not change, such as `duplicate_name`.

        Returns:
            The member's name in lower case.

        Example:
            >>> Reason.PARENT_PATH.slug
            'parent_path'
        """
        return self.name.lower()

    @property
    def hostile(self) -> bool:
        """Whether no honest signer writes such a thing: it reaches outside, or is made to choke.

        Returns:
            True for names that leave the folder or name no plain file, and for forms without end.

        Example:
            >>> Reason.PARENT_PATH.hostile, Reason.CHANGED.hostile
            (True, False)
        """
        return self in _HOSTILE


_HOSTILE = frozenset(
    {
        Reason.PARENT_PATH, Reason.ABSOLUTE_PATH, Reason.BACKSLASH, Reason.SYMLINK,
        Reason.SPECIAL_FILE, Reason.BAD_NAME, Reason.DUPLICATE_JSON_KEY, Reason.TOO_LARGE,
        Reason.TOO_DEEP,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One question that was asked, and its answer.

    Args:
        name: What was looked at, such as `signature` or `file images/1.png`.
        passed: Whether it holds.
        reason: The answer in a sentence.
        code: `Reason.HOLDS` when it passed, the reason for refusing otherwise.

    Example:
        >>> str(Check("signature", False, "signed by another key", Reason.WRONG_KEY))
        'refused  signature: signed by another key [DP-TRUST-102]'
    """

    name: str
    passed: bool
    reason: str
    code: Reason = Reason.HOLDS

    @classmethod
    def held(cls, name: str, reason: str) -> Check:
        """A question with a good answer.

        Args:
            name: What was looked at.
            reason: Why it holds.

        Returns:
            A check that passed.

        Example:
            >>> Check.held("signature", "by ada").passed
            True
        """
        return cls(name, passed=True, reason=reason)

    @classmethod
    def refused(cls, name: str, reason: str, code: Reason) -> Check:
        """A question with a bad answer.

        Args:
            name: What was looked at.
            reason: What is wrong.
            code: Which of the known reasons it is.

        Returns:
            A check that did not pass.

        Example:
            >>> Check.refused("files", "b.txt is new", Reason.ADDED).code.slug
            'added'
        """
        return cls(name, passed=False, reason=reason, code=code)

    def to_json(self) -> dict[str, Any]:
        """The form that `datapipe verify --json` prints.

        Returns:
            A dictionary with the keys name, passed, reason, code and slug.

        Example:
            >>> Check.held("signature", "by ada").to_json()["slug"]
            'holds'
        """
        return {
            "name": self.name,
            "passed": self.passed,
            "reason": self.reason,
            "code": self.code.value,
            "slug": self.code.slug,
        }

    def __str__(self) -> str:
        if self.passed:
            return f"holds    {self.name}: {self.reason}"
        return f"refused  {self.name}: {self.reason} [{self.code.value}]"


@dataclass(frozen=True, slots=True)
class Report:
    """Every check of one verification: what was asked, what held, what did not.

    An empty report does not pass: nothing was verified.

    Args:
        path: The file or folder that was verified.
        checks: The checks, in the order they were made.

    Example:
        >>> Report("data", (Check.held("signature", "by ada"),)).passed
        True
        >>> Report("data", ()).passed
        False
    """

    path: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether there is at least one check and all of them hold.

        Returns:
            True when the thing may be used.

        Example:
            >>> Report("d", (Check.refused("files", "new", Reason.ADDED),)).passed
            False
        """
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not hold.

        Returns:
            The refusals, in order.

        Example:
            >>> Report("d", (Check.held("a", "b"),)).failed
            ()
        """
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """The form that `datapipe verify --json` prints.

        Returns:
            A dictionary with the keys path, passed and checks.

        Example:
            >>> Report("d", ()).to_json()
            {'path': 'd', 'passed': False, 'checks': []}
        """
        return {
            "path": self.path,
            "passed": self.passed,
            "checks": [check.to_json() for check in self.checks],
        }

    def require(self) -> Report:
        """Stop unless everything held.

        Returns:
            This report.

        Raises:
            TrustError: A check did not hold; the message names the path and the first reasons,
                the code is that of the first.

        Example:
            >>> Report("d", (Check.held("signature", "by ada"),)).require().passed
            True
        """
        if self.passed:
            return self
        failed = self.failed or (Check.refused("anything", "nothing to verify", Reason.UNSIGNED),)
        shown = "; ".join(f"{check.name}: {check.reason}" for check in failed[:3])
        more = f" (and {len(failed) - 3} more)" if len(failed) > 3 else ""
        raise TrustError(
            f"{self.path} is not trusted: {shown}{more}",
            code=failed[0].code.value,
            hint="do not use it; ask its signer, or sign it anew if the change is yours",
            path=self.path,
        )

    def __str__(self) -> str:
        verdict = "trusted" if self.passed else "NOT trusted"
        return "\n".join([f"{self.path}: {verdict}", *(f"  {check}" for check in self.checks)])
