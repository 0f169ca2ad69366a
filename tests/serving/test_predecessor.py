"""What a training takes over: the champion's checkpoint and bundle, from a real store after a real deploy."""

from __future__ import annotations

import shutil

import pytest

from noria.artifacts import read_artifact, write_artifact
from noria.errors import ConfigError, StoreError
from noria.serving.predecessor import pinned, start_of, teacher_of
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.deploy import deploy
from tasks.train import train
from tasks.update import update

BOTH = "init_from: champion, distill: {teacher: champion}"


def asking(workspace: Workspace, settings: str) -> Workspace:
    """The workspace with these settings of `train`."""
    text = workspace.params.read_text()
    workspace.params.write_text(text.replace("\ntrain: {", f"\ntrain: {{{settings}, "))
    return Workspace.at(workspace.root)


def go_live(workspace: Workspace) -> None:
    deploy.fn(workspace)
    update.fn(workspace)


def test_deploying_publishes_the_checkpoint_that_the_bundle_was_made_from(workspace):
    checkpoint = read_artifact(workspace.checkpoint)
    for _ in range(2):
        deploy.fn(workspace)
    store = store_of(workspace)
    assert store.checkpoints.names() == [checkpoint.digest]
    published = store.fetch(store.versions()[0])
    assert store.checkpoints.fetch(published.facts["checkpoint_digest"]).files == checkpoint.files


def test_the_champion_is_found_once_there_is_one_and_only_where_it_is_asked_for(workspace):
    asked = asking(workspace, BOTH)
    assert start_of(asked) is None and teacher_of(asked) is None
    go_live(asked)
    checkpoint, bundle = read_artifact(workspace.checkpoint), read_artifact(workspace.bundle)
    shutil.rmtree(workspace.root / "models")
    assert read_artifact(start_of(asked)).digest == checkpoint.digest
    assert read_artifact(teacher_of(asked)).digest == bundle.digest
    asked.params.write_text(asked.params.read_text().replace(BOTH, "epochs: 1").replace("epochs: 2, ", ""))
    plain = Workspace.at(asked.root)
    assert start_of(plain) is None and teacher_of(plain) is None


def test_many_trainings_are_pinned_to_one_champion(workspace):
    asked = asking(workspace, BOTH)
    assert pinned(asked) == asked.config  # nobody is live
    go_live(asked)
    train = pinned(asked).train
    assert (train.init_from, train.distill.teacher) == (str(start_of(asked)), str(teacher_of(asked)))


def test_a_directory_is_named_from_the_workspace(workspace):
    asked = asking(workspace, "init_from: models/checkpoint, distill: {teacher: models/bundle}")
    assert (start_of(asked), teacher_of(asked)) == (workspace.checkpoint, workspace.bundle)
    assert pinned(asked).train.init_from == str(workspace.checkpoint)
    assert not (workspace.root / "store").exists()


@pytest.mark.parametrize("settings", ["init_from: chmpion", "distill: {teacher: models/nowhere}"])
def test_a_predecessor_that_is_no_directory_is_an_error_that_names_the_choices(workspace, settings):
    asked = asking(workspace, settings)
    with pytest.raises(ConfigError, match="is no directory") as caught:
        (start_of if settings.startswith("init") else teacher_of)(asked)
    assert "none, champion, or the directory of a" in str(caught.value)


@pytest.mark.parametrize("why", ["switched off", "missing", "another"])
def test_a_bundle_without_its_checkpoint_goes_live_and_no_training_starts_from_it(workspace, why, caplog):
    asked = asking(workspace, "init_from: champion")
    if why == "switched off":
        with asked.params.open("a") as file:
            file.write("deploy: {publish_checkpoint: false}\n")
    elif why == "missing":
        shutil.rmtree(asked.checkpoint)
    else:
        with write_artifact(asked.checkpoint, kind="checkpoint") as draft:
            (draft.path / "model.safetensors").write_text("another")
    asked = Workspace.at(asked.root)
    go_live(asked)
    assert ("the checkpoint is not published" in caplog.text) == (why != "switched off")
    assert store_of(asked).checkpoints.names() == []
    with pytest.raises(StoreError, match="the checkpoint is not in the store") as caught:
        start_of(asked)
    assert "deploy.publish_checkpoint: true" in str(caught.value)


def test_the_training_node_starts_from_the_champion_and_learns_from_it(workspace):
    asked = asking(workspace, BOTH)
    go_live(asked)
    checkpoint, bundle = read_artifact(asked.checkpoint), read_artifact(asked.bundle)
    shutil.rmtree(asked.checkpoint)
    again = train.fn(asked)
    assert (again.facts["started_from"], again.facts["taught_by"]) == (checkpoint.digest, bundle.digest)
    assert again.parents == (read_artifact(asked.splits).digest, checkpoint.digest, bundle.digest)
