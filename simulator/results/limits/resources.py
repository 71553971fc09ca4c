"""Which resource limited a run: CPU, database, broker or driver."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from simulator.results.limits.causes import LimitCause, RunLimit, unknown_limit
from simulator.results.limits.sending import SendingPhase
from simulator.results.observations import MachineUsage, RunConditions, Sample
from simulator.setup.run import Run
from tracker.status import Step
from tracker.text import pluralize
from workers.checks.base import third_party_checks

MIN_SAMPLES = 2
"""Fewest samples that cover a whole second of the phase."""

MIN_SAMPLED_SHARE = 0.5
"""Smallest share of the seconds of the phase that have a sample, if samples explain the run."""

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

STEPS_WITH_SERVICES = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH)
"""Steps that evaluate rules and call services."""


@dataclass(frozen=True, kw_only=True)
class _Usage:
    """Average use of resources by the parts of a run while messages were sent.

    Attributes:
        cores: cores that the run may use: those of the machine, or fewer in a container.
    """

    workers: float
    machine: MachineUsage
    broker_outages: float
    cores: float

    @property
    def is_run_full(self) -> bool:
        return self.machine.run >= FULL_SHARE * self.cores

    @property
    def is_machine_full(self) -> bool:
        return self.is_run_full or self.machine.busy >= FULL_SHARE * self.machine.cores


def find_resource_limit(
    run: Run, samples: Sequence[Sample], conditions: RunConditions, phase: SendingPhase
) -> RunLimit:
    """Return which part of the system, or of its machine, limited a run."""
    if conditions.workers is None:
        return unknown_limit(
            "the workers were attached, so their use of resources can't be measured",
            "run without --attach",
        )
    if not samples:
        return unknown_limit("nothing was sampled during the run", "run without --no-record")
    if not any(sample.machine for sample in samples):
        return unknown_limit(
            "this operating system reports no CPU times", "use another operating system"
        )
    usage = _average_usage(samples, conditions, phase)
    if usage is None:
        return unknown_limit(
            f"messages were sent for {phase.seconds:.1f} s, and fewer than {MIN_SAMPLES} samples"
            " cover that time",
            "send more messages",
        )
    sampled = len(_select_samples(samples, phase))
    if sampled < MIN_SAMPLED_SHARE * (phase.seconds - 1):
        return unknown_limit(
            f"only {sampled} of {phase.seconds:.1f} s were sampled; the driver or its machine was"
            " suspended, or too busy",
            "a run without an interruption of its driver",
        )
    return (
        _find_workers_limit(usage, conditions.workers, phase)
        or _find_check_limit(usage, conditions.workers, phase)
        or _find_broker_limit(usage)
        or _find_machine_limit(usage, conditions.workers)
        or _find_waiting_limit(run, usage, conditions, phase)
        or _find_driver_limit(phase)
        or unknown_limit(
            f"nothing was at its limit; the workers used {usage.workers:.1f} cores, and"
            f" {usage.machine.busy:.1f} of {usage.machine.cores} cores were in use",
            "try other settings of --workers and --batch-size",
        )
    )


def _select_samples(samples: Sequence[Sample], phase: SendingPhase) -> list[Sample]:
    """Return the samples that cover a whole second of the phase."""
    return [sample for sample in samples if phase.begin <= sample.second - 1 < phase.end - 1]


def _average_usage(
    samples: Sequence[Sample], conditions: RunConditions, phase: SendingPhase
) -> _Usage | None:
    """Return the average of the samples that cover a whole second of the phase."""
    inside = _select_samples(samples, phase)
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
        cores=float(conditions.machine.get("cores", machines[0].cores)),
    )


def _find_workers_limit(usage: _Usage, workers: int, phase: SendingPhase) -> RunLimit | None:
    """Return the limit if the workers use all the cores that they can.

    Other processes take nothing from such workers.
    """
    if usage.workers < SATURATED_SHARE * min(workers, usage.cores):
        return None
    evidence = f"{pluralize(workers, 'worker process')} used {usage.workers:.1f} cores"
    name = _find_dominant_check(phase)
    if name is not None:
        evidence += f", and {_describe_check(name, phase)}"
    elif usage.is_machine_full and workers >= usage.cores:
        return _machine_cpu_limit(usage, workers)
    change = "More worker processes (--workers) would help"
    if usage.is_machine_full:
        change = "More or faster cores would help"
    if name is not None:
        change = f"A faster check {name} would help"
    return RunLimit(
        LimitCause.WORKERS_CPU,
        "The workers' CPU",
        f"{evidence}, while {_describe_machine(usage)}",
        change,
    )


def _find_dominant_check(phase: SendingPhase) -> str | None:
    """Return the check that took most of the time in steps, or None."""
    for name, time in phase.check_times.items():
        if time.seconds and time.seconds >= DOMINANT_SHARE * phase.busy_seconds:
            return name
    return None


def _describe_check(name: str, phase: SendingPhase) -> str:
    seconds = phase.check_times[name].seconds
    return f"check {name} took {seconds:.1f} s of {max(seconds, phase.busy_seconds):.1f} s in steps"


def _find_check_limit(usage: _Usage, workers: int, phase: SendingPhase) -> RunLimit | None:
    """Return the limit if the workers waited for one check, such as one that sleeps."""
    name = _find_dominant_check(phase)
    if name is None:
        return None
    is_occupied = phase.busy_seconds >= OCCUPIED_SHARE * workers * phase.seconds
    needed = FULL_SHARE * max(phase.seconds, phase.busy_seconds)
    if not is_occupied and phase.check_times[name].seconds < needed:
        return None
    return RunLimit(
        LimitCause.CHECK,
        f"Check {name}",
        f"{_describe_check(name, phase)}, and {pluralize(workers, 'worker process')} used"
        f" {usage.workers:.1f} cores",
        f"A faster check {name}, or more worker processes (--workers), would help",
    )


def _find_machine_limit(usage: _Usage, workers: int) -> RunLimit | None:
    """Return the limit if the machine is full, and its workers use less than they can."""
    machine = usage.machine
    if not usage.is_machine_full:
        return None
    if usage.is_run_full:
        return _machine_cpu_limit(usage, workers)
    if (machine.database or 0.0) > max(usage.workers, machine.others):
        return RunLimit(
            LimitCause.DATABASE,
            "The database",
            f"its server used {machine.database:.1f} cores, and {_describe_machine(usage)}",
            "A database server on another machine, or more cores, would help",
        )
    if machine.others >= MIN_OTHERS_SHARE * machine.cores:
        is_server_seen = machine.database is not None
        unseen = "" if is_server_seen else ", perhaps a database server in a container among them,"
        return RunLimit(
            LimitCause.MACHINE,
            "Other processes on the machine",
            f"they{unseen} used {machine.others:.1f} cores, and {_describe_machine(usage)}",
            "An idle machine would help",
        )
    return _machine_cpu_limit(usage, workers)


def _machine_cpu_limit(usage: _Usage, workers: int) -> RunLimit:
    return RunLimit(
        LimitCause.WORKERS_CPU,
        "The machine's CPU",
        f"{pluralize(workers, 'worker process')} used {usage.workers:.1f} cores, the run as a"
        f" whole {usage.machine.run:.1f}, and {_describe_machine(usage)}",
        "More or faster cores would help",
    )


def _describe_machine(usage: _Usage) -> str:
    machine = usage.machine
    allowed = f", of which the run may use {usage.cores:g}" if usage.cores < machine.cores else ""
    return f"{machine.busy:.1f} of {machine.cores} cores were in use{allowed}"


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
    real_gateways = ", ".join(run.real_gateways)
    in_submit = phase.step_seconds.get(Step.SUBMIT, 0.0)
    if real_gateways and in_submit >= DOMINANT_SHARE * phase.busy_seconds:
        if any(run_campaign.plan.gateway.is_simulated for run_campaign in run.campaigns):
            return unknown_limit(
                f"{evidence}; they waited for the database, or for gateway {real_gateways}",
                "run the campaigns of each gateway alone",
            )
        return RunLimit(
            LimitCause.GATEWAY,
            f"The response time of the gateway ({real_gateways})",
            f"{evidence}; {in_submit / phase.busy_seconds:.0%} of it was submit",
            "More worker processes (--workers) would submit more messages at a time",
        )
    others = list(_list_other_waits(run))
    before_gateway = sum(phase.step_seconds.get(step, 0.0) for step in STEPS_WITH_SERVICES)
    if others and before_gateway >= DOMINANT_SHARE * phase.busy_seconds:
        return unknown_limit(
            f"{evidence}; they waited for the database, or for {', or for '.join(others)}",
            "run without them",
        )
    is_sqlite = conditions.database == "sqlite"
    return RunLimit(
        LimitCause.DATABASE,
        "The database",
        f"{evidence}; for most of that time, they waited for nothing else that is known",
        "PostgreSQL, on which workers write side by side, or a faster disk would help"
        if is_sqlite
        else "A faster disk, or a larger database server, would help",
    )


def _list_other_waits(run: Run) -> Iterator[str]:
    """Yield what the steps before the gateway may wait for besides the database."""
    rules = [check.name for check in third_party_checks()]
    if rules:
        yield f"your rules ({', '.join(rules)})"
    services = {
        service
        for run_campaign in run.campaigns
        for service in run_campaign.plan.services.failing_services
    }
    if services:
        yield f"the retries of failing services ({', '.join(sorted(services))})"


def _find_driver_limit(phase: SendingPhase) -> RunLimit | None:
    lag, drain = phase.recorded - phase.last_arrival, phase.end - phase.last_arrival
    # In an aborted run, the last message may arrive after the last acceptance.
    if drain <= 0 or lag <= 0 or lag < FULL_SHARE * drain:
        return None
    return RunLimit(
        LimitCause.DRIVER,
        "The driver",
        f"it recorded the last message {lag:.1f} s after its arrival, {drain - lag:.1f} s before"
        " the gateway accepted it",
        "A faster database would help",
    )
