"""`tune.space`: every slip is one message with the path and its line, before anything runs."""

import pytest

from noria.errors import ConfigError
from noria.tuning.space import Space, leaf_types, read_space, value_at
from noria.workspace import Workspace

PARAMS = """\
name: reviews
scenario: text-classification
source: {path: rows.csv}
model: {dim: 96, heads: 2}
tune:
  space:
"""


def space_of(root, *entries: str) -> Space:
    (root / "params.yaml").write_text(PARAMS + "".join(f"    {entry}\n" for entry in entries), encoding="utf-8")
    workspace = Workspace.at(root)
    return read_space(workspace.config, workspace.params)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("train.lrr: [0.1]", r"unknown path `train.lrr`(.|\n)*did you mean `train.lr`"),
        ("clean.min_chars: [1, 2]", "unknown path `clean.min_chars`"),
        ("train.pretrain: [1]", r"is a section(.|\n)*train.pretrain.epochs"),
        ("train.holdout_share: [0.1]", "which rows judge"),
        ("train.init_from: [none, champion]", "once for the whole search"),
        ("train.nodes: [1, 2]", "on this host"),
        ("train.lora.rank: [0, 8]", r"can't be 8(.|\n)*set train.init_from"),
        ("train.lr: [0.1, -1]", r"`train.lr` can't be -1(.|\n)*greater than 0"),
        ("train.optimizer: [adamw, adagrad]", "`train.optimizer` can't be 'adagrad'"),
        ("train.optimizer: {low: 1, high: 2}", "is not a number"),
        ("model.layers: {low: 1, high: 2.5}", "is a whole number"),
        ("model.layers: {low: 0, high: 2}", "`model.layers` can't be 0"),
        ("train.lr: {low: 0.1, high: 0.01}", r"low \(0.1\) must be below high \(0.01\)"),
        ("train.lr: {low: 0, high: 0.01, log: true}", "must be above 0 with log"),
        ("train.lr: {low: 0.1, hihg: 1}", "high: Field required"),
        ("train.lr: {low: 0.1, high: 1, lgo: true}", "lgo: Extra inputs"),
        ("train.lr: 0.1", "must be a list of values to try, or a range"),
        ("train.lr: []", "one or more"),
        ("train.lr: [0.1, 0.1]", "twice"),
        ("model.heads: [2, 5]", r"`model.heads` can't be 5(.|\n)*multiple of 5"),
    ],
)
def test_a_slip_is_named_with_its_line(tmp_path, entry, says):
    with pytest.raises(ConfigError) as raised:
        space_of(tmp_path, "train.epochs: [1, 2]", entry)
    assert raised.match(says)
    assert "params.yaml:8" in raised.value.where


def test_an_empty_space_is_an_error_with_an_example(tmp_path):
    with pytest.raises(ConfigError, match=r"tune: \{space:"):
        space_of(tmp_path)


def test_a_training_on_several_machines_is_not_searched(tmp_path):
    (tmp_path / "params.yaml").write_text(
        f"{PARAMS}    train.lr: [0.1]\ntrain: {{distributed: ddp, nodes: 2, rendezvous: 'host:1'}}\n"
    )
    workspace = Workspace.at(tmp_path)
    with pytest.raises(ConfigError, match=r"`train\.nodes` is 2") as raised:
        read_space(workspace.config, workspace.params)
    assert "params.yaml:8" in raised.value.where


def test_values_that_fit_only_together_are_accepted(tmp_path):
    space = space_of(tmp_path, "model.heads: [2, 5]", "model.dim: [96, 100]")
    assert space.config({"model.heads": 5, "model.dim": 100}) is not None
    assert space.config({"model.heads": 5, "model.dim": 96}) is None


def test_values_are_what_the_configuration_makes_of_them(tmp_path):
    (rates,) = space_of(tmp_path, "train.lr: [1e-4, 1]").dimensions  # YAML 1.1 takes 1e-4 for text
    assert rates.choices == (0.0001, 1.0)
    (layers,) = space_of(tmp_path, "model.layers: {low: 2, high: 6, step: 2}").dimensions
    assert [layers.contains(value) for value in (2, 3, 4, 8)] == [True, False, True, False]


def test_every_leaf_that_training_reads_can_be_named(tmp_path):
    space = space_of(tmp_path, "seed: [1, 2]")
    paths = leaf_types()
    assert {"seed", "tokenizer.max_tokens", "model.wide.enabled", "train.pretrain.lr"} <= paths.keys()
    assert not any(path.startswith(("tune", "serve", "source")) for path in paths)
    for path in paths:
        value_at(space.base, path)
