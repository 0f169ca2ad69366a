"""Every peer for a few steps on tiny workloads: `make peers-smoke`.

It proves that the environment works and that records are whole. Its numbers mean nothing.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.contender import run_contender
from benchmarks.peers.field import PEERS
from benchmarks.workloads.prepare import prepare
from noria.errors import TrainingError

_SETTINGS = {"threads": 1, "steps": 6, "num_warmup_steps": 2, "evaluate_every_steps": 3}


def main() -> None:
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        for work, peers in PEERS.items():
            workload = prepare(work, Path(directory) / work, tiny=True)
            for peer in peers:
                try:
                    record = run_contender(
                        peer.given(**_SETTINGS), workload.directory, python=Path(sys.executable), timeout_s=600
                    )
                except TrainingError as error:
                    failed += 1
                    print(f"{work}: {peer.name}: FAILED\n{error}")
                    continue
                assert record.steps == 4
                assert record.real_tokens > 0
                assert all(math.isfinite(loss) for _, loss in record.curve)
                assert len(record.curve) == 2
                losses = " -> ".join(f"{loss:.3f}" for _, loss in record.curve)
                print(f"{work}: {peer.name}: {record.parameters:,} parameters, loss {losses}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
