"""The Live Monitoring Report: how many messages of a campaign are where, and whether it adds up.

A report sums a few tallies per batch and never reads messages, so its cost doesn't depend on their
number.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.bounces import BounceCause
from tracker.campaign_states import ENDED_STATES, CampaignState
from tracker.clock import Instant, to_datetime
from tracker.errors import UnreadableRecord
from tracker.queries.campaign_state import Origin, campaign_state
from tracker.record.bounces import BounceCounts, read_bounce_counts
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
from tracker.store.database_clock import transaction_start
from tracker.store.schema.catalog import audiences, batches, runs
from tracker.store.schema.catalog import campaigns as campaign_table
from tracker.store.schema.messages import NO_REASON, tallies

REPORTED_ENGAGEMENTS = (
    Engagement.OPENED,
    Engagement.CLICKED,
    Engagement.SPAM,
    Engagement.UNSUBSCRIBED,
)
"""The kinds of engagement that reports show, in order: all but machine opens."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The numbers of messages of a campaign in each state, at one instant.

    Attributes:
        audience: number of customers.
        recorded: number of messages that have been queued, summed over the batches.
        counts: number of messages in each state, summed over the tallies. It isn't assumed to agree
            with the recorded messages: see `is_balanced`.
        deferred: number of queued messages that a rule deferred, as of now.
        unconfirmed: number of messages in the gateway that were handed over without a reply.
        audience_title: what people read as the name of the audience, if it has a title.
        as_of: real time of this instant, by the database's clock.
        engagement: number of recipients of delivered messages by what they did: spam and
            unsubscribed as of now, the others as of the last rollup.
        engagement_days: recipients by local day and by what they did, as of the last rollup.
        engagement_as_of: time of the last rollup.
        engaged_then_bounced: messages that bounced although their recipients engaged, as of now.
        bounces: number of bounced messages by status and by the cause that the gateway gave.
    """

    campaign: Campaign
    audience: int
    recorded: int
    counts: Counter[State]
    state: CampaignState
    as_of: Instant
    engagement: Counter[Engagement] = field(default_factory=Counter)
    engagement_days: Mapping[str, Counter[Engagement]] = field(default_factory=dict)
    engagement_as_of: Instant | None = None
    engaged_then_bounced: int = 0
    bounces: BounceCounts = field(default_factory=Counter)
    deferred: int = 0
    unconfirmed: int = 0
    audience_title: str | None = None

    @property
    def origin(self) -> Origin:
        """The campaign, its state and the time of the report."""
        return Origin(campaign=self.campaign, state=self.state, as_of=self.as_of)

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
        """Messages that need no more work. A cancelled campaign has no further attempts."""
        attempts = 0 if self.state is CampaignState.CANCELLED else self.campaign.attempts
        return sum(
            count
            for state, count in self.counts.items()
            if is_settled(state.status, state.attempt, attempts)
        )

    @property
    def pending(self) -> int:
        """Messages that need more work by the workers, unlike those in the gateway."""
        return self.recorded - self.settled - self.count_messages(Status.IN_GATEWAY)

    @property
    def held(self) -> int:
        """Messages that need more work, but not yet: deferred, or of a paused campaign."""
        return self.pending if self.state is CampaignState.PAUSED else self.deferred

    @property
    def scheduled(self) -> int:
        """The number of customers whose message hasn't been queued yet."""
        return self.audience - self.recorded

    @property
    def is_over(self) -> bool:
        """True if few changes are expected, such as late bounces."""
        return self.state in (*ENDED_STATES, CampaignState.CANCELLED)

    @property
    def missing_receipts(self) -> int:
        """The number of messages of a finished run whose outcome the gateway hasn't reported."""
        is_over = self.state is CampaignState.FINISHED
        return self.count_messages(Status.IN_GATEWAY) if is_over else 0

    @property
    def is_balanced(self) -> bool:
        """True if both sums hold.

        Audience = Sent + Not Sent + In Progress + Scheduled, and
        Sent = Delivered + Bounced + X.
        """
        by_reason = sum(sum(self.count_by_reason(category).values()) for category in Category)
        return (
            self.scheduled >= 0
            and self.audience == self.sent + self.not_sent + self.in_progress + self.scheduled
            and self.sent == self.delivered + self.bounced + self.undecided
            and self.not_sent == by_reason
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report as other programs read it; the keys are a contract."""
        return {
            **self.origin.as_json(),
            "audience": self.audience,
            "sent": {
                "total": self.sent,
                "delivered": self.delivered,
                "bounced": {
                    "total": self.bounced,
                    "hard": self.count_messages(Status.HARD_BOUNCED),
                    "soft": self.count_messages(Status.SOFT_BOUNCED),
                    "causes": {
                        "hard": self._causes_as_json(Status.HARD_BOUNCED),
                        "soft": self._causes_as_json(Status.SOFT_BOUNCED),
                    },
                },
                "x": self.undecided,
                "not_delivered": self.count_messages(Status.NOT_DELIVERED),
                "in_gateway": self.count_messages(Status.IN_GATEWAY),
                "unconfirmed": self.unconfirmed,
                "opened": self.engagement[Engagement.OPENED],
                "clicked": self.engagement[Engagement.CLICKED],
                "spam": self.engagement[Engagement.SPAM],
                "unsubscribed": self.engagement[Engagement.UNSUBSCRIBED],
                "engaged_then_bounced": self.engaged_then_bounced,
                "engagement_as_of": _format_instant(self.engagement_as_of),
            },
            "not_sent": {
                "total": self.not_sent,
                **{category.value: self._category_as_json(category) for category in Category},
            },
            "in_progress": {
                "total": self.in_progress,
                "queued": self.count_messages(Status.QUEUED),
                "deferred": self.deferred,
                "about_to_be_sent": self.count_messages(Status.ABOUT_TO_BE_SENT),
            },
            "scheduled": self.scheduled,
            "balanced": self.is_balanced,
            "title": self.campaign.title,
            "organization_title": self.campaign.organization.title,
            "audience_title": self.audience_title,
        }

    def _causes_as_json(self, status: Status) -> dict[str, int]:
        return {cause.slug: self.bounces[status, cause] for cause in BounceCause}

    def days_as_json(self) -> dict[str, Any]:
        """Return the engagement by day as other programs read it; the keys are a contract."""
        return {
            **self.origin.as_json(),
            "engagement_as_of": _format_instant(self.engagement_as_of),
            "days": [
                {"day": day, **{kind.slug: counts[kind] for kind in REPORTED_ENGAGEMENTS}}
                for day, counts in self.engagement_days.items()
            ],
        }

    def _category_as_json(self, category: Category) -> dict[str, int]:
        counts = self.count_by_reason(category)
        return {
            "total": sum(counts.values()),
            **{reason.slug: count for reason, count in counts.items()},
        }


def make_reports(connection: Connection, campaigns: Sequence[Campaign]) -> list[Report]:
    """Return the reports of campaigns, all of the instant of the connection's snapshot.

    Args:
        connection: a transaction that sees one snapshot.
        campaigns: the campaigns; their reports have the same order.

    Raises:
        UnreadableRecord: a tally holds a value that sendtrace doesn't write.
    """
    ids = [campaign.id for campaign in campaigns]
    counts: dict[int, Counter[State]] = {campaign_id: Counter() for campaign_id in ids}
    for row in connection.execute(_state_counts_query(ids)):
        try:
            counts[row.campaign_id][_state_from_row(row)] = int(row.messages or 0)
        except (ValueError, TypeError, OverflowError) as error:
            raise UnreadableRecord(
                f"campaign {row.campaign_id} has a tally that can't be read: {error}"
            ) from None
    query = _campaigns_query(ids, campaign_state(connection))
    rows = {row.id: row for row in connection.execute(query)}
    engagement = read_engagement_counts(connection, ids)
    try:
        bounces = read_bounce_counts(connection, ids)
    except ValueError as error:
        raise UnreadableRecord(f"bounces by cause can't be read: {error}") from None
    return [
        Report(
            campaign=campaign,
            audience=rows[campaign.id].audience,
            recorded=int(rows[campaign.id].recorded),
            counts=counts[campaign.id],
            state=CampaignState(rows[campaign.id].state),
            as_of=rows[campaign.id].as_of,
            engagement=engagement[campaign.id].recipients,
            engagement_days=engagement[campaign.id].days,
            engagement_as_of=engagement[campaign.id].as_of,
            engaged_then_bounced=engagement[campaign.id].then_bounced,
            bounces=bounces[campaign.id],
            deferred=int(rows[campaign.id].deferred),
            unconfirmed=int(rows[campaign.id].unconfirmed),
            audience_title=rows[campaign.id].audience_title,
        )
        for campaign in campaigns
    ]


def _state_counts_query(campaign_ids: Sequence[int]) -> sa.Select[Any]:
    """Return a query for the summed tallies."""
    state = (tallies.c.campaign_id, tallies.c.status, tallies.c.attempt, tallies.c.reason)
    return (
        sa.select(*state, sa.func.sum(tallies.c.messages).label("messages"))
        .where(tallies.c.campaign_id.in_(campaign_ids))
        .group_by(*state)
    )


def _campaigns_query(campaign_ids: Sequence[int], state: sa.ColumnElement[str]) -> sa.Select[Any]:
    """Return a query for the audience, the recorded messages and the state of campaigns."""
    recorded, deferred, unconfirmed = (
        sa.select(sa.func.coalesce(sa.func.sum(column), 0))
        .where(batches.c.campaign_id == campaign_table.c.id)
        .scalar_subquery()
        for column in (batches.c.size, batches.c.deferred, batches.c.unconfirmed)
    )
    return (
        sa.select(
            campaign_table.c.id,
            audiences.c.size.label("audience"),
            audiences.c.title.label("audience_title"),
            recorded.label("recorded"),
            deferred.label("deferred"),
            unconfirmed.label("unconfirmed"),
            state.label("state"),
            transaction_start().label("as_of"),
        )
        .join(audiences, audiences.c.id == campaign_table.c.audience_id)
        .join(runs, runs.c.id == campaign_table.c.run_id)
        .where(campaign_table.c.id.in_(campaign_ids))
    )


def _state_from_row(row: sa.Row[Any]) -> State:
    return State(
        status=Status(row.status),
        attempt=int(row.attempt),
        reason=None if row.reason == NO_REASON else Reason(row.reason),
    )


def _format_instant(instant: Instant | None) -> str | None:
    return None if instant is None else to_datetime(instant).isoformat(timespec="seconds")
