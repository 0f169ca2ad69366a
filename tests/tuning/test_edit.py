"""Other values in `params.yaml`: what is not changed stays to the character."""

import subprocess

import pytest
import yaml

from noria.errors import ConfigError
from noria.tuning.edit import diff_params, edit_params, propose, read_text, write_params, written
from noria.workspace import Workspace

CHANGES = {"train.lr": 1e-5, "train.optimizer": "no", "train.pretrain.lr": 0.002, "model.wide.enabled": False}
TEXTS = {
    "block": "train:\n  # why\n  lr: 0.1  # measured\n  pretrain:\n    epochs: 1 # a\n\n# next\nmodel:\n    dim: 2\n",
    "flow": "train: { lr: 0.1, pretrain: {epochs: 1} }  # c\nmodel: {dim: 2,  # d\n  layers: 1}",
    "empty": "name: 'x'\ntrain:\nmodel: {}  # nothing\n",
    "absent": "name: x  # no sections",
    "full width": "name: 评论  # 名\ntrain: {lr: 0.1}\n",
    "comment after the last comma": "train: {\n  lr: 0.1,  # why, and } how\n}\nmodel: {  # none\n}\n",
    "comment after the last value": "train: {lr: 0.1  # a, b\n  }\nmodel: {dim: 2, }\n",
    "text block": "train:\n  lr: 0.1\nnotes: |\n  a: 1\n\nmodel:\n  wide: {enabled: true}\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_only_what_changes_is_changed(text):
    after = edit_params(text, CHANGES)
    expected = yaml.safe_load(text)
    for path, value in CHANGES.items():
        *parents, leaf = path.split(".")
        section = expected
        for key in parents:
            section[key] = section.get(key) or {}
            section = section[key]
        section[leaf] = value
    assert yaml.safe_load(after) == expected
    assert [line for line in text.splitlines() if "#" in line and line.partition("#")[2] not in after] == []


def test_a_changed_value_is_one_line_of_the_diff(tmp_path):
    text = TEXTS["block"]
    diff = diff_params(text, edit_params(text, {"train.lr": 0.25}))
    assert [line for line in diff.splitlines() if line[:1] in "+-"][2:] == [
        "-  lr: 0.1  # measured",
        "+  lr: 0.25  # measured",
    ]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_git_applies_the_diff(text, tmp_path):
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    after = edit_params(text, CHANGES)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=diff_params(text, after), text=True, check=True)
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == after


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_line_ends_stay_what_they_are(text, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_bytes(text.replace("\n", "\r\n").encode())
    after = edit_params(read_text(params), CHANGES)
    assert after == edit_params(text, CHANGES).replace("\n", "\r\n" if "\n" in text else "\n")
    write_params(params, after)
    assert params.read_bytes().decode() == after


def test_the_diff_of_a_file_with_other_line_ends_is_of_what_changes(tmp_path):
    text = TEXTS["block"].replace("\n", "\r\n")
    diff = diff_params(text, edit_params(text, {"train.lr": 0.25}))
    assert [line for line in diff.split("\n") if line[:1] in "+-"][2:-1] == [
        "-  lr: 0.1  # measured\r",
        "+  lr: 0.25  # measured\r",
    ]


@pytest.mark.parametrize("section", ["train:\n  <<: *b\n", "train: {<<: *b}\n", "train:\n  <<: *b # c\n\nname: x"])
def test_what_an_alias_stands_for_stays(section):
    text = f"base: &b {{lr: 0.1, muon_lr: 0.2}}\n{section}"
    after = yaml.safe_load(edit_params(text, {"train.lr": 0.5, "train.optimizer": "muon"}))
    expected = yaml.safe_load(text)
    expected["train"] |= {"lr": 0.5, "optimizer": "muon"}
    assert after == expected


@pytest.mark.parametrize("value", [1e-5, 3.0, 7, True, None, "no", "1e-4", "muon"])
def test_a_value_is_written_so_that_it_is_read_back(value):
    assert yaml.safe_load(f"{{a: {written(value)}}}")["a"] == value


def test_a_file_that_was_changed_meanwhile_or_shares_values_is_left_alone(tmp_path):
    text = "name: x\nscenario: text-classification\nsource: {path: rows.csv}\ntune: {space: {train.lr: [0.1, 0.2]}}\n"
    params = tmp_path / "params.yaml"
    for before, later in (
        ("train: {lr: 0.1}\n", "train: {lr: 0.1, epochs: 9}\n"),
        ("train: {lr: &rate 0.1, muon_lr: *rate}\n", "train: {lr: &rate 0.1, muon_lr: *rate}\n"),
        ("train: &all {lr: 0.1, epochs: 9}\n", "train: &all {lr: 0.1, epochs: 9\n"),  # no YAML any more
    ):
        params.write_text(text + before, encoding="utf-8")
        workspace = Workspace.at(tmp_path)
        config = workspace.config
        params.write_text(text + later, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"set by hand: train.lr: 0\.2"):
            propose(params, {"train.lr": 0.2}, config=config, defaults=workspace.scenario.defaults)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]


def proposed(root, section, values):
    (root / "params.yaml").write_text(
        f"name: x\nscenario: text-classification\nsource: {{path: rows.csv}}\n{section}\n", encoding="utf-8"
    )
    workspace = Workspace.at(root)
    return propose(workspace.params, values, config=workspace.config, defaults=workspace.scenario.defaults)


def test_an_anchor_and_its_alias_may_both_get_values_of_their_own(tmp_path):
    text = proposed(tmp_path, "train: {lr: &r 0.1, muon_lr: *r}", {"train.lr": 0.2, "train.muon_lr": 0.3})
    assert "train: {lr: 0.2, muon_lr: 0.3}" in text


def test_a_change_that_spoils_the_file_for_the_next_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="set by hand"):
        proposed(tmp_path, "train: {lr: 0.1, rendezvous: ''}", {"train.rendezvous": "a]b", "train.lr": 0.2})
