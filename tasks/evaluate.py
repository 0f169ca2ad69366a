"""evaluate: the checkpoint on the validation set, with confidence intervals, slices and pictures."""

from functools import partial

from noria.artifacts import Artifact, read_artifact
from noria.evaluation.judged import read_validation
from noria.evaluation.report import report_markdown, write_report
from noria.workspace import Workspace
from tasks.node import main, node


def quality(workspace: Workspace) -> str:
    """Metrics with intervals, slices and classes."""
    return report_markdown(workspace.evaluation)


@node("evaluate", summary=quality, timeout_s=1800)
def evaluate(workspace: Workspace) -> Artifact:
    from noria.evaluation.torch_run import torch_outputs
    from noria.training.checkpoint import load_trained

    splits, checkpoint = read_artifact(workspace.splits), read_artifact(workspace.checkpoint)
    config, scenario = workspace.config, workspace.scenario
    trained = load_trained(checkpoint.path, scenario=scenario)
    rows = read_validation(splits.path)
    outputs = torch_outputs(trained.model, rows, encoder=trained.encoder)
    judged = scenario.judge(rows, outputs, trained.encoder)
    more = partial(scenario.report, rows, outputs, judged, trained.encoder) if scenario.report else lambda _: None
    return write_report(
        workspace.evaluation, judged, config=config.evaluate, seed=config.seed, parents=(splits, checkpoint), more=more
    )


if __name__ == "__main__":
    main(evaluate)
