"""Traces with OpenTelemetry, which is optional: a span a step, linked to the batch's previous one.

`sendtrace[otel]` installs it, and its standard variable OTEL_EXPORTER_OTLP_ENDPOINT turns it on.
"""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from celery.signals import (
    before_task_publish,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_process_shutdown,
)

from tracker.errors import UsageError
from workers.queues import TASK_NAMES
from workers.upkeep.task_logs import read_task_fields

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""The variables of OpenTelemetry that name the collector."""

LINK_HEADER = "sendtrace_traceparent"
"""Header of a task that names the span of the step which enqueued it."""

_tracing: ContextVar["Tracing | None"] = ContextVar("tracing", default=None)


def connect() -> None:
    """Trace the steps of this worker's processes if a collector is configured.

    Raises:
        UsageError: a collector is configured, and OpenTelemetry isn't installed.
    """
    if not any(map(os.environ.get, ENDPOINT_VARIABLES)):
        return
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401
    except ImportError:
        raise UsageError(
            f"{ENDPOINT_VARIABLES[0]} is set, but OpenTelemetry isn't installed;"
            " pip install 'sendtrace[otel]'"
        ) from None
    # After the fork, since the exporter's thread doesn't survive it.
    worker_process_init.connect(_start)
    worker_process_shutdown.connect(_stop)


def _start(**_: object) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "sendtrace"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing = Tracing(provider)
    _tracing.set(tracing)
    tracing.connect()


def _stop(**_: object) -> None:
    tracing = _tracing.get()
    if tracing is not None:
        tracing.provider.shutdown()


class Tracing:
    """Spans of the steps that this process runs.

    A batch may wait for hours, so its steps are linked and not nested: each is a trace of its own.
    """

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("sendtrace")
        self._span: Any = None

    def connect(self) -> None:
        """Have Celery begin and end the spans."""
        task_prerun.connect(self._begin)
        task_postrun.connect(self._end)
        before_task_publish.connect(self._add_link)

    def disconnect(self) -> None:
        """Begin no further span."""
        task_prerun.disconnect(self._begin)
        task_postrun.disconnect(self._end)
        before_task_publish.disconnect(self._add_link)

    def _begin(self, task_id: str, task: Any, kwargs: Mapping[str, Any], **_: object) -> None:
        from opentelemetry.trace import Link, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if task.name not in TASK_NAMES:
            return
        carrier = {"traceparent": task.request.get(LINK_HEADER) or ""}
        context = TraceContextTextMapPropagator().extract(carrier)
        previous = get_current_span(context).get_span_context()
        fields = read_task_fields(task_id, task.name, task.request.get("kwargsrepr") or str(kwargs))
        self._span = self._tracer.start_span(
            str(fields["step"]),
            links=[Link(previous)] if previous.is_valid else [],
            attributes={f"sendtrace.{name}": value for name, value in fields.items()},
        )

    def _end(self, state: str | None = None, **_: object) -> None:
        from opentelemetry.trace import StatusCode

        if self._span is not None:
            self._span.set_attribute("celery.state", state or "")
            if state == "FAILURE":
                self._span.set_status(StatusCode.ERROR)
            self._span.end()
            self._span = None

    def _add_link(self, headers: dict[str, Any], **_: object) -> None:
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if self._span is not None:
            carrier: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(carrier, set_span_in_context(self._span))
            headers[LINK_HEADER] = carrier["traceparent"]
