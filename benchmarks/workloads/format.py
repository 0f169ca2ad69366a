"""The directory of a workload: flat `.npy` arrays, and `workload.json`, which is written last.

`<side>_<column>_values.npy` holds token ids (int32) and `<side>_<column>_offsets.npy` (int64) where rows
begin: row i is `values[offsets[i]:offsets[i + 1]]`. `<side>_labels.npy` (int64) holds one class per row.
Sides are `train` and `validation`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noria.data.ragged import Ragged
from noria.errors import ArtifactError

SIDES = ("train", "validation")
SEED = 1
_PARTS = ("values", "offsets")


@dataclass(frozen=True)
class Description:
    """What `workload.json` says.

    Attributes
    ----------
    work:
        `text-classification`, `translation` or `language-modelling`.
    tiny:
        A few hundred rows, for tests.
    vocabulary_size:
        Token ids are below it.
    special_ids:
        Ids of `pad`, and of what else the work has: `bos`, `eos`, `unk`, `end_of_document`.
    max_tokens:
        Of a row; 0 where rows are documents of any length.
    num_labels:
        Classes; 0 where there are none.
    num_rows, num_tokens:
        By side, and by `<side>_<column>`.
    sources:
        What the rows come from, with versions.
    """

    work: str
    tiny: bool
    seed: int
    vocabulary_size: int
    special_ids: dict[str, int]
    max_tokens: int
    num_labels: int
    num_rows: dict[str, int]
    num_tokens: dict[str, int]
    sources: list[str]


@dataclass(frozen=True)
class Workload:
    """A workload on disk; arrays are mapped, not read."""

    directory: Path
    description: Description

    @property
    def pad(self) -> int:
        return self.description.special_ids["pad"]

    def rows(self, side: str, column: str = "tokens") -> Ragged:
        """Token ids (int32) of every row of a side."""
        values, offsets = (np.load(self._file(f"{side}_{column}_{part}"), mmap_mode="r") for part in _PARTS)
        return Ragged(values, offsets)

    def labels(self, side: str) -> NDArray[np.int64]:
        """The class of every row of a side."""
        labels: NDArray[np.int64] = np.load(self._file(f"{side}_labels"))
        return labels

    def _file(self, name: str) -> Path:
        return self.directory / f"{name}.npy"


def read_workload(directory: Path) -> Workload:
    """Read `workload.json`.

    Raises
    ------
    ArtifactError
        When there is no complete workload here.
    """
    try:
        values = json.loads((directory / "workload.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            "there is no workload here",
            where=str(directory),
            expected="workload.json, written last",
            next_step="python -m benchmarks.workloads WORK DIR",
        ) from None
    return Workload(directory, Description(**values))


def write_workload(
    directory: Path,
    *,
    work: str,
    tiny: bool,
    vocabulary_size: int,
    special_ids: Mapping[str, int],
    max_tokens: int,
    columns: Mapping[str, Sequence[NDArray[np.int32]]],
    labels: Mapping[str, Sequence[int]],
    sources: Sequence[str],
) -> Workload:
    """Write a workload in one rename; `columns` maps `<side>_<column>` to rows, `labels` a side to classes."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    for name, rows in columns.items():
        np.save(draft / f"{name}_values.npy", np.concatenate([np.empty(0, np.int32), *rows]).astype(np.int32))
        np.save(draft / f"{name}_offsets.npy", np.cumsum([0, *map(len, rows)], dtype=np.int64))
    for side, classes in labels.items():
        np.save(draft / f"{side}_labels.npy", np.asarray(classes, dtype=np.int64))
    description = Description(
        work=work,
        tiny=tiny,
        seed=SEED,
        vocabulary_size=vocabulary_size,
        special_ids=dict(special_ids),
        max_tokens=max_tokens,
        num_labels=len({label for classes in labels.values() for label in classes}),
        num_rows={name.split("_")[0]: len(rows) for name, rows in columns.items()},
        num_tokens={name: sum(map(len, rows)) for name, rows in columns.items()},
        sources=list(sources),
    )
    (draft / "workload.json").write_text(json.dumps(asdict(description), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    draft.replace(directory)
    return Workload(directory, description)


def share(key: str, *, purpose: str = "side") -> float:
    """A number in [0, 1) that depends on `key`, `purpose` and the seed alone: a row never changes sides."""
    digest = hashlib.sha256(f"{SEED}\0{purpose}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
