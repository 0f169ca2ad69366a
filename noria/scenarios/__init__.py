"""Scenarios, imported lazily by name: text never imports audio."""

from __future__ import annotations

import difflib
import importlib
import pkgutil

from noria.errors import ConfigError
from noria.scenarios.base import Scenario


def scenario_names() -> list[str]:
    """Every scenario there is, without importing one."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if m.name != "base")


def load_scenario(name: str) -> Scenario:
    """Import one scenario.

    Raises
    ------
    ConfigError
        When there is none of that name.
    """
    names = scenario_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ConfigError(
            f"there is no scenario `{name}`",
            where="params.yaml: scenario",
            expected=", ".join(names),
            next_step=f"did you mean `{near[0]}`?" if near else "choose one of these",
        )
    scenario = importlib.import_module(f"noria.scenarios.{name.replace('-', '_')}").SCENARIO
    assert isinstance(scenario, Scenario)
    return scenario
