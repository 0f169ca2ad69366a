"""What is saved reads back, or what was saved before it does."""

import errno
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_fixtures import branch, labels, phase_of, run_of, same_weights, some_tokens, step

from noria.model.text_classifier import DeepBranch
from noria.training import state as states
from noria.training.optimizers import build_optimizers
from noria.training.state import Choices, Point, StateStore, Sums, TrainingState, optimizer_states, restore


def store(directory: Path) -> StateStore:
    return StateStore(directory, fingerprint="this training")


def saved_twice(directory: Path) -> DeepBranch:
    deep = branch()
    run = run_of(phase_of(labels(some_tokens(), batch_tokens=64), deep, lr=1e-3), optimizer="muon")
    saves = store(directory)
    for number in (1, 2):
        step(run, number)
        state = TrainingState(phase="train", step=number, history=[Point(number, {"loss": 0.5})])
        saves.save(state, model=deep, optimizers=run.optimizers)
    saves.wait()
    return deep


def newest(directory: Path) -> Path:
    return sorted(directory.glob("state-*.safetensors"))[-1]


def test_a_saved_state_reads_back(tmp_path: Path) -> None:
    deep = saved_twice(tmp_path)
    saved = store(tmp_path).load()
    assert saved is not None and saved.state.step == 2 and saved.state.history == [Point(2, {"loss": 0.5})]
    assert same_weights(saved.model, deep.state_dict())
    optimizers = build_optimizers("muon", deep, matrices=deep.encoder, lr=1e-3, muon_lr=0.02, weight_decay=0.0)
    restore(deep, optimizers, saved)
    assert len(optimizers[0].state) == 4 and "exp_avg" in next(iter(optimizers[1].state.values()))


def test_every_field_of_the_state_reads_back(tmp_path: Path) -> None:
    state = TrainingState(
        phase="train",
        step=7,
        choices=Choices("bf16", 2, True, 4, 2),
        since_report=Sums(0.1, 3),
        since_epoch=Sums(1 / 3, 7),
        recent=[0.1, 0.7],
        first_loss=0.7,
        skipped=2,
        skipped_in_a_row=1,
        rollbacks=1,
        rate=0.5,
        best_loss=0.25,
        best_epoch=3,
        epochs_since_best=2,
        best={"w": torch.randn(2, 3)},
        average={"w": torch.randn(2, 3).double()},
        history=[Point(1, {"a": 0.1}), Point(2, {})],
        usage={"wall_s": 1.5, "energy_j": None},
        ran={"precision": "bf16", "parts": 2},
    )
    saves = store(tmp_path)
    saves.save(state, model=branch())
    found = saves.load()
    assert found is not None
    for name, value in vars(state).items():
        if name in ("best", "average"):
            assert same_weights(getattr(found.state, name), value)
        else:
            assert getattr(found.state, name) == value, name
    assert found.state.lowest_loss == float("inf")


def test_optimizers_go_on_as_if_they_had_never_stopped(tmp_path: Path) -> None:
    found = []
    for interrupted in (False, True):
        deep = branch()
        run = run_of(phase_of(labels(some_tokens(), batch_tokens=64), deep, lr=1e-2), optimizer="muon")
        step(run, 0)
        step(run, 1)
        if interrupted:
            saves = store(tmp_path)
            saves.save(TrainingState(phase="train"), model=deep, optimizers=run.optimizers)
            saved = saves.load()
            assert saved is not None
            deep = branch(seed=5)
            run = run_of(phase_of(labels(some_tokens(), batch_tokens=64), deep, lr=1e-2), optimizer="muon")
            step(run, 4)  # to be forgotten
            restore(deep, run.optimizers, saved)
        step(run, 2)
        found.append({**deep.state_dict()})
        assert len(optimizer_states(deep, run.optimizers)) > 4
    assert same_weights(found[0], found[1])


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_state_falls_back_to_the_one_before(damage: str, tmp_path: Path) -> None:
    saved_twice(tmp_path)
    content = bytearray(newest(tmp_path).read_bytes())
    content[-5] ^= 1
    newest(tmp_path).write_bytes({"truncate": content[:-100], "flip": bytes(content), "empty": b""}[damage])
    saved = store(tmp_path).load()
    assert saved is not None and saved.state.step == 1


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), head=st.booleans())
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_bit_anywhere_is_noticed(
    share: float, bit: int, head: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the tensors and in the header, where the progress is; only blanks that pad the header may change."""
    directory = tmp_path_factory.mktemp("flipped")
    deep = saved_twice(directory)
    content = bytearray(newest(directory).read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[int(share * (header if head else len(content)))] ^= 1 << bit
    newest(directory).write_bytes(content)
    saved = store(directory).load()
    assert saved is not None
    if saved.state.step == 2:
        assert saved.state.history == [Point(2, {"loss": 0.5})] and same_weights(saved.model, deep.state_dict())
    else:
        assert saved.state.step == 1


def test_a_damaged_name_of_the_training_is_damage(tmp_path: Path) -> None:
    saved_twice(tmp_path)
    newest(tmp_path).write_bytes(newest(tmp_path).read_bytes().replace(b"this training", b"thys training"))
    saved = store(tmp_path).load()
    assert saved is not None and saved.state.step == 1


def test_a_state_of_another_training_is_not_taken(tmp_path: Path) -> None:
    saved_twice(tmp_path)
    assert StateStore(tmp_path, fingerprint="another").load() is None


@pytest.mark.parametrize("fault", ["damage", "another training"])
def test_a_state_that_was_fallen_back_to_outlives_the_next_save(fault: str, tmp_path: Path) -> None:
    saved_twice(tmp_path)
    if fault == "damage":
        newest(tmp_path).write_bytes(b"")
    else:
        other = StateStore(tmp_path, fingerprint="another")
        other.save(TrainingState(phase="train", step=9), model=branch())
        other.wait()
    saves = store(tmp_path)
    found = saves.load()
    assert found is not None
    step_before = found.state.step
    saves.save(TrainingState(phase="train", step=3), model=branch())
    saves.wait()
    assert len(list(tmp_path.iterdir())) == 2
    newest(tmp_path).write_bytes(b"")
    found = store(tmp_path).load()
    assert found is not None and found.state.step == step_before


def test_a_half_written_state_is_not_looked_at_and_the_next_takes_its_place(tmp_path: Path) -> None:
    saved_twice(tmp_path)
    (tmp_path / "state-000002.partial").write_bytes(newest(tmp_path).read_bytes()[:1000])
    saves = store(tmp_path)
    found = saves.load()
    assert found is not None and found.state.step == 2
    saves.save(TrainingState(phase="train", step=3), model=branch())
    found = saves.load()
    assert found is not None and found.state.step == 3
    assert not list(tmp_path.glob("*.partial"))


def test_the_last_two_saves_are_kept(tmp_path: Path) -> None:
    saves = store(tmp_path)
    for number in range(5):
        saves.save(TrainingState(phase="train", step=number), model=branch())
    saves.wait()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_on_disk_is_what_there_was_at_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer is held up until the weights and the progress have changed."""
    changed, write = threading.Event(), states.save_file

    def late(*args: object, **kwargs: object) -> None:
        assert changed.wait(30)
        write(*args, **kwargs)

    monkeypatch.setattr(states, "save_file", late)
    deep = branch()
    state = TrainingState(phase="train", step=1, best={"head.query": torch.ones(16)}, history=[Point(1, {"a": 1.0})])
    before = {name: tensor.clone() for name, tensor in deep.state_dict().items()}
    saves = store(tmp_path)
    saves.save(state, model=deep)
    with torch.no_grad():
        for tensor in [*deep.parameters(), *state.best.values()]:
            tensor.zero_()
    state.step = 2
    state.history.append(Point(2, {"a": 2.0}))
    changed.set()
    saved = saves.load()
    assert saved is not None and saved.state.step == 1 and saved.state.history == [Point(1, {"a": 1.0})]
    assert same_weights(saved.model, before)
    assert torch.equal(saved.state.best["head.query"], torch.ones(16))


@contextmanager
def full_disk() -> Iterator[None]:
    """The kernel refuses files above 1,000 bytes, as it would refuse those that find no room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_whoever_waits_for_a_save_that_fails_hears_of_it(tmp_path: Path) -> None:
    saves = store(tmp_path)
    with full_disk():
        saves.save(TrainingState(phase="train"), model=branch())
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            saves.wait()
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.glob("state-*")) and not list(tmp_path.glob("*.tmp*"))


def test_a_save_that_fails_is_a_warning_to_the_next_and_the_one_before_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved_twice(tmp_path)
    saves = store(tmp_path)
    with full_disk():
        saves.save(TrainingState(phase="train", step=3), model=branch())
        saves.settle()
    assert "could not be saved" in caplog.text
    found = saves.load()
    assert found is not None and found.state.step == 2
    saves.save(TrainingState(phase="train", step=4), model=branch())
    found = saves.load()
    assert found is not None and found.state.step == 4


def test_a_directory_that_can_not_be_made_is_a_failed_save_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    saves = store(tmp_path / "file" / "state")
    saves.save(TrainingState(phase="train"), model=branch())
    with pytest.raises(OSError):
        saves.wait()
