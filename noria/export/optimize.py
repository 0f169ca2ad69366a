"""From a checkpoint to a bundle: candidates, the choice among them, the report."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from noria.artifacts import Artifact
from noria.config import Config
from noria.data.rows import count_rows
from noria.evaluation.inference import num_cores, outputs_of
from noria.evaluation.judged import read_validation
from noria.evaluation.metrics import main_metric
from noria.evaluation.report import evaluate_judged
from noria.export.bundle import write_bundle
from noria.export.candidates import Candidate, choose, judge_candidates
from noria.export.cards import Origin
from noria.export.forms import CALIBRATED, build_family, build_graphs
from noria.export.reference import Reference, read_calibration, reference_of
from noria.export.report import write_optimization
from noria.scenarios.base import Scenario
from noria.serving.predictor import onnx_run
from noria.training.checkpoint import load_trained
from noria.training.compress import Compressed, compress

logger = logging.getLogger(__name__)


def optimize_checkpoint(
    checkpoint: Artifact,
    splits: Artifact,
    bundle: Path,
    report: Path,
    *,
    scenario: Scenario,
    config: Config,
    git_commit: str | None,
    resources: Mapping[str, object] = MappingProxyType({}),
) -> Artifact:
    """Write `models/bundle/` and `reports/optimization/`; returns the bundle. `resources` are what training took.

    Raises
    ------
    ExportError
        When the export does not compute what PyTorch computes, or no candidate stays in the budget.
    """
    trained = load_trained(checkpoint.path, scenario=scenario)
    rows = read_validation(splits.path)
    calibration = read_calibration(splits.path) if CALIBRATED in config.optimize.candidates else ()
    reference = reference_of(
        trained.model, encoder=trained.encoder, scenario=scenario, rows=rows, calibration=calibration
    )
    smaller = compress(trained, splits.path, scenario=scenario, config=config.optimize.compress, ran=checkpoint.facts)
    with tempfile.TemporaryDirectory(prefix="noria-export-") as directory:
        candidates = _candidates(reference, smaller, Path(directory), config=config)
        chosen, reason = choose(candidates, config=config.optimize)
        assert chosen.path is not None
        logger.info("%s", reason)
        run = onnx_run(chosen.path, device=config.optimize.device)
        outputs = outputs_of(rows, encoder=trained.encoder, run=run, workers=num_cores())
        judged = scenario.judge(rows, outputs, trained.encoder)
        evaluation = evaluate_judged(judged, config=config.evaluate, seed=config.seed)
        parents, metric = (splits, checkpoint), main_metric(judged)[0]
        write_optimization(
            report, candidates, chosen=chosen, reason=reason, metric=metric, compressed=smaller, parents=parents
        )
        return write_bundle(
            bundle,
            chosen,
            reason=reason,
            evaluation=evaluation,
            encoder=trained.encoder,
            scenario=scenario,
            config=config,
            rows=rows,
            origin=Origin(splits, checkpoint.digest, count_rows(splits.path / "train"), git_commit),
            resources=resources,
            parents=parents,
        )


def _candidates(
    reference: Reference, smaller: Mapping[str, Compressed | Exception], directory: Path, *, config: Config
) -> list[Candidate]:
    """Every form of the model as it was trained, and of the smaller ones, judged and timed together."""
    optimize = config.optimize
    graphs = dict(build_graphs(reference, directory, config=optimize))
    for name, made in smaller.items():
        if isinstance(made, Compressed):
            graphs |= build_family(name, made.model, reference, directory / name, config=optimize)
        else:
            graphs[name] = made
    candidates = judge_candidates(reference, graphs, config=optimize, evaluate=config.evaluate, seed=config.seed)
    return [_with_origin(candidate, smaller) for candidate in candidates]


def _with_origin(candidate: Candidate, smaller: Mapping[str, Compressed | Exception]) -> Candidate:
    """The candidate, with how the model that it is a form of was made."""
    made = smaller.get(candidate.name.partition("-")[0])
    return replace(candidate, compressed=made.how) if isinstance(made, Compressed) else candidate
