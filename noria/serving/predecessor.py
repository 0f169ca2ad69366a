"""What a training takes over from an earlier one, found on this machine: weights to start from, and a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from noria.config import Config
from noria.errors import ConfigError
from noria.workspace import Workspace

if TYPE_CHECKING:
    from noria.artifacts import Artifact
    from noria.serving.store import ModelStore

NONE, CHAMPION = "none", "champion"


def start_of(workspace: Workspace) -> Path | None:
    """Directory of the checkpoint that `train.init_from` names; None for `none`, and while nothing is live.

    Raises
    ------
    ConfigError
        When there is no such directory.
    StoreError
        When the champion's checkpoint was not published, or is damaged.
    """
    value = workspace.config.train.init_from
    if value != CHAMPION:
        return _directory(workspace, "train.init_from", value, kind="checkpoint")
    from noria.serving.companions import DIGEST_FACT

    store = _store(workspace)
    bundle = _champion(store)
    return None if bundle is None else store.checkpoints.fetch(str(bundle.facts.get(DIGEST_FACT))).path


def teacher_of(workspace: Workspace) -> Path | None:
    """Directory of the bundle that `train.distill.teacher` names; None for `none`, and while nothing is live.

    Raises
    ------
    ConfigError
        When there is no such directory.
    BundleError
        When the champion is damaged.
    """
    value = workspace.config.train.distill.teacher
    if value != CHAMPION:
        return _directory(workspace, "train.distill.teacher", value, kind="bundle")
    bundle = _champion(_store(workspace))
    return None if bundle is None else bundle.path


def pinned(workspace: Workspace) -> Config:
    """The workspace's configuration with absolute directories in place of what it names, for many trainings.

    A promotion between two of them thus changes nothing. What nobody is live for stays `champion`.
    """
    train, start, teacher = workspace.config.train, start_of(workspace), teacher_of(workspace)
    if start is not None:
        train = train.model_copy(update={"init_from": str(start)})
    if teacher is not None:
        train = train.model_copy(update={"distill": train.distill.model_copy(update={"teacher": str(teacher)})})
    return workspace.config.model_copy(update={"train": train})


def _directory(workspace: Workspace, key: str, value: str, *, kind: str) -> Path | None:
    if value == NONE:
        return None
    path = workspace.root / value
    if not path.is_dir():
        raise ConfigError(
            f"`{key}: {value}` is no directory",
            where=str(workspace.params),
            expected=f"none, champion, or the directory of a {kind}",
            next_step=f"{path} does not exist: name another, or `{key}: none`",
        )
    return path


def _store(workspace: Workspace) -> ModelStore:
    from noria.serving.store import store_of  # few trainings ask a store for anything

    return store_of(workspace)


def _champion(store: ModelStore) -> Artifact | None:
    live = store.production()
    return store.fetch(live.version) if live else None
