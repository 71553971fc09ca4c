"""Read which messages of cancelled campaigns ended because of that."""

from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.status import Reason, Status
from tracker.store.arrays import read_columns
from tracker.store.schema.catalog import campaigns
from tracker.store.schema.messages import messages


class CancelledMessages(NamedTuple):
    """The numbers of messages that a cancellation ended, ascending; none of another campaign.

    Attributes:
        not_sent: messages that are Not Sent because of it.
        cut_off: soft-bounced messages that had attempts left.
    """

    not_sent: NDArray[np.int64]
    cut_off: NDArray[np.int64]


def read_cancelled_messages(connection: Connection, campaign_id: int) -> CancelledMessages:
    """Return the messages that the cancellation of a campaign ended."""
    query = (
        sa.select(messages.c.number)
        .join(campaigns, campaigns.c.id == messages.c.campaign_id)
        .where(messages.c.campaign_id == campaign_id, campaigns.c.cancelled_at.is_not(None))
    )
    conditions = (
        sa.and_(messages.c.status == Status.NOT_SENT, messages.c.reason == Reason.CANCELLED),
        sa.and_(
            messages.c.status == Status.SOFT_BOUNCED, messages.c.attempt < campaigns.c.attempts
        ),
    )
    not_sent, cut_off = (
        np.sort(read_columns(connection, query.where(condition))[0]) for condition in conditions
    )
    return CancelledMessages(not_sent, cut_off)
