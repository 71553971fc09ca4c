"""Traces: a span a step, linked along the batch."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.support.factory import Plan, make_batch
from tests.support.task_loop import TaskLoop
from tracker.queries.next_step import CHECK_CHAIN
from tracker.status import Step
from tracker.store.database import Database
from workers.upkeep.tracing import Tracing


@pytest.fixture
def exporter() -> Iterator[Any]:
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel isn't installed")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)
    tracing.connect()
    yield exporter
    tracing.disconnect()
    provider.shutdown()


def test_each_step_has_a_span_that_links_to_the_previous_one(
    database: Database, loop: TaskLoop, exporter: Any
) -> None:
    batch = make_batch(database, Plan(size=2))
    loop.enqueue(batch, Step.SUPPRESS)
    for _ in CHECK_CHAIN:
        loop.run_next()
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [str(step) for step in CHECK_CHAIN]
    assert [span.attributes["celery.state"] for span in spans] == ["SUCCESS"] * len(CHECK_CHAIN)
    assert {span.attributes["sendtrace.run"] for span in spans} == {batch.campaign.run_id}
    assert spans[0].links == ()
    for before, span in pairwise(spans):
        [link] = span.links
        assert link.context.span_id == before.context.span_id
        assert span.context.trace_id != before.context.trace_id
