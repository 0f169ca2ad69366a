"""The record of a search: the same suggestions however often it was interrupted."""

import math

import pytest
from training_fixtures import tiny_config, tiny_splits
from tuned import make_workspace

from noria.artifacts import read_artifact
from noria.config import Config
from noria.tuning.space import Space, read_space
from noria.tuning.study import open_study, prepare_sampler, study_name, suggest
from noria.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("study") / "ws")


def space_of(workspace: Workspace) -> Space:
    return read_space(workspace.config, workspace.params)


def one_trial(directory, space: Space) -> dict[str, object]:
    """In a study that is opened for just this trial, with a loss that can be computed."""
    study = open_study(directory, name="s", space=space)
    prepare_sampler(study, space)
    trial = study.ask()
    values = suggest(trial, space)
    study.tell(trial, abs(math.log10(values["train.lr"]) + 3) + values["model.layers"])
    return values


def test_the_current_parameters_come_first_and_no_suggestion_comes_twice(workspace, tmp_path):
    space = space_of(workspace)
    values = [one_trial(tmp_path, space) for _ in range(12)]
    assert values[0] == space.current()
    assert len({str(it) for it in values}) == 12
    assert {it["train.optimizer"] for it in values} == {"adamw", "muon"}
    assert all(len(str(it["train.lr"]).lstrip("0.")) <= 4 for it in values)
    again = [one_trial(tmp_path / "again", space) for _ in range(12)]
    assert values == again


def test_a_journal_with_a_line_cut_short_and_a_lock_left_behind_is_opened(workspace, tmp_path):
    space = space_of(workspace)
    first = one_trial(tmp_path, space)
    journal = tmp_path / "journal.log"
    with journal.open("a") as file:
        file.write('{"op_code": 4, "wor')
    (tmp_path / "journal.log.lock").symlink_to(journal)
    second = one_trial(tmp_path, space)
    study = open_study(tmp_path, name="s", space=space)
    assert len(study.trials) == 2 and first != second


def test_another_study_for_other_data_parameters_or_space_but_not_for_more_trials(workspace, tmp_path):
    def name(**changes: object) -> str:
        plain = {**space.base.model_dump(), **changes}
        return study_name(splits, Space(Config.model_validate(plain), space.dimensions))

    space, splits = space_of(workspace), read_artifact(workspace.splits)
    tune = space.base.tune.model_dump()
    same = {name(), name(tune={**tune, "trials": 99, "parallel": 2}), name(serve={"port": 1})}
    others = {
        name(seed=2),
        name(train={"lr": 0.5}),
        name(tune={**tune, "space": {"seed": [1, 2]}}),
        study_name(tiny_splits(tmp_path / "splits"), space),
    }
    assert len(same) == 1 and len(others) == 4 and not same & others
    assert tiny_config().tune.space == {}
