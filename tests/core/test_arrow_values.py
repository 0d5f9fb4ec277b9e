# SPDX-License-Identifier: Apache-2.0
"""Text checked as a whole is refused and let pass exactly where pyarrow's own check does so."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from datapipe.core.arrow_values import validate_values

WORDS = ("", "plain", "ångström", "日本", "🙂", "a" * 40, None)
KINDS = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()))


def refused(check):
    try:
        check()
    except pa.ArrowInvalid:
        return True
    return False


def rebuilt(array, which, raw, offset):
    """The same array with one buffer exchanged, from an offset on."""
    buffers = array.buffers()
    buffers[which] = pa.py_buffer(raw)
    return pa.Array.from_buffers(array.type, len(array) - offset, buffers, offset=offset)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("words", [WORDS, WORDS[:2] + WORDS[5:]])
def test_both_checks_agree_on_damaged_offsets_and_damaged_text(kind, words):
    rng = random.Random(f"{kind} {len(words)}")
    bad = 0
    for _ in range(1000):
        array = pa.array([rng.choice(words) for _ in range(rng.randint(1, 12))], kind)
        which = rng.choice([1, 2])
        if array.buffers()[which] is None or not array.buffers()[which].size:
            continue
        raw = bytearray(array.buffers()[which].to_pybytes())
        for _ in range(rng.randint(0, 2)):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8 if which == 2 else 4)
        try:
            hit = rebuilt(array, which, bytes(raw), rng.randrange(len(array)))
        except pa.ArrowInvalid:  # pyarrow itself looks at the first and the last offset
            continue
        batch = pa.record_batch([hit], names=["a"])
        theirs = refused(lambda batch=batch: batch.validate(full=True))
        assert refused(lambda batch=batch: validate_values(batch)) == theirs, (raw, hit.offset)
        bad += theirs
    assert 100 < bad < 800


@pytest.mark.parametrize("kind", KINDS)
def test_whole_text_of_every_kind_passes(kind):
    batch = pa.record_batch({"a": pa.array(WORDS, pa.string()).cast(kind), "b": range(len(WORDS))})
    validate_values(batch)
    validate_values(batch.slice(2, 3))
    validate_values(batch.slice(0, 0))


def test_an_offset_in_the_middle_of_a_character_is_refused():
    array = pa.Array.from_buffers(
        pa.string(),
        2,
        [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer("å".encode())],
    )
    with pytest.raises(pa.ArrowInvalid, match="UTF"):
        validate_values(pa.record_batch([array], names=["a"]))


def test_bytes_that_no_text_holds_may_be_anything():
    """Under a null there may be rubbish, as far as the format goes."""
    buffers = [
        pa.py_buffer(b"\x01"),
        pa.array([0, 1, 2], pa.int32()).buffers()[1],
        pa.py_buffer(b"a\xff"),
    ]
    batch = pa.record_batch([pa.Array.from_buffers(pa.string(), 2, buffers)], names=["a"])
    batch.validate(full=True)
    validate_values(batch)
