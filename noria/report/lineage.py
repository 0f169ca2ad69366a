"""Sections on where it all comes from: what was made of what, down to the version in the store; and the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from noria.artifacts import Artifact, read_artifact
from noria.errors import ArtifactError
from noria.report.drawings import Box, draw_graph
from noria.report.parts import Section, table
from noria.serving.bundle import version_of
from noria.workspace import Workspace

_SHORT = 12
_BUILT_ON = ("raw", "preprocessed", "cleaned", "augmented", "splits", "checkpoint", "bundle")
_PACKAGES = ("noria", "torch", "onnx", "onnxruntime", "numpy", "pyarrow", "prefect", "dvc", "great-expectations")


def lineage_section(workspace: Workspace) -> Section | None:
    """The artifacts of the workspace, by digest, and their parents."""
    made = dict(_artifacts(workspace))
    if not made:
        return None
    names: dict[str, str] = {}  # of a digest; data that passed through a stage have that of those before
    boxes, rows = [], []
    for name, artifact in made.items():
        parents = tuple(dict.fromkeys(names[parent] for parent in artifact.parents if parent in names))
        aside = name not in _BUILT_ON
        boxes.append(Box(name, f"{artifact.digest[:_SHORT]}{_count(artifact)}", parents, aside))
        rows.append((name, artifact.digest, ", ".join(parents)))
        if not aside:
            names[artifact.digest] = name
    if (bundle := made.get("bundle")) is not None and (workspace.deployment / "manifest.json").exists():
        boxes.append(Box("version in the store", version_of(bundle), ("bundle",)))
    lead = "Equal digests are equal bytes; `noria verify` counts them again."
    return Section("Lineage", lead, (draw_graph(boxes), table("made | SHA-256 | of", rows)))


def _count(artifact: Artifact) -> str:
    """The number that says most of it."""
    for name in ("rows", "train", "candidates", "validation_rows"):
        if name in artifact.counts:
            return f" · {artifact.counts[name]:,} {name.removeprefix('validation_')}"
    return ""


def _artifacts(workspace: Workspace) -> Iterator[tuple[str, Artifact]]:
    places: Mapping[str, Path] = {
        "raw": workspace.raw,
        "preprocessed": workspace.preprocessed,
        "quality check": workspace.quality("check"),
        "cleaned": workspace.cleaned,
        "quality check, again": workspace.quality("recheck"),
        "augmented": workspace.augmented,
        "splits": workspace.splits,
        "checkpoint": workspace.checkpoint,
        "evaluation": workspace.evaluation,
        "optimization": workspace.optimization,
        "bundle": workspace.bundle,
        "verdict": workspace.verdict,
    }
    for name, path in places.items():
        try:
            yield name, read_artifact(path, verify=False)
        except ArtifactError:
            continue  # not made yet


def environment_section(workspace: Workspace) -> Section:
    """The machine and the versions that matter, and the code that the bundle was made with."""
    rows = [
        ("Python", platform.python_version()),
        ("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        *((name, found) for name in _PACKAGES if (found := _version(name))),
    ]
    try:
        facts = read_artifact(workspace.bundle, verify=False).facts
        rows += [("commit", str(facts.get("git_commit") or "–")), ("data", str(facts.get("data_digest") or "–"))]
    except ArtifactError:
        pass  # no bundle yet
    return Section("Environment", "", (table("what | which", rows),))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
