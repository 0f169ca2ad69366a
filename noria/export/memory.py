"""`python -m noria.export.memory GRAPH BATCH.npz DEVICE`: what memory a process takes that loads a graph and runs it.

Prints one JSON object with the peak in bytes, for one batch. The process is as small as one that serves can be: what is
beside the graph in it is Python, NumPy and ONNX Runtime.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from noria.errors import ExportError, NoriaError
from noria.serving.session import Device, open_session

_TIMEOUT_S = 300
_STATUS = Path("/proc/self/status")
_KIBIBYTE = 1 << 10


def peak_bytes(graph: Path, batch: Mapping[str, np.ndarray], *, device: Device = "cpu") -> int:
    """The most that a process of its own had in memory at once; memory of a GPU is not counted.

    Raises
    ------
    ExportError
        When the graph does not run there.
    """
    with tempfile.TemporaryDirectory(prefix="noria-memory-") as directory:
        inputs = Path(directory) / "batch.npz"
        np.savez(inputs, allow_pickle=False, **batch)
        command = [sys.executable, "-m", __name__, str(graph), str(inputs), device]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or "").strip() if isinstance(error, subprocess.CalledProcessError) else ""
            last = said.splitlines()[-1] if said else str(error)
            raise ExportError(
                f"does not run in a process of its own: {last}",
                where=str(graph),
                next_step="leave it out of `optimize.candidates`",
            ) from error
    return int(json.loads(done.stdout)["peak_bytes"])


def main(graph: Path, inputs: Path, device: Device) -> int:
    """Load, run, tell."""
    try:
        session = open_session(graph, device=device)
    except NoriaError as error:
        sys.stderr.write(f"{error.what}\n")
        return error.exit_code
    with np.load(inputs, allow_pickle=False) as batch:
        session.run(None, {put.name: batch[put.name] for put in session.get_inputs()})
    sys.stdout.write(json.dumps({"peak_bytes": _peak_bytes()}) + "\n")
    return 0


def _peak_bytes() -> int:
    """Of this process alone: what `getrusage` says begins with the peak of the process that started it."""
    if _STATUS.exists():
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * _KIBIBYTE
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIBIBYTE


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), cast("Device", sys.argv[3])))
