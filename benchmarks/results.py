"""`benchmarks/results/<name>.json`: the machine, the versions, and one row per claim."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

RESULTS = Path(__file__).parent / "results"
_VECTORS = {
    "amx_bf16": "with AMX",
    "avx512_bf16": "with AVX-512 and bfloat16",
    "avx512f": "with AVX-512",
    "avx2": "with AVX2",
}


@dataclass(frozen=True)
class Row:
    """One measured claim.

    Attributes
    ----------
    claim:
        What was measured, in words.
    unit:
        Of `ours`, `theirs` and `bar`.
    ours:
        Median over `repeats`.
    peer, theirs:
        Whom we compare with, and their median; None where the claim is a bound and not a comparison.
    bar:
        For a comparison, what ours / theirs must reach; otherwise the bound that `ours` must keep.
    reached:
        False where ours did not come to what was to be reached: the bar is then missed, whatever the time.
    """

    claim: str
    unit: str
    ours: float
    peer: str | None = None
    theirs: float | None = None
    bar: float | None = None
    higher_is_better: bool = True
    repeats: int = 1
    reached: bool = True

    @property
    def ratio(self) -> float | None:
        """ours / theirs; None where there is nothing to compare: the bar is then for ours."""
        return round(self.ours / self.theirs, 3) if self.theirs and self.reached else None


def write_results(
    name: str,
    rows: Sequence[Row],
    *,
    packages: Sequence[str],
    directory: Path = RESULTS,
    devices: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write the rows with the machine, other devices in it and the versions of `packages`; returns the file."""
    path = directory / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    results = {
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(memory_gib, 1),
            "machine": platform.machine(),
            "cpu": _cpu(),
            **devices,
        },
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _cpu() -> str:
    """The processor, and the widest vectors it knows: what decides whether bfloat16 pays."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    words = set(text.split())
    (name, *_) = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")] or [
        "CPU"
    ]
    vectors = [told for flag, told in _VECTORS.items() if flag in words]
    return " ".join([name, *vectors[:1]])
