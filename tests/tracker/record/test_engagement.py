"""Recording of engagement: each event once, implied events, and tallies that match."""

from collections import Counter
from datetime import UTC

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engagement import (
    CLICKED,
    OPENED,
    SPAM,
    UNSUBSCRIBED,
    bounce_late,
    deliver_all,
    record_events,
)
from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    find_violations,
    in_gateway,
    make_batch,
    make_campaign,
    move,
)
from tracker.queries.report import Report, make_reports
from tracker.record.catalog import Batch, Campaign
from tracker.record.engagement import QUARTER_MICROSECONDS, EngagementEvent, read_engagement_counts
from tracker.record.journal import enqueue_batch, open_entry
from tracker.record.receipts import Receipt, apply_receipts
from tracker.record.rollup import roll_up_engagement
from tracker.status import IMPLIED_ENGAGEMENTS, OPT_OUTS, Channel, Engagement, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.engagement import engagement_tallies, engagements


def make_batches(database: Database, size: int = 6) -> tuple[Campaign, list[Batch]]:
    """Record a campaign with two batches of equal size, whose messages are delivered."""
    campaign = make_campaign(database, Plan(size=size))
    half = size // 2
    batches = [
        enqueue_batch(database, campaign, batch=place, first=place * half, size=half, author=AUTHOR)
        for place in range(2)
    ]
    for batch in batches:
        deliver_all(database, batch)
    return campaign, batches


def recorded(database: Database, campaign: Campaign) -> set[EngagementEvent]:
    query = sa.select(engagements.c.number, engagements.c.kind, engagements.c.at).where(
        engagements.c.campaign_id == campaign.id
    )
    with database.read() as connection:
        return {
            EngagementEvent(number, Engagement(kind), at)
            for number, kind, at in connection.execute(query)
        }


def tallied(database: Database, campaign: Campaign) -> Counter[tuple[int, int, int]]:
    """Return the tallies: recipients by batch, kind and quarter."""
    query = sa.select(engagement_tallies).where(engagement_tallies.c.campaign_id == campaign.id)
    with database.read() as connection:
        rows = connection.execute(query).all()
    return +Counter({(row.batch, row.kind, row.quarter): row.recipients for row in rows})


def recount(events: set[EngagementEvent], half: int = 3) -> Counter[tuple[int, int, int]]:
    """Return recipients by batch, kind and quarter, counted from the events."""
    firsts: dict[tuple[int, int], int] = {}
    for number, kind, at in events:
        firsts[number, kind] = min(at, firsts.get((number, kind), at))
    return Counter(
        (int(number >= half), int(kind), at // QUARTER_MICROSECONDS)
        for (number, kind), at in firsts.items()
    )


EVENTS = st.lists(
    st.builds(
        EngagementEvent,
        st.integers(0, 5),
        st.sampled_from(Engagement),
        st.integers(0, 3 * QUARTER_MICROSECONDS).map(
            lambda at: at - at % (QUARTER_MICROSECONDS // 2)
        ),
    ),
    max_size=12,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(reports=st.lists(EVENTS, max_size=4), data=st.data())
def test_tallies_equal_a_recount_of_events_in_any_order(
    database: Database, reports: list[list[EngagementEvent]], data: st.DataObject
) -> None:
    campaign, batches = make_batches(database)
    twin, twins = make_batches(database)
    for events in reports:
        for batch in batches:
            record_events(database, batch, events)
    # The same, in another order and some of it twice.
    again = data.draw(st.permutations(reports + reports[:2]))
    for events in again:
        for batch in twins:
            record_events(database, batch, data.draw(st.permutations(events)))
    assert tallied(database, campaign) == recount(recorded(database, campaign))
    assert tallied(database, twin) == tallied(database, campaign)
    assert {event for events in reports for event in events} <= recorded(database, campaign)
    assert not find_violations(database, campaign, twin)


@pytest.mark.parametrize("kind", IMPLIED_ENGAGEMENTS)
def test_what_is_implied_is_recorded_at_the_same_instant(
    database: Database, kind: Engagement
) -> None:
    campaign, [batch, _] = make_batches(database)
    record_events(database, batch, [EngagementEvent(1, kind, 5)])
    assert recorded(database, campaign) == {
        EngagementEvent(1, event, 5) for event in {kind, *IMPLIED_ENGAGEMENTS[kind]}
    }


def test_who_has_opened_by_then_needs_no_implied_open(database: Database) -> None:
    campaign, [batch, _] = make_batches(database)
    record_events(database, batch, [EngagementEvent(1, OPENED, 4)])
    record_events(
        database,
        batch,
        [
            EngagementEvent(1, CLICKED, 5),
            EngagementEvent(2, CLICKED, 7),
            EngagementEvent(2, OPENED, 6),
        ],
    )
    assert recorded(database, campaign) == {
        *(EngagementEvent(1, OPENED, 4), EngagementEvent(1, CLICKED, 5)),
        *(EngagementEvent(2, OPENED, 6), EngagementEvent(2, CLICKED, 7)),
    }


def test_an_earlier_event_that_is_reported_late_moves_the_recipient(database: Database) -> None:
    campaign, [batch, _] = make_batches(database)
    record_events(database, batch, [EngagementEvent(1, OPENED, 9 * QUARTER_MICROSECONDS)])
    record_events(database, batch, [EngagementEvent(1, OPENED, 2 * QUARTER_MICROSECONDS)])
    assert tallied(database, campaign) == Counter({(0, OPENED, 2): 1})


def test_what_other_batches_recipients_do_is_not_the_entrys(database: Database) -> None:
    campaign, [batch, _] = make_batches(database)
    record_events(
        database,
        batch,
        [
            EngagementEvent(5, OPENED, 1),
            EngagementEvent(99, OPENED, 1),
            EngagementEvent(-1, SPAM, 1),
        ],
    )
    assert not recorded(database, campaign)


@pytest.mark.parametrize("kind", Engagement)
def test_refusals_change_the_customer_and_the_report_at_once(
    database: Database, kind: Engagement
) -> None:
    campaign, [batch, _] = make_batches(database)
    record_events(database, batch, [EngagementEvent(1, kind, 5), EngagementEvent(1, kind, 6)])
    refused = sa.select(customers.c.number).where(customers.c.unsubscribed_email)
    spammed = sa.select(customers.c.number).where(customers.c.marked_spam_email)
    with database.read() as connection:
        assert connection.scalars(refused).all() == ([1] if kind in OPT_OUTS else [])
        assert connection.scalars(spammed).all() == ([1] if kind is SPAM else [])
        live = read_engagement_counts(connection, [campaign.id])[campaign.id]
    assert live.recipients == (Counter({kind: 1}) if kind in OPT_OUTS else Counter())
    assert live.as_of is None


@pytest.fixture
def delivered(database: Database) -> Batch:
    """Return a batch whose messages are delivered."""
    batch = make_batch(database)
    deliver_all(database, batch)
    return batch


def rolled_up(database: Database, batch: Batch) -> Report:
    roll_up_engagement(database, UTC)
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    assert not find_violations(database, batch.campaign)
    return report


def test_engagement_of_a_message_that_bounced_later_is_not_counted_under_delivered(
    database: Database, delivered: Batch
) -> None:
    record_events(
        database,
        delivered,
        [
            *(EngagementEvent(number, CLICKED, 5) for number in (0, 1)),
            *(EngagementEvent(2, kind, 6) for kind in (SPAM, OPENED)),
            EngagementEvent(3, UNSUBSCRIBED, 7),
            EngagementEvent(4, Engagement.MACHINE_OPENED, 8),
        ],
    )
    before = rolled_up(database, delivered)
    assert (before.engagement[OPENED], before.engaged_then_bounced) == (4, 0)
    bounce_late(database, delivered, 1, 2, 3, 4, 5)
    after = rolled_up(database, delivered)
    assert after.engagement == Counter({OPENED: 1, CLICKED: 1})
    assert after.as_json()["sent"]["engaged_then_bounced"] == 3, "a machine's open is nobody's"


def test_engagement_that_is_reported_after_the_bounce_is_not_counted_under_delivered(
    database: Database, delivered: Batch
) -> None:
    record_events(database, delivered, [EngagementEvent(1, OPENED, 5)])
    bounce_late(database, delivered, 1, 2)
    late = [EngagementEvent(number, CLICKED, 6) for number in (0, 1, 2)]
    for _ in range(2):
        record_events(database, delivered, late)
    report = rolled_up(database, delivered)
    assert report.engagement == Counter({OPENED: 1, CLICKED: 1})
    assert report.engaged_then_bounced == 2


def test_an_opt_out_before_the_delivery_is_counted_once_the_message_is_delivered(
    database: Database,
) -> None:
    batch = make_batch(database)
    move(database, batch, range(8), READY, in_gateway())
    now = batch.campaign.clock.now()
    opt_outs = [EngagementEvent(number, UNSUBSCRIBED, now) for number in (1, 2, 3, 9)]
    record_events(database, batch, [*opt_outs, EngagementEvent(4, SPAM, now)])
    waiting = rolled_up(database, batch)
    assert (waiting.engagement, waiting.engaged_then_bounced) == (Counter(), 0)
    with database.read() as connection:
        refused = sa.select(customers.c.number).where(customers.c.unsubscribed_email)
        assert connection.scalars(refused.order_by(customers.c.number)).all() == [1, 2, 3, 4, 9]
    outcomes = {
        1: Status.DELIVERED,
        2: Status.HARD_BOUNCED,
        3: Status.NOT_DELIVERED,
        4: Status.DELIVERED,
        5: Status.DELIVERED,
    }
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=now) as entry:
        receipts = [Receipt(number, 1, status, now) for number, status in outcomes.items()]
        assert apply_receipts(entry, receipts) == ()
    report = rolled_up(database, batch)
    assert report.engagement == Counter({OPENED: 1, CLICKED: 1, UNSUBSCRIBED: 1, SPAM: 1})
    assert report.engaged_then_bounced == 1
    bounce_late(database, batch, 1)
    report = rolled_up(database, batch)
    assert report.engagement == Counter({SPAM: 1})
    assert report.engaged_then_bounced == 2


@pytest.mark.parametrize("kind", [CLICKED, UNSUBSCRIBED])
def test_an_event_of_an_sms_implies_nothing(database: Database, kind: Engagement) -> None:
    batch = make_batch(database, Plan(channel=Channel.SMS))
    deliver_all(database, batch)
    record_events(database, batch, [EngagementEvent(1, kind, 5)])
    assert recorded(database, batch.campaign) == {EngagementEvent(1, kind, 5)}
    assert rolled_up(database, batch).engagement == Counter({kind: 1})
