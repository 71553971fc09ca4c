"""A hostile simulated gateway: its messages still end as predicted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from simulator.results.anomalies import GatewayAnomalies
from simulator.results.verdict import check_campaign
from simulator.schema import acceptances
from simulator.world import ledger
from simulator.world.behaviour import GatewayBehaviour
from simulator.world.gateway import SimulatedGateway, SimulatedGatewaySettings
from simulator.world.gateway_response import MAX_REJECTIONS, draw_rejection_counts
from tests.support.engagement import CLICKED, record_events
from tests.support.factory import READY, Plan, in_gateway, make_batch, move, read_states
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    judge_recorded_run,
    run_scenario,
    run_step,
)
from tracker.clock import Instant, from_seconds
from tracker.record.catalog import Batch, load_batch
from tracker.record.engagement import EngagementEvent
from tracker.status import Status, Step
from tracker.store.database import Database
from workers.gateways.base import GatewayUnavailable, Submission

HOSTILE = {
    "hard_bounce": 0.05,
    "soft_bounce": 0.3,
    "not_delivered": 0.05,
    "reject_rate": 0.2,
    "receipts": {"duplicate": 0.2, "stale": 0.3, "lost": 0.05, "late_bounce": 0.1},
}
SECOND = from_seconds(1)


def test_everything_at_once_ends_as_predicted(database: Database, tmp_path: Path) -> None:
    scenario = build_scenario(build_campaign(audience=600), gateways={"email": HOSTILE})
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    [comparison] = result.prediction_checks
    observed = comparison.observed_anomalies
    assert observed == comparison.expected_anomalies
    [report] = result.reports
    assert observed.lost == report.count_messages(Status.IN_GATEWAY)
    for name in ("duplicate", "stale", "lost", "late_bounce", "refused"):
        assert getattr(observed, name) > 10, name
    assert observed.unknown == 0


@pytest.mark.parametrize("kind", ["duplicate", "stale", "lost", "late_bounce"])
def test_each_receipt_fault_alone_is_predicted(
    database: Database, tmp_path: Path, kind: str
) -> None:
    gateway = {"soft_bounce": 0.3, "receipts": {kind: 0.2}}
    result = run_scenario(
        database,
        build_scenario(build_campaign(audience=200), gateways={"email": gateway}),
        tmp_path,
    )
    assert_passed(result)
    [comparison] = result.prediction_checks
    assert {name for name, count in vars(comparison.observed_anomalies).items() if count} == {kind}


@pytest.mark.parametrize("wrong", [{"duplicate": 1}, {"stale": 1}, {"unknown": 1}, {"lost": 1}])
def test_an_unpredicted_anomaly_fails_the_run(
    database: Database, tmp_path: Path, wrong: dict[str, int]
) -> None:
    result = run_scenario(database, build_scenario(build_campaign(audience=10)), tmp_path)
    assert result.has_passed
    [comparison] = result.prediction_checks
    spoiled = replace(
        comparison, observed_anomalies=comparison.observed_anomalies + GatewayAnomalies(**wrong)
    )
    assert not replace(result, prediction_checks=(spoiled,)).has_passed


def test_late_bounces_suppress_customers_in_later_campaigns(
    database: Database, tmp_path: Path
) -> None:
    first = build_campaign("first", audience=300)
    second = build_campaign("second", audience={"same_as": "first"}, after="first")
    gateway = {"soft_bounce": 0.2, "receipts": {"late_bounce": 0.3, "lost": 0.1}}
    scenario = build_scenario(
        first, second, organization={"hard_bounce_limit": 1}, gateways={"email": gateway}
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    one, two = result.reports
    assert two.not_sent == one.count_messages(Status.HARD_BOUNCED) > 50


def gateway_of(database: Database, **keys: object) -> SimulatedGateway:
    """Return a gateway with these keys of a scenario file."""
    behaviour = GatewayBehaviour.model_validate(keys)
    settings = SimulatedGatewaySettings(seed=1, behaviour=behaviour)
    return SimulatedGateway(settings.model_dump_json(), database)


def make_submission(batch: Batch, numbers: range, attempt: int = 1) -> Submission:
    recipients = [f"c{number}@example.com" for number in numbers]
    return Submission(
        campaign=batch.campaign, attempt=attempt, numbers=numbers, recipients=recipients
    )


@pytest.mark.parametrize(
    ("after", "is_outage"), [(0, False), (4.9, False), (5, True), (19.9, True), (20, False)]
)
def test_calls_fail_during_an_outage_only(
    database: Database, after: float, is_outage: bool
) -> None:
    batch = make_batch(database, Plan(size=3))
    gateway = gateway_of(database, outage={"from": "5s", "to": "20s"})
    now = batch.campaign.started_at + int(after * SECOND)
    calls: list[Callable[[], object]] = [
        lambda: gateway.submit(make_submission(batch, range(3)), now),
        lambda: gateway.receipts(batch, {1: [0]}, now),
    ]
    for call in calls:
        if is_outage:
            with pytest.raises(GatewayUnavailable):
                call()
        else:
            call()
    with database.read() as connection:
        counts = ledger.count_ledger_events(connection, [batch.campaign.id])
        accepted = connection.scalar(sa.select(sa.func.count()).select_from(acceptances))
    assert (counts.refused_calls, accepted) == ((2, 0) if is_outage else (0, 3))


def test_a_slow_period_multiplies_latencies(database: Database) -> None:
    batch = make_batch(database, Plan(size=40))
    latency = {"median": "1s", "p99": "3s"}
    slow = {"from": "10s", "to": "20s", "factor": 5}
    gateway = gateway_of(database, latency=latency, slow=slow)
    plain = gateway_of(database, latency=latency)
    began = batch.campaign.started_at
    gateway.submit(make_submission(batch, range(20)), began)
    gateway.submit(make_submission(batch, range(20, 40)), began + 10 * SECOND)
    slow_latencies = read_latencies(database)
    with database.write() as connection:
        connection.execute(sa.delete(acceptances))
    plain.submit(make_submission(batch, range(40)), began)
    usual = read_latencies(database)
    assert {number: slow_latencies[number] for number in range(20)} == {
        number: usual[number] for number in range(20)
    }
    for number in range(20, 40):
        assert slow_latencies[number] == pytest.approx(5 * usual[number], abs=1)


def read_latencies(database: Database) -> dict[int, Instant]:
    query = sa.select(acceptances.c.number, acceptances.c.due_at - acceptances.c.accepted_at)
    with database.read() as connection:
        return dict(map(tuple, connection.execute(query)))


def test_rejected_messages_are_accepted_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After this time, receipts go first; a slow machine takes longer for a step.
    monkeypatch.setattr("tracker.queries.next_step.MIN_POLL_INTERVAL", timedelta(hours=1))
    behaviour = GatewayBehaviour(reject_rate=0.5)
    settings = SimulatedGatewaySettings(seed=1, behaviour=behaviour).model_dump_json()
    batch = make_batch(database, Plan(size=100, gateway_settings=settings))
    move(database, batch, range(100), READY)
    drawn = draw_rejection_counts(behaviour, 1, "spring", 1, 0, 100)
    for attempt in range(int(drawn.max()) + 1):
        following = run_step(database, batch, Step.SUBMIT)
        there = [number for number, state in read_states(database, batch).items() if state == READY]
        assert there == np.flatnonzero(drawn > attempt).tolist()
        assert following is not None
        if there:
            assert following.step is Step.SUBMIT
            assert 0.7 < following.delay.total_seconds() < 1.3
    assert set(read_states(database, batch).values()) == {in_gateway()}
    with database.read() as connection:
        assert ledger.count_ledger_events(connection, [batch.campaign.id]).refused == drawn.sum()


def test_rejections_have_the_given_rate() -> None:
    drawn = draw_rejection_counts(GatewayBehaviour(reject_rate=0.3), 7, "spring", 1, 0, 100_000)
    counts = Counter(drawn.tolist())
    assert counts[0] / 100_000 == pytest.approx(0.7, abs=0.01)
    assert counts[1] / 100_000 == pytest.approx(0.21, abs=0.01)
    assert (
        draw_rejection_counts(GatewayBehaviour(reject_rate=0.999), 7, "spring", 1, 0, 1_000).max()
        <= MAX_REJECTIONS
    )
    assert not draw_rejection_counts(GatewayBehaviour(), 7, "spring", 1, 0, 10).any()


def test_accepted_messages_are_never_rejected(database: Database) -> None:
    """A worker submits again what it had submitted when it died."""
    batch = make_batch(database, Plan(size=50))
    gateway = gateway_of(database, reject_rate=0.5)
    now = batch.campaign.clock.now()
    first = gateway.submit(make_submission(batch, range(50)), now)
    again = gateway.submit(make_submission(batch, range(50)), now + 1)
    assert set(first.acceptances(0).numbers) <= set(again.acceptances(0).numbers)


def test_engagement_of_late_bounces_leaves_the_prediction_as_it_is(
    database: Database, tmp_path: Path
) -> None:
    """A gateway may report what recipients did before, or after, their messages bounced."""
    gateway = {"receipts": {"late_bounce": 0.2}}
    scenario = build_scenario(
        build_campaign(audience=100),
        gateways={"email": gateway},
        engagement={"email": {"open": 0.5, "click": 0.2}},
    )
    run = run_scenario(database, scenario, tmp_path).run
    with database.read() as connection:
        batch = load_batch(connection, run.campaigns[0].campaign.id, 0)
    states = read_states(database, batch)
    bounced = [n for n, state in states.items() if state.status is Status.HARD_BOUNCED]
    record_events(database, batch, [EngagementEvent(n, CLICKED, run.started_at) for n in bounced])
    result = judge_recorded_run(database, run)
    assert_passed(result)
    [report], [check] = result.reports, result.prediction_checks
    assert report.engagement == check.expected_engagement
    assert all(item.is_ok for item in check_campaign(report, check))
    assert report.as_json()["sent"]["engaged_then_bounced"] == len(bounced) > 5
