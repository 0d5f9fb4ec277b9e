# SPDX-License-Identifier: Apache-2.0
"""What was packed is read back; any change to it is not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.lineage.frames import NO_CHAIN, BrokenFrame, batches, has_frame, packed

Batches = st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=3), max_size=4)


def written(groups: list[list[bytes]]) -> bytes:
    chain, data = NO_CHAIN, b""
    for group in groups:
        block, chain = packed(group, chain)
        data += block
    return data


def payloads(data: bytes) -> list[list[bytes]]:
    return [[frame.payload for frame in batch] for batch in batches(data, 0, NO_CHAIN)]


@given(Batches)
def test_batches_come_back_as_they_were_written(groups):
    assert payloads(written(groups)) == groups


@settings(max_examples=40)
@given(Batches.filter(bool))
def test_a_cut_anywhere_leaves_whole_batches_only(groups):
    data = written(groups)
    ends = [len(written(groups[:n])) for n in range(len(groups) + 1)]
    for cut in range(len(data)):
        read: list[list[bytes]] = []
        with contextlib.nullcontext() if cut in ends else pytest.raises(BrokenFrame):
            read.extend([f.payload for f in batch] for batch in batches(data[:cut], 0, NO_CHAIN))
        assert read == groups[: sum(end <= cut for end in ends) - 1]


@settings(max_examples=25)
@given(Batches.filter(bool), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(groups, bit):
    data = written(groups)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        with pytest.raises(BrokenFrame):
            payloads(bytes(damaged))


def test_a_missing_batch_breaks_the_chain():
    first, chain = packed([b"first"], NO_CHAIN)
    second, chain = packed([b"second"], chain)
    third, _ = packed([b"third"], chain)
    with pytest.raises(BrokenFrame, match="a record before it is missing"):
        payloads(first + third)
    with pytest.raises(BrokenFrame, match="chain"):
        payloads(second)


def test_sound_frames_behind_damage_are_seen():
    first, chain = packed([b"first"], NO_CHAIN)
    second, _ = packed([b"second"], chain)
    assert has_frame(b"\x00" + first[1:] + second, 1)
    assert not has_frame(first + second[:-1], 1)
