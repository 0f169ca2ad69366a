"""Fixtures that several folders share. What they make is made once a session; a test that changes it copies it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from noria.workspace import Workspace


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Workspace:
    """A workspace with splits and a checkpoint."""
    import tiny

    workspace = tiny.make_workspace(tmp_path_factory.mktemp("trained") / "ws")
    tiny.train(workspace)
    return workspace


@pytest.fixture(scope="session")
def optimized(trained) -> Workspace:
    """The same, with a bundle."""
    from tasks.optimize import optimize

    optimize.fn(trained)
    return trained


@pytest.fixture
def workspace(optimized, tmp_path) -> Workspace:
    """A copy with a bundle and an empty store, to deploy from and to break."""
    shutil.copytree(optimized.root, tmp_path / "ws")
    return Workspace.at(tmp_path / "ws")


@pytest.fixture(scope="session")
def dirty(tmp_path_factory) -> Path:
    """`noria run` from data that fails the gate to a model in production; put back what you change."""
    import workspaces

    root = workspaces.make_workspace(tmp_path_factory.mktemp("flow") / "dirty", workspaces.dirty_rows(600))
    done = workspaces.noria("run", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root
