# SPDX-License-Identifier: Apache-2.0
"""Reading only the integers of a struct, or setting one, agrees with reading and writing it all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.thrift import (
    BINARY,
    DOUBLE,
    FALSE,
    I32,
    I64,
    LIST,
    NUMBERS,
    STRUCT,
    TRUE,
    Compact,
    Damaged,
    Items,
    Struct,
    numbers,
    with_number,
    written,
)

WHOLE = st.integers(-(2**62), 2**62)


def fields(inner):
    """Fields of a struct whose values are of the kinds that Parquet uses."""
    value = st.one_of(
        st.tuples(st.sampled_from(NUMBERS), WHOLE),
        st.booleans().map(lambda b: (TRUE if b else FALSE, b)),
        st.tuples(st.just(BINARY), st.binary(max_size=200)),
        st.tuples(st.just(DOUBLE), st.binary(min_size=8, max_size=8)),
        st.lists(WHOLE, max_size=20).map(lambda items: (LIST, Items(I64, items))),
        inner.map(lambda made: (STRUCT, made)),
        st.lists(inner, max_size=3).map(lambda items: (LIST, Items(STRUCT, items))),
    )
    return st.dictionaries(st.integers(1, 40), value, max_size=6).map(Struct.of)


structs = st.recursive(st.just(Struct()), fields, max_leaves=6)


@given(structs, st.binary(max_size=5))
def test_only_the_integers_are_read_and_the_end_is_found(struct, behind):
    raw = written(struct)
    told, at = numbers(raw + behind)
    assert told == {n: v for n, v in struct.items() if struct.types[n] in NUMBERS}
    assert at == len(raw)
    assert Compact(raw).struct() == struct


@given(structs, st.integers(1, 15), st.integers(-(2**31), 2**31 - 1))
def test_a_field_is_set_as_if_all_had_been_read_and_written(struct, number, value):
    raw = written(struct)
    struct.put(number, I32, value)
    assert with_number(raw, number, value) == written(struct)


@given(structs, st.data())
def test_a_struct_that_is_cut_off_is_never_read_past_its_end(struct, data):
    raw = written(struct)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for read in (numbers, lambda raw: Compact(raw).struct()):
        with pytest.raises((Damaged, IndexError)):
            read(cut)


@given(st.lists(structs, max_size=3))
def test_the_bytes_of_structs_may_stand_for_them(parts):
    whole = Struct.of({1: (LIST, Items(STRUCT, list(parts)))})
    told = Struct.of({1: (LIST, Items(STRUCT, [written(part) for part in parts]))})
    assert written(told) == written(whole)
