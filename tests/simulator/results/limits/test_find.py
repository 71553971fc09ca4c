"""What limited a run: each cause from what was measured, and none without evidence."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.results.limits import resources
from simulator.results.limits.causes import LimitCause, RunLimit
from simulator.results.limits.find import find_limit
from simulator.results.limits.sending import (
    CampaignGap,
    GatewayLoad,
    SendingPhase,
    read_sending_phase,
)
from simulator.results.observations import (
    DriverObservations,
    MachineUsage,
    ResourceUsage,
    RunConditions,
    RunObservations,
    RunState,
    Sample,
)
from simulator.scenario.faults import FaultSection, InjectedFault
from simulator.schema import open_database
from simulator.setup.record import record_run
from simulator.setup.run import Run
from tests.support.factory import READY, in_gateway, in_status, move, not_sent_for
from tests.support.inline_runs import build_campaign, build_scenario, enqueue_campaign, settle_batch
from tracker.clock import to_seconds
from tracker.monitoring import QueueDepth
from tracker.queries.durations.latencies import (
    QUEUED_TO_GATEWAY,
    TransitionTimes,
    read_transition_times,
)
from tracker.record.check_times import CheckTime
from tracker.settings import load_settings
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from workers.checks.base import check
from workers.queues import QUEUES

SECONDS, RATE = 10, 1_000
"""Length of the phase of a run, and messages accepted in each second of it."""

CONDITIONS = RunConditions(
    workers=2,
    batch_size=10,
    database="sqlite",
    durability={},
    machine={"cores": "4"},
    versions={},
    timezone="UTC",
)

NO_TASKS = dict.fromkeys(QUEUES, QueueDepth(ready=0, unacked=0))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Open a SQLite database; one backend is enough for what isn't read from it."""
    home = tmp_path_factory.mktemp("limits")
    settings = load_settings(home=home, database_url=f"sqlite:///{home / 'sendtrace.db'}")
    settings.prepare_home()
    with closing(open_database(settings)) as database:
        yield database


@pytest.fixture(scope="module")
def run(recorded: Database, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run that is recorded but never executed."""
    folder = tmp_path_factory.mktemp("run")
    return record_run(recorded, build_scenario(build_campaign()), folder, lambda _: None)


def make_phase(**changes: Any) -> SendingPhase:
    """Return the phase of a blast that the workers process in ten seconds."""
    usual: dict[str, Any] = {
        "begin": 0.0,
        "last_arrival": 0.0,
        "end": float(SECONDS),
        "recorded": 1.0,
        "waiting": np.arange(SECONDS - 1, -1, -1) * RATE,
        "accepted": np.full(SECONDS, RATE),
        "submitted": np.full(SECONDS, RATE),
        "due_retries": np.zeros(SECONDS, np.int64),
        "gateways": [],
        "gaps": [],
        "step_seconds": {Step.SUPPRESS: 1.0, Step.SUBMIT: 2.0},
        "check_times": {},
    }
    return SendingPhase(**(usual | changes))


def make_samples(
    workers: float = 0.5, is_broker_up: Sequence[bool] = (True,), **machine: Any
) -> list[Sample]:
    """Return samples in which workers and machine are idle, with changes."""
    usual: dict[str, Any] = {
        "cores": 4,
        "busy": 1.0,
        "run": 1.0,
        "broker": 0.1,
        "database": 0.0,
    }
    return [
        Sample(
            second=second,
            depths=NO_TASKS if is_broker_up[second % len(is_broker_up)] else None,
            usage=ResourceUsage(cpu=workers, memory=1),
            machine=MachineUsage(**(usual | machine)),
        )
        for second in range(SECONDS + 1)
    ]


def find(
    run: Run,
    samples: Sequence[Sample] = (),
    phase: SendingPhase | None = None,
    *,
    workers: int | None = 2,
    faults: Sequence[InjectedFault] = (),
    deferred_seconds: Sequence[int] = (),
    database: str = "sqlite",
    conditions: RunConditions = CONDITIONS,
) -> RunLimit:
    own = DriverObservations(
        samples=tuple(samples),
        injected_faults=tuple(faults),
        deferred_seconds=tuple(deferred_seconds),
    )
    observations = RunObservations(state=RunState.FINISHED, planned=run.size, drivers=[own])
    conditions = replace(conditions, workers=workers, database=database)
    return find_limit(run, observations, conditions, phase or make_phase())


def test_the_arrivals_limit_a_run_that_keeps_up(run: Run) -> None:
    phase = make_phase(last_arrival=9.6)
    limit = find(run, make_samples(workers=2.0), phase)
    assert limit.cause is LimitCause.ARRIVALS
    assert limit.sentence == (
        "The scenario's arrivals limited the run: messages arrived for 9.6 s, and the gateway had"
        " accepted the last one 0.4 s later"
    )
    late = make_phase(last_arrival=6.0)
    assert find(run, make_samples(), late).cause is not LimitCause.ARRIVALS
    aborted = make_phase(last_arrival=9.6, waiting=np.full(SECONDS, 5_000))
    assert find(run, make_samples(), aborted).cause is not LimitCause.ARRIVALS


@pytest.mark.parametrize(
    ("load", "is_limit"), [({}, False), ({"start": "9s"}, True)], ids=["blast", "start"]
)
def test_arrivals_that_wait_for_another_campaign_are_no_limit(
    recorded: Database, tmp_path: Path, load: dict[str, str], is_limit: bool
) -> None:
    scenario = build_scenario(
        build_campaign("first"), build_campaign("second", after="first", load=load)
    )
    run = record_run(recorded, scenario, tmp_path, lambda _: None)
    limit = find(run, make_samples(), make_phase(last_arrival=9.2))
    assert (limit.cause is LimitCause.ARRIVALS) is is_limit, limit.sentence


def test_the_limit_of_a_run_whose_driver_was_suspended_is_unknown(run: Run) -> None:
    busy = make_samples(busy=4.0, run=0.5)
    limit = find(run, busy[:5])
    assert limit.cause is LimitCause.UNKNOWN
    assert "only 4 of 10.0 s were sampled" in limit.sentence
    assert find(run, busy[:6]).cause is LimitCause.MACHINE


def test_deferrals_limit_a_run_even_on_a_busy_machine(run: Run) -> None:
    busy = make_samples(busy=4.0, run=0.5)
    limit = find(run, busy, deferred_seconds=range(2, 30))
    assert limit.cause is LimitCause.DEFERRALS
    assert limit.sentence == (
        "Deferrals limited the run: for 8 of 10.0 s, rules deferred all messages that had arrived"
        " and were not sent yet"
    )
    for seconds in (range(8, 30), range(-5, 3), ()):
        assert find(run, busy, deferred_seconds=seconds).cause is LimitCause.MACHINE


def test_a_campaign_that_waits_for_another_one_limits_a_run(run: Run) -> None:
    accepted = np.array([5_000, 0, 0, 0, 0, 0, 0, 0, 0, 5_000])
    waiting = np.zeros(SECONDS, np.int64)
    gap = CampaignGap(campaign="second", predecessor="first", begin=0.6, end=9.2)
    changes: dict[str, Any] = {
        "accepted": accepted,
        "submitted": accepted,
        "waiting": waiting,
        "last_arrival": 5.0,
    }
    limit = find(run, make_samples(), make_phase(**changes, gaps=[gap]))
    assert limit.cause is LimitCause.CAMPAIGN_ORDER
    assert limit.sentence == (
        "The order of the campaigns limited the run: for 8 of 10.0 s no message waited for the"
        " gateway, because second waited until first had settled"
    )
    assert not limit.is_of_the_system
    other_phases: tuple[dict[str, Any], ...] = (
        {"gaps": []},
        {"gaps": [replace(gap, begin=6.0)]},
        {"gaps": [gap], "waiting": np.full(SECONDS, 1)},
        {"gaps": [gap], "submitted": np.full(SECONDS, RATE)},
        {"gaps": [gap], "due_retries": np.full(SECONDS, 1)},
    )
    for change in other_phases:
        other = find(run, make_samples(), make_phase(**{**changes, **change}))
        assert other.cause is not LimitCause.CAMPAIGN_ORDER, change


def test_the_wait_for_another_campaign_is_read_from_the_record(
    database: Database, tmp_path: Path
) -> None:
    scenario = build_scenario(
        build_campaign("first"),
        build_campaign("second", after="first"),
        build_campaign("third", after="first", load={"start": "1h"}),
    )
    run = record_run(database, scenario, tmp_path, lambda _: None)
    for run_campaign in run.campaigns:
        for batch in enqueue_campaign(database, run_campaign):
            settle_batch(database, batch)
    with database.read() as connection:
        own = [read_transition_times(connection, planned.campaign) for planned in run.campaigns]
        times = TransitionTimes(run.started_at, 1)
        for part in own:
            times.merge(part)
        phase = read_sending_phase(connection, run, times, own, {})
    assert phase is not None
    accepted, arrived = own[0].last_acceptance, own[1].first_arrival
    assert accepted is not None
    assert arrived is not None
    second, third = phase.gaps
    assert (second.campaign, second.predecessor) == ("second", "first")
    assert second.begin == to_seconds(accepted - run.started_at)
    assert second.end == to_seconds(arrived - run.started_at)
    assert third.begin == 3_600, "before its own start, it didn't wait for the other one"


def make_load(reached: int) -> GatewayLoad:
    return GatewayLoad(
        key="email",
        limit=1_000.0,
        ready=np.arange(SECONDS, 0, -1) * RATE,
        submitted=np.full(SECONDS, reached),
    )


def test_a_gateway_at_its_rate_limits_a_run_without_any_sample(run: Run) -> None:
    limit = find(run, phase=make_phase(gateways=[make_load(980)]), workers=None)
    assert limit.cause is LimitCause.GATEWAY_RATE
    assert "it accepted 980 of at most 1,000 messages/s" in limit.sentence
    assert "[gateways.email]" in limit.change
    slow = find(run, make_samples(), make_phase(gateways=[make_load(500)]))
    assert slow.cause is not LimitCause.GATEWAY_RATE


def test_a_gateway_that_nothing_waited_for_is_no_limit(run: Run) -> None:
    load = replace(make_load(980), ready=np.zeros(SECONDS, np.int64))
    limit = find(run, make_samples(), make_phase(gateways=[load]))
    assert limit.cause is not LimitCause.GATEWAY_RATE


def test_a_fault_limits_a_run_that_accepts_nothing_meanwhile(run: Run) -> None:
    stalled = np.array([1_000, 1_000, 0, 0, 0, 0, 1_000, 1_000, 1_000, 1_000])
    fault = InjectedFault(description="broker flushed", at=2.0, until=2.1)
    limit = find(run, phase=make_phase(accepted=stalled), faults=[fault])
    assert limit.cause is LimitCause.FAULT
    assert "for 4 of 10.0 s, because of: broker flushed" in limit.sentence
    for harmless in (replace(fault, at=8.5, until=8.6), replace(fault, trouble="no worker")):
        limit = find(run, make_samples(), make_phase(accepted=stalled), faults=[harmless])
        assert limit.cause is not LimitCause.FAULT


@pytest.mark.parametrize(
    ("begins", "evidence"),
    [
        ([5.9], None),
        ([6.4], None),
        ([1.0], "for 5 of 10.0 s, because of: fault at 1"),
        ([1.9], "for 5 of 10.0 s, because of: fault at 1.9"),
        ([2.1], "for 3 of 10.0 s, because of: fault at 2.1"),
        ([0.0, 2.1, 5.9], "for 5 of 10.0 s, because of: fault at 0, fault at 2.1"),
    ],
)
def test_a_fault_is_not_blamed_for_a_stall_that_began_before_it(
    run: Run, begins: Sequence[float], evidence: str | None
) -> None:
    stalled = np.array([1_000, 0, 0, 0, 0, 0, 1_000, 1_000, 1_000, 1_000])
    faults = [
        InjectedFault(description=f"fault at {begin:g}", at=begin, until=begin + 0.1)
        for begin in begins
    ]
    limit = find(run, make_samples(), make_phase(accepted=stalled), faults=faults)
    if evidence is None:
        assert limit.cause is not LimitCause.FAULT
    else:
        assert limit.evidence.endswith(evidence)


def test_an_outage_of_the_scenario_is_a_fault(recorded: Database, tmp_path: Path) -> None:
    gateways = {"email": {"outage": {"from": "2s", "to": "6s"}}}
    scenario = build_scenario(build_campaign(), gateways=gateways)
    run = record_run(recorded, scenario, tmp_path, lambda _: None)
    stalled = np.array([1_000, 1_000, 0, 0, 0, 0, 1_000, 1_000, 1_000, 1_000])
    limit = find(run, phase=make_phase(accepted=stalled))
    assert limit.cause is LimitCause.FAULT
    assert "gateway email unavailable" in limit.sentence


@pytest.mark.parametrize(
    ("samples", "expected", "evidence"),
    [
        pytest.param(
            make_samples(workers=1.9, busy=2.5),
            LimitCause.WORKERS_CPU,
            "2 worker processes used 1.9 cores, while 2.5 of 4 cores were in use",
            id="saturated workers on a machine with idle cores",
        ),
        pytest.param(
            make_samples(workers=1.4, busy=3.8, run=3.5),
            LimitCause.WORKERS_CPU,
            "the run as a whole 3.5, and 3.8 of 4 cores were in use",
            id="the run uses the whole machine",
        ),
        pytest.param(
            make_samples(workers=1.0, busy=3.9, run=1.5),
            LimitCause.MACHINE,
            "they used 2.4 cores, and 3.9 of 4 cores were in use",
            id="somebody else uses the machine",
        ),
        pytest.param(
            make_samples(workers=1.0, busy=3.9, run=1.4, database=2.4),
            LimitCause.DATABASE,
            "its server used 2.4 cores",
            id="the database's server uses the machine",
        ),
        pytest.param(
            make_samples(broker=0.95), LimitCause.BROKER, "it used 0.9", id="the broker's core"
        ),
        pytest.param(
            make_samples(is_broker_up=[True, False]),
            LimitCause.BROKER,
            "didn't answer",
            id="the broker is away",
        ),
        pytest.param(
            make_samples(), LimitCause.UNKNOWN, "nothing was at its limit", id="all is idle"
        ),
    ],
)
def test_a_resource_at_its_limit_is_named(
    run: Run, samples: Sequence[Sample], expected: LimitCause, evidence: str
) -> None:
    limit = find(run, samples)
    assert (limit.cause, evidence in limit.sentence) == (expected, True), limit.sentence


@pytest.mark.parametrize(
    ("workers", "samples", "subject"),
    [
        pytest.param(
            4,
            make_samples(workers=3.6, busy=4.0, run=3.9),
            "The machine's CPU",
            id="the run takes all cores",
        ),
        pytest.param(
            2,
            make_samples(workers=1.9, busy=3.9, run=2.1),
            "The workers' CPU",
            id="others take cores that were idle",
        ),
    ],
)
def test_other_processes_are_not_blamed_for_workers_that_use_all_that_they_can(
    run: Run, workers: int, samples: Sequence[Sample], subject: str
) -> None:
    limit = find(run, samples, workers=workers)
    assert limit.cause is LimitCause.WORKERS_CPU
    assert limit.sentence.startswith(f"{subject} limited the run")
    assert "Other processes" not in limit.sentence


@pytest.mark.parametrize("workers_cpu", [1.4, 1.9])
def test_a_run_that_uses_all_cores_of_its_container_is_limited_by_them(
    run: Run, workers_cpu: float
) -> None:
    """Neither its idle cores nor other processes of the machine are the cause."""
    samples = make_samples(workers=workers_cpu, cores=16, busy=8.0, run=1.95)
    conditions = replace(CONDITIONS, machine={"cores": "2"})
    limit = find(run, samples, conditions=conditions)
    assert limit.sentence.startswith("The machine's CPU limited the run")
    assert limit.sentence.endswith("8.0 of 16 cores were in use, of which the run may use 2")
    assert limit.change == "More or faster cores would help"


def test_a_check_that_burns_cpu_is_named_with_the_workers_cpu(run: Run) -> None:
    phase = make_phase(
        step_seconds={Step.SUPPRESS: 8.9}, check_times={"burner": CheckTime(1_000, 8.4)}
    )
    limit = find(run, make_samples(workers=0.99, busy=3.9, run=1.1), phase, workers=1)
    assert limit.cause is LimitCause.WORKERS_CPU
    assert "check burner took 8.4 s of 8.9 s in steps" in limit.sentence


@pytest.mark.parametrize(
    ("workers", "seconds"), [(2, 17.0), (1, 9.5), (4, 9.5)], ids=["all", "single", "one of four"]
)
def test_a_check_that_sleeps_limits_a_run_on_a_busy_machine(
    run: Run, workers: int, seconds: float
) -> None:
    phase = make_phase(
        step_seconds={Step.SUPPRESS: seconds + 0.2},
        check_times={"sleeper": CheckTime(1_000, seconds)},
    )
    limit = find(run, make_samples(workers=0.1, busy=3.9, run=0.2), phase, workers=workers)
    assert limit.cause is LimitCause.CHECK
    assert limit.sentence.startswith("Check sleeper limited the run")


def test_a_check_that_takes_little_time_is_not_blamed(run: Run) -> None:
    phase = make_phase(
        step_seconds={Step.SUPPRESS: 3.0}, check_times={"quick": CheckTime(1_000, 2.0)}
    )
    limit = find(run, make_samples(workers=1.0, busy=3.9, run=1.5), phase)
    assert limit.cause is LimitCause.MACHINE


OCCUPIED = {Step.SUPPRESS: 5.0, Step.SUBMIT: 12.0, Step.ENQUEUE: 100.0}
"""Two workers spend 17 of their 20 seconds in steps. The driver's time doesn't count."""


@pytest.mark.parametrize(
    ("database_name", "change"), [("sqlite", "PostgreSQL"), ("postgresql", "")]
)
def test_workers_that_wait_in_steps_wait_for_the_database(
    run: Run, database_name: str, change: str
) -> None:
    phase = make_phase(step_seconds=OCCUPIED)
    limit = find(run, make_samples(), phase, database=database_name)
    assert limit.cause is LimitCause.DATABASE
    assert "spent 85% of their time in steps, but used 0.5 of 2 cores" in limit.sentence
    assert limit.sentence.endswith("they waited for nothing else that is known")
    assert limit.change.startswith(change or "A faster disk")


def test_workers_that_wait_in_submit_wait_for_a_real_gateway(
    recorded: Database, tmp_path: Path
) -> None:
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nann,ann@shop.internal\n")
    campaign = build_campaign(audience="people.csv")
    path, gateways = tmp_path / "test.toml", {"email": {"kind": "smtp"}}
    scenario = build_scenario(campaign, path=path, gateways=gateways)
    run = record_run(recorded, scenario, tmp_path, lambda _: None)
    limit = find(run, make_samples(), make_phase(step_seconds=OCCUPIED))
    assert limit.cause is LimitCause.GATEWAY
    assert "(smtp)" in limit.sentence
    simulated = build_campaign("text", channel="sms")
    both = build_scenario(campaign, simulated, path=path, gateways=gateways)
    run = record_run(recorded, both, tmp_path, lambda _: None)
    limit = find(run, make_samples(), make_phase(step_seconds=OCCUPIED))
    assert limit.cause is LimitCause.UNKNOWN
    assert limit.sentence.endswith("they waited for the database, or for gateway smtp")


def test_time_in_foreign_rules_is_not_blamed_on_the_database(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    @check(Reason.CONFIGURATION, step=Step.SUPPRESS, order=1)
    def slow_rule(candidate: object, now: object) -> bool:
        """Block nobody."""
        return False

    monkeypatch.setattr(resources, "third_party_checks", lambda: [slow_rule])
    phase = make_phase(step_seconds={Step.SUPPRESS: 17.0})
    limit = find(run, make_samples(), phase)
    assert limit.cause is LimitCause.UNKNOWN
    assert "slow_rule" in limit.sentence


@pytest.mark.parametrize(
    ("defects", "services"),
    [({}, {"subscription": {"error_rate": 0.1}}), ({"subscription_service": 0.1}, {})],
)
def test_retries_of_failing_services_are_not_blamed_on_the_database(
    recorded: Database, tmp_path: Path, defects: dict[str, float], services: dict[str, Any]
) -> None:
    scenario = build_scenario(build_campaign(defects=defects), services=services)
    run = record_run(recorded, scenario, tmp_path, lambda _: None)
    limit = find(run, make_samples(), make_phase(step_seconds={Step.SUPPRESS: 17.0}))
    assert limit.cause is LimitCause.UNKNOWN
    assert "the retries of failing services (subscription)" in limit.sentence
    in_submit = find(run, make_samples(), make_phase(step_seconds=OCCUPIED))
    assert in_submit.cause is LimitCause.DATABASE


def test_a_database_server_that_is_not_seen_may_be_among_the_other_processes(run: Run) -> None:
    limit = find(run, make_samples(workers=1.0, busy=3.9, run=1.5, database=None))
    assert limit.cause is LimitCause.MACHINE
    assert "perhaps a database server in a container among them" in limit.sentence


def test_a_driver_that_records_until_the_end_is_the_limit(run: Run) -> None:
    limit = find(run, make_samples(), make_phase(recorded=9.5))
    assert limit.cause is LimitCause.DRIVER
    assert "9.5 s after its arrival" in limit.sentence


@pytest.mark.parametrize("recorded_at", [10.5, 12.5])
def test_the_driver_is_not_blamed_if_messages_arrived_after_the_last_acceptance(
    run: Run, recorded_at: float
) -> None:
    """As in an aborted run, whose last messages wait."""
    waiting = np.full(SECONDS, 5_000)
    phase = make_phase(last_arrival=12.0, recorded=recorded_at, waiting=waiting)
    assert find(run, make_samples(), phase).cause is LimitCause.UNKNOWN


@pytest.mark.parametrize(
    ("workers", "samples", "phase", "reason"),
    [
        (None, make_samples(workers=2.0), make_phase(), "the workers were attached"),
        (2, [], make_phase(), "nothing was sampled"),
        (2, make_samples(workers=2.0), make_phase(end=1.5), "fewer than 2 samples cover"),
        (
            2,
            [replace(sample, machine=None) for sample in make_samples(workers=2.0)],
            make_phase(),
            "reports no CPU times",
        ),
    ],
)
def test_without_evidence_the_limit_is_unknown(
    run: Run, workers: int | None, samples: Sequence[Sample], phase: SendingPhase, reason: str
) -> None:
    limit = find(run, samples, phase, workers=workers)
    assert limit.cause is LimitCause.UNKNOWN
    assert limit.sentence.startswith("What limited the run is unknown: ")
    assert reason in limit.sentence
    assert limit.change.startswith("To find out: ")
    assert not limit.is_of_the_system


def test_a_change_of_the_clock_leaves_the_limit_unknown(run: Run) -> None:
    jumping = FaultSection.model_validate({"at": "1s", "clock": "+1h"})
    limit = find(replace(run, scenario=replace(run.scenario, faults=(jumping,))))
    assert limit.sentence.endswith("is unknown: a fault advances the run's clock")


def test_a_run_without_acceptances_has_an_unknown_limit(run: Run) -> None:
    observations = RunObservations(state=RunState.FINISHED, planned=1)
    assert find_limit(run, observations, CONDITIONS, None).cause is LimitCause.UNKNOWN


def test_what_was_sent_is_read_from_the_record(database: Database, tmp_path: Path) -> None:
    scenario = build_scenario(
        build_campaign(audience=20, defects={"unsubscribed": 0.2}),
        gateways={"email": {"rate": 50, "soft_bounce": 0.5}},
    )
    run = record_run(database, scenario, tmp_path, lambda _: None)
    for batch in enqueue_campaign(database, run.campaigns[0], 2):
        settle_batch(database, batch)
    with database.read() as connection:
        times = read_transition_times(connection, run.campaigns[0].campaign)
        phase = read_sending_phase(connection, run, times, [times], {})
    assert phase is not None
    assert phase.begin <= phase.last_arrival <= phase.end
    assert phase.accepted.sum() == len(times.span_times(QUEUED_TO_GATEWAY).durations) > 0
    assert phase.waiting[-1] == phase.due_retries[-1] == 0
    assert set(phase.step_seconds) >= {Step.ENQUEUE, Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH}
    assert all(seconds >= 0 for seconds in phase.step_seconds.values())
    [load] = phase.gateways
    assert (load.key, load.limit) == ("email", 50.0)
    assert load.submitted.sum() > phase.accepted.sum(), "attempts after a soft bounce count, too"
    assert phase.submitted.sum() == load.submitted.sum()
    assert load.ready[-1] == 0


def test_the_limit_of_a_run_with_a_pause_or_without_its_observations_is_unknown(run: Run) -> None:
    killed = RunObservations(state=RunState.ABANDONED, planned=run.size, drivers=[None])
    resumed = replace(killed, state=RunState.FINISHED, drivers=[DriverObservations()] * 2)
    phase = make_phase(last_arrival=9.6)
    for observations, reason, change in (
        (killed, "did not record", "a run whose driver isn't killed"),
        (resumed, "resumed", "a run without a pause and without a change of its clock"),
    ):
        limit = find_limit(run, observations, CONDITIONS, phase)
        assert limit.cause is LimitCause.UNKNOWN
        assert reason in limit.evidence
        assert limit.change == f"To find out: {change}"


def test_a_message_that_breaks_the_gateway_waits_for_it_no_longer(
    database: Database, tmp_path: Path
) -> None:
    scenario = build_scenario(build_campaign(audience=4), gateways={"email": {"rate": 50}})
    run = record_run(database, scenario, tmp_path, lambda _: None)
    [batch] = enqueue_campaign(database, run.campaigns[0])
    move(database, batch, [0], not_sent_for(Reason.UNSUBSCRIBED), step=Step.SUPPRESS)
    move(database, batch, [1], READY, in_gateway())
    move(database, batch, [2], READY, not_sent_for(Reason.STEP_FAILED))
    move(database, batch, [3], READY)
    with database.read() as connection:
        own = read_transition_times(connection, run.campaigns[0].campaign)
        times = TransitionTimes(run.started_at, 1)
        times.merge(own)
        phase = read_sending_phase(connection, run, times, [own], {})
    assert phase is not None
    [load] = phase.gateways
    assert load.ready[-1] == 1
    assert times.blocked_at_submit_per_second.sum() == 1


@pytest.mark.parametrize(("keys", "due"), [({}, 1), ({"retry_after": "1h"}, 0)])
def test_a_soft_bounced_message_waits_for_the_gateway_once_it_is_due(
    database: Database, tmp_path: Path, keys: dict[str, str], due: int
) -> None:
    scenario = build_scenario(build_campaign(), gateways={"email": keys})
    run = record_run(database, scenario, tmp_path, lambda _: None)
    [batch] = enqueue_campaign(database, run.campaigns[0])
    move(database, batch, [0], READY, in_gateway(), in_status(Status.SOFT_BOUNCED))
    with database.read() as connection:
        own = read_transition_times(connection, run.campaigns[0].campaign)
        times = TransitionTimes(run.started_at, 1)
        times.merge(own)
        phase = read_sending_phase(connection, run, times, [own], {})
    assert phase is not None
    assert phase.due_retries[-1] == due
