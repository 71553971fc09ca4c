"""The invariants, as queries: each returns the rows that contradict it, so none is good news.

They read the messages, the transitions, the tallies and the steps, and hold one against the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping, Select

from tracker.audit import engagement, messages
from tracker.errors import Unreadable
from tracker.queries.report import make_reports
from tracker.record.catalog import Campaign

EXAMPLES = 5
"""Wrong rows that are named; all are counted."""

Query = Callable[[Sequence[int]], "Select[Any]"]
"""From the ids of campaigns to the rows of theirs that are wrong."""


@dataclass(frozen=True)
class Invariant:
    """Something that is always true. ``claim`` says what, ``query`` finds where it is not."""

    name: str
    claim: str
    query: Query


@dataclass(frozen=True)
class Finding:
    """What came of looking: the number of wrong rows, and the first of them."""

    invariant: Invariant
    wrong: int
    examples: tuple[dict[str, Any], ...]

    @property
    def holds(self) -> bool:
        return self.wrong == 0

    def as_json(self) -> dict[str, Any]:
        return {
            "invariant": self.invariant.name,
            "claim": self.invariant.claim,
            "holds": self.holds,
            "wrong": self.wrong,
            "examples": list(self.examples),
        }


def check(
    connection: Connection, campaigns: Sequence[Campaign], invariants: Sequence[Invariant]
) -> list[Finding]:
    """Look for what contradicts ``invariants``, in one snapshot if ``connection`` sees one."""
    ids = [campaign.id for campaign in campaigns]
    findings = [_look(connection, invariant, ids) for invariant in invariants]
    unbalanced = tuple(_unbalanced(connection, campaigns))
    return [*findings, Finding(BALANCED, len(unbalanced), unbalanced[:EXAMPLES])]


def _unbalanced(connection: Connection, campaigns: Sequence[Campaign]) -> Iterator[dict[str, Any]]:
    for campaign in campaigns:
        try:
            [report] = make_reports(connection, [campaign])
        except Unreadable as error:
            yield {"campaign_id": campaign.id, "unreadable": str(error)}
        else:
            if not report.balanced:
                yield {"campaign_id": campaign.id, **report.as_json()}


def _look(connection: Connection, invariant: Invariant, ids: Sequence[int]) -> Finding:
    query = invariant.query(ids)
    rows = connection.execute(query.limit(EXAMPLES + 1)).mappings().all()
    wrong = len(rows)
    if wrong > EXAMPLES:
        wrong = connection.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    return Finding(invariant, wrong, tuple(_plain(row) for row in rows[:EXAMPLES]))


def _plain(row: RowMapping) -> dict[str, Any]:
    """A row as JSON can show it: PostgreSQL's sums are decimals, and SQLite holds anything."""
    return {key: _plain_value(value) for key, value in row.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value)
    return value if value is None or isinstance(value, int | float | str) else str(value)


BALANCED = Invariant(
    "report_balances",
    "Audience = Sent + Not Sent + In Progress, and Sent = Delivered + Bounced + X.",
    lambda _: sa.select(sa.null()).where(sa.false()),
)

INVARIANTS = (
    Invariant(
        "batches_follow",
        "The batches of a campaign cover its message numbers from 0, without gap or overlap.",
        messages.batches_follow_each_other,
    ),
    Invariant(
        "audience_covered",
        "A campaign of a finished run has a message for each customer of its audience.",
        messages.finished_runs_cover_their_audiences,
    ),
    Invariant(
        "customers",
        "Every message has its customer.",
        messages.messages_have_customers,
    ),
    Invariant(
        "one_reason",
        "A message that is Not Sent has one reason, any other has none.",
        messages.one_reason_if_not_sent,
    ),
    Invariant(
        "tallies",
        "Every batch's tallies are the counts of its messages.",
        messages.tallies_are_counts,
    ),
    Invariant(
        "last_transition",
        "Every message is in the state, and for the reason, of a transition of its own.",
        messages.last_transition_is_state,
    ),
    Invariant(
        "legal_history",
        "Every transition is legal, and starts where and when an earlier one of the message ended.",
        messages.came_from_where_it_was,
    ),
    Invariant(
        "flow",
        "As many messages are in a state as entered it and did not leave it.",
        messages.entered_less_left_is_there,
    ),
    Invariant(
        "steps",
        "Every step made as many transitions as it says, and none that happened after it.",
        messages.steps_moved_what_they_say,
    ),
    Invariant(
        "engagement_tallies",
        "Every batch's engagement tallies are the counts of its recipients' first events.",
        engagement.engagement_tallies_are_counts,
    ),
    Invariant(
        "engagement_days",
        "The days of a campaign count whom its tallies say were rolled up.",
        engagement.engagement_days_are_what_was_rolled_up,
    ),
    Invariant(
        "implied_engagement",
        "Who clicked had opened, and who unsubscribed had clicked.",
        engagement.came_without_what_they_imply,
    ),
)
