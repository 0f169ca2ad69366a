"""Near duplicates: our vectorized MinHash against rensa (Rust) and datasketch, with as many hashes and bands.

    python -m benchmarks.near_duplicates

Each finds, for the different reviews of the sample, the pairs that share a band of MinHashes over
character 3-grams at a threshold of 0.9. Ours is timed with the comparison of every candidate
included, the peers without; all three start from the same list of strings.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH
from rensa import RMinHash, RMinHashLSH

from benchmarks.results import Row, write_results
from noria.data.duplicates import Keys, bands_for, near_duplicate_clusters
from noria.data.samples import copy_sample
from noria.data.text import duplicate_key

THRESHOLD = 0.9
REPEATS = 3
BANDS = bands_for(THRESHOLD)
NUM_HASHES = BANDS.num * BANDS.width
BAR = 1.0


def ours(texts: Sequence[str]) -> int:
    keys = Keys()
    keys.extend(texts)
    return len(np.unique(near_duplicate_clusters(keys.array(), threshold=THRESHOLD)))


def with_rensa(texts: Sequence[str]) -> int:
    index = RMinHashLSH(THRESHOLD, NUM_HASHES, BANDS.num)
    num_alone = 0
    for row, text in enumerate(texts):
        sketch = RMinHash(NUM_HASHES, 1)
        sketch.update(_grams(text))
        num_alone += not index.query(sketch)
        index.insert(row, sketch)
    return num_alone


def with_datasketch(texts: Sequence[str]) -> int:
    index = MinHashLSH(params=(BANDS.num, BANDS.width), num_perm=NUM_HASHES)
    num_alone = 0
    for row, text in enumerate(texts):
        sketch = MinHash(NUM_HASHES)
        sketch.update_batch([gram.encode() for gram in _grams(text)])
        num_alone += not index.query(sketch)
        index.insert(row, sketch)
    return num_alone


def _grams(text: str) -> list[str]:
    return [text[start : start + 3] for start in range(max(len(text) - 2, 1))]


def median_seconds(methods: Sequence[Callable[[Sequence[str]], int]], texts: Sequence[str]) -> list[float]:
    """Medians, the methods taking turns."""
    seconds: list[list[float]] = [[] for _ in methods]
    for _ in range(REPEATS):
        for method, taken in zip(methods, seconds, strict=True):
            start = time.perf_counter()
            num_alone = method(texts)
            taken.append(time.perf_counter() - start)
            print(f"{method.__name__}: {taken[-1]:.2f} s, {num_alone:,} of {len(texts):,} texts alone")
    return [statistics.median(taken) for taken in seconds]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        copy_sample("text-classification", Path(directory))
        lines = [
            line for file in sorted(Path(directory).rglob("*.txt")) for line in file.read_text("utf-8").split("\n")
        ]
    texts = list(dict.fromkeys(duplicate_key({"text": line}) for line in lines if line.strip()))
    own, rensa, datasketch = (len(texts) / s for s in median_seconds((ours, with_rensa, with_datasketch), texts))
    rows = [
        Row("near duplicates found", "texts/s", round(own), peer=peer, theirs=round(speed), bar=BAR, repeats=REPEATS)
        for peer, speed in (("rensa", rensa), ("datasketch", datasketch))
    ]
    print(write_results("near_duplicates", rows, packages=("numpy", "pyarrow", "rensa", "datasketch")))


if __name__ == "__main__":
    main()
