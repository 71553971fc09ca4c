"""Facts about recipients that a run adds to the suppression list of its organization."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant
from tracker.record.catalog import Campaign
from tracker.record.suppressions.entries import upsert_entries
from tracker.status import Channel, Engagement, Status, SuppressionReason
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.store.schema.suppressions import suppressions

REASON_BY_OPT_OUT = MappingProxyType(
    {
        Engagement.UNSUBSCRIBED: SuppressionReason.UNSUBSCRIBED,
        Engagement.SPAM: SuppressionReason.SPAM,
    }
)

KEY_COLUMNS = MappingProxyType(
    {Channel.EMAIL: customers.c.email_key, Channel.SMS: customers.c.mobile_key}
)
"""The column of a customer's address as it is compared; null for recipients who aren't."""


class _Change(NamedTuple):
    """A reason that some messages' recipients get, or lose."""

    reason: SuppressionReason
    numbers: Sequence[int]
    is_added: bool


@dataclass
class SuppressionChanges:
    """The changes of a list that follow from one transaction, in their order.

    They are written at the end of the transaction, because only one transaction at a time may write
    lists. After that it waits for nothing, so transactions can't wait for each other in a circle.
    """

    _changes: list[_Change] = field(default_factory=list)

    def add(self, reason: SuppressionReason, numbers: Sequence[int]) -> None:
        """List the recipients of messages, or count one more bounce of each."""
        self._changes.append(_Change(reason, numbers, is_added=True))

    def add_opt_outs(self, events: Iterable[tuple[int, Engagement, Instant]]) -> None:
        """List the recipients who opted out, given by number, kind and time of the event."""
        numbers: dict[SuppressionReason, set[int]] = {}
        for number, kind, _ in events:
            if kind in REASON_BY_OPT_OUT:
                numbers.setdefault(REASON_BY_OPT_OUT[kind], set()).add(number)
        for reason, listed in numbers.items():
            self.add(reason, sorted(listed))

    def add_outcome(
        self, campaign: Campaign, status: Status, attempt: int, numbers: Sequence[int]
    ) -> None:
        """Count the bounces of messages that have just moved to a status, as their customers do."""
        if status is Status.HARD_BOUNCED:
            self.add(SuppressionReason.HARD_BOUNCED, numbers)
        elif status is Status.SOFT_BOUNCED and attempt >= campaign.attempts:
            self.add(SuppressionReason.SOFT_BOUNCED, numbers)
        elif status is Status.DELIVERED:
            self._changes.append(_Change(SuppressionReason.SOFT_BOUNCED, numbers, is_added=False))

    def write(self, database: Database, connection: Connection, campaign: Campaign) -> None:
        """Write the changes that a campaign makes, if its organization keeps a list."""
        if not self._changes or not campaign.keeps_suppressions:
            return
        database.lock_table(connection, suppressions)
        key, now = KEY_COLUMNS[campaign.channel], campaign.clock.now()
        for reason, numbers, is_added in self._changes:
            is_changed = sa.and_(
                customers.c.audience_id == campaign.audience_id,
                database.in_list(customers.c.number, numbers),
                key.is_not(None),
            )
            if not is_added:
                connection.execute(
                    sa.delete(suppressions).where(
                        suppressions.c.organization == campaign.organization.name,
                        suppressions.c.channel == campaign.channel,
                        suppressions.c.reason == reason,
                        suppressions.c.address.in_(sa.select(key).where(is_changed)),
                    )
                )
                continue
            # Customers of an audience may have the same address.
            entries = (
                sa.select(
                    sa.literal(campaign.organization.name, sa.Text),
                    sa.literal(campaign.channel, sa.Text),
                    sa.literal(reason, sa.Text),
                    key,
                    sa.func.count() if reason.is_bounce else sa.literal(1, sa.Integer),
                    sa.literal(f"run {campaign.run_id}, campaign {campaign.name}", sa.Text),
                    sa.literal(now, sa.BigInteger),
                    sa.cast(sa.null(), sa.BigInteger),
                )
                .where(is_changed)
                .group_by(key)
            )
            upsert_entries(database, connection, entries, now, adds_counts=reason.is_bounce)
