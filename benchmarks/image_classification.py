"""Quality of image classification against a support vector machine on raw pixels, on the run's own split.

    noria init DIR --scenario image-classification && noria run -C DIR
    python -m benchmarks.image_classification DIR

takes the last run of the workspace: its bundle, its split. The peer is an SVM with an RBF kernel on the pixels that
our encoder gives (of 1), whose C and gamma are picked on a tenth of the training rows, and which is then fitted to all
of them. Both answer the same validation rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import cast

import numpy as np
from sklearn.svm import SVC

from benchmarks.results import Row, write_results
from noria.artifacts import read_artifact
from noria.config import EvaluateConfig
from noria.data.image_encoder import ImageEncoder
from noria.data.rows import read_rows
from noria.evaluation.bootstrap import paired_difference
from noria.evaluation.inference import LOGITS
from noria.evaluation.judged import Judged, read_validation
from noria.evaluation.metrics import value
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.training.report import RESOURCES
from noria.workspace import Workspace

ACCURACY_BAR = 0.97
TRAINING_BAR_S = 300.0
COSTS = (3.0, 10.0, 30.0)
GAMMAS = (0.01, 0.02, 0.04)
_PICKING_SHARE = 0.1


def fitted_svm(pixels_NP: np.ndarray, classes_N: np.ndarray) -> tuple[SVC, float]:
    """The machine with the best C and gamma for a tenth of the rows, fitted to all; and the seconds it all took."""
    started = time.monotonic()
    picks_N = np.random.default_rng(0).random(len(classes_N)) < _PICKING_SHARE

    def accuracy(settings: tuple[float, float]) -> float:
        machine = SVC(C=settings[0], gamma=settings[1]).fit(pixels_NP[~picks_N], classes_N[~picks_N])
        return float(machine.score(pixels_NP[picks_N], classes_N[picks_N]))

    cost, gamma = max(itertools.product(COSTS, GAMMAS), key=accuracy)
    return SVC(C=cost, gamma=gamma).fit(pixels_NP, classes_N), time.monotonic() - started


def judged_by_both(workspace: Workspace) -> tuple[Judged, Judged, SVC, float]:
    """The bundle's answers, the SVM's on the same rows, the SVM, and the seconds that it took."""
    bundle = open_bundle(workspace.bundle)
    encoder, scenario = bundle.encoder, bundle.scenario
    assert isinstance(encoder, ImageEncoder)
    validation = read_validation(workspace.splits)
    training = [row for row in read_rows(workspace.splits / "train") if row["parent_id"] is None]
    ours = scenario.judge(validation, Predictor(bundle, workers=2).outputs(validation), encoder)

    def pixels_of(rows: list[dict[str, object]]) -> np.ndarray:
        return np.stack([encoded["pixels"] for encoded in encoder.encode_batch(rows)]).astype(np.float32) / 255

    machine, fit_s = fitted_svm(pixels_of(training), np.array([str(row["label"]) for row in training]))
    said = machine.predict(pixels_of(validation))
    logits_NC = np.where(said[:, None] == np.array(encoder.labels), 30.0, 0.0)
    theirs = scenario.judge(validation, [{LOGITS: logits_C} for logits_C in logits_NC], encoder)
    return ours, theirs, machine, fit_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace.at(parser.parse_args().workspace)
    ours, theirs, machine, fit_s = judged_by_both(workspace)
    accuracy = ours.metrics["accuracy"]
    gain = paired_difference(accuracy, ours, theirs, config=EvaluateConfig(), seed=1)
    both = [round(value(accuracy, judged), 4) for judged in (ours, theirs)]
    print(f"accuracy: {both[0]:.4f} against {both[1]:.4f}: {gain.points()}; the SVM took {fit_s:.0f} s")
    used = json.loads((workspace.training_report / RESOURCES).read_text(encoding="utf-8"))
    latency = cast("dict[str, float]", read_artifact(workspace.bundle).facts["latency_ms"])
    peer = f"RBF-SVM on raw pixels (C = {machine.C:g}, gamma = {machine.gamma:g})"
    claim = f"accuracy on {ours.num_rows:,} held-out images"
    rows = [
        Row(claim, "fraction", both[0], bar=ACCURACY_BAR),
        Row(claim, "fraction", both[0], peer=peer, theirs=both[1], bar=1.0),
        Row("training", "s", round(used["wall_s"], 1), bar=TRAINING_BAR_S, higher_is_better=False),
        Row("p50 of one image, one thread", "ms", latency["rows_1"], higher_is_better=False),
    ]
    print(write_results("image_classification", rows, packages=("torch", "onnxruntime", "scikit-learn", "pillow")))


if __name__ == "__main__":
    main()
