# SPDX-License-Identifier: Apache-2.0
"""What every test may ask for: a context, real data, goldens; and no way out to the network."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from datapipe.core.context import Context
from datapipe.lineage import later

ROOT = Path(__file__).resolve().parents[1]
MOTO = ROOT / ".venv-peers" / "s3" / "bin" / "moto_server"

gc.disable()  # until all is collected: loading makes no garbage, and much to look through

settings.register_profile(
    "house",
    deadline=None,  # a busy machine is no failure
    derandomize=True,  # the same examples on every run
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens", action="store_true", help="write the golden files instead of comparing"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long measurements run when they are asked for, with `-m power`."""
    if "power" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("power"):
            item.add_marker(pytest.mark.skip(reason="all seeds take minutes: `make power`"))


def pytest_collection_finish() -> None:
    """What was loaded stays: nobody need look through it for garbage again."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """At the end all is garbage: DuckDB lists what nobody collects."""
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test draws does not hang on which tests the same worker ran before it."""
    if torch := sys.modules.get("torch"):  # a fresh process draws the same each time
        torch.manual_seed(0)


def pytest_runtest_teardown() -> None:
    """Nobody will ask the stores that thousands of tests leave behind."""
    later.done()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many faults hit what, told by the tests that count; `FAULTS_KEEP=folder` keeps it."""
    for kind in ("kills", "failures"):
        hit = Counter[str]()
        for reports in terminalreporter.stats.values():
            for report in reports:
                for name, counts in getattr(report, "user_properties", ()):
                    hit.update(counts if name == kind and report.when == "call" else ())
        if hit:
            _tell(terminalreporter, kind, hit)


def _tell(terminalreporter: pytest.TerminalReporter, kind: str, hit: Counter[str]) -> None:
    terminalreporter.section(f"{hit.total()} {kind}")
    if kept := os.environ.get("FAULTS_KEEP"):
        named = {where.replace(" /", " "): n for where, n in sorted(hit.items())}
        told = {kind: hit.total(), "hit": named}
        (Path(kept) / f"{kind}.json").write_text(json.dumps(told, indent=1) + "\n")
    scenes = Counter[str]()
    steps: dict[str, Counter[str]] = {}
    for where, n in hit.items():
        scene, job, step = where.split(": ")
        scenes[f"{scene}: {job}"] += n
        call, _, way = step.rpartition(", ")
        steps.setdefault(call, Counter())[way] += n
    for what, n in sorted(scenes.items()):
        terminalreporter.write_line(f"{n:5} {what}")
    for call, ways in sorted(steps.items()):
        of = ", ".join(f"{n} {way}" for way, n in sorted(ways.items()))
        terminalreporter.write_line(f"{ways.total():5} {call}: {of}")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A step's context with a fixed seed and a scratch folder of its own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Context(seed=7, scratch=scratch)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """A file or folder of the real data sets; the test is skipped where they are not at hand."""
    place = Path(os.environ.get("DATAPIPE_TEST_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = place / name
        if not path.exists():
            pytest.skip(f"no real data {name!r}; set DATAPIPE_TEST_DATA to their folder")
        return path

    return find


class TwoNodes:
    """A Ray cluster on this machine: a head that takes no tasks, and two nodes of one CPU that do.

    It is two nodes as far as Ray can tell: each has a store and workers of its own.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 150_000_000}
        head = {"num_cpus": 0, "include_dashboard": False, **small}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self._cluster.add_node(num_cpus=1, **small) for _ in range(2)]
        self.address = str(self._cluster.address)

    @staticmethod
    def at_work(node: Any) -> list[int]:
        """Process ids of the workers of a node that have a shard at this moment."""
        raylet = node.all_processes["raylet"][0].process.pid
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(status.read_text().rpartition(")")[2].split()[1])
                if parent == raylet and b"ray::shard" in (status.parent / "cmdline").read_bytes():
                    found.append(int(status.parent.name))
        return found

    def lose(self, node: Any) -> None:
        """End a node with all that it was doing."""
        self._cluster.remove_node(node, allow_graceful=False)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """A cluster of two nodes; a test that wants to be a driver on it joins it by its address."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = TwoNodes()
    yield made
    made.stop()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare a text with a golden file, or write it with --update-goldens."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-goldens"):
            path.write_text(text)
        assert path.exists(), f"{path.name} is missing; --update-goldens writes it"
        assert text.splitlines() == path.read_text().splitlines(), (
            f"{path.name} differs; if the change is meant, run with --update-goldens"
        )

    return compare


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches out of this machine fails; local sockets stay (Ray, Flower)."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and not str(host).startswith(("127.", "::1", "localhost", "0.0.0.0")):
            own = {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None)}
            if str(host) not in own:
                raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """The port of an S3 that holds one bucket, `shelf`; skipped where `make peers` was not run."""
    if not MOTO.exists():
        pytest.skip(f"{MOTO} is not there: run `make peers`")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [MOTO, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5)
            break
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < end
            time.sleep(0.1)
    make = urllib.request.Request(f"http://127.0.0.1:{port}/shelf", method="PUT")
    urllib.request.urlopen(make, timeout=30)
    yield port
    server.terminate()
    server.wait(30)
