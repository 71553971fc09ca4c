"""What the record says after a run, counted from the rows and not by the command that ran."""

from dataclasses import dataclass

import sqlalchemy as sa

from tracker.clock import from_seconds, to_seconds
from tracker.status import FINAL_STATUSES, Status
from tracker.store.database import Database

FINAL = ", ".join(str(int(status)) for status in sorted(FINAL_STATUSES))

QUEUED_MESSAGES = "SELECT sum(size) FROM batches"

MISSING_MESSAGES = f"SELECT ({QUEUED_MESSAGES}) - (SELECT count(*) FROM messages)"  # noqa: S608

UNSETTLED_MESSAGES = (
    "SELECT count(*) FROM messages m JOIN campaigns c ON c.id = m.campaign_id"  # noqa: S608
    f" WHERE status NOT IN ({FINAL})"
    f" AND NOT (status = {Status.SOFT_BOUNCED:d} AND attempt >= c.attempts)"
)
"""A soft bounce is final when no attempt is left."""

ACCEPTED_TWICE = (
    "SELECT count(*) FROM gateway_ledger a LEFT JOIN gateway_ledger b"  # noqa: S608
    " ON b.campaign_id = a.campaign_id AND b.number = a.number AND b.attempt = a.attempt - 1"
    " WHERE a.attempt > 1"
    f" AND (b.outcome IS NULL OR b.outcome <> {Status.SOFT_BOUNCED:d})"
)
"""A further attempt is right only after a soft bounce."""

LAST_SETTLED = (
    "SELECT max(e.at) FROM transitions e JOIN transitions q"
    " ON q.campaign_id = e.campaign_id AND q.number = e.number"
    " AND q.status = :queued AND q.attempt = 0"
    " WHERE e.status <> :queued AND q.at <= :over"
)


@dataclass(frozen=True, kw_only=True)
class RecordCounts:
    """Counts over a finished run.

    Attributes:
        lost: messages that are missing or haven't settled.
        repeats: messages that the gateway was offered again for the same attempt.
        accepted_twice: messages that the gateway accepted again without a reason.
        requeued_count: batches that a sweep re-queued.
        poison_messages: messages that ended alone, as they broke their step.
    """

    messages: int = 0
    lost: int = 0
    repeats: int = 0
    accepted_twice: int = 0
    requeued_count: int = 0
    poison_messages: int = 0


def count_record(database: Database) -> RecordCounts:
    """Return the counts of all runs of a database."""
    with database.read() as connection:

        def count(query: str) -> int:
            return int(connection.scalar(sa.text(query)) or 0)

        return RecordCounts(
            messages=count(QUEUED_MESSAGES),
            lost=count(UNSETTLED_MESSAGES) + count(MISSING_MESSAGES),
            repeats=count("SELECT sum(repeats) FROM gateway_ledger"),
            accepted_twice=count(ACCEPTED_TWICE),
            requeued_count=count("SELECT count(*) FROM recoveries WHERE times > 0"),
            poison_messages=count("SELECT count(*) FROM parts WHERE ended_at IS NOT NULL"),
        )


def read_start(database: Database) -> float:
    """Return when the latest run started, in seconds since 1970."""
    with database.read() as connection:
        return to_seconds(connection.scalar(sa.text("SELECT max(started_at) FROM runs")) or 0)


def measure_recovery(database: Database, over_at: float) -> float | None:
    """Return how long after `over_at` all messages had settled that were queued by then.

    Both are in seconds, `over_at` since 1970. None if no message was queued by then.
    """
    with database.read() as connection:
        ahead = connection.scalar(sa.text("SELECT max(ahead) FROM runs")) or 0
        parameters = {"queued": int(Status.QUEUED), "over": from_seconds(over_at)}
        last = connection.scalar(sa.text(LAST_SETTLED), parameters)
    return None if last is None else round(max(0.0, to_seconds(last - ahead) - over_at), 1)
