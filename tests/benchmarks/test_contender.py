"""Contenders: settings that can't be followed are refused, validation is not timed, a failure shows its reason."""

import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import training_throughput
from benchmarks.peers.contender import Contender, Measured, run_contender, run_in_turn
from benchmarks.peers.field import PEERS, best_of, joeynmt_of_all_sizes
from benchmarks.peers.noria_training import _check
from benchmarks.peers.settings import Record, Settings
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.workloads.text_classification import write_text_classification
from noria.errors import ConfigError, TrainingError

TUTORIAL = Contender(
    "tutorial loop",
    "benchmarks.peers.tutorial_loop",
    {"threads": 1, "steps": 4, "num_warmup_steps": 2, "evaluate_every_steps": 2, "batch_size": 8},
)


def record(**changes):
    """A record with ten tokens in two seconds."""
    values = {
        "peer": "a",
        "work": "b",
        "real_tokens": 10,
        "target_tokens": 4,
        "seconds": 2.0,
        "steps": 1,
        "parameters": 1,
        "curve": [(1.0, 3.0), (2.0, 2.0)],
        "settings": {},
    }
    return Record(**{**values, **changes})


def test_a_record_survives_its_line():
    assert Record.from_json(record().to_json()) == record()


@pytest.mark.parametrize("wrong", [{"activation": "swish"}, {"precision": "fp16"}, {"steps": 10}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        Settings(**wrong)


def test_a_setting_that_a_peer_has_not_is_refused():
    with pytest.raises(ConfigError, match="no `compile=True`"):
        Settings(compile=True).without("a peer", compile=False)


@pytest.mark.parametrize("setting", [{"activation": "gelu"}, {"workers": 2}, {"batch_size": 8}, {"context": 64}])
def test_ours_refuses_what_it_can_not_follow(setting):
    with pytest.raises(ConfigError, match="Noria has no"):
        _check(Settings(**setting), work="translation")


def test_warm_up_and_validation_are_not_timed():
    watch = Stopwatch(Settings(steps=3, num_warmup_steps=1, evaluate_every_steps=2))
    watch.start()
    for step in range(3):
        watch.count(real_tokens=torch.tensor(10), target_tokens=2)
        time.sleep(0.2 if step == 0 else 0.01)
        if watch.step():
            with watch.validation() as losses:
                time.sleep(0.2)
                losses.append(1.0 / (step + 1))
    measured = watch.record(peer="a", work="b", model=torch.nn.Linear(2, 2))
    assert (measured.steps, measured.real_tokens, measured.target_tokens, measured.parameters) == (2, 20, 4, 6)
    assert 0.02 <= measured.seconds < 0.15
    assert [loss for _, loss in measured.curve] == [1 / 2, 1 / 3]
    assert measured.curve[1][0] < 0.35  # one warm-up sleep, and no validation


def test_time_to_a_loss_is_the_first_point_that_reaches_it():
    measured = Measured(TUTORIAL, (record(), record(curve=[(4.0, 2.0)]), record(curve=[(5.0, 9.0)])))
    assert measured.seconds_to_loss(2.0) == 4.0
    assert measured.seconds_to_loss(1.0) is None
    assert measured.final_loss == 2.0
    assert (measured.real_tokens_per_s, measured.target_tokens_per_s) == (5.0, 2.0)


def test_every_contender_of_a_work_has_a_name_of_its_own_and_valid_settings():
    for work, peers in PEERS.items():
        contenders = [*peers, *(best_of(work) if work != "language-modelling" else [])]
        assert len({contender.name for contender in contenders}) == len(contenders)
        for contender in contenders:
            Settings(**contender.settings)


def test_a_peer_whose_settings_are_not_swept_says_that_they_are_its_defaults():
    swept = {"Hugging Face Trainer, best", "JoeyNMT"}
    others = [peer for work in ("text-classification", "translation") for peer in PEERS[work] if peer.name not in swept]
    assert [peer.name for peer in others if "at its defaults" not in peer.note] == []


def test_the_quickest_batch_of_joeynmt_is_kept_and_all_are_tried_with_the_dropout_of_the_table(monkeypatch, tmp_path):
    tried = []

    def run(contender, workload):
        tried.append(contender)
        quick = contender.settings.get("batch_tokens") == 8_192
        return record(real_tokens=20 if quick else 10)

    monkeypatch.setattr(training_throughput, "run_contender", run)
    _, joeynmt = training_throughput.best_set("translation", tmp_path, dropout=0.1)
    assert (joeynmt.name, joeynmt.settings["batch_tokens"]) == ("JoeyNMT", 8_192)
    assert "at its defaults" not in joeynmt.note and "8192 tokens" in joeynmt.note
    assert {contender.settings["dropout"] for contender in tried} == {0.1}
    assert [c.settings["batch_tokens"] for c in tried if c.name == "JoeyNMT"] == [4_096, 8_192, 16_384]
    for contender in joeynmt_of_all_sizes():
        Settings(**contender.settings)


def test_the_environment_that_is_missing_is_named(tmp_path):
    with pytest.raises(TrainingError, match="environment") as raised:
        run_contender(TUTORIAL, tmp_path, python=tmp_path / "python")
    assert "make peers" in str(raised.value)


@pytest.mark.slow
def test_a_contender_that_fails_shows_why(tmp_path):
    with pytest.raises(TrainingError, match="there is no workload here"):
        run_contender(TUTORIAL, tmp_path, python=Path(sys.executable))


@pytest.mark.slow
def test_contenders_run_in_turn_and_the_same_seed_gives_the_same_losses(tmp_path):
    workload = write_text_classification(tmp_path / "workload", tiny=True)
    names = []
    other = Contender("other", TUTORIAL.module, TUTORIAL.settings)
    measured = run_in_turn(
        [TUTORIAL, other],
        workload.directory,
        repeats=2,
        python=Path(sys.executable),
        on_record=lambda contender, record: names.append(contender.name),
    )
    assert names == ["tutorial loop", "other"] * 2
    losses = {record.curve[-1][1] for one in measured.values() for record in one.records}
    assert len(losses) == 1
    assert measured["other"].real_tokens_per_s > 0
