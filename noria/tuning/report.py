"""What a search found: a table of trials, the gain over the current parameters, pictures, and the proposed diff."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from noria.config.tune import Scalar
from noria.errors import ConfigError
from noria.tuning.edit import diff_params, propose, read_text
from noria.tuning.pictures import draw_history, draw_importances, draw_parallel, draw_slices
from noria.tuning.search import Search, TrialRecord
from noria.workspace import Workspace

TABLE, DIFF, SUMMARY = "tuning.md", "params.diff", "tuning.json"
PICTURES = {
    "history.png": "history",
    "importances.png": "importances",
    "parallel.png": "parallel coordinates",
    "slices.png": "slices",
}
JUDGED_BY = (
    "Loss is that of the finished model on the hold-out inside the training side. The validation set was not looked "
    "at: it judges the champion and the challenger later. The best of many trials is a little lucky on the rows that "
    "chose it, so expect less of the gain there."
)


@dataclass(frozen=True)
class Summary:
    """The state of a search.

    Attributes
    ----------
    study:
        Its name: another one for other data, space, parameters or code.
    baseline, best:
        The trial with the current parameters, and the one with the lowest loss, the first included; None before
        they are complete.
    gain:
        By how much the best loss is lower than the baseline's.
    importances:
        Path -> share in what tells good trials from the rest.
    diff:
        Of `params.yaml` to the best trial's values; empty when nothing beats the current ones by `tune.min_gain`.
    proposed:
        The whole text with that diff applied; empty without one.
    refused:
        Why there is no diff though a trial beats them.
    """

    study: str
    trials: tuple[TrialRecord, ...]
    baseline: TrialRecord | None
    best: TrialRecord | None
    gain: float
    importances: Mapping[str, float]
    diff: str
    proposed: str
    refused: str = ""


def summarize(search: Search, workspace: Workspace) -> Summary:
    """What is known now; `workspace` is as it was read when the search began. Changes nothing."""
    trials = search.records()
    complete = [
        (trial.loss, trial.number, trial) for trial in trials if trial.loss is not None and trial.state == "complete"
    ]
    baseline = next((trial for _, number, trial in complete if number == 0), None)
    best = min(complete)[2] if complete else None
    gain = complete[0][0] - min(complete)[0] if baseline else 0.0
    diff = proposed = refused = ""
    if best is not None and best is not baseline and gain > search.space.base.tune.min_gain:
        try:
            proposed = propose(
                workspace.params, best.values, config=workspace.config, defaults=workspace.scenario.defaults
            )
            diff = diff_params(read_text(workspace.params), proposed)
        except ConfigError as error:  # the trials are worth their report all the same
            refused = str(error)
    return Summary(
        study=search.name,
        trials=trials,
        baseline=baseline,
        best=best,
        gain=gain,
        importances=search.importances(),
        diff=diff,
        proposed=proposed,
        refused=refused,
    )


def write_report(summary: Summary, directory: Path) -> None:
    """Write table, pictures, diff and JSON into `directory`; what an earlier search left there goes."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        (directory / name).unlink(missing_ok=True)
    text = json.dumps(as_json(summary), indent=2, ensure_ascii=False)
    (directory / SUMMARY).write_text(text + "\n", encoding="utf-8")
    (directory / DIFF).write_text(summary.diff, encoding="utf-8")
    (directory / TABLE).write_text(summary_markdown(summary) + "\n", encoding="utf-8")
    if summary.best is not None:
        draw_history(summary.trials, directory / "history.png")
        draw_parallel(summary.trials, directory / "parallel.png")
        draw_slices(summary.trials, directory / "slices.png")
    if summary.importances:
        draw_importances(summary.importances, directory / "importances.png")


def as_json(summary: Summary) -> dict[str, object]:
    """For programs; without the whole of `params.yaml`."""
    values = asdict(summary)
    del values["proposed"]
    return values


def summary_markdown(summary: Summary) -> str:
    """The verdict, the diff, and the table of trials."""
    parts = [f"# Search `{summary.study}`", verdict(summary), JUDGED_BY]
    if summary.diff:
        parts.append(f"```diff\n{summary.diff}```")
    if summary.refused:
        parts.append(f"```text\n{summary.refused}\n```")
    parts.append(trials_table(summary.trials))
    return "\n\n".join(parts)


def verdict(summary: Summary) -> str:
    """One sentence: what was gained."""
    if summary.baseline is None or summary.best is None:
        return "The training with the current parameters is not done yet: there is nothing to compare with."
    loss = summary.baseline.loss
    if not summary.diff and not summary.refused:
        return (
            f"No trial beats the current parameters (hold-out loss {loss:.4f}) by more than `tune.min_gain`: keep them."
        )
    best = summary.best
    return f"Trial {best.number} lowers the hold-out loss from {loss:.4f} to {best.loss:.4f} (by {show(summary.gain)})."


def trials_table(trials: Sequence[TrialRecord]) -> str:
    """Markdown: the best first, then those that were ended early, then the rest.

    The loss within a training (number of epochs: loss) is that of its own objective, so it compares only with its like.
    """
    if not trials:
        return "No trial yet."
    paths = list(trials[0].values)
    metrics = sorted({name for trial in trials for name in trial.metrics if name.endswith("accuracy")})
    lines = [
        "| " + " | ".join(["trial", "state", "hold-out loss", *metrics, *paths, "last epoch", "s"]) + " |",
        "|---" * (5 + len(metrics) + len(paths)) + "|",
    ]
    order = ("complete", "pruned", "running", "failed")
    for trial in sorted(trials, key=lambda it: (order.index(it.state), it.loss if it.loss is not None else 0.0)):
        name = f"{trial.number} (as it is)" if trial.number == 0 else str(trial.number)
        state = f"{trial.state}: {_cell(trial.error)}" if trial.error else trial.state
        scores = [f"{trial.metrics[metric]:.4f}" if metric in trial.metrics else "" for metric in metrics]
        values = [show(trial.values[path]) for path in paths]
        loss = "" if trial.loss is None else f"{trial.loss:.4f}"
        last = f"{len(trial.epochs)}: {trial.epochs[-1]:.4f}" if trial.epochs else ""
        cells = [name, state, loss, *scores, *values, last, f"{trial.seconds:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def show(value: Scalar) -> str:
    """A value in a table or a picture."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    """The first line, with nothing in it that would end a cell."""
    return text.partition("\n")[0].replace("|", "\\|")
