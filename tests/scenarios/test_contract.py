"""What every scenario must keep: all nodes on a tiny source that the gate refuses at first, and a bundle that serves.

A scenario brings `tests/scenarios/tiny_<name>.py`: `SETTINGS` of a tiny model, and `write_source`.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import workspaces
import yaml
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import TO_BUNDLE, initialized

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.cli import main
from noria.config import CompressConfig, Config, ServeConfig
from noria.data.rows import ShardWriter, read_rows, read_schema
from noria.data.verdict import read_verdict
from noria.evaluation.inference import outputs_of
from noria.evaluation.judged import read_validation
from noria.evaluation.torch_run import torch_outputs
from noria.export.forms import build_family, build_graphs
from noria.export.onnx import check_parity
from noria.export.reference import reference_of
from noria.model.pruning import num_parameters
from noria.monitoring.baseline import read_baseline
from noria.monitoring.monitor import monitor
from noria.monitoring.report import SHIFTS, write_monitoring
from noria.report.page import run_page
from noria.report.run import ReportedRun, Step
from noria.scenarios import load_scenario, scenario_names
from noria.serving.app import create_app
from noria.serving.bundle import open_bundle
from noria.serving.golden import prove
from noria.serving.predictor import Predictor, onnx_run
from noria.serving.store import store_of
from noria.stage_code import used_code
from noria.training.checkpoint import Trained, load_trained
from noria.training.compress import Compressed, compress
from noria.workspace import Workspace
from tasks.check import check
from tasks.deploy import deploy
from tasks.ingest import ingest
from tasks.node import Node
from tasks.preprocess import preprocess
from tasks.update import update

FAIL_BRANCH: tuple[Node, ...] = (*TO_BUNDLE, deploy, update)
Make = Callable[[str, bool], Workspace]


@pytest.fixture(scope="module", params=scenario_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`noria init` on a tiny source."""

    def workspace(name: str, dirty: bool) -> Workspace:
        return initialized(name, tmp_path_factory.mktemp(name), dirty=dirty)

    return workspace


@pytest.fixture(scope="module")
def run(name: str, make: Make) -> tuple[Workspace, dict[str, Artifact]]:
    """Every node of the fail branch, in this process."""
    workspace = make(name, True)
    return workspace, {node.stage: node.fn(workspace) for node in FAIL_BRANCH}


@pytest.fixture(scope="module")
def flown(name: str, make: Make) -> Workspace:
    """`noria run`: every stage in a process of its own."""
    workspace = make(name, True)
    done = workspaces.noria("run", cwd=workspace.root)
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace


def test_the_defaults_are_a_valid_configuration_and_so_is_its_params_yaml(name: str, make: Make) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name and scenario.target in scenario.schema.names
    required = {"name": "a", "scenario": name, "source": {"path": "x"}}
    Config.model_validate({**scenario.defaults, **required})
    assert make(name, False).config.scenario == name


def test_clean_data_passes_the_gate_at_once(name: str, make: Make) -> None:
    workspace = make(name, False)
    for node in (ingest, preprocess, check):
        verdict = node.fn(workspace)
    assert verdict.facts["passed"], [judgement.name for judgement in read_verdict(verdict.path).failed]


def test_planted_faults_fail_the_gate_and_cleaned_rows_pass_it(run: tuple[Workspace, dict[str, Artifact]]) -> None:
    workspace, made = run
    assert not made["check"].facts["passed"]
    failed = [judgement.name for judgement in read_verdict(workspace.quality("recheck")).failed]
    assert made["recheck"].facts["passed"], failed
    assert made["clean"].counts["quarantined"] > 0


def test_every_row_is_accounted_for(run: tuple[Workspace, dict[str, Artifact]]) -> None:
    workspace, made = run
    rows = made["ingest"].counts["rows"]
    splits = made["split"].counts
    refused = made["clean"].counts["quarantined"] + splits["quarantined"]
    assert splits["train"] + splits["validation"] + refused == rows + made["augment"].counts["added"]
    assert not {row["id"] for row in read_validation(workspace.splits)} & _train_ids(workspace)


def _train_ids(workspace: Workspace) -> set[object]:
    from noria.data.rows import read_rows

    return {row["id"] for row in read_rows(workspace.splits / "train")}


def test_the_model_learned_more_than_a_trivial_answer(run: tuple[Workspace, dict[str, Artifact]]) -> None:
    _, made = run
    assert made["update"].facts["decision"] == "promote"


def test_the_report_of_a_run_tells_of_every_node_in_one_file(run: tuple[Workspace, dict[str, Artifact]]) -> None:
    workspace, made = run
    begun = datetime.now(UTC)
    steps = tuple(Step(stage, "ran", begun, 1.0, 0.5) for stage in made)
    page = run_page(workspace, ReportedRun("a", "pipeline", "completed", begun, steps=steps))
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        *("What ran", "Verdict", "Rows", "Quality check", "Quality check, again", "Quarantine"),
        *("Training", "Evaluation", "Optimization", "Lineage", "Environment"),
    ]
    assert "Of an earlier run" not in page
    assert page.count("data:image/png") >= 3
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_the_graph_computes_what_pytorch_computes_row_by_row_and_in_batches(
    run: tuple[Workspace, dict[str, Artifact]], tmp_path: Any
) -> None:
    workspace, _ = run
    scenario = workspace.scenario
    trained = load_trained(workspace.checkpoint, scenario=scenario)
    rows = read_validation(workspace.splits)[:40]
    reference = reference_of(trained.model, encoder=trained.encoder, scenario=scenario, rows=rows)
    graph = build_graphs(reference, tmp_path, config=workspace.config.optimize)["fp32"]
    check_parity(reference.outputs, outputs_of(rows, encoder=trained.encoder, run=onnx_run(graph)), name="fp32")
    alone = [torch_outputs(trained.model, [row], encoder=trained.encoder)[0] for row in rows[:5]]
    found = [outputs_of([row], encoder=trained.encoder, run=onnx_run(graph))[0] for row in rows[:5]]
    check_parity(alone, found, name="fp32")

    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.integers(0, len(rows) - 1), st.integers(0, 400), st.text(max_size=40)), min_size=1))
    def computes_it_of_anything(chosen: list[tuple[int, int, str]]) -> None:
        names = {*scenario.request.model_fields, "text"}
        changed = [_changed(rows[place], names, cut, more) for place, cut, more in chosen]
        expected = torch_outputs(trained.model, changed, encoder=trained.encoder)
        check_parity(expected, outputs_of(changed, encoder=trained.encoder, run=onnx_run(graph)), name="fp32")

    computes_it_of_anything()


def _changed(row: Mapping[str, object], names: set[str], cut: int, more: str) -> Mapping[str, object]:
    """A row whose texts are cut off and go on with anything, and whose lists are shorter."""
    texts = {name: value[:cut] + more for name, value in row.items() if name in names and isinstance(value, str)}
    return {**row, **texts, **{name: value[:cut] for name, value in row.items() if isinstance(value, list)}}


def test_the_server_answers_the_example_and_the_golden_requests(run: tuple[Workspace, dict[str, Artifact]]) -> None:
    workspace, _ = run
    scenario = workspace.scenario
    predictor = Predictor(open_bundle(workspace.bundle))
    assert prove(predictor) > 1
    client = TestClient(create_app({"model": predictor}, config=ServeConfig()), base_url="http://localhost")
    answer = client.post("/predict", json=dict(scenario.example))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.pop("model_version") == predictor.version
    scenario.response.model_validate(body)
    assert client.post("/predict", json={"nonsense": 1}).status_code == 422
    paths = client.get("/openapi.json").json()["paths"]
    documented = paths["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]
    tensors = client.post("/v2/models/model/infer", json=documented["examples"]["model"]["value"])
    assert tensors.status_code == 200, tensors.text
    assert [output["name"] for output in tensors.json()["outputs"]] == list(scenario.response.model_fields)


def test_arrivals_are_compared_with_what_the_champion_was_made_of(
    run: tuple[Workspace, dict[str, Artifact]], tmp_path: Path
) -> None:
    workspace, artifacts = run
    store = store_of(workspace)
    baseline = read_baseline(store.baselines.fetch(str(artifacts["deploy"].facts["version"])))
    assert len(baseline.known) == artifacts["ingest"].counts["rows"]
    rows = [{**row, "id": f"new-{row['id']}"} for row in read_rows(workspace.cleaned)]
    with (
        write_artifact(tmp_path / "arrivals", kind="arrivals") as draft,
        ShardWriter(draft.path / "rows", read_schema(workspace.preprocessed)) as shards,
    ):
        shards.write_rows(rows)
    arrivals = read_artifact(tmp_path / "arrivals")
    found = monitor(arrivals, store, scenario=workspace.scenario, config=workspace.config, known_rows=tmp_path / "none")
    assert found.metric is not None and found.metric.name == baseline.metric.name
    assert np.isfinite([found.metric.low, found.metric.drop, *(one.value for one in found.features)]).all()
    assert {one.kind for one in found.features} >= {"number", "vector"}
    assert any(one.name.startswith("answer: ") for one in found.features)
    assert not any(one.drifted for one in found.features if not one.name.startswith("answer: ")), found.features
    write_monitoring(tmp_path / "report", found, parents=(arrivals,))
    assert (tmp_path / "report" / SHIFTS).stat().st_size > 5_000


def test_a_request_on_the_command_line_is_answered(
    run: tuple[Workspace, dict[str, Artifact]], capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    workspace, _ = run
    (tmp_path / "in.jsonl").write_text(json.dumps(dict(workspace.scenario.example), ensure_ascii=False) + "\n")
    assert main(["predict", "--file", str(tmp_path / "in.jsonl"), "--json", "-C", str(workspace.root)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(workspace.scenario.response.model_fields) <= answer.keys()


@pytest.mark.slow
def test_smaller_models_are_made_and_their_graphs_compute_what_they_do(flown: Workspace, tmp_path: Path) -> None:
    scenario = flown.scenario
    trained = load_trained(flown.checkpoint, scenario=scenario)
    deeper = trained.config.model_copy(update={"model": trained.config.model.model_copy(update={"layers": 2})})
    torch.manual_seed(1)
    model = scenario.build_model(deeper, trained.encoder).eval()
    config = CompressConfig.model_validate(
        {
            "prune": {"heads": 0.5, "feed_forward": 0.5, "batches": 1, "steps": 2},
            "distill": {"layers": 1, "steps": 2},
        }
    )
    made = compress(Trained(model, trained.encoder, deeper), flown.splits, scenario=scenario, config=config)
    rows = read_validation(flown.splits)[:20]
    reference = reference_of(model, encoder=trained.encoder, scenario=scenario, rows=rows)
    forms = flown.config.optimize.model_copy(update={"candidates": ("fp32", "fp16")})
    for name in ("pruned", "student"):
        smaller = made[name]
        assert isinstance(smaller, Compressed), smaller
        assert "by the whole model's answers too" in smaller.how
        assert smaller.parameters < num_parameters(model)
        family = build_family(name, smaller.model, reference, tmp_path / name, config=forms)
        assert list(family) == [f"{name}-fp32", f"{name}-fp16"], family
        for graph in family.values():
            assert not isinstance(graph, Exception), graph
            assert len(outputs_of(rows, encoder=trained.encoder, run=onnx_run(graph))) == len(rows)


@pytest.mark.slow
def test_noria_run_takes_it_through_the_flow_and_its_stages_depend_on_the_code_that_they_use(flown: Workspace) -> None:
    stages = yaml.safe_load((flown.root / "dvc.yaml").read_text())["stages"]
    for stage, used in used_code(flown.root, list(stages)).items():
        listed = {dep.removeprefix("${code}/") for dep in stages[stage]["deps"] if dep.startswith("${code}/")}
        assert listed == set(used), f"python -m noria.stage_code {flown.root}"
    assert read_artifact(flown.verdict).facts["decision"] == "promote"
