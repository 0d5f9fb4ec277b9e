# SPDX-License-Identifier: Apache-2.0
"""Key rings: keys come, overlap and go, and what was revoked stays refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.checks import Reason
from datapipe.manifest.keyring import KeyRing
from datapipe.manifest.keys import PrivateKey, load_key

QUICK = 1000  # rounds of key derivation: the form is tested, not its cost
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def ring(tmp_path):
    return KeyRing(tmp_path / "keys")


def test_a_new_key_is_listed_and_usable(ring):
    key = ring.new("p256", "ada", b"x", at=START, rounds=QUICK)
    (listed,) = ring.keys
    assert (listed.keyid, listed.owner, listed.algorithm) == (key.keyid, "ada", "p256")
    assert load_key(ring.folder / listed.file, b"x").keyid == key.keyid
    assert ring.believed(START) == key.public_keys
    assert ring.believed(START - DAY) == ()
    assert "PRIVATE" not in (ring.folder / "keys.json").read_text()


def test_rotation_overlaps_and_then_ends(ring):
    old = ring.new("hybrid", "ada", b"x", at=START, rounds=QUICK)
    later = START + 100 * DAY
    new = ring.rotate(old.keyid[:10], b"y", at=later, overlap=7 * DAY, rounds=QUICK)
    assert new.algorithm == "hybrid"
    assert {key.owner for key in ring.keys} == {"ada"}
    assert set(ring.believed(later + DAY)) == {*old.public_keys, *new.public_keys}
    assert ring.believed(later + 8 * DAY) == new.public_keys
    assert ring.keys[0].problem(later + 8 * DAY) is Reason.KEY_EXPIRED


def test_a_revoked_key_is_refused_at_every_time(ring):
    key = ring.new("hybrid", "ada", b"x", at=START, rounds=QUICK)
    ring.revoke(key.keyid, "laptop stolen", at=START + DAY)
    assert ring.believed(START) == ()
    assert [k.problem(START) for k in ring.keys] == [Reason.KEY_REVOKED] * 3
    assert ring.keys[0].reason == "laptop stolen"
    ring.revoke(key.keyid, "again", at=START + 2 * DAY)
    assert ring.keys[0].reason == "laptop stolen"
    with pytest.raises(DeclarationError):
        ring.add(key.public_keys, "ada", at=START)


def test_export_gives_public_halves_only(ring):
    key = ring.new("hybrid", "ada", b"x", at=START, rounds=QUICK)
    assert ring.export(key.keyid) == "".join(public.to_pem() for public in key.public_keys)


def test_a_key_must_be_named_unambiguously(ring):
    ring.add([PrivateKey.new("p256").public_key], "ada", at=START)
    ring.add([PrivateKey.new("p256").public_key], "bob", at=START)
    for keyid in ("", "zz"):
        with pytest.raises(DeclarationError):
            ring.export(keyid)
    with pytest.raises(DeclarationError):
        ring.add([PrivateKey.new("p256").public_key], "", at=START)


def test_a_damaged_listing_is_refused(ring):
    ring.add([PrivateKey.new("p256").public_key], "ada", at=START)
    path = ring.folder / "keys.json"
    form = json.loads(path.read_text())
    form["keys"][0]["trusted"] = True
    path.write_text(json.dumps(form))
    with pytest.raises(TrustError) as caught:
        _ = ring.keys
    assert caught.value.code == Reason.UNKNOWN_FIELD
