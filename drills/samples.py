"""The metrics of the live page before and after the harm."""

import time
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from drills.stack import DrillStack
from tracker.web.metrics.catalog import Metric

COUNTED_WORK = frozenset(
    metric.full_name.removesuffix("_total")
    for metric in (
        Metric.MESSAGES, Metric.NOT_SENT, Metric.SCHEDULED, Metric.DEFERRED, Metric.TRANSITIONS,
        Metric.STEP_SECONDS, Metric.WAIT_SECONDS, Metric.GATEWAY_CALLS, Metric.RECEIPTS,
        Metric.QUEUE_TASKS, Metric.OLDEST_MESSAGE, Metric.LAST_REQUEUE, Metric.LAST_ROLLUP,
        Metric.CHECK_SECONDS, Metric.CHECK_CALLS, Metric.LAST_READ,
    )
)  # fmt: skip
"""Metrics that change in any second of a campaign."""

SWEEP = Metric.LAST_SWEEP.full_name

OVERDUE_SECONDS = 10.0
"""Age of the last sweep from which it is mentioned."""

Samples = Mapping[str, float]
"""Values by the metric's name and labels."""


def read_samples(stack: DrillStack) -> Samples:
    """Return the metrics that don't count the work itself; none without an answer."""
    answer = stack.ask("/metrics")
    if answer.status != 200:
        return {}
    return {
        sample.name + _format_labels(sample.labels): sample.value
        for family in text_string_to_metric_families(answer.text)
        if family.name not in COUNTED_WORK
        for sample in family.samples
    }


def _format_labels(labels: Mapping[str, str]) -> str:
    texts = [f'{name}="{value}"' for name, value in labels.items() if value]
    return f"{{{', '.join(texts)}}}" if texts else ""


def compare_samples(before: Samples, after: Samples) -> list[str]:
    """Return a line for each metric that changed; one line if there are none any more."""
    if not after:
        return ["/metrics doesn't answer"]
    lines = []
    for name in [*before, *(name for name in after if name not in before)]:
        values = (before.get(name), after.get(name))
        if name.startswith(Metric.DISK_FREE.full_name) and not _is_filled(*values):
            continue
        if name == SWEEP:
            age = time.time() - after.get(name, 0.0)
            lines += [f"{name}: {age:.0f} s ago"] if age > OVERDUE_SECONDS else []
        elif values[0] != values[1] and values != (None, 0.0):
            lines.append(f"{name}: {_format_value(values[0])} → {_format_value(values[1])}")
    return lines


def _is_filled(before: float | None, after: float | None) -> bool:
    """Return whether a disk has much less space than before: any process uses some."""
    return before is not None and after is not None and after < before / 2


def _format_value(value: float | None) -> str:
    return "absent" if value is None else f"{value:g}"
