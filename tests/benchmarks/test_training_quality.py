"""Time to quality: ours is held against the best of the Trainer's settings; a loss that is not reached is missed."""

from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import training_quality
from benchmarks.peers.contender import Contender, Measured
from benchmarks.peers.settings import Record
from benchmarks.table import _verdict
from noria.errors import TrainingError

TRAINER = Contender("Hugging Face Trainer, best", "benchmarks.peers.hugging_face_trainer", {"batch_size": 8})
FINALS = {(2e-4, 0.0): 0.5, (2e-4, 0.1): 0.4, (3e-4, 0.0): 0.6, (3e-4, 0.1): 0.45}


def record(*curve: tuple[float, float]) -> Record:
    return Record(
        peer="any",
        work="text-classification",
        real_tokens=10,
        target_tokens=4,
        seconds=2.0,
        steps=1,
        parameters=1,
        curve=[*curve],
        settings={},
    )


@pytest.mark.parametrize(
    ("ours", "seconds", "ratio", "verdict"),
    [([(9.0, 0.5), (30.0, 0.4)], 30.0, 0.3, "kept"), ([(9.0, 0.5)], 9.0, None, "**missed**")],
    ids=["reached", "not reached"],
)
def test_ours_is_held_against_the_best_loss_of_the_trainer(
    monkeypatch: pytest.MonkeyPatch,
    ours: list[tuple[float, float]],
    seconds: float,
    ratio: float | None,
    verdict: str,
) -> None:
    def run(trainer: Contender, workload: Path) -> Record:
        return record((100.0, FINALS[trainer.settings["lr"], trainer.settings["dropout"]]))

    def in_turn(contenders: list[Contender], workload: Path, **_: object) -> dict[str, Measured]:
        noria, trainer = contenders
        return {
            noria.name: Measured(noria, (record(*ours),)),
            trainer.name: Measured(trainer, (run(trainer, workload),)),
        }

    monkeypatch.setattr(training_quality, "best_set", lambda work, workload: [TRAINER])
    monkeypatch.setattr(training_quality, "run_contender", run)
    monkeypatch.setattr(training_quality, "run_in_turn", in_turn)
    (row,) = training_quality.measure(Path("anywhere"), num_rows=800)
    assert "(0.4000)" in row.claim and "lr 0.0002, dropout 0.1" in str(row.peer)
    assert (row.ours, row.ratio) == (seconds, ratio)
    assert _verdict({**asdict(row), "ratio": row.ratio}) == verdict


def test_a_trainer_that_has_learned_nothing_is_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_quality, "best_set", lambda work, workload: [TRAINER])
    monkeypatch.setattr(training_quality, "run_contender", lambda trainer, workload: record((100.0, 0.69)))
    with pytest.raises(TrainingError, match="learned nothing"):
        training_quality.measure(Path("anywhere"), num_rows=800)
