"""What Prometheus reads at /metrics: few labels, and none that a client could make up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from noria.serving.live import Live

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of one application, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "noria_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "noria_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._refusals = Counter("noria_refusals", "Requests refused, by reason.", ["reason"], registry=self._registry)
        self._batch_rows = Histogram(
            "noria_batch_rows", "Rows computed together.", ["model"], buckets=_ROWS, registry=self._registry
        )
        self._tokens = Counter("noria_tokens", "Tokens computed.", ["model"], registry=self._registry)
        self._feedback = Counter(
            "noria_feedback",
            "Answers that people called right or wrong.",
            ["model", "verdict"],
            registry=self._registry,
        )
        self._models = _Models()
        self._registry.register(self._models)

    def follow(self, live: Live) -> None:
        """Tell of this model: its versions, and what waits for it."""
        self._models.followed[live.name] = live

    def requested(self, *, route: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """A request was not answered."""
        self._refusals.labels(reason).inc()

    def computed(self, model: str, *, num_rows: int, num_tokens: int) -> None:
        """A batch is done."""
        self._batch_rows.labels(model).observe(num_rows)
        self._tokens.labels(model).inc(num_tokens)

    def said(self, model: str, *, is_right: bool) -> None:
        """Somebody judged an answer."""
        self._feedback.labels(model, "right" if is_right else "wrong").inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class _Models(Collector):
    """Read from the models themselves when asked: a swapped version needs to tell nobody."""

    def __init__(self) -> None:
        self.followed: dict[str, Live] = {}

    def collect(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily("noria_queue_rows", "Rows that wait to be computed.", labels=["model"])
        inside = GaugeMetricFamily(
            "noria_requests_inside", "Requests being read, waiting or computed.", labels=["model"]
        )
        wait = GaugeMetricFamily(
            "noria_wait_seconds", "How long a request that comes now would wait.", labels=["model"]
        )
        for name, live in self.followed.items():
            queue.add_metric([name], live.batcher.num_waiting)
            inside.add_metric([name], live.admission.num_requests)
            wait.add_metric([name], live.admission.wait_s)
        yield from (queue, inside, wait)
        yield from self._versions()

    def _versions(self) -> Iterator[Metric]:
        """What each version that is served does: counted from its last change of role on."""
        by, of = ["model", "version"], ["model", "version", "role"]
        info = GaugeMetricFamily("noria_model_info", "The versions that are served.", labels=[*of, "scenario"])
        share = GaugeMetricFamily("noria_canary_share", "Of the requests that a version is tried on.", labels=of)
        errors = CounterMetricFamily("noria_version_errors", "Requests on which a version failed.", labels=of)
        seconds = HistogramMetricFamily(
            "noria_version_seconds", "From the body of a request to the last of its answers, by version.", labels=of
        )
        rows = CounterMetricFamily(
            "noria_shadow_rows", "Rows that a shadow answered as the champion, or not.", labels=[*by, "is_same"]
        )
        for name, live in self.followed.items():
            for role, serving in live.lineup.roles():
                labels, tally = [name, serving.version, role], serving.tally
                info.add_metric([*labels, serving.predictor.bundle.scenario.name], 1)
                errors.add_metric(labels, tally.errors)
                ends = [(f"{end:.3g}", float(count)) for end, count in tally.cumulative()]
                seconds.add_metric(labels, [*ends, ("+Inf", float(tally.answers))], tally.total_s)
            if (trial := live.lineup.trial) is not None:
                version, tally = trial.challenger.version, trial.challenger.tally
                share.add_metric([name, version, trial.canary.mode], trial.canary.share)
                rows.add_metric([name, version, "yes"], tally.same_rows)
                rows.add_metric([name, version, "no"], tally.other_rows)
        yield from (info, share, errors, seconds, rows)
