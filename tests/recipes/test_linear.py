"""The wide branch is fitted to its optimum."""

import numpy as np
import torch
from training_fixtures import ragged

from noria.model.wide import WideBranch
from noria.recipes.linear import class_ratios, fit_logistic, fit_wide


def test_the_linear_model_is_at_the_optimum() -> None:
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.choice(np.arange(1, 30), 6, replace=False)) for _ in range(80)]
    ids, classes = ragged(rows), np.asarray([int(3 in row or 5 in row) for row in rows])
    entries = rng.random(len(ids.values)).astype(np.float32)
    fitted = fit_logistic(ids, entries, classes, num_features=30, num_classes=2, inverse_regularization=10.0)
    matrix = np.zeros((80, 30), dtype=np.float64)
    matrix[np.repeat(np.arange(80), ids.lengths), ids.values] = entries
    weight = (fitted.weight[:, 1] - fitted.weight[:, 0]).double().numpy()
    margin = matrix @ weight + float(fitted.bias[1] - fitted.bias[0])
    # Binary logistic regression: the gradient of |w|²/2 + C * sum of losses vanishes.
    gradient = weight + 10.0 * matrix.T @ (1 / (1 + np.exp(-margin)) - classes)
    assert np.abs(gradient).max() < 0.05


def test_class_ratios_are_half_the_log_count_ratio_of_two_classes() -> None:
    ids, classes = ragged([np.asarray([1, 2]), np.asarray([1]), np.asarray([2, 3])]), np.asarray([0, 0, 1])
    p, q = np.asarray([1, 3, 2, 1]), np.asarray([1, 1, 2, 2])
    expected = np.abs(np.log(p / p.sum()) - np.log(q / q.sum())) / 2
    assert np.allclose(class_ratios(ids, classes, num_features=4, num_classes=2)[1:], expected[1:])


def test_both_models_of_the_branch_tell_the_classes_apart() -> None:
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.choice(np.arange(1, 30), 6, replace=False)) for _ in range(80)]
    ids, classes = ragged(rows), np.asarray([int(3 in row or 5 in row) for row in rows])
    values = ragged([np.full(6, 6**-0.5, dtype=np.float32)] * 80)
    branch = WideBranch(29, 2)
    fit_wide(branch, ids, values, classes, inverse_regularization=10.0)
    logits_NC = branch(torch.from_numpy(np.stack(rows)), torch.from_numpy(values.values.reshape(80, 6)))
    assert float((logits_NC.argmax(-1).numpy() == classes).mean()) > 0.95
    assert float(branch.ratio[3]) > float(branch.ratio[7]) and float(branch.ratio[0]) == 0.0
