"""`python -m benchmarks.workloads WORK DIR [--tiny]`: write a workload and print what is in it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.workloads.prepare import WORKS, prepare
from noria.errors import NoriaError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a few hundred rows, for tests")
    args = parser.parse_args()
    try:
        workload = prepare(args.work, args.directory, tiny=args.tiny)
    except NoriaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print((workload.directory / "workload.json").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
