"""Tiny models of any scenario, from `noria init` to a bundle: every node is the real one, without DVC around it."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import workspaces

from noria.cli import main
from noria.workspace import Workspace
from tasks.augment import augment
from tasks.check import check, check_again
from tasks.clean import clean
from tasks.evaluate import evaluate
from tasks.ingest import ingest
from tasks.node import Node
from tasks.optimize import optimize
from tasks.preprocess import preprocess
from tasks.split import split
from tasks.train import train

TO_BUNDLE: tuple[Node, ...] = (
    *(ingest, preprocess, check, clean, check_again, augment, split, train, evaluate, optimize),
)


def tiny(name: str) -> ModuleType:
    """Source and settings of a scenario."""
    return importlib.import_module(f"tiny_{name.replace('-', '_')}")


def initialized(name: str, directory: Path, *, dirty: bool) -> Workspace:
    """`noria init` on a tiny source."""
    source = tiny(name).write_source(directory, dirty=dirty)
    root = directory / "workspace"
    root.mkdir()
    assert main(["init", str(root), "--scenario", name, "--source", str(source)]) == 0
    workspaces.change_params(root, {**tiny(name).SETTINGS})
    return Workspace.at(root)


def bundled(name: str, directory: Path, **settings: Mapping[str, object]) -> Workspace:
    """A workspace of this name with a bundle, made in twenty seconds; `settings` are sections of its parameters."""
    workspace = initialized(name, directory, dirty=False)
    workspaces.change_params(workspace.root, settings)
    params = workspace.params.read_text().replace("name: workspace", f"name: {name}")
    workspace.params.write_text(params)
    workspace = Workspace.at(workspace.root)
    for node in TO_BUNDLE:
        node.fn(workspace)
    return workspace
