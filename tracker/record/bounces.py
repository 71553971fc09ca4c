"""Count the bounced messages of each batch by the cause that the gateway gave."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.bounces import BounceCause, classify_bounce
from tracker.record.catalog import Batch
from tracker.record.details import NO_DETAIL, TransitionDetail, clean_text
from tracker.record.predicates import is_of_batch
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.messages import bounce_tallies, transition_details

BounceCounts = Counter[tuple[Status, BounceCause]]
"""Numbers of messages by the status that they are in and the cause of their bounce."""


@dataclass(frozen=True)
class BounceTallies:
    """The tallies of a batch's bounces by cause, updated in the transaction of a move."""

    database: Database
    connection: Connection
    batch: Batch

    def count(
        self, status: Status, numbers: Iterable[int], details: Mapping[int, TransitionDetail]
    ) -> None:
        """Count messages that have just moved to a status of bounced messages.

        `details` has the gateway's explanations by message number, where it gave one.
        """
        causes = Counter(
            classify_bounce(clean_text(details.get(number, NO_DETAIL).text)) for number in numbers
        )
        key = {"campaign_id": self.batch.campaign.id, "batch": self.batch.batch, "status": status}
        rows = [{**key, "cause": cause, "messages": count} for cause, count in causes.items()]
        self.database.add_to_rows(self.connection, bounce_tallies, rows, "messages")

    def uncount_soft_bounces(self, attempt: int, numbers: Sequence[int]) -> None:
        """Count messages no longer as soft-bounced on an attempt, which they have just left."""
        details = transition_details.c
        explanations = self.connection.scalars(
            sa.select(details.detail).where(
                details.campaign_id == self.batch.campaign.id,
                details.attempt == attempt,
                details.status == Status.SOFT_BOUNCED,
                self.database.in_list(details.number, numbers),
            )
        ).all()
        causes = Counter(map(classify_bounce, explanations))
        causes[BounceCause.OTHER] += len(numbers) - len(explanations)
        for cause, count in causes.items():
            if count:
                self.connection.execute(
                    sa.update(bounce_tallies)
                    .where(
                        is_of_batch(bounce_tallies, self.batch),
                        bounce_tallies.c.status == Status.SOFT_BOUNCED,
                        bounce_tallies.c.cause == cause,
                    )
                    .values(messages=bounce_tallies.c.messages - count)
                )


def read_bounce_counts(
    connection: Connection, campaign_ids: Sequence[int]
) -> dict[int, BounceCounts]:
    """Return the bounced messages of each campaign by status and cause.

    Raises:
        ValueError: a tally holds a value that sendtrace doesn't write.
    """
    counts: dict[int, BounceCounts] = {campaign_id: Counter() for campaign_id in campaign_ids}
    tallied = bounce_tallies.c
    query = (
        sa.select(tallied.campaign_id, tallied.status, tallied.cause, sa.func.sum(tallied.messages))
        .where(tallied.campaign_id.in_(campaign_ids))
        .group_by(tallied.campaign_id, tallied.status, tallied.cause)
    )
    for campaign_id, status, cause, count in connection.execute(query):
        counts[campaign_id][Status(status), BounceCause(cause)] = int(count)
    return counts
