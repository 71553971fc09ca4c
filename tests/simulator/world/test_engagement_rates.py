"""Drawn engagement has the shares and delays of the rates, and an end."""

from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.world.behaviour import EngagementRates, GatewayBehaviour, LatencyDistribution
from simulator.world.engagement import (
    FOLLOW_UP_WINDOW_US,
    MAX_DELAY_SIGMAS,
    MAX_REPEATS,
    EngagementEvents,
    draw_engagement,
    draw_engagement_events,
)
from simulator.world.gateway import SimulatedGateway, SimulatedGatewaySettings
from simulator.world.outcomes import P99_Z_SCORE
from tests.support.factory import SPRING
from tests.support.inline_runs import build_campaign, build_plan
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.status import IMPLIED_ENGAGEMENTS, Engagement
from tracker.store.database import Database
from workers.gateways.base import DeliveredMessages

DRAWS = 100_000
HOUR = 3_600_000_000
OPENED, CLICKED = Engagement.OPENED, Engagement.CLICKED

RATES = EngagementRates(
    open=0.4,
    click=0.1,
    spam=0.02,
    unsubscribe=0.03,
    machine_open=0.1,
    again=0.2,
    delay=LatencyDistribution(median=timedelta(hours=2), p99=timedelta(hours=12)),
)


def first_delays(events: EngagementEvents, kind: Engagement) -> NDArray[np.float64]:
    """Return the delay of each recipient's first event of a kind; infinity for never."""
    delays = np.full(DRAWS, np.inf)
    mask = events.kinds == kind
    np.minimum.at(delays, events.positions[mask], events.delays_us[mask].astype(float))
    return delays


@pytest.fixture(scope="module")
def events() -> EngagementEvents:
    return draw_engagement_events(RATES, 42, "spring", 0, DRAWS)


@pytest.mark.parametrize(
    ("kind", "share"),
    [*zip(sorted(Engagement), (0.4, 0.1, 0.02, 0.03, 0.1), strict=True)],
)
def test_engagement_has_the_shares_of_the_rates(
    events: EngagementEvents, kind: Engagement, share: float
) -> None:
    does = np.isfinite(first_delays(events, kind))
    assert does.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / DRAWS))
    assert np.array_equal(does, draw_engagement(RATES, 42, "spring", 0, DRAWS)[kind])


def test_delays_have_the_given_percentiles_and_an_end(events: EngagementEvents) -> None:
    for kind in (OPENED, Engagement.SPAM):
        delays = first_delays(events, kind)
        delays = delays[np.isfinite(delays)]
        assert np.percentile(delays, 50) == pytest.approx(2 * HOUR, rel=0.08)
        assert np.percentile(delays, 99) == pytest.approx(12 * HOUR, rel=0.15)
        assert delays.max() <= 2 * HOUR * 6 ** (MAX_DELAY_SIGMAS / P99_Z_SCORE)
    assert events.delays_us.min() >= 0


def test_machines_open_within_a_second(events: EngagementEvents) -> None:
    assert events.delays_us[events.kinds == Engagement.MACHINE_OPENED].max() <= 1_000_000


def test_implied_events_come_shortly_before(events: EngagementEvents) -> None:
    for kind, others in IMPLIED_ENGAGEMENTS.items():
        does = np.isfinite(first_delays(events, kind))
        for other in others:
            gap = first_delays(events, kind)[does] - first_delays(events, other)[does]
            assert (gap >= 0).all()
            assert (gap <= 2 * FOLLOW_UP_WINDOW_US + 1).all()


@pytest.mark.parametrize("kind", [OPENED, CLICKED])
def test_a_share_repeats_events_at_distinct_instants(
    events: EngagementEvents, kind: Engagement
) -> None:
    times = np.bincount(events.positions[events.kinds == kind], minlength=DRAWS)
    assert times.max() <= 1 + MAX_REPEATS
    assert (times > 1).sum() / (times > 0).sum() == pytest.approx(0.2, abs=0.02)
    distinct = set(zip(*(column.tolist() for column in events), strict=True))
    assert len(distinct) == len(events.positions)


def test_without_a_delay_recipients_act_at_once() -> None:
    at_once = draw_engagement_events(
        EngagementRates(open=0.5, click=0.5, unsubscribe=0.5), 42, "spring", 0, 1_000
    )
    assert set(at_once.delays_us.tolist()) == {0}


def test_events_do_not_depend_on_the_batch(events: EngagementEvents) -> None:
    part = draw_engagement_events(RATES, 42, "spring", 100, 50)
    inside = (events.positions >= 100) & (events.positions < 150)
    expected = [events.positions[inside] - 100, events.kinds[inside], events.delays_us[inside]]
    assert sorted(zip(*part, strict=True)) == sorted(zip(*expected, strict=True))


def test_the_gateway_reports_each_event_once_in_any_steps(database: Database) -> None:
    settings = SimulatedGatewaySettings(seed=42, behaviour=GatewayBehaviour(), engagement=RATES)
    gateway = SimulatedGateway(settings.model_dump_json(), database)
    batch = Batch(campaign=SPRING, batch=0, first=0, size=1_000)
    delivered = DeliveredMessages(range(10, 1_000, 2), range(0, 495_000, 1_000))
    whole = gateway.engagement(batch, delivered, 0, 1_000 * HOUR)
    assert whole.next_poll_at is None
    reported: list[EngagementEvent] = []
    since = 0
    for now in range(0, 100 * HOUR, HOUR):
        poll = gateway.engagement(batch, delivered, since, now)
        assert all(since <= event.at <= now for event in poll.items)
        reported += poll.items
        if poll.next_poll_at is None:
            break
        assert now < poll.next_poll_at
        since = poll.next_poll_at
    assert sorted(reported) == sorted(whole.items)
    events = draw_engagement_events(RATES, 42, SPRING.name, 10, 990)
    assert len(reported) == (events.positions % 2 == 0).sum()
    assert not gateway.engagement(batch, DeliveredMessages([], []), 0, HOUR).items


def test_engagement_rates_of_a_scenario() -> None:
    rates = {
        "open": 0.4,
        "click": 0.1,
        "spam": 0.02,
        "unsubscribe": 0.03,
        "machine_open": 0.1,
        "again": 0.2,
        "delay": {"median": "2h", "p99": "0.5d"},
    }
    plan = build_plan(build_campaign(load={"start": "1d"}), engagement={"email": rates})
    assert plan.engagement == RATES
    assert plan.start == timedelta(days=1)
    assert RATES.has_engagement
    assert not EngagementRates(again=0.5, delay=RATES.delay).has_engagement
