"""What Prometheus reads of runs: from what workspaces and stores hold when it asks, so that nobody has to report.

The model server has its own metrics (noria/serving/metrics.py). Labels are names of models, flows, stages, metrics
and features: none that a client could make up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.surroundings import read_seen
from noria.errors import NoriaError
from noria.report.data import read_ledgers
from noria.report.operations import read_decision, read_monitoring
from noria.serving.store import ModelStore, store_of
from noria.workspace import Workspace
from tasks.history import read_history
from tasks.runs import read_runs

_FLOWS = ("pipeline", "evaluate-and-update")
_ENDED = ("completed", "failed", "cancelled", "crashed")

Key = TypeVar("Key", bound=tuple[str, ...])
"""The values of a metric's labels, the model's name excepted."""


def runs_metrics(workspaces: Sequence[Workspace]) -> CollectorRegistry:
    """A registry of all that is known of these workspaces' runs, data and champions, each under its model's name."""
    registry = CollectorRegistry()
    registry.register(_Workspaces(workspaces))
    return registry


class _Workspaces(Collector):
    def __init__(self, workspaces: Sequence[Workspace]) -> None:
        self._places = [_Place(workspace) for workspace in workspaces]

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read a store."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Families of all workspaces together: Prometheus wants each once."""
        families: dict[str, Metric] = {}
        for place in self._places:
            for family in place.collect():
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples.extend(family.samples)
        yield from families.values()


class _Place:
    """One workspace and its store."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._model = workspace.config.name
        self._store: ModelStore | None = None
        self._metrics: dict[str, Mapping[str, float]] = {}

    def collect(self) -> Iterator[Metric]:
        yield from self._runs()
        yield from self._stages()
        yield from self._rows()
        yield from self._update()
        try:
            champion = list(self._champion())
            is_up = 1.0
        except (NoriaError, OSError):
            champion, is_up = [], 0.0
        yield self._gauge("noria_store_up", "Whether the model store can be read.", {(): is_up})
        yield from champion

    def _runs(self) -> Iterator[Metric]:
        runs = read_runs(self._workspace)
        flows = dict.fromkeys([*_FLOWS, *(run.flow for run in runs)])
        counts = {(flow, state): 0 for flow in flows for state in _ENDED}  # an increase needs something to start from
        last, seconds = {}, {}
        for run in runs:
            if run.state in _ENDED:
                counts[run.flow, run.state] += 1
            if run.ended and run.state == "completed":
                last[run.flow,] = _timestamp(run.ended)
                seconds[run.flow,] = _timestamp(run.ended) - _timestamp(run.started)
        at_work = {(): float(sum(run.state == "running" for run in runs))}
        yield self._counter("noria_runs", "Runs that are over, by how they ended.", counts, "flow", "state")
        yield self._gauge("noria_run_in_progress", "Runs at work.", at_work)
        yield self._gauge("noria_run_success_timestamp_seconds", "When a run last completed.", last, "flow")
        yield self._gauge("noria_run_seconds", "How long the last completed run took.", seconds, "flow")

    def _stages(self) -> Iterator[Metric]:
        states: Counter[tuple[str, str]] = Counter()
        seconds = {}
        for attempt in read_history(self._workspace):
            states[attempt.stage, attempt.state] += 1
            if attempt.state == "ran":
                seconds[attempt.stage,] = attempt.seconds
        yield self._counter("noria_stages", "Attempts at a stage, by how they ended.", states, "stage", "state")
        yield self._gauge("noria_stage_seconds", "How long a stage took when it last ran.", seconds, "stage")

    def _rows(self) -> Iterator[Metric]:
        rows: dict[tuple[str, str], float] = {}
        for kind, ledger in read_ledgers(self._workspace):
            rows |= {(kind, "in"): float(ledger.rows_in), (kind, "out"): float(ledger.rows_out)}
            rows |= {(kind, "added"): float(ledger.added), (kind, "quarantined"): float(ledger.quarantined)}
        yield self._gauge("noria_rows", "Rows of the data that are there now.", rows, "made", "part")

    def _update(self) -> Iterator[Metric]:
        """What the last update saw and decided."""
        seen, decision = read_seen(self._workspace), read_decision(self._workspace)
        features = (read_monitoring(self._workspace) or {}).get("features", ())
        drift = {(str(one["name"]), str(one["statistic"])): float(one["value"]) for one in features}
        drifted, refused = {(): float(len(seen.drifted))}, {(): float(seen.objects_refused)}
        yield self._gauge("noria_drift", "How far fresh rows are from training rows.", drift, "feature", "statistic")
        yield self._gauge("noria_drifted_features", "Features that drifted, by the last update.", drifted)
        yield self._gauge("noria_refused_objects", "Source objects that the gate refused whole.", refused)
        if decision is not None:
            when, action = {(): _timestamp(decision["time"])}, {(str(decision["action"]),): 1.0}
            yield self._gauge("noria_decision_timestamp_seconds", "When an update last decided.", when)
            yield self._gauge("noria_decision", "What the last update decided to do.", action, "action")
        if seen.metric is not None and seen.metric.get("value") is not None:
            fresh = {(str(seen.metric["name"]),): float(seen.metric["value"])}
            yield self._gauge("noria_fresh_metric", "The champion's metric on fresh rows.", fresh, "metric")
        if seen.feedback is not None:
            learned = {(): float(seen.feedback["rows"])}
            yield self._gauge("noria_feedback_rows", "Rows to learn from that people's feedback made.", learned)

    def _champion(self) -> Iterator[Metric]:
        self._store = self._store or store_of(self._workspace)
        live, journal = self._store.production(), self._store.journal
        events = {(kind,): num for kind, num in journal.num_events().items()}
        yield self._counter("noria_events", "Events of the model store's journal.", events, "event")
        if live is None:
            return
        version, since = live.version, _timestamp(live.since)
        known = {(version, name): value for name, value in self._known_metrics(version, self._store).items()}
        yield self._gauge("noria_champion_timestamp_seconds", "When it went live.", {(version,): since}, "version")
        yield self._gauge("noria_champion_metric", "It on its validation rows.", known, "version", "metric")
        if (canary := live.canary) is not None:
            tried = {(canary.version, str(canary.mode)): _timestamp(canary.waiting_since)}
            yield self._gauge("noria_trial_timestamp_seconds", "Since when it is tried.", tried, "version", "mode")

    def _known_metrics(self, version: str, store: ModelStore) -> Mapping[str, float]:
        """Read once a version: it never changes."""
        if version not in self._metrics:
            found = store.fetch(version, signed=False).facts.get("metrics", {})
            assert isinstance(found, Mapping), "every bundle is measured"
            self._metrics = {version: {str(name): float(value) for name, value in found.items()}}
        return self._metrics[version]

    def _gauge(self, name: str, documentation: str, values: Mapping[Key, float], *labels: str) -> Metric:
        family = GaugeMetricFamily(name, documentation, labels=["model", *labels])
        for key, value in values.items():
            family.add_metric([self._model, *key], value)
        return family

    def _counter(self, name: str, documentation: str, counts: Mapping[Key, int], *labels: str) -> Metric:
        family = CounterMetricFamily(name, documentation, labels=["model", *labels])
        for key, count in counts.items():
            family.add_metric([self._model, *key], count)
        return family


def _timestamp(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
