"""The graphs of trained models on one GPU, against PyTorch on it; it runs on a bare GPU host, from a plain copy.

    python -m benchmarks.inference_gpu [--wheels DIR] WORKSPACE [WORKSPACE ...]

takes the last run of each workspace. It uses the Python that runs it, and needs of its packages torch, numpy, pyarrow,
pyyaml, safetensors, tokenizers, onnx and onnxscript; `--wheels` brings pydantic, onnxruntime-gpu and what else is
missing: they are unzipped for this run. What is measured is said in benchmarks/gpu/graphs.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.host import REPOSITORY, put_on_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", nargs="+", type=Path, metavar="WORKSPACE")
    parser.add_argument("--wheels", type=Path, help="directory of wheels that this Python lacks")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results", metavar="DIR")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to see that it runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        put_on_path(args.wheels, Path(directory) / "wheels")
        from benchmarks.gpu.graphs import measure  # needs what has just been put on the path
        from noria.errors import NoriaError

        try:
            print(measure(args.workspaces, output=args.output, repeats=args.repeats, device=args.device))
        except NoriaError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
