"""Smaller models of a trained one learn from its answers, the same way each time; one that can't be made is told."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import nn
from training_fixtures import (
    SCENARIO,
    branch,
    labels,
    same_weights,
    some_tokens,
    tiny_checkpoint,
    tiny_config,
    tiny_splits,
)

from noria.artifacts import Artifact
from noria.config import CompressConfig
from noria.model.pruning import num_layers, num_parameters
from noria.training.checkpoint import Trained, load_trained
from noria.training.compress import Compressed, Distilled, compress
from noria.training.data import TrainingSide
from noria.training.losses import Projected, distillation

BOTH: Mapping[str, object] = {
    "prune": {"heads": 0.5, "feed_forward": 0.5, "batches": 4, "steps": 30},
    "distill": {"layers": 1, "steps": 30},
}


def settings(**changes: Mapping[str, object]) -> CompressConfig:
    """Both means; `changes` are of one."""
    return CompressConfig.model_validate({name: {**BOTH[name], **changes.get(name, {})} for name in BOTH})


@pytest.fixture(scope="module")
def splits(tmp_path_factory) -> Artifact:
    return tiny_splits(tmp_path_factory.mktemp("compress") / "splits")


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory) -> Trained:
    config = tiny_config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"layers": 3})})
    path = tmp_path_factory.mktemp("compress") / "checkpoint"
    return load_trained(tiny_checkpoint(path, splits=splits, config=config).path, scenario=SCENARIO)


@pytest.fixture(scope="module")
def made(trained, splits) -> Mapping[str, Compressed | Exception]:
    return compress(trained, splits.path, scenario=SCENARIO, config=settings())


def model_of(made: Mapping[str, Compressed | Exception], name: str) -> nn.Module:
    found = made[name]
    assert isinstance(found, Compressed), found
    return found.model


def deep_loss(model: nn.Module, trained: Trained, splits: Artifact, tmp_path) -> float:
    """Cross entropy a row of the Transformer alone, on all training rows as they are."""
    side = TrainingSide(splits.path / "train", scenario=SCENARIO, holdout_share=0.2)
    rows = side.encode(trained.encoder, scratch=tmp_path)
    token_ids, classes = rows.tensor("token_ids", holdout=False), rows.classes(holdout=False)
    with torch.inference_mode():
        said = [model.deep(torch.from_numpy(token_ids[row].astype("int64"))[None]) for row in range(len(classes))]
    return float(nn.functional.cross_entropy(torch.cat(said), torch.from_numpy(classes)))


def test_both_are_smaller_and_say_how_they_were_made(made, trained):
    whole = num_parameters(trained.model)
    pruned, student = model_of(made, "pruned"), model_of(made, "student")
    assert num_parameters(pruned) < whole and num_parameters(student) < whole
    assert (num_layers(trained.model), num_layers(pruned), num_layers(student)) == (3, 3, 1)
    assert made["pruned"].how == (
        "3 of 6 attention heads and 40 of 96 feed-forward units taken out, then 30 steps of training by the whole "
        f"model's answers too; {num_parameters(pruned):,} of {whole:,} parameters are left"
    )
    assert made["student"].how.startswith("1 of 3 layers (1), then 30 steps")
    assert made["student"].parameters == num_parameters(student) and made["student"].seconds > 0
    for model in (pruned, student):
        assert not model.training and model.deep.compute_dtype == torch.float32


def test_the_trained_model_stays_as_it_is(trained, splits):
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    compress(trained, splits.path, scenario=SCENARIO, config=settings(distill={"steps": 2}, prune={"steps": 2}))
    assert same_weights(before, trained.model.state_dict())
    assert all(param.grad is None for param in trained.model.parameters())


def test_equal_seeds_give_equal_weights(made, trained, splits):
    again = compress(trained, splits.path, scenario=SCENARIO, config=settings())
    for name in ("pruned", "student"):
        assert same_weights(model_of(made, name).state_dict(), model_of(again, name).state_dict())


def test_recovery_makes_up_for_what_was_taken_out(made, trained, splits, tmp_path):
    at_once = compress(trained, splits.path, scenario=SCENARIO, config=settings(prune={"steps": 0}))
    assert "without training" in at_once["pruned"].how
    before = deep_loss(model_of(at_once, "pruned"), trained, splits, tmp_path / "before")
    assert deep_loss(model_of(made, "pruned"), trained, splits, tmp_path / "after") < before


def test_nothing_is_made_that_is_not_asked_for(trained, splits):
    assert not CompressConfig().enabled
    assert compress(trained, splits.path, scenario=SCENARIO, config=CompressConfig()) == {}
    only = CompressConfig.model_validate({"prune": {"feed_forward": 0.5, "steps": 0, "batches": 1}})
    made = compress(trained, splits.path, scenario=SCENARIO, config=only)
    assert list(made) == ["pruned"] and "attention" not in made["pruned"].how


def test_one_that_can_not_be_made_is_its_error_and_the_other_is_made(trained, splits):
    config = settings(prune={"heads": 0.01, "feed_forward": 0.0}, distill={"steps": 1})
    made = compress(trained, splits.path, scenario=SCENARIO, config=config)
    assert "nothing is to be taken out" in str(made["pruned"])
    assert isinstance(made["student"], Compressed)
    made = compress(trained, splits.path / "nowhere", scenario=SCENARIO, config=settings())
    assert len(made) == 2 and all(isinstance(each, Exception) for each in made.values())


def test_a_taught_batch_costs_its_own_loss_and_the_distance_from_the_teacher():
    objective = labels(some_tokens(), batch_tokens=128)
    student, teacher = branch(0).eval(), branch(1).eval()
    batch = objective.batch(0)
    said, taught = objective.said(student, batch), objective.said(teacher, batch).detach()
    p, q = (taught / 2).softmax(-1), (said / 2).softmax(-1)
    distance = 4 * (p * (p / q).log()).sum()
    distilled = Distilled(objective, teacher, weight=0.3, temperature=2.0)
    loss = distilled.loss(student, batch)
    torch.testing.assert_close(loss, 0.7 * objective.loss(student, batch) + 0.3 * distance)
    loss.backward()
    assert student.head.output.weight.grad is not None
    assert all(param.grad is None for param in teacher.parameters())
    same = Distilled(objective, student, weight=1.0, temperature=2.0)
    assert float(same.loss(student, batch).detach()) == pytest.approx(0.0, abs=1e-5)


def test_logits_that_are_made_in_chunks_teach_as_those_at_once(monkeypatch):
    monkeypatch.setattr("noria.training.losses._CHUNK_CELLS", {"cpu": 7 * 30})
    draw = torch.Generator().manual_seed(0)

    def said() -> Projected:
        shapes = ((20, 8), (30, 8), (30,))
        return Projected(*(torch.randn(shape, generator=draw).requires_grad_() for shape in shapes))

    student, teacher = said(), said()
    loss = distillation(student, teacher, temperature=3.0)
    loss.mul(0.5).backward()
    found = [part.grad.clone() for part in student]
    for part in student:
        part.grad = None
    x, weight, bias = student
    whole = distillation(x @ weight.mT + bias, (teacher[0] @ teacher[1].mT + teacher[2]).detach(), temperature=3.0)
    whole.mul(0.5).backward()
    assert math.isclose(loss.item(), whole.item(), rel_tol=1e-5)
    for one, part in zip(found, student, strict=True):
        torch.testing.assert_close(one, part.grad, rtol=1e-4, atol=1e-5)
    assert all(part.grad is None for part in teacher)
