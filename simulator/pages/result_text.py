"""The result of a run as people read it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo
from statistics import median

from simulator.figures import THROUGHPUT, Unit, format_figure
from simulator.results.result import RunResult
from simulator.results.verdict import (
    check_campaign,
    check_run,
    format_conclusion,
    list_notes,
    list_warnings,
)
from tracker.output import report_text
from tracker.queries.latencies import SPANS
from tracker.text import pluralize


def as_text(result: RunResult, zone: tzinfo = UTC) -> str:
    """Reports, figures and verdict; several lines, without a line end after the last."""
    return "\n".join(_lines(result, zone))


def _lines(result: RunResult, zone: tzinfo) -> Iterator[str]:
    for report, comparison in zip(result.reports, result.prediction_checks, strict=True):
        yield report_text.as_text(report, zone=zone)
        for each in check_campaign(report, comparison):
            yield f"{_mark(each.is_ok)} {each.name:<14}{each.summary}"
            yield from (f"    {more}" for more in each.details)
        yield ""
        yield ""
    yield from _figures(result)
    yield ""
    yield from _verdict(result)


def _mark(holds: bool) -> str:
    return "✔" if holds else "✘"


def _figures(result: RunResult) -> Iterator[str]:
    figures, conditions = result.figures, result.conditions
    many = "attached workers" if conditions.workers is None else f"{conditions.workers} workers"
    yield (
        f"Throughput     {figures[THROUGHPUT] or 0:,.0f} messages/s to the gateway"
        f"   {result.run.size:,} in {result.seconds:.1f} s"
        f" ({many}, batches of {conditions.batch_size:,}, {conditions.database})"
    )
    own_time = "" if result.run.scenario.clock.speed == 1 else "   in the run's own time"
    yield f"{'Latency':<28}" + "".join(f"{name:>11}" for name in LATENCY_COLUMNS) + own_time
    for span in SPANS:
        yield f"{span.label:<28}" + "".join(
            f"{format_figure(figures[f'{span.name}.{name}'], Unit.SECONDS):>11}"
            for name in LATENCY_COLUMNS
        )
    yield from (f"! {each}" for each in list_warnings(result))
    yield from list_notes(result)


LATENCY_COLUMNS = ("p50", "p95", "p99", "p99.9", "max")


def _thresholds(result: RunResult) -> Iterator[str]:
    width = max((len(each.threshold.figure) for each in result.thresholds), default=0)
    for each in result.thresholds:
        threshold = each.threshold
        yield (
            f"{_mark(each.passed)} threshold       {threshold.figure:<{width}}"
            f"   {format_figure(each.value, threshold.unit)}   {threshold.told}"
        )


def _verdict(result: RunResult) -> Iterator[str]:
    for each in check_run(result):
        yield f"{_mark(each.is_ok)} {each.name:<16}{each.summary}"
    for finding in result.invariant_results:
        if not finding.holds:
            yield from report_text.format_finding(finding)
    yield from _thresholds(result)
    word = "passed" if result.has_passed else "failed"
    yield f"{_mark(result.has_passed)} {word:<16}{format_conclusion(result, result.conditions.log)}"


def format_spread(results: Sequence[RunResult]) -> str:
    """How far runs that repeat each other lie apart, in what is judged of two: several lines."""
    figures = [
        (THROUGHPUT, Unit.RATE),
        *((f"{span.name}.p95", Unit.SECONDS) for span in SPANS),
    ]
    lines = [f"{pluralize(len(results), 'run'):<33}{'median':>12}{'least':>12}{'most':>12}"]
    for figure, unit in figures:
        found = [value for each in results if (value := each.figures[figure]) is not None]
        if found:
            shares = (format_figure(of(found), unit) for of in (median, min, max))
            lines.append(f"{figure:<33}" + "".join(f"{share:>12}" for share in shares))
    return "\n".join(lines)
