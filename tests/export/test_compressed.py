"""Smaller models in the search: judged by the trained one, in every form, and what goes out if they are best."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from noria.artifacts import read_artifact
from noria.errors import ConfigError, ExportError
from noria.evaluation.judged import read_validation
from noria.export.candidates import choose, judge_candidates
from noria.export.forms import build_family, build_graphs
from noria.export.reference import Reference, reference_of
from noria.model.pruning import pruned
from noria.serving.bundle import open_bundle
from noria.serving.golden import prove
from noria.serving.predictor import Predictor
from noria.training.checkpoint import load_trained
from noria.workspace import Workspace
from tasks.optimize import optimize

LARGER = {"layers": 3, "dim": 64, "heads": 4, "feed_forward_dim": 128}
STUDENT = {"distill": {"layers": 1, "steps": 40}}


def changed(workspace: Workspace, **sections: dict[str, object]) -> Workspace:
    """The workspace with these settings, section by section."""
    params = yaml.safe_load(workspace.params.read_text())
    for section, values in sections.items():
        params[section] = {**(params.get(section) or {}), **values}
    workspace.params.write_text(yaml.safe_dump(params))
    return Workspace.at(workspace.root)


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> Workspace:
    """A workspace whose model has something to lose."""
    import tiny

    workspace = changed(tiny.make_workspace(tmp_path_factory.mktemp("larger") / "ws"), model=LARGER)
    tiny.train(workspace)
    return workspace


@pytest.fixture(scope="module")
def reference(larger) -> Reference:
    trained = load_trained(larger.checkpoint, scenario=larger.scenario)
    rows = read_validation(larger.splits)
    return reference_of(trained.model, encoder=trained.encoder, scenario=larger.scenario, rows=rows)


@pytest.fixture(scope="module")
def compressed(larger) -> Workspace:
    """Optimized with a student that is as good, and much faster."""
    settings = {"compress": STUDENT, "candidates": ["fp32", "int8"], "latency_repeats": 30}
    workspace = changed(larger, optimize={**settings, "max_quality_drop": 0.2})
    optimize.fn(workspace)
    return workspace


def rows_of(workspace: Workspace) -> list[dict[str, str]]:
    with (workspace.optimization / "candidates.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_smaller_model_is_tried_in_every_form_and_can_win(compressed):
    rows = rows_of(compressed)
    assert [row["candidate"] for row in rows] == ["pytorch", "fp32", "int8", "student-fp32", "student-int8"]
    (chosen,) = (row["candidate"] for row in rows if row["chosen"])
    assert chosen.startswith("student-")
    sizes = {row["candidate"]: float(row["size_mib"]) for row in rows[1:]}
    assert sizes["student-fp32"] < sizes["fp32"] and sizes["student-int8"] < sizes["int8"]


def test_what_won_is_what_is_served_and_says_how_it_was_made(compressed):
    bundle = read_artifact(compressed.bundle)
    how = str(bundle.facts["compressed"])
    assert how.startswith("1 of 3 layers (1), then 40 steps of training by the whole model's answers too")
    assert str(bundle.facts["candidate"]).startswith("student-") and f"student: {how}" in str(bundle.facts["reason"])
    assert f"Smaller than the model that was trained: {how}." in (bundle.path / "MODEL_CARD.md").read_text()
    predictor = Predictor(open_bundle(compressed.bundle))
    assert prove(predictor) == 7
    outputs = predictor.outputs(read_validation(compressed.splits))
    assert len(outputs) == 120


def test_the_report_says_what_was_made_and_how_long_that_took(compressed):
    values = json.loads((compressed.optimization / "metrics.json").read_text())["compress"]
    assert list(values) == ["student"]
    assert values["student"]["seconds"] > 0 and values["student"]["parameters"] > 0
    assert f"`student`: {values['student']['how']}" in optimize.summary(compressed)
    assert (compressed.optimization / "candidates.png").stat().st_size > 10_000


def test_graphs_of_a_pruned_model_say_what_it_says_in_pytorch(reference, larger, tmp_path):
    heads = {
        "deep.encoder.blocks.0.attention": torch.tensor([3]),
        "deep.encoder.blocks.2.attention": torch.tensor([0, 2]),
    }
    units = {"deep.encoder.blocks.1.feed_forward": torch.arange(0, 128, 4)}
    smaller = pruned(reference.model, heads=heads, units=units)
    config = larger.config.optimize.model_copy(update={"candidates": ("fp32", "fused", "fp16", "int8")})
    family = build_family("pruned", smaller, reference, tmp_path / "pruned", config=config)  # checks parity in fp32
    assert list(family) == ["pruned-fp32", "pruned-fused", "pruned-fp16", "pruned-int8"]
    whole = build_graphs(reference, tmp_path, config=config)
    for form in ("fp32", "fused"):
        assert family[f"pruned-{form}"].stat().st_size < whole[form].stat().st_size
    own = reference_of(smaller, encoder=reference.encoder, scenario=reference.scenario, rows=reference.rows)
    graphs = {"fp32": family["pruned-fp32"], "fused": family["pruned-fused"]}
    for candidate in judge_candidates(own, graphs, config=config, evaluate=larger.config.evaluate)[1:]:
        assert candidate.difference < 1e-4 and candidate.passed


class Fickle(torch.nn.Module):
    """A model that says something else once it is a graph."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        said = self.model(**inputs)
        return said * 1.01 if torch.compiler.is_exporting() else said


def test_a_family_whose_graph_is_not_what_pytorch_computes_is_passed_over_with_its_reason(reference, larger, tmp_path):
    config = larger.config.optimize.model_copy(update={"candidates": ("fp32",)})
    graphs = dict(build_graphs(reference, tmp_path, config=config))
    graphs |= build_family("pruned", Fickle(reference.model), reference, tmp_path / "pruned", config=config)
    assert isinstance(graphs["pruned"], ExportError)
    candidates = judge_candidates(reference, graphs, config=config, evaluate=larger.config.evaluate)
    chosen, reason = choose(candidates, config=config)
    assert chosen.name == "fp32" and "pruned was passed over: can't be built: pruned-fp32 does not compute" in reason


def test_a_compression_that_fails_changes_no_byte_of_the_bundle(larger, tmp_path):
    root = tmp_path / "ws"
    shutil.copytree(larger.root, root)
    off = changed(Workspace.at(root), optimize={"compress": {}, "candidates": ["fp32"]})
    without = optimize.fn(off)
    assert "compressed" not in without.facts and "device" not in without.facts
    assert "compress" not in json.loads((off.optimization / "metrics.json").read_text())
    failing = changed(off, optimize={"compress": {"prune": {"heads": 0.01}}})
    found = optimize.fn(failing)
    assert dict(found.files) == dict(without.files) and found.digest == without.digest
    assert "pruned was passed over: can't be built: nothing is to be taken out" in str(found.facts["reason"])
    assert "nothing is to be taken out" in optimize.summary(failing)


@pytest.mark.parametrize(
    ("sections", "key", "said"),
    [
        (
            {"optimize": {"compress": {"distill": {"layers": 3}}}},
            "optimize.compress.distill.layers",
            "below model.layers",
        ),
        (
            {"model": {"heads": 1}, "optimize": {"compress": {"prune": {"heads": 0.5}}}},
            "optimize.compress.prune.heads",
            "every attention keeps one",
        ),
        ({"train": {"loss": "mse"}, "optimize": {"compress": STUDENT}}, "train.loss", "teaches distributions"),
        ({"model": {"deep_weight": 0}, "optimize": {"compress": STUDENT}}, "model.deep_weight", "no Transformer"),
    ],
)
def test_what_can_not_be_compressed_is_refused_when_the_settings_are_read(larger, tmp_path, sections, key, said):
    root = Path(tmp_path / "ws")
    root.mkdir()
    shutil.copyfile(larger.params, root / "params.yaml")
    workspace = changed(Workspace.at(root), **{name: dict(values) for name, values in sections.items()})
    with pytest.raises(ConfigError, match=said) as caught:
        _ = workspace.config
    assert f"`{key}`" in caught.value.what and caught.value.where.endswith(f": {key}")
