"""check: the gate. A verdict is a result; only an expectation that could not be judged is an error."""

import shutil
from pathlib import Path

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.data.verdict import read_verdict, verdict_markdown
from noria.workspace import Workspace
from tasks.node import main, node


def verdict(workspace: Workspace) -> str:
    """The verdict, the worst expectations first, with rows to look at."""
    return verdict_markdown(read_verdict(workspace.quality("check")))


def verdict_again(workspace: Workspace) -> str:
    """The verdict on the cleaned data."""
    return verdict_markdown(read_verdict(workspace.quality("recheck")))


@node("quality check", summary=verdict)
def check(workspace: Workspace) -> Artifact:
    return judge_rows(read_artifact(workspace.preprocessed), workspace, report=workspace.quality("check"))


@node("quality check (again)", summary=verdict_again, stage="recheck")
def check_again(workspace: Workspace) -> Artifact:
    first, cleaned = read_artifact(workspace.quality("check")), read_artifact(workspace.cleaned)
    if first.facts["passed"]:  # nothing was cleaned, so the verdict stands
        return _repeat(first, cleaned, workspace)
    return judge_rows(cleaned, workspace, report=workspace.quality("recheck"))


def judge_rows(data: Artifact, workspace: Workspace, *, report: Path, min_profile_rows: int | None = None) -> Artifact:
    """The verdict of the workspace's suite, written at `report`; see `tasks.judge.judge`."""
    from tasks.judge import judge  # seconds of Great Expectations, for those who need it

    return judge(
        data,
        report,
        suite=workspace.suite,
        scenario=workspace.scenario,
        batch_rows=workspace.config.preprocess.batch_rows,
        sample_rows=workspace.config.check.sample_rows,
        min_profile_rows=min_profile_rows,
    )


def _repeat(first: Artifact, cleaned: Artifact, workspace: Workspace) -> Artifact:
    path = workspace.quality("recheck")
    with write_artifact(path, kind="verdict", parents=(cleaned, first)) as draft:
        shutil.copytree(first.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        draft.counts, draft.facts = dict(first.counts), dict(first.facts)
    return read_artifact(path, verify=False)


if __name__ == "__main__":
    main(check, again=check_again)
