"""deploy: the bundle in the model store, shown to serve in a fresh process. Staged, not live."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.monitoring.publish import publish_baseline
from noria.serving.bundle import read_bundle
from noria.serving.deployment import SIGNING_KEY, checkpoint_of, stage_bundle
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.node import main, node

STAGED = "staged.json"


def deployment(workspace: Workspace) -> str:
    """Where the staged version is, and what shows that it serves."""
    staged = json.loads((workspace.deployment / STAGED).read_text(encoding="utf-8"))
    return (
        f"Version **`{staged['version']}`** is staged, not live, at `{staged['place']}`.\n\n"
        f"A fresh process without torch verified and loaded it and answered {staged['num_golden']} golden requests "
        f"as when it was made.\n\n`noria promote {staged['version']} --reason …` makes it live by hand.\n"
    )


@node("deploy", summary=deployment, timeout_s=900, retries=1, pure=False)
def deploy(workspace: Workspace) -> Artifact:
    bundle = read_bundle(workspace.bundle)
    store = store_of(workspace)
    checkpoint = checkpoint_of(bundle, workspace.checkpoint) if workspace.config.deploy.publish_checkpoint else None
    key = os.environ.get(SIGNING_KEY)
    staged = stage_bundle(
        store,
        bundle,
        checkpoint=checkpoint,
        signing_key=Path(key) if key else None,
    )
    publish_baseline(workspace, staged.version)
    with write_artifact(workspace.deployment, kind="deployment", parents=(bundle,)) as draft:
        (draft.path / STAGED).write_text(json.dumps(asdict(staged), indent=2) + "\n", encoding="utf-8")
        draft.facts["version"] = staged.version
    return read_artifact(workspace.deployment)


if __name__ == "__main__":
    main(deploy)
