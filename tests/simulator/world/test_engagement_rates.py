"""What recipients do: in the shares and after the delays that were asked for, and to an end."""

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
from tests.support.playing import campaign_of, plan_of
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.status import IMPLIED_ENGAGEMENTS, Engagement
from tracker.store.database import Database
from workers.gateways.base import DeliveredMessages

DRAWS = 100_000
HOUR = 3_600_000_000
OPENED, CLICKED = Engagement.OPENED, Engagement.CLICKED

KEEN = EngagementRates(
    open=0.4,
    click=0.1,
    spam=0.02,
    unsubscribe=0.03,
    machine_open=0.1,
    again=0.2,
    delay=LatencyDistribution(median=timedelta(hours=2), p99=timedelta(hours=12)),
)


def firsts(done: EngagementEvents, kind: Engagement) -> NDArray[np.float64]:
    """When each of the recipients did something first; infinity is never."""
    found = np.full(DRAWS, np.inf)
    of_it = done.kinds == kind
    np.minimum.at(found, done.positions[of_it], done.delays_us[of_it].astype(float))
    return found


@pytest.fixture(scope="module")
def done() -> EngagementEvents:
    return draw_engagement_events(KEEN, 42, "spring", 0, DRAWS)


@pytest.mark.parametrize(
    ("kind", "share"),
    [*zip(sorted(Engagement), (0.4, 0.1, 0.02, 0.03, 0.1), strict=True)],
)
def test_shares_are_those_that_were_asked_for(
    done: EngagementEvents, kind: Engagement, share: float
) -> None:
    does = np.isfinite(firsts(done, kind))
    assert does.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / DRAWS))
    assert np.array_equal(does, draw_engagement(KEEN, 42, "spring", 0, DRAWS)[kind])


def test_delays_have_median_and_p99_and_an_end(done: EngagementEvents) -> None:
    for kind in (OPENED, Engagement.SPAM):
        delays = firsts(done, kind)
        delays = delays[np.isfinite(delays)]
        assert np.percentile(delays, 50) == pytest.approx(2 * HOUR, rel=0.08)
        assert np.percentile(delays, 99) == pytest.approx(12 * HOUR, rel=0.15)
        assert delays.max() <= 2 * HOUR * 6 ** (MAX_DELAY_SIGMAS / P99_Z_SCORE)
    assert done.delays_us.min() >= 0


def test_machines_open_within_a_second(done: EngagementEvents) -> None:
    assert done.delays_us[done.kinds == Engagement.MACHINE_OPENED].max() <= 1_000_000


def test_what_is_implied_came_before_and_shortly(done: EngagementEvents) -> None:
    for kind, others in IMPLIED_ENGAGEMENTS.items():
        does = np.isfinite(firsts(done, kind))
        for other in others:
            gap = firsts(done, kind)[does] - firsts(done, other)[does]
            assert (gap >= 0).all()
            assert (gap <= 2 * FOLLOW_UP_WINDOW_US + 1).all()


@pytest.mark.parametrize("kind", [OPENED, CLICKED])
def test_a_share_does_it_again_and_is_told_apart(done: EngagementEvents, kind: Engagement) -> None:
    times = np.bincount(done.positions[done.kinds == kind], minlength=DRAWS)
    assert times.max() <= 1 + MAX_REPEATS
    assert (times > 1).sum() / (times > 0).sum() == pytest.approx(0.2, abs=0.02)
    events = set(zip(*(column.tolist() for column in done), strict=True))
    assert len(events) == len(done.positions)


def test_without_a_delay_people_act_at_once() -> None:
    at_once = draw_engagement_events(
        EngagementRates(open=0.5, click=0.5, unsubscribe=0.5), 42, "spring", 0, 1_000
    )
    assert set(at_once.delays_us.tolist()) == {0}


def test_deeds_do_not_depend_on_the_batch(done: EngagementEvents) -> None:
    part = draw_engagement_events(KEEN, 42, "spring", 100, 50)
    inside = (done.positions >= 100) & (done.positions < 150)
    expected = [done.positions[inside] - 100, done.kinds[inside], done.delays_us[inside]]
    assert sorted(zip(*part, strict=True)) == sorted(zip(*expected, strict=True))


def test_the_gateway_tells_each_event_once_in_any_steps(database: Database) -> None:
    settings = SimulatedGatewaySettings(seed=42, behaviour=GatewayBehaviour(), engagement=KEEN)
    gateway = SimulatedGateway(settings.model_dump_json(), database)
    batch = Batch(campaign=SPRING, batch=0, first=0, size=1_000)
    delivered = DeliveredMessages(range(10, 1_000, 2), range(0, 495_000, 1_000))
    whole = gateway.engagement(batch, delivered, 0, 1_000 * HOUR)
    assert whole.next_poll_at is None
    told: list[EngagementEvent] = []
    since = 0
    for now in range(0, 100 * HOUR, HOUR):
        news = gateway.engagement(batch, delivered, since, now)
        assert all(since <= event.at <= now for event in news.items)
        told += news.items
        if news.next_poll_at is None:
            break
        assert now < news.next_poll_at
        since = news.next_poll_at
    assert sorted(told) == sorted(whole.items)
    done = draw_engagement_events(KEEN, 42, SPRING.name, 10, 990)
    assert len(told) == (done.positions % 2 == 0).sum()
    assert not gateway.engagement(batch, DeliveredMessages([], []), 0, HOUR).items


def test_the_keys_of_a_scenario_say_who_does_what_and_when() -> None:
    said = {
        "open": 0.4,
        "click": 0.1,
        "spam": 0.02,
        "unsubscribe": 0.03,
        "machine_open": 0.1,
        "again": 0.2,
        "delay": {"median": "2h", "p99": "0.5d"},
    }
    plan = plan_of(campaign_of(load={"start": "1d"}), engagement={"email": said})
    assert plan.engagement == KEEN
    assert plan.start == timedelta(days=1)
    assert KEEN.has_engagement
    assert not EngagementRates(again=0.5, delay=KEEN.delay).has_engagement
