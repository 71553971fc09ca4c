"""Read which messages the record says were blocked by which check."""

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.record.predicates import is_same_message
from tracker.status import Reason, Status
from tracker.store.arrays import read_columns
from tracker.store.schema.messages import messages, transition_details


def read_messages_by_check(
    connection: Connection, campaign_id: int
) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the messages that each check on record blocked, ascending, by its name.

    The record names a check only if the reason doesn't tell which check it was. A check that failed
    on a message didn't judge it, so it is left out.
    """
    blocked = (
        sa.select(transition_details.c.check_name, transition_details.c.number)
        .join(messages, is_same_message(messages, transition_details))
        .where(
            transition_details.c.campaign_id == campaign_id,
            transition_details.c.status == Status.NOT_SENT,
            transition_details.c.check_name.is_not(None),
            messages.c.status == Status.NOT_SENT,
            messages.c.reason != Reason.RULE_FAILED,
        )
        .subquery()
    )
    names = connection.scalars(sa.select(blocked.c.check_name).distinct()).all()
    numbers = {
        name: read_columns(
            connection, sa.select(blocked.c.number).where(blocked.c.check_name == name)
        )
        for name in sorted(names)
    }
    return {name: np.sort(column) for name, [column] in numbers.items()}
