"""ingest: the sources, as typed and content-addressed rows; whatever is no row goes to quarantine."""

from noria.artifacts import Artifact, read_artifact
from noria.data.ingest import ingest as ingest_source
from noria.workspace import Workspace
from tasks.node import main, node


def counts(workspace: Workspace) -> str:
    """Rows read and refused, by rule."""
    raw, refused = read_artifact(workspace.raw), read_artifact(workspace.quarantine("ingest"))
    lines = [f"**{raw.counts['rows']:,} rows** from {raw.counts['files']:,} files of `{raw.facts['source']}`", ""]
    if refused.counts["rows"]:
        lines += ["| refused because of | rows |", "|---|---:|"]
        lines += [f"| {rule} | {count:,} |" for rule, count in refused.counts.items() if rule != "rows"]
        lines += ["", "`noria quarantine list --stage ingest` shows them."]
    return "\n".join(lines)


@node("input data", summary=counts)
def ingest(workspace: Workspace) -> Artifact:
    scenario = workspace.scenario
    return ingest_source(
        workspace.config.source,
        schema=scenario.schema,
        target=scenario.target,
        base=workspace.root,
        raw=workspace.raw,
        quarantine=workspace.quarantine("ingest"),
        mirror=workspace.mirror,
        tags=workspace.tags,
    )


if __name__ == "__main__":
    main(ingest)
