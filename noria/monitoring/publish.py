"""The baseline of a version that was just deployed from a workspace, into the store."""

from __future__ import annotations

import logging

from noria.artifacts import read_artifact
from noria.errors import ArtifactError
from noria.serving.store import store_of
from noria.workspace import Workspace

logger = logging.getLogger(__name__)


def publish_baseline(workspace: Workspace, version: str) -> None:
    """Publish it, unless the version has one. A workspace without the splits of its bundle makes none.

    Raises
    ------
    StoreError
        When the store can't be written.
    """
    store = store_of(workspace)
    if store.baselines.has(version):
        return
    from noria.monitoring.baseline import write_baseline
    from noria.serving.bundle import open_bundle
    from noria.serving.predictor import Predictor

    predictor = Predictor(open_bundle(store.fetch(version, signed=False).path))
    try:
        splits = read_artifact(workspace.splits)
    except ArtifactError as error:
        logger.warning("%s gets no baseline, arrivals can't be compared with it: %s", version, error.what)
        return
    if splits.digest != predictor.bundle.artifact.facts.get("data_digest"):
        logger.warning("%s gets no baseline: it was made of other rows than %s", version, workspace.splits)
        return
    scenario, config = workspace.scenario, workspace.config
    made = write_baseline(workspace.baseline, predictor, splits, raw=workspace.raw, scenario=scenario, config=config)
    store.baselines.publish(made.path, version=version)
