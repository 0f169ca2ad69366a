import json
import math
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from noria.training import report
from noria.training.report import (
    LEARNING_CURVE,
    RESOURCES,
    TABLE,
    _by_phase,
    draw_learning_curves,
    resources_table,
    write_training_report,
)
from noria.training.state import Point


def made_up_points() -> list[Point]:
    """Two phases like those of the default recipe: pretraining over 1,000 steps, then 500 with a hold-out."""
    rng = np.random.default_rng(0)
    points = []
    for phase, steps, peak, speed in (("pretrain", 1_000, 3e-3, 52_000), ("train", 500, 7e-4, 31_000)):
        for step in range(20, steps + 1, 20):
            lr = peak * min(1.0, step / (0.05 * steps)) * (1 - step / (steps + 20))
            values = {
                f"{phase}_loss": 3.5 + 5 * math.exp(-step / 150) if phase == "pretrain" else 0.7 - step / 1_500,
                "grad_norm": float(rng.lognormal(0.3, 0.6)) * (40 if step < 60 else 1),
                "lr": lr,
                "tokens_per_s": speed * float(rng.normal(1, 0.03)),
            }
            points.append(Point(step, values))
            if phase == "train" and step % 100 == 0:
                points.append(Point(step, {"holdout_loss": 0.6 - step / 2_000, "holdout_accuracy": 0.7 + step / 4_000}))
    points.append(Point(500, {"blend_loss": 0.3, "deep_accuracy": 0.85, "blend_accuracy": 0.87}))
    return points


def test_a_report_says_what_was_reached_and_what_was_used(tmp_path: Path) -> None:
    resources = {"wall_s": 162.0, "cpu_s": 300.0, "peak_memory_bytes": 1_230_000_000, "gpu_energy_j": None}
    resources |= {"mfu": {"pretrain": 0.4, "train": 0.31}, "precision": "bf16", "threads": 2, "compile": False}
    write_training_report(made_up_points(), tmp_path, resources=resources, best_loss=0.31)
    table = (tmp_path / TABLE).read_text()
    for line in (
        "| Transformer's hold-out loss, best epoch | 0.3100 |",
        "| hold-out accuracy, both | 0.8700 |",
        "| model FLOPs utilization | pretrain 40.0%, train 31.0% |",
        "| time | 2.7 min |",
        "| peak memory | 1.23 GB |",
        "| precision | bf16 |",
        "| compile | no |",
    ):
        assert line in table.splitlines()
    assert "energy" not in table  # not known here
    saved = json.loads((tmp_path / RESOURCES).read_text())
    assert 51_000 < saved["tokens_per_s"]["pretrain"] < 53_000 and saved["threads"] == 2
    picture = matplotlib.image.imread(tmp_path / LEARNING_CURVE)
    assert picture.shape[:2] == (640, 1380)  # three panels a row, two rows


def test_phases_follow_each_other_though_their_steps_begin_anew() -> None:
    curves = _by_phase(made_up_points(), "lr")
    assert list(curves) == ["pretrain", "train"]
    assert curves["pretrain"][-1][0] == 1_000
    assert curves["train"][0][0] == 1_020 and curves["train"][-1][0] == 1_500


def test_the_picture_has_a_line_for_each_of_two_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[str]] = {}
    monkeypatch.setattr(report, "_draw_panel", lambda axes, title, curves: drawn.update({title: list(curves)}))
    points = made_up_points()
    draw_learning_curves(points, tmp_path / "one.png")
    assert drawn["learning rate"] == ["pretrain", "train"]
    points = [Point(p.step, {**p.values, "muon_lr": 0.02} if "lr" in p.values else p.values) for p in points]
    draw_learning_curves(points, tmp_path / "two.png")
    assert drawn["learning rate"] == ["pretrain", "train", "pretrain, Muon", "train, Muon"]


def test_a_value_that_is_no_number_is_left_out_of_its_curve(tmp_path: Path) -> None:
    values = {"train_loss": math.nan, "grad_norm": math.inf, "lr": 0.1}
    points = [Point(1, values), Point(2, {"train_loss": 1.0, "grad_norm": 2.0, "lr": 0.1})]
    assert _by_phase(points, "grad_norm") == {"train": [(2, 2.0)]}
    draw_learning_curves(points, tmp_path / "curve.png")


def test_a_run_without_a_transformer_has_no_curves_and_still_a_report(tmp_path: Path) -> None:
    write_training_report([Point(0, {"blend_loss": 0.4, "wide_accuracy": 0.8})], tmp_path, resources={"wall_s": 7200.0})
    assert "| time | 2.00 h |" in (tmp_path / TABLE).read_text()
    assert (tmp_path / LEARNING_CURVE).exists()


def test_resources_are_told_in_units_that_people_read() -> None:
    table = resources_table(
        {"gpu_energy_j": 7.2e6, "cost": 0.0421, "tokens_per_s": 1234567.8, "micro_batch_tokens": 8192}
    )
    assert table.splitlines()[2:] == [
        "| tokens per second, median | 1,234,568 |",
        "| GPU energy | 2.00 kWh |",
        "| cost | 0.042 |",
        "| micro batch tokens | 8,192 |",
    ]
