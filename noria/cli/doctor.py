"""`noria doctor`: versions against floors, device, writable places, state of Git and DVC."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from noria.cli.options import add_directory, add_json, print_json

if TYPE_CHECKING:
    from noria.workspace import Workspace

_FLOORS = {
    "torch": "2.10",
    "onnx": "1.21",
    "onnxruntime": "1.32",
    "great-expectations": "1.18.1",
    "prefect": "3.6.14",
    "dvc": "3.67",
    "pydantic": "2.11",
    "pyarrow": "0",
}
"""The oldest that are safe and known to work; `pyproject.toml` has the same."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("doctor", help="check versions, device, paths, Git and DVC")
    add_directory(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 when something is wrong."""
    from noria.workspace import Workspace

    findings = [
        _python(),
        *(_version(name, floor) for name, floor in _FLOORS.items()),
        _device(),
        *_workspace(Workspace.at(args.directory)),
    ]
    if args.json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok ' if finding.ok else 'BAD'} {finding.what:<20} {finding.detail}")
    return 0 if all(finding.ok for finding in findings) else 1


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), f"{found} ({sys.executable}), needs 3.11")


def _version(package: str, floor: str) -> Finding:
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, False, f"not installed, needs {floor}")
    return Finding(package, _parts(found) >= _parts(floor), f"{found}, needs {floor}")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".") if part.isdigit())


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", True, "no torch: this installation can serve, not train")
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding("device", True, f"{', '.join(names) or 'CPU'}; {torch.get_num_threads()} threads")


def _workspace(workspace: Workspace) -> list[Finding]:
    root = workspace.root
    if not root.is_dir():
        return [Finding("workspace", False, f"{root} is no directory")]
    free_gb = shutil.disk_usage(root).free / 1e9
    return [
        Finding("workspace", os.access(root, os.W_OK), f"{root}, {free_gb:,.1f} GB free"),
        _git(root),
        _dvc(root),
        _params(workspace),
    ]


def _git(root: Path) -> Finding:
    git = shutil.which("git")
    if git is None:
        return Finding("git", False, "not installed")
    commit = subprocess.run(
        [git, "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return Finding("git", True, f"at {commit.stdout.strip()}" if commit.returncode == 0 else "no commit yet")


def _dvc(root: Path) -> Finding:
    config = root / ".dvc" / "config"
    return Finding("dvc cache", config.exists(), str(config.parent) if config.exists() else "none: run `noria init`")


def _params(workspace: Workspace) -> Finding:
    from noria.errors import NoriaError
    from noria.preflight import check_ready

    try:
        check_ready(workspace)
    except NoriaError as error:
        return Finding("params.yaml", False, str(error).replace("\n", ";"))
    return Finding("params.yaml", True, f"`{workspace.config.name}`, {workspace.scenario.name}")
