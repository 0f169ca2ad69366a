"""Run contenders, each in a process of its own, one after another and in turn.

In turn (A B C A B C ...) and not one by one (A A B B ...): what else the machine does then falls on all
of them alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.settings import Record
from noria.errors import TrainingError

REPOSITORY = Path(__file__).parent.parent.parent
PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"
_LAST_LINES = 30
# No library phones home or asks a hub; a progress bar would be counted against its library.
_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


@dataclass(frozen=True)
class Contender:
    """Who trains, and how.

    Attributes
    ----------
    name:
        In tables; unique.
    module:
        Runs as `python -m MODULE WORKLOAD_DIR --settings JSON`.
    settings:
        What differs from the defaults of `Settings`.
    note:
        What a reader of the row must know.
    """

    name: str
    module: str
    settings: Mapping[str, object] = field(default_factory=dict)
    note: str = ""

    def given(self, **changes: object) -> Contender:
        """The same contender with some settings changed."""
        return Contender(self.name, self.module, {**self.settings, **changes}, self.note)


@dataclass(frozen=True)
class Measured:
    """All records of one contender; the first is of the first turn."""

    contender: Contender
    records: tuple[Record, ...]

    @property
    def real_tokens_per_s(self) -> float:
        """Median over the turns."""
        return statistics.median(record.real_tokens_per_s for record in self.records)

    @property
    def target_tokens_per_s(self) -> float:
        """Median over the turns."""
        return statistics.median(record.target_tokens_per_s for record in self.records)

    def seconds_to_loss(self, loss: float) -> float | None:
        """Median training seconds to the first validation loss of at most `loss`; None if most turns miss it."""
        found = [next((s for s, value in record.curve if value <= loss), float("inf")) for record in self.records]
        median = statistics.median(found)
        return None if median == float("inf") else median

    @property
    def final_loss(self) -> float | None:
        """Median of the last validation losses; None without a curve."""
        losses = [record.curve[-1][1] for record in self.records if record.curve]
        return statistics.median(losses) if losses else None


def run_contender(contender: Contender, workload: Path, *, python: Path = PYTHON, timeout_s: float = 3_600) -> Record:
    """Train once in a new process and read the record from its last line.

    Raises
    ------
    TrainingError
        When the process fails, takes too long, or prints no record; with the end of its standard error.
    """
    if not python.exists():
        raise TrainingError(
            "the environment of the peers is not there", where=str(python), next_step="run `make peers`"
        )
    command = [str(python), "-m", contender.module, str(workload.resolve())]
    command += ["--settings", json.dumps(dict(contender.settings))]
    threads = str(contender.settings.get("threads", 2))
    environment = {**os.environ, **_QUIET, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise TrainingError(f"{contender.name} took more than {timeout_s:.0f} s", where=" ".join(command)) from None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines or not lines[-1].startswith("{"):
        end = "\n".join([*done.stderr.splitlines()[-_LAST_LINES:]])
        raise TrainingError(
            f"{contender.name} ended with {done.returncode} and no record:\n{end}", where=" ".join(command)
        )
    return Record.from_json(lines[-1])


def run_in_turn(
    contenders: Sequence[Contender],
    workload: Path,
    *,
    repeats: int,
    python: Path = PYTHON,
    timeout_s: float = 3_600,
    on_record: Callable[[Contender, Record], None] = lambda contender, record: None,
) -> dict[str, Measured]:
    """Every contender once, then all again, `repeats` times; by name. `on_record` hears of each training."""
    records: dict[str, list[Record]] = {contender.name: [] for contender in contenders}
    for _ in range(repeats):
        for contender in contenders:
            record = run_contender(contender, workload, python=python, timeout_s=timeout_s)
            records[contender.name].append(record)
            on_record(contender, record)
    return {contender.name: Measured(contender, tuple(records[contender.name])) for contender in contenders}
