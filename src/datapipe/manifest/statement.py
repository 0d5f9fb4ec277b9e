# SPDX-License-Identifier: Apache-2.0
"""in-toto Statement v1: what is said (`predicate`) about which bytes (`subjects`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.canonical import canonical_json, parse_json, quoted
from datapipe.manifest.checks import Reason

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

_HEX = frozenset("0123456789abcdef")
_ONE_DIGEST = {"sha256"}
_SHA256 = re.compile("[0-9a-f]{64}")
_DIGEST_BYTES = {"sha256": 32, "sha384": 48, "sha512": 64, "blake3": 32}

__all__ = ["PAYLOAD_TYPE", "STATEMENT_TYPE", "Statement", "Subject", "canonical_json", "parse_json"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing that a statement is about: a name and the digests that fix its bytes.

    Args:
        name: The name, for a file its path relative to the signed folder, with `/`.
        digests: Algorithm to lower-case hex digest; at least one.

    Raises:
        DeclarationError: The name is empty, there is no digest, or one is not lower-case hex of
            the length of its algorithm.

    Example:
        >>> Subject("a.csv", {"sha256": "ab" * 32}).digests["sha256"][:4]
        'abab'
    """

    name: str
    digests: Mapping[str, str] = field(hash=False)

    def __post_init__(self) -> None:
        problem = _subject_problem(self.name, self.digests)
        if problem:
            raise DeclarationError(
                f"Subject({self.name!r}): {problem}",
                code="DP-DECL-031",
                hint='give a name and digests such as {"sha256": 64 hex digits}',
            )
        object.__setattr__(self, "digests", dict(self.digests))

    def to_json(self) -> dict[str, Any]:
        """The in-toto resource descriptor.

        Returns:
            A dictionary with the keys name and digest.

        Example:
            >>> sorted(Subject("a", {"sha256": "0" * 64}).to_json())
            ['digest', 'name']
        """
        return {"name": self.name, "digest": dict(self.digests)}


@dataclass(frozen=True, slots=True)
class Statement:
    """A typed claim about subjects; what an envelope signs.

    Args:
        subjects: What it is about, at least one.
        predicate_type: The URI that says how to read the predicate.
        predicate: The claim, a JSON object.

    Raises:
        DeclarationError: There is no subject or the predicate type is not a URI.

    Example:
        >>> statement = Statement((Subject("a", {"sha256": "0" * 64}),), "https://a/b/v1", {"n": 1})
        >>> Statement.from_bytes(statement.to_bytes()) == statement
        True
    """

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "subjects", tuple(self.subjects))
        object.__setattr__(self, "predicate", dict(self.predicate))
        if not self.subjects or ":" not in self.predicate_type:
            raise DeclarationError(
                f"a statement of type {self.predicate_type!r} about {len(self.subjects)} subjects: "
                "one subject and a type URI are needed",
                code="DP-DECL-031",
                hint="name what the statement is about and give its predicate type",
            )

    @property
    def digest(self) -> str:
        """The name by which other statements refer to this one.

        It is of the payload, not of the envelope: adding a signature does not change it.

        Returns:
            The sha256 of the canonical bytes, as 64 hex digits.

        Example:
            >>> len(Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {}).digest)
            64
        """
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The statement as in-toto writes it.

        Returns:
            A dictionary with the keys _type, subject, predicateType and predicate.

        Example:
            >>> Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {}).to_json()["_type"]
            'https://in-toto.io/Statement/v1'
        """
        return {
            "_type": STATEMENT_TYPE,
            "subject": [subject.to_json() for subject in self.subjects],
            "predicateType": self.predicate_type,
            "predicate": dict(self.predicate),
        }

    def to_bytes(self) -> bytes:
        """The payload to sign: canonical JSON.

        Returns:
            UTF-8 bytes, the same for equal statements.

        Example:
            >>> Statement((Subject("a", {"sha256": "0" * 64}),), "a:b", {}).to_bytes()[:9]
            b'{"_type":'
        """
        listed = b",".join(map(_subject_json, self.subjects))
        rest = canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "predicate": dict(self.predicate),
                "predicateType": self.predicate_type,
            }
        )
        return b'%b,"subject":[%b]}' % (rest[:-1], listed)  # keys in order: subject is the last

    @classmethod
    def from_bytes(cls, payload: bytes) -> Statement:
        """Read a payload that somebody signed.

        Unknown fields beside the four known ones are refused: an extension that this version does
        not understand may change what the statement means.

        Args:
            payload: UTF-8 JSON of at most 64 MiB.

        Returns:
            The statement.

        Raises:
            TrustError: The payload is not strict JSON or not an in-toto Statement v1.

        Example:
            >>> said = Statement((Subject("x", {"sha256": "0" * 64}),), "a:b", {})
            >>> Statement.from_bytes(said.to_bytes()).subjects[0].name
            'x'
        """
        form = parse_json(payload)
        keys = {"_type", "subject", "predicateType", "predicate"}
        if not isinstance(form, dict) or form.get("_type") != STATEMENT_TYPE:
            raise _refused(f"the payload is not a {STATEMENT_TYPE}", Reason.BAD_FORM)
        if set(form) - keys:
            raise _refused(
                f"unknown statement fields {sorted(set(form) - keys)}", Reason.UNKNOWN_FIELD
            )
        subjects, kind, predicate = (form.get(k) for k in ("subject", "predicateType", "predicate"))
        if not isinstance(kind, str) or ":" not in kind or not isinstance(predicate, dict):
            raise _refused("predicateType must be a URI and predicate an object", Reason.BAD_FORM)
        if not isinstance(subjects, list) or not subjects:
            raise _refused("a statement needs at least one subject", Reason.SUBJECT_COUNT)
        return cls(tuple(_read_subject(item) for item in subjects), kind, predicate)


def _subject_json(subject: Subject) -> bytes:
    """Canonical JSON of one subject, written directly when it is plain: there may be very many."""
    if subject.digests.keys() == _ONE_DIGEST and subject.name.isprintable():
        digest = subject.digests["sha256"]
        text = f'{{"digest":{{"sha256":"{digest}"}},"name":{quoted(subject.name)}}}'
        return text.encode()
    return canonical_json(subject.to_json())


def _read_subject(form: Any) -> Subject:
    if not isinstance(form, dict) or set(form) - {"name", "digest", "annotations"}:
        raise _refused("a subject has only name, digest and annotations", Reason.BAD_FORM)
    name, digests = form.get("name"), form.get("digest")
    problem = _subject_problem(name, digests)
    if problem or not isinstance(name, str):
        raise _refused(f"the subject {name!r}: {problem}", Reason.BAD_FORM)
    return Subject(name, form["digest"])


def _subject_problem(name: Any, digests: Any) -> str:
    if type(name) is str and name and type(digests) is dict and digests.keys() == _ONE_DIGEST:
        text = digests["sha256"]
        if type(text) is str and _SHA256.fullmatch(text):
            return ""
    if not isinstance(name, str) or not name:
        return "its name is not a text"
    if not isinstance(digests, Mapping) or not digests:
        return "it has no digest"
    for algorithm, text in digests.items():
        if not isinstance(text, str) or not text or not _HEX.issuperset(text):
            return f"its {algorithm} digest is not lower-case hex"
        if len(text) != 2 * _DIGEST_BYTES.get(algorithm, len(text) // 2) or len(text) % 2:
            return f"its {algorithm} digest has {len(text)} hex digits"
    return ""


def _refused(what: str, reason: Reason) -> TrustError:
    return TrustError(what, code=reason.value, hint="use only statements that a strict writer made")
