"""monitor: the champion on what arrived, what people said of it, and how the arrivals differ from what it knows."""

from noria.artifacts import Artifact, read_artifact
from noria.monitoring.monitor import monitor as look
from noria.monitoring.report import DRIFT, PAGE, SHIFTS, write_monitoring
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.curve import picture
from tasks.node import main, node


def report(workspace: Workspace) -> str:
    """The page, and the pictures where there are any."""
    paths = [workspace.monitoring / name for name in (DRIFT, SHIFTS)]
    shown = [picture(path.read_bytes(), media_type="image/png", title=path.stem) for path in paths if path.exists()]
    return "\n\n".join([(workspace.monitoring / PAGE).read_text(encoding="utf-8"), *shown])


@node("monitor", summary=report, timeout_s=1800, pure=False)
def monitor(workspace: Workspace) -> Artifact:
    arrivals = read_artifact(workspace.arrivals)
    found = look(
        arrivals,
        store_of(workspace),
        scenario=workspace.scenario,
        config=workspace.config,
        known_rows=workspace.cleaned,
    )
    return write_monitoring(workspace.monitoring, found, parents=(arrivals,))


if __name__ == "__main__":
    main(monitor)
