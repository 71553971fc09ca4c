"""Customers with the same address: how they are found, and what they have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.factory import AUTHOR, READY, Plan, make_campaign, make_sibling
from tests.support.statements import executed
from tracker.record import registration
from tracker.record.allowance import count_recent_messages
from tracker.record.catalog import Batch, Campaign, load_campaign
from tracker.record.customers.changes import update_bounce_counts
from tracker.record.customers.same_address import read_duplicates, read_other_customers
from tracker.record.customers.shared_addresses import record_shared_addresses
from tracker.record.engagement import EngagementEvent, opt_out_customers
from tracker.record.journal import QUEUED_STATE, Move, enqueue_batch, open_entry
from tracker.status import Channel, Engagement, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import customers

ANA, BO = {"email_key": "ana@shop.example"}, {"email_key": "bo@shop.example"}
MOBILE = {"mobile_key": "+447700900001"}

PEOPLE: Mapping[int, Mapping[str, Any]] = {
    0: ANA | {"unsubscribed_email": True, "hard_bounces_email": 1},
    1: BO,
    2: ANA | {"soft_bounces_email": 2, "marked_spam_email": True} | MOBILE,
    3: {"email_key": "cleo@shop.example"} | MOBILE,
    4: {},
}


def make_audience(database: Database, campaign: Campaign, people: Mapping[int, Any]) -> Campaign:
    """Record another audience of the organization, with a campaign."""
    with database.write() as connection:
        audience_id = registration.record_audience(connection, campaign.organization.id, "other")
        for number, values in people.items():
            row = {"audience_id": audience_id, "number": number, "customer_id": f"o{number}"}
            connection.execute(sa.insert(customers).values(row | values))
        registration.record_audience_size(connection, audience_id, len(people))
        return make_sibling_to(connection, campaign, audience_id)


def make_sibling_to(connection: sa.Connection, campaign: Campaign, audience_id: int) -> Campaign:
    campaign_id = registration.record_campaign(
        connection,
        campaign.run_id,
        organization_id=campaign.organization.id,
        audience_id=audience_id,
        gateway_id=campaign.gateway_id,
        name=f"to-{audience_id}",
        channel=Channel.EMAIL,
        requires=(),
        attempts=1,
    )
    return load_campaign(connection, campaign_id)


def share(database: Database, *campaigns: Campaign, skipping: Sequence[int] = ()) -> list[Campaign]:
    with database.write() as connection:
        record_shared_addresses(connection, campaigns[0].organization.id, skipping)
        return [load_campaign(connection, campaign.id) for campaign in campaigns]


def read(database: Database, campaign: Campaign, *columns: str) -> list[tuple[Any, ...]]:
    query = (
        sa.select(*(customers.c[name] for name in columns))
        .where(customers.c.audience_id == campaign.audience_id)
        .order_by(customers.c.number)
    )
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


@pytest.fixture
def campaigns(database: Database) -> list[Campaign]:
    """Return two campaigns to two audiences; the first skips duplicates."""
    first = make_campaign(database, Plan(size=len(PEOPLE)), PEOPLE)
    second = make_audience(database, first, {0: BO, 1: {}, 2: ANA, 3: ANA})
    return share(database, first, second, skipping=[first.audience_id])


def test_customers_with_the_same_address_are_found_by_channel(
    database: Database, campaigns: list[Campaign]
) -> None:
    first, second = campaigns
    one, two = first.audience_id, second.audience_id
    everyone = range(5)
    with database.read() as connection:
        others = {
            channel: read_other_customers(connection, database, first, everyone, [channel])
            for channel in Channel
        }
        duplicates = [
            read_duplicates(connection, database, campaign, everyone) for campaign in campaigns
        ]
    assert {key: dict(value) for key, value in others[Channel.EMAIL].items()} == {
        (one, Channel.EMAIL): {0: [2], 2: [0]},
        (two, Channel.EMAIL): {0: [1], 2: [0, 2], 3: [0, 2]},
    }
    assert {key: dict(value) for key, value in others[Channel.SMS].items()} == {
        (one, Channel.SMS): {2: [3], 3: [2]}
    }
    assert duplicates == [{2}, frozenset()]


def test_they_have_all_opt_outs_and_the_most_bounces_of_one(
    database: Database, campaigns: list[Campaign]
) -> None:
    columns = ["unsubscribed_email", "marked_spam_email", "hard_bounces_email"]
    rows = [read(database, campaign, *columns, "soft_bounces_email") for campaign in campaigns]
    nothing = (False, False, 0, 0)
    assert rows[0] == [(True, True, 1, 2), nothing, (True, True, 1, 2), nothing, nothing]
    assert rows[1] == [nothing, nothing, (True, True, 1, 2), (True, True, 1, 2)]
    assert not any(row[0] for row in read(database, campaigns[0], "unsubscribed_sms"))


@pytest.mark.parametrize("kind", [Engagement.SPAM, Engagement.UNSUBSCRIBED])
def test_an_opt_out_is_one_of_the_address(
    database: Database, campaigns: list[Campaign], kind: Engagement
) -> None:
    first, second = campaigns
    with database.write() as connection:
        opt_out_customers(database, connection, first, [EngagementEvent(1, kind, 0)])
    is_spam = kind is Engagement.SPAM
    columns = ("unsubscribed_email", "marked_spam_email")
    assert read(database, first, *columns)[1] == (True, is_spam)
    assert read(database, second, *columns)[0] == (True, is_spam)
    assert read(database, second, *columns)[1] == (False, False)


@pytest.mark.parametrize(
    ("status", "column", "expected"),
    [
        (Status.HARD_BOUNCED, "hard_bounces_email", 1 + 2),
        (Status.SOFT_BOUNCED, "soft_bounces_email", 2 + 2),
        (Status.DELIVERED, "soft_bounces_email", 0),
    ],
)
def test_each_message_to_an_address_counts_once_for_each_customer_who_has_it(
    database: Database, campaigns: list[Campaign], status: Status, column: str, expected: int
) -> None:
    first, second = campaigns
    batch = enqueue_batch(database, second, batch=0, first=0, size=4, author=AUTHOR)
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=0) as entry:
        update_bounce_counts(entry, status, 1, [1, 2, 3])
    assert [row[0] for row in read(database, second, column)][2:] == [expected] * 2
    ana_and_others = [row[0] for row in read(database, first, column)]
    assert [ana_and_others[number] for number in (0, 2)] == [expected] * 2
    assert [ana_and_others[number] for number in (1, 3, 4)] == [0] * 3


def dispatch(database: Database, batch: Batch, numbers: list[int]) -> None:
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=now) as entry:
        entry.move(Move(numbers=numbers, source=QUEUED_STATE, target=READY, at=now))


def test_recent_messages_are_those_to_the_customer_or_the_address(
    database: Database, campaigns: list[Campaign]
) -> None:
    first, second = campaigns
    own = make_sibling(database, first, "own")
    sms = make_sibling(database, first, "sms", Channel.SMS)
    for campaign, numbers in ((second, [0, 1, 2]), (own, [0, 4]), (sms, [3])):
        size = 4 if campaign is second else 5
        batch = enqueue_batch(database, campaign, batch=0, first=0, size=size, author=AUTHOR)
        dispatch(database, batch, numbers)
    now = first.clock.now()
    with database.read() as connection:
        counts = count_recent_messages(connection, database, first, range(5), now)
    # Customers 0 and 2 have an address, 2 and 3 a number.
    assert counts == {0: 2, 1: 1, 2: 3, 3: 1, 4: 1}


def test_without_shared_addresses_no_further_statement_runs(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=2), {0: ANA, 1: BO})
    [campaign] = share(database, campaign, skipping=[campaign.audience_id])
    assert not campaign.has_shared_addresses
    event = EngagementEvent(1, Engagement.UNSUBSCRIBED, 0)
    with executed(database) as statements, database.write() as connection:
        opt_out_customers(database, connection, campaign, [event])
    assert sum("shared_addresses" in statement for statement, _ in statements) == 0
    assert sum("UPDATE" in statement for statement, _ in statements) == 1


@pytest.mark.parametrize(
    ("status", "number", "expected"),
    [
        pytest.param(Status.HARD_BOUNCED, 2, True, id="a bounce of a shared address"),
        pytest.param(Status.DELIVERED, 2, True, id="a delivery that resets soft bounces"),
        pytest.param(Status.DELIVERED, 1, False, id="a delivery that resets none"),
        pytest.param(Status.HARD_BOUNCED, 3, False, id="a batch without shared addresses"),
    ],
)
def test_only_changes_of_shared_addresses_lock_the_organization(
    database: Database, campaigns: list[Campaign], status: Status, number: int, expected: bool
) -> None:
    """Otherwise the steps of all batches would wait for each other on PostgreSQL."""
    first, size = (0, 3) if number < 3 else (3, 2)
    batch = enqueue_batch(database, campaigns[0], batch=0, first=first, size=size, author=AUTHOR)
    with (
        open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=0) as entry,
        executed(database) as statements,
    ):
        update_bounce_counts(entry, status, 1, [number])
    assert any("FROM organizations" in statement for statement, _ in statements) is expected


def test_addresses_of_other_organizations_are_others(database: Database) -> None:
    one, two = (make_campaign(database, Plan(size=1), {0: ANA}) for _ in range(2))
    assert not any(share(database, campaign)[0].has_shared_addresses for campaign in (one, two))
