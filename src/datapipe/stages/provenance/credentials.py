# SPDX-License-Identifier: Apache-2.0
"""`ContentCredentials`: what the C2PA credentials inside images say about where they come from."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import c2pa
import polars as pl

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding, scored_rows
from datapipe.core.parameters import AnyPath
from datapipe.core.roles import ROW_ID
from datapipe.core.stage import OnSuspect, Stage, Yield
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.manifest.plain import reading

SYNTHETIC = (
    "trainedAlgorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
    "trainedAlgorithmicData",
)
"""Digital source types of what a trained model made, alone or in part."""
CAPTURED = ("digitalCapture", "computationalCapture", "negativeFilm", "positiveFilm", "print")
"""Digital source types of what a camera or scanner took."""
MOST_IMAGE_BYTES = 64 << 20
MOST_ANCHOR_BYTES = 1 << 20
STATES = ("trusted", "untrusted", "invalid", "none", "unreadable")

_SETTINGS: Mapping[str, Any] = {
    "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False}
}


@dataclass(frozen=True)
class ContentCredentials(Stage):
    """Reads the C2PA credentials of every image and writes down what trusted ones declare.

    *Method:* the credentials of each image are verified: the hash over its bytes, the signature,
    and whether the certificate leads to an anchor that is believed. Only then does their digital
    source type count: made by a trained model (synthetic), or taken by a camera (not). A new column
    holds true, false or nothing; an image without trusted credentials is never called human.
    *Assumes:* whoever holds a certificate under the anchors tells the truth.
    *Choose it when:* images come from tools that sign, before `DeclaredSynthetic`, which reads the
    column.
    *Fails when:* credentials were stripped: most platforms do, and then nothing is declared.
    *Cost:* one read and one verification an image, about three times its decoding.

    Args:
        anchors: PEM file with the certificates of the authorities that are believed; without it
            no credential is trusted.
        column: Name of the new column.
        on_finding: What becomes of images whose credentials do not fit their bytes.

    Example:
        >>> from pathlib import Path
        >>> from datapipe.core.roles import Roles
        >>> rows = pl.DataFrame({"_row_id": pl.Series([1], dtype=pl.UInt64), "i": [b"no image"]})
        >>> data = Dataset(rows.lazy(), Roles.of(image="i"))
        >>> made = ContentCredentials().run(data, Context(0, Path(".")))
        >>> made.findings[0].details["states"]["unreadable"]
        1

    References:
        C2PA, 2025, Technical Specification 2.2; IPTC, digital source type vocabulary.
    """

    anchors: AnyPath = ""
    column: str = "ai_generated"
    on_finding: OnSuspect = "note"

    name: ClassVar[str] = "provenance.credentials"
    needs: ClassVar[tuple[str, ...]] = ("image",)
    extra: ClassVar[str] = "c2pa"
    raises_findings: ClassVar[tuple[str, ...]] = (
        "provenance.credentials",
        "provenance.source_type",
    )
    references: ClassVar[tuple[str, ...]] = (
        "C2PA, 2025, Technical Specification 2.2",
        "IPTC, digital source type vocabulary",
    )

    def check(self) -> list[str]:
        """Problems with the parameters that can be told without data.

        Returns:
            A sentence for each problem.

        Example:
            >>> ContentCredentials(column="").check()
            ['provenance.credentials: the new column has no name']
        """
        if wrong := super().check():
            return wrong
        if not self.column or self.column.startswith("_"):
            wrong.append(f"{self.name}: the new column has no name")
        return wrong

    def cacheable(self) -> bool:
        """Whether nothing outside of the data is read: False with anchors.

        Returns:
            True without anchors.

        Example:
            >>> ContentCredentials(anchors="anchors.pem").cacheable()
            False
        """
        return not self.anchors

    def run(self, data: Dataset, context: Context) -> Yield:
        """Read every image's credentials.

        Args:
            data: The rows; credentials live in the bytes of image files, so a first image column
                that holds anything else is not looked at.
            context: Not used.

        Returns:
            The rows with the new column, and two findings: credentials that do not fit, and what
            trusted ones declare.

        Raises:
            SchemaMismatch: The rows have a column of that name already.

        Example:
            >>> from pathlib import Path
            >>> from datapipe.core.roles import Roles
            >>> rows = pl.DataFrame({"_row_id": pl.Series([1], dtype=pl.UInt64), "i": [None]})
            >>> data = Dataset(rows.lazy().cast({"i": pl.Binary}), Roles.of(image="i"))
            >>> made = ContentCredentials().run(data, Context(0, Path(".")))
            >>> made.data.frame(["ai_generated"]).rows(), made.findings[1].verdict
            ([(None,)], 'not_evaluated')
        """
        image = data.roles.one("image")
        if data.types[image] != pl.Binary:
            read: list[tuple[str, bool | None]] = [("unreadable", None)] * len(data)
            return Yield(findings=self._findings(data.row_ids, read))
        if self.column in data.names:
            raise SchemaMismatch(
                f"{self.name}: there is a column {self.column!r} already",
                hint="name another with column=NAME",
            )
        reader = _CredentialReader(_anchors(str(self.anchors)))
        frame = data.frame(row_id=True)
        read = [reader.read(value) for value in frame[image]]
        told = pl.Series(self.column, [made for _, made in read], dtype=pl.Boolean)
        made = data.with_frame(frame.with_columns(told).lazy())
        return Yield(made, findings=self._findings(frame[ROW_ID], read))

    def _findings(
        self, row_ids: pl.Series, read: list[tuple[str, bool | None]]
    ) -> tuple[Finding, Finding]:
        states = pl.Series([state for state, _ in read], dtype=pl.String)
        counts = {s: int((states == s).sum()) for s in STATES}
        n = len(read)
        return self._fit(row_ids, states == "invalid", counts, n), _source_types(read, counts, n)

    def _fit(
        self, row_ids: pl.Series, invalid: pl.Series, counts: Mapping[str, int], n: int
    ) -> Finding:
        """Whether credentials fit the bytes that they are in."""
        details = {"states": dict(counts)}
        looked = n - counts["unreadable"]
        if not looked:
            return Finding.not_evaluated(
                "provenance.credentials",
                f"none of {n} images could be read",
                measure=Estimate.unknown(method="no image could be read", n=n),
                details=details,
                remedy="give the bytes of PNG, JPEG, WebP, GIF or TIFF files",
            )
        broken = counts["invalid"]
        return Finding(
            "provenance.credentials",
            "suspect" if broken else "clean",
            Estimate.exact(broken / looked, n=looked),
            f"the credentials of {broken} of {looked} images do not fit their bytes",
            "medium" if broken else "info",
            rows=scored_rows(
                row_ids,
                invalid.cast(pl.Float64),
                flagged=invalid,
                reason="content credentials do not fit the image",
            ),
            details=details,
            remedy="ask their source for the originals" if broken else "",
        )


class _CredentialReader:
    """Reads images with one set of anchors; no address in them is ever followed."""

    def __init__(self, anchors: str) -> None:
        trust = {"trust": {"user_anchors": anchors}} if anchors else {}
        self._trusting = bool(anchors)
        self._context = c2pa.Context.from_dict({**_SETTINGS, **trust})

    def read(self, value: bytes | None) -> tuple[str, bool | None]:
        """The state of one image's credentials, and whether they say that a model made it."""
        kind = _media_type(value or b"")
        if value is None or not kind or len(value) > MOST_IMAGE_BYTES:
            return "unreadable", None
        try:
            with c2pa.Reader(kind, io.BytesIO(value), context=self._context) as reader:
                state, told = reader.get_validation_state(), json.loads(reader.json())
        except c2pa.C2paError.ManifestNotFound:
            return "none", None
        except (c2pa.C2paError, ValueError):
            return "invalid", None
        if state == "Trusted" and self._trusting:
            return "trusted", _says(told)
        return ("untrusted" if state in ("Valid", "Trusted") else "invalid"), None


def _says(told: Mapping[str, Any]) -> bool | None:
    """Whether the active manifest says that a trained model made it; None when it does not say."""
    active = told.get("manifests", {}).get(told.get("active_manifest", ""), {})
    actions = [
        action
        for assertion in active.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    types = {str(a.get("digitalSourceType", "")).rpartition("/")[2] for a in actions} - {""}
    if types & set(SYNTHETIC):
        return True
    return False if types and types <= set(CAPTURED) else None


def _source_types(
    read: list[tuple[str, bool | None]], counts: Mapping[str, int], n: int
) -> Finding:
    """What trusted credentials declare, counted; all other images are declared nothing."""
    synthetic = sum(made is True for _, made in read)
    captured = sum(made is False for _, made in read)
    details = {
        "synthetic": synthetic,
        "captured": captured,
        "undeclared": n - synthetic - captured,
        "trusted": counts["trusted"],
    }
    if not synthetic + captured:
        return Finding.not_evaluated(
            "provenance.source_type",
            f"no trusted credential among {n} images says how it was made",
            measure=Estimate.unknown(method="no trusted credential says", n=n),
            details=details,
            remedy="name the authorities that are believed with anchors=FILE",
        )
    return Finding(
        "provenance.source_type",
        "clean",
        Estimate.exact(synthetic / n, n=n),
        f"{synthetic} of {n} images are declared, under a trusted signature, to be a model's",
        details=details,
    )


def _media_type(data: bytes) -> str:
    """The media type of an image by its first bytes; empty for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    starts = {
        b"\x89PNG\r\n\x1a\n": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF87a": "image/gif",
        b"GIF89a": "image/gif",
        b"II*\x00": "image/tiff",
        b"MM\x00*": "image/tiff",
    }
    return next((kind for start, kind in starts.items() if data.startswith(start)), "")


def _anchors(path: str) -> str:
    """The PEM text of the anchors."""
    if not path:
        return ""
    try:
        with reading(path) as file:
            text = file.read(MOST_ANCHOR_BYTES + 1)
        told = text.decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(
            f"{path} cannot be read as certificates",
            code="DP-DATA-033",
            hint="anchors are a PEM file of certificates",
        ) from error
    if len(text) > MOST_ANCHOR_BYTES or "-----BEGIN CERTIFICATE-----" not in told:
        raise Malformed(
            f"{path} holds no certificate in PEM, or is too large",
            code="DP-DATA-033",
            hint="anchors are a PEM file of certificates, up to 1 MiB",
        )
    return told
