"""The result of a run as people read it."""

from collections.abc import Iterator
from datetime import UTC, tzinfo

from simulator.comparison import Comparison, Mishaps
from simulator.results import Latencies, Result
from tracker import report_text
from tracker.cli import finding_lines
from tracker.status import Reason
from tracker.words import either
from workers.checks.base import foreign_checks


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
            yield f"    of {comparison.uncertain:,} of them it depended on {_unforeseen()}"
        if comparison.engagement != report.engagement:
            differing = ", ".join(
                f"{count:,} {kind.slug}, but is {report.engagement[kind]:,}"
                for kind, count in sorted(comparison.engagement.items())
                if count != report.engagement[kind]
            )
            yield f"✘ engagement    predicted {differing}"
        if comparison.observed or comparison.expected:
            yield from _mishaps(comparison)
        for each in comparison.differences:
            yield f"    message {each.number}: predicted {each.predicted}, but is {each.actual}"
        yield ""
        yield ""
    yield from _figures(result)
    yield ""
    yield from _verdict(result)


def _mishaps(comparison: Comparison) -> Iterator[str]:
    mark = "✔" if comparison.observed == comparison.expected else "✘"
    yield f"{mark} gateway       {_counts(comparison.observed)}"
    if comparison.observed != comparison.expected:
        yield f"    predicted {_counts(comparison.expected)}"


def _counts(mishaps: Mishaps) -> str:
    return " · ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in vars(mishaps).items() if count
    )


def _figures(result: Result) -> Iterator[str]:
    workers = "attached workers" if result.workers is None else f"{result.workers} workers"
    yield (
        f"Throughput     {result.throughput:,.0f} messages/s"
        f"   {result.run.size:,} in {result.seconds:.1f} s"
        f" ({workers}, batches of {result.batch_size:,}, {result.database})"
    )
    own_time = "" if result.run.scenario.clock.speed == 1 else "   in the run's own time"
    yield f"{'Latency':<18}{'p50':>12}{'p95':>12}{'p99':>12}{own_time}"
    yield _latency_line("queued → gateway", result.queued_to_gateway)
    yield _latency_line("queued → final", result.queued_to_final)
    gateway = result.gateway
    if gateway.repeats:
        yield f"Given to the gateway again, and taken once: {gateway.repeats:,}"
    outages = any(each.outage for each in result.run.scenario.gateways.values())
    if outages and not gateway.refused_calls:
        yield "No call fell into a gateway's outage: nothing was under way at the time"
    if gateway.refused_calls:
        yield f"Calls on the gateway while it was away: {gateway.refused_calls:,}"


def _latency_line(label: str, latencies: Latencies) -> str:
    figures = latencies.as_json().values()
    shown = ("-" if figure is None else f"{figure:.3f} s" for figure in figures)
    return f"{label:<18}" + "".join(f"{figure:>12}" for figure in shown)


def _verdict(result: Result) -> Iterator[str]:
    for organization, withheld in result.withheld.items():
        if withheld.predicted or withheld.actual:
            mark = "✔" if withheld.as_predicted else "✘"
            known = "not known" if withheld.predicted is None else f"{withheld.predicted:,}"
            yield (
                f"{mark} withheld        {withheld.actual:,} of {organization},"
                f" {either(_withholders())}; predicted {known}"
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
        yield f"✘ failed          see {'; '.join(_where_to_look(result))}"


def _where_to_look(result: Result) -> Iterator[str]:
    """The commands and files that say more of what went wrong."""
    run = f"--run {result.run.id}"
    differing = [
        f"sendtrace trace {report.campaign.name} {comparison.differences[0].number} {run}"
        for report, comparison in zip(result.reports, result.comparisons, strict=True)
        if comparison.differences
    ]
    if not result.invariants_hold:
        yield f"sendtrace verify {run}"
    yield from differing[:1]
    if result.invariants_hold and not differing:
        yield f"sendtrace report {run}"
    if result.log is not None:
        yield f"the workers' log, {result.log}"


def _unforeseen() -> str:
    """What an oracle that knows the rule book can't tell."""
    names = [check.name for check in foreign_checks()]
    if not names:
        return "who came first"
    return f"who came first, or on checks of other packages ({', '.join(names)})"


def _withholders() -> list[str]:
    """What gives a message the reason of the limit or of credit."""
    allowances = (Reason.MESSAGE_LIMIT, Reason.OUT_OF_CREDIT)
    foreign = [each for each in foreign_checks() if each.reason in allowances]
    return [
        *("over its message limit", "out of credit"),
        *(f"stopped by the check {each.name}" for each in foreign),
    ]
