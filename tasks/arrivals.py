"""arrivals: rows of the source, read anew and measured."""

import json

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.data.ingest import ingest
from noria.data.preprocess import preprocess_rows
from noria.data.rows import count_rows, link_shards
from noria.workspace import Workspace
from tasks.node import main, node


def counts(workspace: Workspace) -> str:
    """Rows that came."""
    return f"**{read_artifact(workspace.arrivals).facts['rows']:,} rows**"


@node("arrivals", summary=counts, pure=False)
def arrivals(workspace: Workspace) -> Artifact:
    scenario, scratch = workspace.scenario, workspace.scratch / "intake"
    raw = ingest(
        workspace.config.source,
        schema=scenario.schema,
        target=scenario.target,
        base=workspace.root,
        raw=scratch / "raw",
        quarantine=scratch / "quarantine",
    )
    measured = preprocess_rows(
        raw, scratch / "preprocessed", measure=scenario.measure, config=workspace.config.preprocess
    )
    with write_artifact(workspace.arrivals, kind="arrivals", parents=(measured,)) as draft:
        link_shards(measured.path, draft.path / "rows")
        (draft.path / "batches.json").write_text(json.dumps([]))
        draft.facts = {"objects_new": 1, "objects_refused": 0, "rows": count_rows(draft.path / "rows"), "feedback": {}}
    return read_artifact(workspace.arrivals)


if __name__ == "__main__":
    main(arrivals)
