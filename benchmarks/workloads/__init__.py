"""Workloads of the training benchmarks: token ids on disk, written once, read by every contender.

    python -m benchmarks.workloads text-classification DIR [--tiny]
    python -m benchmarks.workloads translation DIR [--tiny]
    python -m benchmarks.workloads language-modelling DIR [--tiny]

A contender gets ids, not text, so that no tokenizer is measured and everybody trains on the same tokens.
"""

from benchmarks.workloads.format import Workload, read_workload
from benchmarks.workloads.prepare import WORKS, prepare

__all__ = ["WORKS", "Workload", "prepare", "read_workload"]
