"""What a customer's record keeps of earlier messages on a channel: how often they bounced."""

from collections.abc import Sequence

import sqlalchemy as sa

from tracker.journal import Entry
from tracker.schema import customers
from tracker.status import Status

MOST_BOUNCES = 1_000
"""More bounces than any organization puts up with."""


def note_outcome(written: Entry, status: Status, attempt: int, numbers: Sequence[int]) -> None:
    """Note in the customers' records that messages to them ended with ``status``.

    Call it with those that an entry has just moved, so that each counts once. A hard bounce counts,
    and a soft one with which the attempts are used up; a delivery takes back earlier soft ones.
    """
    campaign = written.batch.campaign
    hard = customers.c[f"hard_bounces_{campaign.channel}"]
    soft = customers.c[f"soft_bounces_{campaign.channel}"]
    change = sa.update(customers).where(
        customers.c.audience_id == campaign.audience_id,
        written.database.among(customers.c.number, numbers),
    )
    if status is Status.HARD_BOUNCED:
        change = change.values({hard: hard + 1})
    elif status is Status.SOFT_BOUNCED and attempt >= campaign.attempts:
        change = change.values({soft: soft + 1})
    elif status is Status.DELIVERED:
        change = change.where(soft > 0).values({soft: 0})
    else:
        return
    written.connection.execute(change)
