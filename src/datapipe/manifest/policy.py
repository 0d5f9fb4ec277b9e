# SPDX-License-Identifier: Apache-2.0
"""Trust policies: who must have signed what, written in TOML, deny by default.

    name = "reviews"
    version = 3

    [[key]]
    owner = "ada"
    roles = ["annotator"]
    public = \"\"\"-----BEGIN PUBLIC KEY-----…\"\"\"
    valid_until = 2027-01-01T00:00:00Z

    [[rule]]
    predicate = "dataset"
    names = ["reviews*"]
    roles = ["annotator", "auditor"]
    owners = 2
    strengths = ["classical", "post-quantum"]
    licences = ["CC-BY-4.0"]
    max_synthetic_share = 0.2

How a statement is judged by it stands in `judge.py`, who signed it in `policy_signatures.py`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from datapipe.errors import DeclarationError, ExecutionError, TrustError, nearest
from datapipe.manifest.algorithms import Strength
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope, read_limited
from datapipe.manifest.keyring import validity_problem
from datapipe.manifest.openssf import PREDICATE_TYPE as OPENSSF_TYPE
from datapipe.manifest.policy_signatures import POLICY_TYPE, require_signers, signature_file
from datapipe.manifest.predicates import predicate_uri
from datapipe.manifest.public_keys import PublicKey, parties, read_public_keys
from datapipe.manifest.signers import AnySigner

Role: TypeAlias = Literal["source", "annotator", "cleaner", "trainer", "auditor"]
ANY_PREDICATE = "*"

LARGEST_POLICY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PolicyKey:
    """A key that the policy knows.

    Args:
        owner: Whose it is; thresholds count different owners.
        roles: What its owner may vouch for.
        public: The key, or all parts of a hybrid key.
        valid_from: From when it is believed.
        valid_until: Until when.
        revoked_at: When it was revoked; its signatures are refused at every time.
        reason: Why it was revoked.

    Example:
        >>> PolicyKey("ada", ("annotator",), ()).revoked_at is None
        True
    """

    owner: str
    roles: tuple[Role, ...]
    public: tuple[PublicKey, ...]
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    revoked_at: datetime | None = None
    reason: str = ""

    def problem(self, at: datetime) -> Reason | None:
        """Tell why the key is not believed at a time.

        Args:
            at: The time, with its zone.

        Returns:
            The reason, or None.

        Example:
            >>> ends = datetime(2026, 1, 1, tzinfo=UTC)
            >>> key = PolicyKey("ada", (), (), valid_until=ends)
            >>> key.problem(datetime(2026, 1, 2, tzinfo=UTC)).slug
            'key_expired'
        """
        return validity_problem(
            at,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            revoked=self.revoked_at is not None,
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of the statements that it fits; all rules that fit must hold.

    Args:
        predicate: A short name of a predicate type, `openssf`, its URI, or `*`.
        names: Patterns for the name of the data set, run or model, such as `reviews*`.
        roles: Roles whose owners count; any role when empty.
        owners: How many different owners must have signed, at least 1.
        strengths: Classes of algorithms of which each counted owner must have used one.
        parents: Predicate types: each material must come with a statement of one of these types
            which this policy accepts.
        licences: The licences that are allowed; no condition when empty.
        uses: The uses that must be allowed, such as `ai_training`.
        max_synthetic_share: The largest declared synthetic share, in [0, 1].
        max_age_days: The greatest age of the statement, in days.

    Example:
        >>> Rule("dataset").owners
        1
    """

    predicate: str
    names: tuple[str, ...] = (ANY_PREDICATE,)
    roles: tuple[Role, ...] = ()
    owners: int = 1
    strengths: tuple[Strength, ...] = ()
    parents: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    max_synthetic_share: float | None = None
    max_age_days: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom to believe about what.

    Args:
        name: The policy's name.
        version: Grows with every change; an older one than was seen is refused.
        keys: The keys it knows.
        rules: What is asked; what no rule fits is refused.
        unknown_signatures: Whether a signature by a key that it does not know refuses the whole
            envelope, or is passed over.
        valid_until: Until when it may be used; None for no end.
        signers: Those who must sign this version and the next; anybody when empty.
        threshold: How many different ones of them must sign.

    Example:
        >>> Policy("none", 1, (), ()).rules
        ()
    """

    name: str
    version: int
    keys: tuple[PolicyKey, ...]
    rules: tuple[Rule, ...]
    unknown_signatures: Literal["refuse", "ignore"] = "refuse"
    valid_until: datetime | None = None
    signers: tuple[PublicKey, ...] = ()
    threshold: int = 1

    @property
    def public_keys(self) -> tuple[PublicKey, ...]:
        """All keys that it knows, revoked ones too, so that their signatures can be named.

        Returns:
            Public keys.

        Example:
            >>> Policy("none", 1, (), ()).public_keys
            ()
        """
        return tuple(public for key in self.keys for public in key.public)

    def owner_of(self, keyid: str) -> PolicyKey | None:
        """The entry of a key.

        Args:
            keyid: The id of a public key.

        Returns:
            The entry, or None when the policy does not know the key.

        Example:
            >>> Policy("none", 1, (), ()).owner_of("ab") is None
            True
        """
        return next((k for k in self.keys if any(p.keyid == keyid for p in k.public)), None)

    @classmethod
    def parse(cls, text: str) -> Policy:
        r"""Read a policy.

        Args:
            text: TOML.

        Returns:
            The policy.

        Raises:
            DeclarationError: It is not TOML, or a table has an unknown, missing or mistyped
                entry; all problems are told at once.
            TrustError: A public key in it cannot be read.

        Example:
            >>> Policy.parse('name = "strict"\nversion = 2').version
            2
        """
        try:
            form = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _wrong([f"not TOML: {error}"]) from error
        problems: list[str] = []
        keys = [_read_key(item, problems) for item in _tables(form, "key", problems)]
        rules = [_read_rule(item, problems) for item in _tables(form, "rule", problems)]
        name, version = form.get("name"), form.get("version")
        unknown = form.get("unknown_signatures", "refuse")
        if not isinstance(name, str) or not isinstance(version, int) or version < 1:
            problems.append("`name` must be a text and `version` a whole number from 1")
        if unknown not in ("refuse", "ignore"):
            problems.append("`unknown_signatures` must be refuse or ignore")
        valid_until = form.get("valid_until")
        if valid_until is not None and not _zoned(valid_until):
            problems.append("`valid_until` must be a time with its zone, such as a final Z")
            valid_until = None
        signers, threshold = _read_signers(form.get("signers"), problems)
        known = {"name", "version", "key", "rule", "unknown_signatures", "valid_until", "signers"}
        problems += [f"unknown entry {k!r}: {nearest(k, known)}" for k in set(form) - known]
        ids = [public.keyid for key in keys if key for public in key.public]
        if len(set(ids)) != len(ids):
            problems.append("a key is listed twice")
        if problems or not isinstance(name, str) or not isinstance(version, int):
            raise _wrong(problems)
        found = tuple(filter(None, keys)), tuple(filter(None, rules))
        return cls(name, version, *found, unknown, valid_until, signers, threshold)

    @classmethod
    def of_bytes(cls, path: str | Path, data: bytes) -> Policy:
        r"""Read the bytes of a policy file.

        Args:
            path: The file, for messages.
            data: Its bytes.

        Returns:
            The policy.

        Raises:
            DeclarationError: It is not UTF-8.

        Example:
            >>> Policy.of_bytes("p.toml", b'name = "strict"\nversion = 2').version
            2
        """
        try:
            return cls.parse(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise _wrong([f"{path} is not UTF-8"]) from error

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        signed_by: Iterable[PublicKey] = (),
        threshold: int = 1,
        highest_seen: int = 0,
    ) -> Policy:
        r"""Read a policy file, its signature and its version checked when asked.

        Args:
            path: The TOML file.
            signed_by: Keys that may sign policies; when given, `<name>.dsse.json` must lie
                beside the file and be signed by `threshold` of them.
            threshold: How many of them must have signed, >= 1.
            highest_seen: The highest version accepted before; an older policy may know keys
                that were revoked since.

        Returns:
            The policy.

        Raises:
            TrustError: It is not signed as asked, or older than was seen.

        Example:
            >>> import tempfile
            >>> path = Path(tempfile.mkdtemp()) / "policy.toml"
            >>> _ = path.write_text('name = "strict"\nversion = 2')
            >>> Policy.load(path, highest_seen=2).name
            'strict'
        """
        data = read_limited(path, LARGEST_POLICY_BYTES)
        keys = tuple(signed_by)
        if keys:
            require_signers(path, data, keys, threshold)
        policy = cls.of_bytes(path, data)
        if policy.version < highest_seen:
            raise TrustError(
                f"the policy {path} has version {policy.version}, {highest_seen} was seen before",
                code=Reason.POLICY_ROLLBACK.value,
                hint="use the current policy; an old one may trust keys that were revoked",
                path=str(path),
            )
        return policy


def sign_policy(path: str | Path, *signers: AnySigner) -> Path:
    r"""Sign a policy file.

    Args:
        path: The TOML file.
        *signers: The keys of those who decide whom to trust.

    Returns:
        The envelope's file, beside the policy.

    Raises:
        ExecutionError: The envelope cannot be written.

    Example:
        >>> import tempfile
        >>> from datapipe.manifest.keys import PrivateKey
        >>> path, key = Path(tempfile.mkdtemp()) / "policy.toml", PrivateKey.new("ed25519")
        >>> _ = path.write_text('name = "strict"\nversion = 1')
        >>> _ = sign_policy(path, key)
        >>> Policy.load(path, signed_by=[key.public_key]).version
        1
    """
    data = read_limited(path, LARGEST_POLICY_BYTES)
    Policy.of_bytes(path, data)
    target = signature_file(path)
    try:
        target.write_bytes(Envelope.sign(data, *signers, payload_type=POLICY_TYPE).to_bytes())
    except OSError as error:
        raise ExecutionError(
            f"the signature cannot be written to {target}: {error.strerror}",
            hint="sign in a folder that you may write to",
        ) from error
    return target


def _tables(form: Mapping[str, Any], name: str, problems: list[str]) -> list[dict[str, Any]]:
    tables = form.get(name, [])
    if isinstance(tables, list) and all(isinstance(item, dict) for item in tables):
        return tables
    problems.append(f"`{name}` must be written as [[{name}]]")
    return []


def _read_signers(form: Any, problems: list[str]) -> tuple[tuple[PublicKey, ...], int]:
    """The table of those who sign the policy itself; none when there is no such table."""
    if form is None:
        return (), 1
    table = form if isinstance(form, dict) else {}
    public, threshold = table.get("public"), table.get("threshold", 1)
    if not isinstance(public, str) or set(table) - {"public", "threshold"}:
        problems.append("[signers] has `public` (PEM) and `threshold`")
        return (), 1
    keys = read_public_keys(public)
    most = len(parties(keys))
    if not isinstance(threshold, int) or isinstance(threshold, bool) or not 1 <= threshold <= most:
        problems.append(f"[signers]: threshold must be within 1..{most}, the number of signers")
    return keys, threshold


def _zoned(value: Any) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


def _read_key(form: dict[str, Any], problems: list[str]) -> PolicyKey | None:
    where = f"key of {form.get('owner')!r}"
    values = _typed(PolicyKey, form, where, problems)
    _choices(values.get("roles", ()), get_args(Role), f"{where}: role", problems)
    if not values.get("roles") or not values.get("owner"):
        problems.append(f"{where}: an owner and at least one role are needed")
    for name in ("valid_from", "valid_until", "revoked_at"):
        if name in values and values[name].tzinfo is None:
            problems.append(f"{where}: {name} needs a time zone, such as a final Z")
            values[name] = values[name].replace(tzinfo=UTC)
    if "public" not in values:
        return None
    values["public"] = read_public_keys(values["public"])
    return None if problems else PolicyKey(**values)


def _read_rule(form: dict[str, Any], problems: list[str]) -> Rule | None:
    where = f"rule for {form.get('predicate')!r}"
    values = _typed(Rule, form, where, problems)
    _choices(values.get("roles", ()), get_args(Role), f"{where}: role", problems)
    _choices(values.get("strengths", ()), get_args(Strength), f"{where}: strength", problems)
    if values.get("owners", 1) < 1 or not 0 <= values.get("max_synthetic_share", 0) <= 1:
        problems.append(f"{where}: owners >= 1 and max_synthetic_share within [0, 1] are needed")
    if "predicate" not in values or problems:
        return None
    values["predicate"] = _predicate(values["predicate"])
    values["parents"] = tuple(_predicate(name) for name in values.get("parents", ()))
    return Rule(**values)


def _predicate(name: str) -> str:
    if name == ANY_PREDICATE:
        return name
    return OPENSSF_TYPE if name == "openssf" else predicate_uri(name)


_KINDS: dict[str, Any] = {
    **dict.fromkeys(("owner", "reason", "predicate", "public"), str),
    **dict.fromkeys(("valid_from", "valid_until", "revoked_at"), datetime),
    **dict.fromkeys(("max_synthetic_share", "max_age_days"), (int, float)),
    "owners": int,
}


def _typed(
    cls: type[PolicyKey | Rule], form: dict[str, Any], where: str, problems: list[str]
) -> dict[str, Any]:
    """The entries of a table that are known and of the right type; the rest are problems."""
    known = {field.name for field in fields(cls)}
    required = {f.name for f in fields(cls) if f.default is MISSING}
    fitting = {name for name in set(form) & known if _fits(name, form[name])}
    problems += [f"{where}: unknown entry {k!r}: {nearest(k, known)}" for k in set(form) - known]
    problems += [f"{where}: `{name}` is missing" for name in sorted(required - set(form))]
    problems += [
        f"{where}: `{name}` has the wrong type" for name in sorted((set(form) & known) - fitting)
    ]
    return {
        name: tuple(form[name]) if isinstance(form[name], list) else form[name] for name in fitting
    }


def _fits(name: str, value: Any) -> bool:
    kind = _KINDS.get(name)
    if kind is None:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind) and not isinstance(value, bool)


def _choices(
    found: Iterable[str], allowed: tuple[str, ...], where: str, problems: list[str]
) -> None:
    problems += [f"{where} {n!r}: {nearest(n, allowed)}" for n in found if n not in allowed]


def _wrong(problems: list[str]) -> DeclarationError:
    return DeclarationError(
        f"the policy is written wrongly: {'; '.join(problems)}",
        code="DP-DECL-041",
        hint="compare with the examples in manifests/policies",
        problems=problems,
    )
