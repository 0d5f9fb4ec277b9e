# SPDX-License-Identifier: Apache-2.0
"""Signed, foreign, tampered and plain images: does each get what its credentials are worth?"""

from __future__ import annotations

import io
import json
import struct
import zlib
from datetime import UTC, datetime, timedelta

import c2pa
import numpy as np
import polars as pl
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.stages.provenance.credentials import ContentCredentials

SEEDS = range(24)
SAMPLE = 2
FLOORS = {"trusted synthetic images declared": 0.85, "tampered images marked": 0.85}
CEILINGS = {"other images declared synthetic": 0.05, "sound images marked": 0.05}
N = 48
TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
KINDS = ("synthetic", "captured", "foreign", "tampered", "plain", "no type")


def png(rng, *, side=8):
    """A small picture of noise."""
    rows = b"".join(b"\0" + rng.bytes(3 * side) for _ in range(side))

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def name(common):
    told = {NameOID.COMMON_NAME: common, NameOID.ORGANIZATION_NAME: "datapipe tests"}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in told.items()])


def authority():
    """A signer with its chain, and the anchor that issued it, both PEM."""
    top, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now, issuer = datetime.now(UTC), x509.SubjectKeyIdentifier.from_public_key(top.public_key())

    def begun(subject, public):
        made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("anchor"))
        made = made.public_key(public).serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - timedelta(days=1))
        return made.not_valid_after(now + timedelta(days=30))

    def usage(*, signs):
        both = not signs
        told = (signs, False, False, False, False, both, both, False, False)
        return x509.KeyUsage(*told)

    root = (
        begun("anchor", top.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(issuer, critical=False)
        .sign(top, hashes.SHA256())
    )
    known = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
    leaf = (
        begun("signer", key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .add_extension(known, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(top, hashes.SHA256())
    )
    pem = [c.public_bytes(serialization.Encoding.PEM).decode() for c in (leaf, root)]
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    info = c2pa.C2paSignerInfo(b"es256", "".join(pem).encode(), secret.encode(), None)
    return c2pa.Signer.from_info(info), pem[1]


def signed(image, signer, source_type):
    """The image with credentials that name a digital source type."""
    created = {"action": "c2pa.created", "digitalSourceType": source_type}
    told = {
        "claim_generator_info": [{"name": "tests", "version": "1"}],
        "title": "x",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
    context = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
    made = io.BytesIO()
    with c2pa.Builder(json.dumps(told), context) as builder:
        builder.sign(signer, "image/png", io.BytesIO(image), made)
    return made.getvalue()


def tampered(image, rng):
    """One byte of the picture's own data flipped; the credentials are left as they are."""
    at = image.index(b"IDAT") + 8 + int(rng.integers(0, 20))
    return image[:at] + bytes([image[at] ^ 1]) + image[at + 1 :]


def world(rng, n, *, ours, foreign):
    """Images of every kind in turn."""
    made = []
    for i in range(n):
        kind, image = KINDS[i % len(KINDS)], png(rng)
        source = {"captured": "digitalCapture", "no type": "minorHumanEdits"}.get(
            kind, "trainedAlgorithmicMedia"
        )
        if kind != "plain":
            image = signed(image, foreign if kind == "foreign" else ours, TYPE + source)
        made.append((kind, tampered(image, rng) if kind == "tampered" else image))
    return made


def rows(images):
    """A data set of images, one a row."""
    frame = pl.DataFrame(
        {
            ROW_ID: pl.Series(range(1 << 40, (1 << 40) + len(images)), dtype=pl.UInt64),
            "image": pl.Series([image for _, image in images], dtype=pl.Binary),
        }
    )
    return Dataset(frame.lazy(), Roles.of(image="image"))


def trial(context):
    """Sign, tamper, read."""
    rng = np.random.default_rng(context.seed)
    ours, anchor = authority()
    foreign, _ = authority()
    context.scratch.mkdir(parents=True, exist_ok=True)
    anchors = context.scratch / "anchors.pem"
    anchors.write_text(anchor)
    images = world(rng, N, ours=ours, foreign=foreign)
    data = rows(images)
    made = ContentCredentials(anchors).run(data, context)
    told = made.data.frame(["ai_generated"])["ai_generated"].fill_null(value=False).to_numpy()
    marked = made.findings[0].rows["flagged"].to_numpy()
    kinds = np.array([kind for kind, _ in images])
    synthetic, broken = kinds == "synthetic", kinds == "tampered"
    return {
        "trusted synthetic images declared": (int(told[synthetic].sum()), int(synthetic.sum())),
        "other images declared synthetic": (int(told[~synthetic].sum()), int((~synthetic).sum())),
        "tampered images marked": (int(marked[broken].sum()), int(broken.sum())),
        "sound images marked": (int(marked[~broken].sum()), int((~broken).sum())),
    }, data
