"""What limited a run: the cause that kept messages from reaching the gateway earlier.

A cause is named only if what was measured shows it. The scenario's own load comes first, then
faults, then the use of workers, machine, database and broker.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import mean
from typing import Any

import numpy as np

from simulator.results.observations import (
    MachineUsage,
    RunConditions,
    RunObservations,
    Sample,
)
from simulator.results.sending import GatewayLoad, SendingPhase
from simulator.setup.record import Run
from tracker.status import Step
from tracker.text import pluralize
from workers.checks.base import third_party_checks

MAX_DRAIN_SECONDS, MAX_DRAIN_SHARE = 1.0, 0.05
"""Real time from the last arrival to the last acceptance, absolute or as a share of the phase, up
to which the arrivals limit a run. Batches alone take half a second."""

MIN_ARRIVAL_SHARE = 0.5
"""Smallest share of the phase that the arrivals take if they limit it."""

MIN_FAULT_SHARE = 0.25
"""Smallest share of the phase without acceptances around faults that makes them the limit."""

MIN_RATE_SHARE = 0.85
"""Smallest share of a gateway's rate that counts as reached; small rates reach 0.93."""

MIN_SAMPLES = 2
"""Fewest samples that cover a whole second of the phase."""

FULL_SHARE = 0.9
"""Share of the machine's cores from which the machine is busy."""

SATURATED_SHARE = 0.8
"""Share of the cores that the worker processes can use from which they are saturated."""

MIN_OTHERS_SHARE = 0.25
"""Smallest share of the machine's cores that makes other processes the limit."""

OCCUPIED_SHARE = 0.7
"""Share of the worker processes' time spent in steps from which they are occupied."""

DOMINANT_SHARE = 0.5
"""Share of the time in steps from which some of the steps explain it."""

MIN_BROKER_CORES = 0.8
"""Use of one core from which the broker, which has one thread for commands, is saturated."""

MIN_OUTAGE_SHARE = 0.25
"""Smallest share of samples without an answer of the broker that makes it the limit."""


class LimitCause(StrEnum):
    """What limited a run."""

    ARRIVALS = "arrivals"
    GATEWAY_RATE = "gateway_rate"
    GATEWAY = "gateway"
    WORKERS_CPU = "workers_cpu"
    DATABASE = "database"
    BROKER = "broker"
    DRIVER = "driver"
    MACHINE = "machine"
    FAULT = "fault"
    UNKNOWN = "unknown"


SCENARIO_CAUSES = frozenset({LimitCause.ARRIVALS, LimitCause.GATEWAY_RATE, LimitCause.FAULT})
"""Causes that the scenario asks for."""


@dataclass(frozen=True)
class RunLimit:
    """What limited a run.

    Attributes:
        evidence: what was measured, or why nothing is known.
        change: what would change the limit.
    """

    cause: LimitCause
    subject: str
    evidence: str
    change: str

    @property
    def sentence(self) -> str:
        """The limit and its evidence, without a full stop."""
        if self.cause is LimitCause.UNKNOWN:
            return f"What limited the run is unknown: {self.evidence}"
        return f"{self.subject} limited the run: {self.evidence}"

    def as_json(self) -> dict[str, Any]:
        """Return the limit for JSON."""
        return {"cause": self.cause.value, "sentence": self.sentence, "change": self.change}


def find_limit(
    run: Run, observations: RunObservations, conditions: RunConditions, phase: SendingPhase | None
) -> RunLimit:
    """Return what limited a run.

    Args:
        phase: when messages were sent; None if none was accepted.
    """
    if phase is None or not phase.seconds:
        return _unknown("the gateway accepted no message after the first arrival", "a longer run")
    limit = (
        _find_arrivals_limit(phase)
        or _find_fault_limit(run, observations, phase)
        or _find_rate_limit(run, observations, phase)
    )
    return limit or _find_resource_limit(run, observations.samples, conditions, phase)


def _unknown(reason: str, change: str) -> RunLimit:
    return RunLimit(LimitCause.UNKNOWN, "", reason, f"To find out: {change}")


def _find_arrivals_limit(phase: SendingPhase) -> RunLimit | None:
    drain = phase.end - phase.last_arrival
    arrivals = phase.last_arrival - phase.begin
    if (
        drain > max(MAX_DRAIN_SECONDS, MAX_DRAIN_SHARE * phase.seconds)
        or arrivals < MIN_ARRIVAL_SHARE * phase.seconds
    ):
        return None
    return RunLimit(
        LimitCause.ARRIVALS,
        "The scenario's arrivals",
        f"messages arrived for {arrivals:.1f} s, and the gateway had accepted the last one"
        f" {max(0.0, drain):.1f} s later",
        'A higher arrival rate, or shape = "blast", would show what the system can do',
    )


def _find_fault_limit(
    run: Run, observations: RunObservations, phase: SendingPhase
) -> RunLimit | None:
    names, stalled = _find_faults_in(run, observations, phase)
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
    """Return the faults that acceptances stalled for, and the seconds that they were stalled."""
    names: dict[str, None] = {}
    seconds = 0
    for first, last in _find_stalls(phase):
        causes = [
            name
            for name, begin, end in _list_faults(run, observations)
            if begin <= last + 1 and end >= first - 1
        ]
        names |= dict.fromkeys(causes)
        seconds += last - first + 1 if causes else 0
    return list(names), seconds


def _find_stalls(phase: SendingPhase) -> Iterator[tuple[int, int]]:
    """Yield the first and the last second of each period without acceptances."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], phase.stalled.astype(np.int8), [0]])))
    for first, end in edges.reshape(-1, 2).tolist():
        yield first, end - 1


def _list_faults(run: Run, observations: RunObservations) -> Iterator[tuple[str, float, float]]:
    """Yield each fault with its begin and its end, in real seconds since the start."""
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


def _find_rate_limit(
    run: Run, observations: RunObservations, phase: SendingPhase
) -> RunLimit | None:
    _, stalled = _find_faults_in(run, observations, phase)
    for load in phase.gateways:
        seconds = _find_waiting_seconds(load, phase)
        if not seconds.any() or seconds.sum() + stalled < MIN_ARRIVAL_SHARE * (phase.seconds - 1):
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


def _find_waiting_seconds(load: GatewayLoad, phase: SendingPhase) -> "np.ndarray[Any, Any]":
    """Return the seconds in which messages waited for a gateway from the begin to the end."""
    is_waiting = load.ready > 0
    began_waiting = np.concatenate([[False], is_waiting[:-1]])
    return np.asarray(is_waiting & began_waiting & ~phase.stalled)


@dataclass(frozen=True, kw_only=True)
class _Usage:
    """What the parts of a run used on average while messages were sent."""

    workers: float
    machine: MachineUsage
    broker_outages: float

    @property
    def is_machine_full(self) -> bool:
        return self.machine.busy >= FULL_SHARE * self.machine.cores


def _find_resource_limit(
    run: Run, samples: Sequence[Sample], conditions: RunConditions, phase: SendingPhase
) -> RunLimit:
    if conditions.workers is None:
        return _unknown(
            "the workers were attached, and what they used can't be measured from here",
            "run without --attach",
        )
    if not samples:
        return _unknown("nothing was sampled during the run", "run without --no-record")
    if not any(sample.machine for sample in samples):
        return _unknown("this system doesn't say how busy its cores are", "use another system")
    usage = _average_usage(samples, phase)
    if usage is None:
        return _unknown(
            f"messages were sent for {phase.seconds:.1f} s, too short for samples",
            "send more messages",
        )
    return (
        _find_cpu_limit(usage, conditions, conditions.workers)
        or _find_broker_limit(usage)
        or _find_waiting_limit(run, usage, conditions, phase)
        or _find_driver_limit(phase)
        or _unknown(
            f"nothing was at its limit; the workers used {usage.workers:.1f} cores, and"
            f" {usage.machine.busy:.1f} of {usage.machine.cores} cores were in use",
            "try other settings of --workers and --batch-size",
        )
    )


def _average_usage(samples: Sequence[Sample], phase: SendingPhase) -> _Usage | None:
    """Return the average of the samples that cover a whole second of the phase."""
    inside = [
        sample for sample in samples if phase.begin <= sample.second - 1 < phase.end - 1
    ]
    workers = [sample.usage.cpu for sample in inside if sample.usage is not None]
    machines = [sample.machine for sample in inside if sample.machine is not None]
    if min(len(workers), len(machines)) < MIN_SAMPLES:
        return None
    servers = [machine.database for machine in machines if machine.database is not None]
    return _Usage(
        workers=mean(workers),
        machine=MachineUsage(
            cores=machines[0].cores,
            busy=mean(machine.busy for machine in machines),
            run=mean(machine.run for machine in machines),
            broker=mean(machine.broker for machine in machines),
            database=mean(servers) if servers else None,
        ),
        broker_outages=mean(sample.depths is None for sample in inside),
    )


def _find_cpu_limit(usage: _Usage, conditions: RunConditions, workers: int) -> RunLimit | None:
    machine = usage.machine
    full = f"{machine.busy:.1f} of {machine.cores} cores were in use"
    if usage.is_machine_full and machine.others >= MIN_OTHERS_SHARE * machine.cores:
        return RunLimit(
            LimitCause.MACHINE,
            "Other processes on the machine",
            f"they used {machine.others:.1f} cores, and {full}",
            "An idle machine would help",
        )
    if usage.is_machine_full and (machine.database or 0.0) > usage.workers:
        return RunLimit(
            LimitCause.DATABASE,
            "The database",
            f"its server used {machine.database:.1f} cores, and {full}",
            "A database server on another machine, or more cores, would help",
        )
    evidence = f"{pluralize(workers, 'worker process')} used {usage.workers:.1f} cores"
    if usage.is_machine_full:
        return RunLimit(
            LimitCause.WORKERS_CPU,
            "The machine's CPU",
            f"{evidence}, the run as a whole {machine.run:.1f}, and {full}",
            "More or faster cores would help",
        )
    if usage.workers < SATURATED_SHARE * min(workers, _count_cores(conditions, workers)):
        return None
    return RunLimit(
        LimitCause.WORKERS_CPU,
        "The workers' CPU",
        f"{evidence}, while {full}",
        "More worker processes (--workers) would help",
    )


def _count_cores(conditions: RunConditions, default: int) -> int:
    """Return the number of cores that the driver and its workers may use."""
    return int(conditions.machine.get("cores", default))


def _find_broker_limit(usage: _Usage) -> RunLimit | None:
    broker = usage.machine.broker
    if broker >= MIN_BROKER_CORES:
        evidence = f"it used {broker:.1f} cores, and it has one thread for commands"
    elif usage.broker_outages >= MIN_OUTAGE_SHARE:
        evidence = f"it didn't answer {usage.broker_outages:.0%} of the samples"
    else:
        return None
    return RunLimit(
        LimitCause.BROKER,
        "The broker",
        evidence,
        "Larger batches (--batch-size), or a faster broker, would help",
    )


def _find_waiting_limit(
    run: Run, usage: _Usage, conditions: RunConditions, phase: SendingPhase
) -> RunLimit | None:
    """Return the limit if the workers spent their time in steps, but not on the CPU."""
    workers = conditions.workers or 1
    occupied = phase.busy_seconds / (workers * phase.seconds)
    if occupied < OCCUPIED_SHARE:
        return None
    evidence = (
        f"worker processes spent {min(occupied, 1):.0%} of their time in steps, but used"
        f" {usage.workers:.1f} of {workers} cores"
    )
    kinds = {run_campaign.plan.gateway.kind for run_campaign in run.campaigns}
    is_simulated = all(run_campaign.plan.gateway.is_simulated for run_campaign in run.campaigns)
    in_submit = phase.step_seconds.get(Step.SUBMIT, 0.0)
    if not is_simulated and in_submit >= DOMINANT_SHARE * phase.busy_seconds:
        return RunLimit(
            LimitCause.GATEWAY,
            f"The response time of the gateway ({', '.join(sorted(kinds))})",
            f"{evidence}; {in_submit / phase.busy_seconds:.0%} of it was submit",
            "More worker processes (--workers) would submit more messages at a time",
        )
    rules = [check.name for check in third_party_checks()]
    in_checks = sum(phase.step_seconds.get(step, 0.0) for step in (Step.SUPPRESS, Step.VALIDATE))
    if rules and in_checks >= DOMINANT_SHARE * phase.busy_seconds:
        return _unknown(
            f"{evidence}; they waited for the database or for your rules ({', '.join(rules)})",
            "run without the rules",
        )
    is_sqlite = conditions.database == "sqlite"
    return RunLimit(
        LimitCause.DATABASE,
        "The database",
        evidence,
        "PostgreSQL, on which workers write side by side, or a faster disk would help"
        if is_sqlite
        else "A faster disk, or a larger database server, would help",
    )


def _find_driver_limit(phase: SendingPhase) -> RunLimit | None:
    lag, drain = phase.recorded - phase.last_arrival, phase.end - phase.last_arrival
    if lag < FULL_SHARE * drain:
        return None
    return RunLimit(
        LimitCause.DRIVER,
        "The driver",
        f"it recorded the last message {lag:.1f} s after its arrival, {drain - lag:.1f} s before"
        " the gateway accepted it",
        "A faster database would help",
    )
