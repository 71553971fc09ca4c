"""Find the customers of an organization who have the same address as some customers."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.record.catalog import Batch, Campaign
from tracker.status import Channel
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns, shared_addresses

OtherCustomers = Mapping[tuple[int, Channel], Mapping[int, Sequence[int]]]
"""Customers who share an address with the customers in question, by audience and channel. The
number of each maps to the numbers of those in question, without itself."""


def has_shared_addresses(connection: Connection, batch: Batch) -> bool:
    """Return whether a customer of a batch has an address that others have on the channel, too."""
    if not batch.campaign.has_shared_addresses:
        return False
    shared = sa.select(shared_addresses.c.number).where(
        shared_addresses.c.audience_id == batch.campaign.audience_id,
        shared_addresses.c.channel == batch.campaign.channel,
        shared_addresses.c.number.between(batch.first, batch.last),
    )
    return bool(connection.scalar(sa.select(shared.exists())))


def read_other_customers(
    connection: Connection,
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
    channels: Collection[Channel],
) -> OtherCustomers:
    """Return who else of the organization has the address of customers of a campaign's audience."""
    others: defaultdict[tuple[int, Channel], defaultdict[int, list[int]]]
    others = defaultdict(lambda: defaultdict(list))
    shared = shared_addresses.c
    for channel in channels if campaign.has_shared_addresses and numbers else ():
        by_address: defaultdict[int, list[int]] = defaultdict(list)
        query = sa.select(shared.address, shared.number).where(
            shared.audience_id == campaign.audience_id,
            shared.channel == channel,
            database.in_list(shared.number, numbers),
        )
        for address, number in connection.execute(query):
            by_address[address].append(number)
        same = sa.select(shared.address, shared.audience_id, shared.number).where(
            shared.organization_id == campaign.organization.id,
            shared.channel == channel,
            database.in_list(shared.address, sorted(by_address)),
        )
        for address, audience_id, number in connection.execute(same) if by_address else ():
            is_own = audience_id == campaign.audience_id
            for asked in by_address[address]:
                if not (is_own and number == asked):
                    others[audience_id, channel][number].append(asked)
    return others


def read_duplicates(
    connection: Connection, database: Database, campaign: Campaign, numbers: Sequence[int]
) -> Collection[int]:
    """Return which customers aren't the first of the audience with their address."""
    query = sa.select(shared_addresses.c.number).where(
        shared_addresses.c.audience_id == campaign.audience_id,
        shared_addresses.c.channel == campaign.channel,
        database.in_list(shared_addresses.c.number, numbers),
        shared_addresses.c.is_duplicate,
    )
    return frozenset(connection.scalars(query))


@dataclass(frozen=True)
class SiblingCampaign:
    """A campaign of the organization with messages to some customers of another campaign.

    Attributes:
        numbers: its messages to these customers and to their addresses.
    """

    id: int
    attempts: int
    numbers: Sequence[int]
    _own: Collection[int]
    _others: Mapping[int, Sequence[int]]

    def find_customers(self, number: int) -> Iterator[int]:
        """Yield the customers with the address of a message, by their numbers in their campaign."""
        if number in self._own:
            yield number
        yield from self._others.get(number, ())


@dataclass(frozen=True)
class Recipients:
    """Customers of a campaign, and all others of the organization with the same addresses."""

    campaign: Campaign
    numbers: Collection[int]
    others: OtherCustomers

    def find_siblings(
        self,
        connection: Connection,
        *,
        channel: Channel | None = None,
        including_itself: bool = False,
    ) -> Iterator[SiblingCampaign]:
        """Yield the organization's campaigns with messages to the customers or their addresses.

        Args:
            connection: connection to read them with.
            channel: the channel of the campaigns; None for both.
            including_itself: whether the customers' campaign is one of them.
        """
        own = self.campaign.audience_id
        audience_ids = {own, *(audience_id for audience_id, _ in self.others)}
        query = sa.select(
            campaigns.c.id, campaigns.c.attempts, campaigns.c.audience_id, campaigns.c.channel
        ).where(campaigns.c.audience_id.in_(audience_ids))
        if channel is not None:
            query = query.where(campaigns.c.channel == channel)
        if not including_itself:
            query = query.where(campaigns.c.id != self.campaign.id)
        for sibling in connection.execute(query.order_by(campaigns.c.id)).all():
            others = self.others.get((sibling.audience_id, Channel(sibling.channel)), {})
            numbers = self.numbers if sibling.audience_id == own else ()
            yield SiblingCampaign(
                id=sibling.id,
                attempts=sibling.attempts,
                numbers=sorted({*numbers, *others}) if others else [*numbers],
                _own=numbers,
                _others=others,
            )


def read_recipients(
    connection: Connection,
    database: Database,
    campaign: Campaign,
    numbers: Sequence[int],
) -> Recipients:
    """Return customers of a campaign with all others who have the same addresses."""
    others = read_other_customers(connection, database, campaign, numbers, [*Channel])
    return Recipients(campaign, frozenset(numbers), others)
