"""Fixtures that several folders share. What they make is made once a session; a test that changes it copies it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

from noria.workspace import Workspace

DIRTY = frozenset(
    f"test_{name}"
    for name in ("readme", "traces", "plan", "ui", "pipeline", "status", "dvc", "update_flow", "structure")
)
"""Files that need the workspace `dirty`, which takes a minute."""
LONGEST = (
    *("dirty", "test_distributed", "test_stack", "test_chaos", "test_contract", "test_tune", "test_compress_flow"),
    *("test_processes", "test_search", "test_training_gpu", "test_run", "test_hostile_media", "test_growth"),
)
"""Groups of tests that take about a minute or more."""


class Groups(LoadScopeScheduling):
    """One process gets what shares a costly fixture: the tests of a file, or of a scenario, or all on `dirty`."""

    def _split_scope(self, nodeid: str) -> str:
        group = group_of(nodeid)
        return group + nodeid.rpartition("[")[2] if group == "test_contract" else group


def group_of(nodeid: str) -> str:
    """The tests that one process is to run together."""
    stem = Path(nodeid.partition("::")[0]).stem
    return "dirty" if stem in DIRTY else stem


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    """For `pytest -n`. (`--dist loadgroup` of xdist 3.8 makes no groups under pytest 9.2.)"""
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first: at the end no process should be left with minutes of work."""
    needing = {item.path.stem for item in items if "dirty" in getattr(item, "fixturenames", ())}
    assert needing <= DIRTY, needing - DIRTY
    place = {group: number for number, group in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(group_of(item.nodeid), len(place)))


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


@pytest.fixture(scope="session")
def language_model(tmp_path_factory) -> Workspace:
    """A bundle of a model that may say 24 tokens of a context of 48."""
    import tiny_runs

    generation = {"max_tokens": 24, "beams": 1}
    return tiny_runs.bundled("language-modelling", tmp_path_factory.mktemp("written"), model={"generation": generation})


@pytest.fixture(scope="session")
def translator(tmp_path_factory) -> Workspace:
    """A bundle of a model that translates greedily and rightly, in at most 40 tokens."""
    import tiny_runs

    settings = {"model": {"generation": {"max_tokens": 40, "beams": 1}}, "train": {"epochs": 40}}
    return tiny_runs.bundled("translation", tmp_path_factory.mktemp("translated"), **settings)


@pytest.fixture(scope="session")
def language_graphs(language_model, tmp_path_factory) -> Mapping[str, Path]:
    """That model in fp32 and in every kind of int8."""
    return _graphs(language_model, tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="session")
def translator_graphs(translator, tmp_path_factory) -> Mapping[str, Path]:
    """That model in fp32 and in every kind of int8."""
    return _graphs(translator, tmp_path_factory.mktemp("graphs"))


def _graphs(workspace: Workspace, directory: Path) -> Mapping[str, Path]:
    from noria.evaluation.judged import read_validation
    from noria.export.forms import build_graphs
    from noria.export.reference import read_calibration, reference_of
    from noria.training.checkpoint import load_trained

    trained = load_trained(workspace.checkpoint, scenario=workspace.scenario)
    rows, calibration = read_validation(workspace.splits)[:4], read_calibration(workspace.splits)
    reference = reference_of(
        trained.model, encoder=trained.encoder, scenario=workspace.scenario, rows=rows, calibration=calibration
    )
    forms = ("fp32", "int8", "int8-static", "int8-weights")
    return build_graphs(reference, directory, config=workspace.config.optimize.model_copy(update={"candidates": forms}))


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
