"""The choice among candidates, and the bundle that comes of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from noria.artifacts import read_artifact
from noria.config import OptimizeConfig
from noria.errors import ExportError
from noria.evaluation.bootstrap import Estimate
from noria.evaluation.judged import read_validation
from noria.evaluation.latency import Latency
from noria.export.candidates import SIZES, Candidate, choose, judge_candidates
from noria.export.forms import build_graphs
from noria.export.reference import reference_of
from noria.export.report import front
from noria.training.checkpoint import load_trained
from tasks.optimize import optimize

CONFIG = OptimizeConfig()


def candidate(name: str, *, ms: float, passed: bool = True, verdict: str = "") -> Candidate:
    drop, latency = Estimate(0.001, 0.0, 0.002), {rows: Latency(ms, ms) for rows in SIZES}
    return Candidate(name, Path(name), 0.9, drop, latency=latency, passed=passed, verdict=verdict)


REFERENCE = candidate("pytorch", ms=10, passed=False)


def test_the_fastest_inside_the_budget_wins_and_says_why():
    chosen, reason = choose([REFERENCE, candidate("fp32", ms=5), candidate("int8", ms=2)], config=CONFIG)
    assert chosen.name == "int8"
    assert "5.0 times as fast as PyTorch" in reason


def test_a_faster_candidate_over_the_budget_is_passed_over_by_name():
    over = candidate("int8", ms=2, passed=False, verdict="loses 2.00 points, 0.50 are allowed")
    chosen, reason = choose([REFERENCE, candidate("fp32", ms=5), over], config=CONFIG)
    assert chosen.name == "fp32"
    assert "int8 was passed over: loses 2.00 points" in reason


def test_the_simplest_wins_a_tie():
    chosen, _ = choose([REFERENCE, candidate("fp32", ms=5.1), candidate("fused", ms=5.0)], config=CONFIG)
    assert chosen.name == "fp32"


def test_the_front_has_those_that_nothing_beats_in_speed_and_in_quality():
    slow, worse = replace(candidate("fp32", ms=5), metric=0.95), candidate("fused", ms=6)
    assert [each.name for each in front([REFERENCE, slow, worse, candidate("int8", ms=2)])] == ["int8", "fp32"]


def test_no_candidate_inside_the_budget_is_an_error_that_lists_them():
    over = candidate("int8", ms=2, passed=False, verdict="loses 2.00 points")
    with pytest.raises(ExportError) as caught:
        choose([REFERENCE, over], config=CONFIG)
    assert "int8: loses 2.00 points" in str(caught.value)


def test_a_form_that_is_no_candidate_is_checked_and_never_chosen(trained, tmp_path):
    checkpoint = load_trained(trained.checkpoint, scenario=trained.scenario)
    config = trained.config.optimize.model_copy(update={"candidates": ("int8",)})
    rows = read_validation(trained.splits)
    reference = reference_of(checkpoint.model, encoder=checkpoint.encoder, scenario=trained.scenario, rows=rows)
    graphs = build_graphs(reference, tmp_path, config=config)
    _, fp32, int8 = judge_candidates(reference, graphs, config=config, evaluate=trained.config.evaluate)
    assert fp32.name == "fp32" and not fp32.passed and "not in `optimize.candidates`" in fp32.verdict
    assert int8.name == "int8" and int8.passed
    lone = replace(reference, rows=rows[:1])
    with pytest.raises(ExportError, match="two validation rows"):
        build_graphs(lone, tmp_path, config=config)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_graph_that_answers_with_no_numbers_never_passes(optimized, tmp_path):
    checkpoint = load_trained(optimized.checkpoint, scenario=optimized.scenario)
    rows = read_validation(optimized.splits)
    reference = reference_of(checkpoint.model, encoder=checkpoint.encoder, scenario=optimized.scenario, rows=rows)
    graph = onnx.load(str(optimized.bundle / "model.onnx"))
    (last,) = (node for node in graph.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "straight"
    graph.graph.node.extend(
        [
            onnx.helper.make_node("Sub", ["straight", "straight"], ["zero"]),
            onnx.helper.make_node("Div", ["straight", "zero"], ["logits"]),
        ]
    )
    onnx.save(graph, str(tmp_path / "int8.onnx"))
    candidates = judge_candidates(
        reference,
        {"int8": tmp_path / "int8.onnx"},
        config=optimized.config.optimize,
        evaluate=optimized.config.evaluate,
    )
    assert not candidates[1].passed and "no number" in candidates[1].verdict


def test_the_bundle_is_complete_and_its_facts_lead_back_to_the_data(optimized):
    bundle = read_artifact(optimized.bundle)
    assert {"model.onnx", "config.json", "golden.json", "MODEL_CARD.md"} < set(bundle.files)
    assert not any(name.endswith((".pkl", ".pt", ".bin")) for name in bundle.files)
    assert bundle.facts["data_digest"] == read_artifact(optimized.splits).digest
    assert bundle.facts["checkpoint_digest"] == read_artifact(optimized.checkpoint).digest
    assert 0.5 < bundle.facts["metrics"]["accuracy"] <= 1
    assert bundle.facts["data_digest"] in (bundle.path / "MODEL_CARD.md").read_text()
    assert len(json.loads((bundle.path / "golden.json").read_text())) == 7  # the example, and three of each label


def test_the_report_has_every_candidate_and_one_is_chosen(optimized):
    with (optimized.optimization / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == ["pytorch", "fp32", "fused", "int8"]
    assert all(
        float(row[f"rows_{size}_p50_ms"]) > 0 and float(row[f"rows_{size}_p99_ms"]) > 0
        for row in rows
        for size in SIZES
    )
    assert all(float(row["memory_mib"]) > 10 and float(row["rows_per_s"]) > 0 for row in rows[1:])
    assert any(row["pareto"] for row in rows)
    (chosen,) = (row["candidate"] for row in rows if row["chosen"])
    assert json.loads((optimized.optimization / "metrics.json").read_text())["candidate"] == chosen
    assert f"**{chosen}** becomes the bundle" in optimize.summary(optimized)


@pytest.mark.slow
def test_an_equal_model_keeps_its_version_whatever_the_clock_said(workspace):
    first = read_artifact(workspace.bundle)
    params = workspace.params.read_text().replace("latency_repeats: 10", f"candidates: [{first.facts['candidate']}]")
    workspace.params.write_text(params)
    second = optimize.fn(type(workspace)(workspace.root))
    assert second.facts["latency_ms"] != first.facts["latency_ms"]
    assert second.digest == first.digest
