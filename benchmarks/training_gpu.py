"""Training on one GPU, ours against its peers; it runs on a bare GPU host, from a plain copy of this repository.

    python -m benchmarks.training_gpu [--wheels DIR] [--workloads DIR] [--minutes 25] [STAGE ...]
    python -m benchmarks.training_gpu --tiny        (no GPU: everything once, small, to see that it runs)

It uses the Python that runs it, and needs of its packages torch, numpy, pyarrow, pyyaml, safetensors and
tokenizers; with transformers and accelerate the Trainer takes part. `--wheels` brings pydantic, which
bare hosts lack: a directory of wheels, of which pydantic_core is compiled and so must be of this Python's
version. Nothing is installed: they are unzipped for this run. What is measured is said in
benchmarks/gpu/stages.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.host import REPOSITORY, put_on_path

_STAGES = ("decoder", "decoder-loss", "encoder-decoder")


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        put_on_path(args.wheels, scratch / "wheels")
        from benchmarks.gpu.stages import measure  # needs what has just been put on the path
        from noria.errors import NoriaError

        try:
            path = measure(
                args.stages or _STAGES,
                workloads=args.workloads or scratch / "workloads",
                output=args.output or (scratch_results() if args.tiny else REPOSITORY / "benchmarks" / "results"),
                seconds=60 * args.minutes,
                rows=args.rows,
                tiny=args.tiny,
            )
        except NoriaError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
        print(path)


def scratch_results() -> Path:
    """A directory that stays, for results that prove nothing."""
    return Path(tempfile.mkdtemp(prefix="noria-training-gpu-"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"{' | '.join(_STAGES)}; all unless said")
    parser.add_argument("--wheels", type=Path, help="directory of wheels that this Python lacks")
    parser.add_argument("--workloads", type=Path, help="where workloads are kept; a translation one is only found here")
    parser.add_argument("--output", type=Path, help="directory of training_gpu.json (default: benchmarks/results)")
    parser.add_argument("--minutes", type=float, default=25.0, help="repeats are dropped that would take longer")
    parser.add_argument("--rows", type=int, default=0, help="blocks of 1,024 a step (default: by the memory)")
    parser.add_argument("--tiny", action="store_true", help="small models, also on a CPU; results prove nothing")
    args = parser.parse_args()
    if unknown := sorted(set(args.stages) - set(_STAGES)):
        parser.error(f"unknown stage: {', '.join(unknown)}")
    return args


if __name__ == "__main__":
    main()
