# SPDX-License-Identifier: Apache-2.0
"""`datapipe verify PATH…`: is it what its signers signed? A store, a folder, a file, evidence.

Exits 4 when anything does not hold, naming the file, and 7 when a signature names what no honest
signer names (`../`, an absolute path, a link, a form without end). Nobody is believed by default:
the keys are those of `--key`, of `--policy`, or of the key ring.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

import datapipe
from datapipe.cli.options import Json, PassphraseFile, existing
from datapipe.cli.signing import believed, public_keys, ring_folder
from datapipe.cli.store_trust import Answer, verify_store
from datapipe.cli.terminal import note, out, out_json, painted, plain
from datapipe.errors import DeclarationError, Malformed, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.policy import Policy
from datapipe.manifest.public_keys import PublicKey
from datapipe.manifest.rotation import SEEN_FILE, load_policy
from datapipe.manifest.statement import Subject
from datapipe.manifest.verify import EVIDENCE_SUFFIX, verify_path
from datapipe.report.evidence import evidence_keys

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_MOST = 20


@app.command()
def _verify(
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Stores, folders, files.")],
    *,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="A public key to believe; repeatable."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="A trust policy (TOML).")
    ] = None,
    policy_key: Annotated[
        list[Path] | None,
        typer.Option("--policy-key", metavar="FILE", help="Who must have signed the policy."),
    ] = None,
    policy_threshold: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many of them must have signed it.")
    ] = 1,
    ring: Annotated[
        Path | None, typer.Option("--ring", metavar="DIR", help="Key ring to believe.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="A checkpoint kept outside the store; repeatable."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    rules = None
    if policy is not None:
        vouch = [k for f in policy_key or [] for k in public_keys(f, passphrase_file)]
        rules = load_policy(
            existing(policy),
            memory=ring_folder(ring) / SEEN_FILE,
            at=datetime.now(UTC),
            signed_by=vouch,
            threshold=policy_threshold,
        )
    alone = policy is not None and not key  # a policy names its own keys
    named = () if alone else believed(key or [], passphrase_file, ring)
    notes = tuple(existing(path) for path in checkpoint or [])
    answers = [_one(existing(path), named, rules, notes, chosen=bool(key)) for path in paths]
    if as_json:
        reports = [{"path": a.path, "passed": a.passed, "checks": a.checks} for a in answers]
        out_json({"passed": all(a.passed for a in answers), "reports": reports})
    else:
        for answer in answers:
            _tell(answer)
    broken = next((a for a in answers if not a.passed), None)
    if broken is not None:
        raise _refusal(broken, anybody=bool(named or rules))


def _one(
    path: Path,
    keys: tuple[PublicKey, ...],
    rules: Policy | None,
    notes: tuple[Path, ...],
    *,
    chosen: bool,
) -> Answer:
    if (path / "journal").is_dir():
        return verify_store(path, keys, rules, notes)
    if notes:
        raise DeclarationError(
            f"{path} is no store, so that no checkpoint belongs to it",
            code="DP-USE-021",
            hint="name the store's folder: datapipe verify .datapipe --checkpoint FILE",
        )
    if not chosen and rules is None and _holds_evidence(path):
        keys = (*keys, *evidence_keys())
    return Answer.of(verify_path(path, keys=keys, policy=rules, locate=_stage_source))


def _holds_evidence(path: Path) -> bool:
    """Whether it is a file of evidence, or a folder with such."""
    if path.is_file():
        return path.name.endswith(EVIDENCE_SUFFIX)
    return next(path.rglob(f"*{EVIDENCE_SUFFIX}"), None) is not None


def _stage_source(subject: Subject) -> Path | None:
    """The source of a stage, which is what evidence is about: `dedup/minhash.py`."""
    source = Path(datapipe.__file__).resolve().parent / "stages" / subject.name
    return source if source.is_file() else None


def _tell(answer: Answer) -> None:
    word = painted(answer.word, "clean") if answer.passed else painted("NOT trusted", "fail")
    held = len(answer.checks) - len(answer.failed)
    out(f"{plain(answer.path)}: {word} ({held:,} of {len(answer.checks):,} checks hold)")
    for check in answer.failed[:_MOST]:
        out(plain(f"  refused  {check['name']}: {check['reason']} [{check['code']}]"))
    if len(answer.failed) > _MOST:
        out(f"  and {len(answer.failed) - _MOST:,} more; --json lists them")
    if answer.passed:
        for check in answer.checks[:3]:
            out(plain(f"  holds    {check['name']}: {check['reason']}"))
        if answer.note:
            note(answer.note)


def _refusal(answer: Answer, *, anybody: bool) -> TrustError | Malformed:
    first = answer.failed[0] if answer.failed else {"name": "", "reason": "nothing to verify"}
    hint = "do not use it; ask its signer, or sign it anew if the change is yours"
    if EVIDENCE_SUFFIX in str(first["name"]):
        hint = "if its stage changed since it was measured, measure again: `make evidence STALE=1`"
    elif hostile := _hostile(answer):
        return Malformed(
            f"{answer.path} is refused: {hostile['name']}: {hostile['reason']}",
            code=str(hostile["code"]),
            hint="no honest signer writes this: do not open it, and ask where it came from",
        )
    elif not anybody:
        hint = "nobody is believed yet: give the signer's public key with --key FILE"
    return TrustError(
        f"{answer.path} is not trusted: {first['name']}: {first['reason']}",
        code=str(first.get("code", "")),
        hint=hint,
        path=answer.path,
    )


def _hostile(answer: Answer) -> dict[str, Any] | None:
    """The first refusal of what no honest signer writes; damaged bytes may look like anything."""
    codes = {check["code"] for check in answer.failed}
    if Reason.BAD_SIGNATURE in codes or (Path(answer.path) / "journal").is_dir():
        return None
    hostile = {reason for reason in Reason if reason.hostile}
    return next((check for check in answer.failed if check["code"] in hostile), None)
