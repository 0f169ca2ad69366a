"""Why a trained model answers as it does: one module per scenario that can say so, imported by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from noria.errors import ConfigError

if TYPE_CHECKING:
    from noria.explain.explanation import Explanation
    from noria.training.checkpoint import Trained

Explainer = Callable[["Trained", Mapping[str, object]], "Explanation"]
"""(a trained model, a request's values) -> what its answer is made of."""

_EXPLAINED = ("text-classification",)


def load_explainer(scenario: str) -> Explainer:
    """The explainer of a scenario.

    Raises
    ------
    ConfigError
        When it has none yet.
    """
    if scenario not in _EXPLAINED:
        raise ConfigError(
            f"answers of `{scenario}` can't be explained yet",
            where="params.yaml: scenario",
            expected=", ".join(_EXPLAINED),
            next_step="`noria predict` gives the answer and its scores",
        )
    explain: Explainer = importlib.import_module(f"noria.explain.{scenario.replace('-', '_')}").explain
    return explain
