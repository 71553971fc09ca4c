"""Metrics of the counters on record, which outlive the campaigns whose work they count."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from tracker.clock import to_seconds
from tracker.record.journal import State
from tracker.record.monitoring.counters import (
    BUCKET_SECONDS,
    CounterName,
    CounterValue,
    state_labels,
)
from tracker.record.receipts import OUTCOME_STATUSES
from tracker.status import Reason, ReceiptVerdict, Status, Step
from tracker.web.metrics.catalog import Metric, MetricFamily

METRIC_BY_COUNTER = {
    CounterName.TRANSITIONS: Metric.TRANSITIONS,
    CounterName.FAILED_STEPS: Metric.FAILED_STEPS,
    CounterName.GATEWAY_CALLS: Metric.GATEWAY_CALLS,
    CounterName.GATEWAY_REFUSALS: Metric.GATEWAY_REFUSALS,
    CounterName.GATEWAY_UNAVAILABLE: Metric.GATEWAY_UNAVAILABLE,
    CounterName.REFUSED_RECEIPTS: Metric.RECEIPTS,
}
METRIC_BY_HISTOGRAM = {
    CounterName.STEP_SECONDS: Metric.STEP_SECONDS,
    CounterName.WAIT_SECONDS: Metric.WAIT_SECONDS,
}

CHECK_AND_GATEWAY_STEPS = [step for step in Step if step is not Step.ENQUEUE]
"""The steps that a task runs."""

CounterValues = Mapping[str, Mapping[str, CounterValue]]
"""Values by the counter's name and its labels."""


def collect_counters(counters: CounterValues) -> Iterator[MetricFamily]:
    """Return the metrics of all counters."""
    for name, metric in METRIC_BY_COUNTER.items():
        family = metric.make_counter()
        for labels, value in {**_zeros(name, counters), **counters.get(name, {})}.items():
            values = labels.split()
            family.add_metric(values + [""] * (len(metric.labels) - len(values)), value.events)
        if name is CounterName.REFUSED_RECEIPTS:
            family.add_metric(["applied"], _count_applied_receipts(counters))
        yield family
    for name, metric in METRIC_BY_HISTOGRAM.items():
        yield _make_histogram(metric, counters.get(name, {}))


def _zeros(name: CounterName, counters: CounterValues) -> dict[str, CounterValue]:
    """Return zeros for what has not happened yet: Prometheus sees an increase from zero only."""
    kinds = {labels.split()[0] for labels in counters.get(CounterName.GATEWAY_CALLS, ())}
    labels: Iterable[str]
    match name:
        case CounterName.TRANSITIONS:
            statuses = [status for status in Status if status is not Status.NOT_SENT]
            states = [State(status=status) for status in statuses]
            states += [State(status=Status.NOT_SENT, reason=reason) for reason in Reason]
            labels = [state_labels(state.status, state.reason) for state in states]
        case CounterName.FAILED_STEPS:
            labels = CHECK_AND_GATEWAY_STEPS
        case CounterName.REFUSED_RECEIPTS:
            labels = ReceiptVerdict
        case CounterName.GATEWAY_REFUSALS | CounterName.GATEWAY_UNAVAILABLE:
            labels = kinds
        case _:
            labels = ()
    return {label: CounterValue() for label in labels}


def _count_applied_receipts(counters: CounterValues) -> int:
    """Return the number of transitions that receipts made: only they lead to an outcome."""
    transitions = counters.get(CounterName.TRANSITIONS, {})
    slugs = {status.slug for status in OUTCOME_STATUSES}
    return sum(value.events for labels, value in transitions.items() if labels in slugs)


def _make_histogram(metric: Metric, values: Mapping[str, CounterValue]) -> MetricFamily:
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKET_SECONDS) + 1))
    micros: defaultdict[str, int] = defaultdict(int)
    for labels, value in values.items():
        label, bucket = labels.split()
        counts[label][int(bucket)] = value.events
        micros[label] += value.microseconds
    family = metric.make_histogram()
    upper_bounds = [*map(str, BUCKET_SECONDS), "+Inf"]
    for label, events in counts.items():
        buckets = zip(upper_bounds, accumulate(events), strict=True)
        family.add_metric([label], list(buckets), to_seconds(micros[label]))
    return family
