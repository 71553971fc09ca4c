"""The result of a run as people read it."""

from collections.abc import Iterator
from datetime import UTC, tzinfo

from simulator.results import Latencies, Result
from tracker import report_text
from tracker.cli import finding_lines


def as_text(result: Result, zone: tzinfo = UTC) -> str:
    """Reports, figures and verdict; several lines, without a line end after the last."""
    return "\n".join(_lines(result, zone))


def _lines(result: Result, zone: tzinfo) -> Iterator[str]:
    for report, comparison in zip(result.reports, result.comparisons, strict=True):
        yield report_text.as_text(report, zone=zone)
        mark = "✔" if comparison.as_predicted == comparison.messages else "✘"
        yield (
            f"{mark} as predicted  {comparison.as_predicted:,} of {comparison.messages:,} messages"
        )
        if comparison.uncertain:
            yield f"    of {comparison.uncertain:,} of them it depended on who came first"
        if comparison.engagement != report.engagement:
            differing = ", ".join(
                f"{count:,} {kind.slug}, but is {report.engagement[kind]:,}"
                for kind, count in sorted(comparison.engagement.items())
                if count != report.engagement[kind]
            )
            yield f"✘ engagement    predicted {differing}"
        for each in comparison.differences:
            yield f"    message {each.number}: predicted {each.predicted}, but is {each.actual}"
        yield ""
        yield ""
    yield from _figures(result)
    yield ""
    yield from _verdict(result)


def _figures(result: Result) -> Iterator[str]:
    workers = "attached workers" if result.workers is None else f"{result.workers} workers"
    yield (
        f"Throughput     {result.throughput:,.0f} messages/s"
        f"   {result.run.size:,} in {result.seconds:.1f} s"
        f" ({workers}, batches of {result.batch_size:,}, {result.database})"
    )
    yield f"{'Latency':<18}{'p50':>10}{'p95':>10}{'p99':>10}"
    yield _latency_line("queued → gateway", result.queued_to_gateway)
    yield _latency_line("queued → final", result.queued_to_final)
    if result.repeats:
        yield f"Given to the gateway again, and taken once: {result.repeats:,}"


def _latency_line(label: str, latencies: Latencies) -> str:
    figures = latencies.as_json().values()
    shown = ("-" if figure is None else f"{figure:.3f} s" for figure in figures)
    return f"{label:<18}" + "".join(f"{figure:>10}" for figure in shown)


def _verdict(result: Result) -> Iterator[str]:
    for organization, withheld in result.withheld.items():
        if withheld.predicted or withheld.actual:
            mark = "✔" if withheld.as_predicted else "✘"
            known = "not known" if withheld.predicted is None else f"{withheld.predicted:,}"
            yield (
                f"{mark} withheld        {withheld.actual:,} of {organization}, over its message"
                f" limit or out of credit; predicted {known}"
            )
    holding = sum(finding.holds for finding in result.findings)
    mark = "✔" if result.invariants_hold else "✘"
    yield f"{mark} invariants      {holding} of {len(result.findings)} hold"
    for finding in result.findings:
        if not finding.holds:
            yield from finding_lines(finding)
    if result.passed:
        yield "✔ passed          balanced, invariants hold, every message as predicted"
    else:
        yield f"✘ failed          see sendtrace verify --run {result.run.id}"
