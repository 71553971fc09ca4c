"""The Live Monitoring Report: how many messages of a campaign are where, and whether it adds up.

A report sums a few tallies per batch and never reads messages, so its cost doesn't depend on their
number.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_datetime
from tracker.errors import UnreadableRecord
from tracker.record.catalog import Campaign
from tracker.record.engagement import read_engagement_counts
from tracker.record.journal import State
from tracker.status import (
    IN_PROGRESS_STATUSES,
    SENT_STATUSES,
    Category,
    Engagement,
    Reason,
    Status,
    is_settled,
)
from tracker.store.schema import catalog as catalog_tables
from tracker.store.schema.catalog import batches, runs
from tracker.store.schema.messages import NO_REASON, tallies


@dataclass(frozen=True)
class Report:
    """The numbers of messages of a campaign in each state, at one instant.

    Attributes:
        audience: number of recorded messages, summed over the batches.
        counts: number of messages in each state, summed over the tallies. It isn't assumed to agree
            with the audience: see `is_balanced`.
        is_run_finished: whether the campaign's run came to its end.
        engagement: number of recipients by what they did: spam and unsubscribed as of now, the
            others as of the last rollup.
        engagement_as_of: time of the last rollup.
    """

    campaign: Campaign
    audience: int
    counts: Counter[State]
    is_run_finished: bool = False
    engagement: Counter[Engagement] = field(default_factory=Counter)
    engagement_as_of: Instant | None = None

    def count_messages(self, status: Status, reason: Reason | None = None) -> int:
        """Return the number of messages with a status and, if given, a reason."""
        return sum(
            count
            for state, count in self.counts.items()
            if state.status is status and reason in (None, state.reason)
        )

    def count_by_reason(self, category: Category) -> dict[Reason, int]:
        """Return the number of messages that are Not Sent, by each reason of a category."""
        return {
            reason: self.count_messages(Status.NOT_SENT, reason)
            for reason in Reason
            if reason.category is category
        }

    @property
    def sent(self) -> int:
        """The number of messages that the gateway accepted."""
        return sum(self.count_messages(status) for status in SENT_STATUSES)

    @property
    def not_sent(self) -> int:
        """The number of messages stopped before the gateway."""
        return self.count_messages(Status.NOT_SENT)

    @property
    def in_progress(self) -> int:
        """The number of messages on their way to the gateway."""
        return sum(self.count_messages(status) for status in IN_PROGRESS_STATUSES)

    @property
    def delivered(self) -> int:
        """The number of messages that reached their recipients."""
        return self.count_messages(Status.DELIVERED)

    @property
    def bounced(self) -> int:
        """The number of hard-bounced and soft-bounced messages."""
        return self.count_messages(Status.HARD_BOUNCED) + self.count_messages(Status.SOFT_BOUNCED)

    @property
    def undecided(self) -> int:
        """Messages that are sent, but neither delivered nor bounced: the report's X."""
        return self.count_messages(Status.NOT_DELIVERED) + self.count_messages(Status.IN_GATEWAY)

    @property
    def settled(self) -> int:
        """Messages that need no more work."""
        return sum(
            count
            for state, count in self.counts.items()
            if is_settled(state.status, state.attempt, self.campaign.attempts)
        )

    @property
    def pending(self) -> int:
        """Messages that need more work by the workers, unlike those in the gateway."""
        return self.audience - self.settled - self.count_messages(Status.IN_GATEWAY)

    @property
    def is_finished(self) -> bool:
        """True if no more changes are expected, except late bounces."""
        return self.is_run_finished or self.settled == self.audience > 0

    @property
    def is_balanced(self) -> bool:
        """True if both sums hold.

        Audience = Sent + Not Sent + In Progress, and
        Sent = Delivered + Bounced + Not delivered + In gateway.
        """
        by_reason = sum(sum(self.count_by_reason(category).values()) for category in Category)
        return (
            self.audience == self.sent + self.not_sent + self.in_progress
            and self.sent == self.delivered + self.bounced + self.undecided
            and self.not_sent == by_reason
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report as other programs read it; the keys are a contract."""
        return {
            "campaign": self.campaign.name,
            "channel": self.campaign.channel.value,
            "audience": self.audience,
            "sent": {
                "total": self.sent,
                "delivered": self.delivered,
                "bounced": {
                    "total": self.bounced,
                    "hard": self.count_messages(Status.HARD_BOUNCED),
                    "soft": self.count_messages(Status.SOFT_BOUNCED),
                },
                "not_delivered": self.count_messages(Status.NOT_DELIVERED),
                "in_gateway": self.count_messages(Status.IN_GATEWAY),
                "opened": self.engagement[Engagement.OPENED],
                "clicked": self.engagement[Engagement.CLICKED],
                "spam": self.engagement[Engagement.SPAM],
                "unsubscribed": self.engagement[Engagement.UNSUBSCRIBED],
                "engagement_as_of": (
                    None
                    if self.engagement_as_of is None
                    else to_datetime(self.engagement_as_of).isoformat(timespec="seconds")
                ),
            },
            "not_sent": {
                "total": self.not_sent,
                **{category.value: self._category_as_json(category) for category in Category},
            },
            "in_progress": {
                "total": self.in_progress,
                "queued": self.count_messages(Status.QUEUED),
                "about_to_be_sent": self.count_messages(Status.ABOUT_TO_BE_SENT),
            },
            "balanced": self.is_balanced,
        }

    def _category_as_json(self, category: Category) -> dict[str, int]:
        counts = self.count_by_reason(category)
        return {
            "total": sum(counts.values()),
            **{reason.slug: count for reason, count in counts.items()},
        }


def make_reports(connection: Connection, campaigns: Sequence[Campaign]) -> list[Report]:
    """Return the reports of campaigns, all of the instant of the connection's snapshot.

    Raises:
        UnreadableRecord: a tally holds a value that sendtrace doesn't write.
    """
    audience: Counter[int] = Counter()
    counts: dict[int, Counter[State]] = {campaign.id: Counter() for campaign in campaigns}
    finished: set[int] = set()
    for row in connection.execute(_state_counts_query(list(counts))):
        try:
            number = int(row.messages or 0)
            if row.status is None:
                audience[row.campaign_id] = number
                if row.finished_at is not None:
                    finished.add(row.campaign_id)
            else:
                counts[row.campaign_id][_state_from_row(row)] = number
        except (ValueError, TypeError, OverflowError) as error:
            raise UnreadableRecord(
                f"campaign {row.campaign_id} has a tally that can't be read: {error}"
            ) from None
    engagement = read_engagement_counts(connection, list(counts))
    return [
        Report(
            campaign,
            audience[campaign.id],
            counts[campaign.id],
            campaign.id in finished,
            *engagement[campaign.id],
        )
        for campaign in campaigns
    ]


def _state_counts_query(campaign_ids: Sequence[int]) -> sa.CompoundSelect[Any]:
    """Return a query for the summed tallies, and a row without status for each whole campaign."""
    states = (
        sa.select(
            tallies.c.campaign_id,
            tallies.c.status,
            tallies.c.attempt,
            tallies.c.reason,
            sa.func.sum(tallies.c.messages).label("messages"),
            sa.null().label("finished_at"),
        )
        .where(tallies.c.campaign_id.in_(campaign_ids))
        .group_by(tallies.c.campaign_id, tallies.c.status, tallies.c.attempt, tallies.c.reason)
    )
    recorded = (
        sa.select(
            catalog_tables.campaigns.c.id,
            sa.null(),
            sa.null(),
            sa.null(),
            sa.func.sum(batches.c.size),
            sa.func.max(runs.c.finished_at),
        )
        .join(runs, runs.c.id == catalog_tables.campaigns.c.run_id)
        .outerjoin(batches, batches.c.campaign_id == catalog_tables.campaigns.c.id)
        .where(catalog_tables.campaigns.c.id.in_(campaign_ids))
        .group_by(catalog_tables.campaigns.c.id)
    )
    return sa.union_all(states, recorded)


def _state_from_row(row: sa.Row[Any]) -> State:
    return State(
        status=Status(row.status),
        attempt=int(row.attempt),
        reason=None if row.reason == NO_REASON else Reason(row.reason),
    )
