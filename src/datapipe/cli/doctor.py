# SPDX-License-Identifier: Apache-2.0
"""`datapipe doctor`: versions, optional packages and the state of the store.

Nothing heavy is imported: what is installed is read from package metadata.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from datapipe import __version__
from datapipe.cli.layout import sheet
from datapipe.cli.options import STORE, Json, Store
from datapipe.cli.terminal import out, out_json
from datapipe.errors import DatapipeError
from datapipe.stages import CATALOGUE, EXTRAS

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_CORE = ("polars", "pyarrow", "duckdb", "cryptography", "numpy", "typer", "rich")
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "great_expectations": "great-expectations"}


@app.command()
def _doctor(*, as_json: Json = False, store: Store = STORE) -> None:
    answer = {
        "datapipe": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "executable": sys.executable,
        "core": {name: _version(name) for name in _CORE},
        "extras": [_extra(name) for name in dict.fromkeys(EXTRAS.values())],
        "stages": len(CATALOGUE),
        "plugins": _plugins(),
        "store": _store(store),
    }
    if as_json:
        out_json(answer)
    else:
        out(sheet(answer))
    store_state: Any = answer["store"]
    if store_state["state"] == "damaged":
        raise typer.Exit(4)


def _version(package: str) -> str:
    try:
        return version(_DISTRIBUTIONS.get(package, package))
    except PackageNotFoundError:
        return "missing"


def _extra(name: str) -> dict[str, Any]:
    packages = [p for p, extra in EXTRAS.items() if extra == name]
    absent = [p for p in packages if find_spec(p) is None]
    return {
        "extra": name,
        "state": "missing" if absent else "installed",
        "packages": ", ".join(f"{p} {_version(p)}" for p in packages),
        "install": f"pip install 'datapipe[{name}]'" if absent else "",
    }


def _plugins() -> list[str]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - scans every distribution

    return sorted(e.name for e in entry_points(group="datapipe.stages"))


def _store(store: Path) -> dict[str, Any]:
    """Whether there is a store, and whether it answers."""
    if not (store / "journal").is_dir():
        return {"path": str(store), "state": "none yet"}
    from datapipe.lineage.store import Lineage  # noqa: PLC0415 - loads duckdb and polars

    try:
        counts = Lineage(store).sql(
            "select count(*) as runs, (select count(*) from log_entries) as records from runs"
        )
    except DatapipeError as error:
        return {"path": str(store), "state": "damaged", "says": str(error).splitlines()[0]}
    size = sum(p.stat().st_size for p in store.rglob("*") if p.is_file())
    return {"path": str(store), "state": "fine", **counts.row(0, named=True), "bytes": size}
