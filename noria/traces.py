"""OpenTelemetry traces of a run: a span for it, one for each node, one for each stage's process.

They are off unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) names a collector; then the
extra `traces` is needed. A span's parent is what `TRACEPARENT` holds (W3C Trace Context), in this process as in those
that it starts: so whoever starts a run inside a trace of his own finds it there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

PARENT = "TRACEPARENT"
"""Environment variable: the span that those of this process belong to."""

logger = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TIMEOUT = "OTEL_EXPORTER_OTLP_TIMEOUT"
_SEND_S = 3.0
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Traced:
    """What can be said of a span while it lasts; nothing, where nobody traces."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def note(self, name: str, value: str | float) -> None:
        """Add an attribute."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def fail(self, reason: str) -> None:
        """Say that it went wrong."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, reason)


@contextmanager
def span(name: str, *, attributes: Mapping[str, str] = _NOTHING) -> Iterator[Traced]:
    """A span for as long as the block runs; one that raises has failed."""
    provider = _provider() if any(os.environ.get(endpoint) for endpoint in _ENDPOINTS) else None
    if provider is None:
        yield Traced()
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator, before = TraceContextTextMapPropagator(), os.environ.get(PARENT)
    parent = propagator.extract({"traceparent": before} if before else {})
    carrier: dict[str, str] = {}
    tracer = provider.get_tracer("noria")
    with tracer.start_as_current_span(name, context=parent, attributes=dict(attributes)) as current:
        propagator.inject(carrier)
        os.environ[PARENT] = carrier["traceparent"]
        try:
            yield Traced(current)
        finally:
            if before is None:
                del os.environ[PARENT]
            else:
                os.environ[PARENT] = before


@cache
def _provider() -> TracerProvider | None:
    """Sends spans from a thread of its own, the last ones when the process exits."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        logger.warning("no traces: %s (the extra `traces`)", error)
        return None
    service = os.environ.get("OTEL_SERVICE_NAME", "noria")
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    timeout_s = None if os.environ.get(_TIMEOUT) else _SEND_S
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=timeout_s)))
    return provider
