"""The same eleven empty steps, each with a result that is kept, by Noria, Metaflow and ZenML.

    python -m benchmarks.eleven_steps [--peers-python DIR/bin/python]

`make orchestrators` makes the environment of the peers. A run is measured from the command to its end. Noria runs
against a Prefect server that is up, as teams have it, and with one of its own; a step is a process of its own in
Noria and in Metaflow, and not on ZenML's default stack. When nothing changed, Noria and ZenML take what they keep;
Metaflow keeps nothing between runs, and `resume` is what it has: it takes over the steps of the run before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.orchestrators.noria_flow import write_workspace
from benchmarks.results import Row, write_results

_CODE = Path(__file__).parents[1]
_PEERS_PYTHON = _CODE / ".venv-orchestrators" / "bin" / "python"
_REPEATS = 7
_START_S = 120.0
_OURS, _EMBEDDED, _METAFLOW, _ZENML = "Noria", "Noria, a server of its own", "Metaflow", "ZenML"


@dataclass(frozen=True)
class Contender:
    """One orchestrator: what runs all steps, what runs when nothing changed, and what to forget before the first."""

    name: str
    first: tuple[str, ...]
    again: tuple[str, ...]
    directory: Path
    forget: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def seconds(self) -> tuple[float, float]:
        """Of a run of all steps, and of one after which nothing changed."""
        for name in self.forget:
            path = self.directory / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return self._seconds(self.first), self._seconds(self.again)

    def _seconds(self, command: tuple[str, ...]) -> float:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment = {**inherited, "PYTHONPATH": str(_CODE), **self.environment}
        start_s = time.perf_counter()
        done = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return time.perf_counter() - start_s


def contenders(scratch: Path, *, peers_python: Path, api_url: str) -> list[Contender]:
    """All of them, each in a directory of its own."""
    found = []
    for name, environment in ((_OURS, {"PREFECT_API_URL": api_url}), (_EMBEDDED, {})):
        root = scratch / name.replace(" ", "-")
        write_workspace(root)
        command = (sys.executable, "-m", "benchmarks.orchestrators.noria_flow", str(root))
        found.append(Contender(name, command, command, root, ("data", "dvc.lock", ".dvc/cache"), environment))
    for name, module, first, again, environment in (
        (_METAFLOW, "metaflow_flow", ("run",), ("resume", "start"), {"METAFLOW_USER": "noria", "USER": "noria"}),
        (
            _ZENML,
            "zenml_pipeline",
            (),
            ("--cache",),
            {
                "ZENML_ANALYTICS_OPT_IN": "false",
                "ZENML_CONFIG_PATH": str(scratch / "zenml"),
                "AUTO_OPEN_DASHBOARD": "0",
            },
        ),
    ):
        command = (str(peers_python), "-m", f"benchmarks.orchestrators.{module}")
        root = scratch / name
        root.mkdir()
        found.append(Contender(name, (*command, *first), (*command, *again), root, environment=environment))
    return found


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A Prefect server as a team has it up; gives the URL of its API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **quiet) as server:
        try:
            _wait_for(f"{url}/health")
            yield url
        finally:
            server.terminate()


def _wait_for(url: str) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(url)


def rows_of(first: Mapping[str, float], again: Mapping[str, float], *, repeats: int) -> list[Row]:
    """Medians in seconds, by contender."""
    rows = []
    for claim, seconds in (("eleven empty steps", first), ("the same, nothing changed", again)):
        for peer in (_METAFLOW, _ZENML):
            bar = 1.0 if seconds is again or peer == _METAFLOW else None
            ours, theirs = round(seconds[_OURS], 2), round(seconds[peer], 2)
            rows.append(Row(claim, "s", ours, peer, theirs, bar, higher_is_better=False, repeats=repeats))
        alone = round(seconds[_EMBEDDED], 2)
        rows.append(Row(f"{claim}, a Prefect server for the run", "s", alone, higher_is_better=False, repeats=repeats))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, default=_PEERS_PYTHON)
    parser.add_argument("--repeats", type=int, default=_REPEATS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, prefect_server(Path(directory) / "prefect") as api_url:
        found = contenders(Path(directory), peers_python=args.peers_python, api_url=api_url)
        for contender in found:
            contender.seconds()  # databases are made, modules compiled
        taken = [{contender.name: contender.seconds() for contender in found} for _ in range(args.repeats)]
    first, again = (
        {name: statistics.median(turn[name][which] for turn in taken) for name in taken[0]} for which in (0, 1)
    )
    rows = rows_of(first, again, repeats=args.repeats)
    for row in rows:
        against = f"  {row.peer}: {row.theirs} s (ratio {row.ratio})" if row.peer else ""
        print(f"{row.claim:<60} {row.ours:>6} {row.unit}{against}")
    print(write_results("eleven_steps", rows, packages=("prefect", "dvc")))


if __name__ == "__main__":
    main()
