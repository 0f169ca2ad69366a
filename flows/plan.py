"""What would run, and why: DVC's view of the workspace against `dvc.lock`, down to keys and values."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import networkx as nx
from dvc.exceptions import DvcException
from dvc.repo import Repo

from noria.config import Config
from noria.errors import ConfigError
from noria.preflight import check_workspace
from noria.workspace import Workspace
from tasks.history import read_history
from tasks.repository import with_repository

if TYPE_CHECKING:
    from dvc.dependency.param import ParamsDependency
    from dvc.output import Output
    from dvc.stage import Stage

_RUNS_REMEMBERED = 5
_SHORT_DIGEST = 8


@dataclass(frozen=True)
class Reason:
    """Why a stage is stale.

    Attributes
    ----------
    kind:
        What changed: a parameter, a dependency (data or code), an output, the command; `upstream`: a
        stage before it will run; `new`: it has never run.
    what:
        The key, path or stage.
    old, new:
        Values or short digests; None where there was or is none.
    """

    kind: Literal["parameter", "dependency", "output", "command", "upstream", "new"]
    what: str
    old: str | None = None
    new: str | None = None

    def say(self) -> str:
        """The reason in words."""
        if self.kind == "upstream":
            return f"because {self.what} will run"
        if self.kind == "new":
            return "it has never run here"
        return f"{self.kind} {self.what}: {self.old or 'none'} -> {self.new or 'none'}"


@dataclass(frozen=True)
class PlannedStage:
    """A stage that will run."""

    name: str
    reasons: tuple[Reason, ...]
    expected_s: float | None
    """Median of its last runs, in seconds; None when it has not run here."""


@dataclass(frozen=True)
class Plan:
    """What `noria run` would do now; a stage whose new result equals its old one spares those after it."""

    stages: tuple[PlannedStage, ...]
    up_to_date: tuple[str, ...]
    order: tuple[str, ...]
    """Every stage, after those that it needs."""
    expected_s: float | None


def make_plan(workspace: Workspace) -> Plan:
    """Compare every stage with `dvc.lock`. Reads files, writes nothing, runs nothing.

    Raises
    ------
    ConfigError
        When the workspace is incomplete, or `params.yaml` or `dvc.yaml` can't be used.
    """
    check_workspace(workspace)
    try:
        return with_repository(workspace, partial(_compare, workspace=workspace))
    except DvcException as error:
        raise ConfigError(f"DVC can't read the stages: {error}", where=str(workspace.root / "dvc.yaml")) from error


def stage_seconds(workspace: Workspace) -> Mapping[str, float]:
    """Median seconds of each stage's last runs here (cache hits not counted)."""
    seconds: dict[str, list[float]] = {}
    for attempt in read_history(workspace):
        if attempt.state == "ran":
            seconds.setdefault(attempt.stage, []).append(attempt.seconds)
    return {stage: statistics.median(runs[-_RUNS_REMEMBERED:]) for stage, runs in seconds.items()}


def _compare(repo: Repo, *, workspace: Workspace) -> Plan:
    history = stage_seconds(workspace)
    planned: dict[str, PlannedStage] = {}
    up_to_date = []
    with repo.lock:
        graph = repo.index.graph
        # Edges point from a stage to those that it needs; what `dvc add` made runs nothing.
        stages = [stage for stage in nx.dfs_postorder_nodes(graph) if not stage.is_data_source]
        for stage in stages:
            before = sorted(other.name for other in graph.successors(stage) if not other.is_data_source)
            reasons = (
                *_reasons(stage, workspace),
                *(Reason("upstream", name) for name in before if name in planned),
            )
            if reasons:
                planned[stage.name] = PlannedStage(stage.name, reasons, history.get(stage.name))
            else:
                up_to_date.append(stage.name)
    order = tuple(stage.name for stage in stages)  # not `addressing`, which depends on the current directory
    known = [stage.expected_s for stage in planned.values() if stage.expected_s is not None]
    return Plan(tuple(planned.values()), tuple(up_to_date), order, sum(known) if known else None)


def _reasons(stage: Stage, workspace: Workspace) -> Iterator[Reason]:
    if not any(dep.hash_info for dep in stage.deps):
        yield Reason("new", stage.name)
        return
    for dep in stage.deps:
        if not dep.status():
            continue
        if hasattr(dep, "params"):
            yield from _changed_keys(dep, workspace)
        else:
            yield Reason("dependency", dep.def_path, *_digests(dep))
    for out in stage.outs:
        if out.status():
            yield Reason("output", out.def_path, *_digests(out))
    if stage.cmd_changed:
        yield Reason("command", stage.name)


def _changed_keys(dep: ParamsDependency, workspace: Workspace) -> Iterator[Reason]:
    """The keys whose values differ; a key that is not written has its default."""
    old, new = _flatten(dep.hash_info.value), _flatten(dep.read_params())
    defaults = _flatten(_defaults(workspace))

    def value(of: Mapping[str, object], key: str) -> str | None:
        if key in of:
            return str(of[key])
        return f"{defaults[key]} (default)" if key in defaults else None

    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield Reason("parameter", key, value(old, key), value(new, key))


def _defaults(workspace: Workspace) -> dict[str, object]:
    """What holds where params.yaml says nothing."""
    scenario = workspace.scenario
    config = Config.model_validate(
        {**scenario.defaults, "name": "x", "scenario": scenario.name, "source": {"path": "x"}}  # these have no default
    )
    return config.model_dump(mode="json", exclude={"name", "scenario", "source"})


def _flatten(values: object, prefix: str = "") -> dict[str, object]:
    """Leaves by dotted key."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    leaves: dict[str, object] = {}
    for key, value in values.items():
        leaves |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _digests(output: Output) -> tuple[str | None, str | None]:
    """What `dvc.lock` has, and what is there, shortened."""
    old = output.hash_info.value if output.hash_info else None
    new = output.get_hash().value if output.exists else None
    return old and old[:_SHORT_DIGEST], new and new[:_SHORT_DIGEST]
