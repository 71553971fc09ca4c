"""Read which checks blocked messages, which failed, and what broke steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.record.predicates import is_same_message, is_same_transition
from tracker.status import Reason, Status
from tracker.store.arrays import read_columns
from tracker.store.schema.messages import messages, transition_details

FAILURE_REASONS = (Reason.RULE_FAILED, Reason.STEP_FAILED, Reason.TIMEOUT)
"""Reasons whose messages may have an error on record. A handler that timed out has none."""


@dataclass(frozen=True, kw_only=True)
class RecordedFailure:
    """Messages that a check failed on, or that broke a step.

    Attributes:
        check: the name of the check that failed; None where a step broke.
        error: the error of one of the messages.
    """

    reason: Reason
    check: str | None
    messages: int
    error: str

    def as_json(self) -> dict[str, Any]:
        """Return the failure as other programs read it; the keys are a contract."""
        return {
            "reason": self.reason.slug,
            "check": self.check,
            "messages": self.messages,
            "error": self.error,
        }


def read_failures(connection: Connection, campaign_ids: Sequence[int]) -> list[RecordedFailure]:
    """Return the failures in some campaigns, by reason and check."""
    key = (messages.c.reason, transition_details.c.check_name)
    query = (
        sa.select(*key, sa.func.count(), sa.func.min(transition_details.c.detail))
        .join(transition_details, is_same_transition(transition_details, messages))
        .where(
            messages.c.campaign_id.in_(campaign_ids),
            messages.c.status == Status.NOT_SENT,
            messages.c.reason.in_(FAILURE_REASONS),
        )
        .group_by(*key)
        .order_by(*key)
    )
    return [
        RecordedFailure(reason=Reason(reason), check=check, messages=count, error=error or "")
        for reason, check, count, error in connection.execute(query)
    ]


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
