"""The invariants of the record, as queries that return the rows that violate them.

The queries compare messages, transitions, tallies and steps with each other. An invariant holds
when its query returns no rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Select

from tracker.audit import bounces, engagement, messages
from tracker.audit.credit import find_wrong_credit
from tracker.audit.deferrals import find_wrong_deferral_counts
from tracker.audit.unconfirmed import find_wrong_unconfirmed_counts
from tracker.campaign_states import CampaignState
from tracker.errors import UnreadableRecord
from tracker.queries.campaign_state import read_run_states
from tracker.queries.report import make_reports
from tracker.record.catalog import Campaign

MAX_EXAMPLES = 5
"""Wrong rows that a result contains; all are counted."""

InvariantQuery = Callable[[Sequence[int]], "Select[Any]"]
"""A function that returns a query for the wrong rows of campaigns, given their ids."""


@dataclass(frozen=True)
class Invariant:
    """A statement about the record that is always true."""

    name: str
    claim: str


@dataclass(frozen=True)
class QueryInvariant(Invariant):
    """An invariant that is checked by a query for the rows that violate it.

    Attributes:
        is_of_finished_runs: whether it says something of finished runs only. Of others, it is
            unknown while no row violates it.
    """

    query: InvariantQuery
    is_of_finished_runs: bool = False


@dataclass(frozen=True)
class InvariantResult:
    """The number of rows that violate an invariant, and the first of them.

    Attributes:
        unknown: why it isn't known whether the invariant holds; None if it is known.
    """

    invariant: Invariant
    violation_count: int
    examples: tuple[dict[str, Any], ...]
    unknown: str | None = None

    @property
    def is_satisfied(self) -> bool:
        """True if no row violates the invariant."""
        return self.violation_count == 0

    def as_json(self) -> dict[str, Any]:
        """Return the result as other programs read it; the keys are a contract."""
        return {
            "invariant": self.invariant.name,
            "claim": self.invariant.claim,
            "holds": self.is_satisfied if self.unknown is None else None,
            "unknown": self.unknown,
            "wrong": self.violation_count,
            "examples": list(self.examples),
        }


REPORT_BALANCES = Invariant(
    "report_balances",
    "Audience = Sent + Not Sent + In Progress + Scheduled, and Sent = Delivered + Bounced + X.",
)
"""The invariant that is checked on the reports themselves."""


def check_invariants(
    connection: Connection, campaigns: Sequence[Campaign], invariants: Sequence[QueryInvariant]
) -> list[InvariantResult]:
    """Check invariants and the balance of the reports, in the snapshot of a connection."""
    ids = [campaign.id for campaign in campaigns]
    unfinished = _describe_unfinished_runs(connection, campaigns)
    results = [
        _check_invariant(
            connection, invariant, ids, unfinished if invariant.is_of_finished_runs else None
        )
        for invariant in invariants
    ]
    unbalanced = tuple(_find_unbalanced_reports(connection, campaigns))
    return [*results, InvariantResult(REPORT_BALANCES, len(unbalanced), unbalanced[:MAX_EXAMPLES])]


def _describe_unfinished_runs(connection: Connection, campaigns: Sequence[Campaign]) -> str | None:
    """Return a clause with the runs that aren't finished and their states, None if all are."""
    states = read_run_states(connection, sorted({campaign.run_id for campaign in campaigns}))
    unfinished = [
        f"run {run_id} is {state}"
        for run_id, state in states.items()
        if state is not CampaignState.FINISHED
    ]
    return ", ".join(unfinished) or None


def _find_unbalanced_reports(
    connection: Connection, campaigns: Sequence[Campaign]
) -> Iterator[dict[str, Any]]:
    for campaign in campaigns:
        try:
            [report] = make_reports(connection, [campaign])
        except UnreadableRecord as error:
            yield {"campaign_id": campaign.id, "unreadable": str(error)}
        else:
            if not report.is_balanced:
                yield {"campaign_id": campaign.id, **report.as_json()}


def _check_invariant(
    connection: Connection, invariant: QueryInvariant, ids: Sequence[int], unknown: str | None
) -> InvariantResult:
    query = invariant.query(ids)
    rows = connection.execute(query.limit(MAX_EXAMPLES + 1)).mappings().all()
    count = len(rows)
    if count > MAX_EXAMPLES:
        count = connection.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    return InvariantResult(
        invariant,
        count,
        tuple(
            {key: _value_as_json(value) for key, value in row.items()}
            for row in rows[:MAX_EXAMPLES]
        ),
        unknown=None if count else unknown,
    )


def _value_as_json(value: object) -> object:
    # PostgreSQL returns sums as decimals, and a damaged SQLite row may hold any type.
    if isinstance(value, Decimal):
        return int(value)
    return value if value is None or isinstance(value, int | float | str) else str(value)


INVARIANTS = (
    QueryInvariant(
        "batches_follow",
        "The batches of a campaign cover its message numbers from 0, without gaps or overlaps.",
        messages.find_batch_gaps_and_overlaps,
    ),
    QueryInvariant(
        "audience_covered",
        "Every campaign of a finished run has one message for each customer of its audience.",
        messages.find_uncovered_audiences,
        is_of_finished_runs=True,
    ),
    QueryInvariant(
        "audience_size",
        "The recorded size of every audience is the number of its customers.",
        messages.find_wrong_audience_sizes,
    ),
    QueryInvariant(
        "customers",
        "Every message has a customer.",
        messages.find_messages_without_customer,
    ),
    QueryInvariant(
        "one_reason",
        "Every message that is Not Sent has exactly one reason, and no other message has one.",
        messages.find_wrong_reasons,
    ),
    QueryInvariant(
        "tallies",
        "The tallies of every batch equal the counts of its messages.",
        messages.find_wrong_tallies,
    ),
    QueryInvariant(
        "bounce_tallies",
        "The bounces of every batch, counted by cause, sum to its bounced messages.",
        bounces.find_wrong_bounce_tallies,
    ),
    QueryInvariant(
        "deferrals",
        "Every batch counts its deferred messages and knows the first due time; all are queued.",
        find_wrong_deferral_counts,
    ),
    QueryInvariant(
        "unconfirmed",
        "Every batch counts its messages in the gateway that got no reply, and knows when the first"
        " of them is given up.",
        find_wrong_unconfirmed_counts,
    ),
    QueryInvariant(
        "last_transition",
        "The state and reason of every message are those of one of its transitions.",
        messages.find_states_without_transition,
    ),
    QueryInvariant(
        "legal_history",
        "Every transition is legal, and leaves a status that its message had entered before.",
        messages.find_illegal_transitions,
    ),
    QueryInvariant(
        "flow",
        "As many messages are in each state as have entered it and not left it.",
        messages.find_unbalanced_flows,
    ),
    QueryInvariant(
        "steps",
        "Every step made as many transitions as it recorded, and none after its end.",
        messages.find_miscounted_steps,
    ),
    QueryInvariant(
        "credit",
        "An organization with limited credit was charged for the messages that were sent or wait"
        " for the gateway, and for no others.",
        find_wrong_credit,
    ),
    QueryInvariant(
        "engagement_tallies",
        "The engagement tallies of every batch equal the counts of its recipients' first events.",
        engagement.find_wrong_engagement_tallies,
    ),
    QueryInvariant(
        "engagement_days",
        "The daily counts of a campaign equal the rolled-up part of its engagement tallies.",
        engagement.find_wrong_engagement_days,
    ),
    QueryInvariant(
        "engaged_then_bounced",
        "The counts of engaged then bounced messages equal those of bounced messages with events.",
        engagement.find_wrong_engaged_then_bounced,
    ),
    QueryInvariant(
        "implied_engagement",
        "Every recipient of an email who clicked had opened, and who unsubscribed had clicked.",
        engagement.find_missing_implied_events,
    ),
)
