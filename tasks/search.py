"""The two Prefect tasks of a search: one trial, and what came of them all."""

from __future__ import annotations

import logging
from typing import cast

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from noria.report.search import write_search_page
from noria.tuning.report import PICTURES, Summary, summarize, summary_markdown, write_report
from noria.tuning.search import Search, TrialJob
from noria.tuning.worker import FINAL_LOSS, Ended
from noria.workspace import Workspace
from tasks.curve import picture
from tasks.follow import follow
from tasks.record import show_page

_KEY = "tuning"


@task(name="trial", tags=["gpu"], cache_policy=NO_CACHE, persist_result=False)
def run_trial(search: Search, job: TrialJob) -> Ended:
    """Train with other parameters; log and learning curve appear while it is at work."""
    with follow(job.files.events, key=f"{_KEY}-{job.number}", logger=get_run_logger()):
        ended = search.run(job)
    return cast("Ended", _state(ended))  # Prefect unwraps a returned state


def _state(ended: Ended) -> State[Ended]:
    """What the UI shows of a trial; one that failed is red, and the search goes on."""
    if ended.state == "failed":
        return Failed(message=ended.error)
    if ended.state == "interrupted":
        # not Cancelled: Prefect would not let the report run behind it
        return Completed(name="Interrupted", message="its state is saved: the next search goes on with it", data=ended)
    if ended.state == "pruned":
        return Completed(name="Pruned", message="worse than the others at this epoch", data=ended)
    return Completed(message=f"hold-out loss {ended.metrics[FINAL_LOSS]:.4f}", data=ended)


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def publish(search: Search, workspace: Workspace) -> Summary:
    """Write the report, and show it."""
    summary = summarize(search, workspace)
    directory = workspace.tuning_report
    write_report(summary, directory)
    page = write_search_page(summary, workspace)
    create_markdown_artifact(summary_markdown(summary), key=_KEY, description="trials")
    shown = [
        picture((directory / name).read_bytes(), media_type="image/png", title=title)
        for name, title in PICTURES.items()
        if (directory / name).exists()
    ]
    if shown:
        create_markdown_artifact("\n\n".join(shown), key=f"{_KEY}-pictures", description="pictures of the search")
    show_page(workspace, page, key=f"{_KEY}-report", description="the report of this search")
    logging.getLogger("noria.flow").info("report in %s", page)
    return summary
