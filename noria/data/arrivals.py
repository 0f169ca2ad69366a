"""Rows that arrived since the data of the live model was read, and passed the gate.

Only objects that are new, or in another state than before, are read. What the gate said of them is kept, so that a
later update judges only what came since; the artifact holds all of it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from noria.artifacts import Artifact, Ledger, read_artifact, write_artifact
from noria.data.gate import ROWS, Gate, batch_line
from noria.data.intake import Refused, read_refused, write_refused
from noria.data.quarantine import QUARANTINED, gather_quarantines
from noria.data.rows import ShardWriter, read_batches
from noria.data.source_objects import SourceObject
from noria.data.sources import INTAKE
from noria.errors import ArtifactError

logger = logging.getLogger(__name__)

BATCHES = "batches.json"
State = tuple[str, str]
"""Name and tag of an object."""


@dataclass(frozen=True)
class Arrived:
    """What an update found.

    Attributes
    ----------
    fresh:
        The objects that the live model's data did not have, or had in another state.
    batches:
        The gate's word on them.
    refused:
        Of all objects that lie in the source, those that are refused as a whole.
    is_judged:
        False where the objects were only listed.
    """

    fresh: tuple[SourceObject, ...]
    batches: tuple[Artifact, ...]
    refused: tuple[Refused, ...]
    is_judged: bool = True

    @property
    def passed(self) -> list[Artifact]:
        """The batches that the gate let in."""
        return [batch for batch in self.batches if batch.facts["passed"]]


def judge_arrivals(objects: Sequence[SourceObject], *, known: Mapping[str, str], gate: Gate, base: Path) -> Arrived:
    """Have the gate judge what it has not judged before, and note in the intake of `base` what it refused.

    `known` are the tags of the objects that the live model's data was read from, by name. Killed and started again,
    it goes on where it stood.

    Raises
    ------
    SourceUnavailable, GateError
        As `Gate.admit`.
    """
    fresh = tuple(each for each in objects if known.get(each.name) != each.tag)
    written = {(each.object, each.tag): each for each in read_refused(base)}
    current = {_state(each) for each in objects}
    standing, again = _standing(gate, {_state(each) for each in fresh}, refused=written.keys() & current)
    listed = {state: each for state, each in written.items() if state in current - again}
    seen = {state for batch in standing for state in _states(batch)} | listed.keys()
    new = [each for each in fresh if _state(each) not in seen]
    judged = list(gate.admit([each for each in new if each.file.format != "feedback"]))
    for each in new:  # apart: what people say of answers is no sample of what is asked
        judged += gate.admit([each]) if each.file.format == "feedback" else []
    refused = dict(listed)
    for batch in judged:
        if not batch.facts["passed"]:
            refused |= {state: Refused(*state, batch_time(batch), _reason(batch)) for state in _states(batch)}
    if refused != written:
        write_refused(base, list(refused.values()))
    return Arrived(fresh, (*standing, *judged), tuple(refused.values()))


def list_arrivals(objects: Sequence[SourceObject], *, base: Path) -> Arrived:
    """What there is for the first training, unread: its own stages read and judge all of it, and may take their time.

    Raises
    ------
    ConfigError
        As `read_refused`.
    """
    current = {_state(each) for each in objects}
    refused = {(each.object, each.tag): each for each in read_refused(base) if (each.object, each.tag) in current}
    fresh = tuple(each for each in objects if _state(each) not in refused)
    return Arrived(fresh, (), tuple(refused.values()), is_judged=False)


def write_arrivals(
    target: Path,
    arrived: Arrived,
    *,
    gate: Gate,
    quarantine: Path,
    decided: Mapping[str, str],
    feedback: Mapping[str, object],
) -> Artifact:
    """The artifact of what arrived: `rows/`, measured, and `batches.json`; what was refused goes to `quarantine`.

    Its facts count `objects` that the live model does not know, those of them that no decision was made about yet
    (`objects_new`: of other batches than those `decided`, by name and time) and of these the refused
    (`objects_refused`), those that were only listed (`objects_listed`), `rows`, and `feedback`; `refused` names all
    that the intake lists.
    """
    fresh = {_state(each) for each in arrived.fresh}
    num_listed = 0 if arrived.is_judged else len(fresh)
    num_gone, num_feedback = 0, 0
    with write_artifact(target, kind="arrivals", parents=arrived.batches) as draft:
        with ShardWriter(draft.path / ROWS, gate.schema) as shards:
            for batch in arrived.passed:
                before = shards.num_rows
                num_gone += sum(_copy(batch, fresh, shards))
                num_feedback += (shards.num_rows - before) * _is_of_feedback(batch)
        rows_in = sum(batch.ledger.rows_in for batch in arrived.batches if batch.ledger)
        lines = [batch_line(batch) for batch in arrived.batches]
        text = json.dumps(lines, ensure_ascii=False, indent=2)
        (draft.path / BATCHES).write_text(text + "\n", encoding="utf-8")
        quarantined = sum(batch.counts["quarantined"] for batch in arrived.batches)
        draft.ledger = Ledger(rows_in - num_gone, rows_out=shards.num_rows, quarantined=quarantined)
        draft.counts = {"rows": shards.num_rows, "quarantined": quarantined}
        new = [batch for batch in arrived.batches if decided.get(batch.path.name) != batch_time(batch)]
        draft.facts = {
            "batches": {batch.path.name: batch_time(batch) for batch in arrived.batches},
            "objects": len(arrived.fresh),
            "objects_new": num_listed + sum(len(fresh & set(_states(batch))) for batch in new),
            "objects_listed": num_listed,
            "objects_refused": sum(len(_states(batch)) for batch in new if not batch.facts["passed"]),
            "refused": [each.object for each in arrived.refused],
            "rows": shards.num_rows,
            "feedback": {"rows": num_feedback, **feedback},
        }
    _write_quarantine(quarantine, arrived.batches)
    return read_artifact(target, verify=False)


def decided_on(decision: Path) -> Mapping[str, str]:
    """The batches that the last decision knew, by name the time; none where there was no decision.

    An update that was killed before it decided leaves what it judged to the next one.
    """
    try:
        batches = read_artifact(decision, verify=False).lineage["arrivals"].facts["batches"]
    except (ArtifactError, KeyError):
        return {}
    assert isinstance(batches, dict)
    return batches


def _copy(batch: Artifact, fresh: Collection[State], shards: ShardWriter) -> Iterator[int]:
    """Write the rows of a batch, but for those of objects that are no longer there as they were: counts of these."""
    gone = {name for name, tag in _states(batch) if (name, tag) not in fresh}
    for rows in read_batches(batch.path / ROWS):
        if gone:
            objects = [origin.rpartition(":")[0] for origin in rows.column("origin").to_pylist()]
            kept = rows.filter(pa.array([name not in gone for name in objects], pa.bool_()))
            yield rows.num_rows - kept.num_rows
            rows = kept
        shards.write(rows)


def _write_quarantine(directory: Path, batches: Sequence[Artifact]) -> None:
    with write_artifact(directory, kind="quarantine") as draft:
        gather_quarantines([batch.path / QUARANTINED for batch in batches], draft.path / QUARANTINED)
        draft.counts = {"rows": sum(batch.counts["quarantined"] for batch in batches)}


def _standing(
    gate: Gate, fresh: AbstractSet[State], *, refused: AbstractSet[State]
) -> tuple[list[Artifact], set[State]]:
    """Earlier batches whose verdict stands, and the objects of those that are to be tried again; the rest is removed.

    A verdict stands on objects that are still there and still not known to the live model. One that let them in stands
    by the rules of today; one that refused them as long as the intake says so of each: whoever deletes a line, or mends
    an object, has all tried again that were refused together. So has an update that was killed before it wrote there,
    and what it found of parts of them does not stand: together they may be refused where each part passes.
    """
    found = [(path, _whole(path)) for path in sorted(gate.batches.glob("*"))]
    batches = [batch for _, batch in found if batch is not None and set(_states(batch)) & fresh]
    again = set[State]()
    for batch in batches:
        again |= set() if batch.facts["passed"] else _unless_within(set(_states(batch)), refused)
    standing = [
        batch
        for batch in batches
        if again.isdisjoint(_states(batch)) and (not batch.facts["passed"] or batch.facts["rules"] == gate.rules)
    ]
    stays = {batch.path for batch in standing}
    found.sort(key=lambda each: each[1] is not None and not each[1].facts["passed"])  # parts before what failed
    for path in (path for path, _ in found if path not in stays):
        shutil.rmtree(path)
    return sorted(standing, key=batch_time), again


def _unless_within(states: set[State], refused: AbstractSet[State]) -> set[State]:
    return set() if states <= refused else states


def _whole(path: Path) -> Artifact | None:
    try:
        return read_artifact(path)
    except ArtifactError:
        return None


def batch_time(batch: Artifact) -> str:
    """When the gate judged it: UTC, ISO 8601."""
    return str(batch.facts["time"])


def _states(batch: Artifact) -> list[State]:
    objects = batch.facts["objects"]
    assert isinstance(objects, list)
    return [(each["name"], each["tag"]) for each in objects]


def _state(each: SourceObject) -> State:
    return each.name, each.tag


def _reason(batch: Artifact) -> str:
    reasons = batch.facts["reasons"]
    assert isinstance(reasons, list)
    return "; ".join(reasons)


def _is_of_feedback(batch: Artifact) -> bool:
    return any(name.startswith(f"{INTAKE}/") for name, _ in _states(batch))
