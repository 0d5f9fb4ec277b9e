# SPDX-License-Identifier: Apache-2.0
"""`import datapipe` and `datapipe --help` load nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import duckdb
import polars as pl
import pytest

from datapipe.lineage.store import Lineage

HEAVY = {
    "_duckdb", "cryptography", "duckdb", "flwr", "great_expectations", "numpy", "onnx",
    "onnxruntime", "opacus", "pandas", "polars", "pyarrow", "ray", "scipy", "sklearn", "tenseal",
    "torch", "torchao",
}  # fmt: skip
SAY = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"


def loaded(code: str, *arguments: str, ends: str = "") -> set[str]:
    """The modules loaded in a fresh interpreter after some code."""
    command = [sys.executable, "-c", f"{code}\n{SAY}\n{ends}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


HELP = """
import sys
sys.argv = ["datapipe", "--help"]
from datapipe.cli.app import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("code", ["import datapipe", "import datapipe.stages", HELP])
def test_nothing_heavy_is_loaded(code: str):
    assert not {name.partition(".")[0] for name in loaded(code)} & HEAVY


def test_signing_loads_cryptography_alone():
    """`datapipe sign` lasts about as long as hashing does: Arrow would double it."""
    after = {name.partition(".")[0] for name in loaded("import datapipe.manifest.bundle")}
    assert after & HEAVY <= {"cryptography"}


RUN = """
import sys
import pyarrow as pa
from datapipe import Dataset, Pipeline, RowStage
run = Pipeline("p", [RowStage()]).run(Dataset.of(pa.table({"a": [1]})), seed=7, store=sys.argv[1])
"""


def test_a_run_loads_no_duckdb_and_leaves_the_index_to_the_end_of_the_program(tmp_path):
    after = loaded(RUN, str(tmp_path / "s"))
    assert not after & {"_duckdb", "duckdb", "pyarrow.parquet", "threadpoolctl"}
    with duckdb.connect(tmp_path / "s" / "lineage.duckdb", read_only=True) as foreign:
        assert foreign.sql("select state from run_status").fetchall() == [("finished",)]


READ = """
import sys
from datapipe import Pipeline
from datapipe.stages import ReadParquet
Pipeline("p", [ReadParquet(sys.argv[1], text="t")]).run(seed=7, store=sys.argv[2])
"""


def test_reading_a_small_file_does_without_arrows_functions_in_python(tmp_path):
    """`pyarrow.compute` writes 286 docstrings on its way in: a tenth of all a small run takes."""
    pl.DataFrame({"t": ["x", "y", "x"]}).write_parquet(tmp_path / "a.parquet", statistics=False)
    after = loaded(READ, str(tmp_path / "a.parquet"), str(tmp_path / "s"))
    assert "pyarrow.parquet" in after
    assert "pyarrow.compute" not in after


INDEXED = f"{RUN}assert run.lineage.index()"
WHY = f"{INDEXED}\nassert run.lineage.why('1:0')['source']"


@pytest.mark.parametrize("code", [INDEXED, WHY])
def test_the_index_and_our_own_questions_need_duckdbs_engine_alone(code: str, tmp_path):
    """Its relations and expressions in Python take three times as long to load as itself."""
    after = loaded(code, str(tmp_path / "s"))
    assert "_duckdb" in after
    assert "duckdb" not in after


def test_a_program_that_is_killed_leaves_it_to_who_asks(tmp_path):
    after = loaded(RUN, str(tmp_path / "s"), ends="import os; os._exit(0)")
    assert "polars" in after
    assert not (tmp_path / "s" / "lineage.duckdb").exists()
    assert Lineage(tmp_path / "s").sql("select state from run_status").item() == "finished"


def test_the_import_is_small():
    assert len(loaded("import datapipe")) <= 80


def test_a_name_loads_only_its_own_module():
    after = loaded("from datapipe import Estimate")
    assert "datapipe.core.estimate" in after
    assert not {name.partition(".")[0] for name in after} & HEAVY


def test_every_promised_name_is_there():
    code = "import datapipe\nmissing = [n for n in datapipe.__all__ if not hasattr(datapipe, n)]"
    subprocess.run([sys.executable, "-c", f"{code}\nassert not missing, missing"], check=True)
