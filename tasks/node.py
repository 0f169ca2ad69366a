"""A node of the flowchart: one function, which DVC runs in a process of its own and Prefect shows.

`dvc.yaml` holds what runs (`python -m tasks.<node>`), and `main` is that process. In the flow a node
is called with the artifacts that it follows; its Prefect task asks DVC to reproduce the stage, so
the two runners share one specification and one cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from noria.artifacts import Artifact
from noria.workspace import Workspace

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFuture

NodeFunction = Callable[[Workspace], Artifact]
Summary = Callable[[Workspace], str]


@dataclass(frozen=True)
class Node:
    """One box of the flowchart.

    Attributes
    ----------
    name:
        As the flowchart has it: the task's name in Prefect.
    stage:
        Its stage in `dvc.yaml`, and the name of its events and history.
    fn:
        The work, without a runner around it.
    summary:
        Markdown that a person wants to see in the Prefect UI once the node is done.
    tags:
        Prefect tags (`gpu` holds a place in that tag's concurrency limit).
    retries:
        How often a failed attempt is repeated; the stage resumes from its own scratch.
    timeout_s:
        The stage's process ends itself after so long, and says where it stood.
    pure:
        True: a DVC stage. False: a side effect, run as a plain process every time.
    through:
        Stages to reproduce on the way to it: the branch that the flow did not visit, which lets the data pass.
    """

    name: str
    stage: str
    fn: NodeFunction
    summary: Summary
    tags: tuple[str, ...] = ()
    retries: int = 0
    timeout_s: float = 3600.0
    pure: bool = True
    through: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The stage in kebab case: the key of its Prefect artifacts."""
        return self.stage.replace("_", "-")

    @cached_property
    def task(self) -> Task[..., Artifact]:
        """The Prefect task. Built on first use: importing Prefect costs a second that stages don't pay."""
        from tasks.prefect_task import build_task

        return build_task(self)

    def __call__(self, workspace: Workspace, *upstream: PrefectFuture[Artifact]) -> PrefectFuture[Artifact]:
        """Run in a flow, after `upstream`; return when done, raise what went wrong.

        The future goes to the nodes that follow: it carries the edge of the run graph.
        """
        future = self.task.submit(workspace, *upstream)
        future.result()
        return future


def node(
    name: str,
    *,
    summary: Summary,
    stage: str | None = None,
    tags: tuple[str, ...] = (),
    retries: int = 0,
    timeout_s: float = 3600.0,
    pure: bool = True,
    through: tuple[str, ...] = (),
) -> Callable[[NodeFunction], Node]:
    """Make a function a node; see `Node` for the parameters. `stage` is the function's name by default."""

    def decorate(fn: NodeFunction) -> Node:
        return Node(
            name=name,
            stage=stage or fn.__name__,
            fn=fn,
            summary=summary,
            tags=tags,
            retries=retries,
            timeout_s=timeout_s,
            pure=pure,
            through=through,
        )

    return decorate


def main(first: Node, *, again: Node | None = None) -> None:
    """Be the process of `first`, or with `--again` that of `again`; exits with the error's code."""
    from tasks.process import run_node

    run_node(first, again=again)
