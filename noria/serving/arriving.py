"""What arrived for the live model of a workspace: new objects of its source, and feedback on its answers."""

from __future__ import annotations

from pathlib import Path

from noria.artifacts import Artifact
from noria.data.arrivals import decided_on, judge_arrivals, list_arrivals, write_arrivals
from noria.data.gate import Gate, Judge
from noria.data.source_objects import find_objects, read_objects
from noria.serving.feedback_rows import Taker, said_of
from noria.serving.store import ModelStore, store_of
from noria.workspace import Workspace


def collect_arrivals(workspace: Workspace, *, judge: Judge) -> Artifact:
    """Take the feedback that waits, and have the gate judge it and the objects that are new; see `Arrived`.

    While nothing is live and no data was read, everything is new, and only listed.

    Raises
    ------
    SourceUnavailable
        When the source can't be read for now.
    SourceError, ConfigError, GateError, StoreError
        When the source is missing, the settings do not fit it, or an expectation or the store fails.
    """
    config, scenario, store = workspace.config, workspace.scenario, store_of(workspace)
    intakes = _taker(workspace, store).take()
    objects = find_objects(
        config.source,
        schema=scenario.schema,
        base=workspace.root,
        mirror=workspace.mirror,
        remembered=workspace.tags,
    )
    gate = Gate(scenario, config, judge, suite=workspace.suite, batches=workspace.batches)
    known, production = known_objects(store, workspace.raw), store.production()
    if known or production is not None:
        found = judge_arrivals(objects, known=known, gate=gate, base=workspace.root)
    else:
        found = list_arrivals(objects, base=workspace.root)
    return write_arrivals(
        workspace.arrivals,
        found,
        gate=gate,
        quarantine=workspace.quarantine("arrivals"),
        decided=decided_on(workspace.decision),
        feedback=said_of(production.version if production else "", intakes),
    )


def _taker(workspace: Workspace, store: ModelStore) -> Taker:
    return Taker(
        store,
        workspace.scenario,
        workspace.config.feedback,
        base=workspace.root,
        raw=workspace.raw,
        quarantine=workspace.quarantine("feedback"),
    )


def known_objects(store: ModelStore, raw: Path) -> dict[str, str]:
    """Tags of the objects that the live model's data was read from; of a model without a baseline, those read last.

    While nothing is live, those of the version that was tried last.
    """
    production = store.production()
    version = production.version if production else store.tried_last()
    if version is not None and store.baselines.has(version):
        return read_objects(store.baselines.fetch(version).path)
    return read_objects(raw)
