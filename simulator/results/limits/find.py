"""What limited a run: the cause that kept messages from reaching the gateway earlier.

A cause is named only if what was measured shows it. The scenario's own load comes first, then
faults, then the use of workers, machine, database and broker.
"""

from collections.abc import Iterator
from math import ceil

import numpy as np
from numpy.typing import NDArray

from simulator.figures import THROUGHPUT
from simulator.results.limits.causes import LimitCause, RunLimit, unknown_limit
from simulator.results.limits.resources import find_resource_limit
from simulator.results.limits.sending import GatewayLoad, SendingPhase
from simulator.results.observations import UNOBSERVED_CAUSE, RunConditions, RunObservations
from simulator.setup.run import Run
from tracker.clock import to_real_seconds

MAX_DRAIN_SECONDS, MAX_DRAIN_SHARE = 1.0, 0.05
"""Longest time from the last arrival to the last acceptance if the arrivals limit a run.

In real seconds, or as a share of the phase. Batches alone take half a second.
"""

MIN_ARRIVAL_SHARE = 0.5
"""Smallest share of the phase that the arrivals take if they limit it."""

MIN_FAULT_SHARE = 0.25
"""Smallest share of the phase without acceptances around faults that makes them the limit."""

MIN_WAITING_SHARE = 0.5
"""Smallest share of the phase, faults included, in which messages wait for a gateway if its rate
limits the run."""

MIN_GAP_SHARE = 0.5
"""Smallest share of the phase in which a campaign only waits for another one to settle, if that
limits the run."""

MIN_DEFERRED_SHARE = 0.5
"""Smallest share of the phase in which all messages are deferred, if that limits the run."""

MIN_RATE_SHARE = 0.8
"""Smallest share of a gateway's rate that counts as reached; small rates reach 0.93."""


def find_limit(
    run: Run, observations: RunObservations, conditions: RunConditions, phase: SendingPhase | None
) -> RunLimit:
    """Return what limited a run.

    Args:
        phase: when messages were sent; None if none was accepted.
    """
    distorted = observations.find_distorted_groups(run.scenario)
    if THROUGHPUT in distorted:
        change = "a run without a pause and without a change of its clock"
        return unknown_limit(distorted[THROUGHPUT], change)
    if not observations.is_known:
        return unknown_limit(UNOBSERVED_CAUSE, "a run whose driver isn't killed")
    if phase is None or not phase.seconds:
        return unknown_limit(
            "the gateway accepted no message after the first arrival", "a longer run"
        )
    names, stalled = _find_faults_in(run, observations, phase)
    limit = (
        _find_arrivals_limit(run, phase)
        or _make_fault_limit(names, stalled, phase)
        or _find_order_limit(phase)
        or _find_deferral_limit(observations, phase)
        or _find_rate_limit(run, stalled, phase)
    )
    return limit or find_resource_limit(run, observations.samples, conditions, phase)


def _find_arrivals_limit(run: Run, phase: SendingPhase) -> RunLimit | None:
    drain = phase.end - phase.last_arrival
    arrivals = phase.last_arrival - phase.begin
    max_drain = max(MAX_DRAIN_SECONDS, MAX_DRAIN_SHARE * phase.seconds)
    if any(run_campaign.plan.after for run_campaign in run.campaigns):
        # A campaign that waits for another one arrives when the system allows it.
        drain_before = phase.last_arrival - _find_scheduled_end(run)
        if drain_before + max(0.0, drain) > max_drain:
            return None
    if drain + phase.backlog_seconds > max_drain or arrivals < MIN_ARRIVAL_SHARE * phase.seconds:
        return None
    return RunLimit(
        LimitCause.ARRIVALS,
        "The scenario's arrivals",
        f"messages arrived for {arrivals:.1f} s, and the gateway had accepted the last one"
        f" {max(0.0, drain):.1f} s later",
        'A higher arrival rate, or shape = "blast", would show what the system can do',
    )


def _find_scheduled_end(run: Run) -> float:
    """Return when the last message would arrive if every campaign settled at once.

    In real seconds since the start of the run.
    """
    ends: dict[str, int] = {}
    for run_campaign in run.campaigns:
        plan, starts_at = run_campaign.plan, run_campaign.starts_at
        begins_at = starts_at if plan.after is None else max(starts_at, ends[plan.after])
        ends[plan.name] = begins_at + run_campaign.last_arrival_at - starts_at
    return to_real_seconds(max(ends.values()) - run.started_at, run.scenario.clock.speed)


def _make_fault_limit(names: list[str], stalled: int, phase: SendingPhase) -> RunLimit | None:
    if not names or stalled < MIN_FAULT_SHARE * phase.seconds:
        return None
    return RunLimit(
        LimitCause.FAULT,
        "A fault",
        f"the gateway accepted hardly any message for {stalled} of {phase.seconds:.1f} s,"
        f" because of: {', '.join(names)}",
        "The scenario without the fault would be faster",
    )


def _find_faults_in(
    run: Run, observations: RunObservations, phase: SendingPhase
) -> tuple[list[str], int]:
    """Return the faults that stalled acceptances, and the seconds of those stalls.

    The seconds of a stall count from the first fault in it. A fault within its first second has
    caused it.
    """
    names: dict[str, None] = {}
    seconds = 0
    for first, last in _find_stalls(phase):
        causes = [
            (name, first if begin < first + 1 else ceil(begin))
            for name, begin, end in _list_faults(run, observations)
            if begin < max(first + 1, last) and end >= first - 1
        ]
        names |= dict.fromkeys(name for name, _ in causes)
        seconds += last + 1 - min((second for _, second in causes), default=last + 1)
    return list(names), seconds


def _find_stalls(phase: SendingPhase) -> Iterator[tuple[int, int]]:
    """Yield the first and the last second of each period without acceptances."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], phase.stalled.astype(np.int8), [0]])))
    for first, end in edges.reshape(-1, 2).tolist():
        yield first, end - 1


def _list_faults(run: Run, observations: RunObservations) -> Iterator[tuple[str, float, float]]:
    """Yield each fault with its start and its end, in real seconds since the start."""
    speed = run.scenario.clock.speed
    for fault in observations.injected_faults:
        if fault.trouble is None:
            yield fault.description, fault.at / speed, fault.until / speed
    for run_campaign in run.campaigns:
        plan = run_campaign.plan
        outages = {f"gateway {plan.gateway_key} unavailable": plan.gateway.outage}
        for service, failures in plan.services.failures.items():
            outages[f"{service} service unavailable"] = failures.outage
        for name, outage in outages.items():
            if outage is not None:
                yield name, outage.start.total_seconds() / speed, outage.end.total_seconds() / speed


def _find_order_limit(phase: SendingPhase) -> RunLimit | None:
    """Return the order of the campaigns as the limit, if it kept messages from being sent."""
    seconds = np.arange(len(phase.accepted))
    is_idle = (phase.waiting == 0) & (phase.due_retries == 0) & (phase.submitted == 0)
    in_gap = np.zeros(len(seconds), np.bool_)
    waits: list[str] = []
    for gap in phase.gaps:
        is_waiting = is_idle & (seconds >= gap.begin) & (seconds + 1 <= gap.end)
        if is_waiting.any():
            in_gap |= is_waiting
            waits.append(f"{gap.campaign} waited until {gap.predecessor} had settled")
    if not waits or in_gap.sum() < MIN_GAP_SHARE * (phase.seconds - 1):
        return None
    return RunLimit(
        LimitCause.CAMPAIGN_ORDER,
        "The order of the campaigns",
        f"for {in_gap.sum()} of {phase.seconds:.1f} s no message waited for the gateway, because"
        f" {', and '.join(waits)}",
        "Without after, or with a gateway that reports outcomes sooner, the run would end earlier",
    )


def _find_deferral_limit(observations: RunObservations, phase: SendingPhase) -> RunLimit | None:
    """Return the deferrals of rules as the limit, if messages waited for nothing else."""
    seconds = [
        second
        for second in observations.deferred_seconds
        if phase.begin <= second and second + 1 <= phase.end
    ]
    if not seconds or len(seconds) < MIN_DEFERRED_SHARE * (phase.seconds - 1):
        return None
    return RunLimit(
        LimitCause.DEFERRALS,
        "Deferrals",
        f"for {len(seconds)} of {phase.seconds:.1f} s, rules deferred all messages that had"
        " arrived and were not sent yet",
        "Without deferrals, or at a [clock] start at which the rules defer nothing, the run would"
        " end earlier",
    )


def _find_rate_limit(run: Run, stalled: int, phase: SendingPhase) -> RunLimit | None:
    """Return the rate of a gateway as the limit, if messages waited for it.

    Args:
        stalled: seconds of stalls that faults caused.
    """
    for load in phase.gateways:
        seconds = _find_waiting_seconds(load, phase)
        if not seconds.any() or seconds.sum() + stalled < MIN_WAITING_SHARE * (phase.seconds - 1):
            continue
        reached = float(load.submitted[seconds].mean())
        if reached >= MIN_RATE_SHARE * load.limit:
            speed = run.scenario.clock.speed
            unit = "messages/s" if speed == 1 else "messages per simulated second"
            return RunLimit(
                LimitCause.GATEWAY_RATE,
                f"The rate of gateway {load.key}",
                f"it accepted {reached / speed:,.0f} of at most {load.limit / speed:,.0f} {unit}"
                " while messages waited for it",
                f"A higher rate in [gateways.{load.key}] would send faster",
            )
    return None


def _find_waiting_seconds(load: GatewayLoad, phase: SendingPhase) -> NDArray[np.bool_]:
    """Return a mask of the seconds throughout which messages waited for a gateway."""
    is_waiting = load.ready > 0
    began_waiting = np.concatenate([[False], is_waiting[:-1]])
    return np.asarray(is_waiting & began_waiting & ~phase.stalled)
