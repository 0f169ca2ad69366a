"""Which workloads there are, and the one place that writes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from benchmarks.workloads.format import Workload, read_workload
from benchmarks.workloads.language_modelling import write_language_modelling
from benchmarks.workloads.text_classification import write_text_classification
from benchmarks.workloads.translation import write_translation
from noria.errors import ConfigError

WORKS: Mapping[str, Callable[..., Workload]] = MappingProxyType(
    {
        "text-classification": write_text_classification,
        "translation": write_translation,
        "language-modelling": write_language_modelling,
    }
)


def prepare(work: str, directory: Path, *, tiny: bool = False) -> Workload:
    """The workload in `directory`: as it stands, or written now.

    Raises
    ------
    ConfigError
        When `directory` holds another workload.
    SourceError
        When the packages that bring the data are not installed.
    """
    if not (directory / "workload.json").exists():
        return WORKS[work](directory, tiny=tiny)
    workload = read_workload(directory)
    if (workload.description.work, workload.description.tiny) != (work, tiny):
        raise ConfigError(
            f"this is another workload: {workload.description.work}, tiny={workload.description.tiny}",
            where=str(directory),
            expected=f"{work}, tiny={tiny}",
            next_step="name another directory, or remove this one",
        )
    return workload
