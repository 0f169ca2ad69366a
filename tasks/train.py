"""train: the Transformer and the branch beside it, on a GPU when there is one; resumes where it was killed."""

from collections.abc import Mapping

from noria.artifacts import Artifact, read_artifact
from noria.serving.predecessor import start_of, teacher_of
from noria.training.report import LEARNING_CURVE, TABLE, write_training_report
from noria.workspace import Workspace
from tasks.curve import picture
from tasks.node import main, node


def learning_curve(workspace: Workspace) -> str:
    """The picture, and what the hold-out said."""
    image = (workspace.training_report / LEARNING_CURVE).read_bytes()
    table = (workspace.training_report / TABLE).read_text(encoding="utf-8")
    return f"{picture(image, media_type='image/png', title='learning curve')}\n\n{table}"


@node("train", summary=learning_curve, tags=("gpu",), retries=3, timeout_s=12 * 3600)
def train(workspace: Workspace) -> Artifact:
    from dvclive.live import Live

    from noria.training.state import Point
    from noria.training.train import train_model

    history: list[Point] = []
    resources: dict[str, object] = {}
    with Live(str(workspace.training_report), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def record(step: int, values: Mapping[str, float]) -> None:
            live.step = step
            for name, value in values.items():
                live.log_metric(name, value, plot=step > 0)  # the blend is one point, no curve
            live.make_summary()

        checkpoint = train_model(
            read_artifact(workspace.splits),
            workspace.checkpoint,
            scenario=workspace.scenario,
            config=workspace.config,
            scratch=workspace.scratch / "train",
            start=start_of(workspace),
            teacher=teacher_of(workspace),
            on_metrics=record,
            on_resources=resources.update,
            on_history=history.extend,
        )
    best_loss = checkpoint.facts.get("best_loss")
    write_training_report(
        history,
        workspace.training_report,
        resources=resources,
        best_loss=best_loss if isinstance(best_loss, float) else None,
    )
    return checkpoint


if __name__ == "__main__":
    main(train)
