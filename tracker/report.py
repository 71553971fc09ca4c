"""The Live Monitoring Report: where the messages of a campaign are, and a proof that it adds up.

It sums a few tallies a batch and never looks at the messages, so it costs the same at a million.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.catalog import Campaign
from tracker.journal import State
from tracker.schema import NO_REASON, batches, tallies
from tracker.status import IN_PROGRESS, SENT, Category, Reason, Status, is_settled


@dataclass(frozen=True)
class Report:
    """How many messages of a campaign are in which state, at one instant.

    ``audience`` counts the messages that were recorded, from their batches; ``counts`` what became
    of them, from the tallies. That the two agree is not assumed anywhere: see :attr:`balanced`.
    """

    campaign: Campaign
    audience: int
    counts: Counter[State]

    def having(self, status: Status, reason: Reason | None = None) -> int:
        """Messages with a status and, if it is given, a reason."""
        return sum(
            count
            for state, count in self.counts.items()
            if state.status is status and reason in (None, state.reason)
        )

    def within(self, category: Category) -> dict[Reason, int]:
        """Messages Not Sent by each reason of a category."""
        return {
            reason: self.having(Status.NOT_SENT, reason)
            for reason in Reason
            if reason.category is category
        }

    @property
    def sent(self) -> int:
        return sum(self.having(status) for status in SENT)

    @property
    def not_sent(self) -> int:
        return self.having(Status.NOT_SENT)

    @property
    def in_progress(self) -> int:
        return sum(self.having(status) for status in IN_PROGRESS)

    @property
    def delivered(self) -> int:
        return self.having(Status.DELIVERED)

    @property
    def bounced(self) -> int:
        return self.having(Status.HARD_BOUNCED) + self.having(Status.SOFT_BOUNCED)

    @property
    def undecided(self) -> int:
        """X: sent, neither delivered nor bounced."""
        return self.having(Status.NOT_DELIVERED) + self.having(Status.IN_GATEWAY)

    @property
    def settled(self) -> int:
        """Messages that need no more work."""
        return sum(
            count
            for state, count in self.counts.items()
            if is_settled(state.status, state.attempt, self.campaign.attempts)
        )

    @property
    def balanced(self) -> bool:
        """Audience = Sent + Not Sent + In Progress, and Sent = Delivered + Bounced + X."""
        by_reason = sum(sum(self.within(category).values()) for category in Category)
        return (
            self.audience == self.sent + self.not_sent + self.in_progress
            and self.sent == self.delivered + self.bounced + self.undecided
            and self.not_sent == by_reason
        )

    def as_json(self) -> dict[str, Any]:
        """The report as other programs read it."""
        return {
            "campaign": self.campaign.name,
            "channel": self.campaign.channel.value,
            "audience": self.audience,
            "sent": {
                "total": self.sent,
                "delivered": self.delivered,
                "bounced": {
                    "total": self.bounced,
                    "hard": self.having(Status.HARD_BOUNCED),
                    "soft": self.having(Status.SOFT_BOUNCED),
                },
                "not_delivered": self.having(Status.NOT_DELIVERED),
                "in_gateway": self.having(Status.IN_GATEWAY),
                "opened": 0,
                "clicked": 0,
                "spam": 0,
                "unsubscribed": 0,
                "engagement_as_of": None,
            },
            "not_sent": {
                "total": self.not_sent,
                **{category.value: self._category(category) for category in Category},
            },
            "in_progress": {
                "total": self.in_progress,
                "queued": self.having(Status.QUEUED),
                "about_to_be_sent": self.having(Status.ABOUT_TO_BE_SENT),
            },
            "balanced": self.balanced,
        }

    def _category(self, category: Category) -> dict[str, int]:
        counts = self.within(category)
        return {
            "total": sum(counts.values()),
            **{reason.slug: count for reason, count in counts.items()},
        }


def make_reports(connection: Connection, campaigns: Sequence[Campaign]) -> list[Report]:
    """The reports of campaigns, all of the same instant: one query, so one snapshot."""
    wanted = [campaign.id for campaign in campaigns]
    states = (
        sa.select(
            tallies.c.campaign_id,
            tallies.c.status,
            tallies.c.attempt,
            tallies.c.reason,
            sa.func.sum(tallies.c.messages).label("messages"),
        )
        .where(tallies.c.campaign_id.in_(wanted))
        .group_by(tallies.c.campaign_id, tallies.c.status, tallies.c.attempt, tallies.c.reason)
    )
    recorded = (
        sa.select(
            batches.c.campaign_id, sa.null(), sa.null(), sa.null(), sa.func.sum(batches.c.size)
        )
        .where(batches.c.campaign_id.in_(wanted))
        .group_by(batches.c.campaign_id)
    )
    audience: Counter[int] = Counter()
    counts: dict[int, Counter[State]] = {campaign_id: Counter() for campaign_id in wanted}
    for campaign_id, status, attempt, reason, number in connection.execute(
        sa.union_all(states, recorded)
    ):
        if status is None:
            audience[campaign_id] = int(number)
        else:
            state = State(
                status=Status(status),
                attempt=attempt,
                reason=None if reason == NO_REASON else Reason(reason),
            )
            counts[campaign_id][state] = int(number)
    return [Report(each, audience[each.id], counts[each.id]) for each in campaigns]
