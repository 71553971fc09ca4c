"""The result of a run as text."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, tzinfo
from statistics import median

from simulator.figures import THROUGHPUT, Unit, format_figure
from simulator.results.judgement import ConditionResult
from simulator.results.result import BATCH_RESOLUTION, RunResult
from simulator.results.verdict import (
    check_campaign,
    check_run,
    format_conclusion,
    list_notes,
    list_warnings,
)
from tracker.output import report_text
from tracker.queries.durations.latencies import SPANS
from tracker.text import pluralize

LATENCY_COLUMNS = ("p50", "p95", "p99", "p99.9", "max")

NOT_JUDGED_MARK = "–"
"""The mark of a threshold or an expectation that can't be judged."""

SPREAD_STATISTICS: tuple[Callable[[Sequence[float]], float], ...] = (median, min, max)


def format_result(result: RunResult, zone: tzinfo = UTC) -> str:
    """Return reports, figures and verdict as several lines, without a line end after the last."""
    return "\n".join(_format_lines(result, zone))


def _format_lines(result: RunResult, zone: tzinfo) -> Iterator[str]:
    for report, prediction_check in zip(result.reports, result.prediction_checks, strict=True):
        yield report_text.format_report(report, zone=zone)
        for check in check_campaign(report, prediction_check):
            yield f"{_mark(check.is_ok)} {check.name}: {check.summary}"
            yield from (f"    {detail}" for detail in check.details)
        yield ""
        yield ""
    yield from _format_figures(result)
    yield ""
    yield from _format_verdict(result)


def _mark(is_ok: bool) -> str:
    return "✔" if is_ok else "✘"


def _format_figures(result: RunResult) -> Iterator[str]:
    figures, conditions = result.figures, result.conditions
    workers = (
        "attached workers"
        if conditions.workers is None
        else pluralize(conditions.workers, "worker process")
    )
    yield (
        f"Throughput     {format_figure(figures[THROUGHPUT], Unit.RATE)} to the gateway"
        f" ({workers}, batches of {conditions.batch_size:,}, {conditions.database})"
    )
    yield f"Duration       {result.seconds:.1f} s from the first step to the last"
    yield f"Limit          {result.limit.sentence}"
    yield f"               {result.limit.change}"
    is_real_time = result.run.scenario.clock.speed == 1
    header = f"{'Latency':<28}" + "".join(f"{name:>11}" for name in LATENCY_COLUMNS)
    yield header if is_real_time else f"{header}   in simulated time"
    for span in SPANS:
        resolution = f"   resolution: {BATCH_RESOLUTION}" if span in result.batch_spans else ""
        yield (
            f"{span.label:<28}"
            + "".join(
                f"{format_figure(figures[f'{span.name}.{name}'], Unit.SECONDS):>11}"
                for name in LATENCY_COLUMNS
            )
            + resolution
        )
    yield from (f"! {warning}" for warning in list_warnings(result))
    yield from list_notes(result)


def _format_thresholds(result: RunResult) -> Iterator[str]:
    width = max((len(outcome.threshold.figure) for outcome in result.thresholds), default=0)
    for outcome in result.thresholds:
        threshold = outcome.threshold
        yield _format_judgement(
            outcome,
            f"threshold       {threshold.figure:<{width}}"
            f"   {format_figure(outcome.value, threshold.unit)}   {threshold.expression}",
        )


def _format_expectations(result: RunResult) -> Iterator[str]:
    width = max((len(outcome.name) for outcome in result.expectations), default=0)
    for outcome in result.expectations:
        yield _format_judgement(
            outcome,
            f"expectation     {outcome.name:<{width}}   {outcome.actual:,}   {outcome.expected}",
        )
        for difference in outcome.differences:
            yield (
                f"    customer {difference.customer}, message {difference.number}:"
                f" expected {difference.expected}, got {difference.actual}"
            )


def _format_judgement(judgement: ConditionResult, condition: str) -> str:
    if judgement.unjudged_reason is not None:
        return f"{NOT_JUDGED_MARK} {condition}   not judged: {judgement.unjudged_reason}"
    return f"{_mark(judgement.holds)} {condition}"


def _format_verdict(result: RunResult) -> Iterator[str]:
    for check in check_run(result):
        yield f"{_mark(check.is_ok)} {check.name:<16}{check.summary}"
    for finding in result.invariant_results:
        if not finding.is_satisfied:
            yield from report_text.format_invariant_result(finding)
    yield from _format_thresholds(result)
    yield from _format_expectations(result)
    verdict = "passed" if result.has_passed else "failed"
    conclusion = format_conclusion(result, result.conditions.log)
    yield f"{_mark(result.has_passed)} {verdict:<16}{conclusion}"


def format_spread(results: Sequence[RunResult]) -> str:
    """Return median, minimum and maximum of the compared figures of repeated runs, as lines."""
    figures = [
        (THROUGHPUT, Unit.RATE),
        *((f"{span.name}.p95", Unit.SECONDS) for span in SPANS),
    ]
    lines = [f"{pluralize(len(results), 'run'):<33}{'median':>12}{'min':>12}{'max':>12}"]
    for figure, unit in figures:
        values = [value for result in results if (value := result.figures[figure]) is not None]
        if values:
            cells = [format_figure(statistic(values), unit) for statistic in SPREAD_STATISTICS]
            lines.append(f"{figure:<33}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)
