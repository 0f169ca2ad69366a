"""Write the lock files from the `.in` files: `make lock`, or `make lock CPU_WHEELS=DIR` with CPU wheels of torch there.

uv resolves once for every Python from 3.11 on and every platform, with hashes. torch has lock files
of its own, one for each of its builds: cuda.txt with the libraries that it needs, and cpu.txt, which
stands alone and can only be installed where such a build is at hand. bench.txt holds the peers of the
benchmarks: an environment of its own, with the versions of base.txt where both name a package. infra.txt,
what judges the files of infra/, and orchestrators.txt, other peers, agree with nothing else.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALONE = ("infra", "orchestrators")
CUDA = re.compile(r"^(nvidia-(?!ml-py)|cuda-|triton|torch$)")


def resolve(source: Path, *, below: Path | None = None, bare: bool = False) -> dict[str, list[str]]:
    """Lock entries by package name; entries that differ by marker stay apart under one name.

    `bare` leaves out what the packages of `source` depend on.
    """
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", str(source)]
    if below is not None:
        command += ["-c", str(below)]
    if bare:
        command += ["--no-deps"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    entries: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        entries.setdefault(entry.split("==")[0], []).append(entry)
    return entries


def cpu_build(torch: str, wheels: Path) -> str:
    """The entry of torch's CPU build, with the hash of every wheel of it in `wheels`."""
    version = torch.split(" ")[0] + "+cpu"
    files = sorted(wheels.glob(f"{version.replace('==', '-')}-*.whl"))
    return " \\\n    ".join([version, *(f"--hash=sha256:{hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files)])


def write(name: str, source: str, entries: list[str]) -> None:
    header = f"# Written by `make lock` from {source}: edit that, not this.\n"
    (HERE / name).write_text(header + "\n".join(entries) + "\n")


def write_bench() -> None:
    """Lock the peers; an entry of bench_bare.in stands in for whatever bench.in would resolve to."""
    bare = resolve(HERE / "bench_bare.in", below=HERE / "base.txt", bare=True)
    bench = resolve(HERE / "bench.in", below=HERE / "base.txt") | bare
    entries = [entry for name in sorted(bench) if not CUDA.match(name) for entry in bench[name]]
    write("bench.txt", "bench.in and bench_bare.in", entries)


def main() -> None:
    base = resolve(HERE / "base.in")
    write("base.txt", "base.in", [entry for name in base if not CUDA.match(name) for entry in base[name]])
    write("cuda.txt", "base.in", [entry for name in base if CUDA.match(name) for entry in base[name]])
    (torch,) = base["torch"]
    if len(sys.argv) > 1:
        write("cpu.txt", "base.in", [cpu_build(torch, Path(sys.argv[1]))])
    elif torch.split(" ")[0] + "+cpu" not in (HERE / "cpu.txt").read_text():
        sys.exit(f"cpu.txt holds another torch than {torch.split(' ')[0]}: say where its CPU build is, CPU_WHEELS=DIR")
    test = resolve(HERE / "test.in", below=HERE / "base.txt") | resolve(HERE / "test_bare.in", bare=True)
    write("test.txt", "test.in and test_bare.in", [entry for name in test if name not in base for entry in test[name]])
    samples = resolve(HERE / "samples.in", bare=True)
    write("samples.txt", "samples.in", [entry for name in samples for entry in samples[name]])
    for name in ALONE:
        alone = resolve(HERE / f"{name}.in")
        write(f"{name}.txt", f"{name}.in", [entry for package in alone for entry in alone[package]])
    write_bench()


if __name__ == "__main__":
    main()
