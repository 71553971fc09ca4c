"""The verdict on a result in words: checks, conclusion, warnings and notes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from simulator.figures import THROUGHPUT
from simulator.results.anomalies import GatewayAnomalies
from simulator.results.judgement import ConditionResult, count_missed, count_unjudged
from simulator.results.observations import UNOBSERVED_CAUSE, RunState, describe_distortion
from simulator.results.prediction_check import PredictionCheck
from simulator.results.result import RunResult
from simulator.scenario.faults import InjectedFault
from tracker.audit.invariants import InvariantResult
from tracker.clock import to_datetime
from tracker.output.report_text import format_invariant_result
from tracker.queries.failures import RecordedFailure
from tracker.queries.report import Report
from tracker.text import pluralize

LONG_CHECK_SECONDS, LONG_CALL_SECONDS = 1.0, 0.001
"""Seconds of all calls of a check, and of each, from which both together are worth a warning."""


class VerdictItem(NamedTuple):
    """A check of the verdict and its result in words."""

    is_ok: bool
    name: str
    summary: str
    details: tuple[str, ...] = ()


def check_campaign(report: Report, check: PredictionCheck) -> Iterator[VerdictItem]:
    """Yield the checks of a campaign against its prediction."""
    yield VerdictItem(
        not check.differing,
        "matches prediction",
        _format_matching([check]),
        tuple(_describe_differences(check)),
    )
    if check.expected_engagement != report.engagement:
        differing = ", ".join(
            f"{count:,} {kind.slug}, got {report.engagement[kind]:,}"
            for kind, count in sorted(check.expected_engagement.items())
            if count != report.engagement[kind]
        )
        yield VerdictItem(False, "engagement", f"expected {differing}")
    observed, expected = check.observed_anomalies, check.expected_anomalies
    if observed or expected:
        is_equal = observed == expected
        details = () if is_equal else (f"expected {_format_anomalies(expected)}",)
        yield VerdictItem(is_equal, "gateway", _format_anomalies(observed), details)


def _format_matching(checks: Sequence[PredictionCheck]) -> str:
    matching = sum(check.matching for check in checks)
    compared = sum(check.compared for check in checks)
    unsettled = sum(check.unsettled for check in checks)
    if not any(check.messages for check in checks):
        return "nothing was queued"
    parts = [f"{matching:,} of {compared:,} messages"]
    parts += _list_excepted_messages(checks)
    if unsettled:
        parts.append(f"{unsettled:,} had not settled yet")
    return "; ".join(parts)


def _list_excepted_messages(checks: Sequence[PredictionCheck]) -> Iterator[str]:
    """Yield how many messages have no prediction, by cause."""
    blocked = sum((Counter(check.not_predicted) for check in checks), Counter[str]())
    if blocked:
        rules = ", ".join(f"{name} blocked {count:,}" for name, count in sorted(blocked.items()))
        yield f"{blocked.total():,} not predicted ({rules})"
    cancelled = sum(check.cancelled for check in checks)
    if cancelled:
        yield f"{cancelled:,} cancelled"
    uncertain = sum(check.uncertain for check in checks)
    if uncertain:
        yield f"{uncertain:,} depended on the order of concurrent campaigns"


def _describe_differences(check: PredictionCheck) -> Iterator[str]:
    for difference in check.differences:
        yield (
            f"message {difference.number}: expected {difference.predicted}, got {difference.actual}"
        )


def _format_anomalies(anomalies: GatewayAnomalies) -> str:
    counts = anomalies.as_json().items()
    parts = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts if count]
    return " · ".join(parts) or "no anomalies"


def check_result(result: RunResult) -> Iterator[VerdictItem]:
    """Yield the checks of a run, with those of its campaigns summed up."""
    unbalanced = [report.campaign.name for report in result.reports if not report.is_balanced]
    summary = "every sum adds up"
    if unbalanced:
        summary = f"the sums of {', '.join(unbalanced)} do not add up"
    yield VerdictItem(result.is_balanced, "balanced", summary)
    yield _check_predictions(result)
    yield from check_run(result)
    for noun, judgements in _list_judgements(result):
        missed, unjudged = count_missed(judgements), count_unjudged(judgements)
        summary = f"{len(judgements) - missed - unjudged} of {len(judgements)} met"
        summary += f", {unjudged} not judged" if unjudged else ""
        yield VerdictItem(not missed and not unjudged, f"{noun}s", summary)


def _list_judgements(result: RunResult) -> Iterator[tuple[str, Sequence[ConditionResult]]]:
    """Yield the judgements of each kind of condition that the scenario sets, with its noun."""
    if result.thresholds:
        yield "threshold", result.thresholds
    if result.expectations:
        yield "expectation", result.expectations


def check_run(result: RunResult) -> Iterator[VerdictItem]:
    """Yield the checks that concern a run as a whole, except its thresholds."""
    for organization, withheld in result.withheld.items():
        if withheld.predicted or withheld.actual:
            expected = "unknown" if withheld.predicted is None else f"{withheld.predicted:,}"
            summary = (
                f"{withheld.actual:,} of {organization}'s messages, over the message limit or out"
                f" of credit; expected {expected}"
            )
            yield VerdictItem(withheld.is_as_predicted, "withheld", summary)
    broken = [finding for finding in result.invariant_results if not finding.is_satisfied]
    unknown = [finding for finding in result.invariant_results if finding.unknown is not None]
    total = len(result.invariant_results)
    details = [line for finding in (*broken, *unknown) for line in _format_finding(finding)]
    summary = f"{total - len(broken) - len(unknown)} of {total} hold"
    if unknown:
        summary += f"; {len(unknown)} not known"
    yield VerdictItem(not broken, "invariants", summary, tuple(details))


def _check_predictions(result: RunResult) -> VerdictItem:
    """Sum up the checks of all campaigns, and name the campaigns that differ."""
    differing = [
        report.campaign.name
        for report, check in zip(result.reports, result.prediction_checks, strict=True)
        if not all(item.is_ok for item in check_campaign(report, check))
    ]
    details = (f"see the differences of {', '.join(differing)} below",) if differing else ()
    summary = _format_matching(result.prediction_checks)
    return VerdictItem(not differing, "matches prediction", summary, details)


def _format_finding(finding: InvariantResult) -> list[str]:
    first, *others = format_invariant_result(finding)
    return [" ".join(first.split()), *(line.strip() for line in others)]


def explain_partial(result: RunResult) -> str | None:
    """Return why a result is partial, or None for a finished one."""
    if not result.observations.is_partial:
        return None
    count = f"{result.run.size:,} of {result.observations.planned:,} messages were queued"
    threshold = result.observations.aborted_by
    if threshold is not None:
        return f"aborted: {threshold.figure} {threshold.expression} could no longer be met; {count}"
    unsettled = sum(check.unsettled for check in result.prediction_checks)
    waiting = f"; {unsettled:,} of them had not settled" if unsettled else ""
    match result.observations.state:
        case RunState.ABANDONED:
            cause = "no recorded end, no heartbeat of its driver for 30 s"
            return f"abandoned: {cause}; {count}{waiting}"
        case state:
            return f"{state}; {count}{waiting}"


def format_conclusion(result: RunResult, log: Path | None = None) -> str:
    """Return why a run passed, or why it failed and where to look.

    Args:
        log: the worker's log, if there is one.
    """
    if not result.is_proven:
        places = [
            *_suggest_commands(result),
            *([] if log is None else [f"the worker's log, {log}"]),
        ]
        return f"{_describe_failure_causes(result)}; see {'; '.join(places)}"
    causes = []
    partial_cause = explain_partial(result)
    if partial_cause is not None:
        causes.append(f"partial: {partial_cause}")
    for noun, judgements in _list_judgements(result):
        missed, unjudged = count_missed(judgements), count_unjudged(judgements)
        if missed:
            causes.append(f"{missed} of {pluralize(len(judgements), noun)} not met")
        if unjudged:
            causes.append(f"{noun}s: {unjudged} not judged")
    if causes:
        return "; ".join(causes)
    met = "".join(f", {noun}s met" for noun, _ in _list_judgements(result))
    exceptions = list(_list_excepted_messages(result.prediction_checks))
    messages = "every other message" if exceptions else "every message"
    gateways = ", ".join(result.run.real_gateways)
    if gateways:
        exceptions.append(f"outcomes at gateway {gateways} aren't predicted")
    conclusion = f"balanced, invariants hold, {messages} matches its prediction{met}"
    return "; ".join([conclusion, *exceptions])


def _describe_failure_causes(result: RunResult) -> str:
    """Return what disproves a result, in words."""
    causes = []
    differing = sum(check.differing for check in result.prediction_checks)
    if differing:
        verb = "differs" if differing == 1 else "differ"
        causes.append(f"{pluralize(differing, 'message')} {verb} from the prediction")
    elif not result.is_as_predicted:
        causes.append("the counts differ from the prediction")
    if not result.has_intact_invariants:
        causes.append("invariants don't hold")
    if not result.is_balanced:
        causes.append("the sums of a report don't add up")
    return ", ".join(causes)


def _suggest_commands(result: RunResult) -> Iterator[str]:
    """Yield the commands that show what went wrong."""
    run = f"--run {result.run.id}"
    traces = [
        f"sendtrace trace {report.campaign.name} {check.differences[0].number} {run}"
        for report, check in zip(result.reports, result.prediction_checks, strict=True)
        if check.differences
    ]
    if not result.has_intact_invariants:
        yield f"sendtrace verify {run}"
    yield from traces[:1]
    if result.has_intact_invariants and not traces:
        yield f"sendtrace report {run}"


def list_warnings(result: RunResult) -> Iterator[str]:
    """Yield what limits the meaning of the figures."""
    yield from describe_distortion(result.incomparable_figures)
    is_distorted = THROUGHPUT in result.incomparable_figures
    if result.has_driver_lag and not is_distorted:
        yield (
            "The driver lagged behind the arrivals, from which latencies count; see driver_lag."
            " A lower rate, a faster database or a less busy machine would help"
        )
    for name, time in result.check_times.items():
        if time.seconds >= LONG_CHECK_SECONDS and time.seconds_per_call >= LONG_CALL_SECONDS:
            yield (
                f"Check {name} took {time.seconds:.1f} s of the workers' time,"
                f" {1_000 * time.seconds_per_call:.1f} ms a message"
            )
    if result.backlog and not is_distorted:
        late = (
            f"{result.backlog:,} of {result.run.size:,} messages had not reached the gateway when"
            " the last one arrived"
        )
        yield f"The system did not keep up: {late}" if result.limit.is_of_the_system else late


def list_notes(result: RunResult) -> Iterator[str]:
    """Yield notes on actions, faults, re-queued batches and the gateway."""
    figures, observations = result.figures, result.observations
    for action in observations.actions:
        yield f"{to_datetime(action.at):%H:%M:%S} UTC: {action.description}"
    yield from map(_describe_failure, result.failures)
    yield from _list_suppression_notes(result)
    yield from _list_fault_notes(result)
    if not observations.is_known:
        yield (
            "Not measured: queue depths, CPU and memory of the workers, re-queued batches and the"
            f" balance of the reports during the run, as {UNOBSERVED_CAUSE}"
        )
    if observations.requeued_count:
        yield f"Stalled batches re-queued: {observations.requeued_count:,}"
    if figures["gateway.repeats"]:
        yield f"Submitted to the gateway again, accepted once: {figures['gateway.repeats']:,.0f}"
    has_outage = any(campaign.plan.gateway.outage for campaign in result.run.campaigns)
    if has_outage and not figures["gateway.refused_calls"]:
        yield "The gateway had no calls during its outage: no batch was in progress"
    if figures["gateway.refused_calls"]:
        yield f"Calls while the gateway was unavailable: {figures['gateway.refused_calls']:,.0f}"
    if observations.is_known and result.conditions.unavailable_figures:
        names = ", ".join(result.conditions.unavailable_figures)
        yield f"Not available: {names}, as the workers were attached"


def _describe_failure(failure: RecordedFailure) -> str:
    """Return what failed on how many messages, with an error."""
    count = pluralize(failure.messages, "message")
    if failure.check is None:
        return f"{count} broke a step ({failure.reason.slug}), for example with {failure.error}"
    return f"Check {failure.check} failed on {count}, for example with {failure.error}"


def _list_suppression_notes(result: RunResult) -> Iterator[str]:
    """Yield which lists a run began with, and which organizations are isolated."""
    for name, kept in result.suppression_lists.items():
        yield f"Suppression list of {name} when the run began: {kept}"
    plans = [run_campaign.plan for run_campaign in result.run.campaigns]
    isolated = {
        plan.organization.name
        for plan in plans
        if plan.audience.is_imported and not plan.organization.keep
    }
    if isolated:
        names = ", ".join(sorted(isolated))
        yield (
            f"Isolated: the run takes nothing from other runs of {names}, and leaves nothing to"
            " them (no `keep`)"
        )
    for plan in plans:
        if plan.organization.keep and not plan.audience.is_imported:
            yield (
                f"Nothing is kept of campaign {plan.name}: its customers are generated, and no"
                " other run has them"
            )


def _list_fault_notes(result: RunResult) -> Iterator[str]:
    observations = result.observations
    for fault in observations.injected_faults:
        yield f"At {fault.at:.1f} s: {fault.description}{_format_occurrence(fault)}"
    missed = len(result.run.scenario.faults) - len(observations.injected_faults)
    if missed and not observations.is_known:
        yield f"Whether {pluralize(missed, 'fault')} of the scenario took effect is unknown"
    elif missed:
        yield f"The run ended before {pluralize(missed, 'fault')} of its scenario could be injected"
    if observations.is_resumed and result.run.scenario.faults:
        yield "Faults whose time had come before the run was resumed were not injected again"


def _format_occurrence(fault: InjectedFault) -> str:
    if fault.trouble is not None:
        return f"; not injected: {fault.trouble}"
    return "" if fault.times == 1 else f" ({fault.times:,} times)"
