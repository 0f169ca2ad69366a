"""`params.yaml`: every slip is one message with the file, the line and what would be right."""

from pathlib import Path

import pytest

from noria.errors import ConfigError
from noria.workspace import Workspace

PARAMS = """\
name: reviews
scenario: text-classification
source: {path: rows.csv}
"""


def config_of(root: Path, text: str):
    (root / "params.yaml").write_text(text, encoding="utf-8")
    return Workspace.at(root).config


def test_name_scenario_and_source_are_enough_and_an_empty_section_has_its_defaults(tmp_path):
    config = config_of(tmp_path, PARAMS + "train:\nclean: {}\n")
    assert config.train.optimizer == "muon"  # the scenario's
    assert config.clean.max_chars == 2_000


@pytest.mark.parametrize(
    ("added", "line", "says"),
    [
        ("trian: {lr: 1}", 4, r"unknown key `trian`(.|\n)*did you mean `train`"),
        ("train:\n  pretrain:\n    epoch: 1", 6, r"`train.pretrain.epoch`(.|\n)*did you mean `epochs`"),
        ("train: fast", 4, "`train` is 'fast'"),
        ("check: [1]", 4, r"`check` is \[1\]"),
        ("train:\n  lr: quick", 5, "`train.lr` is 'quick'"),
        ("train:\n  lr: .inf", 5, "finite"),
        ("train:\n  lr: 1\n  lr: 2", 6, "`lr` stands here twice"),
        ("seed: 1\nseed: 2", 5, "`seed` stands here twice"),
        ("seed:", 4, "`seed` is None"),
        ("train: {lr: 1\n", 5, "not YAML"),
        ("clean:\n  min_chars: 9\n  max_chars: 3", 4, r"min_chars \(9\) must not be above max_chars \(3\)"),
        ("clean: {near_duplicate_similarity: 0}", 4, "greater than or equal to 0.2"),
        ("model:\n  heads: 3", 4, "`model`: dim must be a multiple of 3"),
        ("optimize:\n  candidates: []", 5, "at least 1"),
        ("deploy:\n  canary: 0.1\n  shadow: 0.9", 4, "`deploy`: .*tried in one of the two ways"),
        ("deploy:\n  canary: 0.6", 5, "less than or equal to 0.5"),
        ("deploy:\n  shadow: -0.1", 5, "greater than or equal to 0"),
    ],
)
def test_a_slip_is_named_with_its_line(tmp_path, added, line, says):
    with pytest.raises(ConfigError) as raised:
        config_of(tmp_path, PARAMS + added)
    assert raised.match(says)
    assert f"params.yaml:{line}" in raised.value.where


def test_a_misspelt_scenario_key_is_named(tmp_path):
    with pytest.raises(ConfigError, match="`scenaro` should be `scenario`"):
        config_of(tmp_path, PARAMS.replace("scenario:", "scenaro:"))


def test_a_params_yaml_that_can_not_be_read_is_a_message(tmp_path):
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(ConfigError, match="can't be read"):
        _ = Workspace.at(tmp_path).config
