# SPDX-License-Identifier: Apache-2.0
"""A sealed copy that cannot be written says so, and leaves nothing open."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import polars as pl
import pytest

from datapipe.core.seal import sealed_copy

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no device here that is always full")
def test_a_full_disk_in_the_middle_of_a_page_is_told_as_such(tmp_path):
    pl.DataFrame({"a": random.Random(0).randbytes(100_000)}).write_parquet(tmp_path / "a")
    with pytest.raises(OSError, match="No space left") as told:
        sealed_copy(tmp_path / "a", FULL)
    assert told.value.errno == errno.ENOSPC
