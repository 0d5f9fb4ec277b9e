# SPDX-License-Identifier: Apache-2.0
"""Every way to store images gives the same pixels."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import SchemaMismatch
from datapipe.features.images import image_shape, pixel_matrix

PIXELS = np.arange(24, dtype=np.uint8).reshape(6, 4)


def _stored():
    rows = PIXELS.tolist()
    fixed = pa.array(rows, pa.list_(pa.float32(), 4))
    wide = {f"p{i}": PIXELS[:, i] for i in range(4)}
    nested = pl.DataFrame({"x": pl.Series(PIXELS.reshape(6, 2, 2).astype(np.float32))})
    return {
        "fixed": (pa.table({"x": fixed}), "x"),
        "variable": (pa.table({"x": pa.array(rows, pa.list_(pa.int64()))}), "x"),
        "bytes": (pa.table({"x": pa.array([r.tobytes() for r in PIXELS], pa.binary())}), "x"),
        "columns": (pa.table(wide), "p*"),
        "nested": (nested, "x"),
    }


@pytest.mark.parametrize("way", list(_stored()))
def test_every_way_of_storing_gives_the_same_matrix(way):
    table, column = _stored()[way]
    found = pixel_matrix(Dataset.of(table, Roles.of(image=column)))
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values, PIXELS)
    assert found.shape == (2, 2, 1)
    assert not found.missing.any()


@pytest.mark.parametrize(
    "rows", [PIXELS.astype(np.float32), PIXELS / 255, -8.0 + PIXELS / 4, PIXELS.astype(np.int16)]
)
def test_even_tones_are_kept_as_bytes_to_the_letter(rows):
    found = pixel_matrix(Dataset.of(pl.DataFrame({"x": rows}), Roles.of(image="x")))
    assert found.stored.dtype == np.uint8
    assert np.array_equal(found.values, rows.astype(np.float32))


@pytest.mark.parametrize("odd", [300.0, 0.5, -1.0, np.pi])
def test_pixels_of_other_tones_anywhere_are_kept_as_they_are(odd):
    rows = np.tile(np.arange(256, dtype=np.float32), (3000, 1))  # of several blocks
    rows[-1, -1] = odd
    found = pixel_matrix(Dataset.of(pl.DataFrame({"x": rows}), Roles.of(image="x")))
    assert found.stored.dtype == np.float32
    assert found.values[-1, -1] == np.float32(odd)
    assert np.array_equal(found.values, rows)


def test_a_tone_first_met_late_is_kept_to_the_letter():
    rows = np.tile(np.arange(64, dtype=np.float32), (12_000, 1))  # of several blocks
    rows[-1, 0] = 77.0
    found = pixel_matrix(Dataset.of(pl.DataFrame({"x": rows}), Roles.of(image="x")))
    assert found.stored.dtype == np.uint8
    assert np.array_equal(found.values, rows)


def test_a_missing_image_and_a_missing_pixel_take_the_column_mean():
    table = pa.table({"x": [[1.0, 2.0], [3.0, float("nan")], None, [5.0, 6.0]]})
    found = pixel_matrix(Dataset.of(table, Roles.of(image="x")))
    assert found.missing.tolist() == [[False, False], [False, True], [True, True], [False, False]]
    assert found.values[2].tolist() == [3.0, 4.0]


def test_images_of_different_sizes_are_refused_with_their_sizes():
    table = pa.table({"x": [[1.0, 2.0], [3.0]]})
    with pytest.raises(SchemaMismatch, match="2 sizes"):
        pixel_matrix(Dataset.of(table, Roles.of(image="x")))


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"])
def test_files_of_pictures_are_no_pixels_even_where_all_are_of_one_size(start):
    frame = pl.DataFrame({"image": [start + bytes(20), None, start + bytes(20)]})
    data = Dataset.of(frame, Roles.of(image="image"))
    with pytest.raises(SchemaMismatch, match="files, which are not decoded"):
        pixel_matrix(data)


def test_a_text_column_holds_no_pixels():
    with pytest.raises(SchemaMismatch, match="holds no pixels"):
        pixel_matrix(Dataset.of(pa.table({"x": ["a"]}), Roles.of(image="x")))


def test_no_rows_give_an_empty_matrix():
    table = pa.table({"x": pa.array([], pa.list_(pa.float32(), 4))})
    assert pixel_matrix(Dataset.of(table, Roles.of(image="x"))).values.shape[0] == 0


def test_shapes_multiply_to_the_number_of_pixels():
    assert all(np.prod(image_shape(d)) == d for d in range(400))
