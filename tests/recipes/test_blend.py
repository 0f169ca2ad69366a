"""The two branches are weighed on rows that neither has seen."""

import math

import torch
from training_fixtures import branch

from noria.model.text_classifier import TextClassifier
from noria.model.wide import WideBranch
from noria.recipes.blend import set_blend


def test_the_blend_minimizes_the_loss_and_weighs_both() -> None:
    torch.manual_seed(0)
    classes = torch.randint(0, 2, (400,))
    signal = torch.nn.functional.one_hot(classes).float()
    wide, deep = 9.0 * (signal + torch.randn(400, 2)), 0.1 * (signal + torch.randn(400, 2))
    model = TextClassifier(wide=WideBranch(3, 2), deep=branch())
    loss = set_blend(model, wide_NC=wide, deep_NC=deep, classes_N=classes, deep_weight=1.0)
    blended = model.wide_scale * wide + model.deep_scale * deep
    assert math.isclose(loss, float(torch.nn.functional.cross_entropy(blended, classes)), rel_tol=1e-5)
    for factor in (0.9, 1.1):
        assert loss <= float(torch.nn.functional.cross_entropy(factor * blended, classes)) + 1e-6
    assert 0.8 < float((model.wide_scale * wide).std() / (model.deep_scale * deep).std()) < 1.25


def test_a_branch_that_tells_no_rows_apart_does_not_drown_the_other() -> None:
    classes = torch.tensor([0, 1] * 50)
    constant = torch.tensor([[0.2, 0.0]]).expand(100, 2)
    telling = 0.1 * torch.nn.functional.one_hot(classes).float()
    model = TextClassifier(wide=WideBranch(3, 2), deep=branch())
    set_blend(model, wide_NC=constant, deep_NC=telling, classes_N=classes, deep_weight=1.0)
    assert torch.equal((model.wide_scale * constant + model.deep_scale * telling).argmax(-1), classes)
    set_blend(model, wide_NC=constant[:1], deep_NC=telling[:1], classes_N=classes[:1], deep_weight=1.0)
    assert float(model.wide_scale) <= 10 and float(model.deep_scale) <= 10
