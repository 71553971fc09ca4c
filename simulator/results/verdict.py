"""The judgement of a result in words: what was checked, what came of it, and what to beware of."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from simulator.results.prediction_check import GatewayAnomalies, PredictionCheck
from simulator.results.result import RunResult
from simulator.scenario.faults import InjectedFault
from tracker.audit.invariants import InvariantResult
from tracker.output.report_text import format_invariant_result
from tracker.queries.report import Report
from tracker.status import Reason
from tracker.text import join_with_or, pluralize
from workers.checks.base import third_party_checks


class VerdictItem(NamedTuple):
    """Something that was checked: whether it is as it should be, and in words what it came to."""

    is_ok: bool
    name: str
    summary: str
    details: tuple[str, ...] = ()


def check_campaign(report: Report, comparison: PredictionCheck) -> Iterator[VerdictItem]:
    """A campaign held against its prediction."""
    yield VerdictItem(
        not comparison.differing,
        "as predicted",
        _format_agreement(comparison.matching, comparison.messages, comparison.unsettled),
        tuple(_describe_differences(comparison)),
    )
    if comparison.expected_engagement != report.engagement:
        differing = ", ".join(
            f"{count:,} {kind.slug}, but is {report.engagement[kind]:,}"
            for kind, count in sorted(comparison.expected_engagement.items())
            if count != report.engagement[kind]
        )
        yield VerdictItem(False, "engagement", f"predicted {differing}")
    observed, expected = comparison.observed_anomalies, comparison.expected_anomalies
    if observed or expected:
        more = () if observed == expected else (f"predicted {_format_anomalies(expected)}",)
        yield VerdictItem(observed == expected, "gateway", _format_anomalies(observed), more)


def _format_agreement(agreeing: int, messages: int, unsettled: int) -> str:
    if not unsettled:
        return f"{agreeing:,} of {messages:,} messages"
    return f"{agreeing:,} of {messages - unsettled:,} messages; {unsettled:,} had not settled yet"


def _describe_differences(comparison: PredictionCheck) -> Iterator[str]:
    if comparison.uncertain:
        yield f"of {comparison.uncertain:,} of them it depended on {_describe_uncertainty()}"
    for each in comparison.differences:
        yield f"message {each.number}: predicted {each.predicted}, but is {each.actual}"


def _format_anomalies(mishaps: GatewayAnomalies) -> str:
    said = (f"{count:,} {name.replace('_', ' ')}" for name, count in vars(mishaps).items() if count)
    return " · ".join(said) or "nothing"


def check_result(result: RunResult) -> Iterator[VerdictItem]:
    """Everything that a run is judged by, its campaigns together."""
    wrong = [each.campaign.name for each in result.reports if not each.is_balanced]
    told = f"the sums of {', '.join(wrong)} do not add up" if wrong else "every sum adds up"
    yield VerdictItem(result.is_balanced, "balanced", told)
    yield _check_predictions(result)
    yield from check_run(result)
    if result.thresholds:
        met = sum(each.is_met for each in result.thresholds)
        told = f"{met} of {len(result.thresholds)} met"
        yield VerdictItem(result.has_met_thresholds, "thresholds", told)


def check_run(result: RunResult) -> Iterator[VerdictItem]:
    """What is true or false of a run as a whole, but for its thresholds."""
    for organization, withheld in result.withheld.items():
        if withheld.predicted or withheld.actual:
            known = "not known" if withheld.predicted is None else f"{withheld.predicted:,}"
            told = (
                f"{withheld.actual:,} of {organization}, {join_with_or(_list_withholding_causes())};"
                f" predicted {known}"
            )
            yield VerdictItem(withheld.is_as_predicted, "withheld", told)
    holding = sum(finding.is_satisfied for finding in result.invariant_results)
    more = tuple(
        line
        for each in result.invariant_results
        if not each.is_satisfied
        for line in _format_broken_invariant(each)
    )
    told = f"{holding} of {len(result.invariant_results)} hold"
    yield VerdictItem(result.has_intact_invariants, "invariants", told, more)


def _check_predictions(result: RunResult) -> VerdictItem:
    """All campaigns' checks against their prediction in one, which names those that failed."""
    agreeing = sum(each.matching for each in result.prediction_checks)
    unsettled = sum(each.unsettled for each in result.prediction_checks)
    differing = [
        report.campaign.name
        for report, comparison in zip(result.reports, result.prediction_checks, strict=True)
        if not all(each.is_ok for each in check_campaign(report, comparison))
    ]
    more = (f"what differs is below, at {', '.join(differing)}",) if differing else ()
    told = _format_agreement(agreeing, result.run.size, unsettled)
    return VerdictItem(not differing, "as predicted", told, more)


def _format_broken_invariant(finding: InvariantResult) -> list[str]:
    first, *others = format_invariant_result(finding)
    return [" ".join(first.split()), *(each.strip() for each in others)]


def explain_partial(result: RunResult) -> str | None:
    """Why a result is partial, and how far it got; None for a complete one."""
    if not result.is_partial:
        return None
    sent = f"{result.run.size:,} of {result.observations.planned:,} messages were sent"
    aborted = result.observations.aborted_by
    if aborted is not None:
        return f"aborted as {aborted.figure} could not be {aborted.expression}; {sent}"
    return f"interrupted; {sent}"


def format_conclusion(result: RunResult, log: Path | None = None) -> str:
    """Why a run passed, or failed and where to see more of it: there may be a ``log``."""
    if not result.is_proven:
        places = [
            *_suggest_commands(result),
            *([] if log is None else [f"the workers' log, {log}"]),
        ]
        return f"see {'; '.join(places)}"
    missed = sum(not each.is_met for each in result.thresholds)
    said = []
    why = explain_partial(result)
    if why is not None:
        said.append(f"partial: {why}")
    if missed:
        said.append(f"{pluralize(missed, 'threshold')} of {len(result.thresholds)} not met")
    if said:
        return "; ".join(said)
    met = ", thresholds met" if result.thresholds else ""
    return f"balanced, invariants hold, every message as predicted{met}"


def _suggest_commands(result: RunResult) -> Iterator[str]:
    """The commands that say more of what went wrong."""
    run = f"--run {result.run.id}"
    differing = [
        f"sendtrace trace {report.campaign.name} {comparison.differences[0].number} {run}"
        for report, comparison in zip(result.reports, result.prediction_checks, strict=True)
        if comparison.differences
    ]
    if not result.has_intact_invariants:
        yield f"sendtrace verify {run}"
    yield from differing[:1]
    if result.has_intact_invariants and not differing:
        yield f"sendtrace report {run}"


def list_warnings(result: RunResult) -> Iterator[str]:
    """What whoever reads the figures has to know."""
    if result.has_driver_lag:
        yield (
            "The driver lagged behind the arrivals, from which latencies count: it could not record"
            " messages as fast as they were to come. See driver_lag; a lower rate, a faster"
            " database or an idler machine would help"
        )
    if result.backlog:
        yield (
            f"The system did not keep up: {result.backlog:,} of {result.run.size:,} messages had"
            " not reached the gateway when the last one arrived"
        )


def _format_occurrence(happened: InjectedFault) -> str:
    if happened.trouble is not None:
        return f"; it did not happen: {happened.trouble}"
    return "" if happened.times == 1 else f" ({happened.times:,} times)"


def list_notes(result: RunResult) -> Iterator[str]:
    """What is well to know besides."""
    figures = result.figures
    for each in result.observations.injected_faults:
        yield f"At {each.at:.1f} s: {each.description}{_format_occurrence(each)}"
    missed = len(result.run.scenario.faults) - len(result.observations.injected_faults)
    if missed:
        yield f"The run was over before {pluralize(missed, 'fault')} of its scenario could happen"
    if result.observations.requeued_count:
        yield f"Batches that stood still and were sent on again: {result.observations.requeued_count:,}"
    if figures["gateway.repeats"]:
        yield f"Given to the gateway again, and taken once: {figures['gateway.repeats']:,.0f}"
    outages = any(loaded.plan.gateway.outage for loaded in result.run.campaigns)
    if outages and not figures["gateway.refused_calls"]:
        yield "No call fell into a gateway's outage: nothing was under way at the time"
    if figures["gateway.refused_calls"]:
        yield f"Calls on the gateway while it was away: {figures['gateway.refused_calls']:,.0f}"
    if result.conditions.unavailable_figures:
        yield f"Not known: {', '.join(result.conditions.unavailable_figures)}, as workers were attached"


def _describe_uncertainty() -> str:
    """What an oracle that knows the rule book can't tell."""
    names = [check.name for check in third_party_checks()]
    if not names:
        return "who came first"
    return f"who came first, or on checks of other packages ({', '.join(names)})"


def _list_withholding_causes() -> list[str]:
    """What gives a message the reason of the limit or of credit."""
    allowances = (Reason.MESSAGE_LIMIT, Reason.OUT_OF_CREDIT)
    foreign = [each for each in third_party_checks() if each.reason in allowances]
    return [
        *("over its message limit", "out of credit"),
        *(f"stopped by the check {each.name}" for each in foreign),
    ]
