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
from tracker.errors import UnreadableRecord
from tracker.queries.report import make_reports
from tracker.record.catalog import Campaign

MAX_EXAMPLES = 5
"""Wrong rows that are named; all are counted."""

InvariantQuery = Callable[[Sequence[int]], "Select[Any]"]
"""From the ids of campaigns to the rows of theirs that are wrong."""


@dataclass(frozen=True)
class Invariant:
    """Something that is always true. ``claim`` says what, ``query`` finds where it is not."""

    name: str
    claim: str
    query: InvariantQuery


@dataclass(frozen=True)
class InvariantResult:
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


def check_invariants(
    connection: Connection, campaigns: Sequence[Campaign], invariants: Sequence[Invariant]
) -> list[InvariantResult]:
    """Look for what contradicts ``invariants``, in one snapshot if ``connection`` sees one."""
    ids = [campaign.id for campaign in campaigns]
    findings = [_check_invariant(connection, invariant, ids) for invariant in invariants]
    unbalanced = tuple(_find_unbalanced_reports(connection, campaigns))
    return [*findings, InvariantResult(REPORT_BALANCES, len(unbalanced), unbalanced[:MAX_EXAMPLES])]


def _find_unbalanced_reports(
    connection: Connection, campaigns: Sequence[Campaign]
) -> Iterator[dict[str, Any]]:
    for campaign in campaigns:
        try:
            [report] = make_reports(connection, [campaign])
        except UnreadableRecord as error:
            yield {"campaign_id": campaign.id, "unreadable": str(error)}
        else:
            if not report.balanced:
                yield {"campaign_id": campaign.id, **report.as_json()}


def _check_invariant(
    connection: Connection, invariant: Invariant, ids: Sequence[int]
) -> InvariantResult:
    query = invariant.query(ids)
    rows = connection.execute(query.limit(MAX_EXAMPLES + 1)).mappings().all()
    wrong = len(rows)
    if wrong > MAX_EXAMPLES:
        wrong = connection.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    return InvariantResult(
        invariant, wrong, tuple(_row_as_json(row) for row in rows[:MAX_EXAMPLES])
    )


def _row_as_json(row: RowMapping) -> dict[str, Any]:
    """A row as JSON can show it: PostgreSQL's sums are decimals, and SQLite holds anything."""
    return {key: _value_as_json(value) for key, value in row.items()}


def _value_as_json(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value)
    return value if value is None or isinstance(value, int | float | str) else str(value)


REPORT_BALANCES = Invariant(
    "report_balances",
    "Audience = Sent + Not Sent + In Progress, and Sent = Delivered + Bounced + X.",
    lambda _: sa.select(sa.null()).where(sa.false()),
)

INVARIANTS = (
    Invariant(
        "batches_follow",
        "The batches of a campaign cover its message numbers from 0, without gap or overlap.",
        messages.find_batch_gaps_and_overlaps,
    ),
    Invariant(
        "audience_covered",
        "A campaign of a finished run has a message for each customer of its audience.",
        messages.find_uncovered_audiences,
    ),
    Invariant(
        "customers",
        "Every message has its customer.",
        messages.find_messages_without_customer,
    ),
    Invariant(
        "one_reason",
        "A message that is Not Sent has one reason, any other has none.",
        messages.find_wrong_reasons,
    ),
    Invariant(
        "tallies",
        "Every batch's tallies are the counts of its messages.",
        messages.find_wrong_tallies,
    ),
    Invariant(
        "last_transition",
        "Every message is in the state, and for the reason, of a transition of its own.",
        messages.find_states_without_transition,
    ),
    Invariant(
        "legal_history",
        "Every transition is legal, and starts where and when an earlier one of the message ended.",
        messages.find_illegal_transitions,
    ),
    Invariant(
        "flow",
        "As many messages are in a state as entered it and did not leave it.",
        messages.find_unbalanced_flows,
    ),
    Invariant(
        "steps",
        "Every step made as many transitions as it says, and none that happened after it.",
        messages.find_miscounted_steps,
    ),
    Invariant(
        "engagement_tallies",
        "Every batch's engagement tallies are the counts of its recipients' first events.",
        engagement.find_wrong_engagement_tallies,
    ),
    Invariant(
        "engagement_days",
        "The days of a campaign count whom its tallies say were rolled up.",
        engagement.find_wrong_engagement_days,
    ),
    Invariant(
        "implied_engagement",
        "Who clicked had opened, and who unsubscribed had clicked.",
        engagement.find_missing_implied_events,
    ),
)
