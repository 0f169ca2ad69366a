"""The peer of the image benchmark is a real support vector machine, with settings from its grid."""

import numpy as np

from benchmarks.image_classification import COSTS, GAMMAS, fitted_svm


def test_the_machine_learns_what_is_behind_no_line_and_its_settings_are_of_the_grid():
    points_N2 = np.random.default_rng(0).normal(size=(300, 2)) * 5
    classes_N = np.where(np.hypot(*points_N2.T) < 5, "in", "out")
    machine, seconds = fitted_svm(points_N2, classes_N)
    assert machine.C in COSTS and machine.gamma in GAMMAS and seconds > 0
    assert machine.score(points_N2, classes_N) > 0.95
