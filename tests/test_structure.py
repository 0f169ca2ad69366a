"""The architecture: one spec, two runners; stages that depend on the code that they use; small modules."""

import ast
import importlib
from pathlib import Path

import pytest
import yaml

from noria.config import Config, schema_text
from noria.scenarios import load_scenario
from noria.stage_code import used_code
from tasks.node import Node

CODE = Path(__file__).parent.parent
STAGES = yaml.safe_load((CODE / "dvc.yaml").read_text())["stages"]
CODE_PREFIX = "${code}/"
OF_THE_UPDATE = {"arrivals", "monitor", "decide"}
"""Nodes that look at what arrived before anything is trained."""


def code_deps(stage: str) -> set[str]:
    """The files of the library that `dvc.yaml` says a stage depends on."""
    deps = STAGES[stage]["deps"]
    return {dep.removeprefix(CODE_PREFIX) for dep in deps if dep.startswith(CODE_PREFIX)}


def nodes() -> list[Node]:
    """Every node of every file in tasks/."""
    modules = [importlib.import_module(f"tasks.{path.stem}") for path in sorted((CODE / "tasks").glob("*.py"))]
    return [value for module in modules for value in vars(module).values() if isinstance(value, Node)]


def test_the_pure_nodes_are_the_stages_of_dvc():
    assert sorted(node.stage for node in nodes() if node.pure) == sorted(STAGES)


def nodes_called_by(flow: str) -> set[str]:
    """The nodes that a flow calls, by the names of their functions."""
    tree = ast.parse((CODE / "flows" / f"{flow}.py").read_text())
    calls = (item for item in ast.walk(tree) if isinstance(item, ast.Call) and isinstance(item.func, ast.Name))
    return {call.func.id for call in calls} & {node.fn.__name__ for node in nodes()}


def test_the_flow_calls_every_node_but_those_of_the_update():
    assert {node.fn.__name__ for node in nodes()} - nodes_called_by("pipeline") <= OF_THE_UPDATE


def test_every_node_is_a_file_that_runs_as_a_process():
    for node in nodes():
        command = STAGES[node.stage]["cmd"] if node.pure else f"python -m {node.fn.__module__}"
        assert command.split()[:3] == ["python", "-m", node.fn.__module__]
        assert 'if __name__ == "__main__":' in Path(importlib.import_module(node.fn.__module__).__file__).read_text()


def test_every_parameter_of_a_stage_is_in_the_configuration_and_in_params_yaml():
    params = yaml.safe_load((CODE / "params.yaml").read_text())
    for stage in STAGES.values():
        for key in stage["params"]:
            assert key in Config.model_fields
            assert key in params


def test_what_params_yaml_says_of_training_is_the_default_of_its_scenario():
    params = yaml.safe_load((CODE / "params.yaml").read_text())
    said = {section: values for section, values in params.items() if isinstance(values, dict) and section != "source"}
    scenario = load_scenario(params["scenario"])
    required = {key: params[key] for key in ("name", "scenario", "source")}
    defaults = Config.model_validate({**scenario.defaults, **required}).model_dump()
    for section, values in said.items():
        assert values.items() <= defaults[section].items()


def test_the_schema_for_editors_is_current():
    assert (CODE / "params.schema.json").read_text() == schema_text(), (
        "python -c 'from noria.config import schema_text; print(schema_text(), end=\"\")' > params.schema.json"
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_the_code_that_it_uses_and_on_no_other(stage, dirty):
    assert code_deps(stage) == set(used_code(dirty, [stage])[stage]), "python -m noria.stage_code WORKSPACE mends it"


@pytest.mark.parametrize(
    "path", sorted(p for folder in ("noria", "tasks", "flows") for p in (CODE / folder).rglob("*.py"))
)
def test_modules_and_functions_are_small(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, ast.FunctionDef):
            code = item.body[1:] if ast.get_docstring(item) else item.body
            assert not code or item.end_lineno - code[0].lineno < 40, item.name
