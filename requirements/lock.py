"""Write the lock files from the `.in` files: `make lock`.

uv resolves once for every Python from 3.11 on and every platform, with hashes. Two things need a hand:
torch comes as a CPU build where one is at hand and as the CUDA build elsewhere, so its entry carries
the hashes of both; and the CUDA libraries go into a lock file of their own, which only the CUDA build needs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CUDA = re.compile(r"^(nvidia-(?!ml-py)|cuda-|triton)")
HEADER = "# Written by `make lock` from {source}: edit that, not this.\n"


def resolve(source: Path, *, below: Path | None = None) -> dict[str, list[str]]:
    """Lock entries by package name; entries that differ by marker stay apart under one name."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", *sys.argv[1:], str(source)]
    if below is not None:
        command += ["-c", str(below)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    entries: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        entries.setdefault(entry.split("==")[0], []).append(entry)
    return entries


def merge_builds(entries: list[str]) -> str:
    """One entry for all builds of a version, whatever their local suffix (`+cpu`)."""
    name = re.match(r"([^+ ]+)", entries[0])
    assert name is not None
    hashes = sorted({h for entry in entries for h in re.findall(r"--hash=\S+", entry)})
    return " \\\n    ".join([name.group(1), *hashes])


def write(path: Path, source: str, entries: list[str]) -> None:
    path.write_text(HEADER.format(source=source) + "\n".join(entries) + "\n")


def main() -> None:
    base = resolve(HERE / "base.in")
    base["torch"] = [merge_builds(base["torch"])]
    cuda = [entry for name in base if CUDA.match(name) for entry in base[name]]
    write(HERE / "cuda.txt", "base.in (the CUDA build of torch)", cuda)
    write(HERE / "base.txt", "base.in", [e for name in base if not CUDA.match(name) for e in base[name]])
    test = resolve(HERE / "test.in", below=HERE / "base.txt")
    write(HERE / "test.txt", "test.in", [e for name in test if name not in base for e in test[name]])


if __name__ == "__main__":
    main()
